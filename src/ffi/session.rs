//! Sessions.

use super::error::remask_error;
use super::model::remask_model;
use super::types::remask_status;

/// One stream of work on one model: threads, compute buffers, graphs. Does one thing at a time; a
/// colliding call returns `REMASK_STATUS_BUSY` at once.
pub struct remask_session {
    session: (),
}

/// Which attention is used.
pub type remask_flash = i32;
/// Flash attention for canvases of 1024 slots or more.
pub const REMASK_FLASH_AUTO: remask_flash = 0;
/// Always.
pub const REMASK_FLASH_ON: remask_flash = 1;
/// Never.
pub const REMASK_FLASH_OFF: remask_flash = 2;

/// How a session computes. Begin with `remask_session_params_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_session_params {
    /// Set by `remask_session_params_init`.
    pub struct_size: u32,
    /// Threads on the CPU; 0 for one per physical core. More than the machine has are not made.
    pub n_threads: u32,
    /// One of `REMASK_FLASH_*`.
    pub flash: remask_flash,
    /// Longest canvas, in slots; 0 for the length that the model was trained for.
    pub max_canvas: u32,
}

/// What a session has done since it was made. Begin with `remask_session_stats_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_session_stats {
    /// Set by `remask_session_stats_init`.
    pub struct_size: u32,
    /// Threads in use on the CPU.
    pub n_threads: u32,
    /// Bytes of memory that it computes in; 0 before its first run.
    pub n_bytes: u64,
    /// Runs begun.
    pub n_runs: u64,
    /// Steps done in them.
    pub n_steps: u64,
    /// Function evaluations: forward passes of one canvas, in runs, scores, logits and embeddings.
    pub nfe: u64,
    /// Time spent in them, in microseconds.
    pub elapsed_us: u64,
}

/// Sets `params` to the defaults. Pass `sizeof(remask_session_params)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_session_params_init(
    params: *mut remask_session_params,
    struct_size: usize,
) {
}

/// Prepares `stats`. Pass `sizeof(remask_session_stats)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_session_stats_init(stats: *mut remask_session_stats, struct_size: usize) {}

/// Makes a session on `model`, which it keeps alive. Memory to compute in is taken at the first run.
///
/// @param params    NULL for the defaults.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_session_new(
    model: *const remask_model,
    params: *const remask_session_params,
    out_session: *mut *mut remask_session,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Gives a session back; NULL is fine. A run on it stays valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_session_free(session: *mut remask_session) {}

/// What a session has done.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_session_get_stats(
    session: *const remask_session,
    out_stats: *mut remask_session_stats,
    error: *mut *mut remask_error,
) -> remask_status {
}
