//! The tokenizer of a model.

use std::ffi::c_char;

use super::error::remask_error;
use super::model::remask_model;
use super::types::remask_status;

/// Special tokens that the text spells become their ids. For templates and texts that are trusted;
/// without it they stay text, as what comes from a user must.
pub const REMASK_ENCODE_SPECIAL: u32 = 1 << 0;
/// Begin with the begin-of-text token where the model asks for one.
pub const REMASK_ENCODE_BOS: u32 = 1 << 1;

/// Write special tokens out, the mask token too. Without it they are left out.
pub const REMASK_DECODE_SPECIAL: u32 = 1 << 0;

/// Bits of `remask_model_token_attr`: text.
pub const REMASK_TOKEN_NORMAL: u32 = 1 << 0;
/// Unknown text.
pub const REMASK_TOKEN_UNKNOWN: u32 = 1 << 1;
/// A mark such as end-of-text; never made from a user's text.
pub const REMASK_TOKEN_CONTROL: u32 = 1 << 2;
/// Text that is one token wherever it stands.
pub const REMASK_TOKEN_USER_DEFINED: u32 = 1 << 3;
/// A hole in the vocabulary.
pub const REMASK_TOKEN_UNUSED: u32 = 1 << 4;
/// One byte.
pub const REMASK_TOKEN_BYTE: u32 = 1 << 5;

/// Turns text into tokens.
///
/// With too small a buffer, fails with REMASK_STATUS_BUFFER_TOO_SMALL, copies nothing and writes the
/// needed number to `len`; on success `len` receives the number copied.
///
/// @param text      UTF-8; `text_len` bytes, or REMASK_NUL_TERMINATED.
/// @param flags     Bit set of `REMASK_ENCODE_*`.
/// @param tokens    Receives the ids; NULL is fine where `capacity` is 0.
/// @param capacity  Room in `tokens`, in ids.
/// @param len       Receives the number of ids.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_model_encode(
    model: *const remask_model,
    text: *const c_char,
    text_len: usize,
    flags: u32,
    tokens: *mut i32,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Turns tokens into UTF-8 text, without a terminating NUL, in the manner of `remask_model_encode`:
/// `len` counts bytes. Bytes that are no whole character become U+FFFD; masked slots give nothing.
///
/// @param flags     Bit set of `REMASK_DECODE_*`.
/// @param text      Receives the bytes; NULL is fine where `capacity` is 0.
/// @param capacity  Room in `text`, in bytes.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_model_decode(
    model: *const remask_model,
    tokens: *const i32,
    n_tokens: usize,
    flags: u32,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Bytes that one token stands for, special ones by their spelling, in the manner of
/// `remask_model_decode`; not always whole UTF-8. Fails with `REMASK_STATUS_NOT_FOUND` outside the
/// vocabulary.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_model_token_text(
    model: *const remask_model,
    token: i32,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// What a token is for: bit set of `REMASK_TOKEN_*`; 0 outside the vocabulary and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_model_token_attr(model: *const remask_model, token: i32) -> u32 {}

/// Id of the token with this spelling, as the vocabulary writes it; -1 if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_model_token_find(
    model: *const remask_model,
    text: *const c_char,
    text_len: usize,
) -> i32 {
}
