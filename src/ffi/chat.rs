//! Chat templates.

use std::ffi::c_char;

use super::error::remask_error;
use super::model::remask_model;
use super::types::{remask_status, remask_text};

/// One turn of a conversation, borrowed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_message {
    /// Who speaks, such as "system", "user" or "assistant".
    pub role: remask_text,
    /// What is said.
    pub content: remask_text,
}

/// End after the last message, and not where the assistant's answer begins.
pub const REMASK_CHAT_CLOSED: u32 = 1 << 0;

/// The prompt that the model's chat template makes of a conversation, as text, in the manner of
/// `remask_model_decode`. To run it, use `remask_canvas_append_chat` or `remask_model_encode_chat`:
/// encoding this text would take marks that a message spells for real.
///
/// @param flags     Bit set of `REMASK_CHAT_*`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_model_render_chat(
    model: *const remask_model,
    messages: *const remask_message,
    n_messages: usize,
    flags: u32,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// The tokens of that prompt, in the manner of `remask_model_encode`. Special tokens that the template
/// writes become ids; those that a message spells stay text.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_model_encode_chat(
    model: *const remask_model,
    messages: *const remask_message,
    n_messages: usize,
    flags: u32,
    tokens: *mut i32,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
}
