//! Texts to evaluate with, as JSON lines.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};

/// One line: a text, or a prompt and its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// `{"text": "..."}`.
    Text(String),
    /// `{"prompt": "...", "response": "..."}`.
    Pair {
        /// What is asked.
        prompt: String,
        /// What is answered.
        response: String,
    },
}

#[derive(Deserialize)]
struct Line {
    text: Option<String>,
    prompt: Option<String>,
    response: Option<String>,
}

/// Largest line taken, in bytes.
const MAX_LINE: usize = 16 << 20;

/// Reads a file line by line. Empty lines are passed over; other fields of a line are ignored.
pub struct Dataset {
    path: PathBuf,
    lines: BufReader<File>,
    number: usize,
}

impl Dataset {
    /// Opens `path`.
    ///
    /// # Errors
    /// `Io`, naming it, also when it is no regular file.
    pub fn open(path: &Path) -> Result<Self> {
        let named = |e: std::io::Error| Error::from(e).context(path.display());
        // Asked before it is opened: opening a FIFO would wait.
        if !std::fs::metadata(path).map_err(named)?.is_file() {
            crate::bail!(
                Io,
                "{}: is no regular file; give a file of JSON lines",
                path.display()
            );
        }
        Ok(Self {
            path: path.to_owned(),
            lines: BufReader::new(File::open(path).map_err(named)?),
            number: 0,
        })
    }

    fn next_line(&mut self) -> Result<Option<Record>> {
        loop {
            let mut line = Vec::new();
            self.number += 1;
            let mut limited = (&mut self.lines).take(MAX_LINE as u64 + 1);
            if limited.read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            if line.len() > MAX_LINE {
                crate::bail!(Limit, "the line is longer than {MAX_LINE} bytes");
            }
            let Ok(text) = std::str::from_utf8(&line) else {
                crate::bail!(Data, "the line is not UTF-8");
            };
            if text.trim().is_empty() {
                continue;
            }
            return record(text).map(Some);
        }
    }
}

fn record(text: &str) -> Result<Record> {
    let line: Line = match serde_json::from_str(text) {
        Ok(line) => line,
        Err(e) => crate::bail!(Data, "the line is no JSON object with texts: {e}"),
    };
    match (line.text, line.prompt, line.response) {
        (_, Some(prompt), Some(response)) => Ok(Record::Pair { prompt, response }),
        (Some(text), ..) => Ok(Record::Text(text)),
        _ => crate::bail!(Data, "the line has neither `text` nor `prompt` and `response`"),
    }
}

impl Iterator for Dataset {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let named =
            |e: Error, path: &Path, number| e.context(format_args!("{}, line {number}", path.display()));
        match self.next_line() {
            Ok(record) => record.map(Ok),
            Err(e) => Some(Err(named(e, &self.path, self.number))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn read(content: &[u8]) -> Vec<Result<Record>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        Dataset::open(file.path()).unwrap().take(10).collect()
    }

    #[test]
    fn texts_and_pairs_are_read_and_the_rest_is_ignored() {
        let found =
            read(b"{\"text\": \"a\", \"title\": 3}\n\n{\"prompt\":\"p\",\"response\":\"r\",\"task\":null}");
        let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
        let pair = Record::Pair {
            prompt: "p".into(),
            response: "r".into(),
        };
        assert_eq!(found, [Record::Text("a".into()), pair]);
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        for bad in [
            &b"{\"text\": \"\xFF\"}"[..],
            b"[1]",
            b"{\"text\": 3}",
            b"{}",
            b"plain",
        ] {
            let mut content = b"{\"text\": \"good\"}\n".to_vec();
            content.extend_from_slice(bad);
            let mut found = read(&content).into_iter();
            found.next().unwrap().unwrap();
            let error = found.next().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Data, "{error}");
            assert!(error.message().contains("line 2"), "{error}");
        }
    }
}
