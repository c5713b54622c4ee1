//! The bound on held-out text.

use std::ops::ControlFlow;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use remask::Result;

use super::{Event, Run};
use crate::config::Kind;
use crate::objective::{Example, causal, pretrain, sft, uniforms};

impl Run {
    /// The bound on held-out sequences, always the same with the same noise: nats per token and its
    /// standard error over sequences. With an average of weights, that one's.
    ///
    /// # Errors
    /// What data and engine report.
    pub fn bound(&mut self) -> Result<Option<(f64, f64)>> {
        let Some(loader) = &mut self.eval else {
            return Ok(None);
        };
        let examples = loader.first(self.config.run.eval_sequences)?;
        let swapped = self.config.run.ema > 0.0;
        if swapped {
            self.swap_average()?;
        }
        let mut values = Vec::new();
        let mut failed = None;
        for (i, example) in examples.iter().enumerate() {
            match self.loss_of(example, i) {
                Ok(loss) => values.push(loss),
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        if swapped {
            self.swap_average()?;
        }
        if let Some(e) = failed {
            return Err(e);
        }
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        Ok(Some((mean, (variance / n).sqrt())))
    }

    /// One sequence's loss, averaged over four times that cover the interval.
    fn loss_of(&mut self, example: &Example, number: usize) -> Result<f64> {
        const DRAWS: usize = 4;
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        rng.set_stream(number as u64);
        let length = example.tokens.len();
        let d = self.diffusion();
        if self.config.objective.kind == Kind::Causal {
            let batch = causal(std::slice::from_ref(example));
            let pass = self.engine.evaluate(&batch)?;
            return Ok(batch.loss(&pass.log_probs, &pass.rates));
        }
        let times = crate::noise::Times::Stratified.draw(DRAWS, &mut rng);
        let u = uniforms(DRAWS * length, &mut rng);
        let copies = vec![example.clone(); DRAWS];
        let mut batch = match self.config.objective.kind {
            Kind::Sft | Kind::Preference | Kind::Policy => sft(&copies, &d, &times, &u),
            _ => {
                let flat: Vec<_> = copies.iter().flat_map(|e| e.tokens.iter().copied()).collect();
                pretrain(&flat, length, &d, &times, &u)
            }
        };
        if self.config.objective.shift {
            batch.shift();
        }
        let pass = self.engine.evaluate(&batch)?;
        Ok(batch.loss(&pass.log_probs, &pass.rates))
    }

    pub(super) fn swap_average(&mut self) -> Result<()> {
        let mut state = self.engine.state();
        for s in &mut state {
            if s.average.len() == s.values.len() {
                std::mem::swap(&mut s.values, &mut s.average);
            }
        }
        self.engine.set_state(state)
    }

    pub(super) fn evaluate(&mut self, tell: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) -> Result<()> {
        let Some((bound, error)) = self.bound()? else {
            return Ok(());
        };
        let step = self.progress.step;
        let bytes = self
            .eval
            .as_ref()
            .and_then(|e| e.manifests().first())
            .map_or(1.0, |m| m.bytes_per_token());
        let bits_per_byte = bound / std::f64::consts::LN_2 / bytes.max(1e-9);
        self.metrics.evaluation(step, bound, error, bits_per_byte)?;
        self.progress.bound = Some(bound);
        if self.progress.best.is_none_or(|(best, _)| bound < best) {
            self.progress.best = Some((bound, step));
            self.progress.stale = 0;
        } else {
            self.progress.stale += 1;
        }
        let _ = tell(Event::Evaluated {
            step,
            bound,
            error,
            bits_per_byte,
        });
        Ok(())
    }
}
