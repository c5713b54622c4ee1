//! The way in and out of every call: no panic passes, and failures become a status and an error object.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use super::error::remask_error;
use super::types::{
    REMASK_STATUS_BUFFER_TOO_SMALL, REMASK_STATUS_INTERNAL, REMASK_STATUS_INVALID_ARGUMENT,
    REMASK_STATUS_NOT_FOUND, REMASK_STATUS_OK, remask_status,
};
use crate::error::Error;

/// Why a call failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub status: remask_status,
    pub message: String,
}

/// What the body of a call returns.
pub(super) type Outcome<T = ()> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            status: error.kind() as remask_status,
            message: error.message().to_owned(),
        }
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Failure {
    Failure {
        status: REMASK_STATUS_INVALID_ARGUMENT,
        message: message.into(),
    }
}

pub(super) fn not_found(message: impl Into<String>) -> Failure {
    Failure {
        status: REMASK_STATUS_NOT_FOUND,
        message: message.into(),
    }
}

pub(super) fn busy(what: &str) -> Failure {
    crate::err!(Busy, "another call or run is at work on this {what}").into()
}

pub(super) fn too_small(needed: usize, capacity: usize) -> Failure {
    Failure {
        status: REMASK_STATUS_BUFFER_TOO_SMALL,
        message: format!("the buffer has room for {capacity}; {needed} are needed"),
    }
}

/// Runs the body of a call that reports.
///
/// # Safety
/// `error` is NULL or writable.
pub(super) unsafe fn call(error: *mut *mut remask_error, body: impl FnOnce() -> Outcome) -> remask_status {
    let outcome = quietly(body).unwrap_or_else(|message| {
        Err(Failure {
            status: REMASK_STATUS_INTERNAL,
            message,
        })
    });
    let (status, object) = match outcome {
        Ok(()) => (REMASK_STATUS_OK, std::ptr::null_mut()),
        Err(failure) => {
            let status = failure.status;
            match error.is_null() {
                true => (status, std::ptr::null_mut()),
                false => (status, remask_error::boxed(failure)),
            }
        }
    };
    if !error.is_null() && error.is_aligned() {
        // SAFETY: not NULL and aligned: checked above; writable by the caller's contract.
        unsafe { error.write(object) };
    }
    status
}

/// Runs the body of a call that reports nothing; what it would return after a panic is `fallback`.
pub(super) fn plain<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    quietly(body).unwrap_or(fallback)
}

thread_local! {
    /// How deep this thread is in calls of the C interface.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// The panic's message if `body` panics. What Rust would print of it goes to the log.
fn quietly<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| match DEPTH.with(Cell::get) {
            0 => before(info),
            _ => crate::log!(Error, "{info}"),
        }));
    });
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    let done = catch_unwind(AssertUnwindSafe(body));
    DEPTH.with(|depth| depth.set(depth.get() - 1));
    done.map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        format!("the library is at fault: {}", text.unwrap_or("a panic"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::error::{remask_error_free, remask_error_message};
    use super::*;

    /// A fault of ours is a status with a message, and nothing of it is left for the next call.
    #[test]
    fn a_panic_is_a_status_and_the_next_call_works() {
        for _ in 0..3 {
            let mut error = std::ptr::null_mut();
            // SAFETY: `error` is writable.
            let status = unsafe { call(&mut error, || panic!("a fault \u{1b}[2J")) };
            assert_eq!(status, REMASK_STATUS_INTERNAL);
            // SAFETY: the call just made it.
            let message = unsafe { remask_error_message(error) };
            // SAFETY: a NUL-terminated text that lives until the error is freed below.
            let message = unsafe { std::ffi::CStr::from_ptr(message) };
            let message = message.to_str().unwrap();
            assert!(
                message.starts_with("the library is at fault: a fault"),
                "{message}"
            );
            assert!(!message.chars().any(char::is_control), "{message:?}");
            // SAFETY: made by the call, and not used again.
            unsafe { remask_error_free(error) };
            // SAFETY: NULL is allowed.
            assert_eq!(unsafe { call(std::ptr::null_mut(), || Ok(())) }, REMASK_STATUS_OK);
            assert_eq!(plain(7, || panic!("another")), 7);
            assert_eq!(plain(7, || 1), 1);
        }
        assert_eq!(DEPTH.with(Cell::get), 0);
    }
}
