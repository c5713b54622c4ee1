import CRemask

/// How to generate. What a model or a combination does not support is refused, never ignored.
public struct GenerateParams: Sendable {
    /// By what candidates are ranked; the best are committed. See remask.h.
    public enum Order: Int32, Sendable {
        case lowConfidence, random, margin, entropy, leftToRight, origin
    }

    /// How many candidates a step commits.
    public enum Commit: Hashable, Sendable {
        /// The masks of a block divided over its steps.
        case quota
        /// All whose probability is at least this, and always the best.
        case threshold(Double)
        /// The n best, as long as the n-th has a probability of at least 1 - factor/(n + 1).
        case factor(Double)
        /// The most whose entropies in nats, the largest left out, sum to at most this.
        case entropyBound(Double)
        /// All that are surer than `anchor` (0 for 0.9), and near them what is nearly so.
        case neighbours(anchor: Double = 0)
    }

    /// How much speed for how much change. Rules that are given beside it replace its own.
    public enum Speed: Int32, Sendable {
        case exact, balanced, fast
    }

    /// What is kept from step to step; all but `none` are approximate. See remask.h.
    public enum Cache: Int32, Sendable {
        case none, prefix, dual, feature
    }

    /// How kept keys and values are stored.
    public enum CacheType: Int32, Sendable {
        case f32, f16, q8_0
    }

    /// Steps over all blocks; 0 for one per masked slot.
    public var steps = 0
    /// Slots per block, filled one after the other; 0 for one block.
    public var blockLength = 0
    public var order = Order.lowConfidence
    public var commit = Commit.quota
    public var speed = Speed.exact
    public var cache = Cache.none
    public var cacheType = CacheType.f32
    /// With a cache, steps after which everything is computed again; 0 is at the start of a block only.
    public var cacheRefresh = 0
    /// Masked slots after the block that are shown to the model; 0 for all. Approximate.
    public var suffixWindow: UInt64 = 0
    /// Fill a block at once when its answer has settled. Approximate.
    public var earlyCommit = false
    /// 0 takes the likeliest token.
    public var temperature = 0.0
    /// Draw from the smallest set of likeliest tokens with this probability; 0 is off.
    public var topP = 0.0
    /// Draw from the likeliest so many tokens; 0 is off.
    public var topK: UInt64 = 0
    public var repetitionPenalty = 0.0
    /// Classifier-free guidance; 0 is off. Doubles the work.
    public var guidance = 0.0
    public var seed: UInt64 = 0
    /// A seed for each canvas, in place of `seed`.
    public var seeds: [UInt64] = []
    /// End when an end token stands in the response and everything before it is filled.
    public var stopAtEOS = false
    /// Never predict the end-of-text token.
    public var withoutEOS = false
    /// Commit end tokens last.
    public var eosLast = false
    /// Compute steps that commit nothing.
    public var idleSteps = false
    /// End tokens; nil for the model's.
    public var eosToken: Int32?
    public var eotToken: Int32?
    /// Slot where the response begins; nil for the masked tail of the canvas.
    public var responseStart: Int?
    /// Tokens that are never predicted.
    public var suppress: [Int32] = []
    /// The response ends before the first of these texts.
    public var stop: [String] = []

    public init() {}

    /// With some of them set: `GenerateParams { $0.steps = 32 }`.
    public init(_ set: (inout GenerateParams) -> Void) {
        set(&self)
    }

    func lend<R>(_ cancel: CancelToken?, _ body: (UnsafePointer<remask_generate_params>) throws -> R) throws -> R {
        var p = remask_generate_params()
        remask_generate_params_init(&p, MemoryLayout<remask_generate_params>.stride)
        for (on, bit) in [
            (stopAtEOS, REMASK_GENERATE_STOP_AT_EOS), (withoutEOS, REMASK_GENERATE_WITHOUT_EOS),
            (eosLast, REMASK_GENERATE_EOS_LAST), (idleSteps, REMASK_GENERATE_IDLE_STEPS),
            (earlyCommit, REMASK_GENERATE_EARLY_COMMIT),
        ] where on {
            p.flags |= UInt32(bit)
        }
        p.n_steps = try count("steps", steps)
        p.block_length = try count("blockLength", blockLength)
        p.order = order.rawValue
        switch commit {
        case .quota: p.commit = REMASK_COMMIT_QUOTA
        case .threshold(let value): (p.commit, p.commit_value) = (REMASK_COMMIT_THRESHOLD, value)
        case .factor(let value): (p.commit, p.commit_value) = (REMASK_COMMIT_FACTOR, value)
        case .entropyBound(let value): (p.commit, p.commit_value) = (REMASK_COMMIT_ENTROPY_BOUND, value)
        case .neighbours(let value): (p.commit, p.commit_value) = (REMASK_COMMIT_NEIGHBOURS, value)
        }
        (p.speed, p.cache, p.cache_type) = (speed.rawValue, cache.rawValue, cacheType.rawValue)
        p.cache_refresh = try count("cacheRefresh", cacheRefresh)
        p.suffix_window = suffixWindow
        p.eos_token = eosToken ?? -1
        p.eot_token = eotToken ?? -1
        p.response_start = Int64(responseStart ?? -1)
        p.seed = seed
        p.temperature = temperature
        p.top_p = topP
        p.top_k = topK
        p.repetition_penalty = repetitionPenalty
        p.guidance = guidance
        p.cancel = cancel?.handle.pointer
        return try withExtendedLifetime(cancel) {
            try suppress.withUnsafeBufferPointer { suppress in
                try seeds.withUnsafeBufferPointer { seeds in
                    try withTexts(stop) { texts in
                        try texts.withUnsafeBufferPointer { stop in
                            (p.suppress, p.n_suppress) = (suppress.isEmpty ? nil : suppress.baseAddress, suppress.count)
                            (p.seeds, p.n_seeds) = (seeds.isEmpty ? nil : seeds.baseAddress, seeds.count)
                            (p.stop, p.n_stop) = (stop.isEmpty ? nil : stop.baseAddress, stop.count)
                            return try body(&p)
                        }
                    }
                }
            }
        }
    }
}

/// How to score.
public struct ScoreParams: Sendable {
    public enum Method: Int32, Sendable {
        /// Monte Carlo estimate of the lower bound.
        case bound
        /// Sum of the log-probability of each token with only that token masked; exact, good for comparing.
        case pseudo
    }

    public var method = Method.bound
    /// Masked canvases drawn for the bound; 0 for 128.
    public var samples = 0
    /// How many of them share one draw; 0 for 16.
    public var batch = 0
    public var seed: UInt64 = 0
    public var guidance = 0.0

    public init() {}

    /// With some of them set.
    public init(_ set: (inout ScoreParams) -> Void) {
        set(&self)
    }

    func lend<R>(_ cancel: CancelToken?, _ body: (UnsafePointer<remask_score_params>) throws -> R) throws -> R {
        var p = remask_score_params()
        remask_score_params_init(&p, MemoryLayout<remask_score_params>.stride)
        p.method = method.rawValue
        p.n_samples = try count("samples", samples)
        p.n_batch = try count("batch", batch)
        p.seed = seed
        p.guidance = guidance
        p.cancel = cancel?.handle.pointer
        return try withExtendedLifetime(cancel) { try body(&p) }
    }
}
