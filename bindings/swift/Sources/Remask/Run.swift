import CRemask

/// One slot that a step filled; `confidence` is what it was ranked by.
public struct Change: Hashable, Sendable {
    public let slot: Int
    public let token: Int32
    public let confidence: Float
}

/// What one step did to one canvas.
public struct Step: Hashable, Sendable {
    /// Which of the run's canvases this is about.
    public let canvas: Int
    /// Whether all canvases are finished, and whether this one is.
    public let isDone, isCanvasDone: Bool
    /// Whether an end token or stop text has settled where this response ends.
    public let ended: Bool
    /// Steps of the plan that are behind this canvas, this one counted, and those of the plan.
    public let step, nSteps: Int
    /// Slots of the block at work.
    public let block: Range<Int>
    /// Slots still masked.
    public let nMasked: Int
    /// Slots that hold the prompt and the response.
    public let end: Int
    /// Function evaluations so far, over all canvases.
    public let nfe: UInt64
    /// Time of this step and of all so far, in microseconds.
    public let stepMicroseconds, elapsedMicroseconds: UInt64
    /// Slots that this step filled, the surest first.
    public let changed: [Change]
    /// Token and state of every slot.
    public let tokens: [Int32]
    public let slots: [Slot]

    init(_ s: remask_step) {
        canvas = Int(s.i_canvas)
        isDone = s.done != 0
        isCanvasDone = s.canvas_done != 0
        ended = s.ended != 0
        step = Int(s.i_step)
        nSteps = Int(s.n_steps)
        block = Int(s.block_begin)..<max(Int(s.block_begin), Int(s.block_end))
        nMasked = Int(s.n_masked)
        end = Int(s.end)
        nfe = s.nfe
        stepMicroseconds = s.step_us
        elapsedMicroseconds = s.elapsed_us
        changed = UnsafeBufferPointer(start: s.changed, count: s.n_changed).map {
            Change(slot: Int($0.slot), token: $0.token, confidence: $0.confidence)
        }
        tokens = Array(UnsafeBufferPointer(start: s.tokens, count: s.n_slots))
        slots = UnsafeBufferPointer(start: s.slots, count: s.n_slots).map { Slot(rawValue: $0) ?? .fixed }
    }
}

/// A generation under way, pulled by blocking calls. Its session and canvases are busy until it is gone.
public final class Run: Sendable {
    private let handle: Handle

    /// Starts a run. See `Session.steps` for tasks.
    public init(
        _ session: Session, _ canvases: [Canvas], _ params: GenerateParams = GenerateParams(),
        cancel: CancelToken? = nil
    ) throws {
        let list: [OpaquePointer?] = canvases.map { $0.handle.pointer }
        handle = try withExtendedLifetime(canvases) {
            try params.lend(cancel) { params in
                try make({ remask_run_free($0) }) {
                    remask_run_new(session.handle.pointer, list, list.count, params, $0, $1)
                }
            }
        }
    }

    /// Does one step on every canvas that is not finished, and returns the report of the first.
    public func step() throws -> Step {
        try report { remask_run_step(handle.pointer, $0, $1) }
    }

    /// Starts what the next step computes, where GPUs compute all of it, and returns at once. Until that step
    /// `replace` throws an error of status busy.
    public func beginStep() throws {
        try check { remask_run_begin_step(handle.pointer, $0) }
    }

    /// The last step's report of a canvas.
    public func report(_ index: Int) throws -> Step {
        let index = try slot(index)
        return try report { remask_run_report(handle.pointer, index, $0, $1) }
    }

    /// Puts `tokens` on a canvas between two steps: masked where they are the mask token.
    public func replace(_ index: Int, _ tokens: [Int32]) throws {
        let index = try slot(index)
        try check { remask_run_replace(handle.pointer, index, tokens, tokens.count, $0) }
    }

    private func report(_ call: (UnsafeMutablePointer<remask_step>, ErrorOut) -> remask_status) throws -> Step {
        var step = remask_step()
        remask_step_init(&step, MemoryLayout<remask_step>.stride)
        try check { call(&step, $0) }
        return Step(step) // copies the arrays, which are the run's
    }
}

/// The steps of a generation, each done when it is asked for. Cancelling the task that asks stops the step under
/// way and throws `CancellationError`; what was filled stays on the canvases, as it does when the loop is left.
public struct Steps: AsyncSequence, Sendable {
    public typealias Element = Step

    let session: Session
    let canvases: [Canvas]
    let params: GenerateParams

    public func makeAsyncIterator() -> Iterator {
        Iterator(session: session, canvases: canvases, params: params)
    }

    public struct Iterator: AsyncIteratorProtocol {
        let session: Session
        let canvases: [Canvas]
        let params: GenerateParams
        private let token = CancelToken()
        private var run: Run?
        private var isDone = false

        init(session: Session, canvases: [Canvas], params: GenerateParams) {
            self.session = session
            self.canvases = canvases
            self.params = params
        }

        public mutating func next() async throws -> Step? {
            if isDone {
                return nil
            }
            // Stays so if the step throws: a failed sequence has ended.
            isDone = true
            let (session, canvases, params, given) = (session, canvases, params, run)
            run = nil
            let (run, step) = try await session.perform(token) { token in
                let run = try given ?? Run(session, canvases, params, cancel: token)
                let step = try run.step()
                if !step.isDone {
                    try run.beginStep()
                }
                return (run, step)
            }
            if !step.isDone {
                isDone = false
                self.run = run
            }
            return step
        }
    }
}
