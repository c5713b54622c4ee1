package io.remask

/** State of a slot. */
public enum class Slot {
    /** Given by the caller; never changed by a run. */
    FIXED,

    /** To be filled. */
    MASKED,

    /** Filled by a run. */
    FILLED,
    ;

    internal companion object {
        fun of(number: Int): Slot = entries.getOrElse(number) { FIXED }
    }
}

/**
 * A row of tokens, some given and some masked. While a run is at work on it, it can be read between steps, and
 * changing it throws [RemaskException.Busy]. An `end` of null is the canvas' end.
 */
public class Canvas private constructor(address: Long) : AutoCloseable {
    internal val handle = Handle("canvas", address, Native::canvasFree)

    /** An empty canvas. */
    public constructor(model: Model) : this(model.handle.lend { Native.canvasNew(it) })

    /** A copy as it is now, in no run. */
    public fun copy(): Canvas = Canvas(handle.lend { Native.canvasCopy(it) })

    /** Appends fixed text. [special] makes ids of special tokens that it spells: for trusted texts only. */
    public fun text(text: String, special: Boolean = false, bos: Boolean = false): Canvas = also {
        handle.lend { Native.canvasAppendText(it, Native.utf8(text), flags(special to 1, bos to 2), false) }
    }

    /** Appends text with holes: `The [[4]] sat on the [[3]].` has 4 and 3 slots to fill. */
    public fun holes(text: String, special: Boolean = false, bos: Boolean = false): Canvas = also {
        handle.lend { Native.canvasAppendText(it, Native.utf8(text), flags(special to 1, bos to 2), true) }
    }

    /** Appends fixed tokens. */
    public fun tokens(tokens: IntArray): Canvas = also { handle.lend { Native.canvasAppendTokens(it, tokens) } }

    /** Appends [n] slots for a run to fill. */
    public fun masks(n: Int): Canvas = also {
        require(n >= 0) { "$n masks" }
        handle.lend { Native.canvasAppendMasks(it, n.toLong()) }
    }

    /** Appends a conversation through the model's chat template. */
    public fun chat(messages: List<Message>, closed: Boolean = false): Canvas = also {
        val t = texts(messages)
        handle.lend { Native.canvasAppendChat(it, t.all, t.lengths, flags(closed to 1)) }
    }

    /** As [chat], for one message of a user. */
    public fun chat(question: String): Canvas = chat(listOf(Message("user", question)))

    /** Masks slots again, fixed ones too. */
    public fun mask(begin: Int = 0, end: Int? = null): Unit =
        handle.lend { Native.canvasMask(it, slot(begin), slot(end)) }

    /** Fixes what a run filled. */
    public fun fix(begin: Int = 0, end: Int? = null): Unit = handle.lend { Native.canvasFix(it, slot(begin), slot(end)) }

    /** Puts fixed tokens into the slots from [begin] on. */
    public fun set(begin: Int, tokens: IntArray): Unit = handle.lend { Native.canvasSet(it, slot(begin), tokens) }

    /** Tokens that runs never put there, besides those forbidden before; none allows all again. */
    public fun forbid(tokens: IntArray, begin: Int = 0, end: Int? = null): Unit =
        handle.lend { Native.canvasForbid(it, slot(begin), slot(end), tokens) }

    /** Removes everything from slot [nSlots] on. */
    public fun truncate(nSlots: Int): Unit = handle.lend { Native.canvasTruncate(it, slot(nSlots)) }

    /** Number of slots. */
    public val size: Int get() = count(0)

    /** Number of slots still masked. */
    public val nMasked: Int get() = count(1)

    /** Token of every slot. */
    public val tokens: IntArray get() = handle.lend { Native.canvasTokens(it) }

    /** State of every slot. */
    public val slots: List<Slot> get() = handle.lend { Native.canvasSlots(it) }.map { Slot.of(it.toInt()) }

    /** Text of slots; those still masked give nothing. [special] writes special tokens out. */
    public fun text(begin: Int = 0, end: Int? = null, special: Boolean = false): String =
        handle.lend { Native.text(Native.canvasText(it, slot(begin), slot(end), flags(special to 1))) }

    /** Text of everything after the last fixed slot. */
    public val response: String get() = handle.lend { Native.text(Native.canvasResponse(it, 0)) }

    override fun close(): Unit = handle.close()

    private fun count(which: Int): Int {
        val n = LongArray(2)
        handle.lend { Native.canvasCount(it, n) }
        return n[which].toInt()
    }

    private fun slot(begin: Int): Long {
        require(begin >= 0) { "slot $begin" }
        return begin.toLong()
    }

    private fun slot(end: Int?): Long = if (end == null) -1 else slot(begin = end)
}
