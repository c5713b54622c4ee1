//! Error objects.

use std::ffi::{CStr, CString, c_char};

use super::guard::Failure;
use super::types::*;

/// Details of a failed call. Immutable, owned by the caller, not tied to a thread.
pub struct remask_error {
    status: remask_status,
    message: CString,
}

impl remask_error {
    /// The object for a caller that asked for one.
    pub(super) fn boxed(failure: Failure) -> *mut Self {
        // Parts of it come from files and from the caller's texts. NUL is a control character too.
        let text = crate::error::shown(failure.message);
        Box::into_raw(Box::new(Self {
            status: failure.status,
            message: CString::new(text).unwrap_or_default(),
        }))
    }
}

/// Version of the library, such as "1.4.2". Static.
#[unsafe(no_mangle)]
pub extern "C" fn remask_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// ABI of the library; compare with `REMASK_ABI_VERSION`.
#[unsafe(no_mangle)]
pub extern "C" fn remask_abi_version() -> u32 {
    REMASK_ABI_VERSION
}

/// Name of a status, such as "invalid argument". Static; never NULL, "unknown" for other numbers.
#[unsafe(no_mangle)]
pub extern "C" fn remask_status_name(status: remask_status) -> *const c_char {
    let name: &CStr = match status {
        REMASK_STATUS_OK => c"ok",
        REMASK_STATUS_INVALID_ARGUMENT => c"invalid argument",
        REMASK_STATUS_IO => c"input or output",
        REMASK_STATUS_FORMAT => c"format",
        REMASK_STATUS_LIMIT => c"limit",
        REMASK_STATUS_UNSUPPORTED => c"unsupported",
        REMASK_STATUS_MODEL => c"model",
        REMASK_STATUS_TOKENIZER => c"tokenizer",
        REMASK_STATUS_TEMPLATE => c"template",
        REMASK_STATUS_NUMERIC => c"numeric",
        REMASK_STATUS_RESOURCE => c"resource",
        REMASK_STATUS_DEVICE => c"device",
        REMASK_STATUS_CANCELLED => c"cancelled",
        REMASK_STATUS_BUSY => c"busy",
        REMASK_STATUS_DATA => c"data",
        REMASK_STATUS_INTERNAL => c"internal",
        REMASK_STATUS_BUFFER_TOO_SMALL => c"buffer too small",
        REMASK_STATUS_NOT_FOUND => c"not found",
        _ => c"unknown",
    };
    name.as_ptr()
}

/// Status that the failed call returned; `REMASK_STATUS_OK` for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_error_status(error: *const remask_error) -> remask_status {
    if error.is_null() {
        return REMASK_STATUS_OK;
    }
    // SAFETY: not NULL: checked above; a live error object by the caller's contract.
    unsafe { (*error).status }
}

/// Message in English, UTF-8, one line without control characters. Lives as long as `error`; never
/// NULL, "" for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_error_message(error: *const remask_error) -> *const c_char {
    if error.is_null() {
        return c"".as_ptr();
    }
    // SAFETY: not NULL: checked above; a live error object by the caller's contract.
    let error = unsafe { &*error };
    error.message.as_ptr()
}

/// Frees an error object; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_error_free(error: *mut remask_error) {
    if !error.is_null() {
        // SAFETY: made by `boxed`, and given up by the caller.
        drop(unsafe { Box::from_raw(error) });
    }
}
