//! The reverse process: from a canvas with masked slots to one without.
//!
//! [`Run`] asks a [`Predictor`] for logits of the slots that may be filled, draws a candidate and a
//! confidence for each, fills the most certain and goes on, block after block. Everything here is pure:
//! no clock, no model. With the settings of the reference (ML-GSAI/LLaDA, `generate.py` at
//! b7e6c35) it gives the reference's tokens at every step.
#![forbid(unsafe_code)]

mod cache;
mod cancel;
mod confidence;
mod draw;
mod exp;
mod guidance;
mod inverse;
mod kept;
mod noise;
mod params;
mod predictor;
mod reduced;
mod report;
mod run;
mod sample;
mod schedule;
mod select;
mod sequence;
mod settle;
mod speed;
mod stop;

pub use cache::{Cache, CacheType, CacheUse, FastDllm, PassShape};
pub use cancel::CancelToken;
pub(crate) use guidance::combine;
pub(crate) use inverse::BLOCK;
pub(crate) use kept::{Cut, Kept};
pub use noise::{CounterNoise, Noise};
pub use params::{Commit, Order, Params};
pub use predictor::{Branch, Predictor, Query};
pub use reduced::{Reduction, RowPeak};
pub use report::{Change, SequenceStep, StepReport};
pub use run::Run;
pub use sample::gumbel_score;
pub(crate) use sample::largest;
pub use schedule::{Block, num_transfer_tokens, plan};
pub use select::{best, entropy_bound, factor, neighbours, threshold};
pub use settle::EarlyCommit;
pub use speed::Speed;
pub use stop::StopRule;
