//! The only face of ggml, and the only module that sees it.
//!
//! ggml checks its arguments with assertions that end the process. So everything here proves shapes,
//! types, sizes and alignments in Rust first, and names the assertion that a check stands in for.
//! The way through: [`devices`] and [`WeightSetBuilder`] put weights into memory, a [`GraphBuilder`]
//! describes a computation over them, an [`Executor`] owns finished graphs and runs them.

#[cfg(all(feature = "dynamic-backends", not(unix)))]
compile_error!("the feature dynamic-backends is for Unix systems");

mod abort;
mod ahead;
mod attend;
mod backend;
mod context;
mod cores;
mod cpu;
mod draw;
mod dtype;
mod finished;
mod graph;
mod joined;
#[cfg(feature = "dynamic-backends")]
mod modules;
mod ops;
mod pace;
mod product;
mod profile;
mod quantize;
mod reduce;
#[cfg(feature = "rpc")]
mod rpc;
#[cfg(not(feature = "rpc"))]
#[path = "without_rpc.rs"]
mod rpc;
mod sched;
mod shim;
mod split;
mod stage;
mod state;
mod tensor;
mod threads;

pub use backend::{Device, DeviceInfo, DeviceKind, devices};
pub use dtype::DType;
pub use graph::{GraphBuilder, Node};
pub use joined::{Axis, MOST_PARTS};
#[cfg(feature = "dynamic-backends")]
pub use modules::load_backends;
pub use ops::Rope;
pub use profile::Part;
pub use quantize::{pack, unpack};
pub use rpc::connect;
#[cfg(feature = "rpc")]
pub use rpc::serve;
pub use sched::{Executor, GraphId, Input, Output};
pub use state::{State, StateSet, StateSetBuilder};
pub use tensor::{AlignedBytes, HOST_ALIGNMENT, StableBytes, Weight, WeightSet, WeightSetBuilder};
pub use threads::{default_threads, max_threads};
