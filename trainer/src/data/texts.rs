//! Documents from files: JSON lines and plain text, also compressed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use remask::{Error, ErrorKind, Result};
use serde::Deserialize;

/// What is said in a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Turn {
    /// `system`, `user`, `assistant`.
    pub role: String,
    /// The words.
    pub content: String,
}

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// A text, all of which is learned.
    Text(String),
    /// A conversation, of which the assistant's turns are learned.
    Chat(Vec<Turn>),
    /// A prompt and two answers.
    Pair {
        /// What was asked.
        prompt: String,
        /// The answer that somebody preferred.
        chosen: String,
        /// The other.
        rejected: String,
    },
}

#[derive(Deserialize)]
struct Line {
    text: Option<String>,
    prompt: Option<String>,
    response: Option<String>,
    messages: Option<Vec<Turn>>,
    chosen: Option<String>,
    rejected: Option<String>,
}

/// Largest line or text file, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// The documents of a file. `.jsonl` has one object a line (`text`, or `prompt` and `response`, or
/// `prompt`, `chosen` and `rejected`, or `messages`); any other name is one text. `.gz` and `.zst` behind it are unpacked.
pub struct Texts {
    path: PathBuf,
    lines: Option<BufReader<Box<dyn Read + Send>>>,
    jsonl: bool,
    number: usize,
}

impl Texts {
    /// Opens `path`.
    ///
    /// # Errors
    /// `Io`, naming it.
    pub fn open(path: &Path) -> Result<Self> {
        let named = |e: std::io::Error| Error::from(e).context(path.display());
        if !std::fs::metadata(path).map_err(named)?.is_file() {
            return Err(Error::new(
                ErrorKind::Io,
                format!("{}: is no regular file", path.display()),
            ));
        }
        let file = File::open(path).map_err(named)?;
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        let (stem, reader): (&str, Box<dyn Read + Send>) = match name.rsplit_once('.') {
            Some((stem, "gz")) => (stem, Box::new(flate2::read::MultiGzDecoder::new(file))),
            Some((stem, "zst")) => (stem, Box::new(zstd::Decoder::new(file).map_err(named)?)),
            _ => (&name, Box::new(file)),
        };
        Ok(Self {
            path: path.to_owned(),
            lines: Some(BufReader::with_capacity(1 << 18, reader)),
            jsonl: stem.ends_with(".jsonl") || stem.ends_with(".json"),
            number: 0,
        })
    }

    fn read(&mut self) -> Result<Option<Document>> {
        let Some(reader) = &mut self.lines else {
            return Ok(None);
        };
        loop {
            let mut bytes = Vec::new();
            self.number += 1;
            let mut limited = reader.take(MAX_BYTES + 1);
            let n = match self.jsonl {
                true => limited.read_until(b'\n', &mut bytes)?,
                false => limited.read_to_end(&mut bytes)?,
            };
            if n == 0 {
                return Ok(None);
            }
            if n as u64 > MAX_BYTES {
                return Err(Error::new(
                    ErrorKind::Limit,
                    format!("is longer than {MAX_BYTES} bytes"),
                ));
            }
            let Ok(text) = String::from_utf8(bytes) else {
                return Err(Error::new(ErrorKind::Data, "is not UTF-8"));
            };
            if !text.trim().is_empty() {
                return match self.jsonl {
                    true => line(&text).map(Some),
                    false => Ok(Some(Document::Text(text))),
                };
            }
        }
    }
}

fn line(text: &str) -> Result<Document> {
    let wrong = |what: String| Error::new(ErrorKind::Data, what);
    let line: Line =
        serde_json::from_str(text).map_err(|e| wrong(format!("is no JSON object with texts: {e}")))?;
    let turn = |role: &str, content: String| Turn {
        role: role.to_owned(),
        content,
    };
    match line {
        Line {
            prompt: Some(prompt),
            chosen: Some(chosen),
            rejected: Some(rejected),
            ..
        } => Ok(Document::Pair {
            prompt,
            chosen,
            rejected,
        }),
        Line {
            prompt: Some(prompt),
            response: Some(response),
            ..
        } => Ok(Document::Chat(vec![
            turn("user", prompt),
            turn("assistant", response),
        ])),
        Line {
            messages: Some(turns),
            ..
        } => match turns.iter().any(|t| t.role == "assistant") {
            true => Ok(Document::Chat(turns)),
            false => Err(wrong(
                "has `messages` of which none is the assistant's".to_owned(),
            )),
        },
        Line { text: Some(text), .. } => Ok(Document::Text(text)),
        _ => Err(wrong(
            "has neither `text` nor `prompt` and `response` nor `prompt`, `chosen` and `rejected` nor `messages`".to_owned(),
        )),
    }
}

impl Iterator for Texts {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read() {
            Ok(found) => found.map(Ok),
            Err(e) => {
                // What follows a broken place cannot be trusted.
                self.lines = None;
                let place = match self.jsonl {
                    true => format!("{}, line {}", self.path.display(), self.number),
                    false => self.path.display().to_string(),
                };
                Some(Err(e.context(place)))
            }
        }
    }
}
