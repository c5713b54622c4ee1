//! Decoding piece by piece.

use std::ffi::c_char;
use std::sync::Mutex;

use super::args::{clear, copy_out, free, give, handle, lock};
use super::error::remask_error;
use super::guard::call;
use super::model::remask_model;
use super::tokenizer::REMASK_DECODE_SPECIAL;
use super::types::remask_status;
use crate::text::StreamDecoder;

/// Turns tokens into text as they come; bytes of a character that is not whole yet are held back.
pub struct remask_decoder {
    decoder: Mutex<StreamDecoder>,
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
    let body = || {
        // SAFETY: by the caller's contract.
        unsafe { clear(out_decoder, "out_decoder") }?;
        // SAFETY: by the caller's contract.
        let model = unsafe { handle(model, "model") }?;
        super::args::flags(flags, REMASK_DECODE_SPECIAL, "flags")?;
        let decoder = model.model.tokenizer().stream(flags & REMASK_DECODE_SPECIAL != 0);
        let decoder = remask_decoder {
            decoder: Mutex::new(decoder),
        };
        // SAFETY: by the caller's contract.
        unsafe { give(decoder, out_decoder) };
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let decoder = unsafe { handle(decoder, "decoder") }?;
        // SAFETY: by the caller's contract.
        let ids = unsafe { super::args::tokens(tokens, n_tokens, "the tokens") }?;
        let mut decoder = lock(&decoder.decoder, "decoder")?;
        let mut next = decoder.clone();
        let added = next.push(&ids);
        // SAFETY: by the caller's contract.
        unsafe { copy_out(added.as_bytes(), text.cast(), capacity, len) }?;
        *decoder = next;
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let decoder = unsafe { handle(decoder, "decoder") }?;
        let mut decoder = lock(&decoder.decoder, "decoder")?;
        let mut next = decoder.clone();
        let rest = next.finish();
        // SAFETY: by the caller's contract.
        unsafe { copy_out(rest.as_bytes(), text.cast(), capacity, len) }?;
        *decoder = next;
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}

/// Gives a decoder back; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_decoder_free(decoder: *mut remask_decoder) {
    // SAFETY: a live handle or NULL, given up by the caller.
    unsafe { free(decoder) };
}
