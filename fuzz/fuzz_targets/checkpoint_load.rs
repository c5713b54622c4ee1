//! A file of a trainer's checkpoint.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../src/checkpoint.rs"]
mod checkpoint;

fuzz_target!(|bytes: &[u8]| {
    checkpoint::checkpoint_load(bytes);
});
