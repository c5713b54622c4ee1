//! From the logits of one slot to a candidate token.
#![forbid(unsafe_code)]

use super::inverse;
use super::kept::{Cut, Kept};
use super::noise::Noise;
use super::params::Params;
use crate::canvas::Token;
use crate::error::Result;

/// What a row of logits looks like, in one pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Peak {
    /// The first column with the largest logit.
    pub token: usize,
    /// That logit.
    pub logit: f32,
}

/// The first largest logit.
///
/// # Errors
/// `Numeric`, when a logit is NaN or +Inf, or all are -Inf, naming the slot.
pub(super) fn peak(row: &[f32], slot: usize) -> Result<Peak> {
    // Lanes keep the loop free of dependencies, so that it vectorises; a NaN turns the sum into NaN.
    const LANES: usize = 16;
    let mut largest = [f32::NEG_INFINITY; LANES];
    let mut poison = [0f32; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for i in 0..LANES {
            let x = chunk[i];
            largest[i] = if x > largest[i] { x } else { largest[i] };
            // 0 for every number, the infinities too; NaN for NaN.
            poison[i] += if x.is_nan() { x } else { 0.0 };
        }
    }
    let mut logit = largest.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut bad = poison.iter().sum::<f32>().is_nan();
    for &x in rest {
        bad |= x.is_nan();
        logit = logit.max(x);
    }
    if bad || !logit.is_finite() {
        let found = row.iter().position(|x| x.is_nan() || *x == f32::INFINITY);
        match found {
            Some(token) => crate::bail!(
                Numeric,
                "the logit of token {token} at slot {slot} is not finite; the weights may hold NaN or Inf (check with verify)"
            ),
            None => crate::bail!(Numeric, "all tokens are excluded at slot {slot}"),
        }
    }
    let token = row.iter().position(|&x| x == logit).unwrap_or(0);
    Ok(Peak { token, logit })
}

/// Draws the candidate of one slot.
///
/// Above temperature 0 it has the law softmax(logits / T). Where the noise has numbers for the slot, it is
/// drawn by the inverse of the cumulative distribution, over the kept tokens in their order where top-k or
/// top-p leave some out. Else by Gumbel-max, as the reference does (arXiv 2409.02908 asks for f64): the
/// candidate is the argmax of `exp(logit) / (-ln u)^T`.
///
/// # Errors
/// `Resource`.
pub(super) fn candidate(
    row: &[f32],
    peak: Peak,
    params: &Params,
    scratch: &mut Scratch,
    draws: Draws<'_>,
) -> Result<Token> {
    if params.temperature == 0.0 {
        return Ok(peak.token as Token);
    }
    let temperature = params.temperature;
    let uniform = draws.slot();
    let Some(cut) = Cut::of(params.top_k, params.top_p, temperature) else {
        let token = match uniform {
            Some(u) => inverse::column(row, peak.logit, temperature, u, &mut scratch.sums),
            None => of_all(row, peak, temperature, draws),
        };
        return Ok(token as Token);
    };
    scratch.kept.cut_row(row, peak.logit, &cut)?;
    if let Some([u, _]) = uniform {
        let drawn = scratch.kept.draw(peak.logit, u, &cut);
        return Ok(drawn.map_or(peak.token as Token, |(token, _)| token));
    }
    let mut best = Best::at(peak.token);
    for (token, logit) in scratch.kept.tokens() {
        let token = token as usize;
        best.consider(token, logit, temperature, draws.one(token));
    }
    Ok(best.token as Token)
}

/// The token with the best score so far; of equal ones the first.
struct Best {
    score: f64,
    token: usize,
}

impl Best {
    fn at(token: usize) -> Self {
        Self {
            score: f64::NEG_INFINITY,
            token,
        }
    }

    fn consider(&mut self, token: usize, logit: f32, temperature: f64, u: f64) {
        let score = gumbel_score(logit, temperature, u);
        if score > self.score || score == self.score && token < self.token {
            *self = Self { score, token };
        }
    }
}

/// The best of all tokens. A score takes two logarithms. So blocks of tokens are looked at in whole: none
/// has a better score than the block's largest logit with its largest uniform number, and few blocks come
/// that near to the best.
fn of_all(row: &[f32], peak: Peak, temperature: f64, draws: Draws<'_>) -> usize {
    const BLOCK: usize = 256;
    // More than what rounding can make of a bound.
    const SLACK: f64 = 1e-9;
    let mut best = Best::at(peak.token);
    let mut uniform = [0.0; BLOCK];
    let n_blocks = row.len().div_ceil(BLOCK);
    // The block of the peak first: most others then end at their bound.
    let first = peak.token / BLOCK;
    for block in std::iter::once(first).chain((0..n_blocks).filter(|b| *b != first)) {
        let begin = block * BLOCK;
        let logits = &row[begin..(begin + BLOCK).min(row.len())];
        let uniform = &mut uniform[..logits.len()];
        draws.fill(begin, uniform);
        let logit = largest(logits);
        let u = uniform.iter().copied().fold(0.0, f64::max);
        let bound = gumbel_score(logit, temperature, u);
        if bound < best.score - SLACK * (1.0 + bound.abs() + temperature) {
            continue;
        }
        for (i, (&logit, &u)) in logits.iter().zip(uniform.iter()).enumerate() {
            best.consider(begin + i, logit, temperature, u);
        }
    }
    best.token
}

