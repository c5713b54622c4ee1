//! How probable a text is: the Monte-Carlo bound of masked-diffusion models, the pseudo-likelihood, and
//! choices between continuations.
//!
//! Pure, like the denoiser: everything goes through a [`Predictor`].
#![forbid(unsafe_code)]

mod choices;
mod likelihood;
mod pseudo;

pub use choices::{Choices, Method, choose};
pub use likelihood::{
    Likelihood, LikelihoodParams, Noised, cross_entropy, likelihood, mask_counts, minibatch_loss,
};
pub use pseudo::pseudo_likelihood;

pub(crate) use likelihood::{log_softmax_at, noised};

use std::ops::Range;

use crate::canvas::Token;
use crate::error::Result;

fn check_answer(tokens: &[Token], answer: &Range<usize>) -> Result<()> {
    if answer.is_empty() || answer.end > tokens.len() {
        crate::bail!(
            InvalidArgument,
            "the answer {answer:?} is empty or not inside {} tokens",
            tokens.len()
        );
    }
    Ok(())
}

#[cfg(doc)]
use crate::denoise::Predictor;
