//! Losses as data: which slots are masked, and how much each prediction counts.
//!
//! Every loss here is a weighted sum of cross entropies at some slots, so an engine needs to know only
//! one: `sum over rows of weight * CE(logits[slot], target)`. Preference and policy losses are, too, once
//! the log-probabilities of a first pass are known: their gradient is that of such a sum.

use rand::Rng;
use remask::{Result, Token};

use crate::noise::{Keywords, Times, masked, p_mask};
use crate::shape::invalid;

/// What may look at what.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Attention {
    /// Everything at everything: a mask predictor.
    #[default]
    Full,
    /// Each slot at itself and what is before it.
    Causal,
    /// Slots at those with the same number: documents packed into one sequence. One number per slot.
    Documents(Vec<u32>),
    /// Row-major `[length, length]`, from the slot that looks (slow) to the slot seen (fast), the same
    /// for all sequences.
    Table(Vec<bool>),
}

/// One forward and backward pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Sequences.
    pub n_sequences: usize,
    /// Slots of each.
    pub length: usize,
    /// What the network sees: row-major `[n_sequences, length]`.
    pub tokens: Vec<Token>,
    /// Where logits are needed: indices into `tokens`.
    pub slots: Vec<u32>,
    /// The token that each of them should predict.
    pub targets: Vec<Token>,
    /// How much each of them counts.
    pub weights: Vec<f32>,
    /// For keyword-aware masking: what the sum over tokens of exponent times probability counts at each
    /// slot; empty otherwise.
    pub rate_weights: Vec<f32>,
    /// What may look at what.
    pub attention: Attention,
    /// A part of the loss that does not depend on the network.
    pub constant: f64,
    /// Tokens that the loss is an average over.
    pub n_counted: usize,
}

impl Batch {
    /// Sequences of `length` slots of which only the logits of some slots are wanted.
    pub fn look(length: usize, tokens: Vec<Token>, slots: Vec<u32>) -> Self {
        Self {
            n_sequences: tokens.len() / length.max(1),
            length,
            targets: vec![0; slots.len()],
            weights: vec![0.0; slots.len()],
            tokens,
            slots,
            ..Self::default()
        }
    }

    /// The loss from the log-probabilities of its targets (and, for keyword-aware masking, the mean
    /// exponent under each prediction).
    pub fn loss(&self, log_probs: &[f32], rates: &[f32]) -> f64 {
        let weighted = |w: &[f32], x: &[f32]| -> f64 {
            let each = w.iter().zip(x);
            each.map(|(&w, &x)| f64::from(w) * f64::from(x)).sum()
        };
        -weighted(&self.weights, log_probs) + weighted(&self.rate_weights, rates) + self.constant
    }

    /// Splits it into parts of at most `n` sequences. Weights stay as they are: the losses add up.
    pub fn split(&self, n: usize) -> Vec<Batch> {
        let n = n.max(1);
        let parts = (0..self.n_sequences).step_by(n).map(|begin| {
            let end = (begin + n).min(self.n_sequences);
            let slots = begin * self.length..end * self.length;
            let inside = |s: u32| slots.contains(&(s as usize));
            let kept: Vec<usize> = (0..self.slots.len()).filter(|&i| inside(self.slots[i])).collect();
            let pick = |values: &[f32]| -> Vec<f32> {
                kept.iter().filter_map(|&i| values.get(i).copied()).collect()
            };
            Batch {
                n_sequences: end - begin,
                length: self.length,
                tokens: self.tokens[slots.clone()].to_vec(),
                slots: kept.iter().map(|&i| self.slots[i] - slots.start as u32).collect(),
                targets: kept.iter().map(|&i| self.targets[i]).collect(),
                weights: pick(&self.weights),
                rate_weights: pick(&self.rate_weights),
                attention: match &self.attention {
                    Attention::Documents(all) => Attention::Documents(all[slots.clone()].to_vec()),
                    other => other.clone(),
                },
                constant: if begin == 0 { self.constant } else { 0.0 },
                n_counted: if begin == 0 { self.n_counted } else { 0 },
            }
        });
        parts.collect()
    }

    /// Adapts it to a network whose logits predict the next token, as an autoregressive one's do: the
    /// prediction for a slot is read one slot before it. The first slot's is its own (as Dream's).
    pub fn shift(&mut self) {
        for slot in &mut self.slots {
            if !(*slot as usize).is_multiple_of(self.length) {
                *slot -= 1;
            }
        }
    }
}

/// A sequence to learn: tokens, and where its answer begins (0: all of it is learned).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// Tokens; for a pair, prompt and response with the end of the text.
    pub tokens: Vec<Token>,
    /// Tokens of the prompt, which are never masked.
    pub n_prompt: usize,
}

/// Settings of the diffusion losses.
#[derive(Clone, Debug, PartialEq)]
pub struct Diffusion {
    /// The mask.
    pub mask: Token,
    /// Least probability that a slot is masked. Default 1e-3.
    pub eps: f32,
    /// How times are drawn.
    pub times: Times,
}

/// Uniform numbers in [0, 1), `n` of them.
pub fn uniforms(n: usize, rng: &mut impl Rng) -> Vec<f32> {
    (0..n).map(|_| rng.random()).collect()
}

