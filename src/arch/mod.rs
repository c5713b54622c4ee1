//! Families of mask predictors: one file each, chosen by `general.architecture`.
#![forbid(unsafe_code)]

mod keys;
mod llada;

use crate::error::Result;
use crate::gguf::Gguf;
use crate::graph::{GraphShape, KvCache, PredictorGraph};
use crate::weights::{TensorRule, Weights};

/// What the rest of the library asks of a family.
pub trait Arch: Send + Sync {
    /// Sizes common to all families.
    fn sizes(&self) -> &Sizes;
    /// The tensors it needs and may have.
    fn tensors(&self) -> Vec<TensorRule>;
    /// The mask predictor as a graph, on `cache` where the shape has one.
    ///
    /// # Errors
    /// `Resource`; `Internal`, when weights and shape do not fit: both were checked before.
    fn build(&self, weights: &Weights, shape: &GraphShape, cache: Option<&KvCache>)
    -> Result<PredictorGraph>;
}

/// Sizes that every family has.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizes {
    /// The family's name in files.
    pub arch: &'static str,
    /// Longest canvas the model was trained for, in tokens.
    pub n_ctx: usize,
    /// Size of a token's hidden state.
    pub n_embd: usize,
    /// Layers.
    pub n_layer: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads.
    pub n_head_kv: usize,
    /// Size of a head.
    pub n_rot: usize,
    /// Hidden size of the feed-forward network.
    pub n_ff: usize,
    /// Rows of the embedding table and columns of the logits.
    pub n_vocab: usize,
    /// Whether the logits of a slot are found one slot to the left.
    pub shift_logits: bool,
}

type Open = fn(&Gguf) -> Result<Box<dyn Arch>>;

/// The registry: one line per family.
const FAMILIES: &[(&str, Open)] = &[("llada", llada::open)];

/// The family of `gguf`, its hyper-parameters read and checked.
///
/// # Errors
/// `Unsupported`, for another architecture; `Model` or `Format`, naming the key that is absent, of a
/// wrong type or out of range.
pub fn open(gguf: &Gguf) -> Result<Box<dyn Arch>> {
    let Some(name) = gguf.metadata.str("general.architecture")? else {
        crate::bail!(
            Model,
            "key general.architecture is absent; this is not a model file"
        );
    };
    match FAMILIES.iter().find(|(family, _)| *family == name) {
        Some((_, open)) => open(gguf),
        None => crate::bail!(
            Unsupported,
            "architecture `{}` is not one of: {}",
            name.chars().take(64).collect::<String>(),
            FAMILIES
                .iter()
                .map(|(family, _)| *family)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}
