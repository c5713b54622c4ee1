//! Models: opened, asked, estimated.

use std::ffi::{c_char, c_void};
use std::ptr::{null, null_mut};

use super::{Call, Failure, Handle, Space, Status, World};

unsafe extern "C" {
    fn remask_model_load(
        path: *const c_char,
        len: usize,
        params: *const Space,
        out: *mut Handle,
        error: Failure,
    ) -> Status;
    pub(super) fn remask_model_load_memory(
        bytes: *const u8,
        n: usize,
        drop: *const c_void,
        data: *mut c_void,
        params: *const Space,
        out: *mut Handle,
        error: Failure,
    ) -> Status;
    pub(super) fn remask_model_free(model: Handle);
    fn remask_model_get_info(model: Handle, info: *mut Space, error: Failure) -> Status;
    fn remask_model_meta_count(model: Handle) -> usize;
    fn remask_model_meta_key(
        model: Handle,
        index: usize,
        text: *mut u8,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_model_meta_value(
        model: Handle,
        key: *const c_char,
        key_len: usize,
        text: *mut u8,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_estimate_file(
        path: *const c_char,
        len: usize,
        n_slots: usize,
        n_masked: usize,
        out: *mut Space,
        error: Failure,
    ) -> Status;
    fn remask_estimate_memory(
        bytes: *const u8,
        n: usize,
        n_slots: usize,
        n_masked: usize,
        out: *mut Space,
        error: Failure,
    ) -> Status;
    fn remask_estimate_model(
        model: Handle,
        n_slots: usize,
        n_masked: usize,
        out: *mut Space,
        error: Failure,
    ) -> Status;
}

/// Loaded, freed, looked into.
///
/// # Safety
/// Handles in the slots are live or NULL.
pub(super) unsafe fn act(w: &mut World<'_>, c: &mut Call) -> Status {
    // SAFETY: texts, arrays and room are as long as is said; handles are live or NULL; structs have the size
    // that they name; a slot that is freed becomes NULL.
    unsafe {
        match c.which {
            3 => {
                let slot = 1 + c.place % 2;
                remask_model_free(w.models[slot]);
                w.models[slot] = null_mut();
                let path = w.begin.path.as_os_str().as_encoded_bytes();
                let text = w.text();
                match w.tape.byte() % 3 {
                    0 => remask_model_load(text.data, text.len, null(), &mut w.models[slot], c.error),
                    1 => remask_model_load(
                        path.as_ptr().cast(),
                        path.len(),
                        null(),
                        &mut w.models[slot],
                        c.error,
                    ),
                    _ => {
                        let n = w.begin.bytes.len();
                        let n = if w.tape.byte() > 128 { w.small().min(n) } else { n };
                        let bytes = w.begin.bytes.as_ptr();
                        remask_model_load_memory(
                            bytes,
                            n,
                            null(),
                            null_mut(),
                            null(),
                            &mut w.models[slot],
                            c.error,
                        )
                    }
                }
            }
            4 => {
                let slot = 1 + c.place % 2;
                remask_model_free(w.models[slot]);
                w.models[slot] = null_mut();
                0
            }
            5 => {
                let model = w.model();
                c.space[0] = w.small() as u64 & 511;
                remask_model_get_info(model, &mut c.space, c.error)
            }
            6 => {
                let model = w.model();
                let n = remask_model_meta_count(model);
                let index = w.small();
                let (text, capacity) = w.room(1);
                let status = remask_model_meta_key(model, index, text, capacity, &mut c.len, c.error);
                assert!(index < n || status != 0);
                status
            }
            7 => {
                let (model, key) = (w.model(), w.text());
                let (text, capacity) = w.room(1);
                remask_model_meta_value(model, key.data, key.len, text, capacity, &mut c.len, c.error)
            }
            _ => {
                let (n_slots, n_masked) = (w.small(), w.small());
                c.space[0] = 24;
                match w.tape.byte() % 3 {
                    0 => remask_estimate_model(w.model(), n_slots, n_masked, &mut c.space, c.error),
                    1 => {
                        let n = w.small().min(w.begin.bytes.len());
                        remask_estimate_memory(
                            w.begin.bytes.as_ptr(),
                            n,
                            n_slots,
                            n_masked,
                            &mut c.space,
                            c.error,
                        )
                    }
                    _ => {
                        let text = w.text();
                        remask_estimate_file(text.data, text.len, n_slots, n_masked, &mut c.space, c.error)
                    }
                }
            }
        }
    }
}
