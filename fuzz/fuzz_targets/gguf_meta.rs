//! Bytes to the container's reader. What it accepts must lie inside the file and survive being looked
//! at from every side.
//!
//! The pure modules are compiled in by path, so that a fuzz build needs no ggml and takes seconds.
#![no_main]
#![allow(dead_code, missing_docs, unused_imports)]

#[path = "../../src/error.rs"]
#[macro_use]
mod error;
#[path = "../../src/gguf/mod.rs"]
mod gguf;

use gguf::Gguf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = Gguf::parse(bytes) else { return };
    assert!(file.alignment.is_power_of_two());
    let mut end = file.data_offset;
    for t in &file.tensors {
        assert!(t.offset >= end, "{t:?}");
        end = t.offset + t.n_bytes;
        assert!(end <= bytes.len() as u64, "{t:?}");
        assert_eq!(t.ty.tensor_bytes(t.dims()), Some(t.n_bytes));
        assert_eq!(file.tensor(&t.name), Some(t));
    }
    for (key, value) in file.metadata.iter() {
        // A key is found again, by identity: NaN is not equal to itself.
        assert!(file.metadata.get(key).is_some_and(|found| std::ptr::eq(found, value)));
        let _ = (file.metadata.u64(key), file.metadata.f32(key), file.metadata.str(key));
        let _ = (file.metadata.i32s(key), file.metadata.bool(key));
        if let Ok(Some(strings)) = file.metadata.strings(key) {
            assert_eq!(strings.iter().count(), strings.len());
        }
    }
    let _ = gguf::split_paths(std::path::Path::new("x-00001-of-00002.gguf"), &file.metadata);
});
