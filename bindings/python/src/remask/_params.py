"""What a caller can choose: plain data, and what the C interface makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict

import numpy as np

from . import _native as n
from ._cancel import Cancel

Order = Literal["low_confidence", "random", "margin", "entropy", "left_to_right", "origin"]
Speed = Literal["exact", "balanced", "fast"]
Cache = Literal["none", "prefix", "dual", "feature"]
CacheType = Literal["f32", "f16", "q8_0"]
ScoreMethod = Literal["bound", "pseudo"]
Pooling = Literal["none", "mean", "last"]
Flash = Literal["auto", "on", "off"]
Verify = Literal["first_use", "load", "never"]
SplitMode = Literal["layers", "tensors"]


def constant(group: str, name: str) -> int:
    """The number of a name: `constant("ORDER", "margin")`. Raises `ValueError` for a name that is none."""
    if not isinstance(name, str) or (value := getattr(n.lib, f"REMASK_{group}_{name.upper()}", None)) is None:
        raise ValueError(f"{group.lower()} is {name!r}, which is none")
    return int(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateParams:
    """How to generate. The defaults are the reference's: greedy, low confidence, one token a step, one block.

    What a model or a combination does not support raises `InvalidArgumentError` or `UnsupportedError`.
    """

    #: Steps over all blocks; 0 for one per masked slot.
    steps: int = 0
    #: Slots per block, filled one after the other; 0 for one block.
    block_length: int = 0
    #: By what slots are ranked; a step commits the best.
    order: Order = "low_confidence"
    #: A step commits every slot whose probability is at least this (0 to 1), and always the best.
    threshold: float | None = None
    #: A step commits the n best while the n-th has a probability of at least 1 - factor/(n + 1).
    factor: float | None = None
    #: A step commits the most slots whose entropies in nats, the largest left out, sum to at most this.
    entropy_bound: float | None = None
    #: A preset: how much speed for how much change. Rules that are given beside it replace its own.
    speed: Speed = "exact"
    #: What is kept from step to step; all but "none" are approximate.
    cache: Cache = "none"
    #: How kept keys and values are stored.
    cache_type: CacheType = "f32"
    #: With a cache, steps after which everything is computed again; 0 is at the start of a block only.
    cache_refresh: int = 0
    #: Masked slots after the block that are shown to the model; 0 for all. Approximate.
    suffix_window: int = 0
    #: Fill a block at once when its answer has settled. Approximate.
    early_commit: bool = False
    #: End-of-text token; -1 for the model's.
    eos_token: int = -1
    #: End-of-turn token; -1 for the model's.
    eot_token: int = -1
    #: Slot where the response begins; -1 for the masked tail of the canvas.
    response_start: int = -1
    #: Seed of all random numbers. The same seed gives the same tokens.
    seed: int = 0
    #: A seed for each canvas of a batch, in place of `seed`.
    seeds: Sequence[int] = ()
    #: 0 takes the likeliest token; above, tokens are drawn from softmax(logits / temperature).
    temperature: float = 0.0
    #: Draw from the smallest set of likeliest tokens with this probability; 0 or 1 is off.
    top_p: float = 0.0
    #: Draw from the likeliest so many tokens; 0 is off.
    top_k: int = 0
    #: Divides positive and multiplies negative logits of tokens that stand on the canvas; 0 or 1 is off.
    repetition_penalty: float = 0.0
    #: Classifier-free guidance; 0 is off. Doubles the work.
    guidance: float = 0.0
    #: Tokens that are never predicted.
    suppress: Sequence[int] = ()
    #: The response ends before the first of these texts.
    stop: Sequence[str] = ()
    #: End when an end token stands in the response and everything before it is filled.
    stop_at_eos: bool = False
    #: Never predict the end-of-text token.
    without_eos: bool = False
    #: Commit end tokens last.
    eos_last: bool = False
    #: Compute steps that commit nothing, as the reference does. The text is the same.
    idle_steps: bool = False
    #: Stops the run when set, with `CancelledError`.
    cancel: Cancel | None = None


class GenerateOptions(TypedDict, total=False):
    """The fields of `GenerateParams`, as keyword arguments."""

    steps: int
    block_length: int
    order: Order
    threshold: float | None
    factor: float | None
    entropy_bound: float | None
    speed: Speed
    cache: Cache
    cache_type: CacheType
    cache_refresh: int
    suffix_window: int
    early_commit: bool
    eos_token: int
    eot_token: int
    response_start: int
    seed: int
    seeds: Sequence[int]
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    guidance: float
    suppress: Sequence[int]
    stop: Sequence[str]
    stop_at_eos: bool
    without_eos: bool
    eos_last: bool
    idle_steps: bool
    cancel: Cancel | None


def native_generate(params: GenerateParams, cancel: Any) -> tuple[Any, list[Any]]:
    """The C struct, and what must live as long as it is used."""
    rules = [(name, getattr(params, name)) for name in ("threshold", "factor", "entropy_bound")]
    rules = [(name, value) for name, value in rules if value is not None]
    if len(rules) > 1:
        raise ValueError(f"{rules[0][0]} and {rules[1][0]} contradict each other; give one")
    if isinstance(params.stop, str):
        raise ValueError("stop is a text; it must be a list of texts")
    struct = n.init("remask_generate_params")
    for flag in ("stop_at_eos", "without_eos", "eos_last", "idle_steps", "early_commit"):
        if getattr(params, flag):
            struct.flags |= constant("GENERATE", flag)
    struct.n_steps = n.unsigned(params.steps, "steps")
    struct.block_length = n.unsigned(params.block_length, "block_length")
    struct.order = constant("ORDER", params.order)
    for name, value in rules:
        struct.commit, struct.commit_value = constant("COMMIT", name), value
    for name in ("speed", "cache", "cache_type"):
        setattr(struct, name, constant(name.upper(), getattr(params, name)))
    struct.cache_refresh = n.unsigned(params.cache_refresh, "cache_refresh")
    struct.suffix_window = n.unsigned(params.suffix_window, "suffix_window", 64)
    struct.eos_token = params.eos_token
    struct.eot_token = params.eot_token
    struct.response_start = params.response_start
    struct.seed = n.unsigned(params.seed, "seed", 64)
    struct.top_k = n.unsigned(params.top_k, "top_k", 64)
    for name in ("temperature", "top_p", "repetition_penalty", "guidance"):
        setattr(struct, name, getattr(params, name))
    suppress, n_suppress = n.ids(params.suppress)
    stop, n_stop, keep = n.texts(params.stop)
    seeds = np.array([n.unsigned(seed, "a seed", 64) for seed in params.seeds], dtype=np.uint64)
    if n_suppress:
        struct.suppress, struct.n_suppress = suppress, n_suppress
    if n_stop:
        struct.stop, struct.n_stop = stop, n_stop
    native_seeds = n.ffi.from_buffer("uint64_t[]", seeds)
    if seeds.size:
        struct.seeds, struct.n_seeds = native_seeds, seeds.size
    struct.cancel = cancel
    return struct, [suppress, keep, native_seeds, cancel]


def merged(params: GenerateParams | None, options: GenerateOptions) -> GenerateParams:
    """`params` with `options` over them. Raises `TypeError` for an option that is none."""
    given = {} if params is None else {f.name: getattr(params, f.name) for f in fields(params)}
    return GenerateParams(**{**given, **options})


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreParams:
    """How a log-likelihood is estimated."""

    #: "bound": Monte Carlo estimate of the lower bound (LLaDA, equation 6). "pseudo": the sum of each token's
    #: log-probability with only that token masked; exact, good for comparing, but no likelihood.
    method: ScoreMethod = "bound"
    #: Masked canvases drawn for the bound; 0 for 128.
    samples: int = 0
    #: Of them, how many share one draw and cover the mask ratios evenly; 0 for 16, or all if fewer.
    batch: int = 0
    #: Seed of the masks.
    seed: int = 0
    #: Classifier-free guidance; 0 is off. Doubles the work. Not for "pseudo".
    guidance: float = 0.0
    #: Stops the work when set, with `CancelledError`.
    cancel: Cancel | None = None


class ScoreOptions(TypedDict, total=False):
    """The fields of `ScoreParams`, as keyword arguments."""

    method: ScoreMethod
    samples: int
    batch: int
    seed: int
    guidance: float
    cancel: Cancel | None


def native_score(params: ScoreParams, cancel: Any) -> Any:
    """The C struct; `cancel` must live as long as it is used."""
    struct = n.init("remask_score_params")
    struct.method = constant("SCORE", params.method)
    struct.n_samples = n.unsigned(params.samples, "samples")
    struct.n_batch = n.unsigned(params.batch, "batch")
    struct.seed = n.unsigned(params.seed, "seed", 64)
    struct.guidance = params.guidance
    struct.cancel = cancel
    return struct
