//! Embeddings: what the network made of each slot, before the head.
#![forbid(unsafe_code)]

use crate::canvas::Token;
use crate::error::Result;

use super::Session;

/// How the hidden states of a text become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// One per slot.
    #[default]
    None,
    /// Their mean.
    Mean,
    /// That of the last slot.
    Last,
}

impl Session {
    /// Runs the network once on `tokens` and returns the state after the final norm: row-major
    /// `[n_tokens, n_embd]`, or `[n_embd]` where it is pooled.
    ///
    /// # Errors
    /// As [`logits`](Self::logits); `Numeric`, when a state is not finite.
    pub fn embeddings(&mut self, tokens: &[Token], pooling: Pooling) -> Result<Vec<f32>> {
        self.check_length(tokens.len())?;
        let last = u32::try_from(tokens.len() - 1).unwrap_or(u32::MAX);
        let rows: Vec<u32> = match pooling {
            Pooling::Last => vec![last],
            Pooling::None | Pooling::Mean => (0..=last).collect(),
        };
        let shifted = self.model.sizes().shift_logits;
        let states = self.watched(1, |predictor| match shifted {
            false => predictor.last_states(tokens, &rows),
            // Its rows are those that logits are made of, one to the left.
            true => predictor.hidden_states(tokens).map(|mut all| {
                let states = all.pop().unwrap_or_default();
                let n_embd = states.len() / tokens.len();
                states[states.len() - rows.len() * n_embd..].to_vec()
            }),
        })?;
        if pooling != Pooling::Mean {
            return Ok(states);
        }
        let n_embd = self.model.sizes().n_embd;
        // In f64: the order of the sum then shows in no digit of the result.
        let mut sums = vec![0f64; n_embd];
        for state in states.chunks_exact(n_embd) {
            for (sum, &x) in sums.iter_mut().zip(state) {
                *sum += f64::from(x);
            }
        }
        let n = tokens.len() as f64;
        Ok(sums.into_iter().map(|sum| (sum / n) as f32).collect())
    }
}
