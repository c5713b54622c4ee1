//! Decoding piece by piece.

use std::ffi::c_char;

use super::error::remask_error;
use super::model::remask_model;
use super::types::remask_status;

/// Turns tokens into text as they come; bytes of a character that is not whole yet are held back.
pub struct remask_decoder {
    decoder: (),
}

/// Makes a decoder. It keeps what it needs of the model.
///
/// @param flags     Bit set of `REMASK_DECODE_*`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_decoder_new(
    model: *const remask_model,
    flags: u32,
    out_decoder: *mut *mut remask_decoder,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// The text that `tokens` add, as far as it is certain, in the manner of `remask_model_decode`. With too
/// small a buffer nothing is taken: push the same tokens again.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_decoder_push(
    decoder: *mut remask_decoder,
    tokens: *const i32,
    n_tokens: usize,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// What is still held back, in the manner of `remask_model_decode`; U+FFFD for a character that never
/// became whole. The decoder is then as new.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_decoder_finish(
    decoder: *mut remask_decoder,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Gives a decoder back; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_decoder_free(decoder: *mut remask_decoder) {}
