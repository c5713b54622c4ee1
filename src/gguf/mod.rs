//! GGUF, the container: typed metadata, then tensors at aligned offsets.
//!
//! Pure and safe. [`Gguf::parse`] works on the bytes of a whole (mapped) file, touches the header only,
//! allocates in proportion to what the file really holds, and refuses everything that is not exactly
//! as the format demands, naming the key, tensor or offset. [`Writer`] streams a new file and renames
//! it into place. The format is llama.cpp's (`ggml/include/gguf.h`), version 3; 2 is read too.
#![forbid(unsafe_code)]

mod limits;
mod metadata;
mod read;
mod split;
mod tensor;
mod value;
mod write;

pub use metadata::Metadata;
pub use read::Gguf;
pub use split::split_paths;
pub use tensor::{TensorInfo, TensorType};
pub use value::{Array, StringArray, Value};
pub use write::{TensorSpec, Writer};
