//! The command `remask-train`, with the engine in Rust alone.
#![deny(unsafe_code)]

/// The system's allocator gives pages back after each step and faults them in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Freed pages are kept: every step needs as many again, and the system would clear each of them first
/// (a fifth of a step).
#[allow(unsafe_code)]
fn keep_pages() {
    /// `mi_option_purge_delay` (mimalloc.h).
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets an option of the allocator by its number, before other threads are there.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}

fn main() -> std::process::ExitCode {
    keep_pages();
    remask_trainer::command::main()
}
