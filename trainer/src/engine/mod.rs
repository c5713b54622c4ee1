//! Who computes: the seam between the loop and the libraries that hold tensors.

mod flex;

use remask::{Result, Token};

use crate::objective::Batch;
use crate::optim::{State, Update};
use crate::shape::{Parameter, Shape};

pub use flex::{Device, Flex, peak_flops};

/// What a pass gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pass {
    /// Log-probability of each slot's target, in nats.
    pub log_probs: Vec<f32>,
    /// The mean exponent of tokens under each prediction, where the batch asks for it.
    pub rates: Vec<f32>,
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

    /// Raw logits of `rows` of one canvas, row-major `[rows.len(), vocab_size]`.
    ///
    /// # Errors
    /// As [`Batch::check`].
    fn logits(&mut self, tokens: &[Token], rows: &[u32]) -> Result<Vec<f32>>;

    /// The exponents of keyword-aware masking, one per column of the logits.
    fn set_exponents(&mut self, exponents: Vec<f32>);

    /// Computes blocks again in the backward pass instead of keeping what is inside them: less memory,
    /// about a third more time.
    fn set_recompute(&mut self, recompute: bool);
}
