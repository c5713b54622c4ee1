//! The likelihood bound by sampling masks (LLaDA, equation 6 and appendix B.5; `get_log_likelihood.py`).
#![forbid(unsafe_code)]

use std::ops::Range;

use crate::canvas::Token;
use crate::denoise::{Branch, CacheUse, CounterNoise, Noise, Predictor, Query};
use crate::error::Result;

/// How many answer tokens each row of a minibatch masks: from `first` (1 to `len`) on in even steps
/// around the circle, so that the ratios of a minibatch cover the interval. The arithmetic is the
/// reference's: f32 steps, rounding half to even.
pub fn mask_counts(len: usize, n_rows: usize, first: usize) -> Vec<usize> {
    let (len, n_rows) = (len.max(1), n_rows.max(1));
    let begin = first as f32;
    let end = (first as f64 + (n_rows - 1) as f64 * (len as f64 / n_rows as f64)) as f32;
    let step = match n_rows {
        1 => 0.0,
        n => (end - begin) / (n - 1) as f32,
    };
    let at = |i: usize| {
        // As torch.linspace: from both ends to the middle.
        let x = match i < n_rows / 2 {
            true => begin + step * i as f32,
            false => end - step * (n_rows - 1 - i) as f32,
        };
        (x.round_ties_even() as usize + len - 1) % len + 1
    };
    match n_rows {
        1 => vec![(first + len - 1) % len + 1],
        n => (0..n).map(at).collect(),
    }
}

/// A canvas after the forward process: some slots masked.
#[derive(Clone, Debug, PartialEq)]
pub struct Noised {
    /// Token of every slot.
    pub tokens: Vec<Token>,
    /// The slots that were masked, ascending.
    pub masked: Vec<u32>,
    /// Their tokens.
    pub targets: Vec<Token>,
    /// The share of the answer that is masked.
    pub p_mask: f64,
}

/// Masks `count` slots of `answer`, drawn with `noise` for (`step`, `sequence`).
pub(crate) fn noised(
    tokens: &[Token],
    answer: Range<usize>,
    count: usize,
    mask: Token,
    noise: &CounterNoise,
    step: usize,
) -> Noised {
    let mut order: Vec<usize> = answer.clone().collect();
    // Equal draws keep their order, which is as random as any.
    order.sort_by(|&a, &b| noise.order(step, 0, a).total_cmp(&noise.order(step, 0, b)));
    order.truncate(count);
    order.sort_unstable();
    let mut noisy = tokens.to_vec();
    for &slot in &order {
        noisy[slot] = mask;
    }
    Noised {
        targets: order.iter().map(|&slot| tokens[slot]).collect(),
        p_mask: count as f64 / answer.len().max(1) as f64,
        masked: order.into_iter().map(|slot| slot as u32).collect(),
        tokens: noisy,
    }
}

/// `log(softmax(row))` at `token`, in f64.
pub(crate) fn log_softmax_at(row: &[f32], token: Token) -> f64 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&x| f64::from(x - max).exp()).sum();
    let at = row.get(token as usize).copied().unwrap_or(f32::NAN);
    f64::from(at - max) - sum.ln()
}

/// The sum of the targets' negative log probabilities.
/// - logits: row-major `[targets.len(), n_vocab]`
pub fn cross_entropy(logits: &[f32], targets: &[Token]) -> f64 {
    let n_vocab = logits.len() / targets.len().max(1);
    let rows = logits.chunks_exact(n_vocab.max(1)).zip(targets);
    rows.map(|(row, &token)| -log_softmax_at(row, token)).sum()
}

/// How to estimate.
#[derive(Clone, Debug, PartialEq)]
pub struct LikelihoodParams {
    /// Masked canvases in all; the reference's default is 128.
    pub samples: usize,
    /// Of them, how many share one draw and cover the mask ratios evenly.
    pub batch: usize,
    /// Classifier-free guidance; 0 is off.
    pub guidance: f64,
    /// Seed of the masks.
    pub seed: u64,
}

impl Default for LikelihoodParams {
    fn default() -> Self {
        Self {
            samples: 128,
            batch: 16,
            guidance: 0.0,
            seed: 0,
        }
    }
}

/// An estimate of a lower bound of the log-likelihood.
#[derive(Clone, Debug, PartialEq)]
pub struct Likelihood {
    /// In nats, over the whole answer.
    pub log_likelihood: f64,
    /// Of the estimate, between minibatches; NaN for a single one.
    pub standard_error: f64,
    /// Tokens of the answer.
    pub n_tokens: usize,
    /// Function evaluations.
    pub nfe: u64,
}

