//! The C interface in any order: which function, on which handle, with NULL, with numbers at the edges.
//! What C demands of a caller is kept: pointers are NULL or good, and a freed handle is not used again.
#![allow(dead_code)] // for targets, or for tests
#![allow(clippy::multiple_unsafe_ops_per_block)] // the calls are the test

use std::ffi::{CStr, c_char, c_void};
use std::path::PathBuf;
use std::ptr::{null, null_mut};
use std::sync::LazyLock;

use super::bent::Tape;

// The library's symbols, from the crate.
use remask as _;

type Status = i32;
type Handle = *mut c_void;
type Failure = *mut Handle;

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

#[repr(C)]
#[derive(Clone, Copy)]
struct Text {
    data: *const c_char,
    len: usize,
}

#[repr(C)]
struct Message {
    role: Text,
    content: Text,
}

#[repr(C)]
struct SessionParams {
    struct_size: u32,
    n_threads: u32,
    flash: i32,
    max_canvas: u32,
}

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

/// Any struct that the library fills.
type Space = [u64; 64];

unsafe extern "C" {
    fn remask_status_name(status: Status) -> *const c_char;
    fn remask_error_status(error: Handle) -> Status;
    fn remask_error_message(error: Handle) -> *const c_char;
    fn remask_error_free(error: Handle);
    fn remask_cancel_new() -> Handle;
    fn remask_cancel_set(cancel: Handle);
    fn remask_cancel_reset(cancel: Handle);
    fn remask_cancel_is_set(cancel: Handle) -> i32;
    fn remask_cancel_free(cancel: Handle);
    fn remask_device_get(index: usize, device: *mut Space, error: Failure) -> Status;
    fn remask_model_load(
        path: *const c_char,
        len: usize,
        params: *const Space,
        out: *mut Handle,
        error: Failure,
    ) -> Status;
    fn remask_model_load_memory(
        bytes: *const u8,
        n: usize,
        drop: *const c_void,
        data: *mut c_void,
        params: *const Space,
        out: *mut Handle,
        error: Failure,
    ) -> Status;
    fn remask_model_free(model: Handle);
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
    fn remask_model_encode(
        model: Handle,
        text: *const c_char,
        len: usize,
        flags: u32,
        tokens: *mut i32,
        capacity: usize,
        n: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_model_decode(
        model: Handle,
        tokens: *const i32,
        n: usize,
        flags: u32,
        text: *mut u8,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_model_token_text(
        model: Handle,
        token: i32,
        text: *mut u8,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_model_token_attr(model: Handle, token: i32) -> u32;
    fn remask_model_token_find(model: Handle, text: *const c_char, len: usize) -> i32;
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
    fn remask_decoder_free(decoder: Handle);
    fn remask_model_render_chat(
        model: Handle,
        messages: *const Message,
        n: usize,
        flags: u32,
        text: *mut u8,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_model_encode_chat(
        model: Handle,
        messages: *const Message,
        n: usize,
        flags: u32,
        tokens: *mut i32,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_canvas_new(model: Handle, out: *mut Handle, error: Failure) -> Status;
    fn remask_canvas_copy(canvas: Handle, out: *mut Handle, error: Failure) -> Status;
    fn remask_canvas_free(canvas: Handle);
    fn remask_canvas_append_text(
        canvas: Handle,
        text: *const c_char,
        len: usize,
        flags: u32,
        error: Failure,
    ) -> Status;
    fn remask_canvas_append_tokens(canvas: Handle, tokens: *const i32, n: usize, error: Failure) -> Status;
    fn remask_canvas_append_masks(canvas: Handle, n: usize, error: Failure) -> Status;
    fn remask_canvas_append_holes(
        canvas: Handle,
        text: *const c_char,
        len: usize,
        flags: u32,
        error: Failure,
    ) -> Status;
    fn remask_canvas_append_chat(
        canvas: Handle,
        messages: *const Message,
        n: usize,
        flags: u32,
        error: Failure,
    ) -> Status;
    fn remask_canvas_mask(canvas: Handle, begin: usize, end: usize, error: Failure) -> Status;
    fn remask_canvas_fix(canvas: Handle, begin: usize, end: usize, error: Failure) -> Status;
    fn remask_canvas_set(
        canvas: Handle,
        begin: usize,
        tokens: *const i32,
        n: usize,
        error: Failure,
    ) -> Status;
    fn remask_canvas_forbid(
        canvas: Handle,
        begin: usize,
        end: usize,
        tokens: *const i32,
        n: usize,
        error: Failure,
    ) -> Status;
    fn remask_canvas_truncate(canvas: Handle, n: usize, error: Failure) -> Status;
    fn remask_canvas_count(
        canvas: Handle,
        n_slots: *mut usize,
        n_masked: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_canvas_tokens(
        canvas: Handle,
        tokens: *mut i32,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_canvas_slots(
        canvas: Handle,
        slots: *mut u8,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_canvas_text(
        canvas: Handle,
        begin: usize,
        end: usize,
        flags: u32,
        text: *mut u8,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_canvas_response(
        canvas: Handle,
        flags: u32,
        text: *mut u8,
        capacity: usize,
        len: *mut usize,
        error: Failure,
    ) -> Status;
    fn remask_session_params_init(params: *mut SessionParams, size: usize);
    fn remask_session_new(
        model: Handle,
        params: *const SessionParams,
        out: *mut Handle,
        error: Failure,
    ) -> Status;
    fn remask_session_free(session: Handle);
    fn remask_session_get_stats(session: Handle, stats: *mut Space, error: Failure) -> Status;
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
    fn remask_run_report(run: Handle, i_canvas: usize, step: *mut Space, error: Failure) -> Status;
    fn remask_run_replace(
        run: Handle,
        i_canvas: usize,
        tokens: *const i32,
        n: usize,
        error: Failure,
    ) -> Status;
    fn remask_run_free(run: Handle);
    fn remask_session_generate(
        session: Handle,
        canvases: *const Handle,
        n: usize,
        params: *const Generate,
        on_step: Option<unsafe extern "C" fn(*const Space, *mut c_void) -> i32>,
        data: *mut c_void,
        error: Failure,
    ) -> Status;
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
}

/// The model that every sequence begins with, and its file.
pub struct Begin {
    bytes: Vec<u8>,
    path: PathBuf,
    model: usize,
}

impl Begin {
    /// Loads the model in `bytes`, and lays it down as a file too.
    pub fn new(bytes: &[u8]) -> Self {
        let path = super::folder().join("capi.gguf");
        std::fs::write(&path, bytes).unwrap();
        let mut model = null_mut();
        // SAFETY: the bytes are there through the call, and without a `drop` they are copied or must stay:
        // they stay as long as this value, which is kept for good.
        let bytes = bytes.to_vec();
        // SAFETY: pointers are NULL or good, as for all calls here.
        let status = unsafe {
            remask_model_load_memory(
                bytes.as_ptr(),
                bytes.len(),
                null(),
                null_mut(),
                null(),
                &mut model,
                null_mut(),
            )
        };
        assert_eq!(status, 0);
        Self {
            bytes,
            path,
            model: model as usize,
        }
    }
}

/// Slots for handles. Slot 0 of the models is the one of [`Begin`].
struct World<'a> {
    begin: &'a Begin,
    tape: Tape<'a>,
    models: [Handle; 3],
    sessions: [Handle; 3],
    canvases: [Handle; 4],
    runs: [Handle; 2],
    decoders: [Handle; 2],
    cancels: [Handle; 2],
    out: Vec<u64>,
}

const OUT: usize = 512;
static TEXTS: LazyLock<Vec<std::ffi::CString>> = LazyLock::new(|| {
    let texts = [
        "",
        "Once upon a time",
        "The [[3]] sat on [[...]].",
        "[[x]] [[",
        "<|mdm_mask|><|endoftext|>",
        "\u{4E2D}\u{1F642}a\u{308}",
        "user",
        "\u{1b}[2J\r\n",
        "general.architecture",
        "/nowhere/at/all.gguf",
        "/dev/zero",
        "/dev",
    ];
    texts
        .iter()
        .map(|t| std::ffi::CString::new(*t).unwrap())
        .collect()
});

impl World<'_> {
    fn small(&mut self) -> usize {
        match self.tape.byte() {
            b @ 0..224 => usize::from(b % 24),
            _ => self.tape.number() as usize,
        }
    }

    fn pick(&mut self, slots: &[Handle]) -> Handle {
        match self.tape.byte() {
            255 => null_mut(),
            b => slots[usize::from(b) % slots.len()],
        }
    }

    fn model(&mut self) -> Handle {
        let slots = self.models;
        // Mostly the one that is there.
        match self.tape.byte() {
            0..160 => slots[0],
            _ => self.pick(&slots),
        }
    }

    /// A text that is NULL, of its own length, cut short, or up to its NUL.
    fn text(&mut self) -> Text {
        let b = self.tape.byte();
        if b == 255 {
            return Text {
                data: null(),
                len: usize::from(self.tape.byte() % 3) * 7,
            };
        }
        let text = &TEXTS[usize::from(b) % TEXTS.len()];
        let n = text.as_bytes().len();
        let len = match self.tape.byte() % 4 {
            0 => usize::MAX,
            1 => n / 2,
            _ => n,
        };
        Text {
            data: text.as_ptr(),
            len,
        }
    }

    fn tokens(&mut self) -> Vec<i32> {
        let n = usize::from(self.tape.byte() % 12);
        let token = |b: u8| match b {
            0..240 => i32::from(b),
            240..246 => -i32::from(b - 239),
            b => i32::MAX - i32::from(b - 246),
        };
        (0..n).map(|_| token(self.tape.byte())).collect()
    }

    fn messages(&mut self) -> Vec<Message> {
        let n = usize::from(self.tape.byte() % 4);
        (0..n)
            .map(|_| Message {
                role: self.text(),
                content: self.text(),
            })
            .collect()
    }

    /// Room for what comes out: (address, capacity in elements of `size` bytes).
    fn room(&mut self, size: usize) -> (*mut u8, usize) {
        let most = OUT * 8 / size;
        match self.tape.byte() {
            255 => (null_mut(), 0),
            254 => (null_mut(), most),
            b => (self.out.as_mut_ptr().cast(), most.min(usize::from(b) * 4)),
        }
    }

    fn generate_params(&mut self) -> Generate {
        // SAFETY: integers, floats and pointers, for which zeros are valid.
        let mut p: Generate = unsafe { std::mem::zeroed() };
        // SAFETY: as many bytes are there.
        unsafe { remask_generate_params_init(&mut p, size_of::<Generate>()) };
        p.n_steps = 3;
        for _ in 0..self.tape.byte() % 6 {
            let field = self.tape.byte() % 24;
            let n = self.small();
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
                8 => p.commit_value = self.tape.real(),
                9 => p.temperature = self.tape.real(),
                10 => p.top_p = self.tape.real(),
                11 => p.top_k = n as u64,
                12 => p.repetition_penalty = self.tape.real(),
                13 => p.guidance = self.tape.real(),
                14 => p.speed = choice,
                15 => p.cache = choice,
                16 => p.cache_type = choice,
                17 => p.fast_dllm = choice,
                18 => p.cache_refresh = n as u32,
                19 => p.suffix_window = n as u64,
                20 => p.early_commit = [self.tape.real(); 3],
                21 => p.struct_size = [0, 7, 8, 16, 100, 4096, 5000][n % 7].min(size_of::<Generate>() as u32),
                22 => p.commit_radius = n as u32,
                _ => p.cancel = self.cancels[n % 2],
            }
        }
        p
    }

    fn score_params(&mut self) -> ScoreParams {
        // SAFETY: as for the other.
        let mut p: ScoreParams = unsafe { std::mem::zeroed() };
        // SAFETY: as many bytes are there.
        unsafe { remask_score_params_init(&mut p, size_of::<ScoreParams>()) };
        p.n_samples = u32::from(self.tape.byte() % 4);
        p.n_batch = u32::from(self.tape.byte() % 3);
        if self.tape.byte() > 200 {
            p.method = i32::from(self.tape.byte() % 4) - 1;
            p.guidance = self.tape.real();
            p.cancel = self.cancels[0];
        }
        p
    }
}

/// Checks a status and its error, and frees it.
fn settle(status: Status, error: Handle) {
    // SAFETY: a static text.
    let name = unsafe { CStr::from_ptr(remask_status_name(status)) };
    assert!((0..=17).contains(&status), "status {status}");
    if status == 0 {
        assert!(error.is_null());
    }
    if !error.is_null() {
        // SAFETY: a live error, not used after it is freed.
        let message = unsafe { CStr::from_ptr(remask_error_message(error)) };
        let message = message.to_str().unwrap().to_owned();
        assert!(
            !message.is_empty() && !message.chars().any(char::is_control),
            "{message:?}"
        );
        // Only a fault of the library has this one.
        assert_ne!(status, 15, "{name:?}: {message}");
        // SAFETY: as above.
        assert_eq!(unsafe { remask_error_status(error) }, status);
        // SAFETY: as above.
        unsafe { remask_error_free(error) };
    }
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

/// A sequence of calls. Always taken: every call may fail, none may do harm.
pub fn capi_sequence(begin: &Begin, program: &[u8]) -> bool {
    let mut w = World {
        begin,
        tape: Tape(program),
        models: [begin.model as Handle, null_mut(), null_mut()],
        sessions: [null_mut(); 3],
        canvases: [null_mut(); 4],
        runs: [null_mut(); 2],
        decoders: [null_mut(); 2],
        cancels: [null_mut(); 2],
        out: vec![0; OUT],
    };
    let mut n_calls = 0;
    while !w.tape.is_empty() && n_calls < 100 {
        // SAFETY: what `act` hands over is good by the way it is made: see there.
        unsafe { act(&mut w) };
        n_calls += 1;
    }
    // In an order that the tape's rest cannot choose: models first.
    // SAFETY: every handle is live or NULL, and this is its last use.
    unsafe {
        w.models.iter().skip(1).for_each(|&h| remask_model_free(h));
        w.runs.iter().for_each(|&h| remask_run_free(h));
        w.sessions.iter().for_each(|&h| remask_session_free(h));
        w.canvases.iter().for_each(|&h| remask_canvas_free(h));
        w.decoders.iter().for_each(|&h| remask_decoder_free(h));
        w.cancels.iter().for_each(|&h| remask_cancel_free(h));
    }
    n_calls > 0
}

/// One call.
///
/// # Safety
/// Handles in the slots are live or NULL.
unsafe fn act(w: &mut World<'_>) {
    let mut object: Handle = null_mut();
    let want = !w.tape.byte().is_multiple_of(4);
    let error: Failure = if want { &mut object } else { null_mut() };
    let (models, sessions, canvases, runs, decoders, cancels) =
        (w.models, w.sessions, w.canvases, w.runs, w.decoders, w.cancels);
    let mut space: Space = [0; 64];
    let mut len = 0usize;
    let place = usize::from(w.tape.byte());
    // SAFETY: texts, arrays and room are as long as is said; handles are live or NULL; structs have the size
    // that they name; a slot that is freed becomes NULL.
    let status = unsafe {
        match w.tape.byte() % 48 {
            0 => {
                let slot = place % 2;
                remask_cancel_free(w.cancels[slot]);
                w.cancels[slot] = remask_cancel_new();
                0
            }
            1 => {
                let cancel = w.pick(&cancels);
                remask_cancel_set(cancel);
                let set = remask_cancel_is_set(cancel);
                assert_eq!(set, i32::from(!cancel.is_null()));
                0
            }
            2 => {
                let cancel = w.pick(&cancels);
                remask_cancel_reset(cancel);
                assert_eq!(remask_cancel_is_set(cancel), 0);
                0
            }
            3 => {
                let slot = 1 + place % 2;
                remask_model_free(w.models[slot]);
                w.models[slot] = null_mut();
                let path = w.begin.path.as_os_str().as_encoded_bytes();
                let text = w.text();
                match w.tape.byte() % 3 {
                    0 => remask_model_load(text.data, text.len, null(), &mut w.models[slot], error),
                    1 => remask_model_load(
                        path.as_ptr().cast(),
                        path.len(),
                        null(),
                        &mut w.models[slot],
                        error,
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
                            error,
                        )
                    }
                }
            }
            4 => {
                let slot = 1 + place % 2;
                remask_model_free(w.models[slot]);
                w.models[slot] = null_mut();
                0
            }
            5 => {
                let model = w.model();
                space[0] = w.small() as u64 & 511;
                remask_model_get_info(model, &mut space, error)
            }
            6 => {
                let model = w.model();
                let n = remask_model_meta_count(model);
                let index = w.small();
                let (text, capacity) = w.room(1);
                let status = remask_model_meta_key(model, index, text, capacity, &mut len, error);
                assert!(index < n || status != 0);
                status
            }
            7 => {
                let (model, key) = (w.model(), w.text());
                let (text, capacity) = w.room(1);
                remask_model_meta_value(model, key.data, key.len, text, capacity, &mut len, error)
            }
            8 => {
                let (n_slots, n_masked) = (w.small(), w.small());
                space[0] = 24;
                match w.tape.byte() % 3 {
                    0 => remask_estimate_model(w.model(), n_slots, n_masked, &mut space, error),
                    1 => {
                        let n = w.small().min(w.begin.bytes.len());
                        remask_estimate_memory(
                            w.begin.bytes.as_ptr(),
                            n,
                            n_slots,
                            n_masked,
                            &mut space,
                            error,
                        )
                    }
                    _ => {
                        let text = w.text();
                        remask_estimate_file(text.data, text.len, n_slots, n_masked, &mut space, error)
                    }
                }
            }
            9 | 10 => {
                let (model, text, flags) = (w.model(), w.text(), w.small() as u32);
                let (tokens, capacity) = w.room(4);
                remask_model_encode(
                    model,
                    text.data,
                    text.len,
                    flags,
                    tokens.cast(),
                    capacity,
                    &mut len,
                    error,
                )
            }
            11 => {
                let (model, tokens, flags) = (w.model(), w.tokens(), w.small() as u32);
                let (text, capacity) = w.room(1);
                remask_model_decode(
                    model,
                    tokens.as_ptr(),
                    tokens.len(),
                    flags,
                    text,
                    capacity,
                    &mut len,
                    error,
                )
            }
            12 => {
                let (model, token) = (w.model(), w.small() as i32);
                remask_model_token_attr(model, token);
                let (text, capacity) = w.room(1);
                remask_model_token_text(model, token, text, capacity, &mut len, error)
            }
            13 => {
                let (model, text) = (w.model(), w.text());
                remask_model_token_find(model, text.data, text.len);
                0
            }
            14 => {
                let slot = place % 2;
                remask_decoder_free(w.decoders[slot]);
                let (model, flags) = (w.model(), w.small() as u32);
                remask_decoder_new(model, flags, &mut w.decoders[slot], error)
            }
            15 => {
                let (decoder, tokens) = (w.pick(&decoders), w.tokens());
                let (text, capacity) = w.room(1);
                remask_decoder_push(
                    decoder,
                    tokens.as_ptr(),
                    tokens.len(),
                    text,
                    capacity,
                    &mut len,
                    error,
                )
            }
            16 => {
                let decoder = w.pick(&decoders);
                let (text, capacity) = w.room(1);
                remask_decoder_finish(decoder, text, capacity, &mut len, error)
            }
            17 => {
                let (model, messages, flags) = (w.model(), w.messages(), w.small() as u32);
                let (text, capacity) = w.room(1);
                remask_model_render_chat(
                    model,
                    messages.as_ptr(),
                    messages.len(),
                    flags,
                    text,
                    capacity,
                    &mut len,
                    error,
                )
            }
            18 => {
                let (model, messages, flags) = (w.model(), w.messages(), w.small() as u32);
                let (tokens, capacity) = w.room(4);
                remask_model_encode_chat(
                    model,
                    messages.as_ptr(),
                    messages.len(),
                    flags,
                    tokens.cast(),
                    capacity,
                    &mut len,
                    error,
                )
            }
            19 | 20 => {
                let slot = place % 4;
                remask_canvas_free(w.canvases[slot]);
                remask_canvas_new(w.model(), &mut w.canvases[slot], error)
            }
            21 => {
                let from = w.pick(&canvases);
                let mut copy = null_mut();
                let status = remask_canvas_copy(from, &mut copy, error);
                let slot = place % 4;
                remask_canvas_free(w.canvases[slot]);
                w.canvases[slot] = copy;
                status
            }
            22 => {
                let (canvas, text, flags) = (w.pick(&canvases), w.text(), w.small() as u32);
                remask_canvas_append_text(canvas, text.data, text.len, flags, error)
            }
            23 => {
                let (canvas, tokens) = (w.pick(&canvases), w.tokens());
                remask_canvas_append_tokens(canvas, tokens.as_ptr(), tokens.len(), error)
            }
            24 | 25 => {
                let (canvas, n) = (w.pick(&canvases), w.small());
                remask_canvas_append_masks(canvas, n, error)
            }
            26 => {
                let (canvas, text, flags) = (w.pick(&canvases), w.text(), w.small() as u32);
                remask_canvas_append_holes(canvas, text.data, text.len, flags, error)
            }
            27 => {
                let (canvas, messages, flags) = (w.pick(&canvases), w.messages(), w.small() as u32);
                remask_canvas_append_chat(canvas, messages.as_ptr(), messages.len(), flags, error)
            }
            28 => {
                let (canvas, begin, end) = (w.pick(&canvases), w.small(), w.small());
                remask_canvas_mask(canvas, begin, end, error)
            }
            29 => {
                let (canvas, begin, end) = (w.pick(&canvases), w.small(), w.small());
                remask_canvas_fix(canvas, begin, end, error)
            }
            30 => {
                let (canvas, begin, tokens) = (w.pick(&canvases), w.small(), w.tokens());
                remask_canvas_set(canvas, begin, tokens.as_ptr(), tokens.len(), error)
            }
            31 => {
                let (canvas, begin, end, tokens) = (w.pick(&canvases), w.small(), w.small(), w.tokens());
                remask_canvas_forbid(canvas, begin, end, tokens.as_ptr(), tokens.len(), error)
            }
            32 => {
                let (canvas, n) = (w.pick(&canvases), w.small());
                remask_canvas_truncate(canvas, n, error)
            }
            33 => {
                let canvas = w.pick(&canvases);
                let mut n_masked = 0;
                let some = w.tape.byte() != 0;
                let status = remask_canvas_count(
                    canvas,
                    &mut len,
                    if some { &mut n_masked } else { null_mut() },
                    error,
                );
                assert!(status != 0 || n_masked <= len);
                status
            }
            34 => {
                let canvas = w.pick(&canvases);
                let (tokens, capacity) = w.room(4);
                remask_canvas_tokens(canvas, tokens.cast(), capacity, &mut len, error)
            }
            35 => {
                let canvas = w.pick(&canvases);
                let (slots, capacity) = w.room(1);
                remask_canvas_slots(canvas, slots, capacity, &mut len, error)
            }
            36 => {
                let (canvas, begin, end, flags) = (w.pick(&canvases), w.small(), w.small(), w.small() as u32);
                let (text, capacity) = w.room(1);
                remask_canvas_text(canvas, begin, end, flags, text, capacity, &mut len, error)
            }
            37 => {
                let (canvas, flags) = (w.pick(&canvases), w.small() as u32);
                let (text, capacity) = w.room(1);
                remask_canvas_response(canvas, flags, text, capacity, &mut len, error)
            }
            38 | 39 => {
                let slot = place % 3;
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
                remask_session_new(w.model(), &params, &mut w.sessions[slot], error)
            }
            40 => {
                let session = w.pick(&sessions);
                space[0] = w.small() as u64 & 511;
                remask_session_get_stats(session, &mut space, error)
            }
            41 => {
                let slot = place % 2;
                remask_run_free(w.runs[slot]);
                let (session, canvas, other, params) = (
                    w.pick(&sessions),
                    w.pick(&canvases),
                    w.pick(&canvases),
                    w.generate_params(),
                );
                let both = [canvas, other];
                let n = usize::from(w.tape.byte() % 3);
                remask_run_new(session, both.as_ptr(), n, &params, &mut w.runs[slot], error)
            }
            42 | 43 => {
                let run = w.pick(&runs);
                remask_step_init(&mut space, size_of::<Space>());
                match w.tape.byte() % 6 {
                    0 => remask_run_report(run, w.small(), &mut space, error),
                    1 => {
                        let (i, tokens) = (w.small(), w.tokens());
                        remask_run_replace(run, i, tokens.as_ptr(), tokens.len(), error)
                    }
                    _ => remask_run_step(run, &mut space, error),
                }
            }
            44 => {
                let slot = place % 2;
                remask_run_free(w.runs[slot]);
                w.runs[slot] = null_mut();
                0
            }
            45 => {
                let (session, canvas, params) = (w.pick(&sessions), w.pick(&canvases), w.generate_params());
                let mut seen = [session as usize, canvas as usize, 0];
                let hear = w.tape.byte().is_multiple_of(2);
                let hear = hear.then_some(on_step as unsafe extern "C" fn(*const Space, *mut c_void) -> i32);
                remask_session_generate(session, &canvas, 1, &params, hear, (&raw mut seen).cast(), error)
            }
            46 => {
                let (session, tokens, params) = (w.pick(&sessions), w.tokens(), w.score_params());
                let (begin, end) = (w.small(), w.small());
                space[0] = 32;
                match w.tape.byte() % 2 {
                    0 => remask_session_score(
                        session,
                        tokens.as_ptr(),
                        tokens.len(),
                        begin,
                        end,
                        &params,
                        &mut space,
                        error,
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
                            &mut len,
                            error,
                        )
                    }
                }
            }
            _ => {
                let (session, tokens) = (w.pick(&sessions), w.tokens());
                let rows = [w.small() as u32, w.small() as u32];
                let (out, capacity) = w.room(4);
                match w.tape.byte() % 3 {
                    0 => remask_device_get(
                        w.small(),
                        {
                            space[0] = 216;
                            &mut space
                        },
                        error,
                    ),
                    1 => remask_session_logits(
                        session,
                        tokens.as_ptr(),
                        tokens.len(),
                        rows.as_ptr(),
                        usize::from(w.tape.byte() % 3),
                        out.cast(),
                        capacity,
                        &mut len,
                        error,
                    ),
                    _ => remask_session_embeddings(
                        session,
                        tokens.as_ptr(),
                        tokens.len(),
                        i32::from(w.tape.byte() % 4),
                        out.cast(),
                        capacity,
                        &mut len,
                        error,
                    ),
                }
            }
        }
    };
    let _ = models;
    settle(status, object);
}
