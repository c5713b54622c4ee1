//! Making model files: converting and quantizing.

use std::ffi::{c_char, c_void};
use std::path::Path;
use std::sync::Arc;

use super::args::{array, flags, option_text, text};
use super::callback::Watch;
use super::cancel::remask_cancel;
use super::error::remask_error;
use super::guard::{Outcome, call, invalid};
use super::sized::{self, sized};
use super::types::{remask_progress_fn, remask_status, remask_text};
use crate::convert::{self, ConvertOptions};
use crate::quantize::{self, Imatrix, Mix, Policy, QuantizeOptions, TypeOverride};

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

sized!(remask_write_params, |zero| zero);

/// The caller's options, translated.
struct Write {
    policy: Policy,
    n_threads: usize,
    overwrite: bool,
    requantize: bool,
    name: Option<String>,
    watch: Watch,
}

impl Write {
    /// # Safety
    /// `params` is NULL or prepared by `remask_write_params_init`, and what it points at is readable.
    unsafe fn read(params: *const remask_write_params) -> Outcome<Self> {
        // SAFETY: by this function's contract.
        let p = unsafe { sized::read(params) }?;
        let known = REMASK_WRITE_OVERWRITE | REMASK_WRITE_REQUANTIZE | REMASK_WRITE_PURE;
        flags(p.flags, known, "flags")?;
        if p.reserved != 0 {
            return Err(invalid(format!("reserved is {}; it must be 0", p.reserved)));
        }
        // SAFETY: by this function's contract.
        let mix = match unsafe { option_text(p.type_name, "type_name") }? {
            None => Mix::F16,
            Some(name) => Mix::from_name(name)
                .ok_or_else(|| invalid(format!("type_name is `{name}`; q4_k_m is one that is known")))?,
        };
        let mut overrides = Vec::new();
        // SAFETY: by this function's contract.
        for item in unsafe { array(p.overrides, p.n_overrides, "overrides") }? {
            // SAFETY: by this function's contract.
            let item = unsafe { text(item.data, item.len, "an override") }?;
            overrides.push(TypeOverride::parse(item)?);
        }
        // SAFETY: by this function's contract.
        let imatrix = unsafe { option_text(p.imatrix_path, "imatrix_path") }?;
        let importance = match imatrix {
            None => None,
            Some(path) => Some(Arc::new(Imatrix::read(Path::new(path))?)),
        };
        // SAFETY: by this function's contract.
        let name = unsafe { option_text(p.name, "name") }?;
        Ok(Self {
            policy: Policy {
                mix,
                overrides,
                pure: p.flags & REMASK_WRITE_PURE != 0,
                importance,
            },
            n_threads: p.n_threads as usize,
            overwrite: p.flags & REMASK_WRITE_OVERWRITE != 0,
            requantize: p.flags & REMASK_WRITE_REQUANTIZE != 0,
            name: name.map(str::to_owned),
            // SAFETY: by this function's contract.
            watch: unsafe { Watch::new(p.on_progress, p.user_data, p.cancel) }?,
        })
    }
}

/// The paths of a call.
///
/// # Safety
/// As for `args::text`.
unsafe fn read_paths<'a>(
    input: (*const c_char, usize),
    output: (*const c_char, usize),
) -> Outcome<(&'a Path, &'a Path)> {
    // SAFETY: by this function's contract.
    let input = unsafe { text(input.0, input.1, "the input's path") }?;
    // SAFETY: by this function's contract.
    let output = unsafe { text(output.0, output.1, "the output's path") }?;
    Ok((Path::new(input), Path::new(output)))
}

/// Sets `params` to the defaults. Pass `sizeof(remask_write_params)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_write_params_init(params: *mut remask_write_params, struct_size: usize) {
    // SAFETY: by the caller's contract.
    unsafe { sized::init(params, struct_size) };
}

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
    let body = || {
        // SAFETY: by the caller's contract.
        let (input, output) = unsafe { read_paths((input, input_len), (output, output_len)) }?;
        // SAFETY: by the caller's contract.
        let mut write = unsafe { Write::read(params) }?;
        if write.requantize {
            return Err(invalid("REMASK_WRITE_REQUANTIZE is for remask_quantize"));
        }
        let options = ConvertOptions {
            policy: write.policy,
            n_threads: write.n_threads,
            overwrite: write.overwrite,
            name: write.name,
        };
        convert::convert(input, output, &options, &mut |p| {
            write.watch.progress(p.done, p.total)
        })?;
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let (input, output) = unsafe { read_paths((input, input_len), (output, output_len)) }?;
        // SAFETY: by the caller's contract.
        let mut write = unsafe { Write::read(params) }?;
        if write.name.is_some() {
            return Err(invalid("name is for remask_convert"));
        }
        let options = QuantizeOptions {
            policy: write.policy,
            requantize: write.requantize,
            n_threads: write.n_threads,
            overwrite: write.overwrite,
        };
        quantize::quantize(input, output, &options, &mut |p| {
            write.watch.progress(p.done, p.total)
        })?;
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}
