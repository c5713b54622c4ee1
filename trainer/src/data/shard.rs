//! One shard: documents as tokens, in a file that any program can write.
//!
//! Little-endian: the magic `RMKTOK01`; u32 bytes of a token (2 or 4); u32 0; u64 documents; u64 tokens;
//! then per document u64 where it ends (in tokens) and u64 how many tokens its prompt has; then the
//! tokens.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use remask::{Error, ErrorKind, Result, Token};

use crate::objective::Example;

const MAGIC: &[u8; 8] = b"RMKTOK01";
const HEADER: u64 = 32;
/// Documents that are read from an index, at most: what a shard of 2^32 tokens can have.
const MAX_DOCUMENTS: u64 = 1 << 30;

/// A shard that is open to be read. The index is in memory, tokens stay on disk.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    file: std::sync::Mutex<File>,
    width: usize,
    /// Ends of documents, in tokens.
    ends: Vec<u64>,
    prompts: Vec<u32>,
    tokens_at: u64,
}

impl Shard {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// `Io`, `Data`, naming it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = crate::files::open(path)?;
        Self::read(file, path).map_err(|e| e.context(path.display()))
    }

    fn read(mut file: File, path: &Path) -> Result<Self> {
        let length = file.metadata()?.len();
        let mut header = [0u8; HEADER as usize];
        let short = || data("is shorter than its header".to_owned());
        file.read_exact(&mut header).map_err(|_| short())?;
        if &header[..8] != MAGIC {
            return Err(data(
                "is no shard of tokens; `remask-train prepare` makes them".to_owned(),
            ));
        }
        let u32_at =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let width = u32_at(8) as usize;
        let (n_documents, n_tokens) = (u64_at(16), u64_at(24));
        if width != 2 && width != 4 {
            return Err(data(format!("has tokens of {width} bytes; 2 and 4 are read")));
        }
        let index = n_documents
            .checked_mul(16)
            .filter(|_| n_documents <= MAX_DOCUMENTS);
        let bytes = n_tokens.checked_mul(width as u64);
        let whole = index
            .zip(bytes)
            .and_then(|(i, t)| HEADER.checked_add(i)?.checked_add(t));
        if whole != Some(length) {
            return Err(data(format!(
                "has {length} bytes; {n_documents} documents of {n_tokens} tokens need {}: it is cut off or was changed",
                whole.unwrap_or(u64::MAX)
            )));
        }
        let tokens_at = HEADER + n_documents * 16;
        let mut index = vec![0u8; (n_documents * 16) as usize];
        file.read_exact(&mut index)?;
        let (mut ends, mut prompts) = (Vec::new(), Vec::new());
        let mut before = 0;
        for entry in index.as_chunks::<16>().0 {
            let (end, prompt) = entry.split_at(8);
            let number = |b: &[u8]| b.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
            let (end, prompt) = (number(end), number(prompt));
            if end < before || end > n_tokens || prompt > end - before {
                return Err(data(format!("document {} has no place in it", ends.len())));
            }
            before = end;
            ends.push(end);
            prompts.push(u32::try_from(prompt).map_err(|_| data("a prompt is too long".to_owned()))?);
        }
        if before != n_tokens {
            return Err(data("has tokens behind its last document".to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            file: std::sync::Mutex::new(file),
            width,
            ends,
            prompts,
            tokens_at,
        })
    }

    /// Documents.
    pub fn n_documents(&self) -> usize {
        self.ends.len()
    }

    /// Tokens of all documents.
    pub fn n_tokens(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Tokens `begin..begin + n`, over the bounds of documents.
    ///
    /// # Errors
    /// `Io`, naming the file; `Data`, when it was cut off.
    pub fn tokens(&self, begin: u64, n: usize) -> Result<Vec<Token>> {
        let mut bytes = vec![0u8; n * self.width];
        let mut read = || -> std::io::Result<()> {
            let mut file = self.file.lock().unwrap_or_else(|e| e.into_inner());
            file.seek(SeekFrom::Start(self.tokens_at + begin * self.width as u64))?;
            file.read_exact(&mut bytes)
        };
        read().map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                data("was cut off after it was opened".to_owned()).context(self.path.display())
            }
            _ => Error::from(e).context(self.path.display()),
        })?;
        Ok(match self.width {
            2 => bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|&b| Token::from(u16::from_le_bytes(b)))
                .collect(),
            _ => bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|&b| u32::from_le_bytes(b))
                .collect(),
        })
    }

    /// Tokens of document `i`.
    pub fn length_of(&self, i: usize) -> u64 {
        self.ends[i] - if i == 0 { 0 } else { self.ends[i - 1] }
    }

    /// Which document token `at` belongs to.
    pub fn document_of(&self, at: u64) -> usize {
        self.ends.partition_point(|&end| end <= at)
    }

    /// Document `i`.
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens).
    pub fn document(&self, i: usize) -> Result<Example> {
        let begin = if i == 0 { 0 } else { self.ends[i - 1] };
        let n = usize::try_from(self.ends[i] - begin).unwrap_or(usize::MAX);
        Ok(Example {
            tokens: self.tokens(begin, n)?,
            n_prompt: self.prompts[i] as usize,
        })
    }
}

pub(super) fn data(message: String) -> Error {
    Error::new(ErrorKind::Data, message)
}

/// Writes a shard beside its place and renames it when it is whole.
pub struct ShardWriter {
    width: usize,
    index: Vec<u8>,
    tokens: Vec<u8>,
    n_tokens: u64,
    n_documents: u64,
}

impl ShardWriter {
    /// A shard for tokens below `n_vocab`.
    pub fn new(n_vocab: usize) -> Self {
        Self {
            width: if n_vocab <= 1 << 16 { 2 } else { 4 },
            index: Vec::new(),
            tokens: Vec::new(),
            n_tokens: 0,
            n_documents: 0,
        }
    }

    /// Adds a document.
    pub fn push(&mut self, document: &Example) {
        for &token in &document.tokens {
            match self.width {
                2 => self.tokens.extend((token as u16).to_le_bytes()),
                _ => self.tokens.extend(token.to_le_bytes()),
            }
        }
        self.n_tokens += document.tokens.len() as u64;
        self.n_documents += 1;
        self.index.extend(self.n_tokens.to_le_bytes());
        self.index.extend((document.n_prompt as u64).to_le_bytes());
    }

    /// Tokens so far.
    pub fn n_tokens(&self) -> u64 {
        self.n_tokens
    }

    /// Documents so far.
    pub fn n_documents(&self) -> u64 {
        self.n_documents
    }

    /// Writes it to `path`.
    ///
    /// # Errors
    /// `Io`, naming the file.
    pub fn finish(self, path: &Path) -> Result<()> {
        crate::files::write_atomically(path, |file| {
            let mut out = BufWriter::new(file);
            out.write_all(MAGIC)?;
            out.write_all(&(self.width as u32).to_le_bytes())?;
            out.write_all(&0u32.to_le_bytes())?;
            out.write_all(&self.n_documents.to_le_bytes())?;
            out.write_all(&self.n_tokens.to_le_bytes())?;
            out.write_all(&self.index)?;
            out.write_all(&self.tokens)?;
            out.flush()
        })
    }
}
