//! Models against texts: importance matrices, and what a smaller file costs.
#![forbid(unsafe_code)]

mod compare;
mod data;
mod imatrix;
mod sample;

pub use compare::{CompareParams, Comparison, Estimate, RatioRow, compare};
pub use data::{Dataset, Record};
pub use imatrix::{ImatrixParams, collect_imatrix};
pub use sample::{Sample, samples};
