//! The policies of a run.

use super::args::{array, flags, text};
use super::cancel::{self, remask_cancel};
use super::guard::{Outcome, invalid};
use super::sized::{self, sized};
use super::types::remask_text;
use crate::denoise::{Cache, CacheType, Commit, EarlyCommit, FastDllm, Order, Params, Speed};
use crate::session::GenerateParams;

/// By what candidates are ranked; the best are committed.
pub type remask_order = i32;
/// Probability of the candidate under the model: the reference's low_confidence.
pub const REMASK_ORDER_LOW_CONFIDENCE: remask_order = 0;
/// A uniform number per slot: the reference's random.
pub const REMASK_ORDER_RANDOM: remask_order = 1;
/// Probability of the best token less that of the second.
pub const REMASK_ORDER_MARGIN: remask_order = 2;
/// Negative entropy of the distribution.
pub const REMASK_ORDER_ENTROPY: remask_order = 3;
/// The leftmost slots first.
pub const REMASK_ORDER_LEFT_TO_RIGHT: remask_order = 4;
/// Every masked slot with probability 1 - s/t, for steps t > s evenly from 1 to 0.001.
pub const REMASK_ORDER_ORIGIN: remask_order = 5;

/// How many candidates a step commits.
pub type remask_commit = i32;
/// The masks of a block divided over its steps.
pub const REMASK_COMMIT_QUOTA: remask_commit = 0;
/// All whose probability is at least `commit_value`, and always the best.
pub const REMASK_COMMIT_THRESHOLD: remask_commit = 1;
/// The n best, as long as the n-th has a probability of at least 1 - commit_value/(n + 1), and always the
/// best.
pub const REMASK_COMMIT_FACTOR: remask_commit = 2;
/// The most whose entropies in nats, the largest left out, sum to at most `commit_value`; always the best.
pub const REMASK_COMMIT_ENTROPY_BOUND: remask_commit = 3;
/// All that are surer than `commit_value`, and within `commit_radius` slots of them what is surer than
/// `commit_relaxed`; always the best. Zeros are the published settings: 0.9, 4, 0.75.
pub const REMASK_COMMIT_NEIGHBOURS: remask_commit = 4;

/// How much speed for how much change. Rules that the caller leaves at zero are those of the preset.
pub type remask_speed = i32;
/// Nothing is approximate.
pub const REMASK_SPEED_EXACT: remask_speed = 0;
/// The fastest rules that leave nine texts in ten as they are.
pub const REMASK_SPEED_BALANCED: remask_speed = 1;
/// Faster still; answers change. Only for responses at the end of the canvas.
pub const REMASK_SPEED_FAST: remask_speed = 2;

/// What is kept from step to step. All but `REMASK_CACHE_NONE` are approximate.
pub type remask_cache = i32;
/// Every step computes every slot.
pub const REMASK_CACHE_NONE: remask_cache = 0;
/// After a block's first step, from the block's start to the end of the canvas.
pub const REMASK_CACHE_PREFIX: remask_cache = 1;
/// After a block's first step, the block alone.
pub const REMASK_CACHE_DUAL: remask_cache = 2;
/// Now and then everything, at other steps the slots whose values changed most.
pub const REMASK_CACHE_FEATURE: remask_cache = 3;

/// How kept keys and values are stored.
pub type remask_cache_type = i32;
/// As they are computed.
pub const REMASK_CACHE_TYPE_F32: remask_cache_type = 0;
/// Half the memory.
pub const REMASK_CACHE_TYPE_F16: remask_cache_type = 1;
/// A quarter of it.
pub const REMASK_CACHE_TYPE_Q8_0: remask_cache_type = 2;

/// A published version of Fast-dLLM whose loop is followed where it differs.
pub type remask_fast_dllm = i32;
/// None: a block ends when it is full.
pub const REMASK_FAST_DLLM_NONE: remask_fast_dllm = 0;
/// As of 2025-06-27.
pub const REMASK_FAST_DLLM_JUN2025: remask_fast_dllm = 1;
/// As of 2026-05-30.
pub const REMASK_FAST_DLLM_MAIN: remask_fast_dllm = 2;

/// End when an end token stands in the response and everything before it is filled. What comes before it
/// is the same as without.
pub const REMASK_GENERATE_STOP_AT_EOS: u32 = 1 << 0;
/// Never predict the end-of-text token (the reference's logits_eos_inf).
pub const REMASK_GENERATE_WITHOUT_EOS: u32 = 1 << 1;
/// Commit end tokens last (the reference's confidence_eos_eot_inf).
pub const REMASK_GENERATE_EOS_LAST: u32 = 1 << 2;
/// Compute steps that commit nothing, as the reference does. The text is the same.
pub const REMASK_GENERATE_IDLE_STEPS: u32 = 1 << 3;
/// Fill a block at once when its answer has settled; see `early_commit`. Approximate.
pub const REMASK_GENERATE_EARLY_COMMIT: u32 = 1 << 4;

