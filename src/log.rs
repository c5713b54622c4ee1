//! The one piece of global state: where messages go. Without a sink nothing is written anywhere.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::{Arc, RwLock};

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i32)]
pub enum Level {
    /// For people who work on the library.
    Debug = 1,
    /// What was decided and why.
    Info = 2,
    /// Something is not as it should be; the call goes on.
    Warn = 3,
    /// A fault. Where it ends a call, the call's error says the same.
    Error = 4,
}

/// A function that takes messages.
pub type Sink = Box<dyn Fn(Level, &str) + Send + Sync>;

static SINK: RwLock<Option<Arc<Sink>>> = RwLock::new(None);

/// Sends all messages to `sink` from now on; `None` (the start) drops them. The sink may be called
/// from any thread, also from several at once, and must not call back into the library.
pub fn set_log_sink(sink: Option<Sink>) {
    let mut guard = SINK.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    *guard = sink.map(Arc::new);
}

/// Sends one message, if anyone listens. Control characters are escaped.
pub(crate) fn message(level: Level, text: fmt::Arguments<'_>) {
    let sink = SINK
        .read()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .clone();
    if let Some(sink) = sink {
        let text = crate::error::escape_controls(text.to_string());
        sink(level, &text);
    }
}

/// Logs a line: `log!(Warn, "key {key} is ignored")`.
#[macro_export]
#[doc(hidden)]
macro_rules! log {
    ($level:ident, $($message:tt)*) => {
        $crate::log::message($crate::log::Level::$level, format_args!($($message)*))
    };
}
