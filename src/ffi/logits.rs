//! What the network says: logits and hidden states.

use super::args::{copy_out, handle, room};
use super::error::remask_error;
use super::guard::{call, invalid};
use super::session::remask_session;
use super::types::remask_status;
use crate::session::Pooling;

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
    let body = || {
        // SAFETY: by the caller's contract.
        let session = unsafe { handle(session, "session") }?;
        // SAFETY: by the caller's contract.
        let ids = unsafe { super::args::tokens(tokens, n_tokens, "the tokens") }?;
        let all: Vec<u32>;
        let rows = match rows.is_null() && n_rows == 0 {
            true => {
                all = (0..ids.len() as u32).collect();
                &all
            }
            // SAFETY: by the caller's contract.
            false => unsafe { super::args::array(rows, n_rows, "rows") }?,
        };
        session.with(|session| {
            let needed = rows.len().saturating_mul(session.model().sizes().n_vocab);
            // SAFETY: by the caller's contract.
            unsafe { room(needed, logits, capacity, len) }?;
            let mut found = Vec::new();
            session.logits(&ids, rows, &mut found)?;
            // SAFETY: by the caller's contract.
            unsafe { copy_out(&found, logits, capacity, len) }
        })
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let session = unsafe { handle(session, "session") }?;
        // SAFETY: by the caller's contract.
        let ids = unsafe { super::args::tokens(tokens, n_tokens, "the tokens") }?;
        let (pooling, n_rows) = match pooling {
            REMASK_POOLING_NONE => (Pooling::None, ids.len()),
            REMASK_POOLING_MEAN => (Pooling::Mean, 1),
            REMASK_POOLING_LAST => (Pooling::Last, 1),
            other => return Err(invalid(format!("pooling is {other}; it must be 0 to 2"))),
        };
        session.with(|session| {
            let needed = n_rows.saturating_mul(session.model().sizes().n_embd);
            // SAFETY: by the caller's contract.
            unsafe { room(needed, embeddings, capacity, len) }?;
            let found = session.embeddings(&ids, pooling)?;
            // SAFETY: by the caller's contract.
            unsafe { copy_out(&found, embeddings, capacity, len) }
        })
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}
