//! Documents from files: JSON lines and plain text, also compressed, and Parquet.

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

/// What a line, or a row, may have.
#[derive(Default, Deserialize)]
pub(super) struct Line {
    pub text: Option<String>,
    pub prompt: Option<String>,
    pub response: Option<String>,
    pub messages: Option<Vec<Turn>>,
    pub chosen: Option<String>,
    pub rejected: Option<String>,
}

/// Largest line or text file, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// The documents of a file. `.jsonl` has one object a line (`text`, or `prompt` and `response`, or
/// `prompt`, `chosen` and `rejected`, or `messages`), `.parquet` the same in columns; any other name is one
/// text. `.gz` and `.zst` behind it are unpacked.
pub struct Texts {
    path: PathBuf,
    source: Source,
    /// Of the line or row that was read last, from 1.
    number: usize,
}

enum Source {
    Lines(BufReader<Box<dyn Read + Send>>),
    Whole(BufReader<Box<dyn Read + Send>>),
    #[cfg(feature = "parquet")]
    Rows(super::parquet::Rows),
    /// What follows a broken place cannot be trusted.
    End,
}

impl Texts {
    /// Opens `path`.
    ///
    /// # Errors
    /// `Io`, naming it.
    pub fn open(path: &Path) -> Result<Self> {
        let named = |e: std::io::Error| Error::from(e).context(path.display());
        let file = crate::files::open(path)?;
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        let (stem, reader): (&str, Box<dyn Read + Send>) = match name.rsplit_once('.') {
            Some((stem, "gz")) => (stem, Box::new(flate2::read::MultiGzDecoder::new(file))),
            Some((stem, "zst")) => (stem, Box::new(zstd::Decoder::new(file).map_err(named)?)),
            _ => (&name, Box::new(file)),
        };
        let reader = BufReader::with_capacity(1 << 18, reader);
        let source = match stem.rsplit_once('.').map(|(_, kind)| kind) {
            Some("jsonl" | "json") => Source::Lines(reader),
            Some("parquet") => parquet(path, stem == name)?,
            _ => Source::Whole(reader),
        };
        Ok(Self {
            path: path.to_owned(),
            source,
            number: 0,
        })
    }

    fn read(&mut self) -> Result<Option<Document>> {
        self.number += 1;
        let (reader, whole) = match &mut self.source {
            Source::Lines(reader) => (reader, false),
            Source::Whole(reader) => (reader, true),
            #[cfg(feature = "parquet")]
            Source::Rows(rows) => return rows.next().map(|row| document(row?)).transpose(),
            Source::End => return Ok(None),
        };
        loop {
            let mut bytes = Vec::new();
            let mut limited = reader.take(MAX_BYTES + 1);
            let n = match whole {
                false => limited.read_until(b'\n', &mut bytes)?,
                true => limited.read_to_end(&mut bytes)?,
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
                return match whole {
                    false => line(&text).map(Some),
                    true => Ok(Some(Document::Text(text))),
                };
            }
            self.number += 1;
        }
    }
}

#[cfg(feature = "parquet")]
fn parquet(path: &Path, plain: bool) -> Result<Source> {
    if !plain {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "{}: is Parquet inside another compression; unpack it",
                path.display()
            ),
        ));
    }
    let rows = super::parquet::Rows::open(path).map_err(|e| e.context(path.display()))?;
    Ok(Source::Rows(rows))
}

#[cfg(not(feature = "parquet"))]
fn parquet(path: &Path, _: bool) -> Result<Source> {
    Err(Error::new(
        ErrorKind::Unsupported,
        format!(
            "{}: this build reads no Parquet (--features parquet)",
            path.display()
        ),
    ))
}

fn line(text: &str) -> Result<Document> {
    let line: Line =
        serde_json::from_str(text).map_err(|e| wrong(format!("is no JSON object with texts: {e}")))?;
    document(line)
}

fn wrong(what: String) -> Error {
    Error::new(ErrorKind::Data, what)
}

fn document(line: Line) -> Result<Document> {
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
                let path = self.path.display();
                let place = match std::mem::replace(&mut self.source, Source::End) {
                    Source::Lines(_) => format!("{path}, line {}", self.number),
                    #[cfg(feature = "parquet")]
                    Source::Rows(_) => format!("{path}, row {}", self.number),
                    _ => path.to_string(),
                };
                Some(Err(e.context(place)))
            }
        }
    }
}
