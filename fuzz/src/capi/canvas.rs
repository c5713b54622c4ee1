//! Canvases: built, edited, read.

use std::ffi::c_char;
use std::ptr::null_mut;

use super::{Call, Failure, Handle, Message, Status, World};

unsafe extern "C" {
    fn remask_canvas_new(model: Handle, out: *mut Handle, error: Failure) -> Status;
    fn remask_canvas_copy(canvas: Handle, out: *mut Handle, error: Failure) -> Status;
    pub(super) fn remask_canvas_free(canvas: Handle);
    fn remask_canvas_append_text(
        canvas: Handle,
        text: *const c_char,
        len: usize,
        flags: u32,
        error: Failure,
    ) -> Status;
    fn remask_canvas_append_tokens(canvas: Handle, tokens: *const i32, n: usize, error: Failure) -> Status;
    pub(super) fn remask_canvas_append_masks(canvas: Handle, n: usize, error: Failure) -> Status;
    fn remask_canvas_append_holes(
        canvas: Handle,
        text: *const c_char,
        len: usize,
        flags: u32,
        error: Failure,
    ) -> Status;
    fn remask_canvas_append_chat(
        canvas: Handle,
        messages: *const Message,
        n: usize,
        flags: u32,
        error: Failure,
    ) -> Status;
    fn remask_canvas_mask(canvas: Handle, begin: usize, end: usize, error: Failure) -> Status;
    fn remask_canvas_fix(canvas: Handle, begin: usize, end: usize, error: Failure) -> Status;
    fn remask_canvas_set(
        canvas: Handle,
        begin: usize,
        tokens: *const i32,
        n: usize,
        error: Failure,
    ) -> Status;
    fn remask_canvas_forbid(
        canvas: Handle,
        begin: usize,
        end: usize,
        tokens: *const i32,
        n: usize,
        error: Failure,
    ) -> Status;
    fn remask_canvas_truncate(canvas: Handle, n: usize, error: Failure) -> Status;
    pub(super) fn remask_canvas_count(
        canvas: Handle,
        n_slots: *mut usize,
        n_masked: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_canvas_tokens(
        canvas: Handle,
        tokens: *mut i32,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_canvas_slots(
        canvas: Handle,
        slots: *mut u8,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_canvas_text(
        canvas: Handle,
        begin: usize,
        end: usize,
        flags: u32,
        text: *mut u8,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_canvas_response(
        canvas: Handle,
        flags: u32,
        text: *mut u8,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
}

/// One edit, or one look.
///
/// # Safety
/// Handles in the slots are live or NULL.
pub(super) unsafe fn act(w: &mut World<'_>, c: &mut Call) -> Status {
    // SAFETY: texts, arrays and room are as long as is said; handles are live or NULL; structs have the size
    // that they name; a slot that is freed becomes NULL.
    unsafe {
        match c.which {
            19 | 20 => {
                let slot = c.place % 4;
                remask_canvas_free(w.canvases[slot]);
                remask_canvas_new(w.model(), &mut w.canvases[slot], c.error)
            }
            21 => {
                let from = w.canvas();
                let mut copy = null_mut();
                let status = remask_canvas_copy(from, &mut copy, c.error);
                let slot = c.place % 4;
                remask_canvas_free(w.canvases[slot]);
                w.canvases[slot] = copy;
                status
            }
            22 => {
                let (canvas, text, flags) = (w.canvas(), w.text(), w.small() as u32);
                remask_canvas_append_text(canvas, text.data, text.len, flags, c.error)
            }
            23 => {
                let (canvas, tokens) = (w.canvas(), w.tokens());
                remask_canvas_append_tokens(canvas, tokens.as_ptr(), tokens.len(), c.error)
            }
            24 | 25 => {
                let (canvas, n) = (w.canvas(), w.small());
                remask_canvas_append_masks(canvas, n, c.error)
            }
            26 => {
                let (canvas, text, flags) = (w.canvas(), w.text(), w.small() as u32);
                remask_canvas_append_holes(canvas, text.data, text.len, flags, c.error)
            }
            27 => {
                let (canvas, messages, flags) = (w.canvas(), w.messages(), w.small() as u32);
                remask_canvas_append_chat(canvas, messages.as_ptr(), messages.len(), flags, c.error)
            }
            28 => {
                let (canvas, begin, end) = (w.canvas(), w.small(), w.small());
                remask_canvas_mask(canvas, begin, end, c.error)
            }
            29 => {
                let (canvas, begin, end) = (w.canvas(), w.small(), w.small());
                remask_canvas_fix(canvas, begin, end, c.error)
            }
            30 => {
                let (canvas, begin, tokens) = (w.canvas(), w.small(), w.tokens());
                remask_canvas_set(canvas, begin, tokens.as_ptr(), tokens.len(), c.error)
            }
            31 => {
                let (canvas, begin, end, tokens) = (w.canvas(), w.small(), w.small(), w.tokens());
                remask_canvas_forbid(canvas, begin, end, tokens.as_ptr(), tokens.len(), c.error)
            }
            32 => {
                let (canvas, n) = (w.canvas(), w.small());
                remask_canvas_truncate(canvas, n, c.error)
            }
            33 => {
                let canvas = w.canvas();
                let mut n_masked = 0;
                let some = w.tape.byte() != 0;
                let status = remask_canvas_count(
                    canvas,
                    &mut c.len,
                    if some { &mut n_masked } else { null_mut() },
                    c.error,
                );
                assert!(status != 0 || n_masked <= c.len);
                status
            }
            34 => {
                let canvas = w.canvas();
                let (tokens, capacity) = w.room(4);
                remask_canvas_tokens(canvas, tokens.cast(), capacity, &mut c.len, c.error)
            }
            35 => {
                let canvas = w.canvas();
                let (slots, capacity) = w.room(1);
                remask_canvas_slots(canvas, slots, capacity, &mut c.len, c.error)
            }
            36 => {
                let (canvas, begin, end, flags) = (w.canvas(), w.small(), w.small(), w.small() as u32);
                let (text, capacity) = w.room(1);
                remask_canvas_text(canvas, begin, end, flags, text, capacity, &mut c.len, c.error)
            }
            _ => {
                let (canvas, flags) = (w.canvas(), w.small() as u32);
                let (text, capacity) = w.room(1);
                remask_canvas_response(canvas, flags, text, capacity, &mut c.len, c.error)
            }
        }
    }
}
