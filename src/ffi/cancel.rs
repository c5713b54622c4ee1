//! Cancel tokens.

use std::sync::Arc;

use super::args::{free, handle};
use super::guard::Outcome;
use crate::denoise::CancelToken;

/// A flag that stops calls it was given to: within a node of the network on a CPU, else before the next
/// step. The calls keep what they need of it: it can be freed at any time.
pub struct remask_cancel {
    token: CancelToken,
}

/// The library's share of a token; `None` for NULL.
///
/// # Safety
/// `cancel` is NULL or a live token.
pub(super) unsafe fn token(cancel: *const remask_cancel) -> Outcome<Option<CancelToken>> {
    if cancel.is_null() {
        return Ok(None);
    }
    // SAFETY: by this function's contract.
    let cancel = unsafe { handle(cancel, "cancel token") }?;
    Ok(Some(cancel.token.clone()))
}

/// Makes a token that is not set. Never NULL.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn remask_cancel_new() -> *mut remask_cancel {
    let token = remask_cancel {
        token: CancelToken::new(),
    };
    Arc::into_raw(Arc::new(token)).cast_mut()
}

/// Stops every call that was given this token; NULL is fine. One atomic store: allowed at any time from
/// any thread, and from a signal handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_cancel_set(cancel: *const remask_cancel) {
    if !cancel.is_null() {
        // SAFETY: not NULL: checked above; a live token by the caller's contract.
        let cancel = unsafe { &*cancel };
        cancel.token.set();
    }
}

/// Makes the token usable again; NULL is fine. As `remask_cancel_set`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_cancel_reset(cancel: *const remask_cancel) {
    if !cancel.is_null() {
        // SAFETY: not NULL: checked above; a live token by the caller's contract.
        let cancel = unsafe { &*cancel };
        cancel.token.reset();
    }
}

/// 1 if the token is set, else 0; 0 for NULL. As `remask_cancel_set`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_cancel_is_set(cancel: *const remask_cancel) -> i32 {
    if cancel.is_null() {
        return 0;
    }
    // SAFETY: not NULL: checked above; a live token by the caller's contract.
    let cancel = unsafe { &*cancel };
    i32::from(cancel.token.is_set())
}

/// Gives a token back; NULL is fine. Not from a signal handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_cancel_free(cancel: *mut remask_cancel) {
    // SAFETY: a live handle or NULL, given up by the caller.
    unsafe { free(cancel) };
}
