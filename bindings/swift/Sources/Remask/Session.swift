import CRemask
import Dispatch

/// A log-likelihood in nats.
public struct Score: Hashable, Sendable {
    public let logLikelihood: Double
    /// 0 for an exact method, NaN for a single minibatch.
    public let standardError: Double
    public let nTokens: Int
    /// Function evaluations: forward passes.
    public let nfe: UInt64
}

/// Which of several continuations is the likeliest.
public struct Choice: Hashable, Sendable {
    public let best: Int
    public let logLikelihoods, probabilities: [Double]
}

/// What a session has done since it was made.
public struct SessionStats: Hashable, Sendable {
    public let threads: Int
    public let nBytes, runs, steps, nfe, elapsedMicroseconds: UInt64
}

/// One stream of work on one model. Its async calls are done one after the other on a queue of its own, never on
/// the threads that Swift's tasks share; cancelling a task stops its call.
public final class Session: Sendable {
    /// Which attention is used.
    public enum Flash: Int32, Sendable {
        case auto, on, off
    }

    /// How hidden states of a text become one.
    public enum Pooling: Int32, Sendable {
        case none, mean, last
    }

    let handle: Handle
    private let queue = DispatchQueue(label: "remask.session", qos: .userInitiated)

    /// - threads: 0 for one per physical core.
    /// - maxCanvas: longest canvas in slots; 0 for the length that the model was trained for.
    public init(_ model: Model, threads: Int = 0, flash: Flash = .auto, maxCanvas: Int = 0) throws {
        var params = remask_session_params()
        remask_session_params_init(&params, MemoryLayout<remask_session_params>.stride)
        params.n_threads = try count("threads", threads)
        params.flash = flash.rawValue
        params.max_canvas = try count("maxCanvas", maxCanvas)
        handle = try make({ remask_session_free($0) }) {
            remask_session_new(model.handle.pointer, &params, $0, $1)
        }
    }

    /// What it has done.
    public var stats: SessionStats {
        get throws {
            var s = remask_session_stats()
            remask_session_stats_init(&s, MemoryLayout<remask_session_stats>.stride)
            try check { remask_session_get_stats(handle.pointer, &s, $0) }
            return SessionStats(
                threads: Int(s.n_threads), nBytes: s.n_bytes, runs: s.n_runs, steps: s.n_steps, nfe: s.nfe,
                elapsedMicroseconds: s.elapsed_us)
        }
    }

    /// Fills the masked slots of a canvas; nothing happens before the first step is asked for.
    public func steps(_ canvas: Canvas, _ params: GenerateParams = GenerateParams()) -> Steps {
        Steps(session: self, canvases: [canvas], params: params)
    }

    /// Fills the masked slots of all canvases, each as it would be alone. Steps report the first of them.
    public func steps(_ canvases: [Canvas], _ params: GenerateParams = GenerateParams()) -> Steps {
        Steps(session: self, canvases: canvases, params: params)
    }

    /// Fills every masked slot.
    public func generate(_ canvas: Canvas, _ params: GenerateParams = GenerateParams()) async throws {
        try await generate([canvas], params)
    }

    /// As above for several canvases.
    public func generate(_ canvases: [Canvas], _ params: GenerateParams = GenerateParams()) async throws {
        try await perform(CancelToken()) { token in
            let run = try Run(self, canvases, params, cancel: token)
            while !(try run.step().isDone) {}
        }
    }

    /// Estimates the log-likelihood of tokens from `begin` to `end`, given all others.
    public func score(
        _ tokens: [Int32], from begin: Int = 0, to end: Int? = nil, _ params: ScoreParams = ScoreParams()
    ) async throws -> Score {
        let (begin, end) = (try slot(begin), try slot(end))
        return try await perform(CancelToken()) { token in
            var score = remask_score()
            remask_score_init(&score, MemoryLayout<remask_score>.stride)
            try params.lend(token) { params in
                try check {
                    remask_session_score(
                        self.handle.pointer, tokens, tokens.count, begin, end, params, &score, $0)
                }
            }
            return Score(
                logLikelihood: score.log_likelihood, standardError: score.standard_error,
                nTokens: Int(score.n_tokens), nfe: score.nfe)
        }
    }

    /// Scores each of several continuations of one prompt, with the same masks.
    public func choose(
        prompt: [Int32], choices: [[Int32]], _ params: ScoreParams = ScoreParams()
    ) async throws -> Choice {
        try await perform(CancelToken()) { token in
            var logs = [Double](repeating: 0, count: choices.count)
            var shares = logs
            var best = 0
            let all = choices.flatMap { $0 }
            try all.withUnsafeBufferPointer { flat in
                var at = 0
                let list = choices.map { choice in
                    defer { at += choice.count }
                    let data = choice.isEmpty ? nil : flat.baseAddress.map { $0 + at }
                    return remask_tokens(data: data, len: choice.count)
                }
                try params.lend(token) { params in
                    try check {
                        remask_session_choose(
                            self.handle.pointer, prompt, prompt.count, list, list.count, params, &logs, &shares,
                            &best, $0)
                    }
                }
            }
            return Choice(best: best, logLikelihoods: logs, probabilities: shares)
        }
    }

    /// Runs the network once and returns the raw logits of `rows` (nil: all slots), row-major `[nRows, nVocab]`.
    public func logits(_ tokens: [Int32], rows: [UInt32]? = nil) async throws -> [Float] {
        try await perform(CancelToken()) { _ in
            try fill(Float(0)) { out, capacity, len, error in
                if let rows {
                    return remask_session_logits(
                        self.handle.pointer, tokens, tokens.count, rows, rows.count, out, capacity, len, error)
                }
                return remask_session_logits(
                    self.handle.pointer, tokens, tokens.count, nil, 0, out, capacity, len, error)
            }
        }
    }

    /// The hidden states after the final norm: row-major `[nTokens, nEmbd]`, or `[nEmbd]` where pooled.
    public func embeddings(_ tokens: [Int32], pooling: Pooling = .mean) async throws -> [Float] {
        try await perform(CancelToken()) { _ in
            try fill(Float(0)) {
                remask_session_embeddings(
                    self.handle.pointer, tokens, tokens.count, pooling.rawValue, $0, $1, $2, $3)
            }
        }
    }

    func perform<T: Sendable>(
        _ token: CancelToken, _ body: @escaping @Sendable (CancelToken) throws -> T
    ) async throws -> T {
        try await Remask.perform(on: queue, token, body)
    }
}
