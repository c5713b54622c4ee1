//! Bounds on what a file may declare. Real models stay far below; a file beyond them is refused with
//! `Limit` before anything is allocated for it.
#![forbid(unsafe_code)]

/// Key-value pairs.
pub const MAX_KV: u64 = 65_536;
/// Tensors.
pub const MAX_TENSORS: u64 = 65_536;
/// Bytes of a key.
pub const MAX_KEY: u64 = 65_535;
/// Bytes of a string.
pub const MAX_STRING: u64 = 16 << 20;
/// Elements of an array.
pub const MAX_ARRAY: u64 = 16 << 20;
/// Bytes that all metadata may take in memory.
pub const MAX_METADATA: u64 = 256 << 20;
/// Bytes of a tensor's name, one less than ggml's field.
pub const MAX_NAME: u64 = 63;
/// Dimensions of a tensor.
pub const MAX_DIMS: u32 = 4;
/// Alignment of tensor data.
pub const MAX_ALIGNMENT: u64 = 65_536;
/// Alignment where the file does not say.
pub const DEFAULT_ALIGNMENT: u64 = 32;
/// Parts of a split model.
pub const MAX_SPLITS: u16 = 1024;