/// How to generate. Begin with `remask_generate_params_init`, which sets the reference's defaults: greedy,
/// low confidence, one token per step, one block. All is borrowed for the call.
///
/// What a model or a combination does not support is refused, never ignored.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_generate_params {
    /// Set by `remask_generate_params_init`.
    pub struct_size: u32,
    /// Bit set of `REMASK_GENERATE_*`.
    pub flags: u32,
    /// Steps over all blocks; 0 for one per masked slot.
    pub n_steps: u32,
    /// Slots per block, filled one after the other; 0 for one block.
    pub block_length: u32,
    /// One of `REMASK_ORDER_*`.
    pub order: remask_order,
    /// One of `REMASK_COMMIT_*`.
    pub commit: remask_commit,
    /// End-of-text token; -1 for the model's.
    pub eos_token: i32,
    /// End-of-turn token; -1 for the model's.
    pub eot_token: i32,
    /// Slot where the response begins; -1 for the masked tail of the canvas.
    pub response_start: i64,
    /// Seed of all random numbers.
    pub seed: u64,
    /// What `commit` compares with; 0 with `REMASK_COMMIT_QUOTA`.
    pub commit_value: f64,
    /// 0 takes the likeliest token; above, tokens are drawn from softmax(logits / temperature).
    pub temperature: f64,
    /// Draw from the smallest set of likeliest tokens with this probability; 0 or 1 is off.
    pub top_p: f64,
    /// Draw from the likeliest so many tokens; 0 is off.
    pub top_k: u64,
    /// Divides positive and multiplies negative logits of tokens that stand on the canvas; 0 or 1 is off.
    pub repetition_penalty: f64,
    /// Classifier-free guidance; 0 is off. Doubles the work.
    pub guidance: f64,
    /// Tokens that are never predicted; NULL where `n_suppress` is 0.
    pub suppress: *const i32,
    /// Their number.
    pub n_suppress: usize,
    /// The response ends before the first of these texts; NULL where `n_stop` is 0.
    pub stop: *const remask_text,
    /// Their number.
    pub n_stop: usize,
    /// A seed for each canvas, in place of `seed`; NULL where `n_seeds` is 0.
    pub seeds: *const u64,
    /// Their number: 0 or that of the canvases.
    pub n_seeds: usize,
    /// Stops the run when set; NULL for none. The run keeps what it needs of it.
    pub cancel: *const remask_cancel,
    /// One of `REMASK_SPEED_*`.
    pub speed: remask_speed,
    /// One of `REMASK_CACHE_*`.
    pub cache: remask_cache,
    /// One of `REMASK_CACHE_TYPE_*`.
    pub cache_type: remask_cache_type,
    /// One of `REMASK_FAST_DLLM_*`.
    pub fast_dllm: remask_fast_dllm,
    /// With a prefix or dual cache, steps after which everything is computed again; 0 is at the start of a
    /// block only.
    pub cache_refresh: u32,
    /// With the feature cache, steps between full passes; 0 for 25.
    pub cache_prompt_interval: u32,
    /// With the feature cache, steps between passes over the whole response; 0 for 7.
    pub cache_response_interval: u32,
    /// Of `REMASK_COMMIT_NEIGHBOURS`, in slots; 0 for 4.
    pub commit_radius: u32,
    /// Masked slots after the block that are shown to the model; 0 for all. Approximate.
    pub suffix_window: u64,
    /// With the feature cache, the share of the response that is computed at other steps; 0 for 0.25.
    pub cache_update: f64,
    /// Of `REMASK_COMMIT_NEIGHBOURS`; 0 for 0.75.
    pub commit_relaxed: f64,
    /// With `REMASK_GENERATE_EARLY_COMMIT`, the lead in logits that counts as settled in each third of a
    /// block; all 0 for 7.5, 5 and 2.5.
    pub early_commit: [f64; 3],
}

sized!(remask_generate_params, |zero| remask_generate_params {
    eos_token: -1,
    eot_token: -1,
    response_start: -1,
    ..zero
});

