//! Chat templates: the part of Jinja that they are written in, run with bounded work and memory.
//!
//! As transformers sets Jinja up (`trim_blocks`, `lstrip_blocks`, `utils/chat_template_utils.py`). A template comes with
//! a model file, so that it is not trusted: every step is counted, every byte that is made is paid for before it is
//! made, values have a greatest depth, and nothing reaches files, clock or network. `lex` cuts a template into pieces,
//! `parse` makes them a tree, `run` walks it; `value` has what it computes with, `builtin` and `method` what it can call.
#![forbid(unsafe_code)]

mod builtin;
mod lex;
mod method;
mod parse;
mod run;
mod value;

pub(crate) use parse::{Template, parse};
pub(crate) use run::{FUEL, Input, render};
