//! Canvases.

use std::ffi::c_char;

use super::chat::remask_message;
use super::error::remask_error;
use super::model::remask_model;
use super::types::remask_status;

/// State of a slot: given by the caller; never changed by a run.
pub const REMASK_SLOT_FIXED: u8 = 0;
/// To be filled; holds the mask token.
pub const REMASK_SLOT_MASKED: u8 = 1;
/// Filled by a run.
pub const REMASK_SLOT_FILLED: u8 = 2;

/// A row of tokens, some given and some masked.
///
/// A run shows its progress on its canvases: between steps they can be read, and calls that change them
/// return `REMASK_STATUS_BUSY` until the run is freed.
pub struct remask_canvas {
    canvas: (),
}

/// Makes an empty canvas for `model`. It keeps what it needs of the model.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_new(
    model: *const remask_model,
    out_canvas: *mut *mut remask_canvas,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Makes a copy of a canvas as it is now. The copy belongs to no run.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_copy(
    canvas: *const remask_canvas,
    out_canvas: *mut *mut remask_canvas,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Gives a canvas back; NULL is fine. A run on it goes on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_canvas_free(canvas: *mut remask_canvas) {}

/// Appends fixed text.
///
/// @param flags     Bit set of `REMASK_ENCODE_*`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_append_text(
    canvas: *mut remask_canvas,
    text: *const c_char,
    text_len: usize,
    flags: u32,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Appends fixed tokens. The mask token among them is shown to the model and never filled.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_append_tokens(
    canvas: *mut remask_canvas,
    tokens: *const i32,
    n_tokens: usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Appends `n` slots for a run to fill.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_append_masks(
    canvas: *mut remask_canvas,
    n: usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Appends text with holes: `The [[4]] sat on the [[3]].` has 4 and 3 slots to fill. `[[[[` stands for
/// a literal `[[`.
///
/// @param flags     Bit set of `REMASK_ENCODE_*`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_append_holes(
    canvas: *mut remask_canvas,
    text: *const c_char,
    text_len: usize,
    flags: u32,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Appends a conversation through the model's chat template.
///
/// @param flags     Bit set of `REMASK_CHAT_*`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_append_chat(
    canvas: *mut remask_canvas,
    messages: *const remask_message,
    n_messages: usize,
    flags: u32,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Masks slots `[begin, end)` again, fixed ones too. Here and below an `end` of SIZE_MAX is the
/// canvas' end.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_mask(
    canvas: *mut remask_canvas,
    begin: usize,
    end: usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Fixes what a run filled in `[begin, end)`, so that the next run takes it as given. Masked slots stay
/// masked.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_fix(
    canvas: *mut remask_canvas,
    begin: usize,
    end: usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Puts fixed tokens into the slots from `begin` on, whatever is there.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_set(
    canvas: *mut remask_canvas,
    begin: usize,
    tokens: *const i32,
    n_tokens: usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Tokens that runs never put into slots `[begin, end)`, besides those forbidden there before;
/// `n_tokens` 0 allows all again.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_forbid(
    canvas: *mut remask_canvas,
    begin: usize,
    end: usize,
    tokens: *const i32,
    n_tokens: usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Removes everything from slot `n_slots` on; 0 empties the canvas.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_truncate(
    canvas: *mut remask_canvas,
    n_slots: usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Number of slots, and of those still masked.
///
/// @param n_slots   NULL if not wanted.
/// @param n_masked  NULL if not wanted.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_count(
    canvas: *const remask_canvas,
    n_slots: *mut usize,
    n_masked: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Copies the token of every slot, in the manner of `remask_model_encode`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_tokens(
    canvas: *const remask_canvas,
    tokens: *mut i32,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Copies the state of every slot (`REMASK_SLOT_*`), in the manner of `remask_model_encode`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_slots(
    canvas: *const remask_canvas,
    slots: *mut u8,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Text of slots `[begin, end)`, in the manner of `remask_model_decode`. Slots still masked give nothing.
///
/// @param flags     Bit set of `REMASK_DECODE_*`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_text(
    canvas: *const remask_canvas,
    begin: usize,
    end: usize,
    flags: u32,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
}

/// Text of the response: everything after the last fixed slot, in the manner of `remask_model_decode`.
///
/// @param flags     Bit set of `REMASK_DECODE_*`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_response(
    canvas: *const remask_canvas,
    flags: u32,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut remask_error,
) -> remask_status {
}
