//! The log sink.

use std::ffi::{c_char, c_void};

use super::types::remask_drop_fn;

/// Details for a developer.
pub const REMASK_LOG_DEBUG: i32 = 1;
/// What was decided and why.
pub const REMASK_LOG_INFO: i32 = 2;
/// Something is odd; the call goes on.
pub const REMASK_LOG_WARN: i32 = 3;
/// A fault; where it ends a call, the call's error says the same.
pub const REMASK_LOG_ERROR: i32 = 4;

/// Receives one log line: UTF-8, NUL-terminated, without a newline or control characters. Called from
/// any thread, from several at once; must not call remask.
pub type remask_log_fn =
    Option<unsafe extern "C" fn(level: i32, message: *const c_char, user_data: *mut c_void)>;

/// Sends log lines of `min_level` (a `REMASK_LOG_*`; 0 is all) and above to `log`; NULL turns logging
/// off, as it is at the start.
///
/// One for the process, because ggml's is. May be called at any time from any thread. `drop`, if not
/// NULL, is called with `user_data` when the callback was replaced and no thread is in it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_log_set(
    log: remask_log_fn,
    min_level: i32,
    user_data: *mut c_void,
    drop: remask_drop_fn,
) {
}
