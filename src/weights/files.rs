//! A container and the files it lies in.
#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::load::LoadProgress;
use super::map::{FileBytes, Residence};
use crate::error::{Error, Result};
use crate::ggml::StableBytes;
use crate::gguf::{Gguf, TensorInfo, split_paths};

/// A GGUF file, or all parts of a split one, opened as far as the header.
pub struct GgufFiles {
    /// What the header says, all parts joined.
    pub gguf: Gguf,
    /// The files: one, or the parts in order.
    pub files: Vec<Arc<FileBytes>>,
}

impl GgufFiles {
    /// Opens `path` and, for the first part of a split file, the other parts beside it.
    ///
    /// # Errors
    /// `Io`, `Format`, `Limit`, `Unsupported`; messages begin with the path.
    pub fn open(path: &Path, residence: Residence) -> Result<Self> {
        Self::open_watched(path, residence, &mut |_| ControlFlow::Continue(()))
    }

    /// As [`open`](Self::open), telling `progress` of the bytes that are read into memory. The parts of a
    /// split file join the total as they are opened.
    ///
    /// # Errors
    /// As [`open`](Self::open); `Cancelled`, when `progress` breaks.
    pub fn open_watched(
        path: &Path,
        residence: Residence,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    ) -> Result<Self> {
        let named = |path: &Path, e: Error| e.context(path.display());
        let mut before = 0;
        let mut open = |path: &Path| -> Result<(Arc<FileBytes>, Gguf)> {
            let mut watch = |now: LoadProgress| {
                progress(LoadProgress {
                    done: before + now.done,
                    total: before + now.total,
                })
            };
            let file = FileBytes::open_watched(path, residence, &mut watch);
            let file = Arc::new(file.map_err(|e| named(path, e))?);
            before += file.bytes().len() as u64;
            let gguf = Gguf::parse(file.bytes()).map_err(|e| named(path, e))?;
            Ok((file, gguf))
        };
        let (first, gguf) = open(path)?;
        let others = split_paths(path, &gguf.metadata).map_err(|e| named(path, e))?;
        let (mut files, mut parts) = (vec![first], vec![gguf]);
        for other in &others {
            let (file, gguf) = open(other)?;
            files.push(file);
            parts.push(gguf);
        }
        let gguf = match parts.len() {
            1 => parts.swap_remove(0),
            _ => Gguf::join(parts).map_err(|e| named(path, e))?,
        };
        Ok(Self { gguf, files })
    }

    /// Opens a whole file that is in memory.
    ///
    /// # Errors
    /// `Format`, `Limit`; `Unsupported`, for the first part of a split file, whose others are not there.
    pub fn in_memory(file: FileBytes) -> Result<Self> {
        let gguf = Gguf::parse(file.bytes())?;
        if gguf.metadata.u32("split.count")?.is_some_and(|n| n > 1) {
            crate::bail!(
                Unsupported,
                "this is one part of a split model; load it by its path, or join the parts"
            );
        }
        Ok(Self {
            gguf,
            files: vec![Arc::new(file)],
        })
    }

    /// Reads bytes of `tensor` from `offset` on, without keeping them in memory.
    ///
    /// # Errors
    /// `Io`; `Internal`, when the range is outside the tensor.
    pub fn read(&self, tensor: &TensorInfo, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        let (Some(file), true) = (
            self.files.get(usize::from(tensor.file)),
            end.is_some_and(|end| end <= tensor.n_bytes),
        ) else {
            crate::bail!(Internal, "a range outside of tensor {} is asked for", tensor.name);
        };
        file.read_at(tensor.offset + offset, buffer)
    }
}
