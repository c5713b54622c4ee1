//! Decoders: text as it comes.

use super::{Call, Failure, Handle, Status, World};

unsafe extern "C" {
    fn remask_decoder_new(model: Handle, flags: u32, out: *mut Handle, error: Failure) -> Status;
    fn remask_decoder_push(
        decoder: Handle,
        tokens: *const i32,
        n: usize,
        text: *mut u8,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_decoder_finish(
        decoder: Handle,
        text: *mut u8,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    pub(super) fn remask_decoder_free(decoder: Handle);
}

/// Made, pushed to, finished.
///
/// # Safety
/// Handles in the slots are live or NULL.
pub(super) unsafe fn act(w: &mut World<'_>, c: &mut Call) -> Status {
    // SAFETY: texts, arrays and room are as long as is said; handles are live or NULL; structs have the size
    // that they name; a slot that is freed becomes NULL.
    unsafe {
        match c.which {
            14 => {
                let slot = c.place % 2;
                remask_decoder_free(w.decoders[slot]);
                let (model, flags) = (w.model(), w.small() as u32);
                remask_decoder_new(model, flags, &mut w.decoders[slot], c.error)
            }
            15 => {
                let (decoder, tokens) = (w.decoder(), w.tokens());
                let (text, capacity) = w.room(1);
                remask_decoder_push(
                    decoder,
                    tokens.as_ptr(),
                    tokens.len(),
                    text,
                    capacity,
                    &mut c.len,
                    c.error,
                )
            }
            _ => {
                let decoder = w.decoder();
                let (text, capacity) = w.room(1);
                remask_decoder_finish(decoder, text, capacity, &mut c.len, c.error)
            }
        }
    }
}
