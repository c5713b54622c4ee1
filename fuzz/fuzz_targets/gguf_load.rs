//! A program of edits to a valid model: refused, or loaded and two steps made.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static VALID: LazyLock<fuzz::Valid> = LazyLock::new(|| fuzz::Valid::from_environment());

fuzz_target!(|bytes: &[u8]| {
    fuzz::gguf_load(&VALID, bytes);
});
