package io.remask

/** The library itself. */
public object Remask {
    /** Its version, such as "1.4.2". */
    public val version: String get() = Native.text(Native.version())

    /** Devices of this machine, the processor among them. */
    public fun devices(): List<Device> = List(Native.deviceCount()) { index ->
        val facts = LongArray(3)
        val (name, description) = Native.text(Native.device(index, facts)).split('\n', limit = 2)
        Device(name, description, facts[0].toInt(), facts[1], facts[2])
    }

    /**
     * Loads backends from the files `libggml-*.so` in [folder], of each kind the best for this machine, and says how
     * many. A library that has its backends inside throws.
     */
    public fun loadBackends(folder: String): Long = Native.backendsLoad(Native.utf8(folder))
}

/** A device: [name] chooses it, [kind] is 0 for the processor, 1 for a GPU, 2 for one that shares memory, 3 for another. */
public data class Device(
    val name: String,
    val description: String,
    val kind: Int,
    val freeBytes: Long,
    val totalBytes: Long,
)

/** Stops the calls that it was given to, from any thread. Close it when it is not needed any more. */
public class CancelToken : AutoCloseable {
    private val handle = Handle("cancel token", Native.cancelNew(), Native::cancelFree)

    /** Whether it is set. */
    public val isSet: Boolean get() = handle.lend { Native.cancelIsSet(it) }

    /** Stops every call that was given this token. */
    public fun cancel(): Unit = handle.lend { Native.cancelSet(it) }

    /** Makes the token usable again. */
    public fun reset(): Unit = handle.lend { Native.cancelReset(it) }

    override fun close(): Unit = handle.close()

    internal fun <T> lend(body: (Long) -> T): T = handle.lend(body)
}

/** Gives the address to [body] and keeps it valid for so long. */
internal fun <T> Handle.lend(body: (Long) -> T): T {
    val address = take()
    try {
        return body(address)
    } finally {
        give()
    }
}

/** As [lend], with 0 for no token. */
internal fun <T> CancelToken?.orNone(body: (Long) -> T): T = if (this == null) body(0) else lend(body)

/** One turn of a conversation: [role] is "system", "user" or "assistant". */
public data class Message(val role: String, val content: String)

internal fun texts(messages: List<Message>) = Native.Texts(messages.flatMap { listOf(it.role, it.content) })

internal fun flags(vararg set: Pair<Boolean, Int>): Int = set.fold(0) { all, (on, bit) -> if (on) all or bit else all }
