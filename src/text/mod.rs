//! Text to tokens and back, and conversations to prompts.
//!
//! The algorithms are the `tokenizers` crate's; what reaches it is built here, part by part, from an
//! allow-list: it panics, hangs or over-allocates on some vocabularies that files can hold. Special
//! tokens are matched here and not by the crate, so that text from a user never becomes one.
#![forbid(unsafe_code)]

mod bytes;
mod chat;
mod holes;
mod json;
mod json_write;
mod pre;
mod stream;
mod tokenizer;
mod vocab;

pub use chat::{ChatMessage, ChatTemplate, RenderOptions};
pub use holes::{Piece, parse_holes};
pub use stream::StreamDecoder;
pub use tokenizer::{Special, Tokenizer};
pub use vocab::{SpecialIds, TokenKind, VocabSpec};
