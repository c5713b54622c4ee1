//! The forward process: how much of each sequence is masked, and which slots.

use rand::Rng;
use serde::{Deserialize, Serialize};

/// How the times of a batch are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Times {
    /// Each sequence its own t ~ U[0, 1), as the authors do.
    #[default]
    Uniform,
    /// One draw, and the others at even distances around the circle: each t is still uniform, but a batch
    /// covers the interval, so that losses vary less (Variational Diffusion Models, arXiv 2107.00630,
    /// appendix I.1).
    Stratified,
    /// Pairs t and 1 - t.
    Antithetic,
}

impl Times {
    /// Times of `n` sequences.
    pub fn draw(self, n: usize, rng: &mut impl Rng) -> Vec<f32> {
        let mut first = || rng.random::<f32>();
        match self {
            Self::Uniform => (0..n).map(|_| first()).collect(),
            Self::Stratified => {
                let u = first();
                (0..n).map(|i| (u + i as f32 / n as f32).fract()).collect()
            }
            Self::Antithetic => {
                let mut times = Vec::with_capacity(n);
                while times.len() < n {
                    let t = first();
                    times.push(t);
                    // 1 - 0 would be outside.
                    times.push((1.0 - t).min(1.0 - f32::EPSILON / 2.0));
                }
                times.truncate(n);
                times
            }
        }
    }
}

/// Probability that a slot is masked at time `t`: `(1 - eps) t + eps` (LLaDA, GUIDELINES.md: pre-training),
/// in f32 as the reference.
pub fn p_mask(t: f32, eps: f32) -> f32 {
    (1.0 - eps) * t + eps
}

/// Which slots of a sequence are masked, given one uniform per slot: those below `p`.
pub fn masked(p: f32, uniforms: &[f32]) -> impl Iterator<Item = usize> + '_ {
    let below = move |(slot, &u): (usize, &f32)| (u < p).then_some(slot);
    uniforms.iter().enumerate().filter_map(below)
}

/// Masking that knows keywords: each token has an exponent g, and its slot is masked with probability
/// t^g. Informative tokens have g > 1 and are masked less, fillers g < 1 and more.
///
/// The bound stays a bound. With rates r_v = g_v / t, the negative log-likelihood is at most the integral
/// over t of the sum over masked slots of
///
/// > r_x (-log m_x) + (sum over v of r_v m_v) - r_x
///
/// where x is the slot's token and m the prediction (arXiv 2406.04329, section 6 and appendix G: masking
/// schedules that depend on the state). With all g = 1 this is the usual loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Keywords {
    /// g of every token.
    pub exponents: Vec<f32>,
}

impl Keywords {
    /// From how often each token occurs: g = exp(strength * z), where z is the token's surprisal
    /// -log2 p, centred and scaled over running text and cut at 2 deviations.
    /// `strength` 0 makes all masking equal.
    pub fn from_counts(counts: &[u64], strength: f64) -> Self {
        let total: f64 = counts.iter().map(|&c| c as f64).sum::<f64>() + counts.len() as f64;
        let surprisal: Vec<f64> = counts
            .iter()
            .map(|&c| -((c as f64 + 1.0) / total).log2())
            .collect();
        let over = |f: &dyn Fn(f64) -> f64| -> f64 {
            let each = counts.iter().zip(&surprisal);
            each.map(|(&c, &s)| (c as f64 + 1.0) / total * f(s)).sum()
        };
        let mean = over(&|s| s);
        let deviation = over(&|s| (s - mean) * (s - mean)).sqrt().max(1e-9);
        let exponent = |s: &f64| (strength * ((s - mean) / deviation).clamp(-2.0, 2.0)).exp() as f32;
        Self {
            exponents: surprisal.iter().map(exponent).collect(),
        }
    }

    /// Exponent of a token; 1 for one that is not in the table.
    pub fn exponent(&self, token: u32) -> f32 {
        self.exponents.get(token as usize).copied().unwrap_or(1.0)
    }
}
