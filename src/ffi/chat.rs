//! Chat templates.

use std::ffi::c_char;

use super::args::{array, copy_out, handle, text};
use super::error::remask_error;
use super::guard::{Outcome, call};
use super::model::remask_model;
use super::types::{remask_status, remask_text};
use crate::model::Model;
use crate::text::{ChatMessage, ChatTemplate, RenderOptions};

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

/// The caller's messages.
///
/// # Safety
/// `messages` is NULL or points at `n` messages with readable texts.
pub(super) unsafe fn read_messages(messages: *const remask_message, n: usize) -> Outcome<Vec<ChatMessage>> {
    // SAFETY: by this function's contract.
    let messages = unsafe { array(messages, n, "messages") }?;
    let mut read = Vec::new();
    for message in messages {
        // SAFETY: by this function's contract.
        let role = unsafe { text(message.role.data, message.role.len, "a role") }?;
        // SAFETY: by this function's contract.
        let content = unsafe { text(message.content.data, message.content.len, "a message") }?;
        read.push(ChatMessage::new(role, content));
    }
    Ok(read)
}

/// The model's template and what it is told.
pub(super) fn template(model: &Model, flags: u32) -> Outcome<(&ChatTemplate, RenderOptions)> {
    super::args::flags(flags, REMASK_CHAT_CLOSED, "flags")?;
    let Some(template) = model.chat_template() else {
        return Err(crate::err!(Template, "this model has no chat template").into());
    };
    Ok((template, model.chat_options(flags & REMASK_CHAT_CLOSED == 0)))
}

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
    let body = || {
        // SAFETY: by the caller's contract.
        let model = unsafe { handle(model, "model") }?;
        // SAFETY: by the caller's contract.
        let messages = unsafe { read_messages(messages, n_messages) }?;
        let (template, options) = template(&model.model, flags)?;
        let prompt = template.render(&messages, &options)?;
        // SAFETY: by the caller's contract.
        unsafe { copy_out(prompt.as_bytes(), text.cast(), capacity, len) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let model = unsafe { handle(model, "model") }?;
        // SAFETY: by the caller's contract.
        let messages = unsafe { read_messages(messages, n_messages) }?;
        let (template, options) = template(&model.model, flags)?;
        let ids = template.encode(model.model.tokenizer(), &messages, &options)?;
        // SAFETY: by the caller's contract.
        unsafe { copy_out(&ids, tokens.cast(), capacity, len) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}
