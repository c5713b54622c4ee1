//! Cancel tokens.

/// A flag that stops calls it was given to: within a node of the network on a CPU, else before the next
/// step. The calls keep what they need of it: it can be freed at any time.
pub struct remask_cancel {
    token: (),
}

/// Makes a token that is not set. Never NULL.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn remask_cancel_new() -> *mut remask_cancel {}

/// Stops every call that was given this token; NULL is fine. One atomic store: allowed at any time from
/// any thread, and from a signal handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_cancel_set(cancel: *const remask_cancel) {}

/// Makes the token usable again; NULL is fine. As `remask_cancel_set`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_cancel_reset(cancel: *const remask_cancel) {}

/// 1 if the token is set, else 0; 0 for NULL. As `remask_cancel_set`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_cancel_is_set(cancel: *const remask_cancel) -> i32 {}

/// Gives a token back; NULL is fine. Not from a signal handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_cancel_free(cancel: *mut remask_cancel) {}
