import CRemask

/// A handle of the library. ARC frees it; whatever was made from it keeps what it needs.
///
/// `@unchecked`, since the compiler knows nothing of C: the header lets every handle be used from any thread, and
/// answers with `busy` where two calls collide.
final class Handle: @unchecked Sendable {
    let pointer: OpaquePointer
    private let free: @Sendable (OpaquePointer) -> Void

    init(_ pointer: OpaquePointer, free: @escaping @Sendable (OpaquePointer) -> Void) {
        self.pointer = pointer
        self.free = free
    }

    deinit {
        free(pointer)
    }
}

typealias ErrorOut = UnsafeMutablePointer<OpaquePointer?>

/// Makes a call and throws what it reports.
func check(_ call: (ErrorOut) -> remask_status) throws {
    var error: OpaquePointer?
    let status = call(&error)
    defer { remask_error_free(error) }
    if status != REMASK_STATUS_OK {
        throw RemaskError(status, error)
    }
}

/// Makes a call that gives a handle.
func make(
    _ free: @escaping @Sendable (OpaquePointer) -> Void,
    _ call: (UnsafeMutablePointer<OpaquePointer?>, ErrorOut) -> remask_status
) throws -> Handle {
    var pointer: OpaquePointer?
    try check { call(&pointer, $0) }
    guard let pointer else {
        throw RemaskError(.internalFault, "a call gave nothing")
    }
    return Handle(pointer, free: free)
}

/// Makes a call that fills a buffer, once to learn its length and once to fill it.
func fill<T>(
    _ zero: T, _ call: (UnsafeMutablePointer<T>?, Int, UnsafeMutablePointer<Int>, ErrorOut) -> remask_status
) throws -> [T] {
    var capacity = 0
    while true {
        var len = 0
        var error: OpaquePointer?
        var status = REMASK_STATUS_OK
        let list = [T](unsafeUninitializedCapacity: capacity) { buffer, count in
            buffer.initialize(repeating: zero)
            status = call(capacity > 0 ? buffer.baseAddress : nil, capacity, &len, &error)
            count = status == REMASK_STATUS_OK ? min(len, capacity) : 0
        }
        defer { remask_error_free(error) }
        switch status {
        case REMASK_STATUS_OK: return list
        case REMASK_STATUS_BUFFER_TOO_SMALL where len > capacity: capacity = len
        default: throw RemaskError(status, error)
        }
    }
}

/// As `fill`, for text.
func fillText(
    _ call: (UnsafeMutablePointer<CChar>?, Int, UnsafeMutablePointer<Int>, ErrorOut) -> remask_status
) throws -> String {
    String(decoding: try fill(CChar(0), call).lazy.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// The UTF-8 of a text, borrowed.
func withUTF8<R>(_ text: String, _ body: (UnsafePointer<CChar>?, Int) throws -> R) rethrows -> R {
    var text = text
    return try text.withUTF8 { bytes in
        try bytes.withMemoryRebound(to: CChar.self) { try body($0.baseAddress, $0.count) }
    }
}

/// A text that ends with a NUL, or NULL.
func withCString<R>(_ text: String?, _ body: (UnsafePointer<CChar>?) throws -> R) rethrows -> R {
    guard let text else { return try body(nil) }
    return try text.withCString { try body($0) }
}

/// Texts as the library takes them, borrowed.
func withTexts<R>(_ texts: [String], _ body: ([remask_text]) throws -> R) rethrows -> R {
    let lists = texts.map { Array($0.utf8) }
    let all = lists.flatMap { $0 }
    return try all.withUnsafeBytes { bytes in
        let base = bytes.bindMemory(to: CChar.self).baseAddress
        var begin = 0
        let borrowed = lists.map { list in
            defer { begin += list.count }
            return remask_text(data: list.isEmpty ? nil : base.map { $0 + begin }, len: list.count)
        }
        return try body(borrowed)
    }
}

func withMessages<R>(_ messages: [Message], _ body: ([remask_message]) throws -> R) rethrows -> R {
    try withTexts(messages.flatMap { [$0.role, $0.content] }) { texts in
        try body((0..<messages.count).map { remask_message(role: texts[2 * $0], content: texts[2 * $0 + 1]) })
    }
}

/// A C string that is cut to fit its array, such as a device's name.
func text<Tuple>(ofArray tuple: Tuple) -> String {
    withUnsafeBytes(of: tuple) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}

/// A count as C takes it.
func count(_ name: String, _ value: Int) throws -> UInt32 {
    guard let number = UInt32(exactly: value) else {
        throw RemaskError(.invalidArgument, "\(name) is \(value); it must be 0 or more and fit 32 bits")
    }
    return number
}

/// A place as C takes it; nil is the end.
func slot(_ value: Int?) throws -> Int {
    guard let value else { return -1 } // SIZE_MAX
    guard value >= 0 else {
        throw RemaskError(.invalidArgument, "a place is \(value); it must be 0 or more")
    }
    return value
}
