//! Loading models, and what they take.

use std::ffi::{c_char, c_void};

use super::cancel::remask_cancel;
use super::error::remask_error;
use super::model::remask_model;
use super::types::{remask_drop_fn, remask_progress_fn, remask_status};

/// Read the file into memory instead of mapping it: safe from later changes of the file.
pub const REMASK_LOAD_READ: u32 = 1 << 0;

/// When weights are checked to be finite numbers.
pub type remask_verify = i32;
/// Once, before the model's first run.
pub const REMASK_VERIFY_FIRST_USE: remask_verify = 0;
/// When the model is loaded.
pub const REMASK_VERIFY_LOAD: remask_verify = 1;
/// Not at all: for files that were checked before.
pub const REMASK_VERIFY_NEVER: remask_verify = 2;

/// How to load a model. Begin with `remask_load_params_init`. All is borrowed for the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_load_params {
    /// Set by `remask_load_params_init`.
    pub struct_size: u32,
    /// Bit set of `REMASK_LOAD_*`.
    pub flags: u32,
    /// One of `REMASK_VERIFY_*`.
    pub verify: remask_verify,
    /// At most so many layers on the device; 0 for as many as fit.
    pub n_gpu_layers: u32,
    /// Name of the device for the layers, as `remask_device_get` gives it, NUL-terminated; "cpu" for the
    /// processor alone; NULL for the GPU with the most free memory, or the processor where there is none.
    pub device: *const c_char,
    /// Path of a `tokenizer.json` to use in place of what the file says, NUL-terminated; NULL for none.
    pub tokenizer_path: *const c_char,
    /// Hears how far it is, in bytes of weights; NULL for none.
    pub on_progress: remask_progress_fn,
    /// Goes to `on_progress` untouched.
    pub user_data: *mut c_void,
    /// Stops the loading when set; NULL for none.
    pub cancel: *const remask_cancel,
}

/// Reads `n` bytes at `offset` into `buffer`. Returns 0, or another number if it cannot.
pub type remask_read_at_fn = Option<
    unsafe extern "C" fn(offset: u64, buffer: *mut c_void, n: usize, user_data: *mut c_void) -> i32,
>;

/// A file behind a callback: an asset of a package, a resource of a bundle. Begin with
/// `remask_reader_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_reader {
    /// Set by `remask_reader_init`.
    pub struct_size: u32,
    /// Bit set, 0 for now.
    pub flags: u32,
    /// Size of the file in bytes.
    pub n_bytes: u64,
    /// Reads a part. Called from the calling thread, during the call only, in rising order.
    pub read_at: remask_read_at_fn,
    /// Goes to `read_at` untouched.
    pub user_data: *mut c_void,
}

/// What running a model takes. Begin with `remask_estimate_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_estimate {
    /// Set by `remask_estimate_init`.
    pub struct_size: u32,
    /// Longest canvas that the model was trained for, in slots.
    pub n_ctx: u32,
    /// Bytes of weights. Mapped from a file, they are the page cache's, shared between processes.
    pub weights: u64,
    /// Bytes that a session computes in, for a canvas of the size asked about.
    pub session: u64,
}

/// Sets `params` to the defaults. Pass `sizeof(remask_load_params)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_load_params_init(params: *mut remask_load_params, struct_size: usize) {}

/// Prepares `reader`. Pass `sizeof(remask_reader)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_reader_init(reader: *mut remask_reader, struct_size: usize) {}

/// Prepares `estimate`. Pass `sizeof(remask_estimate)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_estimate_init(estimate: *mut remask_estimate, struct_size: usize) {}

/// Loads a model file; of a split one the first part, with the others beside it.
///
/// @param path      UTF-8 path; `path_len` bytes, or REMASK_NUL_TERMINATED.
/// @param params    NULL for the defaults.
/// @param out_model Receives an owned handle; free it with `remask_model_free`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_model_load(
    path: *const c_char,
    path_len: usize,
    params: *const remask_load_params,
    out_model: *mut *mut remask_model,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Loads a model from memory that holds a whole GGUF file.
///
/// @param drop      NULL: the bytes are copied, and the caller's may go after the call. Else they are
///                  used where they lie, must not change, and `drop` is called once with `user_data`
///                  when nobody needs them any more, also when the call fails. Bytes that do not begin
///                  at a multiple of 32 are copied in either case.
/// @param params    As for `remask_model_load`; REMASK_LOAD_READ has no meaning here.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_model_load_memory(
    bytes: *const c_void,
    n_bytes: usize,
    drop: remask_drop_fn,
    user_data: *mut c_void,
    params: *const remask_load_params,
    out_model: *mut *mut remask_model,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Loads a model through a callback, into memory. `on_progress` hears of the reading.
///
/// @param params    As for `remask_model_load`; REMASK_LOAD_READ has no meaning here.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_model_load_reader(
    reader: *const remask_reader,
    params: *const remask_load_params,
    out_model: *mut *mut remask_model,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// What the model in a file would take, from the file's header alone.
///
/// @param n_slots   Slots of the canvas, prompt and response together.
/// @param n_masked  Those of them that are to be filled.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_estimate_file(
    path: *const c_char,
    path_len: usize,
    n_slots: usize,
    n_masked: usize,
    out_estimate: *mut remask_estimate,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// As `remask_estimate_file`, for a file in memory.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_estimate_memory(
    bytes: *const c_void,
    n_bytes: usize,
    n_slots: usize,
    n_masked: usize,
    out_estimate: *mut remask_estimate,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// As `remask_estimate_file`, for a model that is loaded.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_estimate_model(
    model: *const remask_model,
    n_slots: usize,
    n_masked: usize,
    out_estimate: *mut remask_estimate,
    error: *mut *mut remask_error,
) -> remask_status {
}
