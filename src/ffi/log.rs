//! The log sink.

use std::ffi::{CString, c_char, c_void};

use super::callback::UserData;
use super::guard::plain;
use super::types::remask_drop_fn;
use crate::log::Level;

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
    let user = UserData::new(user_data, drop);
    plain((), || {
        let Some(log) = log else {
            crate::log::set_log_sink(None);
            return;
        };
        let sink = move |level: Level, message: &str| {
            let text = CString::new(message).unwrap_or_default();
            if level as i32 >= min_level {
                // SAFETY: the caller's function, called as it says, with a text that outlives the call.
                unsafe { log(level as i32, text.as_ptr(), user.get()) };
            }
        };
        crate::log::set_log_sink(Some(Box::new(sink)));
    });
}

const _: () = assert!(REMASK_LOG_DEBUG == Level::Debug as i32);
const _: () = assert!(REMASK_LOG_INFO == Level::Info as i32);
const _: () = assert!(REMASK_LOG_WARN == Level::Warn as i32);
const _: () = assert!(REMASK_LOG_ERROR == Level::Error as i32);
