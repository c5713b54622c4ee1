//! Runs: made, stepped, reported, and whole ones that call back.

use std::ffi::c_void;
use std::ptr::null_mut;

use super::canvas::{remask_canvas_append_masks, remask_canvas_count};
use super::error::settle;
use super::session::remask_session_get_stats;
use super::{Call, Failure, Handle, Space, Status, Text, World};

/// `remask_generate_params` as it was first released, which is enough: it only grows.
#[repr(C)]
struct Generate {
    struct_size: u32,
    flags: u32,
    n_steps: u32,
    block_length: u32,
    order: i32,
    commit: i32,
    eos_token: i32,
    eot_token: i32,
    response_start: i64,
    seed: u64,
    commit_value: f64,
    temperature: f64,
    top_p: f64,
    top_k: u64,
    repetition_penalty: f64,
    guidance: f64,
    suppress: *const i32,
    n_suppress: usize,
    stop: *const Text,
    n_stop: usize,
    seeds: *const u64,
    n_seeds: usize,
    cancel: Handle,
    speed: i32,
    cache: i32,
    cache_type: i32,
    fast_dllm: i32,
    cache_refresh: u32,
    cache_prompt_interval: u32,
    cache_response_interval: u32,
    commit_radius: u32,
    suffix_window: u64,
    cache_update: f64,
    commit_relaxed: f64,
    early_commit: [f64; 3],
}

unsafe extern "C" {
    fn remask_generate_params_init(params: *mut Generate, size: usize);
    fn remask_step_init(step: *mut Space, size: usize);
    fn remask_run_new(
        session: Handle,
        canvases: *const Handle,
        n: usize,
        params: *const Generate,
        out: *mut Handle,
        error: Failure,
    ) -> Status;
    fn remask_run_step(run: Handle, step: *mut Space, error: Failure) -> Status;
    fn remask_run_begin_step(run: Handle, error: Failure) -> Status;
    fn remask_run_report(run: Handle, i_canvas: usize, step: *mut Space, error: Failure) -> Status;
    fn remask_run_replace(
        run: Handle,
        i_canvas: usize,
        tokens: *const i32,
        n: usize,
        error: Failure,
    ) -> Status;
    pub(super) fn remask_run_free(run: Handle);
    fn remask_session_generate(
        session: Handle,
        canvases: *const Handle,
        n: usize,
        params: *const Generate,
        on_step: Option<unsafe extern "C" fn(*const Space, *mut c_void) -> i32>,
        data: *mut c_void,
        error: Failure,
    ) -> Status;
}

/// Parameters, most of them as they are by default.
fn generate_params(w: &mut World<'_>) -> Generate {
    // SAFETY: integers, floats and pointers, for which zeros are valid.
    let mut p: Generate = unsafe { std::mem::zeroed() };
    // SAFETY: as many bytes are there.
    unsafe { remask_generate_params_init(&mut p, size_of::<Generate>()) };
    p.n_steps = 3;
    for _ in 0..w.tape.byte() % 6 {
        let field = w.tape.byte() % 24;
        let n = w.small();
        let choice = (n % 8) as i32 - 1;
        match field {
            0 => p.flags = n as u32,
            1 => p.n_steps = n as u32,
            2 => p.block_length = n as u32,
            3 => p.order = choice,
            4 => p.commit = choice,
            5 => p.eos_token = n as i32,
            6 => p.response_start = n as i64,
            7 => p.seed = n as u64,
            8 => p.commit_value = w.tape.real(),
            9 => p.temperature = w.tape.real(),
            10 => p.top_p = w.tape.real(),
            11 => p.top_k = n as u64,
            12 => p.repetition_penalty = w.tape.real(),
            13 => p.guidance = w.tape.real(),
            14 => p.speed = choice,
            15 => p.cache = choice,
            16 => p.cache_type = choice,
            17 => p.fast_dllm = choice,
            18 => p.cache_refresh = n as u32,
            19 => p.suffix_window = n as u64,
            20 => p.early_commit = [w.tape.real(); 3],
            21 => p.struct_size = [0, 7, 8, 16, 100, 4096, 5000][n % 7].min(size_of::<Generate>() as u32),
            22 => p.commit_radius = n as u32,
            _ => p.cancel = w.cancels[n % 2],
        }
    }
    p
}

/// Calls back into the library, as a host may.
unsafe extern "C" fn on_step(step: *const Space, data: *mut c_void) -> i32 {
    // SAFETY: `data` is the array that `generate` was given below.
    let [session, canvas, calls] = unsafe { &mut *data.cast::<[usize; 3]>() };
    assert!(!step.is_null());
    *calls += 1;
    let mut n = [0usize; 2];
    let mut stats: Space = [0; 64];
    stats[0] = 64;
    // SAFETY: the handles live through the run.
    unsafe {
        let mut error = null_mut();
        let status = remask_session_get_stats(*session as Handle, &mut stats, &mut error);
        settle(status, error);
        let [n_slots, n_masked] = &mut n;
        let mut error = null_mut();
        let status = remask_canvas_count(*canvas as Handle, n_slots, n_masked, &mut error);
        settle(status, error);
        let mut error = null_mut();
        let status = remask_canvas_append_masks(*canvas as Handle, 1, &mut error);
        assert!(status != 0 || *canvas == 0, "a canvas in a run was changed");
        settle(status, error);
    }
    i32::from(*calls > 6)
}

/// Made, stepped, freed, or run whole.
///
/// # Safety
/// Handles in the slots are live or NULL.
pub(super) unsafe fn act(w: &mut World<'_>, c: &mut Call) -> Status {
    // SAFETY: texts, arrays and room are as long as is said; handles are live or NULL; structs have the size
    // that they name; a slot that is freed becomes NULL.
    unsafe {
        match c.which {
            41 => {
                let slot = c.place % 2;
                remask_run_free(w.runs[slot]);
                let (session, canvas, other, params) =
                    (w.session(), w.canvas(), w.canvas(), generate_params(w));
                let both = [canvas, other];
                let n = usize::from(w.tape.byte() % 3);
                remask_run_new(session, both.as_ptr(), n, &params, &mut w.runs[slot], c.error)
            }
            42 | 43 => {
                let run = w.run();
                remask_step_init(&mut c.space, size_of::<Space>());
                match w.tape.byte() % 7 {
                    0 => remask_run_report(run, w.small(), &mut c.space, c.error),
                    1 => {
                        let (i, tokens) = (w.small(), w.tokens());
                        remask_run_replace(run, i, tokens.as_ptr(), tokens.len(), c.error)
                    }
                    2 => remask_run_begin_step(run, c.error),
                    _ => remask_run_step(run, &mut c.space, c.error),
                }
            }
            44 => {
                let slot = c.place % 2;
                remask_run_free(w.runs[slot]);
                w.runs[slot] = null_mut();
                0
            }
            _ => {
                let (session, canvas, params) = (w.session(), w.canvas(), generate_params(w));
                let mut seen = [session as usize, canvas as usize, 0];
                let hear = w.tape.byte().is_multiple_of(2);
                let hear = hear.then_some(on_step as unsafe extern "C" fn(*const Space, *mut c_void) -> i32);
                remask_session_generate(
                    session,
                    &canvas,
                    1,
                    &params,
                    hear,
                    (&raw mut seen).cast(),
                    c.error,
                )
            }
        }
    }
}
