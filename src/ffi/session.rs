//! Sessions.

use std::sync::Mutex;

use super::args::{clear, free, give, handle, lock};
use super::error::remask_error;
use super::guard::{Outcome, busy, call, invalid};
use super::model::remask_model;
use super::sized::{self, Sized32, sized};
use super::types::remask_status;
use crate::denoise::CancelToken;
use crate::session::{Flash, Session, SessionOptions};

/// One stream of work on one model: threads, compute buffers, graphs. Does one thing at a time; a
/// colliding call returns `REMASK_STATUS_BUSY` at once.
pub struct remask_session {
    state: Mutex<State>,
}

enum State {
    Ready(Box<Session>),
    InRun,
}

impl remask_session {
    /// Works with the session, unless a run or another call does.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Session) -> Outcome<T>) -> Outcome<T> {
        match &mut *lock(&self.state, "session")? {
            State::Ready(session) => work(session),
            State::InRun => Err(busy("session")),
        }
    }

    /// As [`with`](Self::with), stopped by `cancel`.
    pub(super) fn cancellable<T>(
        &self,
        cancel: Option<CancelToken>,
        work: impl FnOnce(&mut Session) -> Outcome<T>,
    ) -> Outcome<T> {
        self.with(|session| {
            session.set_cancel(cancel);
            let done = work(session);
            session.set_cancel(None);
            done
        })
    }

    /// Takes the session for a run.
    pub(super) fn enter_run(&self) -> Outcome<Session> {
        let mut state = lock(&self.state, "session")?;
        match std::mem::replace(&mut *state, State::InRun) {
            State::Ready(session) => Ok(*session),
            State::InRun => Err(busy("session")),
        }
    }

    /// Gives it back.
    pub(super) fn leave_run(&self, session: Session) {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        *state = State::Ready(Box::new(session));
    }
}

/// Which attention is used.
pub type remask_flash = i32;
/// Flash attention for canvases of 1024 slots or more.
pub const REMASK_FLASH_AUTO: remask_flash = 0;
/// Always.
pub const REMASK_FLASH_ON: remask_flash = 1;
/// Never.
pub const REMASK_FLASH_OFF: remask_flash = 2;

/// How a session computes. Begin with `remask_session_params_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_session_params {
    /// Set by `remask_session_params_init`.
    pub struct_size: u32,
    /// Threads on the CPU; 0 for one per physical core, per fast one where there are two kinds.
    /// More than the machine has are not made.
    pub n_threads: u32,
    /// One of `REMASK_FLASH_*`.
    pub flash: remask_flash,
    /// Longest canvas, in slots; 0 for the length that the model was trained for.
    pub max_canvas: u32,
}

/// What a session has done since it was made. Begin with `remask_session_stats_init`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_session_stats {
    /// Set by `remask_session_stats_init`.
    pub struct_size: u32,
    /// Threads in use on the CPU.
    pub n_threads: u32,
    /// Bytes of memory that it computes in; 0 before its first run.
    pub n_bytes: u64,
    /// Runs begun.
    pub n_runs: u64,
    /// Steps done in them.
    pub n_steps: u64,
    /// Function evaluations: forward passes of one canvas, in runs, scores, logits and embeddings.
    pub nfe: u64,
    /// Time spent in them, in microseconds.
    pub elapsed_us: u64,
}

sized!(remask_session_params, |zero| zero);
sized!(remask_session_stats, |zero| zero);

/// Sets `params` to the defaults. Pass `sizeof(remask_session_params)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_session_params_init(params: *mut remask_session_params, struct_size: usize) {
    // SAFETY: by the caller's contract.
    unsafe { sized::init(params, struct_size) };
}

/// Prepares `stats`. Pass `sizeof(remask_session_stats)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_session_stats_init(stats: *mut remask_session_stats, struct_size: usize) {
    // SAFETY: by the caller's contract.
    unsafe { sized::init(stats, struct_size) };
}

/// Makes a session on `model`, which it keeps alive. Memory to compute in is taken at the first run.
///
/// @param params    NULL for the defaults.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_session_new(
    model: *const remask_model,
    params: *const remask_session_params,
    out_session: *mut *mut remask_session,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        // SAFETY: by the caller's contract.
        unsafe { clear(out_session, "out_session") }?;
        // SAFETY: by the caller's contract.
        let model = unsafe { handle(model, "model") }?;
        // SAFETY: by the caller's contract.
        let params = unsafe { sized::read(params) }?;
        let options = SessionOptions {
            n_threads: params.n_threads as usize,
            flash: match params.flash {
                REMASK_FLASH_AUTO => Flash::Auto,
                REMASK_FLASH_ON => Flash::On,
                REMASK_FLASH_OFF => Flash::Off,
                other => return Err(invalid(format!("flash is {other}; it must be 0 to 2"))),
            },
            max_canvas: params.max_canvas as usize,
        };
        let session = remask_session {
            state: Mutex::new(State::Ready(Box::new(Session::new(&model.model, &options)?))),
        };
        // SAFETY: by the caller's contract.
        unsafe { give(session, out_session) };
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}

/// Gives a session back; NULL is fine. A run on it stays valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_session_free(session: *mut remask_session) {
    // SAFETY: a live handle or NULL, given up by the caller.
    unsafe { free(session) };
}

/// What a session has done.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_session_get_stats(
    session: *const remask_session,
    out_stats: *mut remask_session_stats,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        // SAFETY: by the caller's contract.
        let session = unsafe { handle(session, "session") }?;
        session.with(|session| {
            let done = session.stats();
            let stats = remask_session_stats {
                n_threads: u32::try_from(session.n_threads()).unwrap_or(u32::MAX),
                n_bytes: session.n_bytes(),
                n_runs: done.n_runs,
                n_steps: done.n_steps,
                nfe: done.nfe,
                elapsed_us: u64::try_from(done.elapsed.as_micros()).unwrap_or(u64::MAX),
                ..remask_session_stats::defaults()
            };
            // SAFETY: by the caller's contract.
            unsafe { sized::write(&stats, out_stats) }
        })
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}
