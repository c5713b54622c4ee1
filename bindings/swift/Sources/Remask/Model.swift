import CRemask
import Dispatch

/// How to load a model.
public struct LoadOptions: Sendable {
    /// When weights are checked to be finite numbers.
    public enum Verify: Int32, Sendable {
        case firstUse, load, never
    }

    /// What several devices divide between them: whole layers, or the tensors of every layer, for two or more GPUs of
    /// one kind.
    public enum SplitMode: Int32, Sendable {
        case layers, tensors
    }

    /// Name of a `Device`, or several with commas between them, "cpu", or nil for the best GPU or else the processor.
    public var device: String?
    /// At most so many layers on the device; 0 for as many as fit.
    public var gpuLayers = 0
    /// Shares of the layers, one for each of several devices; empty divides by free memory.
    public var split: [Double] = []
    /// With `.tensors` the shares are of each tensor.
    public var splitMode = SplitMode.layers
    public var verify = Verify.firstUse
    /// Read the file into memory in place of mapping it.
    public var read = false
    /// A `tokenizer.json` to use in place of what the file says.
    public var tokenizerPath: String?
    /// Hears how far it is, in bytes; returns false to cancel. Called from the loading thread.
    public var onProgress: (@Sendable (_ done: UInt64, _ total: UInt64) -> Bool)?

    public init() {}
}

/// A loaded model: weights, tokenizer, chat template. Immutable; share it freely.
public final class Model: Sendable {
    let handle: Handle

    private init(_ handle: Handle) {
        self.handle = handle
    }

    /// Loads a file; of a split one the first part. Blocks; see `load` for tasks.
    public convenience init(path: String, options: LoadOptions = LoadOptions(), cancel: CancelToken? = nil) throws {
        self.init(
            try options.lend(cancel) { params, out, error in
                withUTF8(path) { remask_model_load($0, $1, params, out, error) }
            })
    }

    /// Loads a file in memory, which is copied.
    public convenience init(
        bytes: UnsafeRawBufferPointer, options: LoadOptions = LoadOptions(), cancel: CancelToken? = nil
    ) throws {
        self.init(
            try options.lend(cancel) { params, out, error in
                remask_model_load_memory(bytes.baseAddress, bytes.count, nil, nil, params, out, error)
            })
    }

    /// Loads through a callback, which fills its buffer with the bytes at an offset. What it throws comes out.
    public convenience init(
        size: UInt64, options: LoadOptions = LoadOptions(), cancel: CancelToken? = nil,
        read: (_ offset: UInt64, _ into: UnsafeMutableRawBufferPointer) throws -> Void
    ) throws {
        self.init(
            try withoutActuallyEscaping(read) { read in
                let box = ReaderBox(read)
                var reader = remask_reader()
                remask_reader_init(&reader, MemoryLayout<remask_reader>.stride)
                reader.n_bytes = size
                reader.user_data = Unmanaged.passUnretained(box).toOpaque()
                reader.read_at = { offset, buffer, n, user in
                    let box = Unmanaged<ReaderBox>.fromOpaque(user!).takeUnretainedValue()
                    return box.readAt(offset, UnsafeMutableRawBufferPointer(start: buffer, count: n))
                }
                do {
                    return try withExtendedLifetime(box) {
                        try options.lend(cancel) { remask_model_load_reader(&reader, $0, $1, $2) }
                    }
                } catch {
                    throw box.thrown ?? error
                }
            })
    }

    /// Loads a file off the caller's thread. Cancelling the task stops it.
    public static func load(path: String, options: LoadOptions = LoadOptions()) async throws -> Model {
        try await Remask.perform(on: DispatchQueue.global(qos: .userInitiated), CancelToken()) { token in
            try Model(path: path, options: options, cancel: token)
        }
    }

    /// Facts about a model. Tokens that there are none of are -1.
    public struct Info: Hashable, Sendable {
        public let arch: String
        public let hasChatTemplate: Bool
        public let nCtx, nVocab, nEmbd, nLayer, nHead, nHeadKV, nFF: Int
        public let maskToken, bosToken, eosToken, eotToken, padToken: Int32
        public let nParams, nBytes: UInt64
    }

