//! A chat template.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static VALID: LazyLock<fuzz::Valid> = LazyLock::new(|| fuzz::Valid::from_environment());
static TOKENIZER: LazyLock<remask::text::Tokenizer> = LazyLock::new(|| fuzz::tokenizer(&VALID));

fuzz_target!(|bytes: &[u8]| {
    fuzz::chat_render(&TOKENIZER, bytes);
});
