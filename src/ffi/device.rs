//! Devices.

use std::ffi::c_char;

use super::error::remask_error;
use super::types::remask_status;

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

/// Prepares `device`. Pass `sizeof(remask_device)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_device_init(device: *mut remask_device, struct_size: usize) {}

/// Number of devices of this build and machine. At least 1, the processor; 0 when a driver fails.
#[unsafe(no_mangle)]
pub extern "C" fn remask_device_count() -> usize {}

/// Facts about device `index`, asked anew. Fails with `REMASK_STATUS_NOT_FOUND` beyond the last.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_device_get(
    index: usize,
    out_device: *mut remask_device,
    error: *mut *mut remask_error,
) -> remask_status {
}