/// The largest of `row`; minus infinity when there is none. In lanes, so that it vectorises.
pub(crate) fn largest(row: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut largest = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for i in 0..LANES {
            largest[i] = if chunk[i] > largest[i] {
                chunk[i]
            } else {
                largest[i]
            };
        }
    }
    let all = largest.iter().chain(rest).copied();
    all.fold(f32::NEG_INFINITY, f32::max)
}

/// Logarithm of the reference's score `exp(logit) / (-ln u)^temperature`: the same order, without its
/// overflow above logits of 709. `u` of 0 gives minus infinity, as the reference's score is then 0.
pub fn gumbel_score(logit: f32, temperature: f64, u: f64) -> f64 {
    f64::from(logit) - temperature * (-u.ln()).ln()
}

/// Buffers of draws, reused.
#[derive(Default)]
pub(super) struct Scratch {
    /// What top-k and top-p leave.
    kept: Kept,
    /// Sums of blocks.
    sums: Vec<f64>,
}

/// Changes a row as the options ask, before anything is drawn from it: suppressed tokens, the end
/// token, repetition. In this order; confidences see the changed logits.
pub(super) fn adjust(row: &mut [f32], params: &Params, on_canvas: &[Token]) {
    if params.repetition_penalty != 1.0 {
        let penalty = params.repetition_penalty as f32;
        for &token in on_canvas {
            if let Some(x) = row.get_mut(token as usize) {
                *x = if *x > 0.0 { *x / penalty } else { *x * penalty };
            }
        }
    }
    let end = params.eos.filter(|_| params.logits_eos_inf);
    for &token in params.suppress.iter().chain(end.as_ref()) {
        if let Some(x) = row.get_mut(token as usize) {
            *x = f32::NEG_INFINITY;
        }
    }
}

/// The uniform numbers of one slot.
#[derive(Clone, Copy)]
pub(super) struct Draws<'a> {
    pub noise: &'a dyn Noise,
    pub step: usize,
    pub sequence: usize,
    pub slot: usize,
}

impl Draws<'_> {
    /// Those of the slot, where it has them.
    fn slot(&self) -> Option<[f64; 2]> {
        self.noise.slot(self.step, self.sequence, self.slot)
    }

    fn one(&self, token: usize) -> f64 {
        self.noise.gumbel(self.step, self.sequence, self.slot, token)
    }

    /// Those of tokens `first ..`.
    fn fill(&self, first: usize, out: &mut [f64]) {
        let at = [self.step, self.sequence, self.slot, first];
        self.noise.gumbel_row(at, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::noise::CounterNoise;
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_first_of_equal_logits_wins() {
        let mut row = vec![0f32; 100];
        row[37] = 2.0;
        row[90] = 2.0;
        assert_eq!(
            peak(&row, 0).unwrap(),
            Peak {
                token: 37,
                logit: 2.0
            }
        );
    }

    #[test]
    fn logits_that_are_not_numbers_are_named() {
        for (at, bad) in [(3, f32::NAN), (40, f32::NAN), (99, f32::NAN), (5, f32::INFINITY)] {
            let mut row = vec![1f32; 100];
            row[at] = bad;
            let error = peak(&row, 7).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Numeric);
            assert!(
                error.message().contains(&format!("token {at} at slot 7")),
                "{error}"
            );
        }
        let mut row = vec![f32::NEG_INFINITY; 50];
        assert!(peak(&row, 0).is_err());
        row[20] = -3.0;
        assert_eq!(peak(&row, 0).unwrap().token, 20);
    }

    #[test]
    fn the_best_of_all_is_the_best_one_by_one() {
        let noise = CounterNoise::new(vec![3], 5000);
        for (spread, n) in [(0.0f32, 5000), (1e-3, 4097), (1e-2, 300), (0.5, 5000), (5.0, 256)] {
            for slot in 0..20 {
                let logit = |i: usize| ((i * 7919 + slot * 31) % 4999) as f32 * spread * 1e-2;
                let mut row: Vec<f32> = (0..n).map(logit).collect();
                row[n / 3] = f32::NEG_INFINITY;
                let draws = Draws {
                    noise: &noise,
                    step: 1,
                    sequence: 0,
                    slot,
                };
                for temperature in [1e-3, 0.2, 1.0, 7.0, 1e6] {
                    let mut best = Best::at(0);
                    for (token, &logit) in row.iter().enumerate() {
                        best.consider(token, logit, temperature, draws.one(token));
                    }
                    let found = of_all(&row, peak(&row, slot).unwrap(), temperature, draws);
                    assert_eq!(found, best.token, "{spread} {n} {slot} {temperature}");
                }
            }
        }
    }
}
