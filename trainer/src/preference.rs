//! Preference tuning: answers that somebody chose over others (VRPO: LLaDA 1.5, arXiv 2505.19223).
//!
//! In DPO's loss the bound's estimate B stands for the log-likelihood that a mask predictor does not have:
//!
//! > -log sigmoid(beta ((B(chosen) - B_ref(chosen)) - (B(rejected) - B_ref(rejected))))
//!
//! The estimate enters a curve, so its variance is a bias. Three things keep it small (section 3.2): many
//! times of one mask each rather than many masks of one time, the same times and masks for the network and
//! its reference, and here also times at even distances.

use rand::Rng;
use remask::Token;
use serde::{Deserialize, Serialize};

use crate::objective::{Batch, Diffusion, Example, sft, uniforms};

/// Settings of preference tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PreferenceConfig {
    /// How closely the network stays with its reference: more is closer.
    pub beta: f64,
    /// Times drawn for each answer.
    pub samples: usize,
    /// How much the usual fine-tuning loss of the chosen answer counts beside it.
    pub sft: f64,
}

impl Default for PreferenceConfig {
    fn default() -> Self {
        Self {
            beta: 0.2,
            samples: 8,
            sft: 0.0,
        }
    }
}

/// A pair without the padding that both have: what they share there says nothing about either, but its
/// masks make the estimates vary.
pub fn trimmed(pair: &[Example; 2], eos: Token) -> [Example; 2] {
    // With one end of text.
    let end = |e: &Example| {
        let kept = e.tokens.iter().rposition(|&t| t != eos).map_or(0, |i| i + 1);
        (kept.max(e.n_prompt) + 1).min(e.tokens.len())
    };
    let length = end(&pair[0]).max(end(&pair[1]));
    let cut = |e: &Example| Example {
        tokens: e.tokens[..length.min(e.tokens.len())].to_vec(),
        n_prompt: e.n_prompt,
    };
    [cut(&pair[0]), cut(&pair[1])]
}

/// Masks every answer `samples` times. Each slot's weight is what its log-probability counts in B.
///
/// - examples: chosen and rejected in turn, all of one length
pub fn noise(examples: &[Example], d: &Diffusion, samples: usize, rng: &mut impl Rng) -> Batch {
    let length = examples.first().map_or(0, |e| e.tokens.len());
    let copies: Vec<Example> = examples
        .iter()
        .flat_map(|e| std::iter::repeat_n(e.clone(), samples))
        .collect();
    let times: Vec<f32> = examples.iter().flat_map(|_| d.times.draw(samples, rng)).collect();
    let mut batch = sft(&copies, d, &times, &uniforms(copies.len() * length, rng));
    // Fine-tuning divides by sequences and by the answer's length; B is a sum over the answer.
    for (slot, weight) in batch.slots.iter().zip(&mut batch.weights) {
        let copy = &copies[*slot as usize / length.max(1)];
        let answer = length - copy.n_prompt;
        *weight *= (copies.len() * answer) as f32 / samples as f32;
    }
    batch
}

/// The estimates of B for the two answers of a pair, in nats.
///
/// - pair: `2 * samples` sequences of a batch of [`noise`]
/// - log_probs: those of its targets
pub fn bounds(pair: &Batch, samples: usize, log_probs: &[f32]) -> [f64; 2] {
    let mut sums = [0.0; 2];
    for ((&slot, &weight), &log_prob) in pair.slots.iter().zip(&pair.weights).zip(log_probs) {
        sums[side(pair, samples, slot)] += f64::from(weight) * f64::from(log_prob);
    }
    sums
}

/// 0 for the chosen answer, 1 for the rejected.
fn side(pair: &Batch, samples: usize, slot: u32) -> usize {
    usize::from(slot as usize / pair.length >= samples)
}

/// Turns the weights of a pair into those whose weighted cross entropy has the gradient of the loss.
///
/// - pair: `2 * samples` sequences of a batch of [`noise`]
/// - n_answer: slots of the chosen answer
/// - policy, reference: log-probabilities of the pair's targets
/// - n_pairs: those of the whole update, over which the loss is a mean
///
/// Returns the pair's part of the loss, in nats, and how much the chosen answer gained on the rejected,
/// measured against the reference and multiplied with beta.
pub fn weigh(
    pair: &mut Batch,
    n_answer: usize,
    config: &PreferenceConfig,
    policy: &[f32],
    reference: &[f32],
    n_pairs: usize,
) -> (f64, f64) {
    let ours = bounds(pair, config.samples, policy);
    let theirs = bounds(pair, config.samples, reference);
    let z = config.beta * ((ours[0] - theirs[0]) - (ours[1] - theirs[1]));
    let n = n_pairs.max(1) as f64;
    let pull = config.beta / (1.0 + z.exp()) / n;
    let beside = config.sft / n_answer.max(1) as f64 / n;
    for i in 0..pair.slots.len() {
        let factor = match side(pair, config.samples, pair.slots[i]) {
            0 => pull + beside,
            _ => -pull,
        };
        pair.weights[i] = (f64::from(pair.weights[i]) * factor) as f32;
    }
    // log(1 + e^-z), without overflow.
    let softplus = (-z).max(0.0) + (-z.abs()).exp().ln_1p();
    (softplus / n - beside * ours[0], z)
}
