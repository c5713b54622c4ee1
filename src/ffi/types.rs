//! What every part of the C interface uses: statuses, callbacks, texts.

use std::ffi::{c_char, c_void};

use crate::error::ErrorKind;

/// Length argument that means "up to the terminating NUL". The header has it from cbindgen.toml, as
/// SIZE_MAX.
pub const REMASK_NUL_TERMINATED: usize = usize::MAX;

/// ABI that this header describes. Goes up when a released declaration changes or goes away, never when
/// one is added; equals the number in the shared library's name.
pub const REMASK_ABI_VERSION: u32 = 0;

/// Result of a call: `REMASK_STATUS_OK` or the reason it failed. A plain integer, so that a code of a
/// newer library is safe to receive.
pub type remask_status = i32;

/// The call did what it says.
pub const REMASK_STATUS_OK: remask_status = 0;
/// An argument or option is out of range, NULL where it must not be, or options contradict each other.
pub const REMASK_STATUS_INVALID_ARGUMENT: remask_status = 1;
/// The operating system refused to open, read, map or write a file, or a reader callback failed.
pub const REMASK_STATUS_IO: remask_status = 2;
/// A file is not what its format demands.
pub const REMASK_STATUS_FORMAT: remask_status = 3;
/// A size in a file or call is over a stated limit.
pub const REMASK_STATUS_LIMIT: remask_status = 4;
/// Well-formed, but of a kind that this build or version cannot serve.
pub const REMASK_STATUS_UNSUPPORTED: remask_status = 5;
/// The file's hyper-parameters, tensors or shapes do not make a model.
pub const REMASK_STATUS_MODEL: remask_status = 6;
/// The vocabulary or tokenizer does not hold together, or cannot spell a text.
pub const REMASK_STATUS_TOKENIZER: remask_status = 7;
/// The model has no chat template, or it refuses the messages, or its rendering was stopped.
pub const REMASK_STATUS_TEMPLATE: remask_status = 8;
/// A weight or a result is not a finite number.
pub const REMASK_STATUS_NUMERIC: remask_status = 9;
/// Memory, threads or another resource of the machine ran out.
pub const REMASK_STATUS_RESOURCE: remask_status = 10;
/// A device is missing, or its driver reported a fault.
pub const REMASK_STATUS_DEVICE: remask_status = 11;
/// A cancel token or a callback stopped the call. What was filled so far stays on the canvases.
pub const REMASK_STATUS_CANCELLED: remask_status = 12;
/// Another call or run is at work on the same handle. Nothing was changed; try again later.
pub const REMASK_STATUS_BUSY: remask_status = 13;
/// Training or evaluation text is not as it should be.
pub const REMASK_STATUS_DATA: remask_status = 14;
/// A fault in this library; please report it with the error's message.
pub const REMASK_STATUS_INTERNAL: remask_status = 15;
/// The buffer is too small. The needed length was written and nothing else was changed.
pub const REMASK_STATUS_BUFFER_TOO_SMALL: remask_status = 16;
/// There is no entry of that name or index.
pub const REMASK_STATUS_NOT_FOUND: remask_status = 17;

/// What a callback returns to go on.
pub const REMASK_CONTINUE: i32 = 0;
/// What a callback returns to stop; the call then returns `REMASK_STATUS_CANCELLED`.
pub const REMASK_STOP: i32 = 1;

/// Frees the `user_data` of a callback, or a buffer, that the library kept. Called exactly once, from
/// any thread; must not call remask.
pub type remask_drop_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// Hears how far a long call is: `done` of `total` bytes. Called from the calling thread. Returns
/// `REMASK_CONTINUE`, or `REMASK_STOP` to cancel.
pub type remask_progress_fn =
    Option<unsafe extern "C" fn(done: u64, total: u64, user_data: *mut c_void) -> i32>;

/// A piece of UTF-8 text, borrowed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_text {
    /// The bytes; NULL only where `len` is 0.
    pub data: *const c_char,
    /// Their number, or `REMASK_NUL_TERMINATED`.
    pub len: usize,
}

/// A list of token ids, borrowed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct remask_tokens {
    /// The ids; NULL only where `len` is 0.
    pub data: *const i32,
    /// Their number.
    pub len: usize,
}

const _: () = assert!(REMASK_STOP != REMASK_CONTINUE);
const _: () = assert!(REMASK_STATUS_INVALID_ARGUMENT == ErrorKind::InvalidArgument as i32);
const _: () = assert!(REMASK_STATUS_CANCELLED == ErrorKind::Cancelled as i32);
const _: () = assert!(REMASK_STATUS_BUSY == ErrorKind::Busy as i32);
const _: () = assert!(REMASK_STATUS_INTERNAL == ErrorKind::Internal as i32);
