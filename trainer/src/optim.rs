//! AdamW, learning-rate schedules, gradient clipping, and the average of weights.

use rayon::prelude::*;
use remask::Result;
use serde::{Deserialize, Serialize};

use crate::shape::{Parameter, invalid};

/// Settings of the optimiser. The defaults are SMDM's and, for what it shares, LLaDA's (arXiv
/// 2502.09992, section 2.2 and appendix B.1); decay applies to every parameter, as there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamW {
    /// Highest learning rate.
    pub lr: f64,
    /// Decay of the averages of gradients and of their squares.
    pub betas: [f64; 2],
    /// Added to the root of the second.
    pub eps: f64,
    /// Share of each weight that is taken away at learning rate 1.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; 0 is no limit.
    pub grad_clip: f64,
    /// How the learning rate goes.
    pub schedule: Schedule,
    /// Updates over which it rises from 0.
    pub warmup: u64,
    /// Share of all updates in which `wsd` falls.
    pub decay: f64,
    /// Lowest rate at the end, as a share of `lr`.
    pub min_lr: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            lr: 4e-4,
            betas: [0.9, 0.95],
            eps: 1e-8,
            weight_decay: 0.1,
            grad_clip: 1.0,
            schedule: Schedule::Wsd,
            warmup: 100,
            decay: 0.2,
            min_lr: 0.1,
        }
    }
}

/// How the learning rate goes after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It stays, then falls linearly: warm-up, stable, decay.
    Wsd,
    /// It falls along half a cosine.
    Cosine,
}

impl AdamW {
    /// # Errors
    /// `InvalidArgument`, naming the key.
    pub fn check(&self) -> Result<()> {
        let wrong = |key: &str, value: f64, range: &str| {
            Err(invalid(format!("optimizer.{key} is {value}; it must be {range}")))
        };
        if !(self.lr.is_finite() && self.lr > 0.0) {
            return wrong("lr", self.lr, "above 0");
        }
        for beta in self.betas {
            if !(0.0..1.0).contains(&beta) {
                return wrong("betas", beta, "0 to below 1");
            }
        }
        if !(self.eps.is_finite() && self.eps > 0.0) {
            return wrong("eps", self.eps, "above 0");
        }
        for (key, value) in [("weight_decay", self.weight_decay), ("grad_clip", self.grad_clip)] {
            if !(value.is_finite() && value >= 0.0) {
                return wrong(key, value, "0 or more");
            }
        }
        for (key, value) in [("decay", self.decay), ("min_lr", self.min_lr)] {
            if !(0.0..=1.0).contains(&value) {
                return wrong(key, value, "0 to 1");
            }
        }
        Ok(())
    }

    /// The learning rate of update `step` (from 0) of `total`.
    pub fn lr_at(&self, step: u64, total: u64) -> f64 {
        if step < self.warmup {
            return self.lr * (step + 1) as f64 / self.warmup as f64;
        }
        let low = self.lr * self.min_lr;
        match self.schedule {
            Schedule::Constant => self.lr,
            Schedule::Wsd => self.falling(step, self.fall_from(total), total),
            Schedule::Cosine => {
                let cosine = (std::f64::consts::PI * share(step, self.warmup, total)).cos();
                low + (self.lr - low) * 0.5 * (1.0 + cosine)
            }
        }
    }

    /// The update of `total` at which `wsd` begins to fall.
    pub fn fall_from(&self, total: u64) -> u64 {
        let from = ((total as f64) * (1.0 - self.decay)).round() as u64;
        from.max(self.warmup)
    }

    /// The learning rate of update `step` where it falls linearly from update `from` to `to`.
    pub fn falling(&self, step: u64, from: u64, to: u64) -> f64 {
        let low = self.lr * self.min_lr;
        self.lr + (low - self.lr) * share(step, from, to)
    }
}

/// How far `step` is on the way.
fn share(step: u64, from: u64, to: u64) -> f64 {
    let span = to.saturating_sub(from).max(1) as f64;
    (step.saturating_sub(from) as f64 / span).min(1.0)
}

/// One update.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The settings.
    pub adamw: AdamW,
    /// Learning rate now.
    pub lr: f64,
    /// Updates done, this one included (1 for the first).
    pub step: u64,
    /// Decay of the average of weights; 0 keeps none.
    pub ema: f64,
}

