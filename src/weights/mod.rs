//! From tensors in a file to weights in some device's memory.
//!
//! [`FileBytes`] holds a file, mapped or read; [`Weights::load`] checks a family's tensor table against
//! what the file lists and puts each tensor where it is to live: the mapped bytes themselves where the
//! device takes them, a copy where it does not or where the file is not aligned.

mod files;
mod load;
mod map;
mod table;
mod verify;

pub use files::GgufFiles;
pub use load::{LoadProgress, Placement, Weights};
pub use map::{FileBytes, LentBytes, OwnedBytes, Residence};
pub(crate) use map::{READ_AT_ONCE, read_exact_at};
pub use table::{Cut, Parts, Role, TensorRule};
pub(crate) use table::{Found, resolve};
pub(crate) use verify::first_not_finite;
