//! Scores.

use super::args::{handle, put};
use super::cancel::{self, remask_cancel};
use super::error::remask_error;
use super::guard::{Outcome, call, invalid};
use super::session::remask_session;
use super::sized::{self, Sized32, sized};
use super::types::{remask_status, remask_tokens};
use crate::denoise::CancelToken;
use crate::score::{self, LikelihoodParams, Method};

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

sized!(remask_score_params, |zero| zero);
sized!(remask_score, |zero| zero);

/// The caller's method, translated.
///
/// # Safety
/// `params` is NULL or prepared by `remask_score_params_init`; its token is NULL or live.
unsafe fn read_params(params: *const remask_score_params) -> Outcome<(Method, Option<CancelToken>)> {
    // SAFETY: by this function's contract.
    let p = unsafe { sized::read(params) }?;
    let samples = if p.n_samples == 0 {
        128
    } else {
        p.n_samples as usize
    };
    if !(p.guidance.is_finite() && p.guidance >= 0.0) {
        return Err(invalid(format!(
            "guidance is {}; it must be 0 or more",
            p.guidance
        )));
    }
    let method = match p.method {
        REMASK_SCORE_BOUND => Method::Bound(LikelihoodParams {
            samples,
            batch: match p.n_batch {
                0 => samples.min(16),
                n => n as usize,
            },
            guidance: p.guidance,
            seed: p.seed,
        }),
        REMASK_SCORE_PSEUDO if p.guidance != 0.0 => {
            return Err(invalid("guidance is not for REMASK_SCORE_PSEUDO"));
        }
        REMASK_SCORE_PSEUDO => Method::Pseudo,
        other => return Err(invalid(format!("method is {other}; it must be 0 or 1"))),
    };
    // SAFETY: by this function's contract.
    Ok((method, unsafe { cancel::token(p.cancel) }?))
}

/// Sets `params` to the defaults. Pass `sizeof(remask_score_params)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_score_params_init(params: *mut remask_score_params, struct_size: usize) {
    // SAFETY: by the caller's contract.
    unsafe { sized::init(params, struct_size) };
}

/// Prepares `score`. Pass `sizeof(remask_score)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_score_init(score: *mut remask_score, struct_size: usize) {
    // SAFETY: by the caller's contract.
    unsafe { sized::init(score, struct_size) };
}

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
    let body = || {
        // SAFETY: by the caller's contract.
        let session = unsafe { handle(session, "session") }?;
        // SAFETY: by the caller's contract.
        let ids = unsafe { super::args::tokens(tokens, n_tokens, "the tokens") }?;
        // SAFETY: by the caller's contract.
        let (method, cancel) = unsafe { read_params(params) }?;
        let answer = begin..if end == usize::MAX { ids.len() } else { end };
        let score = session.cancellable(cancel, |session| {
            let mask = session.model().mask_token();
            Ok(match &method {
                Method::Bound(params) => score::likelihood(session, &ids, answer, mask, params)?,
                Method::Pseudo => score::pseudo_likelihood(session, &ids, answer, mask)?,
            })
        })?;
        let score = remask_score {
            n_tokens: u32::try_from(score.n_tokens).unwrap_or(u32::MAX),
            log_likelihood: score.log_likelihood,
            standard_error: score.standard_error,
            nfe: score.nfe,
            ..remask_score::defaults()
        };
        // SAFETY: by the caller's contract.
        unsafe { sized::write(&score, out_score) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let session = unsafe { handle(session, "session") }?;
        // SAFETY: by the caller's contract.
        let prompt = unsafe { super::args::tokens(prompt, n_prompt, "the prompt") }?;
        // SAFETY: by the caller's contract.
        let choices = unsafe { super::args::array(choices, n_choices, "choices") }?;
        // SAFETY: by the caller's contract.
        let (method, cancel) = unsafe { read_params(params) }?;
        let mut lists = Vec::new();
        for choice in choices {
            // SAFETY: by the caller's contract.
            lists.push(unsafe { super::args::tokens(choice.data, choice.len, "a choice") }?);
        }
        let lists: Vec<&[u32]> = lists.iter().map(Vec::as_slice).collect();
        let chosen = session.cancellable(cancel, |session| {
            let mask = session.model().mask_token();
            Ok(score::choose(session, &prompt, &lists, mask, &method)?)
        })?;
        for (i, (score, &probability)) in chosen.scores.iter().zip(&chosen.probabilities).enumerate() {
            if !log_likelihoods.is_null() {
                // SAFETY: the caller's array has `n_choices` elements.
                unsafe { put(score.log_likelihood, log_likelihoods.wrapping_add(i)) };
            }
            if !probabilities.is_null() {
                // SAFETY: as above.
                unsafe { put(probability, probabilities.wrapping_add(i)) };
            }
        }
        // SAFETY: by the caller's contract.
        unsafe { put(chosen.best, out_best) };
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}
