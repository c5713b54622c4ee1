import CRemask

/// State of a slot.
public enum Slot: UInt8, Sendable {
    /// Given by the caller; never changed by a run.
    case fixed
    /// To be filled.
    case masked
    /// Filled by a run.
    case filled
}

/// A row of tokens, some given and some masked. While a run is at work on it, it can be read between steps, and
/// changing it throws `busy`. A range of slots without an end goes to the canvas' end.
public final class Canvas: Sendable {
    let handle: Handle

    /// An empty canvas.
    public init(_ model: Model) throws {
        handle = try make({ remask_canvas_free($0) }) { remask_canvas_new(model.handle.pointer, $0, $1) }
    }

    private init(_ handle: Handle) {
        self.handle = handle
    }

    /// A copy as it is now, in no run.
    public func copy() throws -> Canvas {
        Canvas(try make({ remask_canvas_free($0) }) { remask_canvas_copy(handle.pointer, $0, $1) })
    }

    /// Appends fixed text. `special` makes ids of special tokens that it spells: for trusted texts only.
    public func append(text: String, special: Bool = false, bos: Bool = false) throws {
        try withUTF8(text) { bytes, n in
            try check { remask_canvas_append_text(handle.pointer, bytes, n, encodeFlags(special, bos), $0) }
        }
    }

    /// Appends text with holes: `The [[4]] sat on the [[3]].` has 4 and 3 slots to fill.
    public func append(holes: String, special: Bool = false, bos: Bool = false) throws {
        try withUTF8(holes) { bytes, n in
            try check { remask_canvas_append_holes(handle.pointer, bytes, n, encodeFlags(special, bos), $0) }
        }
    }

    /// Appends fixed tokens.
    public func append(tokens: [Int32]) throws {
        try check { remask_canvas_append_tokens(handle.pointer, tokens, tokens.count, $0) }
    }

    /// Appends slots for a run to fill.
    public func append(masks n: Int) throws {
        let n = try slot(n)
        try check { remask_canvas_append_masks(handle.pointer, n, $0) }
    }

    /// Appends a conversation through the model's chat template.
    public func append(chat messages: [Message], closed: Bool = false) throws {
        try withMessages(messages) { list in
            try check { remask_canvas_append_chat(handle.pointer, list, list.count, chatFlags(closed), $0) }
        }
    }

    /// Masks slots again, fixed ones too.
    public func mask(from begin: Int = 0, to end: Int? = nil) throws {
        let (begin, end) = (try slot(begin), try slot(end))
        try check { remask_canvas_mask(handle.pointer, begin, end, $0) }
    }

    /// Fixes what a run filled.
    public func fix(from begin: Int = 0, to end: Int? = nil) throws {
        let (begin, end) = (try slot(begin), try slot(end))
        try check { remask_canvas_fix(handle.pointer, begin, end, $0) }
    }

    /// Puts fixed tokens into the slots from `begin` on.
    public func set(_ tokens: [Int32], at begin: Int) throws {
        let begin = try slot(begin)
        try check { remask_canvas_set(handle.pointer, begin, tokens, tokens.count, $0) }
    }

    /// Tokens that runs never put there, besides those forbidden before; none allows all again.
    public func forbid(_ tokens: [Int32], from begin: Int = 0, to end: Int? = nil) throws {
        let (begin, end) = (try slot(begin), try slot(end))
        try check { remask_canvas_forbid(handle.pointer, begin, end, tokens, tokens.count, $0) }
    }

    /// Removes everything from slot `nSlots` on.
    public func truncate(to nSlots: Int) throws {
        let n = try slot(nSlots)
        try check { remask_canvas_truncate(handle.pointer, n, $0) }
    }

    /// Number of slots, and of those still masked.
    public var counts: (slots: Int, masked: Int) {
        get throws {
            var (slots, masked) = (0, 0)
            try check { remask_canvas_count(handle.pointer, &slots, &masked, $0) }
            return (slots, masked)
        }
    }

    /// Token of every slot.
    public var tokens: [Int32] {
        get throws { try fill(0) { remask_canvas_tokens(handle.pointer, $0, $1, $2, $3) } }
    }

    /// State of every slot.
    public var slots: [Slot] {
        get throws {
            try fill(UInt8(0)) { remask_canvas_slots(handle.pointer, $0, $1, $2, $3) }
                .map { Slot(rawValue: $0) ?? .fixed }
        }
    }

    /// Text of slots; those still masked give nothing. `special` writes special tokens out.
    public func text(from begin: Int = 0, to end: Int? = nil, special: Bool = false) throws -> String {
        let (begin, end) = (try slot(begin), try slot(end))
        return try fillText { remask_canvas_text(handle.pointer, begin, end, decodeFlags(special), $0, $1, $2, $3) }
    }

    /// Text of everything after the last fixed slot.
    public var response: String {
        get throws { try fillText { remask_canvas_response(handle.pointer, 0, $0, $1, $2, $3) } }
    }
}
