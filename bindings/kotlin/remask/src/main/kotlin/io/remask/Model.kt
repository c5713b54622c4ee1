package io.remask

import java.nio.ByteBuffer

/** When weights are checked to be finite numbers. */
public enum class Verify { FIRST_USE, LOAD, NEVER }

/** What several devices divide between them: whole layers, or the tensors of every layer, for two or more GPUs of one kind. */
public enum class SplitMode { LAYERS, TENSORS }

/**
 * How to load a model.
 *
 * @property device name of a [Device], or several with commas between them, "cpu", or null for the best GPU or else the processor.
 * @property gpuLayers at most so many layers on the device; 0 for as many as fit.
 * @property split shares of the layers, one for each of several devices; empty divides by free memory.
 * @property splitMode with [SplitMode.TENSORS] the shares are of each tensor.
 * @property read read the file into memory in place of mapping it.
 * @property tokenizerPath a `tokenizer.json` to use in place of what the file says.
 */
public class LoadOptions(
    public val device: String? = null,
    public val gpuLayers: Int = 0,
    public val verify: Verify = Verify.FIRST_USE,
    public val read: Boolean = false,
    public val tokenizerPath: String? = null,
    public val cancel: CancelToken? = null,
    public val progress: Progress? = null,
    public val split: List<Double> = emptyList(),
    public val splitMode: SplitMode = SplitMode.LAYERS,
)

/** Facts about a model. Tokens that there are none of are -1. */
public data class ModelInfo(
    val arch: String,
    val hasChatTemplate: Boolean,
    val nCtx: Int,
    val nVocab: Int,
    val nEmbd: Int,
    val nLayer: Int,
    val nHead: Int,
    val nHeadKv: Int,
    val nFf: Int,
    val maskToken: Int,
    val bosToken: Int,
    val eosToken: Int,
    val eotToken: Int,
    val padToken: Int,
    val nParams: Long,
    val nBytes: Long,
)

/** What running a model takes, in bytes: [weightBytes] are the page cache's where the file is mapped. */
public data class Estimate(val nCtx: Int, val weightBytes: Long, val sessionBytes: Long)

/**
 * A loaded model: weights, tokenizer, chat template. Immutable; share it between threads. Sessions and canvases
 * made from it keep what they need, so it may be closed before them.
 */
public class Model private constructor(address: Long) : AutoCloseable {
    internal val handle = Handle("model", address, Native::modelFree)

    /** Facts about it. */
    public val info: ModelInfo = handle.lend { model ->
        val n = LongArray(15)
        val arch = Native.text(Native.modelInfo(model, n))
        fun int(i: Int) = n[i].toInt()
        ModelInfo(
            arch, n[0] != 0L, int(1), int(2), int(3), int(4), int(5), int(6), int(7),
            int(8), int(9), int(10), int(11), int(12), n[13], n[14],
        )
    }

    /** All metadata of the file: numbers in decimal, arrays as JSON. */
    public val metadata: Map<String, String>
        get() = handle.lend { model ->
            (0 until Native.metaCount(model)).associate {
                val key = Native.metaKey(model, it)
                Native.text(key) to Native.text(Native.metaValue(model, key))
            }
        }

    /** What a canvas of [nSlots] slots, [nMasked] of them to be filled, takes. */
    public fun estimate(nSlots: Int, nMasked: Int): Estimate = handle.lend { estimateOf(it, null, nSlots, nMasked) }

    /** Tokens of a text. [special] makes ids of special tokens that the text spells: for trusted texts only. */
    public fun encode(text: String, special: Boolean = false, bos: Boolean = false): IntArray =
        handle.lend { Native.encode(it, Native.utf8(text), flags(special to 1, bos to 2)) }

    /** Text of tokens. [special] writes special tokens out. */
    public fun decode(tokens: IntArray, special: Boolean = false): String =
        handle.lend { Native.text(Native.decode(it, tokens, flags(special to 1))) }

    /** Bytes that one token stands for; not always whole UTF-8. */
    public fun tokenBytes(token: Int): ByteArray = handle.lend { Native.tokenText(it, token) }

