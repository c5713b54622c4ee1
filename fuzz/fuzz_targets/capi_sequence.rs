//! Calls of the C interface in any order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static BEGIN: LazyLock<fuzz::capi::Begin> =
    LazyLock::new(|| fuzz::capi::Begin::new(&fuzz::Valid::from_environment().gguf));

fuzz_target!(|bytes: &[u8]| {
    fuzz::capi::capi_sequence(&BEGIN, bytes);
});
