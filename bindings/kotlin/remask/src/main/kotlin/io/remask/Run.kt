package io.remask

/** One slot that a step filled; [confidence] is what it was ranked by, see [Order]. */
public data class Change(val slot: Int, val token: Int, val confidence: Float)

/** What one step did to one canvas. Stays as it is when the run goes on. */
public class Step internal constructor(private val facts: LongArray, private val lists: IntArray) {
    private val nChanged = int(14)
    private val nSlots = int(15)

    /** Which of the run's canvases this is about. */
    public val canvas: Int get() = int(0)

    /** Whether all canvases are finished. */
    public val isDone: Boolean get() = facts[2] != 0L

    /** Whether this canvas is finished. */
    public val isCanvasDone: Boolean get() = facts[3] != 0L

    /** Whether an end token or stop text has settled where this response ends. */
    public val ended: Boolean get() = facts[4] != 0L

    /** Steps of the plan that are behind this canvas, this one counted. */
    public val step: Int get() = int(5)

    /** Steps of the plan. */
    public val nSteps: Int get() = int(6)

    /** Slots of the block at work. */
    public val block: IntRange get() = int(7) until int(8)

    /** Slots still masked. */
    public val nMasked: Int get() = int(9)

    /** Slots that hold the prompt and the response. */
    public val end: Int get() = int(10)

    /** Function evaluations so far, over all canvases. */
    public val nfe: Long get() = facts[11]

    /** Time of this step, in microseconds. */
    public val stepUs: Long get() = facts[12]

    /** Time of all steps so far, in microseconds. */
    public val elapsedUs: Long get() = facts[13]

    /** Slots that this step filled, the surest first. */
    public val changed: List<Change>
        get() = List(nChanged) {
            Change(lists[3 * it], lists[3 * it + 1], Float.fromBits(lists[3 * it + 2]))
        }

    /** Token of every slot. */
    public val tokens: IntArray get() = lists.copyOfRange(3 * nChanged, 3 * nChanged + nSlots)

    /** State of every slot. */
    public val slots: List<Slot> get() = List(nSlots) { Slot.of(lists[3 * nChanged + nSlots + it]) }

    private fun int(i: Int) = facts[i].toInt()
}

/**
 * A generation under way: a blocking iterator of steps. Close it, or its session and canvases stay busy.
 *
 *     session.run(canvas).use { run -> for (step in run) show(step) }
 *
 * [next] may be called again after an exception: the canvases are as before the step.
 */
public class Run internal constructor(address: Long) : Iterator<Step>, AutoCloseable {
    private val handle = Handle("run", address, Native::runFree)

    @Volatile
    private var done = false

    override fun hasNext(): Boolean = !done

    /** Does one step on every canvas that is not finished, and returns the report of the first. */
    override fun next(): Step {
        if (done) {
            throw NoSuchElementException("the run is done")
        }
        val facts = LongArray(N_FACTS)
        val step = Step(facts, handle.lend { Native.runStep(it, facts) })
        done = step.isDone
        return step
    }

    /**
     * Starts what the next step computes, where GPUs compute all of it, and returns at once. Until that step [replace]
     * fails: the run is busy.
     */
    public fun beginStep(): Unit = handle.lend { Native.runBeginStep(it) }

    /** The steps as a sequence, to be walked once, before the run is closed. */
    public fun steps(): Sequence<Step> = asSequence()

    /** The last step's report of canvas [index]. */
    public fun report(index: Int): Step {
        val facts = LongArray(N_FACTS)
        return Step(facts, handle.lend { Native.runReport(it, index, facts) })
    }

    /** Puts [tokens] on canvas [index] between two steps: masked where they are the mask token. */
    public fun replace(index: Int, tokens: IntArray) {
        handle.lend { Native.runReplace(it, index, tokens) }
        done = false
    }

    override fun close(): Unit = handle.close()

    private companion object {
        const val N_FACTS = 16
    }
}
