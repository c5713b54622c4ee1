//! Sessions, and what they compute of given tokens; devices.

use super::{Call, Failure, Handle, Space, Status, World};

#[repr(C)]
struct SessionParams {
    struct_size: u32,
    n_threads: u32,
    flash: i32,
    max_canvas: u32,
}

unsafe extern "C" {
    fn remask_session_params_init(params: *mut SessionParams, size: usize);
    fn remask_session_new(
        model: Handle,
        params: *const SessionParams,
        out: *mut Handle,
        error: Failure,
    ) -> Status;
    pub(super) fn remask_session_free(session: Handle);
    pub(super) fn remask_session_get_stats(session: Handle, stats: *mut Space, error: Failure) -> Status;
    fn remask_session_logits(
        session: Handle,
        tokens: *const i32,
        n: usize,
        rows: *const u32,
        n_rows: usize,
        logits: *mut f32,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_session_embeddings(
        session: Handle,
        tokens: *const i32,
        n: usize,
        pooling: i32,
        out: *mut f32,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_device_get(index: usize, device: *mut Space, error: Failure) -> Status;
}

/// Made, asked, computed with.
///
/// # Safety
/// Handles in the slots are live or NULL.
pub(super) unsafe fn act(w: &mut World<'_>, c: &mut Call) -> Status {
    // SAFETY: texts, arrays and room are as long as is said; handles are live or NULL; structs have the size
    // that they name; a slot that is freed becomes NULL.
    unsafe {
        match c.which {
            38 | 39 => {
                let slot = c.place % 3;
                remask_session_free(w.sessions[slot]);
                let mut params = SessionParams {
                    struct_size: 0,
                    n_threads: 0,
                    flash: 0,
                    max_canvas: 0,
                };
                remask_session_params_init(&mut params, size_of::<SessionParams>());
                params.n_threads = 1;
                if w.tape.byte() > 200 {
                    params.flash = i32::from(w.tape.byte() % 5) - 1;
                    params.max_canvas = w.small() as u32;
                }
                remask_session_new(w.model(), &params, &mut w.sessions[slot], c.error)
            }
            40 => {
                let session = w.session();
                c.space[0] = w.small() as u64 & 511;
                remask_session_get_stats(session, &mut c.space, c.error)
            }
            _ => {
                let (session, tokens) = (w.session(), w.tokens());
                let rows = [w.small() as u32, w.small() as u32];
                let (out, capacity) = w.room(4);
                match w.tape.byte() % 3 {
                    0 => remask_device_get(
                        w.small(),
                        {
                            c.space[0] = 216;
                            &mut c.space
                        },
                        c.error,
                    ),
                    1 => remask_session_logits(
                        session,
                        tokens.as_ptr(),
                        tokens.len(),
                        rows.as_ptr(),
                        usize::from(w.tape.byte() % 3),
                        out.cast(),
                        capacity,
                        &mut c.len,
                        c.error,
                    ),
                    _ => remask_session_embeddings(
                        session,
                        tokens.as_ptr(),
                        tokens.len(),
                        i32::from(w.tape.byte() % 4),
                        out.cast(),
                        capacity,
                        &mut c.len,
                        c.error,
                    ),
                }
            }
        }
    }
}
