#![doc = include_str!("../README.md")]

mod arch;
pub mod canvas;
pub mod convert;
pub mod denoise;
pub mod device;
pub mod error;
pub mod evaluate;
mod ffi;
mod ggml;
pub mod gguf;
mod graph;
pub mod kernels;
pub mod log;
mod math;
mod model;
pub mod quantize;
pub mod score;
mod session;
pub mod synthetic;
pub mod text;
mod weights;

pub use arch::Sizes;
pub use canvas::{Canvas, Slot, Token};
pub use denoise::{
    Cache, CacheType, CancelToken, Commit, EarlyCommit, FastDllm, Order, Params, Speed, StepReport,
};
pub use error::{Error, ErrorKind, Result};
pub use ggml::{Part, default_threads, max_threads};
pub use model::{LoadOptions, Model, ModelFile, Verify};
pub use session::{
    Flash, GenerateParams, Generation, Pooling, Session, SessionOptions, SessionStats, Summary,
};
pub use weights::{LoadProgress, Residence};