/// The caller's policies, translated.
///
/// # Safety
/// `params` is NULL or prepared by `remask_generate_params_init`, and what it points at is readable.
pub(super) unsafe fn read_params(params: *const remask_generate_params) -> Outcome<GenerateParams> {
    // SAFETY: by this function's contract.
    let p = unsafe { sized::read(params) }?;
    let known = REMASK_GENERATE_STOP_AT_EOS
        | REMASK_GENERATE_WITHOUT_EOS
        | REMASK_GENERATE_EOS_LAST
        | REMASK_GENERATE_IDLE_STEPS
        | REMASK_GENERATE_EARLY_COMMIT;
    flags(p.flags, known, "flags")?;
    let on = |flag: u32| p.flags & flag != 0;
    let or_one = |x: f64| if x == 0.0 { 1.0 } else { x };
    // SAFETY: by this function's contract.
    let stop = unsafe { array(p.stop, p.n_stop, "stop") }?;
    let mut stop_texts = Vec::new();
    for stop in stop {
        // SAFETY: by this function's contract.
        stop_texts.push(unsafe { text(stop.data, stop.len, "a stop text") }?.to_owned());
    }
    let preset = speed(p.speed)?.params();
    let denoise = Params {
        steps: p.n_steps as usize,
        block_length: p.block_length as usize,
        response_start: match p.response_start {
            -1 => None,
            start => Some(usize::try_from(start).map_err(|_| invalid("response_start is below -1"))?),
        },
        order: order(p.order)?,
        commit: match commit(&p)? {
            Commit::Quota => preset.commit,
            chosen => chosen,
        },
        early_commit: on(REMASK_GENERATE_EARLY_COMMIT).then(|| early_commit(p.early_commit)),
        cache: match cache(&p)? {
            Cache::None => preset.cache,
            chosen => chosen,
        },
        cache_refresh: match p.cache_refresh {
            0 if p.cache == REMASK_CACHE_NONE => preset.cache_refresh,
            n => n as usize,
        },
        cache_type: cache_type(p.cache_type)?,
        suffix_window: match p.suffix_window {
            0 => preset.suffix_window,
            n => Some(usize::try_from(n).unwrap_or(usize::MAX)),
        },
        fast_dllm: fast_dllm(p.fast_dllm)?,
        temperature: p.temperature,
        top_k: usize::try_from(p.top_k).unwrap_or(usize::MAX),
        top_p: or_one(p.top_p),
        repetition_penalty: or_one(p.repetition_penalty),
        // SAFETY: by this function's contract.
        suppress: unsafe { super::args::tokens(p.suppress, p.n_suppress, "suppress") }?,
        guidance: p.guidance,
        eos: token(p.eos_token, "eos_token")?,
        eot: token(p.eot_token, "eot_token")?,
        logits_eos_inf: on(REMASK_GENERATE_WITHOUT_EOS),
        confidence_eos_eot_inf: on(REMASK_GENERATE_EOS_LAST),
        stop_at_eos: on(REMASK_GENERATE_STOP_AT_EOS),
        idle_steps: on(REMASK_GENERATE_IDLE_STEPS),
        seed: p.seed,
        // SAFETY: by this function's contract.
        seeds: unsafe { array(p.seeds, p.n_seeds, "seeds") }?.to_vec(),
    };
    Ok(GenerateParams {
        denoise,
        stop: stop_texts,
        // SAFETY: by this function's contract.
        cancel: unsafe { cancel::token(p.cancel) }?,
    })
}

fn order(order: remask_order) -> Outcome<Order> {
    Ok(match order {
        REMASK_ORDER_LOW_CONFIDENCE => Order::LowConfidence,
        REMASK_ORDER_RANDOM => Order::Random,
        REMASK_ORDER_MARGIN => Order::Margin,
        REMASK_ORDER_ENTROPY => Order::Entropy,
        REMASK_ORDER_LEFT_TO_RIGHT => Order::LeftToRight,
        REMASK_ORDER_ORIGIN => Order::Origin,
        other => return Err(invalid(format!("order is {other}; it must be 0 to 5"))),
    })
}

fn commit(p: &remask_generate_params) -> Outcome<Commit> {
    let value = p.commit_value;
    let or = |x: f64, default: f64| if x == 0.0 { default } else { x };
    Ok(match p.commit {
        REMASK_COMMIT_QUOTA if value == 0.0 => Commit::Quota,
        REMASK_COMMIT_QUOTA => {
            return Err(invalid(format!(
                "commit_value is {value}; with REMASK_COMMIT_QUOTA it must be 0"
            )));
        }
        REMASK_COMMIT_THRESHOLD => Commit::Threshold(value),
        REMASK_COMMIT_FACTOR => Commit::Factor(value),
        REMASK_COMMIT_ENTROPY_BOUND => Commit::EntropyBound(value),
        REMASK_COMMIT_NEIGHBOURS => Commit::Neighbours {
            anchor: or(value, 0.9),
            relaxed: or(p.commit_relaxed, 0.75),
            radius: if p.commit_radius == 0 {
                4
            } else {
                p.commit_radius as usize
            },
        },
        other => return Err(invalid(format!("commit is {other}; it must be 0 to 4"))),
    })
}

fn speed(speed: remask_speed) -> Outcome<Speed> {
    Ok(match speed {
        REMASK_SPEED_EXACT => Speed::Exact,
        REMASK_SPEED_BALANCED => Speed::Balanced,
        REMASK_SPEED_FAST => Speed::Fast,
        other => return Err(invalid(format!("speed is {other}; it must be 0 to 2"))),
    })
}

