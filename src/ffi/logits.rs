//! What the network says: logits and hidden states.

use super::error::remask_error;
use super::session::remask_session;
use super::types::remask_status;

/// How hidden states of a text become one.
pub type remask_pooling = i32;
/// One per slot.
pub const REMASK_POOLING_NONE: remask_pooling = 0;
/// Their mean.
pub const REMASK_POOLING_MEAN: remask_pooling = 1;
/// That of the last slot.
pub const REMASK_POOLING_LAST: remask_pooling = 2;

/// Runs the network once on `tokens[n_tokens]`, mask tokens included, and copies the raw logits of
/// `rows`, row-major `[n_rows, n_vocab]`, in the manner of `remask_model_encode`: with too small a
/// buffer nothing is run, and `len` receives the number of floats needed.
///
/// @param rows      Slots whose logits are wanted; NULL for all, in order.
/// @param n_rows    Their number; 0 where `rows` is NULL.
/// @param capacity  Room in `logits`, in floats.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_session_logits(
    session: *mut remask_session,
    tokens: *const i32,
    n_tokens: usize,
    rows: *const u32,
    n_rows: usize,
    logits: *mut f32,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// As `remask_session_logits`, for the hidden state after the final norm: row-major `[n_tokens, n_embd]`,
/// or `[n_embd]` where it is pooled.
///
/// @param pooling   One of `REMASK_POOLING_*`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_session_embeddings(
    session: *mut remask_session,
    tokens: *const i32,
    n_tokens: usize,
    pooling: remask_pooling,
    embeddings: *mut f32,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
}
