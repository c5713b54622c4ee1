//! How probable a text is: the Monte-Carlo bound of masked-diffusion models.
//!
//! Pure, like the denoiser: everything goes through a [`Predictor`].
#![forbid(unsafe_code)]

mod likelihood;

pub use likelihood::{
    Likelihood, LikelihoodParams, Noised, cross_entropy, likelihood, mask_counts, minibatch_loss,
};

pub(crate) use likelihood::{log_softmax_at, noised};

#[cfg(doc)]
use crate::denoise::Predictor;
