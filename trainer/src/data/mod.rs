//! From texts to shards of tokens, and from shards to batches.

mod loader;
#[cfg(feature = "parquet")]
mod parquet;
mod prepare;
mod shard;
mod texts;
mod tokenizer;

pub use loader::{Loader, Position, Unit};
pub use prepare::{Encoder, Manifest, PrepareOptions, Prepared, ShardInfo, prepare};
pub use shard::{Shard, ShardWriter};
pub use texts::{Document, Texts, Turn};
pub use tokenizer::{SpecialIds, train_tokenizer};
