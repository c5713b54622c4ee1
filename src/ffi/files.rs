//! Making model files: converting and quantizing.

use std::ffi::{c_char, c_void};

use super::cancel::remask_cancel;
use super::error::remask_error;
use super::types::{remask_progress_fn, remask_status, remask_text};

/// Replace an output that exists.
pub const REMASK_WRITE_OVERWRITE: u32 = 1 << 0;
/// Take tensors that are quantized already, losing twice.
pub const REMASK_WRITE_REQUANTIZE: u32 = 1 << 1;
/// Leave the mix's rules out: its base type for all matrices.
pub const REMASK_WRITE_PURE: u32 = 1 << 2;

/// How to write a model file. Begin with `remask_write_params_init`. All is borrowed for the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_write_params {
    /// Set by `remask_write_params_init`.
    pub struct_size: u32,
    /// Bit set of `REMASK_WRITE_*`.
    pub flags: u32,
    /// Worker threads; 0 for one per physical core.
    pub n_threads: u32,
    /// 0 for now.
    pub reserved: u32,
    /// Type or mix of the matrices, such as "q4_k_m" or "f16", NUL-terminated; NULL for "f16".
    pub type_name: *const c_char,
    /// Path of an importance matrix, NUL-terminated; NULL for none.
    pub imatrix_path: *const c_char,
    /// Types by tensor name, each `PATTERN=TYPE`; NULL where `n_overrides` is 0.
    pub overrides: *const remask_text,
    /// Their number.
    pub n_overrides: usize,
    /// Name of the model for its metadata, NUL-terminated; NULL for the folder's. For converting only.
    pub name: *const c_char,
    /// Hears how far it is, in bytes written; NULL for none.
    pub on_progress: remask_progress_fn,
    /// Goes to `on_progress` untouched.
    pub user_data: *mut c_void,
    /// Stops the work when set; NULL for none.
    pub cancel: *const remask_cancel,
}

/// Sets `params` to the defaults. Pass `sizeof(remask_write_params)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_write_params_init(params: *mut remask_write_params, struct_size: usize) {}

/// Converts the Hugging Face checkpoint in folder `input` to the GGUF file `output`, which appears whole
/// or not at all.
///
/// @param params    NULL for the defaults.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_convert(
    input: *const c_char,
    input_len: usize,
    output: *const c_char,
    output_len: usize,
    params: *const remask_write_params,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Writes the model file `input` as another type to `output`, which appears whole or not at all.
///
/// @param params    NULL for the defaults.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_quantize(
    input: *const c_char,
    input_len: usize,
    output: *const c_char,
    output_len: usize,
    params: *const remask_write_params,
    error: *mut *mut remask_error,
) -> remask_status {
}
