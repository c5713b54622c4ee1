//! Runs: pulled step by step, or driven to the end with a callback.

use std::ffi::c_void;
use std::sync::Mutex;

use super::args::{clear, free, give, handle, lock};
use super::canvas::remask_canvas;
use super::error::remask_error;
use super::generate::remask_generate_params;
use super::guard::call;
use super::session::remask_session;
use super::sized::{self, sized};
use super::types::{REMASK_CONTINUE, remask_status};
use super::work::Work;

/// A generation under way. Uses its session until freed.
pub struct remask_run {
    work: Mutex<Work>,
}

/// One slot that a step filled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_change {
    /// Position in the canvas.
    pub slot: u32,
    /// The token it holds now.
    pub token: i32,
    /// What it was ranked by: a probability for `REMASK_ORDER_LOW_CONFIDENCE`; see `REMASK_ORDER_*`.
    pub confidence: f32,
    /// 0 for now.
    pub reserved: u32,
}

/// What one step did to one canvas. Begin with `remask_step_init`. Arrays belong to the run and are valid
/// until its next step and its end.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_step {
    /// Set by `remask_step_init`.
    pub struct_size: u32,
    /// Which of the run's canvases this is about, from 0.
    pub i_canvas: u32,
    /// Number of the run's canvases.
    pub n_canvases: u32,
    /// 1 when all canvases are finished, else 0.
    pub done: u32,
    /// 1 when this canvas is finished, else 0.
    pub canvas_done: u32,
    /// 1 when an end token or stop text has settled where this response ends, else 0.
    pub ended: u32,
    /// Steps of the plan that are behind this canvas, this one counted.
    pub i_step: u32,
    /// Steps of the plan.
    pub n_steps: u32,
    /// First slot of the block at work.
    pub block_begin: u32,
    /// End of that block.
    pub block_end: u32,
    /// Slots still masked.
    pub n_masked: u32,
    /// Slots that hold the prompt and the response: all, or fewer where `ended` is 1.
    pub end: u32,
    /// Function evaluations so far, over all canvases: forward passes of one canvas.
    pub nfe: u64,
    /// Time of this step, in microseconds, over all canvases.
    pub step_us: u64,
    /// Time of all steps so far, in microseconds.
    pub elapsed_us: u64,
    /// Slots that this step filled, the surest first.
    pub changed: *const remask_change,
    /// Their number.
    pub n_changed: usize,
    /// Token of every slot.
    pub tokens: *const i32,
    /// State of every slot (`REMASK_SLOT_*`).
    pub slots: *const u8,
    /// Number of slots.
    pub n_slots: usize,
}

/// Called after each step, once for every canvas that the step worked on; `step` lives for the call.
/// Returns `REMASK_CONTINUE` or `REMASK_STOP`. May call remask, but not the session and canvases at work,
/// which are busy (canvases can be read).
pub type remask_step_fn =
    Option<unsafe extern "C" fn(step: *const remask_step, user_data: *mut c_void) -> i32>;

sized!(remask_step, |zero| zero);

/// Prepares `step` to receive a report. Pass `sizeof(remask_step)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_step_init(step: *mut remask_step, struct_size: usize) {
    // SAFETY: by the caller's contract.
    unsafe { sized::init(step, struct_size) };
}

/// Starts a run that fills the masked slots of one or more canvases. They go through the network together
/// where that pays. On the CPU a canvas comes out as it would alone, whatever its neighbours are; on
/// other devices the last digits of its logits may depend on them.
///
/// Fails with REMASK_STATUS_BUSY while another run or call uses the session or one of the canvases.
///
/// @param canvases  Array of `n_canvases` handles. The run keeps what it needs of them.
/// @param params    NULL for the defaults.
/// @param out_run   Receives an owned handle; free it with `remask_run_free`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_run_new(
    session: *mut remask_session,
    canvases: *const *mut remask_canvas,
    n_canvases: usize,
    params: *const remask_generate_params,
    out_run: *mut *mut remask_run,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        // SAFETY: by the caller's contract.
        unsafe { clear(out_run, "out_run") }?;
        // SAFETY: by the caller's contract.
        let work = unsafe { Work::begin(session, canvases, n_canvases, params) }?;
        let run = remask_run {
            work: Mutex::new(work),
        };
        // SAFETY: by the caller's contract.
        unsafe { give(run, out_run) };
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}

