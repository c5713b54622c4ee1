import Foundation
import XCTest

@testable import Remask

/// The model is what REMASK_MODEL names; the tokens of the run that all bindings do, REMASK_TOKENS.
final class RemaskTests: XCTestCase {
    private func path() throws -> String {
        try XCTUnwrap(ProcessInfo.processInfo.environment["REMASK_MODEL"], "set REMASK_MODEL to a model file")
    }

    private func model() throws -> Model { try Model(path: try path()) }

    private let params = GenerateParams {
        $0.steps = 12
        $0.blockLength = 8
        $0.temperature = 0.8
        $0.topP = 0.95
        $0.seed = 7
    }

    private func story(_ model: Model) throws -> Canvas {
        let canvas = try Canvas(model)
        try canvas.append(text: "Once upon a time")
        try canvas.append(masks: 16)
        return canvas
    }

    private func tokens(_ model: Model) throws -> [Int32] {
        let canvas = try story(model)
        let run = try Run(Session(model, threads: 1), [canvas], params)
        while !(try run.step().isDone) {}
        return try canvas.tokens
    }

    private func fails(
        _ status: RemaskError.Status, _ body: () throws -> Void, line: UInt = #line
    ) {
        XCTAssertThrowsError(try body(), line: line) { error in
            XCTAssertEqual((error as? RemaskError)?.status, status, "\(error)", line: line)
        }
    }

    func testARunGivesWhatTheLibraryGives() throws {
        let expected = try XCTUnwrap(ProcessInfo.processInfo.environment["REMASK_TOKENS"], "set REMASK_TOKENS")
        XCTAssertEqual(try tokens(try model()).map(String.init).joined(separator: " "), expected)
    }

    func testStepsComeOneByOne() async throws {
        let model = try model()
        let session = try Session(model, threads: 1)
        let canvas = try story(model)
        var steps: [Step] = []
        for try await step in session.steps(canvas, params) {
            if !step.isDone {
                fails(.busy) { try canvas.append(masks: 1) }
                XCTAssertEqual(try canvas.counts.masked, step.nMasked)
            }
            for change in step.changed {
                XCTAssertEqual(step.tokens[change.slot], change.token)
                XCTAssertEqual(step.slots[change.slot], .filled)
            }
            steps.append(step)
        }
        XCTAssertEqual(steps.count, 12)
        XCTAssertEqual(steps.map(\.changed.count).reduce(0, +), 16)
        XCTAssertEqual(steps.last?.tokens, try tokens(model))
        try canvas.append(masks: 1)
        XCTAssertEqual(try session.stats.runs, 1)
    }

    func testALoopThatIsLeftEarlyLeavesNothingBusy() async throws {
        let model = try model()
        let session = try Session(model, threads: 1)
        let canvas = try story(model)
        var n = 0
        for try await _ in session.steps(canvas, params) {
            n += 1
            if n == 3 { break }
        }
        XCTAssertTrue((1..<16).contains(try canvas.counts.masked))
        try await session.generate(canvas)
        XCTAssertEqual(try canvas.counts.masked, 0)
    }

