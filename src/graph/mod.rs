//! Parts of networks as functions of weights and inputs. A family (`arch/`) strings them together.
#![forbid(unsafe_code)]

mod attention;
mod cache;
mod inputs;
mod layers;
mod peaks;

pub use attention::{Attention, AttentionKind, attention};
pub use cache::{
    Added, CacheShape, KvCache, most_changed, pick, renew_keys, through_cache, through_features,
};
pub use inputs::{GraphShape, Inputs, PredictorGraph, SquareSums};
pub use layers::{linear, norm, swiglu_ffn};
pub use peaks::{HeadShape, Peaks, finish};
