//! Who computes: the seam between the loop and the libraries that hold tensors.

#[cfg(feature = "flex")]
mod flex;

use std::sync::Mutex;

use remask::Result;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::objective::Batch;
use crate::optim::{State, Update};
use crate::shape::{Parameter, Shape, invalid};

#[cfg(feature = "flex")]
pub use flex::{Device, Flex};

/// Makes an engine by a configuration, with the first weights of its seed.
pub type Open = fn(&Config) -> Result<Box<dyn Engine>>;

/// Engines of other crates, by name.
static OTHERS: Mutex<Vec<(&'static str, Open)>> = Mutex::new(Vec::new());

/// Makes an engine of another crate known: `run.engine = "name"` then asks for it.
pub fn register(name: &'static str, open: Open) {
    OTHERS
        .lock()
        .unwrap_or_else(|e| e.into_inner())
        .push((name, open));
}

fn engines() -> Vec<(&'static str, Open)> {
    let mut all: Vec<(&'static str, Open)> = Vec::new();
    #[cfg(feature = "flex")]
    all.push(("flex", flex::open));
    all.extend(OTHERS.lock().unwrap_or_else(|e| e.into_inner()).iter());
    all
}

/// The engine that a run asks for, with the first weights of its seed.
///
/// # Errors
/// `InvalidArgument`, for an engine or device that this build does not have; what the engine reports.
pub fn open(config: &Config) -> Result<Box<dyn Engine>> {
    let (wanted, all) = (config.run.engine.as_str(), engines());
    let found = all.iter().find(|(name, _)| wanted.is_empty() || *name == wanted);
    let Some((_, open)) = found else {
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        return Err(invalid(format!(
            "run.engine is `{wanted}`; this build has {}",
            names.join(", ")
        )));
    };
    let mut engine = open(config)?;
    engine.set_recompute(config.run.recompute);
    Ok(engine)
}

/// What products are computed in. Weights, sums of gradients and the optimiser are f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the exponents of f32: about twice as fast where the device has units for it.
    Bf16,
}

/// What a pass gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pass {
    /// Log-probability of each slot's target, in nats.
    pub log_probs: Vec<f32>,
    /// The mean exponent of tokens under each prediction, where the batch asks for it.
    pub rates: Vec<f32>,
}

/// One of several processes that train together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// This one, from 0.
    pub rank: usize,
    /// All of them.
    pub n: usize,
}

impl Default for Ranks {
    fn default() -> Self {
        Self { rank: 0, n: 1 }
    }
}

impl Ranks {
    /// Whether part `i` is this process's.
    pub fn owns(self, i: usize) -> bool {
        i % self.n == self.rank
    }
}

/// What an update gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Updated {
    /// Norm of the gradients before clipping.
    pub grad_norm: f64,
}

/// A network with its gradients and its optimiser's state.
pub trait Engine {
    /// The network's sizes.
    fn shape(&self) -> &Shape;

    /// What is learned, in the order of gradients and state: [`Shape::parameters`], or adapters.
    fn parameters(&self) -> Vec<Parameter>;

    /// The network's weights, in the order of [`Shape::parameters`].
    fn weights(&self) -> Vec<Vec<f32>>;

    /// Replaces them, and forgets gradients and the optimiser's state of what they replace.
    ///
    /// # Errors
    /// `InvalidArgument`, where sizes differ.
    fn set_weights(&mut self, weights: Vec<Vec<f32>>) -> Result<()>;

    /// Runs the network without gradients.
    ///
    /// # Errors
    /// As [`Batch::check`].
    fn evaluate(&mut self, batch: &Batch) -> Result<Pass>;

    /// Runs the network and adds the gradients of the batch's loss to those that are there.
    ///
    /// # Errors
    /// As [`Batch::check`].
    fn accumulate(&mut self, batch: &Batch) -> Result<Pass>;

    /// Updates the weights with the gradients, and forgets the gradients. Weights stay as they are if a
    /// gradient is no number.
    ///
    /// # Errors
    /// `Numeric`, naming the parameter whose gradient is no number.
    fn update(&mut self, update: &Update) -> Result<Updated>;

    /// Gradients that were added up, by parameter; empty before the first pass.
    fn gradients(&self) -> Vec<Vec<f32>>;

    /// What is learned and the optimiser's state.
    fn state(&self) -> Vec<State>;

    /// Replaces them.
    ///
    /// # Errors
    /// `InvalidArgument`, where sizes differ.
    fn set_state(&mut self, state: Vec<State>) -> Result<()>;

    /// Raw logits of the batch's slots, row-major `[slots.len(), vocab_size]` ([`Batch::look`]).
    ///
    /// # Errors
    /// As [`Batch::check`].
    fn logits(&mut self, batch: &Batch) -> Result<Vec<f32>>;

    /// The exponents of keyword-aware masking, one per column of the logits.
    fn set_exponents(&mut self, exponents: Vec<f32>);

    /// Computes blocks again in the backward pass instead of keeping what is inside them: less memory,
    /// about a third more time.
    fn set_recompute(&mut self, recompute: bool);

    /// Floating-point operations a second of a large matrix product, in the precision of the run.
    fn peak_flops(&mut self) -> f64;

    /// Which process of how many this is; each of them computes its part of a batch, and updates add the
    /// gradients of all.
    fn ranks(&self) -> Ranks {
        Ranks::default()
    }

    /// Adds up `values` over all processes.
    ///
    /// # Errors
    /// `Device`, when a process is gone.
    fn sum(&mut self, values: &mut [f64]) -> Result<()> {
        let _ = values;
        Ok(())
    }
}
