//! Pseudo-likelihood: each token of an answer given all others (Salazar et al., arXiv 1910.14659).
#![forbid(unsafe_code)]

use std::ops::Range;

use super::likelihood::log_softmax_at;
use super::{Likelihood, check_answer};
use crate::canvas::Token;
use crate::denoise::{Branch, Predictor, Query};
use crate::error::Result;

/// The sum over `tokens[answer]` of the log-probability of each token with only that token masked.
///
/// One pass per token and no sampling: exact, so `standard_error` is 0. It is no likelihood, since the
/// factors do not make a distribution, but it ranks well.
///
/// # Errors
/// `InvalidArgument`, when the answer is empty or outside; what the predictor reports.
pub fn pseudo_likelihood(
    predictor: &mut dyn Predictor,
    tokens: &[Token],
    answer: Range<usize>,
    mask: Token,
) -> Result<Likelihood> {
    check_answer(tokens, &answer)?;
    let mut canvas = tokens.to_vec();
    let mut logits = Vec::new();
    let mut sum = 0.0;
    for slot in answer.clone() {
        canvas[slot] = mask;
        let query = Query {
            sequence: 0,
            branch: Branch::Conditional,
            tokens: &canvas,
            rows: &[slot as u32],
            cache: crate::denoise::CacheUse::Off,
        };
        predictor.predict(&[query], &mut logits)?;
        sum += log_softmax_at(&logits, tokens[slot]);
        canvas[slot] = tokens[slot];
    }
    Ok(Likelihood {
        log_likelihood: sum,
        standard_error: 0.0,
        n_tokens: answer.len(),
        nfe: answer.len() as u64,
    })
}