    /** Bits of what a token is for: 1 text, 2 unknown, 4 control, 8 user-defined, 16 unused, 32 byte. */
    public fun tokenAttributes(token: Int): Int = handle.lend { Native.tokenAttr(it, token) }

    /** Id of the token that the vocabulary writes so, or null. */
    public fun findToken(text: String): Int? =
        handle.lend { Native.tokenFind(it, Native.utf8(text)) }.takeIf { it >= 0 }

    /** The prompt that the chat template makes. To run it, put the chat on a [Canvas]. [closed] ends after the last message. */
    public fun renderChat(messages: List<Message>, closed: Boolean = false): String {
        val t = texts(messages)
        return handle.lend { Native.text(Native.renderChat(it, t.all, t.lengths, flags(closed to 1))) }
    }

    /** The tokens of that prompt. */
    public fun encodeChat(messages: List<Message>, closed: Boolean = false): IntArray {
        val t = texts(messages)
        return handle.lend { Native.encodeChat(it, t.all, t.lengths, flags(closed to 1)) }
    }

    /** A decoder for tokens that come one after the other. */
    public fun decoder(special: Boolean = false): Decoder =
        handle.lend { Decoder(Native.decoderNew(it, flags(special to 1))) }

    override fun close(): Unit = handle.close()

    public companion object {
        /** Loads a file; of a split one the first part. */
        @JvmStatic
        @JvmOverloads
        public fun load(path: String, options: LoadOptions = LoadOptions()): Model = options.call { n, device, tok ->
            Native.modelLoad(Native.utf8(path), n, device, tok, options.progress)
        }

        /**
         * Loads a file that lies in a direct buffer, from its position to its limit, without a copy where it
         * begins at a multiple of 32 bytes. The bytes must not change while the model lives.
         */
        @JvmStatic
        @JvmOverloads
        public fun load(buffer: ByteBuffer, options: LoadOptions = LoadOptions()): Model {
            val begin = buffer.position().toLong()
            val nBytes = buffer.remaining().toLong()
            return options.call { n, device, tok ->
                Native.modelLoadBuffer(buffer, begin, nBytes, n, device, tok, options.progress)
            }
        }

        /** Loads through a callback, into memory. Exceptions of the reader come out as they are. */
        @JvmStatic
        @JvmOverloads
        public fun load(reader: Reader, options: LoadOptions = LoadOptions()): Model {
            val nBytes = reader.size()
            return options.call { n, device, tok ->
                Native.modelLoadReader(reader, nBytes, n, device, tok, options.progress)
            }
        }

        /** What the model in a file would take, from its header alone. */
        @JvmStatic
        public fun estimate(path: String, nSlots: Int, nMasked: Int): Estimate =
            estimateOf(0, Native.utf8(path), nSlots, nMasked)

        private fun estimateOf(model: Long, path: ByteArray?, nSlots: Int, nMasked: Int): Estimate {
            val n = LongArray(3)
            Native.estimate(model, path, nSlots.toLong(), nMasked.toLong(), n)
            return Estimate(n[0].toInt(), n[1], n[2])
        }

        private inline fun LoadOptions.call(crossinline load: (LongArray, ByteArray?, ByteArray?) -> Long): Model =
            cancel.orNone { token ->
                val shares = LongArray(split.size) { split[it].toRawBits() }
                val options = longArrayOf(
                    flags(read to 1).toLong(), verify.ordinal.toLong(), gpuLayers.toLong(), token,
                    splitMode.ordinal.toLong(),
                )
                val numbers = options + shares
                Model(load(numbers, Native.terminated(device), Native.terminated(tokenizerPath)))
            }
    }
}

/** Turns tokens into text as they come; bytes of a character that is not whole yet are held back. */
public class Decoder internal constructor(address: Long) : AutoCloseable {
    private val handle = Handle("decoder", address, Native::decoderFree)

    /** The text that [tokens] add. */
    public fun push(vararg tokens: Int): String = handle.lend { Native.text(Native.decoderPush(it, tokens)) }

    /** What is still held back. The decoder is then as new. */
    public fun finish(): String = handle.lend { Native.text(Native.decoderPush(it, null)) }

    override fun close(): Unit = handle.close()
}
