//! Text to tokens and back, and conversations to prompts.
//!
//! Byte-level BPE as the `tokenizers` crate computes it, whose ids a test compares with ours. That crate
//! panics, hangs or over-allocates on some vocabularies that files can hold, and ends the process where
//! memory runs out; here every table is asked for first. Special tokens are matched before words are cut,
//! so that text from a user never becomes one.
#![forbid(unsafe_code)]

mod bpe;
mod bytes;
mod chat;
mod holes;
mod jinja;
mod json;
mod json_write;
mod matcher;
mod pre;
mod spellings;
mod stream;
mod tokenizer;
mod vocab;

pub use chat::{ChatMessage, ChatTemplate, RenderOptions};
pub use holes::{Piece, parse_holes};
pub(crate) use json::check_values;
pub use stream::StreamDecoder;
pub use tokenizer::{Special, Tokenizer};
pub use vocab::{SpecialIds, TokenKind, VocabSpec};
