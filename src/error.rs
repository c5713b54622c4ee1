//! The one error type of the library.
#![forbid(unsafe_code)]

use std::fmt;

/// What went wrong, as far as a caller would act on it differently.
///
/// The numbers are part of the C interface and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum ErrorKind {
    /// An argument or option is out of range, or options contradict each other.
    InvalidArgument = 1,
    /// The operating system refused to open, read, map or write a file.
    Io = 2,
    /// A file is not what its format demands.
    Format = 3,
    /// A size in a file or call is over a stated limit.
    Limit = 4,
    /// Well-formed, but of a kind that this build or version cannot serve.
    Unsupported = 5,
    /// The file's hyper-parameters, tensors or shapes do not make a model.
    Model = 6,
    /// The vocabulary or tokenizer does not hold together.
    Tokenizer = 7,
    /// A chat template does not parse, or its rendering was stopped.
    Template = 8,
    /// A weight or a result is not a finite number.
    Numeric = 9,
    /// Memory, threads or another resource of the machine ran out.
    Resource = 10,
    /// A device is missing, or its driver reported a fault.
    Device = 11,
    /// Stopped through a cancel token.
    Cancelled = 12,
    /// Another call is at work on the same object.
    Busy = 13,
    /// Training or evaluation text is not as it should be.
    Data = 14,
    /// A fault in this library.
    Internal = 15,
}

impl ErrorKind {
    /// The kind's stable name in upper case, such as `E_FORMAT`.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "E_INVALID_ARGUMENT",
            Self::Io => "E_IO",
            Self::Format => "E_FORMAT",
            Self::Limit => "E_LIMIT",
            Self::Unsupported => "E_UNSUPPORTED",
            Self::Model => "E_MODEL",
            Self::Tokenizer => "E_TOKENIZER",
            Self::Template => "E_TEMPLATE",
            Self::Numeric => "E_NUMERIC",
            Self::Resource => "E_RESOURCE",
            Self::Device => "E_DEVICE",
            Self::Cancelled => "E_CANCELLED",
            Self::Busy => "E_BUSY",
            Self::Data => "E_DATA",
            Self::Internal => "E_INTERNAL",
        }
    }
}

/// An error: a kind to act on and one line to read.
///
/// The message is lower case, has no full stop, names the tensor, key, file or option, says what was
/// found and what was expected, and holds no control characters.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// Longest message, in bytes, before control characters are spelled out.
const MAX_MESSAGE: usize = 8 << 10;

/// What functions of this library return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind`. Control characters in `message` are escaped, since parts of it come from
    /// files; what is longer than 8 KiB is cut in its middle, for names in files can be long.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = shown(message.into());
        Self { kind, message }
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message, without the kind.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error with `what: ` before the message: the layer that knows a name adds it once.
    pub fn context(self, what: impl fmt::Display) -> Self {
        Self::new(self.kind, format!("{what}: {}", self.message))
    }
}

/// `message` as it is shown: of what is too long the beginning and the end, and nothing in it that steers a terminal.
pub(crate) fn shown(message: String) -> String {
    if message.len() <= MAX_MESSAGE {
        return escape_controls(message);
    }
    let half = MAX_MESSAGE / 2;
    // A character has four bytes at most.
    let head = (0..4).find_map(|i| message.get(..half - i));
    let tail = (0..4).find_map(|i| message.get(message.len() - half + i..));
    escape_controls([head, tail].map(Option::unwrap_or_default).join(" ... "))
}

/// Control characters, ends of lines, and marks that turn the direction of what follows.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// `text` with every character spelled out that steers a terminal or a log: what a file holds must not.
pub(crate) fn escape_controls(text: String) -> String {
    if !text.chars().any(steers) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::OutOfMemory => ErrorKind::Resource,
            _ => ErrorKind::Io,
        };
        Self::new(kind, error.to_string())
    }
}

/// Returns early with an [`Error`] of the kind named: `bail!(Format, "key {key} is {found}")`.
#[macro_export]
#[doc(hidden)]
macro_rules! bail {
    ($kind:ident, $($message:tt)*) => {
        return Err($crate::error::Error::new($crate::error::ErrorKind::$kind, format!($($message)*)))
    };
}

