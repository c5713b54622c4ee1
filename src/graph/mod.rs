//! Parts of networks as functions of weights and inputs. A family (`arch/`) strings them together.
#![forbid(unsafe_code)]

mod attention;
mod cache;
mod inputs;
mod layers;
mod peaks;

pub use attention::{AttentionKind, attention, slots_of};
pub use cache::{
    Added, CacheShape, KvCache, keep, keep_feature, most_changed, pick, renew_keys, seen, through_features,
};
pub use inputs::{GraphShape, Inputs, PartShape, PredictorGraph, SquareSums};
pub use layers::{linear, norm, swiglu_ffn};
pub use peaks::{DrawShape, HeadShape, Leading, Peaks, finish};
