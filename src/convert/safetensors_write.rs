//! A streaming writer of safetensors files.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, json};

use crate::error::{Error, Result};
use crate::gguf::TensorType;

/// A tensor to be written.
pub(super) struct Entry {
    pub name: String,
    /// Sizes, slowest first.
    pub shape: Vec<u64>,
    pub ty: TensorType,
    pub n_bytes: u64,
}

/// Collects small pieces. Small, since the standard library ends the process where there is no memory for it.
const BUFFER: usize = 32 << 10;

/// One file: header at once, then data in order. Dropped before [`finish`](Self::finish), it removes
/// what it wrote.
pub(super) struct SafetensorsWriter {
    out: BufWriter<File>,
    path: PathBuf,
    left: u64,
    finished: bool,
}

impl SafetensorsWriter {
    /// Begins `path`, which must not exist.
    pub fn create(path: &Path, entries: &[&Entry]) -> Result<Self> {
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!({"format": "pt"}));
        let mut at = 0u64;
        for e in entries {
            let dtype = match e.ty {
                TensorType::F16 => "F16",
                TensorType::Bf16 => "BF16",
                _ => "F32",
            };
            let end = at + e.n_bytes;
            let value = json!({"dtype": dtype, "shape": e.shape, "data_offsets": [at, end]});
            header.insert(e.name.clone(), value);
            at = end;
        }
        let mut header = serde_json::Value::Object(header).to_string();
        // Data begins at a multiple of 8 bytes.
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let mut writer = Self {
            out: BufWriter::with_capacity(BUFFER, file.map_err(|e| named(path, e))?),
            path: path.to_owned(),
            left: at,
            finished: false,
        };
        writer.put(&(header.len() as u64).to_le_bytes())?;
        writer.put(header.as_bytes())?;
        Ok(writer)
    }

    /// The next bytes of data.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            crate::bail!(Internal, "more data than {} announces", self.path.display());
        };
        self.left = left;
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| named(&self.path, e))
    }

    /// Makes the file durable.
    pub fn finish(mut self) -> Result<()> {
        if self.left > 0 {
            crate::bail!(Internal, "less data than {} announces", self.path.display());
        }
        let done = self.out.flush().and_then(|()| self.out.get_ref().sync_all());
        done.map_err(|e| named(&self.path, e))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for SafetensorsWriter {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn named(path: &Path, error: std::io::Error) -> Error {
    Error::from(error).context(path.display())
}
