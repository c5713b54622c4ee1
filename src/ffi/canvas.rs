//! Canvases.

use std::ffi::c_char;
use std::ops::Range;
use std::sync::Mutex;

use super::args::{clear, copy_out, free, give, handle, lock, put};
use super::chat::remask_message;
use super::error::remask_error;
use super::guard::{Outcome, busy, call, invalid};
use super::model::remask_model;
use super::types::remask_status;
use crate::canvas::{Canvas, MAX_SLOTS, Slot};
use crate::model::Model;
use crate::text::{Piece, parse_holes};

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
    model: Model,
    state: Mutex<State>,
}

struct State {
    canvas: Canvas,
    in_run: bool,
}

impl remask_canvas {
    fn new(model: &Model, canvas: Canvas) -> Self {
        Self {
            model: model.clone(),
            state: Mutex::new(State {
                canvas,
                in_run: false,
            }),
        }
    }

    /// Changes the canvas, unless a run is at work on it.
    fn change(&self, work: impl FnOnce(&mut Canvas) -> Outcome) -> Outcome {
        let mut state = lock(&self.state, "canvas")?;
        match state.in_run {
            true => Err(busy("canvas")),
            false => work(&mut state.canvas),
        }
    }

    /// The caller's tokens, all of the vocabulary.
    ///
    /// # Safety
    /// As for `args::tokens`.
    unsafe fn tokens(&self, tokens: *const i32, n_tokens: usize) -> Outcome<Vec<u32>> {
        // SAFETY: by this function's contract.
        let ids = unsafe { super::args::tokens(tokens, n_tokens, "the tokens") }?;
        let n_vocab = self.model.sizes().n_vocab;
        match ids.iter().find(|&&id| id as usize >= n_vocab) {
            Some(id) => Err(invalid(format!(
                "token {id} is outside the vocabulary of {n_vocab}"
            ))),
            None => Ok(ids),
        }
    }

    /// Takes the canvas for a run, which gets a copy.
    pub(super) fn enter_run(&self) -> Outcome<Canvas> {
        let mut state = lock(&self.state, "canvas")?;
        if state.in_run {
            return Err(busy("canvas"));
        }
        state.in_run = true;
        Ok(state.canvas.clone())
    }

    /// Shows what a step made of it, cut to `n_slots`.
    pub(super) fn show(&self, now: &Canvas, n_slots: usize) {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        state.canvas.copy_from(now);
        if n_slots < state.canvas.len() {
            state.canvas.truncate(n_slots);
        }
    }

    /// Lets the caller have it again.
    pub(super) fn leave_run(&self) {
        self.state.lock().unwrap_or_else(|e| e.into_inner()).in_run = false;
    }
}

/// `begin..end`, where SIZE_MAX is the canvas' end.
fn range(canvas: &Canvas, begin: usize, end: usize) -> Range<usize> {
    begin..if end == usize::MAX { canvas.len() } else { end }
}

/// Appends fixed tokens, up to the longest canvas there may be.
fn append(canvas: &mut Canvas, ids: &[u32]) -> Outcome {
    if canvas.len().saturating_add(ids.len()) > MAX_SLOTS {
        return Err(crate::err!(
            Limit,
            "{} more slots make the canvas longer than {MAX_SLOTS}",
            ids.len()
        )
        .into());
    }
    canvas.push_fixed(ids);
    Ok(())
}

fn append_holes(canvas: &mut Canvas, model: &Model, text: &str, flags: u32) -> Outcome {
    let (before, mut flags) = (canvas.len(), flags);
    let mut appended = || {
        for piece in parse_holes(text)? {
            match piece {
                Piece::Text(text) => append(canvas, &super::tokenizer::encode(model, &text, flags)?)?,
                Piece::Hole(n) => canvas.push_masked(n)?,
                Piece::Open => return Err(invalid("a hole needs its number of slots here: `[[4]]`")),
            }
            // The text begins once.
            flags &= !super::tokenizer::REMASK_ENCODE_BOS;
        }
        Ok(())
    };
    let done = appended();
    if done.is_err() {
        canvas.truncate(before);
    }
    done
}

/// Text of the slots of `range` that hold some.
fn shown(model: &Model, canvas: &Canvas, range: Range<usize>, flags: u32) -> Outcome<String> {
    let tokens = canvas.tokens().get(range.clone());
    let (Some(tokens), Some(slots)) = (tokens, canvas.slots().get(range.clone())) else {
        return Err(invalid(format!(
            "slots {range:?} are not inside a canvas of {}",
            canvas.len()
        )));
    };
    let kept = tokens
        .iter()
        .zip(slots)
        .filter(|(_, slot)| **slot != Slot::Masked);
    let kept: Vec<u32> = kept.map(|(&token, _)| token).collect();
    super::tokenizer::decode(model, &kept, flags)
}

/// Makes an empty canvas for `model`. It keeps what it needs of the model.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_new(
    model: *const remask_model,
    out_canvas: *mut *mut remask_canvas,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        // SAFETY: by the caller's contract.
        unsafe { clear(out_canvas, "out_canvas") }?;
        // SAFETY: by the caller's contract.
        let model = unsafe { handle(model, "model") }?;
        let canvas = Canvas::new(model.model.mask_token());
        // SAFETY: by the caller's contract.
        unsafe { give(remask_canvas::new(&model.model, canvas), out_canvas) };
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}

