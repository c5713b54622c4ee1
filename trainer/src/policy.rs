//! Learning from rewards: answers that the network wrote itself, weighed by how good they were
//! (diffu-GRPO: d1, arXiv 2504.12216, section 3).
//!
//! The probability of a token of an answer is estimated in one pass: the whole answer masked, and a random
//! part of the prompt, another in each iteration. With A the reward of an answer less the mean of its
//! group, and rho the ratio of the token's probability to that when the answer was written, the loss is
//!
//! > -(1 / answers) sum over answers of 1/|answer| sum over tokens of
//! > min(rho A, clip(rho, 1 - epsilon, 1 + epsilon) A) - beta KL
//!
//! where KL = r - log r - 1 and r is the reference's probability over the network's.

use rand::Rng;
use remask::Token;
use serde::{Deserialize, Serialize};

use crate::objective::Batch;

/// Settings of learning from rewards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// What an answer is worth.
    pub reward: Reward,
    /// Answers written to each prompt.
    pub group: usize,
    /// Updates from the same answers.
    pub iterations: usize,
    /// How far a ratio may be from 1 before it counts no more.
    pub epsilon: f64,
    /// How much leaving the reference costs; 0 needs no reference.
    pub kl: f64,
    /// Share of the prompt that is masked when probabilities are estimated.
    pub prompt_mask: f64,
    /// Slots of an answer.
    pub tokens: usize,
    /// Temperature at which answers are written.
    pub temperature: f64,
    /// Passes in which an answer is written; 0 is one per slot.
    pub steps: usize,
    /// Slots of a block in which it is written; 0 is one block.
    pub block_length: usize,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            reward: Reward::Exact,
            group: 6,
            iterations: 4,
            epsilon: 0.5,
            kl: 0.04,
            prompt_mask: 0.15,
            tokens: 32,
            temperature: 0.9,
            steps: 0,
            block_length: 0,
        }
    }
}

/// What an answer is worth, compared with the answer in the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reward {
    /// 1 if it is the same, but for white space at its ends.
    #[default]
    Exact,
    /// 1 if its last number is the same.
    Number,
    /// Share of characters that are the same at the same place; 0 for another length.
    Places,
}

impl Reward {
    /// From 0 to 1.
    pub fn of(self, answer: &str, expected: &str) -> f64 {
        let (answer, expected) = (answer.trim(), expected.trim());
        match self {
            Self::Exact => f64::from(u8::from(answer == expected)),
            Self::Number => {
                let (a, b) = (last_number(answer), last_number(expected));
                f64::from(u8::from(a.is_some() && a == b))
            }
            Self::Places => {
                let (a, b): (Vec<char>, Vec<char>) = (answer.chars().collect(), expected.chars().collect());
                match a.len() == b.len() && !b.is_empty() {
                    true => a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / b.len() as f64,
                    false => 0.0,
                }
            }
        }
    }
}

fn last_number(text: &str) -> Option<f64> {
    let plain = text.replace(',', "");
    let mut numbers = plain.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'));
    let parse = |s: &str| s.trim_end_matches('.').parse::<f64>().ok();
    numbers.rfind(|s| parse(s).is_some()).and_then(parse)
}

/// Rewards less the mean of their group.
pub fn advantages(rewards: &[f64]) -> Vec<f64> {
    let mean = rewards.iter().sum::<f64>() / rewards.len().max(1) as f64;
    rewards.iter().map(|r| r - mean).collect()
}

/// The answers to one prompt, noised so that one pass gives the probabilities of all their tokens.
///
/// - prompt: the same for all
/// - answers: what was written, up to the end of the text and with it; cut here to `length`
/// - length: slots of an answer
pub fn batch(
    prompt: &[Token],
    answers: &[Vec<Token>],
    length: usize,
    mask: Token,
    prompt_mask: f64,
    rng: &mut impl Rng,
) -> Batch {
    let whole = prompt.len() + length;
    let mut batch = Batch {
        n_sequences: answers.len(),
        length: whole,
        ..Batch::default()
    };
    for (i, answer) in answers.iter().enumerate() {
        for &token in prompt {
            let hidden = rng.random::<f64>() < prompt_mask;
            batch.tokens.push(if hidden { mask } else { token });
        }
        batch.tokens.extend(std::iter::repeat_n(mask, length));
        for (k, &token) in answer.iter().take(length).enumerate() {
            batch.slots.push((i * whole + prompt.len() + k) as u32);
            batch.targets.push(token);
        }
    }
    batch.weights = vec![0.0; batch.slots.len()];
    batch.n_counted = batch.slots.len();
    batch
}

/// Sets the weights of a batch of [`batch`] to those whose weighted cross entropy has the gradient of the
/// loss, and returns the loss.
///
/// - advantages: one per answer
/// - now, old: log-probabilities of the batch's targets in the network and when the answers were written
/// - reference: those in the reference; empty where there is none
/// - n_answers: answers of all prompts of the update
pub fn weigh(
    batch: &mut Batch,
    config: &PolicyConfig,
    advantages: &[f64],
    [now, old, reference]: [&[f32]; 3],
    n_answers: usize,
) -> f64 {
    let mut lengths = vec![0usize; batch.n_sequences];
    for &slot in &batch.slots {
        lengths[slot as usize / batch.length] += 1;
    }
    let mut loss = 0.0;
    for (i, &slot) in batch.slots.iter().enumerate() {
        let answer = slot as usize / batch.length;
        let share = 1.0 / (n_answers.max(1) * lengths[answer]) as f64;
        let advantage = advantages[answer];
        let ratio = (f64::from(now[i]) - f64::from(old[i])).exp();
        let clipped = ratio.clamp(1.0 - config.epsilon, 1.0 + config.epsilon);
        let (value, mut slope) = match ratio * advantage <= clipped * advantage {
            true => (ratio * advantage, ratio * advantage),
            false => (clipped * advantage, 0.0),
        };
        loss -= share * value;
        if let Some(&reference) = reference.get(i) {
            let log_r = f64::from(reference) - f64::from(now[i]);
            loss += share * config.kl * (log_r.exp() - log_r - 1.0);
            slope -= config.kl * (1.0 - log_r.exp());
        }
        batch.weights[i] = (share * slope) as f32;
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewards_are_what_they_say() {
        assert_eq!(Reward::Exact.of(" 12\n", "12"), 1.0);
        assert_eq!(Reward::Exact.of("12.", "12"), 0.0);
        assert_eq!(Reward::Number.of("so it is 1,200.", "1200"), 1.0);
        assert_eq!(Reward::Number.of("12 apples, no: 13", "12"), 0.0);
        assert_eq!(Reward::Number.of("none", "none"), 0.0);
        assert_eq!(Reward::Places.of("1234", "1243"), 0.5);
        assert_eq!(Reward::Places.of("123", "1243"), 0.0);
        assert_eq!(advantages(&[1.0, 0.0, 0.0, 1.0]), [0.5, -0.5, -0.5, 0.5]);
    }
}