    /// Facts about it.
    public var info: Info {
        get throws {
            var i = remask_model_info()
            remask_model_info_init(&i, MemoryLayout<remask_model_info>.stride)
            try check { remask_model_get_info(handle.pointer, &i, $0) }
            return Info(
                arch: i.arch.map { String(cString: $0) } ?? "", hasChatTemplate: i.has_chat_template != 0,
                nCtx: Int(i.n_ctx), nVocab: Int(i.n_vocab), nEmbd: Int(i.n_embd), nLayer: Int(i.n_layer),
                nHead: Int(i.n_head), nHeadKV: Int(i.n_head_kv), nFF: Int(i.n_ff), maskToken: i.mask_token,
                bosToken: i.bos_token, eosToken: i.eos_token, eotToken: i.eot_token, padToken: i.pad_token,
                nParams: i.n_params, nBytes: i.n_bytes)
        }
    }

    /// All metadata of the file: numbers in decimal, arrays as JSON.
    public var metadata: [String: String] {
        get throws {
            var all = [String: String]()
            for index in 0..<remask_model_meta_count(handle.pointer) {
                let key = try fillText { remask_model_meta_key(handle.pointer, index, $0, $1, $2, $3) }
                all[key] = try withUTF8(key) { name, n in
                    try fillText { remask_model_meta_value(handle.pointer, name, n, $0, $1, $2, $3) }
                }
            }
            return all
        }
    }

    /// What running a model takes, in bytes: weights are the page cache's where the file is mapped.
    public struct Estimate: Hashable, Sendable {
        public let nCtx: Int
        public let weights, session: UInt64
    }

    /// What a canvas of `nSlots` slots, `nMasked` of them to be filled, takes.
    public func estimate(nSlots: Int, nMasked: Int) throws -> Estimate {
        let (slots, masked) = (try slot(nSlots), try slot(nMasked))
        return try Self.estimate { remask_estimate_model(handle.pointer, slots, masked, $0, $1) }
    }

    /// The same of a file, from its header alone.
    public static func estimate(path: String, nSlots: Int, nMasked: Int) throws -> Estimate {
        let (slots, masked) = (try slot(nSlots), try slot(nMasked))
        return try estimate { out, error in
            withUTF8(path) { remask_estimate_file($0, $1, slots, masked, out, error) }
        }
    }

    private static func estimate(
        _ call: (UnsafeMutablePointer<remask_estimate>, ErrorOut) -> remask_status
    ) throws -> Estimate {
        var e = remask_estimate()
        remask_estimate_init(&e, MemoryLayout<remask_estimate>.stride)
        try check { call(&e, $0) }
        return Estimate(nCtx: Int(e.n_ctx), weights: e.weights, session: e.session)
    }

    /// Tokens of a text. `special` makes ids of special tokens that the text spells: for trusted texts only.
    public func encode(_ text: String, special: Bool = false, bos: Bool = false) throws -> [Int32] {
        try withUTF8(text) { bytes, n in
            try fill(0) {
                remask_model_encode(handle.pointer, bytes, n, encodeFlags(special, bos), $0, $1, $2, $3)
            }
        }
    }

    /// Text of tokens. `special` writes special tokens out.
    public func decode(_ tokens: [Int32], special: Bool = false) throws -> String {
        try fillText {
            remask_model_decode(handle.pointer, tokens, tokens.count, decodeFlags(special), $0, $1, $2, $3)
        }
    }

    /// Bytes that one token stands for; not always whole UTF-8.
    public func bytes(of token: Int32) throws -> [UInt8] {
        try fill(CChar(0)) { remask_model_token_text(handle.pointer, token, $0, $1, $2, $3) }
            .map { UInt8(bitPattern: $0) }
    }

    /// Id of the token that the vocabulary writes so.
    public func findToken(_ text: String) -> Int32? {
        let token = withUTF8(text) { remask_model_token_find(handle.pointer, $0, $1) }
        return token < 0 ? nil : token
    }

