//! Error objects.

use std::ffi::c_char;

use super::types::remask_status;

/// Details of a failed call. Immutable, owned by the caller, not tied to a thread.
pub struct remask_error {
    status: remask_status,
}

/// Version of the library, such as "1.4.2". Static.
#[unsafe(no_mangle)]
pub extern "C" fn remask_version() -> *const c_char {}

/// ABI of the library; compare with `REMASK_ABI_VERSION`.
#[unsafe(no_mangle)]
pub extern "C" fn remask_abi_version() -> u32 {}

/// Name of a status, such as "invalid argument". Static; never NULL, "unknown" for other numbers.
#[unsafe(no_mangle)]
pub extern "C" fn remask_status_name(status: remask_status) -> *const c_char {}

/// Status that the failed call returned; `REMASK_STATUS_OK` for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_error_status(error: *const remask_error) -> remask_status {}

/// Message in English, UTF-8, one line without control characters. Lives as long as `error`; never
/// NULL, "" for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_error_message(error: *const remask_error) -> *const c_char {}

/// Frees an error object; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_error_free(error: *mut remask_error) {}
