//! Statuses and their errors.

use std::ffi::{CStr, c_char};

use super::{Handle, Status};

unsafe extern "C" {
    fn remask_status_name(status: Status) -> *const c_char;
    fn remask_error_status(error: Handle) -> Status;
    fn remask_error_message(error: Handle) -> *const c_char;
    fn remask_error_free(error: Handle);
}

/// Checks a status and its error, and frees it.
pub(super) fn settle(status: Status, error: Handle) {
    // SAFETY: a static text.
    let name = unsafe { CStr::from_ptr(remask_status_name(status)) };
    assert!((0..=17).contains(&status), "status {status}");
    if status == 0 {
        assert!(error.is_null());
    }
    if !error.is_null() {
        // SAFETY: a live error, not used after it is freed.
        let message = unsafe { CStr::from_ptr(remask_error_message(error)) };
        let message = message.to_str().unwrap().to_owned();
        assert!(
            !message.is_empty() && !message.chars().any(char::is_control),
            "{message:?}"
        );
        // Only a fault of the library has this one.
        assert_ne!(status, 15, "{name:?}: {message}");
        // SAFETY: as above.
        assert_eq!(unsafe { remask_error_status(error) }, status);
        // SAFETY: as above.
        unsafe { remask_error_free(error) };
    }
}
