//! The policies of a run.

use super::args::{array, flags, text};
use super::cancel::{self, remask_cancel};
use super::guard::{Outcome, invalid};
use super::sized::{self, sized};
use super::types::remask_text;
use crate::denoise::{Commit, Order, Params};
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

/// End when an end token stands in the response and everything before it is filled. What comes before it
/// is the same as without.
pub const REMASK_GENERATE_STOP_AT_EOS: u32 = 1 << 0;
/// Never predict the end-of-text token (the reference's logits_eos_inf).
pub const REMASK_GENERATE_WITHOUT_EOS: u32 = 1 << 1;
/// Commit end tokens last (the reference's confidence_eos_eot_inf).
pub const REMASK_GENERATE_EOS_LAST: u32 = 1 << 2;
/// Compute steps that commit nothing, as the reference does. The text is the same.
pub const REMASK_GENERATE_IDLE_STEPS: u32 = 1 << 3;

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
    /// Threshold (0 to 1) or factor (above 0) of `commit`; 0 with `REMASK_COMMIT_QUOTA`.
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
        | REMASK_GENERATE_IDLE_STEPS;
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
    let denoise = Params {
        steps: p.n_steps as usize,
        block_length: p.block_length as usize,
        response_start: match p.response_start {
            -1 => None,
            start => Some(usize::try_from(start).map_err(|_| invalid("response_start is below -1"))?),
        },
        order: order(p.order)?,
        commit: commit(p.commit, p.commit_value)?,
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
        ..Params::default()
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

fn commit(commit: remask_commit, value: f64) -> Outcome<Commit> {
    match commit {
        REMASK_COMMIT_QUOTA if value == 0.0 => Ok(Commit::Quota),
        REMASK_COMMIT_QUOTA => Err(invalid(format!(
            "commit_value is {value}; with REMASK_COMMIT_QUOTA it must be 0"
        ))),
        REMASK_COMMIT_THRESHOLD => Ok(Commit::Threshold(value)),
        REMASK_COMMIT_FACTOR => Ok(Commit::Factor(value)),
        other => Err(invalid(format!("commit is {other}; it must be 0 to 2"))),
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
