//! Loading models, and what they take.

use std::ffi::{c_char, c_void};

use super::args::{clear, flags, give, handle, option_text, text};
use super::callback::{UserData, Watch};
use super::cancel::remask_cancel;
use super::error::remask_error;
use super::guard::{Outcome, call, invalid};
use super::model::remask_model;
use super::sized::{self, Sized32, sized};
use super::types::{remask_drop_fn, remask_progress_fn, remask_status};
use crate::Sizes;
use crate::device::{DeviceChoice, MemoryEstimate, SplitMode};
use crate::model::{LoadOptions, Model, ModelFile, Verify};
use crate::weights::{LentBytes, Residence};

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

/// What several devices divide between them.
pub type remask_split_mode = i32;
/// Layers: each device has some of them whole.
pub const REMASK_SPLIT_LAYERS: remask_split_mode = 0;
/// Tensors: each device has a part of every layer. For two or more GPUs that one backend drives, which take all layers.
pub const REMASK_SPLIT_TENSORS: remask_split_mode = 1;

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
    /// So many layers on the device, the last ones; 0 for as many as fit. More than fit are refused.
    pub n_gpu_layers: u32,
    /// Name of the device for the layers, as `remask_device_get` gives it, NUL-terminated, or several with
    /// commas between them; rpc://HOST:PORT of a worker, in builds that know other machines; "cpu" for the
    /// processor alone; NULL for the GPU with the most free memory (all GPUs where it does not hold the
    /// model), or the processor where there is none.
    pub device: *const c_char,
    /// Path of a `tokenizer.json` to use in place of what the file says, NUL-terminated; NULL for none.
    pub tokenizer_path: *const c_char,
    /// Hears of bytes that are read into memory and of those that are copied to devices (a mapped file on
    /// the processor has neither) and can stop it; NULL for none.
    pub on_progress: remask_progress_fn,
    /// Goes to `on_progress` untouched.
    pub user_data: *mut c_void,
    /// Stops the loading when set; NULL for none.
    pub cancel: *const remask_cancel,
    /// Shares of the layers, one for each device in the order of `device`, 0 or more each; NULL to divide by
    /// free memory. Shares that do not fit are refused.
    pub split: *const f64,
    /// How many shares there are.
    pub n_split: usize,
    /// One of `REMASK_SPLIT_*`; with REMASK_SPLIT_TENSORS the shares are of each tensor, above 0 each.
    pub split_mode: remask_split_mode,
    /// 0.
    pub reserved: u32,
}

/// Reads `n` bytes at `offset` into `buffer`. Returns 0, or another number if it cannot.
pub type remask_read_at_fn =
    Option<unsafe extern "C" fn(offset: u64, buffer: *mut c_void, n: usize, user_data: *mut c_void) -> i32>;

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

sized!(remask_load_params, |zero| zero);
sized!(remask_reader, |zero| zero);
sized!(remask_estimate, |zero| zero);

/// ggml's scheduler takes fewer devices.
const MOST_SHARES: usize = 64;

/// The caller's options, translated.
struct Load {
    options: LoadOptions,
    watch: Watch,
}

impl Load {
    /// # Safety
    /// `params` is NULL or prepared by `remask_load_params_init`.
    unsafe fn read(params: *const remask_load_params) -> Outcome<Self> {
        // SAFETY: by this function's contract.
        let params = unsafe { sized::read(params) }?;
        flags(params.flags, REMASK_LOAD_READ, "flags")?;
        // SAFETY: by this function's contract.
        let device = unsafe { option_text(params.device, "device") }?;
        // SAFETY: by this function's contract.
        let tokenizer = unsafe { option_text(params.tokenizer_path, "tokenizer_path") }?;
        // SAFETY: by this function's contract.
        let split = unsafe { super::args::array(params.split, params.n_split, "split") }?;
        if split.len() > MOST_SHARES {
            return Err(invalid(format!(
                "split has {} shares; no more than {MOST_SHARES} devices work together",
                split.len()
            )));
        }
        if params.reserved != 0 {
            return Err(invalid(format!("reserved is {}; it must be 0", params.reserved)));
        }
        let options = LoadOptions {
            residence: match params.flags & REMASK_LOAD_READ {
                0 => Residence::Map,
                _ => Residence::Read,
            },
            verify: match params.verify {
                REMASK_VERIFY_FIRST_USE => Verify::FirstUse,
                REMASK_VERIFY_LOAD => Verify::Load,
                REMASK_VERIFY_NEVER => Verify::Never,
                other => return Err(invalid(format!("verify is {other}; it must be 0 to 2"))),
            },
            device: match device {
                None => DeviceChoice::Auto,
                Some(name) if name.eq_ignore_ascii_case("cpu") => DeviceChoice::Cpu,
                Some(name) => DeviceChoice::Named(name.to_owned()),
            },
            gpu_layers: (params.n_gpu_layers > 0).then_some(params.n_gpu_layers as usize),
            split: split.to_vec(),
            split_mode: match params.split_mode {
                REMASK_SPLIT_LAYERS => SplitMode::Layers,
                REMASK_SPLIT_TENSORS => SplitMode::Tensors,
                other => return Err(invalid(format!("split_mode is {other}; it must be 0 or 1"))),
            },
            tokenizer: tokenizer.map(Into::into),
        };
        // SAFETY: by this function's contract.
        let watch = unsafe { Watch::new(params.on_progress, params.user_data, params.cancel) }?;
        Ok(Self { options, watch })
    }
}

