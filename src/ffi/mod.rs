//! The C interface: one file per handle, thin translation, nothing else. `include/remask.h` is made from
//! these files (`cargo xtask header`).
//!
//! Rules of the house: handles are opaque; a status comes back and an error object if asked for; option
//! structs carry their size and only grow; nothing unwinds, prints or aborts; a colliding call is busy.
#![allow(non_camel_case_types)] // the names are C's

mod cancel;
mod canvas;
mod chat;
mod decoder;
mod device;
mod error;
mod files;
mod generate;
mod load;
mod log;
mod logits;
mod model;
mod run;
mod score;
mod session;
mod tokenizer;
mod types;
