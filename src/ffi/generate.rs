//! The policies of a run.

use super::cancel::remask_cancel;
use super::types::remask_text;

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

/// Sets `params` to the defaults. Pass `sizeof(remask_generate_params)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_generate_params_init(
    params: *mut remask_generate_params,
    struct_size: usize,
) {
}
