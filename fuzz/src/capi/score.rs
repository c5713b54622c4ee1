//! Scores and choices.

use super::{Call, Failure, Handle, Space, Status, Text, World};

#[repr(C)]
struct ScoreParams {
    struct_size: u32,
    method: i32,
    n_samples: u32,
    n_batch: u32,
    seed: u64,
    guidance: f64,
    cancel: Handle,
}

unsafe extern "C" {
    fn remask_score_params_init(params: *mut ScoreParams, size: usize);
    fn remask_session_score(
        session: Handle,
        tokens: *const i32,
        n: usize,
        begin: usize,
        end: usize,
        params: *const ScoreParams,
        out: *mut Space,
        error: Failure,
    ) -> Status;
    fn remask_session_choose(
        session: Handle,
        prompt: *const i32,
        n: usize,
        choices: *const Text,
        n_choices: usize,
        params: *const ScoreParams,
        logs: *mut f64,
        shares: *mut f64,
        best: *mut usize,
        error: Failure,
    ) -> Status;
}

/// Parameters, most of them as they are by default.
fn score_params(w: &mut World<'_>) -> ScoreParams {
    // SAFETY: as for the other.
    let mut p: ScoreParams = unsafe { std::mem::zeroed() };
    // SAFETY: as many bytes are there.
    unsafe { remask_score_params_init(&mut p, size_of::<ScoreParams>()) };
    p.n_samples = u32::from(w.tape.byte() % 4);
    p.n_batch = u32::from(w.tape.byte() % 3);
    if w.tape.byte() > 200 {
        p.method = i32::from(w.tape.byte() % 4) - 1;
        p.guidance = w.tape.real();
        p.cancel = w.cancels[0];
    }
    p
}

/// One score.
///
/// # Safety
/// Handles in the slots are live or NULL.
pub(super) unsafe fn act(w: &mut World<'_>, c: &mut Call) -> Status {
    // SAFETY: texts, arrays and room are as long as is said; handles are live or NULL; structs have the size
    // that they name; a slot that is freed becomes NULL.
    unsafe {
        let (session, tokens, params) = (w.session(), w.tokens(), score_params(w));
        let (begin, end) = (w.small(), w.small());
        c.space[0] = 32;
        match w.tape.byte() % 2 {
            0 => remask_session_score(
                session,
                tokens.as_ptr(),
                tokens.len(),
                begin,
                end,
                &params,
                &mut c.space,
                c.error,
            ),
            _ => {
                let other = w.tokens();
                // A list of tokens has the shape of a text.
                let choices = [&tokens, &other].map(|t| Text {
                    data: t.as_ptr().cast(),
                    len: t.len(),
                });
                let (mut logs, mut shares) = ([0f64; 2], [0f64; 2]);
                remask_session_choose(
                    session,
                    tokens.as_ptr(),
                    tokens.len(),
                    choices.as_ptr(),
                    usize::from(w.tape.byte() % 3),
                    &params,
                    logs.as_mut_ptr(),
                    shares.as_mut_ptr(),
                    &mut c.len,
                    c.error,
                )
            }
        }
    }
}
