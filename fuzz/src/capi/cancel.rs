//! Cancel tokens.

use super::{Call, Handle, Status, World};

unsafe extern "C" {
    fn remask_cancel_new() -> Handle;
    fn remask_cancel_set(cancel: Handle);
    fn remask_cancel_reset(cancel: Handle);
    fn remask_cancel_is_set(cancel: Handle) -> i32;
    pub(super) fn remask_cancel_free(cancel: Handle);
}

/// Made, set, reset.
///
/// # Safety
/// Handles in the slots are live or NULL.
pub(super) unsafe fn act(w: &mut World<'_>, c: &mut Call) -> Status {
    // SAFETY: texts, arrays and room are as long as is said; handles are live or NULL; structs have the size
    // that they name; a slot that is freed becomes NULL.
    unsafe {
        match c.which {
            0 => {
                let slot = c.place % 2;
                remask_cancel_free(w.cancels[slot]);
                w.cancels[slot] = remask_cancel_new();
                0
            }
            1 => {
                let cancel = w.cancel();
                remask_cancel_set(cancel);
                let set = remask_cancel_is_set(cancel);
                assert_eq!(set, i32::from(!cancel.is_null()));
                0
            }
            _ => {
                let cancel = w.cancel();
                remask_cancel_reset(cancel);
                assert_eq!(remask_cancel_is_set(cancel), 0);
                0
            }
        }
    }
}
