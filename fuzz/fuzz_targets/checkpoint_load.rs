//! A file of a trainer's checkpoint. With REMASK_FUZZ_SEEDS the files as they are go to that folder first.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../src/checkpoint.rs"]
mod checkpoint;

fuzz_target!(
    init: {
        if let Some(folder) = std::env::var_os("REMASK_FUZZ_SEEDS") {
            checkpoint::write_seeds(folder.as_ref());
        }
    },
    |bytes: &[u8]| {
        checkpoint::checkpoint_load(bytes);
    }
);
