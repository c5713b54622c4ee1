//! Scores.

use super::cancel::remask_cancel;
use super::error::remask_error;
use super::session::remask_session;
use super::types::{remask_status, remask_tokens};

/// How a log-likelihood is estimated.
pub type remask_score_method = i32;
/// Monte Carlo estimate of the lower bound (LLaDA, equation 6), with the reference's masks.
pub const REMASK_SCORE_BOUND: remask_score_method = 0;
/// Sum over the answer of the log-probability of each token with only that token masked. One pass per
/// token; no likelihood, but exact and good for comparing.
pub const REMASK_SCORE_PSEUDO: remask_score_method = 1;

/// How to score. Begin with `remask_score_params_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_score_params {
    /// Set by `remask_score_params_init`.
    pub struct_size: u32,
    /// One of `REMASK_SCORE_*`.
    pub method: remask_score_method,
    /// Masked canvases drawn for the bound; 0 for 128.
    pub n_samples: u32,
    /// Of them, how many share one draw and cover the mask ratios evenly; 0 for 16, or all if fewer.
    pub n_batch: u32,
    /// Seed of the masks.
    pub seed: u64,
    /// Classifier-free guidance; 0 is off. Doubles the work. Not for `REMASK_SCORE_PSEUDO`.
    pub guidance: f64,
    /// Stops the work when set; NULL for none.
    pub cancel: *const remask_cancel,
}

/// A score. Begin with `remask_score_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_score {
    /// Set by `remask_score_init`.
    pub struct_size: u32,
    /// Tokens scored.
    pub n_tokens: u32,
    /// Log-likelihood of all of them together, in nats.
    pub log_likelihood: f64,
    /// Standard error of the estimate, in nats; 0 for an exact method, NaN for a single minibatch.
    pub standard_error: f64,
    /// Function evaluations: forward passes.
    pub nfe: u64,
}

/// Sets `params` to the defaults. Pass `sizeof(remask_score_params)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_score_params_init(params: *mut remask_score_params, struct_size: usize) {}

/// Prepares `score`. Pass `sizeof(remask_score)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_score_init(score: *mut remask_score, struct_size: usize) {}

/// Estimates the log-likelihood of tokens `[begin, end)`, given all others.
///
/// @param end       SIZE_MAX for `n_tokens`.
/// @param params    NULL for the defaults.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_session_score(
    session: *mut remask_session,
    tokens: *const i32,
    n_tokens: usize,
    begin: usize,
    end: usize,
    params: *const remask_score_params,
    out_score: *mut remask_score,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Scores each of several continuations of one prompt, with the same masks where they are drawn.
///
/// @param choices         Array of `n_choices`; none may be empty.
/// @param params          NULL for the defaults.
/// @param log_likelihoods Receives `n_choices` log-likelihoods in nats; NULL if not wanted.
/// @param probabilities   Receives `n_choices` probabilities that sum to 1: the softmax of the
///                        log-likelihoods; NULL if not wanted.
/// @param out_best        Receives the index of the likeliest; NULL if not wanted.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_session_choose(
    session: *mut remask_session,
    prompt: *const i32,
    n_prompt: usize,
    choices: *const remask_tokens,
    n_choices: usize,
    params: *const remask_score_params,
    log_likelihoods: *mut f64,
    probabilities: *mut f64,
    out_best: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
}
