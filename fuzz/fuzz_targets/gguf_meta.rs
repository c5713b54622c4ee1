//! A GGUF file, to the container's reader.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fuzz::gguf_meta(bytes);
});
