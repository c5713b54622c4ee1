//! Devices.

use std::ffi::c_char;

use super::args::{put, text};
use super::error::remask_error;
use super::guard::{call, not_found, plain};
use super::sized::{self, Sized32, sized};
use super::types::remask_status;
use crate::device::{self, DeviceKind};

/// What a device is.
pub type remask_device_kind = i32;
/// The host's processor.
pub const REMASK_DEVICE_CPU: remask_device_kind = 0;
/// A GPU with memory of its own.
pub const REMASK_DEVICE_GPU: remask_device_kind = 1;
/// A GPU that shares the host's memory.
pub const REMASK_DEVICE_IGPU: remask_device_kind = 2;
/// An accelerator that works beside the processor.
pub const REMASK_DEVICE_ACCEL: remask_device_kind = 3;

/// Facts about a device. Begin with `remask_device_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_device {
    /// Set by `remask_device_init`.
    pub struct_size: u32,
    /// One of `REMASK_DEVICE_*`.
    pub kind: remask_device_kind,
    /// Free memory in bytes, as the driver says; 0 if unknown.
    pub memory_free: u64,
    /// Total memory in bytes; 0 if unknown.
    pub memory_total: u64,
    /// Name to choose it by, such as "CUDA0"; UTF-8, NUL-terminated, cut to fit.
    pub name: [c_char; 64],
    /// The maker's name for it; UTF-8, NUL-terminated, cut to fit.
    pub description: [c_char; 128],
}

sized!(remask_device, |zero| zero);

/// Copies as much of `text` as fits with a NUL after it, in whole characters.
fn cut(text: &str, to: &mut [c_char]) {
    let mut end = text.len().min(to.len() - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    for (to, &from) in to.iter_mut().zip(&text.as_bytes()[..end]) {
        *to = from as c_char;
    }
}

/// Prepares `device`. Pass `sizeof(remask_device)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_device_init(device: *mut remask_device, struct_size: usize) {
    // SAFETY: by the caller's contract.
    unsafe { sized::init(device, struct_size) };
}

/// Loads backends from the files `libggml-*.so` in a folder: of each kind that is not loaded yet the best
/// for this machine. The log says which, and why others were not. A library that finds its backends at run
/// time looks by itself too when a device is first needed, in the folders that the environment variable
/// REMASK_BACKENDS names and beside itself; what a call before that loads goes first. A library with its
/// backends inside fails with `REMASK_STATUS_UNSUPPORTED`.
///
/// @param folder     UTF-8 path; `folder_len` bytes, or REMASK_NUL_TERMINATED.
/// @param out_loaded Receives how many were loaded, which may be 0; NULL if nobody wants to know.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_backends_load(
    folder: *const c_char,
    folder_len: usize,
    out_loaded: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        // SAFETY: by the caller's contract.
        let folder = unsafe { text(folder, folder_len, "the folder") }?;
        let loaded = device::load_backends(folder.as_ref())?;
        // SAFETY: by the caller's contract.
        unsafe { put(loaded, out_loaded) };
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}

/// Number of devices of this build and machine. At least 1, the processor; 0 when a driver fails.
#[unsafe(no_mangle)]
pub extern "C" fn remask_device_count() -> usize {
    plain(0, || device::list().map_or(0, |all| all.len()))
}

/// Facts about device `index`, asked anew. Fails with `REMASK_STATUS_NOT_FOUND` beyond the last.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_device_get(
    index: usize,
    out_device: *mut remask_device,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        let all = device::list()?;
        let Some(info) = all.get(index) else {
            return Err(not_found(format!(
                "there is no device {index}; there are {}",
                all.len()
            )));
        };
        let mut found = remask_device {
            kind: match info.kind {
                DeviceKind::Cpu => REMASK_DEVICE_CPU,
                DeviceKind::Gpu => REMASK_DEVICE_GPU,
                DeviceKind::IntegratedGpu => REMASK_DEVICE_IGPU,
                DeviceKind::Accelerator => REMASK_DEVICE_ACCEL,
            },
            memory_free: info.memory_free,
            memory_total: info.memory_total,
            ..remask_device::defaults()
        };
        cut(&info.name, &mut found.name);
        cut(&info.description, &mut found.description);
        // SAFETY: by the caller's contract.
        unsafe { sized::write(&found, out_device) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}
