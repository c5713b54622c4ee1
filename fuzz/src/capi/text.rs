//! Texts and chats through a model's tokenizer.

use std::ffi::c_char;

use super::{Call, Failure, Handle, Message, Status, World};

unsafe extern "C" {
    fn remask_model_encode(
        model: Handle,
        text: *const c_char,
        len: usize,
        flags: u32,
        tokens: *mut i32,
        capacity: usize,
        n: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_model_decode(
        model: Handle,
        tokens: *const i32,
        n: usize,
        flags: u32,
        text: *mut u8,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_model_token_text(
        model: Handle,
        token: i32,
        text: *mut u8,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_model_token_attr(model: Handle, token: i32) -> u32;
    fn remask_model_token_find(model: Handle, text: *const c_char, len: usize) -> i32;
    fn remask_model_render_chat(
        model: Handle,
        messages: *const Message,
        n: usize,
        flags: u32,
        text: *mut u8,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_model_encode_chat(
        model: Handle,
        messages: *const Message,
        n: usize,
        flags: u32,
        tokens: *mut i32,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
}

/// Encoded, decoded, rendered.
///
/// # Safety
/// Handles in the slots are live or NULL.
pub(super) unsafe fn act(w: &mut World<'_>, c: &mut Call) -> Status {
    // SAFETY: texts, arrays and room are as long as is said; handles are live or NULL; structs have the size
    // that they name; a slot that is freed becomes NULL.
    unsafe {
        match c.which {
            9 | 10 => {
                let (model, text, flags) = (w.model(), w.text(), w.small() as u32);
                let (tokens, capacity) = w.room(4);
                remask_model_encode(
                    model,
                    text.data,
                    text.len,
                    flags,
                    tokens.cast(),
                    capacity,
                    &mut c.len,
                    c.error,
                )
            }
            11 => {
                let (model, tokens, flags) = (w.model(), w.tokens(), w.small() as u32);
                let (text, capacity) = w.room(1);
                remask_model_decode(
                    model,
                    tokens.as_ptr(),
                    tokens.len(),
                    flags,
                    text,
                    capacity,
                    &mut c.len,
                    c.error,
                )
            }
            12 => {
                let (model, token) = (w.model(), w.small() as i32);
                remask_model_token_attr(model, token);
                let (text, capacity) = w.room(1);
                remask_model_token_text(model, token, text, capacity, &mut c.len, c.error)
            }
            13 => {
                let (model, text) = (w.model(), w.text());
                remask_model_token_find(model, text.data, text.len);
                0
            }
            17 => {
                let (model, messages, flags) = (w.model(), w.messages(), w.small() as u32);
                let (text, capacity) = w.room(1);
                remask_model_render_chat(
                    model,
                    messages.as_ptr(),
                    messages.len(),
                    flags,
                    text,
                    capacity,
                    &mut c.len,
                    c.error,
                )
            }
            _ => {
                let (model, messages, flags) = (w.model(), w.messages(), w.small() as u32);
                let (tokens, capacity) = w.room(4);
                remask_model_encode_chat(
                    model,
                    messages.as_ptr(),
                    messages.len(),
                    flags,
                    tokens.cast(),
                    capacity,
                    &mut c.len,
                    c.error,
                )
            }
        }
    }
}