    func testCancellingTheTaskStopsTheRun() async throws {
        let model = try model()
        let session = try Session(model, threads: 1)
        let canvas = try Canvas(model)
        try canvas.append(masks: 120)
        let (started, begin) = AsyncStream.makeStream(of: Void.self)
        let task = Task {
            var n = 0
            for try await _ in session.steps(canvas) {
                begin.yield()
                n += 1
            }
            return n
        }
        for await _ in started { break }
        task.cancel()
        switch await task.result {
        case .success(let n): XCTFail("it did all \(n) steps")
        case .failure(let error): XCTAssertTrue(error is CancellationError, "\(error)")
        }
        let left = try canvas.counts.masked
        XCTAssertTrue((1..<120).contains(left), "\(left)")
        // One that is cancelled before it begins does nothing.
        let late = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            try await session.generate(canvas)
        }
        let result = await late.result
        XCTAssertThrowsError(try result.get()) { XCTAssertTrue($0 is CancellationError, "\($0)") }
        XCTAssertEqual(try canvas.counts.masked, left)
    }

    func testAsyncCallsOnOneSessionTakeTurns() async throws {
        let model = try model()
        let session = try Session(model, threads: 1)
        let expected = try tokens(model)
        let params = params
        let canvases = try (0..<6).map { _ in try story(model) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for canvas in canvases {
                group.addTask { try await session.generate(canvas, params) }
            }
            try await group.waitForAll()
        }
        for canvas in canvases {
            XCTAssertEqual(try canvas.tokens, expected)
        }
    }

    func testSessionsOnManyTasksGiveTheSame() async throws {
        let model = try model()
        let expected = try tokens(model)
        let params = params
        let canvases = try (0..<8).map { _ in try story(model) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for canvas in canvases {
                group.addTask { try await Session(model, threads: 1).generate(canvas, params) }
            }
            try await group.waitForAll()
        }
        for canvas in canvases {
            XCTAssertEqual(try canvas.tokens, expected)
        }
    }

    func testCanvasesOfABatchAreAsAlone() async throws {
        let model = try model()
        let expected = try tokens(model)
        let canvases = [try story(model), try Canvas(model), try story(model)]
        try canvases[1].append(text: "The owl")
        try canvases[1].append(masks: 5)
        var params = params
        params.seeds = [7, 1, 7]
        try await Session(model, threads: 1).generate(canvases, params)
        XCTAssertEqual(try canvases[0].tokens, expected)
        XCTAssertEqual(try canvases[2].tokens, expected)
        XCTAssertEqual(try canvases[1].counts.masked, 0)
    }

    func testTextsAndTokensGoThereAndBack() throws {
        let model = try model()
        let text = "Zürich 日本 🦊 \0 end"
        let tokens = try model.encode(text)
        XCTAssertEqual(try model.decode(tokens), text)
        let decoder = try Decoder(model)
        XCTAssertEqual(try tokens.map { try decoder.push([$0]) }.joined() + decoder.finish(), text)
        XCTAssertEqual(try model.encode(""), [])
        XCTAssertEqual(try tokens.flatMap { try model.bytes(of: $0) }, Array(text.utf8))
        XCTAssertNil(model.findToken("no such token"))
        XCTAssertEqual(try model.metadata["general.architecture"], "llada")
        XCTAssertEqual(try model.info.arch, "llada")
        XCTAssertGreaterThan(try model.estimate(nSlots: 64, nMasked: 32).session, 0)
    }

    func testAChatIsAnswered() async throws {
        let model = try model()
        let chat = [Message.user("Where is the 🦊?")]
        XCTAssertTrue(try model.renderChat(chat).contains("Where is the 🦊?"))
        let canvas = try Canvas(model)
        try canvas.append(chat: chat)
        XCTAssertEqual(try canvas.tokens, try model.encodeChat(chat))
        try canvas.append(masks: 12)
        try await Session(model).generate(canvas, GenerateParams { $0.stopAtEOS = true })
        XCTAssertFalse(try canvas.response.isEmpty)
    }

    func testHolesAreFilledAndSlotsFixedAndMasked() async throws {
        let model = try model()
        let canvas = try Canvas(model)
        try canvas.append(holes: "The [[2]] sleeps in the [[2]].")
        XCTAssertEqual(try canvas.counts.masked, 4)
        try await Session(model).generate(canvas)
        XCTAssertTrue(try canvas.text().hasPrefix("The"))
        XCTAssertTrue(try canvas.text().contains(" sleeps in the"))
        let copy = try canvas.copy()
        try copy.fix()
        XCTAssertTrue(try copy.slots.allSatisfy { $0 == .fixed })
        try copy.mask(from: 1, to: 3)
        XCTAssertEqual(try copy.counts.masked, 2)
        XCTAssertEqual(try canvas.counts.masked, 0)
    }

    func testScoresLogitsAndEmbeddings() async throws {
        let model = try model()
        let session = try Session(model)
        let prompt = try model.encode("Once upon a time")
        let choices = try [" there was a fox.", " of of of of of"].map { try model.encode($0) }
        let pseudo = ScoreParams { $0.method = .pseudo }
        let choice = try await session.choose(prompt: prompt, choices: choices, pseudo)
        XCTAssertEqual(choice.best, 0)
        XCTAssertEqual(choice.probabilities.reduce(0, +), 1, accuracy: 1e-9)
        let score = try await session.score(prompt + choices[0], from: prompt.count, pseudo)
        XCTAssertEqual(score.logLikelihood, choice.logLikelihoods[0], accuracy: 1e-6)
        XCTAssertEqual(score.nTokens, choices[0].count)
        let rows = try await session.logits(prompt, rows: [0, 1])
        let all = try await session.logits(prompt)
        XCTAssertEqual(rows.count, 2 * (try model.info.nVocab))
        XCTAssertEqual(all.count, prompt.count * (try model.info.nVocab))
        let states = try await session.embeddings(prompt)
        XCTAssertEqual(states.count, try model.info.nEmbd)
    }

    func testAllWaysOfLoadingGiveTheSame() async throws {
        let path = try path()
        let expected = try tokens(try model())
        let data = try Data(contentsOf: URL(fileURLWithPath: path))
        let copied = try data.withUnsafeBytes { try Model(bytes: $0) }
        XCTAssertEqual(try tokens(copied), expected)
        final class Heard: @unchecked Sendable {
            var last: UInt64 = 0
        }
        let heard = Heard()
        var options = LoadOptions()
        options.device = "cpu"
        options.onProgress = { done, _ in
            heard.last = done
            return true
        }
        let read = try Model(size: UInt64(data.count), options: options) { offset, into in
            data.copyBytes(to: into, from: Int(offset)..<Int(offset) + into.count)
        }
        XCTAssertEqual(try tokens(read), expected)
        XCTAssertGreaterThan(heard.last, 0)
        options.split = [3, 1]
        XCTAssertThrowsError(try Model(path: path, options: options), "the processor alone takes no shares")
        options.split = []
        options.splitMode = .tensors
        XCTAssertThrowsError(try Model(path: path, options: options), "nor does it split tensors")
        options.splitMode = .layers
        let loaded = try await Model.load(path: path)
        XCTAssertEqual(try tokens(loaded), expected)

        struct Gone: Error {}
        XCTAssertThrowsError(try Model(size: 1 << 20) { _, _ in throw Gone() }) { XCTAssertTrue($0 is Gone) }
        options.onProgress = { _, _ in false }
        fails(.cancelled) {
            _ = try Model(size: UInt64(data.count), options: options) { offset, into in
                data.copyBytes(to: into, from: Int(offset)..<Int(offset) + into.count)
            }
        }
    }

    func testNonsenseIsRefused() throws {
        let model = try model()
        fails(.io) { _ = try Model(path: "/no/such/file") }
        XCTAssertThrowsError(try Model(path: "/no/日本")) { XCTAssertTrue("\($0)".contains("日本"), "\($0)") }
        fails(.invalidArgument) { _ = try Session(model, threads: -1) }
        let canvas = try Canvas(model)
        fails(.invalidArgument) { try canvas.mask(from: 5, to: 2) }
        fails(.invalidArgument) { try canvas.append(masks: -1) }
        fails(.invalidArgument) { _ = try Run(Session(model), [canvas], GenerateParams { $0.temperature = -1 }) }
        fails(.invalidArgument) { _ = try Run(Session(model), []) }
    }

    func testHandlesMayGoInAnyOrder() throws {
        var model: Model? = try model()
        var session: Session? = try Session(model!, threads: 1)
        var canvas: Canvas? = try story(model!)
        let run = try Run(session!, [canvas!], params)
        session = nil
        canvas = nil
        model = nil
        var last = try run.step()
        while !last.isDone { last = try run.step() }
        XCTAssertEqual(last.nMasked, 0)
        XCTAssertEqual(try run.report(0), last)
        fails(.notFound) { _ = try run.report(1) }
    }
}
