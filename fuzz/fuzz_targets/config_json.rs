//! A `config.json` over a valid checkpoint.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static VALID: LazyLock<fuzz::Valid> = LazyLock::new(|| fuzz::Valid::from_environment());

fuzz_target!(|bytes: &[u8]| {
    fuzz::config_json(&VALID, bytes);
});