/// A file in the caller's memory, used where it is while `user` lives, or copied.
///
/// # Safety
/// `bytes` points at `n_bytes` readable bytes, which with `user` do not change as long as it lives.
unsafe fn open_memory(bytes: *const c_void, n_bytes: usize, user: Option<UserData>) -> Outcome<ModelFile> {
    // SAFETY: by this function's contract.
    let bytes = unsafe { super::args::array(bytes.cast::<u8>(), n_bytes, "the model's bytes") }?;
    Ok(match user {
        // SAFETY: by this function's contract.
        Some(user) => ModelFile::from_lent(Box::new(unsafe { LentBytes::new(bytes, Box::new(user)) }))?,
        None => {
            let mut copy = crate::error::try_vec(0, 0u8, "a copy of the model")?;
            if copy.try_reserve_exact(n_bytes).is_err() {
                return Err(crate::err!(Resource, "no memory for a model of {n_bytes} bytes").into());
            }
            copy.extend_from_slice(bytes);
            ModelFile::from_memory(copy)?
        }
    })
}

/// # Safety
/// `out` is NULL or prepared by `remask_estimate_init`.
unsafe fn put_estimate(sizes: &Sizes, found: MemoryEstimate, out: *mut remask_estimate) -> Outcome {
    let estimate = remask_estimate {
        n_ctx: u32::try_from(sizes.n_ctx).unwrap_or(u32::MAX),
        weights: found.weights,
        session: found.session,
        ..remask_estimate::defaults()
    };
    // SAFETY: by this function's contract.
    unsafe { sized::write(&estimate, out) }
}

/// Sets `params` to the defaults. Pass `sizeof(remask_load_params)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_load_params_init(params: *mut remask_load_params, struct_size: usize) {
    // SAFETY: by the caller's contract.
    unsafe { sized::init(params, struct_size) };
}

/// Prepares `reader`. Pass `sizeof(remask_reader)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_reader_init(reader: *mut remask_reader, struct_size: usize) {
    // SAFETY: by the caller's contract.
    unsafe { sized::init(reader, struct_size) };
}

/// Prepares `estimate`. Pass `sizeof(remask_estimate)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_estimate_init(estimate: *mut remask_estimate, struct_size: usize) {
    // SAFETY: by the caller's contract.
    unsafe { sized::init(estimate, struct_size) };
}

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
    let body = || {
        // SAFETY: by the caller's contract.
        unsafe { clear(out_model, "out_model") }?;
        // SAFETY: by the caller's contract.
        let path = unsafe { text(path, path_len, "the path") }?;
        // SAFETY: by the caller's contract.
        let mut load = unsafe { Load::read(params) }?;
        let model =
            Model::load_with_progress(path, &load.options, &mut |p| load.watch.progress(p.done, p.total))?;
        // SAFETY: by the caller's contract.
        unsafe { give(remask_model::new(model)?, out_model) };
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // Owns `user_data` from here on, whatever fails.
        let user = UserData::new(user_data, drop);
        // SAFETY: by the caller's contract.
        unsafe { clear(out_model, "out_model") }?;
        // SAFETY: by the caller's contract.
        let mut load = unsafe { Load::read(params) }?;
        // SAFETY: by the caller's contract.
        let file = unsafe { open_memory(bytes, n_bytes, drop.is_some().then_some(user)) }?;
        let model = Model::from_file(file, &load.options, &mut |p| load.watch.progress(p.done, p.total))?;
        // SAFETY: by the caller's contract.
        unsafe { give(remask_model::new(model)?, out_model) };
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        unsafe { clear(out_model, "out_model") }?;
        if reader.is_null() {
            return Err(invalid("the reader is NULL"));
        }
        // SAFETY: by the caller's contract.
        let reader = unsafe { sized::read(reader) }?;
        // SAFETY: by the caller's contract.
        let mut load = unsafe { Load::read(params) }?;
        flags(reader.flags, 0, "reader.flags")?;
        let Some(read_at) = reader.read_at else {
            return Err(invalid("reader.read_at is NULL"));
        };
        let mut read = |offset: u64, buffer: &mut [u8]| {
            // SAFETY: the caller's function, called as it says, with a buffer of that size.
            match unsafe { read_at(offset, buffer.as_mut_ptr().cast(), buffer.len(), reader.user_data) } {
                0 => Ok(()),
                code => Err(crate::err!(
                    Io,
                    "the reader returned {code} for {} bytes at {offset}",
                    buffer.len()
                )),
            }
        };
        let file = ModelFile::from_reader(reader.n_bytes, &mut read, &mut |p| {
            load.watch.progress(p.done, p.total)
        })?;
        let model = Model::from_file(file, &load.options, &mut |_| load.watch.cancelled())?;
        // SAFETY: by the caller's contract.
        unsafe { give(remask_model::new(model)?, out_model) };
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let path = unsafe { text(path, path_len, "the path") }?;
        let file = ModelFile::open(path, Residence::Map)?;
        let (sizes, estimate) = (file.sizes()?, file.estimate(n_slots, n_masked)?);
        // SAFETY: by the caller's contract.
        unsafe { put_estimate(&sizes, estimate, out_estimate) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let file = unsafe { open_memory(bytes, n_bytes, Some(UserData::new(std::ptr::null_mut(), None))) }?;
        let (sizes, estimate) = (file.sizes()?, file.estimate(n_slots, n_masked)?);
        // SAFETY: by the caller's contract.
        unsafe { put_estimate(&sizes, estimate, out_estimate) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let model = unsafe { handle(model, "model") }?;
        let estimate = model.model.estimate(n_slots, n_masked);
        // SAFETY: by the caller's contract.
        unsafe { put_estimate(model.model.sizes(), estimate, out_estimate) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}