    /// The prompt that the chat template makes. To run it, put the chat on a `Canvas`. `closed` ends after the
    /// last message.
    public func renderChat(_ messages: [Message], closed: Bool = false) throws -> String {
        try withMessages(messages) { list in
            try fillText {
                remask_model_render_chat(handle.pointer, list, list.count, chatFlags(closed), $0, $1, $2, $3)
            }
        }
    }

    /// The tokens of that prompt.
    public func encodeChat(_ messages: [Message], closed: Bool = false) throws -> [Int32] {
        try withMessages(messages) { list in
            try fill(0) {
                remask_model_encode_chat(handle.pointer, list, list.count, chatFlags(closed), $0, $1, $2, $3)
            }
        }
    }
}

func encodeFlags(_ special: Bool, _ bos: Bool) -> UInt32 {
    (special ? UInt32(REMASK_ENCODE_SPECIAL) : 0) | (bos ? UInt32(REMASK_ENCODE_BOS) : 0)
}

func decodeFlags(_ special: Bool) -> UInt32 { special ? UInt32(REMASK_DECODE_SPECIAL) : 0 }

func chatFlags(_ closed: Bool) -> UInt32 { closed ? UInt32(REMASK_CHAT_CLOSED) : 0 }

/// Turns tokens into text as they come; bytes of a character that is not whole yet are held back.
public final class Decoder: Sendable {
    private let handle: Handle

    public init(_ model: Model, special: Bool = false) throws {
        handle = try make({ remask_decoder_free($0) }) {
            remask_decoder_new(model.handle.pointer, decodeFlags(special), $0, $1)
        }
    }

    /// The text that `tokens` add.
    public func push(_ tokens: [Int32]) throws -> String {
        try fillText { remask_decoder_push(handle.pointer, tokens, tokens.count, $0, $1, $2, $3) }
    }

    /// What is still held back. The decoder is then as new.
    public func finish() throws -> String {
        try fillText { remask_decoder_finish(handle.pointer, $0, $1, $2, $3) }
    }
}

private final class ReaderBox {
    private let read: (UInt64, UnsafeMutableRawBufferPointer) throws -> Void
    private(set) var thrown: (any Error)?

    init(_ read: @escaping (UInt64, UnsafeMutableRawBufferPointer) throws -> Void) {
        self.read = read
    }

    func readAt(_ offset: UInt64, _ into: UnsafeMutableRawBufferPointer) -> Int32 {
        do {
            try read(offset, into)
            return 0
        } catch {
            thrown = error
            return 1
        }
    }
}

private final class ProgressBox {
    let hear: @Sendable (UInt64, UInt64) -> Bool

    init(_ hear: @escaping @Sendable (UInt64, UInt64) -> Bool) {
        self.hear = hear
    }
}

extension LoadOptions {
    fileprivate func lend(
        _ cancel: CancelToken?,
        _ load: (UnsafePointer<remask_load_params>, UnsafeMutablePointer<OpaquePointer?>, ErrorOut) -> remask_status
    ) throws -> Handle {
        let box = onProgress.map(ProgressBox.init)
        var params = remask_load_params()
        remask_load_params_init(&params, MemoryLayout<remask_load_params>.stride)
        params.flags = read ? UInt32(REMASK_LOAD_READ) : 0
        params.verify = verify.rawValue
        params.split_mode = splitMode.rawValue
        params.n_gpu_layers = try count("gpuLayers", gpuLayers)
        params.cancel = cancel?.handle.pointer
        if let box {
            params.user_data = Unmanaged.passUnretained(box).toOpaque()
            params.on_progress = { done, total, user in
                let box = Unmanaged<ProgressBox>.fromOpaque(user!).takeUnretainedValue()
                return box.hear(done, total) ? REMASK_CONTINUE : REMASK_STOP
            }
        }
        return try withExtendedLifetime((box, cancel)) {
            try withCString(device) { device in
                try withCString(tokenizerPath) { path in
                    params.device = device
                    params.tokenizer_path = path
                    return try split.withUnsafeBufferPointer { split in
                        params.split = split.baseAddress
                        params.n_split = split.count
                        return try make({ remask_model_free($0) }) { load(&params, $0, $1) }
                    }
                }
            }
        }
    }
}