/// Does one step on every canvas that is not finished, and shows it on the canvases. A canvas that is
/// finished by it is cut where its response ends. A run that is done stays as it is.
///
/// When it fails the canvases are as before the step; it can be tried again.
///
/// @param step      Receives the report of canvas 0; NULL if not wanted.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_run_step(
    run: *mut remask_run,
    step: *mut remask_step,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        // SAFETY: by the caller's contract.
        let run = unsafe { handle(run, "run") }?;
        let mut work = lock(&run.work, "run")?;
        work.step()?;
        match step.is_null() {
            true => Ok(()),
            // SAFETY: by the caller's contract.
            false => unsafe { sized::write(&work.report(0)?, step) },
        }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}

/// Starts what the next step computes, where GPUs compute all of it, and returns at once: for hosts with
/// something else to do between two steps. On a CPU, or where GPUs work as one, nothing is done ahead.
///
/// Until that step `remask_run_replace` returns REMASK_STATUS_BUSY. An error of a device is told by that
/// step. `remask_session_generate` does this before it calls its callback.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_run_begin_step(
    run: *mut remask_run,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        // SAFETY: by the caller's contract.
        let run = unsafe { handle(run, "run") }?;
        lock(&run.work, "run")?.begin_step()
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}

/// The last step's report of canvas `i_canvas`. Fails with `REMASK_STATUS_NOT_FOUND` beyond the last.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_run_report(
    run: *const remask_run,
    i_canvas: usize,
    step: *mut remask_step,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        // SAFETY: by the caller's contract.
        let run = unsafe { handle(run, "run") }?;
        let work = lock(&run.work, "run")?;
        // SAFETY: by the caller's contract.
        unsafe { sized::write(&work.report(i_canvas)?, step) }
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}

/// Puts `tokens` on canvas `i_canvas` between two steps, as if the steps so far had led there: masked
/// where they are the mask token. Fixed slots keep what they hold.
///
/// @param n_tokens  Must be the number of the canvas' slots.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_run_replace(
    run: *mut remask_run,
    i_canvas: usize,
    tokens: *const i32,
    n_tokens: usize,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        // SAFETY: by the caller's contract.
        let run = unsafe { handle(run, "run") }?;
        // SAFETY: by the caller's contract.
        let ids = unsafe { super::args::tokens(tokens, n_tokens, "the tokens") }?;
        lock(&run.work, "run")?.replace(i_canvas, &ids)
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}

/// Gives a run back and releases its session and canvases, which keep what was filled; NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remask_run_free(run: *mut remask_run) {
    // SAFETY: a live handle or NULL, given up by the caller.
    unsafe { free(run) };
}

/// Fills every masked slot: `remask_run_new`, `remask_run_step` until done, `remask_run_free`.
///
/// While it runs, other calls on `session` and calls that change the canvases return
/// REMASK_STATUS_BUSY, from the callback too. When it fails or is stopped the canvases keep what was
/// filled.
///
/// @param params    NULL for the defaults.
/// @param on_step   NULL for none.
/// @param user_data Goes to `on_step` untouched.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn remask_session_generate(
    session: *mut remask_session,
    canvases: *const *mut remask_canvas,
    n_canvases: usize,
    params: *const remask_generate_params,
    on_step: remask_step_fn,
    user_data: *mut c_void,
    error: *mut *mut remask_error,
) -> remask_status {
    let body = || {
        // SAFETY: by the caller's contract.
        let mut work = unsafe { Work::begin(session, canvases, n_canvases, params) }?;
        while !work.is_done() {
            work.step()?;
            let Some(on_step) = on_step else { continue };
            work.begin_step()?;
            for i in 0..work.n_canvases() {
                if !work.worked_on(i) {
                    continue;
                }
                let report = work.report(i)?;
                // SAFETY: the caller's function, called as it says, with a report that outlives the call.
                if unsafe { on_step(&report, user_data) } != REMASK_CONTINUE {
                    return Err(crate::err!(Cancelled, "the callback stopped the run").into());
                }
            }
        }
        Ok(())
    };
    // SAFETY: by the caller's contract.
    unsafe { call(error, body) }
}