/// Pre-training (LLaDA, GUIDELINES.md): the sum over masked slots of CE / p, divided by all slots.
///
/// - tokens: row-major `[times.len(), length]`
/// - uniforms: one per token
pub fn pretrain(tokens: &[Token], length: usize, d: &Diffusion, times: &[f32], uniforms: &[f32]) -> Batch {
    let mut batch = Batch {
        n_sequences: times.len(),
        length,
        tokens: tokens.to_vec(),
        n_counted: tokens.len(),
        ..Batch::default()
    };
    for (i, &t) in times.iter().enumerate() {
        let p = p_mask(t, d.eps);
        let weight = (1.0 / f64::from(p) / tokens.len() as f64) as f32;
        for slot in masked(p, &uniforms[i * length..(i + 1) * length]) {
            batch.mask(i * length + slot, d.mask, weight);
        }
    }
    batch
}

/// Pre-training where informative tokens are masked less ([`Keywords`]).
pub fn pretrain_keywords(
    tokens: &[Token],
    length: usize,
    d: &Diffusion,
    keywords: &Keywords,
    times: &[f32],
    uniforms: &[f32],
) -> Batch {
    let mut batch = Batch {
        n_sequences: times.len(),
        length,
        tokens: tokens.to_vec(),
        n_counted: tokens.len(),
        ..Batch::default()
    };
    for (i, &t) in times.iter().enumerate() {
        // The rates grow without bound towards 0, where nearly nothing is masked.
        let t = p_mask(t, d.eps);
        let scale = 1.0 / f64::from(t) / tokens.len() as f64;
        for slot in i * length..(i + 1) * length {
            let g = keywords.exponent(tokens[slot]);
            if uniforms[slot] < t.powf(g) {
                batch.mask(slot, d.mask, (f64::from(g) * scale) as f32);
                batch.rate_weights.push(scale as f32);
                batch.constant -= f64::from(g) * scale;
            }
        }
    }
    batch
}

/// Fine-tuning (LLaDA, GUIDELINES.md): only answers are masked; each sequence's sum of CE / p is divided
/// by the length of its own answer, and the batch's by its sequences. Answers reach to the end of their
/// sequences: the padding with ends of text is part of them.
///
/// - examples: all of one length, padded
/// - uniforms: one per token, prompts included
///
/// As in the reference a mask token that stands in an answer counts as masked.
pub fn sft(examples: &[Example], d: &Diffusion, times: &[f32], uniforms: &[f32]) -> Batch {
    let length = examples.iter().map(|e| e.tokens.len()).max().unwrap_or(0);
    let mut batch = Batch {
        n_sequences: examples.len(),
        length,
        tokens: examples.iter().flat_map(|e| e.tokens.iter().copied()).collect(),
        ..Batch::default()
    };
    for (i, (example, &t)) in examples.iter().zip(times).enumerate() {
        let p = p_mask(t, d.eps);
        let answer = length - example.n_prompt;
        batch.n_counted += answer;
        let weight = (1.0 / f64::from(p) / answer.max(1) as f64 / examples.len() as f64) as f32;
        for slot in example.n_prompt..length {
            let at = i * length + slot;
            if uniforms[at] < p || batch.tokens[at] == d.mask {
                batch.mask(at, d.mask, weight);
            }
        }
    }
    batch
}

/// The autoregressive twin: each slot predicts the next token; only answers count. The mean over all
/// predicted tokens.
pub fn causal(examples: &[Example]) -> Batch {
    let length = examples.iter().map(|e| e.tokens.len()).max().unwrap_or(0);
    let mut batch = Batch {
        n_sequences: examples.len(),
        length,
        tokens: examples.iter().flat_map(|e| e.tokens.iter().copied()).collect(),
        attention: Attention::Causal,
        ..Batch::default()
    };
    for (i, example) in examples.iter().enumerate() {
        for slot in example.n_prompt.max(1)..length {
            batch.slots.push((i * length + slot - 1) as u32);
            batch.targets.push(example.tokens[slot]);
        }
    }
    batch.n_counted = batch.slots.len();
    batch.weights = vec![1.0 / batch.slots.len().max(1) as f32; batch.slots.len()];
    batch
}

impl Batch {
    fn mask(&mut self, slot: usize, mask: Token, weight: f32) {
        self.slots.push(slot as u32);
        self.targets.push(self.tokens[slot]);
        self.tokens[slot] = mask;
        self.weights.push(weight);
    }

    /// Checks what an engine relies on.
    ///
    /// # Errors
    /// `InvalidArgument`, naming what does not fit.
    pub fn check(&self, n_vocab: usize) -> Result<()> {
        let n = self.n_sequences * self.length;
        if n == 0 || self.tokens.len() != n {
            return Err(invalid(format!(
                "a batch of {} sequences of {} slots has {} tokens",
                self.n_sequences,
                self.length,
                self.tokens.len()
            )));
        }
        if self.targets.len() != self.slots.len() || self.weights.len() != self.slots.len() {
            return Err(invalid(
                "a batch has as many targets and weights as slots".to_owned(),
            ));
        }
        if !self.rate_weights.is_empty() && self.rate_weights.len() != self.slots.len() {
            return Err(invalid("a batch has no rates or as many as slots".to_owned()));
        }
        if let Some(&slot) = self.slots.iter().find(|&&s| s as usize >= n) {
            return Err(invalid(format!("slot {slot} is outside a batch of {n}")));
        }
        let mut tokens = self.tokens.iter().chain(&self.targets);
        if let Some(token) = tokens.find(|&&t| t as usize >= n_vocab) {
            return Err(invalid(format!(
                "token {token} is outside the vocabulary of {n_vocab}; is the data of another tokenizer?"
            )));
        }
        let fits = match &self.attention {
            Attention::Documents(numbers) => numbers.len() == n,
            Attention::Table(table) => table.len() == self.length * self.length,
            _ => true,
        };
        if !fits {
            return Err(invalid("what may look at what does not fit the batch".to_owned()));
        }
        Ok(())
    }
}
