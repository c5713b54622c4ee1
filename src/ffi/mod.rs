//! The C interface: one file per handle, thin translation, nothing else. `include/remask.h` is made from
//! these files (`cargo xtask header`).
//!
//! Rules of the house: handles are opaque; a status comes back and an error object if asked for; option
//! structs carry their size and only grow; nothing unwinds, prints or aborts; a colliding call is busy.
#![allow(non_camel_case_types)] // the names are C's

mod args;
mod callback;
mod cancel;
mod canvas;
mod chat;
mod decoder;
mod device;
mod error;
mod files;
mod generate;
mod guard;
mod load;
mod log;
mod logits;
mod model;
mod run;
mod score;
mod session;
mod sized;
mod tokenizer;
mod types;
mod work;

/// Panics inside a call, for the test that says what becomes of it. Not part of the interface: release
/// builds do not have it.
#[cfg(debug_assertions)]
#[unsafe(no_mangle)]
unsafe extern "C" fn remask_test_panic(error: *mut *mut error::remask_error) -> types::remask_status {
    // SAFETY: by the caller's contract.
    unsafe { guard::call(error, || panic!("a test asked for it")) }
}
