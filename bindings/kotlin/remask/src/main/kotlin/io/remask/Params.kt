package io.remask

/** By what candidates are ranked; the best are committed. The names are those of remask.h. */
public enum class Order { LOW_CONFIDENCE, RANDOM, MARGIN, ENTROPY, LEFT_TO_RIGHT, ORIGIN }

/** How many candidates a step commits: the masks divided over the steps, or as many as are sure enough. */
public sealed class Commit(internal val number: Int, internal val value: Double) {
    /** The masks of a block divided over its steps. */
    public object Quota : Commit(0, 0.0)

    /** All whose probability is at least [probability], and always the best. */
    public class Threshold(public val probability: Double) : Commit(1, probability)

    /** The n best, as long as the n-th has a probability of at least 1 - [factor]/(n + 1). */
    public class Factor(public val factor: Double) : Commit(2, factor)

    /** The most whose entropies in nats, the largest left out, sum to at most [bound]. */
    public class EntropyBound(public val bound: Double) : Commit(3, bound)

    /** All that are surer than [anchor] (0 for 0.9), and near them what is nearly so. */
    public class Neighbours(public val anchor: Double = 0.0) : Commit(4, anchor)
}

/** How much speed for how much change. Rules that are given beside it replace its own. */
public enum class Speed { EXACT, BALANCED, FAST }

/** What is kept from step to step; all but [NONE] are approximate. See remask.h. */
public enum class Cache { NONE, PREFIX, DUAL, FEATURE }

/** How kept keys and values are stored. */
public enum class CacheType { F32, F16, Q8_0 }

/** How to generate. What a model or a combination does not support is refused, never ignored. */
public data class GenerateParams(
    /** Steps over all blocks; 0 for one per masked slot. */
    val steps: Int = 0,
    /** Slots per block, filled one after the other; 0 for one block. */
    val blockLength: Int = 0,
    val order: Order = Order.LOW_CONFIDENCE,
    val commit: Commit = Commit.Quota,
    val speed: Speed = Speed.EXACT,
    val cache: Cache = Cache.NONE,
    val cacheType: CacheType = CacheType.F32,
    /** With a cache, steps after which everything is computed again; 0 is at the start of a block only. */
    val cacheRefresh: Int = 0,
    /** Masked slots after the block that are shown to the model; 0 for all. Approximate. */
    val suffixWindow: Long = 0,
    /** Fill a block at once when its answer has settled. Approximate. */
    val earlyCommit: Boolean = false,
    /** 0 takes the likeliest token. */
    val temperature: Double = 0.0,
    /** Draw from the smallest set of likeliest tokens with this probability; 0 is off. */
    val topP: Double = 0.0,
    /** Draw from the likeliest so many tokens; 0 is off. */
    val topK: Long = 0,
    val repetitionPenalty: Double = 0.0,
    /** Classifier-free guidance; 0 is off. Doubles the work. */
    val guidance: Double = 0.0,
    val seed: Long = 0,
    /** A seed for each canvas, in place of [seed]. */
    val seeds: List<Long> = emptyList(),
    /** End when an end token stands in the response and everything before it is filled. */
    val stopAtEos: Boolean = false,
    /** Never predict the end-of-text token. */
    val withoutEos: Boolean = false,
    /** Commit end tokens last. */
    val eosLast: Boolean = false,
    /** Compute steps that commit nothing. */
    val idleSteps: Boolean = false,
    /** End-of-text token; null for the model's. */
    val eosToken: Int? = null,
    /** End-of-turn token; null for the model's. */
    val eotToken: Int? = null,
    /** Slot where the response begins; null for the masked tail of the canvas. */
    val responseStart: Int? = null,
    /** Tokens that are never predicted. */
    val suppress: List<Int> = emptyList(),
    /** The response ends before the first of these texts. */
    val stop: List<String> = emptyList(),
    val cancel: CancelToken? = null,
) {
    internal fun numbers(token: Long) = longArrayOf(
        flags(stopAtEos to 1, withoutEos to 2, eosLast to 4, idleSteps to 8, earlyCommit to 16).toLong(),
        count("steps", steps), count("blockLength", blockLength), order.ordinal.toLong(), commit.number.toLong(),
        (eosToken ?: -1).toLong(), (eotToken ?: -1).toLong(), (responseStart ?: -1).toLong(), seed, topK, token,
        speed.ordinal.toLong(), cache.ordinal.toLong(), cacheType.ordinal.toLong(), count("cacheRefresh", cacheRefresh),
        suffixWindow,
    )

    internal fun reals() = doubleArrayOf(commit.value, temperature, topP, repetitionPenalty, guidance)
}

/** How a log-likelihood is estimated. */
public enum class ScoreMethod {
    /** Monte Carlo estimate of the lower bound. */
    BOUND,

    /** Sum of the log-probability of each token with only that token masked; exact, good for comparing. */
    PSEUDO,
}

/** How to score. */
public data class ScoreParams(
    val method: ScoreMethod = ScoreMethod.BOUND,
    /** Masked canvases drawn for the bound; 0 for 128. */
    val samples: Int = 0,
    /** How many of them share one draw; 0 for 16. */
    val batch: Int = 0,
    val seed: Long = 0,
    val guidance: Double = 0.0,
    val cancel: CancelToken? = null,
) {
    internal fun numbers(token: Long) = longArrayOf(
        method.ordinal.toLong(), count("samples", samples), count("batch", batch), seed, token,
    )
}

/** How hidden states of a text become one. */
public enum class Pooling { NONE, MEAN, LAST }

internal fun count(name: String, n: Int): Long {
    require(n >= 0) { "$name is $n; it must be 0 or more" }
    return n.toLong()
}
