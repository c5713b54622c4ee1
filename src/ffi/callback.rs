//! What the library keeps or calls of the caller's: data with a drop function, progress, cancel.

use std::ffi::c_void;
use std::ops::ControlFlow;

use super::cancel::{self, remask_cancel};
use super::guard::Outcome;
use super::types::{REMASK_CONTINUE, remask_drop_fn, remask_progress_fn};
use crate::denoise::CancelToken;

/// `user_data` of the caller's; its drop function is called once, when this goes.
pub(super) struct UserData {
    data: *mut c_void,
    drop: remask_drop_fn,
}

// SAFETY: the interface says that callbacks with such data come from any thread.
unsafe impl Send for UserData {}
// SAFETY: as for Send, from several at once.
unsafe impl Sync for UserData {}

impl UserData {
    pub fn new(data: *mut c_void, drop: remask_drop_fn) -> Self {
        Self { data, drop }
    }

    pub fn get(&self) -> *mut c_void {
        self.data
    }
}

impl Drop for UserData {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: the caller's function, called once with the data that came with it.
            unsafe { drop(self.data) };
        }
    }
}

/// The caller's eye on a long call.
pub(super) struct Watch {
    on_progress: remask_progress_fn,
    user_data: *mut c_void,
    cancel: Option<CancelToken>,
}

impl Watch {
    /// # Safety
    /// `cancel` is NULL or a live token.
    pub unsafe fn new(
        on_progress: remask_progress_fn,
        user_data: *mut c_void,
        cancel: *const remask_cancel,
    ) -> Outcome<Self> {
        Ok(Self {
            on_progress,
            user_data,
            // SAFETY: by this function's contract.
            cancel: unsafe { cancel::token(cancel) }?,
        })
    }

    /// Tells how far the call is, and asks whether to go on.
    pub fn progress(&mut self, done: u64, total: u64) -> ControlFlow<()> {
        if let Some(on_progress) = self.on_progress {
            // SAFETY: the caller's function, called as it says, while the call lasts.
            if unsafe { on_progress(done, total, self.user_data) } != REMASK_CONTINUE {
                return ControlFlow::Break(());
            }
        }
        self.cancelled()
    }

    /// Asks whether to go on.
    pub fn cancelled(&self) -> ControlFlow<()> {
        match self.cancel.as_ref().is_some_and(CancelToken::is_set) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