/// A parameter's values and what the optimiser remembers of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The weights.
    pub values: Vec<f32>,
    /// Average of gradients; empty before the first update.
    pub first: Vec<f32>,
    /// Average of their squares.
    pub second: Vec<f32>,
    /// Average of weights; empty where none is kept.
    pub average: Vec<f32>,
}

/// The norm of all gradients together.
pub fn norm(gradients: &[Vec<f32>]) -> f64 {
    let squares = |g: &Vec<f32>| -> f64 {
        // In order within a chunk and over chunks, whatever the number of threads.
        let parts = g
            .par_chunks(1 << 16)
            .map(|c| c.iter().map(|&x| f64::from(x) * f64::from(x)).sum());
        parts.collect::<Vec<f64>>().iter().sum()
    };
    gradients.iter().map(squares).sum::<f64>().sqrt()
}

/// Values at a time, for one core.
const CHUNK: usize = 1 << 14;

impl State {
    /// Whether `states` are those of `parameters`.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the parameter.
    pub fn check(states: &[State], parameters: &[Parameter]) -> Result<()> {
        if states.len() != parameters.len() {
            return Err(invalid(format!(
                "{} parameters were given for a network of {}",
                states.len(),
                parameters.len()
            )));
        }
        for (p, s) in parameters.iter().zip(states) {
            let others = [&s.first, &s.second, &s.average];
            if s.values.len() != p.len() || others.iter().any(|m| !m.is_empty() && m.len() != p.len()) {
                return Err(invalid(format!(
                    "{} has {} values, not {}",
                    p.name,
                    s.values.len(),
                    p.len()
                )));
            }
        }
        Ok(())
    }

    /// Updates the values with AdamW (arXiv 1711.05101, algorithm 2, as PyTorch orders it).
    ///
    /// - scale: what gradients are multiplied with first (clipping)
    pub fn update(&mut self, gradient: &[f32], scale: f32, u: &Update) {
        let n = self.values.len();
        self.first.resize(n, 0.0);
        self.second.resize(n, 0.0);
        let [b1, b2] = u.adamw.betas;
        let step = i32::try_from(u.step).unwrap_or(i32::MAX);
        let keep = (1.0 - u.lr * u.adamw.weight_decay) as f32;
        let rate = (u.lr / (1.0 - b1.powi(step))) as f32;
        let root = (1.0 - b2.powi(step)).sqrt() as f32;
        let (c1, c2, eps) = ((1.0 - b1) as f32, (1.0 - b2) as f32, u.adamw.eps as f32);
        let (b1, b2) = (b1 as f32, b2 as f32);
        let moments = self
            .first
            .par_chunks_mut(CHUNK)
            .zip(self.second.par_chunks_mut(CHUNK));
        let values = self.values.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK));
        values.zip(moments).for_each(|((x, g), (m, v))| {
            for (((x, &g), m), v) in x.iter_mut().zip(g).zip(m).zip(v) {
                let g = g * scale;
                *m = b1 * *m + c1 * g;
                *v = b2 * *v + c2 * g * g;
                *x = *x * keep - rate * *m / (v.sqrt() / root + eps);
            }
        });
        if u.ema > 0.0 {
            let decay = average_decay(u.ema, u.step) as f32;
            if self.average.len() != n {
                self.average = self.values.clone();
            }
            let pairs = self
                .average
                .par_chunks_mut(CHUNK)
                .zip(self.values.par_chunks(CHUNK));
            pairs.for_each(|(a, x)| {
                for (a, &x) in a.iter_mut().zip(x) {
                    *a += (1.0 - decay) * (x - *a);
                }
            });
        }
    }
}

/// Decay of the average of weights after update `step`: young averages follow faster, so that the first
/// weights are soon forgotten.
pub fn average_decay(ema: f64, step: u64) -> f64 {
    ema.min((1.0 + step as f64) / (10.0 + step as f64))
}

/// What gradients of norm `norm` are multiplied with so that the norm is at most `limit`
/// (`torch.nn.utils.clip_grad_norm_`).
pub fn clip(norm: f64, limit: f64) -> f32 {
    match limit > 0.0 {
        true => (limit / (norm + 1e-6)).min(1.0) as f32,
        false => 1.0,
    }
}
