//! The C interface in any order: which function, on which handle, with NULL, with numbers at the edges; one
//! file per handle, as in the library. What C demands of a caller is kept: pointers are NULL or good, and a
//! freed handle is not used again.
#![allow(dead_code)] // for targets, or for tests
#![allow(clippy::multiple_unsafe_ops_per_block)] // the calls are the test

mod cancel;
mod canvas;
mod decoder;
mod error;
mod model;
mod run;
mod score;
mod session;
mod text;

use std::ffi::{c_char, c_void};
use std::path::PathBuf;
use std::ptr::{null, null_mut};
use std::sync::LazyLock;

use super::bent::Tape;

// The library's symbols, from the crate.
use remask as _;

type Status = i32;
type Handle = *mut c_void;
type Failure = *mut Handle;

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

/// Any struct that the library fills.
type Space = [u64; 64];

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
            model::remask_model_load_memory(
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

/// A call: which, to which slot its result goes, and what it may fill.
struct Call {
    which: u8,
    place: usize,
    error: Failure,
    space: Space,
    len: usize,
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

    fn session(&mut self) -> Handle {
        self.pick(&{ self.sessions })
    }

    fn canvas(&mut self) -> Handle {
        self.pick(&{ self.canvases })
    }

    fn run(&mut self) -> Handle {
        self.pick(&{ self.runs })
    }

    fn decoder(&mut self) -> Handle {
        self.pick(&{ self.decoders })
    }

    fn cancel(&mut self) -> Handle {
        self.pick(&{ self.cancels })
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
        w.models.iter().skip(1).for_each(|&h| model::remask_model_free(h));
        w.runs.iter().for_each(|&h| run::remask_run_free(h));
        w.sessions.iter().for_each(|&h| session::remask_session_free(h));
        w.canvases.iter().for_each(|&h| canvas::remask_canvas_free(h));
        w.decoders.iter().for_each(|&h| decoder::remask_decoder_free(h));
        w.cancels.iter().for_each(|&h| cancel::remask_cancel_free(h));
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
    let place = usize::from(w.tape.byte());
    let c = &mut Call {
        which: w.tape.byte() % 48,
        place,
        error,
        space: [0; 64],
        len: 0,
    };
    // SAFETY: by the caller's contract.
    let status = unsafe {
        match c.which {
            0..=2 => cancel::act(w, c),
            3..=8 => model::act(w, c),
            9..=13 | 17 | 18 => text::act(w, c),
            14..=16 => decoder::act(w, c),
            19..=37 => canvas::act(w, c),
            38..=40 | 47 => session::act(w, c),
            41..=45 => run::act(w, c),
            _ => score::act(w, c),
        }
    };
    error::settle(status, object);
}