fn cache(p: &remask_generate_params) -> Outcome<Cache> {
    let or = |n: u32, default: usize| if n == 0 { default } else { n as usize };
    Ok(match p.cache {
        REMASK_CACHE_NONE => Cache::None,
        REMASK_CACHE_PREFIX => Cache::Prefix,
        REMASK_CACHE_DUAL => Cache::Dual,
        REMASK_CACHE_FEATURE => Cache::Feature {
            prompt_interval: or(p.cache_prompt_interval, 25),
            response_interval: or(p.cache_response_interval, 7),
            update: if p.cache_update == 0.0 {
                0.25
            } else {
                p.cache_update
            },
        },
        other => return Err(invalid(format!("cache is {other}; it must be 0 to 3"))),
    })
}

fn cache_type(cache_type: remask_cache_type) -> Outcome<CacheType> {
    Ok(match cache_type {
        REMASK_CACHE_TYPE_F32 => CacheType::F32,
        REMASK_CACHE_TYPE_F16 => CacheType::F16,
        REMASK_CACHE_TYPE_Q8_0 => CacheType::Q8_0,
        other => return Err(invalid(format!("cache_type is {other}; it must be 0 to 2"))),
    })
}

fn fast_dllm(version: remask_fast_dllm) -> Outcome<Option<FastDllm>> {
    Ok(match version {
        REMASK_FAST_DLLM_NONE => None,
        REMASK_FAST_DLLM_JUN2025 => Some(FastDllm::Jun2025),
        REMASK_FAST_DLLM_MAIN => Some(FastDllm::Main),
        other => return Err(invalid(format!("fast_dllm is {other}; it must be 0 to 2"))),
    })
}

fn early_commit([early, middle, late]: [f64; 3]) -> EarlyCommit {
    match [early, middle, late] {
        [0.0, 0.0, 0.0] => EarlyCommit::default(),
        _ => EarlyCommit { early, middle, late },
    }
}

/// A token of the caller's; -1 is none.
fn token(id: i32, what: &str) -> Outcome<Option<u32>> {
    match u32::try_from(id) {
        Ok(id) => Ok(Some(id)),
        Err(_) if id == -1 => Ok(None),
        Err(_) => Err(invalid(format!("{what} is {id}; it must be -1 or a token"))),
    }
}

/// Sets `params` to the defaults. Pass `sizeof(remask_generate_params)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_generate_params_init(
    params: *mut remask_generate_params,
    struct_size: usize,
) {
    // SAFETY: by the caller's contract.
    unsafe { sized::init(params, struct_size) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(set: impl FnOnce(&mut remask_generate_params)) -> Params {
        let mut params = std::mem::MaybeUninit::<remask_generate_params>::uninit();
        // SAFETY: there is room for the struct.
        unsafe { remask_generate_params_init(params.as_mut_ptr(), size_of::<remask_generate_params>()) };
        // SAFETY: filled by the call above.
        let mut params = unsafe { params.assume_init() };
        set(&mut params);
        // SAFETY: prepared above; it points at nothing.
        unsafe { read_params(&params) }.unwrap().denoise
    }

    #[test]
    fn untouched_parameters_are_the_defaults() {
        assert_eq!(translated(|_| ()), Params::default());
    }

    #[test]
    fn a_preset_gives_the_rules_that_the_caller_leaves_at_zero() {
        assert_eq!(translated(|p| p.speed = REMASK_SPEED_FAST), Speed::Fast.params());
        let mixed = translated(|p| {
            p.speed = REMASK_SPEED_BALANCED;
            p.cache = REMASK_CACHE_PREFIX;
        });
        let expected = Params {
            cache: Cache::Prefix,
            cache_refresh: 0,
            ..Speed::Balanced.params()
        };
        assert_eq!(mixed, expected);
    }

    #[test]
    fn zeros_of_approximate_rules_are_the_published_settings() {
        let all = translated(|p| {
            p.commit = REMASK_COMMIT_NEIGHBOURS;
            p.cache = REMASK_CACHE_FEATURE;
            p.cache_type = REMASK_CACHE_TYPE_Q8_0;
            p.fast_dllm = REMASK_FAST_DLLM_MAIN;
            p.suffix_window = 8;
            p.flags = REMASK_GENERATE_EARLY_COMMIT;
        });
        let expected = Params {
            commit: Commit::NEIGHBOURS,
            cache: Cache::FEATURE,
            cache_type: CacheType::Q8_0,
            fast_dllm: Some(FastDllm::Main),
            suffix_window: Some(8),
            early_commit: Some(EarlyCommit::default()),
            ..Params::default()
        };
        assert_eq!(all, expected);
    }
}
