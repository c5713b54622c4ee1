//! The tokenizer of a model.

use std::ffi::c_char;

use super::args::{copy_out, handle};
use super::error::remask_error;
use super::guard::{Outcome, call, not_found, plain};
use super::model::remask_model;
use super::types::remask_status;
use crate::model::Model;
use crate::text::{Special, TokenKind};

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

/// Ids of `text` as `flags` say.
pub(super) fn encode(model: &Model, text: &str, flags: u32) -> Outcome<Vec<u32>> {
    super::args::flags(flags, REMASK_ENCODE_SPECIAL | REMASK_ENCODE_BOS, "flags")?;
    let tokenizer = model.tokenizer();
    let special = match flags & REMASK_ENCODE_SPECIAL {
        0 => Special::AsText,
        _ => Special::Parse,
    };
    let mut ids = Vec::new();
    if flags & REMASK_ENCODE_BOS != 0 && tokenizer.add_bos() {
        ids.extend(tokenizer.specials().bos);
    }
    ids.extend(tokenizer.encode(text, special)?);
    Ok(ids)
}

/// Text of `ids` as `flags` say.
pub(super) fn decode(model: &Model, ids: &[u32], flags: u32) -> Outcome<String> {
    super::args::flags(flags, REMASK_DECODE_SPECIAL, "flags")?;
    Ok(model.tokenizer().decode(ids, flags & REMASK_DECODE_SPECIAL != 0))
}

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
    let body = || {
        // SAFETY: by the caller's contract.
        let model = unsafe { handle(model, "model") }?;
        // SAFETY: by the caller's contract.
        let text = unsafe { super::args::text(text, text_len, "the text") }?;
        let ids = encode(&model.model, text, flags)?;
        // SAFETY: by the caller's contract.
        unsafe { copy_out(&ids, tokens.cast(), capacity, len) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let model = unsafe { handle(model, "model") }?;
        // SAFETY: by the caller's contract.
        let ids = unsafe { super::args::tokens(tokens, n_tokens, "the tokens") }?;
        let decoded = decode(&model.model, &ids, flags)?;
        // SAFETY: by the caller's contract.
        unsafe { copy_out(decoded.as_bytes(), text.cast(), capacity, len) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let model = unsafe { handle(model, "model") }?;
        let tokenizer = model.model.tokenizer();
        let id = u32::try_from(token)
            .ok()
            .filter(|&id| tokenizer.token_kind(id).is_some());
        let Some(id) = id else {
            return Err(not_found(format!("there is no token {token}")));
        };
        // SAFETY: by the caller's contract.
        unsafe { copy_out(&tokenizer.token_bytes(id), text.cast(), capacity, len) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}

/// What a token is for: bit set of `REMASK_TOKEN_*`; 0 outside the vocabulary and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_model_token_attr(model: *const remask_model, token: i32) -> u32 {
    plain(0, || {
        // SAFETY: by the caller's contract.
        let Ok(model) = (unsafe { handle(model, "model") }) else {
            return 0;
        };
        let kind = u32::try_from(token)
            .ok()
            .and_then(|id| model.model.tokenizer().token_kind(id));
        match kind {
            None => 0,
            Some(TokenKind::Normal) => REMASK_TOKEN_NORMAL,
            Some(TokenKind::Unknown) => REMASK_TOKEN_UNKNOWN,
            Some(TokenKind::Control) => REMASK_TOKEN_CONTROL,
            Some(TokenKind::UserDefined) => REMASK_TOKEN_USER_DEFINED,
            Some(TokenKind::Unused) => REMASK_TOKEN_UNUSED,
            Some(TokenKind::Byte) => REMASK_TOKEN_BYTE,
        }
    })
}

/// Id of the token with this spelling, as the vocabulary writes it; -1 if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_model_token_find(
    model: *const remask_model,
    text: *const c_char,
    text_len: usize,
) -> i32 {
    plain(-1, || {
        // SAFETY: by the caller's contract.
        let model = unsafe { handle(model, "model") };
        // SAFETY: by the caller's contract.
        let text = unsafe { super::args::text(text, text_len, "the text") };
        let (Ok(model), Ok(text)) = (model, text) else {
            return -1;
        };
        let found = model.model.tokenizer().token_id(text);
        found.and_then(|id| i32::try_from(id).ok()).unwrap_or(-1)
    })
}
