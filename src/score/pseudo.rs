//! Pseudo-likelihood: each token of an answer given all others (Salazar et al., arXiv 1910.14659).
#![forbid(unsafe_code)]

use std::ops::Range;

use super::likelihood::{log_softmax_at, n_at_once};
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
    let slots: Vec<u32> = answer.clone().map(|slot| slot as u32).collect();
    let mut logits = Vec::new();
    let mut sum = 0.0;
    for now in slots.chunks(n_at_once(slots.iter().map(|_| 1))) {
        let canvases: Vec<Vec<Token>> = now
            .iter()
            .map(|&slot| {
                let mut canvas = tokens.to_vec();
                canvas[slot as usize] = mask;
                canvas
            })
            .collect();
        let query = |(sequence, canvas)| Query {
            sequence,
            branch: Branch::Conditional,
            tokens: canvas,
            rows: std::slice::from_ref(&now[sequence]),
            cache: crate::denoise::CacheUse::Off,
        };
        let queries: Vec<Query<'_>> = canvases
            .iter()
            .map(Vec::as_slice)
            .enumerate()
            .map(query)
            .collect();
        predictor.predict(&queries, &mut logits)?;
        for (row, &slot) in logits.chunks_exact(predictor.n_vocab().max(1)).zip(now) {
            sum += log_softmax_at(row, tokens[slot as usize]);
        }
    }
    Ok(Likelihood {
        log_likelihood: sum,
        standard_error: 0.0,
        n_tokens: answer.len(),
        nfe: answer.len() as u64,
    })
}