/// The loss of one minibatch: sums of cross entropy over p, averaged over its rows.
///
/// `prompt` is masked in the second canvas where `guidance` is not 0.
///
/// # Errors
/// What the predictor reports.
pub fn minibatch_loss(
    predictor: &mut dyn Predictor,
    rows: &[Noised],
    prompt: Range<usize>,
    mask: Token,
    guidance: f64,
) -> Result<f64> {
    let n_vocab = predictor.n_vocab();
    let (mut loss, mut logits) = (0.0, Vec::new());
    let mut rest = rows;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(n_at_once(rest.iter().map(|r| r.masked.len())));
        rest = later;
        let mut without: Vec<Vec<Token>> = Vec::new();
        if guidance != 0.0 {
            without.extend(now.iter().map(|row| row.tokens.clone()));
            for slots in without.iter_mut().filter_map(|t| t.get_mut(prompt.clone())) {
                slots.fill(mask);
            }
        }
        let query = |sequence, branch, tokens, rows| Query {
            sequence,
            branch,
            tokens,
            rows,
            cache: CacheUse::Off,
        };
        let given = now.iter().enumerate();
        let given = given.map(|(i, row)| query(i, Branch::Conditional, &row.tokens[..], &row.masked[..]));
        let hidden = now.iter().zip(&without).enumerate();
        let hidden = hidden.map(|(i, (row, t))| query(i, Branch::Unconditional, &t[..], &row.masked[..]));
        let queries: Vec<Query<'_>> = given.chain(hidden).collect();
        predictor.predict(&queries, &mut logits)?;
        let n_rows: usize = now.iter().map(|row| row.masked.len()).sum();
        let n = (n_rows * n_vocab).min(logits.len());
        let (mut given, hidden) = logits.split_at_mut(n);
        if guidance != 0.0 {
            crate::denoise::combine(given, hidden, guidance);
        }
        for row in now {
            let n = (row.masked.len() * n_vocab).min(given.len());
            let (mine, others) = given.split_at_mut(n);
            loss += cross_entropy(mine, &row.targets) / row.p_mask;
            given = others;
        }
    }
    Ok(loss / rows.len().max(1) as f64)
}

/// How many canvases to look at in one call, at least one: as many as 128 rows of logits hold.
/// - rows: how many each asks for
pub(super) fn n_at_once(rows: impl Iterator<Item = usize>) -> usize {
    let mut sum = 0;
    let fits = rows.take_while(|n| {
        sum += n;
        sum <= 128
    });
    fits.take(32).count().max(1)
}

/// Estimates the bound for `tokens[answer]`, given what comes before (and after) it.
///
/// Single-token answers need one sample: it is exact.
///
/// # Errors
/// `InvalidArgument`, when the answer is empty or outside, or a count is 0; what the predictor reports.
pub fn likelihood(
    predictor: &mut dyn Predictor,
    tokens: &[Token],
    answer: Range<usize>,
    mask: Token,
    params: &LikelihoodParams,
) -> Result<Likelihood> {
    super::check_answer(tokens, &answer)?;
    if params.samples == 0 || params.batch == 0 || params.batch > params.samples {
        crate::bail!(
            InvalidArgument,
            "batch is {} and samples {}; both are above 0, and samples not below batch",
            params.batch,
            params.samples
        );
    }
    let len = answer.len();
    let (batch, n) = match len {
        1 => (1, 1),
        _ => (params.batch, params.samples / params.batch),
    };
    let noise = CounterNoise::new(vec![params.seed], predictor.n_vocab());
    let mut losses = Vec::new();
    for i in 0..n {
        // A stream apart from those of the rows, which begin at 0.
        let first = 1 + (f64::from(noise.order(usize::MAX / 4, 0, i)) * len as f64) as usize;
        let counts = mask_counts(len, batch, first.min(len));
        let rows = counts
            .iter()
            .enumerate()
            .map(|(row, &count)| noised(tokens, answer.clone(), count, mask, &noise, i * batch + row));
        let rows: Vec<_> = rows.collect();
        losses.push(minibatch_loss(
            predictor,
            &rows,
            0..answer.start,
            mask,
            params.guidance,
        )?);
    }
    let mean = losses.iter().sum::<f64>() / n as f64;
    let variance = losses.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n as f64 - 1.0);
    let passes = if params.guidance == 0.0 { 1 } else { 2 };
    Ok(Likelihood {
        log_likelihood: -mean,
        standard_error: (variance / n as f64).sqrt(),
        n_tokens: len,
        nfe: (n * batch * passes) as u64,
    })
}