/// Makes a copy of a canvas as it is now. The copy belongs to no run.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_copy(
    canvas: *const remask_canvas,
    out_canvas: *mut *mut remask_canvas,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        // SAFETY: by the caller's contract.
        unsafe { clear(out_canvas, "out_canvas") }?;
        // SAFETY: by the caller's contract.
        let canvas = unsafe { handle(canvas, "canvas") }?;
        let copy = lock(&canvas.state, "canvas")?.canvas.clone();
        // SAFETY: by the caller's contract.
        unsafe { give(remask_canvas::new(&canvas.model, copy), out_canvas) };
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}

/// Gives a canvas back; NULL is fine. A run on it goes on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_canvas_free(canvas: *mut remask_canvas) {
    // SAFETY: a live handle or NULL, given up by the caller.
    unsafe { free(canvas) };
}

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
    let body = || {
        // SAFETY: by the caller's contract.
        let canvas = unsafe { handle(canvas, "canvas") }?;
        // SAFETY: by the caller's contract.
        let text = unsafe { super::args::text(text, text_len, "the text") }?;
        let ids = super::tokenizer::encode(&canvas.model, text, flags)?;
        canvas.change(|canvas| append(canvas, &ids))
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let canvas = unsafe { handle(canvas, "canvas") }?;
        // SAFETY: by the caller's contract.
        let ids = unsafe { canvas.tokens(tokens, n_tokens) }?;
        canvas.change(|canvas| append(canvas, &ids))
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}

/// Appends `n` slots for a run to fill.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_append_masks(
    canvas: *mut remask_canvas,
    n: usize,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        // SAFETY: by the caller's contract.
        let canvas = unsafe { handle(canvas, "canvas") }?;
        canvas.change(|canvas| Ok(canvas.push_masked(n)?))
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let canvas = unsafe { handle(canvas, "canvas") }?;
        // SAFETY: by the caller's contract.
        let text = unsafe { super::args::text(text, text_len, "the text") }?;
        let model = canvas.model.clone();
        canvas.change(|canvas| append_holes(canvas, &model, text, flags))
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let canvas = unsafe { handle(canvas, "canvas") }?;
        // SAFETY: by the caller's contract.
        let messages = unsafe { super::chat::read_messages(messages, n_messages) }?;
        let (template, options) = super::chat::template(&canvas.model, flags)?;
        let ids = template.encode(canvas.model.tokenizer(), &messages, &options)?;
        canvas.change(|canvas| append(canvas, &ids))
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let canvas = unsafe { handle(canvas, "canvas") }?;
        canvas.change(|canvas| Ok(canvas.mask_range(range(canvas, begin, end))?))
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let canvas = unsafe { handle(canvas, "canvas") }?;
        canvas.change(|canvas| Ok(canvas.fix_range(range(canvas, begin, end))?))
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let canvas = unsafe { handle(canvas, "canvas") }?;
        // SAFETY: by the caller's contract.
        let ids = unsafe { canvas.tokens(tokens, n_tokens) }?;
        canvas.change(|canvas| Ok(canvas.set_fixed(begin, &ids)?))
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let canvas = unsafe { handle(canvas, "canvas") }?;
        // SAFETY: by the caller's contract.
        let ids = unsafe { canvas.tokens(tokens, n_tokens) }?;
        canvas.change(|canvas| Ok(canvas.forbid(range(canvas, begin, end), &ids)?))
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}

/// Removes everything from slot `n_slots` on; 0 empties the canvas.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_canvas_truncate(
    canvas: *mut remask_canvas,
    n_slots: usize,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        // SAFETY: by the caller's contract.
        let canvas = unsafe { handle(canvas, "canvas") }?;
        canvas.change(|canvas| {
            canvas.truncate(n_slots);
            Ok(())
        })
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let canvas = unsafe { handle(canvas, "canvas") }?;
        let state = lock(&canvas.state, "canvas")?;
        // SAFETY: by the caller's contract.
        unsafe { put(state.canvas.len(), n_slots) };
        // SAFETY: by the caller's contract.
        unsafe { put(state.canvas.n_masked(), n_masked) };
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let canvas = unsafe { handle(canvas, "canvas") }?;
        let state = lock(&canvas.state, "canvas")?;
        // SAFETY: by the caller's contract.
        unsafe { copy_out(state.canvas.tokens(), tokens.cast(), capacity, len) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let canvas = unsafe { handle(canvas, "canvas") }?;
        let state = lock(&canvas.state, "canvas")?;
        let states: Vec<u8> = state.canvas.slots().iter().map(|&slot| slot as u8).collect();
        // SAFETY: by the caller's contract.
        unsafe { copy_out(&states, slots, capacity, len) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let canvas = unsafe { handle(canvas, "canvas") }?;
        let state = lock(&canvas.state, "canvas")?;
        let range = range(&state.canvas, begin, end);
        let decoded = shown(&canvas.model, &state.canvas, range, flags)?;
        // SAFETY: by the caller's contract.
        unsafe { copy_out(decoded.as_bytes(), text.cast(), capacity, len) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
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
    let body = || {
        // SAFETY: by the caller's contract.
        let canvas = unsafe { handle(canvas, "canvas") }?;
        let state = lock(&canvas.state, "canvas")?;
        let last = state.canvas.slots().iter().rposition(|&slot| slot == Slot::Fixed);
        let range = last.map_or(0, |last| last + 1)..state.canvas.len();
        let decoded = shown(&canvas.model, &state.canvas, range, flags)?;
        // SAFETY: by the caller's contract.
        unsafe { copy_out(decoded.as_bytes(), text.cast(), capacity, len) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}

const _: () = assert!(REMASK_SLOT_FIXED == Slot::Fixed as u8);
const _: () = assert!(REMASK_SLOT_MASKED == Slot::Masked as u8);
const _: () = assert!(REMASK_SLOT_FILLED == Slot::Filled as u8);
