package io.remask

import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import java.util.concurrent.atomic.AtomicReference
import kotlin.concurrent.thread

// Tests of the Kotlin face: RemaskTestKt MODEL. Prints the tokens of a run, for the caller to compare.

private val PARAMS = GenerateParams(steps = 12, blockLength = 8, temperature = 0.8, topP = 0.95, seed = 7)

private inline fun <reified E : Throwable> fails(body: () -> Unit): E {
    try {
        body()
    } catch (e: Throwable) {
        check(e is E) { "$e in place of ${E::class}" }
        return e
    }
    error("no ${E::class}")
}

private fun story(model: Model) = Canvas(model).text("Once upon a time").masks(16)

private fun tokens(model: Model): IntArray = Session(model, threads = 1).use { session ->
    story(model).use { canvas ->
        session.generate(canvas, PARAMS)
        canvas.tokens
    }
}

private fun stepsCome(model: Model, expected: IntArray) = Session(model, threads = 1).use { session ->
    story(model).use { canvas ->
        session.run(canvas, PARAMS).use { run ->
            fails<RemaskException.Busy> { canvas.masks(1) }
            fails<RemaskException.Busy> { session.run(Canvas(model).masks(1)) }
            val steps = run.steps().toList()
            check(steps.size == 12 && steps.last().isDone && steps.last().step == 12)
            check(steps.sumOf { it.changed.size } == 16)
            check(steps.zipWithNext().all { (a, b) -> a.nMasked == b.nMasked + b.changed.size })
            check(steps.last().tokens.contentEquals(expected) && steps.last().slots.last() == Slot.FILLED)
            check(!run.hasNext())
            fails<NoSuchElementException> { run.next() }
        }
        check(canvas.tokens.contentEquals(expected) && canvas.nMasked == 0)
    }
    // A walk that ends early leaves nothing busy.
    story(model).use { canvas ->
        session.run(canvas, PARAMS).use { run -> check(run.steps().take(3).count() == 3) }
        check(canvas.nMasked in 1..15)
        session.generate(canvas)
        check(canvas.nMasked == 0)
    }
    check(session.stats.runs == 3L)
}

private fun batchesAreAsAlone(model: Model, expected: IntArray) = Session(model, threads = 1).use { session ->
    val canvases = List(3) { if (it == 1) Canvas(model).text("The owl").masks(5) else story(model) }
    session.run(canvases, PARAMS.copy(seeds = listOf(7, 1, 7))).use { run ->
        run.steps().forEach { check(it.canvas == 0) }
        check(run.report(2).canvas == 2)
    }
    check(canvases[0].tokens.contentEquals(expected) && canvases[2].tokens.contentEquals(expected))
    canvases.forEach(Canvas::close)
}

private fun holesAndScores(model: Model) = Session(model).use { session ->
    Canvas(model).holes("The [[2]] sleeps in the [[2]].").use { canvas ->
        check(canvas.nMasked == 4)
        session.generate(canvas)
        check(canvas.text().startsWith("The") && canvas.text().contains(" sleeps in the"))
        canvas.fix()
        check(canvas.slots.all { it == Slot.FIXED })
        canvas.mask(1, 3)
        check(canvas.nMasked == 2)
    }
    val prompt = model.encode("Once upon a time")
    val params = ScoreParams(method = ScoreMethod.PSEUDO)
    val choices = listOf(model.encode(" there was a fox."), model.encode(" of of of of of"))
    val choice = session.choose(prompt, choices, params)
    check(choice.best == 0 && choice.probabilities[0] > 0.9) { choice.probabilities.toString() }
    val score = session.score(prompt + choices[0], prompt.size, params = params)
    check(Math.abs(score.logLikelihood - choice.logLikelihoods[0]) < 1e-6 && score.nTokens == choices[0].size)
    val logits = session.logits(prompt, intArrayOf(0))
    check(logits.capacity() == model.info.nVocab)
    check(session.embeddings(prompt).capacity() == model.info.nEmbd)
    fails<IllegalArgumentException> { session.logits(prompt, null, java.nio.FloatBuffer.allocate(4)) }
}

private fun filesAreLoadedInEveryWay(path: String, expected: IntArray) {
    RandomAccessFile(path, "r").use { file ->
        val map = file.channel.map(FileChannel.MapMode.READ_ONLY, 0, file.length())
        Model.load(map).use { check(tokens(it).contentEquals(expected)) }
        val reader = object : Reader {
            override fun size() = file.length()

            override fun readAt(offset: Long, into: ByteBuffer) {
                var at = offset
                while (into.hasRemaining()) {
                    at += file.channel.read(into, at)
                }
            }
        }
        var last = 0L
        val options = LoadOptions(device = "cpu", progress = { done, _ -> last = done; true })
        Model.load(reader, options).use { check(tokens(it).contentEquals(expected)) }
        check(last > 0)
        val tensors = LoadOptions(device = "cpu", splitMode = SplitMode.TENSORS)
        fails<IllegalArgumentException> { Model.load(path, tensors) }
        CancelToken().use { token ->
            token.cancel()
            fails<RemaskException.Cancelled> { Model.load(reader, LoadOptions(cancel = token)) }
        }
    }
    check(Model.estimate(path, 64, 32).weightBytes > 1_000_000)
    val e = fails<RemaskException.BadFile> { Model.load("/no/such/file") }
    check(e.status == RemaskException.IO && "/no/such/file" in e.message!!)
}

private fun othersCancelAndClose(model: Model) {
    val token = CancelToken()
    val session = Session(model, threads = 1)
    val canvas = Canvas(model).masks(120)
    val started = java.util.concurrent.CountDownLatch(1)
    val thrown = AtomicReference<Throwable>()
    val worker = thread {
        try {
            session.generate(canvas, GenerateParams(cancel = token)) {
                started.countDown()
                true
            }
        } catch (e: Throwable) {
            thrown.set(e)
        }
    }
    started.await()
    // Closed under the run: it keeps what it needs.
    session.close()
    canvas.close()
    token.cancel()
    worker.join()
    check(thrown.get() is RemaskException.Cancelled) { "${thrown.get()}" }
    token.close()
    fails<IllegalStateException> { canvas.size }
    fails<IllegalStateException> { token.cancel() }
}

private fun threadsShareAModel(model: Model, expected: IntArray) {
    val failures = java.util.concurrent.atomic.AtomicInteger()
    List(8) {
        thread { repeat(3) { if (!tokens(model).contentEquals(expected)) failures.incrementAndGet() } }
    }.forEach(Thread::join)
    check(failures.get() == 0)
}

fun main(args: Array<String>) {
    check(Remask.version.isNotEmpty() && Remask.devices().isNotEmpty())
    val model = Model.load(args[0])
    val expected = tokens(model)
    check(model.info.arch == "llada" && model.metadata["general.architecture"] == "llada")
    check(model.decode(model.encode("Zürich 日本 🦊")) == "Zürich 日本 🦊")
    check(model.findToken("no such token") == null)
    check("fox" in model.renderChat(listOf(Message("user", "Where is the fox?"))))
    Canvas(model).chat("Where is the fox?").use { canvas ->
        canvas.masks(12)
        Session(model).use { it.generate(canvas, GenerateParams(stopAtEos = true)) }
        check(canvas.response.isNotBlank())
    }
    stepsCome(model, expected)
    batchesAreAsAlone(model, expected)
    holesAndScores(model)
    filesAreLoadedInEveryWay(args[0], expected)
    othersCancelAndClose(model)
    threadsShareAModel(model, expected)
    model.close()
    model.close()
    println("tokens " + expected.joinToString(" "))
}
