//! Hooks that ggml calls: its log, and its last words before it aborts.
//!
//! Without an abort callback ggml forks and runs a debugger found in `PATH`. Ours logs; then `shim.cpp`
//! makes an error of what a device's driver gives up on, and lets the abort follow elsewhere (it may be
//! on a worker thread). What prevents aborts are the checks before each call.

use ggml_sys as sys;
use std::ffi::CStr;
use std::os::raw::{c_char, c_void};
use std::sync::Once;

use super::shim;

static HOOKS: Once = Once::new();

/// Sets the hooks, once per process. Called before the first use of ggml.
pub fn install_hooks() {
    HOOKS.call_once(|| {
        // SAFETY: the callback is a function that lives as long as the process.
        unsafe { shim::remask_shim_hook_aborts(on_abort) };
        // SAFETY: as above; no user data is passed.
        unsafe { sys::ggml_log_set(Some(on_log), std::ptr::null_mut()) };
        #[cfg(feature = "vulkan-archive")]
        {
            // SAFETY: the call registers statics of the backend.
            let code = unsafe { shim::remask_shim_add_vulkan() };
            super::tensor::report(code, "add the Vulkan backend");
        }
    });
}

unsafe extern "C" fn on_abort(message: *const c_char) {
    // SAFETY: ggml passes a NUL-terminated string that lives through the call.
    let message = unsafe { text(message) };
    crate::log!(Error, "ggml gives up: {message}");
}

unsafe extern "C" fn on_log(level: sys::ggml_log_level, message: *const c_char, _: *mut c_void) {
    // SAFETY: ggml passes a NUL-terminated string that lives through the call.
    let message = unsafe { text(message) };
    let message = message.trim_end();
    match level {
        sys::GGML_LOG_LEVEL_ERROR => crate::log!(Error, "ggml: {message}"),
        sys::GGML_LOG_LEVEL_WARN => crate::log!(Warn, "ggml: {message}"),
        _ => crate::log!(Debug, "ggml: {message}"),
    }
}

/// # Safety
/// `message` is NULL or NUL-terminated and outlives the result.
unsafe fn text<'a>(message: *const c_char) -> std::borrow::Cow<'a, str> {
    if message.is_null() {
        return "".into();
    }
    // SAFETY: not NULL: checked above; terminated by this function's contract.
    unsafe { CStr::from_ptr(message) }.to_string_lossy()
}

/// Ends the process by an assertion of ggml, for the test that says what is heard of it. Not part of the
/// interface: release builds do not have it.
#[cfg(debug_assertions)]
#[unsafe(no_mangle)]
extern "C" fn remask_test_abort() {
    let Ok(mut context) = super::context::Context::new(8, 0, "a test") else {
        return;
    };
    let mut matrix = |n: i64| context.tensor(super::DType::F32, [n, 1, 1, 1]);
    if let (Ok(a), Ok(b)) = (matrix(32), matrix(31)) {
        // SAFETY: the headers are live; that their sizes do not fit is what is wanted.
        unsafe { sys::ggml_mul_mat(context.raw(), a.as_ptr(), b.as_ptr()) };
    }
}
