package io.remask

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer

/** Which attention is used: AUTO for flash attention on long canvases. */
public enum class Flash { AUTO, ON, OFF }

/** What a session has done since it was made. */
public data class SessionStats(
    val threads: Int,
    val nBytes: Long,
    val runs: Long,
    val steps: Long,
    /** Function evaluations: forward passes of one canvas. */
    val nfe: Long,
    val elapsedUs: Long,
)

/** A log-likelihood in nats. [standardError] is 0 for an exact method. */
public data class Score(val logLikelihood: Double, val standardError: Double, val nTokens: Int, val nfe: Long)

/** Which of several continuations is the likeliest. */
public class Choice(public val best: Int, public val logLikelihoods: List<Double>, public val probabilities: List<Double>)

/**
 * One stream of work on one model. Does one thing at a time: a colliding call throws [RemaskException.Busy] at
 * once. Calls take long; make them off the main thread.
 *
 * @param threads 0 for one per physical core.
 * @param maxCanvas longest canvas in slots; 0 for the length that the model was trained for.
 */
public class Session @JvmOverloads constructor(
    model: Model,
    threads: Int = 0,
    flash: Flash = Flash.AUTO,
    maxCanvas: Int = 0,
) : AutoCloseable {
    private val handle: Handle

    init {
        require(threads >= 0 && maxCanvas >= 0) { "threads and maxCanvas are 0 or more" }
        val address = model.handle.lend { Native.sessionNew(it, threads, flash.ordinal, maxCanvas) }
        handle = Handle("session", address, Native::sessionFree)
    }

    /** What it has done. */
    public val stats: SessionStats
        get() {
            val n = LongArray(6)
            handle.lend { Native.sessionStats(it, n) }
            return SessionStats(n[0].toInt(), n[1], n[2], n[3], n[4], n[5])
        }

    /** Starts a run that fills the masked slots of [canvas]. The session is busy until the run is closed. */
    @JvmOverloads
    public fun run(canvas: Canvas, params: GenerateParams = GenerateParams()): Run = run(listOf(canvas), params)

    /** As above for several canvases; on the CPU each comes out as it would alone. */
    @JvmOverloads
    public fun run(canvases: List<Canvas>, params: GenerateParams = GenerateParams()): Run {
        val numbers = { token: Long -> params.numbers(token) }
        val stops = Native.Texts(params.stop)
        val taken = ArrayList<Handle>(canvases.size)
        try {
            val addresses = LongArray(canvases.size) {
                val handle = canvases[it].handle
                val address = handle.take()
                taken += handle
                address
            }
            val run = params.cancel.orNone { token ->
                handle.lend {
                    Native.runNew(
                        it, addresses, numbers(token), params.reals(), params.suppress.toIntArray(),
                        stops.all, stops.lengths, params.seeds.toLongArray(),
                    )
                }
            }
            return Run(run)
        } finally {
            taken.forEach(Handle::give)
        }
    }

    /** Fills every masked slot of [canvas]; [onStep] returns false to stop early. */
    @JvmOverloads
    public fun generate(
        canvas: Canvas,
        params: GenerateParams = GenerateParams(),
        onStep: (Step) -> Boolean = { true },
    ): Unit = run(canvas, params).use { run ->
        var goesOn = true
        while (goesOn && run.hasNext()) {
            val step = run.next()
            run.beginStep()
            goesOn = onStep(step)
        }
    }

    /** Estimates the log-likelihood of tokens from [begin] to [end] (null: to the last), given all others. */
    @JvmOverloads
    public fun score(tokens: IntArray, begin: Int = 0, end: Int? = null, params: ScoreParams = ScoreParams()): Score {
        require(begin >= 0 && (end == null || end >= begin)) { "tokens $begin to $end" }
        val x = DoubleArray(4)
        params.cancel.orNone { token ->
            handle.lend {
                val last = end?.toLong() ?: -1
                Native.score(it, tokens, begin.toLong(), last, params.numbers(token), params.guidance, x)
            }
        }
        return Score(x[0], x[1], x[2].toInt(), x[3].toLong())
    }

    /** Scores each of several continuations of one prompt, with the same masks. */
    @JvmOverloads
    public fun choose(prompt: IntArray, choices: List<IntArray>, params: ScoreParams = ScoreParams()): Choice {
        val all = choices.fold(IntArray(0)) { list, choice -> list + choice }
        val lengths = choices.map { it.size }.toIntArray()
        val out = DoubleArray(2 * choices.size)
        val best = params.cancel.orNone { token ->
            handle.lend { Native.choose(it, prompt, all, lengths, params.numbers(token), params.guidance, out) }
        }
        return Choice(best, out.take(choices.size), out.drop(choices.size))
    }

    /**
     * Runs the network once and returns the raw logits of [rows] (null: all slots), row-major
     * `[nRows, nVocab]`, in native memory.
     */
    @JvmOverloads
    public fun logits(tokens: IntArray, rows: IntArray? = null): FloatBuffer =
        handle.lend { session -> floats { Native.logits(session, tokens, rows, it) } }

    /** As [logits], into a direct buffer of native byte order from 0 on; returns the number of floats. */
    public fun logits(tokens: IntArray, rows: IntArray?, into: FloatBuffer): Int {
        require(into.isDirect && into.order() == ByteOrder.nativeOrder() && !into.isReadOnly) {
            "logits go into a direct buffer of native byte order"
        }
        return handle.lend { Native.logits(it, tokens, rows, into).toInt() }
    }

    /** The hidden states after the final norm: row-major `[nTokens, nEmbd]`, or `[nEmbd]` where pooled. */
    @JvmOverloads
    public fun embeddings(tokens: IntArray, pooling: Pooling = Pooling.MEAN): FloatBuffer =
        handle.lend { session -> floats { Native.embeddings(session, tokens, pooling.ordinal, it) } }

    override fun close(): Unit = handle.close()

    private inline fun floats(fill: (FloatBuffer?) -> Long): FloatBuffer {
        val n = fill(null)
        val bytes = ByteBuffer.allocateDirect(Math.toIntExact(Math.multiplyExact(n, 4L)))
        val floats = bytes.order(ByteOrder.nativeOrder()).asFloatBuffer()
        fill(floats)
        return floats
    }
}