/// Makes an [`Error`] of the kind named.
#[macro_export]
#[doc(hidden)]
macro_rules! err {
    ($kind:ident, $($message:tt)*) => {
        $crate::error::Error::new($crate::error::ErrorKind::$kind, format!($($message)*))
    };
}

/// A vector of `n` elements of `value`, or [`ErrorKind::Resource`] where memory is short. For all
/// buffers that a file or a caller sizes: the usual `vec![]` ends the process instead.
///
/// # Errors
/// [`ErrorKind::Resource`], naming `what`.
pub fn try_vec<T: Clone>(n: usize, value: T, what: &str) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(n).map_err(|_| {
        err!(
            Resource,
            "no memory for {what} ({n} elements of {} bytes)",
            size_of::<T>()
        )
    })?;
    vec.resize(n, value);
    Ok(vec)
}

/// Makes `vec` have `n` elements, as [`try_vec`] would.
///
/// # Errors
/// [`ErrorKind::Resource`], naming `what`.
pub(crate) fn try_resize<T: Clone>(vec: &mut Vec<T>, n: usize, value: T, what: &str) -> Result<()> {
    vec.try_reserve_exact(n.saturating_sub(vec.len())).map_err(|_| {
        err!(
            Resource,
            "no memory for {what} ({n} elements of {} bytes)",
            size_of::<T>()
        )
    })?;
    vec.resize(n, value);
    Ok(())
}

/// Appends `value`, or [`ErrorKind::Resource`] where memory is short: `push` ends the process instead.
///
/// # Errors
/// [`ErrorKind::Resource`], naming `what`.
pub(crate) fn try_push<T>(vec: &mut Vec<T>, value: T, what: &str) -> Result<()> {
    if vec.len() == vec.capacity() {
        let more = vec.try_reserve(1);
        more.map_err(|_| err!(Resource, "no memory for {what} ({} elements)", vec.len()))?;
    }
    vec.push(value);
    Ok(())
}

/// A copy of `text`, or [`ErrorKind::Resource`] where memory is short.
///
/// # Errors
/// [`ErrorKind::Resource`], naming `what`.
pub(crate) fn try_text(text: &str, what: &str) -> Result<String> {
    let mut copy = String::new();
    let room = copy.try_reserve_exact(text.len());
    room.map_err(|_| err!(Resource, "no memory for {what} ({} bytes)", text.len()))?;
    copy.push_str(text);
    Ok(copy)
}

/// Asks the system for `n_bytes` and gives them back. Before code of others that allocates as much in
/// pieces and would end the process where it cannot.
///
/// # Errors
/// [`ErrorKind::Resource`], naming `what`.
pub(crate) fn probe_memory(n_bytes: usize, what: &str) -> Result<()> {
    Vec::<u8>::new()
        .try_reserve_exact(n_bytes)
        .map_err(|_| err!(Resource, "no memory for {what} ({n_bytes} bytes)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let error = Error::new(ErrorKind::Format, "key `a\u{1b}[2J\nb`");
        assert_eq!(error.message(), "key `a\\u{1b}[2J\\nb`");
        let error = Error::new(ErrorKind::Format, "a\u{2028}b\u{202e}c");
        assert_eq!(error.message(), "a\\u{2028}b\\u{202e}c");
    }

    #[test]
    fn messages_have_an_end() {
        let error = Error::new(ErrorKind::Format, "\u{4E2D}".repeat(1 << 20)).context("a.gguf");
        assert!(
            error.message().len() <= MAX_MESSAGE + 8,
            "{}",
            error.message().len()
        );
        assert!(error.message().starts_with("a.gguf: \u{4E2D}"));
        let error = Error::new(
            ErrorKind::Format,
            format!("key {} is too long", "a".repeat(1 << 20)),
        );
        assert!(error.message().starts_with("key aaa"));
        assert!(error.message().ends_with("aaa is too long"));
    }

    #[test]
    fn context_goes_before_the_message() {
        let error = err!(Model, "tensor {} is absent", "x").context("a.gguf");
        assert_eq!(error.to_string(), "a.gguf: tensor x is absent");
        assert_eq!(error.kind(), ErrorKind::Model);
    }
}
