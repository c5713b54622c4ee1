//! What every command shares: errors and exit codes, the log, Ctrl-C, progress on stderr.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use remask::log::Level;
use remask::{CancelToken, Error, ErrorKind};

/// A line on stderr. Where it cannot be written, that is no reason to end: `eprintln!` panics.
macro_rules! note {
    ($($text:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{}\n", format_args!($($text)*)));
    }};
}
pub(crate) use note;

/// Why a command ended early.
#[derive(Debug)]
pub enum Failure {
    /// An error to show.
    Error(Error),
    /// Ctrl-C; what there was is printed.
    Cancelled,
    /// Whoever read our output has left.
    ClosedPipe,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Error(Error::from(error).context("standard output")),
        }
    }
}

/// What commands return.
pub type Outcome = std::result::Result<(), Failure>;

/// 2 for a mistake in the call, 3 for a file that is not as it should be, 4 for what the machine
/// lacks, 1 for the rest.
pub fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidArgument => 2,
        ErrorKind::Io
        | ErrorKind::Format
        | ErrorKind::Limit
        | ErrorKind::Unsupported
        | ErrorKind::Model
        | ErrorKind::Tokenizer
        | ErrorKind::Template
        | ErrorKind::Numeric
        | ErrorKind::Data => 3,
        ErrorKind::Resource | ErrorKind::Device => 4,
        _ => 1,
    }
}

/// An error in what the caller asked for.
pub fn invalid(message: impl Into<String>) -> Failure {
    Failure::Error(Error::new(ErrorKind::InvalidArgument, message))
}

/// Sends the library's messages to stderr: warnings always, more with `-v`, nothing with `-q`.
pub fn set_up_log(verbose: u8, quiet: bool) {
    let least = match (quiet, verbose) {
        (true, _) => Level::Error,
        (false, 0) => Level::Warn,
        (false, 1) => Level::Info,
        (false, _) => Level::Debug,
    };
    remask::log::set_log_sink(Some(Box::new(move |level, text| {
        if level >= least {
            let _ = writeln!(std::io::stderr(), "remask: {text}");
        }
    })));
}

/// A token that Ctrl-C sets. A second Ctrl-C ends the process at once.
pub fn cancel_on_ctrl_c() -> CancelToken {
    let cancel = CancelToken::new();
    let token = cancel.clone();
    // Without a handler Ctrl-C still ends the process; that is no reason to refuse to work.
    let _ = ctrlc::set_handler(move || {
        if token.is_set() {
            std::process::exit(130);
        }
        token.set();
    });
    cancel
}

/// One line on stderr that is rewritten, when stderr is a terminal.
pub struct ProgressLine {
    enabled: bool,
    shown: Option<Instant>,
}

impl ProgressLine {
    /// A line, unless `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self {
            enabled: !quiet && std::io::stderr().is_terminal(),
            shown: None,
        }
    }

    /// Shows `text()`, at most ten times a second.
    pub fn show(&mut self, text: impl FnOnce() -> String) {
        let due = self
            .shown
            .is_none_or(|t| t.elapsed() >= Duration::from_millis(100));
        if self.enabled && due {
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", text());
            self.shown = Some(Instant::now());
        }
    }

    /// Removes the line.
    pub fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How far a long work is, with the time that it will still take.
pub struct Bar {
    line: ProgressLine,
    began: Instant,
}

impl Bar {
    /// A bar, unless `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self {
            line: ProgressLine::new(quiet),
            began: Instant::now(),
        }
    }

    /// Shows `done` of `total` and what is at work.
    pub fn show(&mut self, done: u64, total: u64, what: &str) {
        const WIDTH: usize = 24;
        let (part, began) = (done as f64 / total.max(1) as f64, self.began);
        self.line.show(|| {
            let full = ((part * WIDTH as f64) as usize).min(WIDTH);
            let left = match part {
                p if p > 0.01 => clock(began.elapsed().as_secs_f64() * (1.0 - p) / p),
                _ => "-:--".into(),
            };
            format!(
                "[{}{}] {:3.0}%  {left} left  {what}",
                "=".repeat(full),
                " ".repeat(WIDTH - full),
                part * 100.0
            )
        });
    }

    /// Removes it.
    pub fn clear(&mut self) {
        self.line.clear();
    }
}

/// Minutes and seconds, or hours too.
fn clock(seconds: f64) -> String {
    let s = seconds.ceil() as u64;
    match s / 3600 {
        0 => format!("{}:{:02}", s / 60, s % 60),
        h => format!("{h}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

/// Bytes for people: `4.3 GiB`.
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" {
                format!("{n} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}
