import CRemask

/// A failed call.
public struct RemaskError: Error, Hashable, CustomStringConvertible {
    /// Why a call failed. A newer library may have others.
    public struct Status: RawRepresentable, Hashable, Sendable {
        public let rawValue: Int32

        public init(rawValue: Int32) {
            self.rawValue = rawValue
        }

        public static let invalidArgument = Status(rawValue: REMASK_STATUS_INVALID_ARGUMENT)
        public static let io = Status(rawValue: REMASK_STATUS_IO)
        public static let format = Status(rawValue: REMASK_STATUS_FORMAT)
        public static let limit = Status(rawValue: REMASK_STATUS_LIMIT)
        public static let unsupported = Status(rawValue: REMASK_STATUS_UNSUPPORTED)
        public static let model = Status(rawValue: REMASK_STATUS_MODEL)
        public static let tokenizer = Status(rawValue: REMASK_STATUS_TOKENIZER)
        public static let template = Status(rawValue: REMASK_STATUS_TEMPLATE)
        public static let numeric = Status(rawValue: REMASK_STATUS_NUMERIC)
        public static let resource = Status(rawValue: REMASK_STATUS_RESOURCE)
        public static let device = Status(rawValue: REMASK_STATUS_DEVICE)
        public static let cancelled = Status(rawValue: REMASK_STATUS_CANCELLED)
        public static let busy = Status(rawValue: REMASK_STATUS_BUSY)
        public static let data = Status(rawValue: REMASK_STATUS_DATA)
        public static let internalFault = Status(rawValue: REMASK_STATUS_INTERNAL)
        public static let notFound = Status(rawValue: REMASK_STATUS_NOT_FOUND)
    }

    public let status: Status
    /// In English, one line.
    public let message: String

    init(_ status: Status, _ message: String) {
        self.status = status
        self.message = message
    }

    init(_ status: remask_status, _ error: OpaquePointer?) {
        self.status = Status(rawValue: status)
        message = String(cString: error != nil ? remask_error_message(error) : remask_status_name(status))
    }

    public var description: String {
        "\(String(cString: remask_status_name(status.rawValue))): \(message)"
    }
}

/// The library itself.
public enum Remask {
    /// Its version, such as "1.4.2".
    public static var version: String { String(cString: remask_version()) }

    /// Devices of this machine, the processor among them.
    public static func devices() throws -> [Device] {
        try (0..<remask_device_count()).map { index in
            var device = remask_device()
            remask_device_init(&device, MemoryLayout<remask_device>.stride)
            try check { remask_device_get(index, &device, $0) }
            return Device(
                name: text(ofArray: device.name), description: text(ofArray: device.description),
                kind: Device.Kind(rawValue: device.kind) ?? .accelerator, freeBytes: device.memory_free,
                totalBytes: device.memory_total)
        }
    }

    /// Loads backends from the files `libggml-*.so` in a folder, of each kind the best for this machine, and says how
    /// many. A library that has its backends inside throws `unsupported`.
    @discardableResult
    public static func loadBackends(folder: String) throws -> Int {
        var loaded = 0
        try withUTF8(folder) { bytes, n in
            try check { remask_backends_load(bytes, n, &loaded, $0) }
        }
        return loaded
    }

    /// Severity of a log line.
    public enum LogLevel: Int32, Sendable {
        case debug = 1, info, warn, error
    }

    /// Sends log lines of the whole process to `log`, from any thread; nil turns logging off, as it is at the
    /// start. `log` must not call the library.
    public static func setLog(_ minLevel: LogLevel = .warn, _ log: (@Sendable (LogLevel, String) -> Void)?) {
        guard let log else {
            remask_log_set(nil, 0, nil, nil)
            return
        }
        let box = Unmanaged.passRetained(LogBox(log))
        remask_log_set(
            { level, message, user in
                guard let user, let message else { return }
                let box = Unmanaged<LogBox>.fromOpaque(user).takeUnretainedValue()
                box.log(LogLevel(rawValue: level) ?? .error, String(cString: message))
            },
            minLevel.rawValue, box.toOpaque(),
            { user in user.map { Unmanaged<LogBox>.fromOpaque($0).release() } })
    }

    private final class LogBox: Sendable {
        let log: @Sendable (LogLevel, String) -> Void

        init(_ log: @escaping @Sendable (LogLevel, String) -> Void) {
            self.log = log
        }
    }
}

/// Where layers are computed. `name` chooses it.
public struct Device: Hashable, Sendable {
    public enum Kind: Int32, Sendable {
        case cpu, gpu, integratedGPU, accelerator
    }

    public let name: String
    public let description: String
    public let kind: Kind
    /// 0 if unknown, as is the total.
    public let freeBytes: UInt64
    public let totalBytes: UInt64
}

/// Stops the calls that it was given to, from any thread. Async calls need none: they end with their task.
public final class CancelToken: Sendable {
    let handle: Handle

    public init() {
        // The header: never NULL.
        handle = Handle(remask_cancel_new(), free: { remask_cancel_free($0) })
    }

    public func cancel() { remask_cancel_set(handle.pointer) }

    public func reset() { remask_cancel_reset(handle.pointer) }

    public var isCancelled: Bool { remask_cancel_is_set(handle.pointer) != 0 }
}

/// One turn of a conversation.
public struct Message: Hashable, Sendable {
    /// "system", "user" or "assistant".
    public var role: String
    public var content: String

    public init(role: String, content: String) {
        self.role = role
        self.content = content
    }

    public static func user(_ content: String) -> Message { Message(role: "user", content: content) }
    public static func assistant(_ content: String) -> Message { Message(role: "assistant", content: content) }
    public static func system(_ content: String) -> Message { Message(role: "system", content: content) }
}
