//! Any bytes as text, through a fixed tokenizer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static VALID: LazyLock<fuzz::Valid> = LazyLock::new(|| fuzz::Valid::from_environment());
static TOKENIZER: LazyLock<remask::text::Tokenizer> = LazyLock::new(|| fuzz::tokenizer(&VALID));

fuzz_target!(|bytes: &[u8]| {
    fuzz::tokenizer_roundtrip(&TOKENIZER, bytes);
});
