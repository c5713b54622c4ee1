//! The streaming writer. A file appears whole under its name, or not at all.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::limits::*;
use super::metadata::Metadata;
use super::tensor::TensorType;
use super::value::{Array, Value};
use crate::error::{Error, Result};

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Unique name, at most 63 bytes.
    pub name: String,
    /// Dimensions in ggml order, fastest first: 1 to 4.
    pub dims: Vec<u64>,
    /// Element or block type.
    pub ty: TensorType,
}

impl TensorSpec {
    /// Bytes of its data.
    ///
    /// # Errors
    /// `InvalidArgument`, when blocks do not divide a row, a dimension is 0, or the size overflows.
    pub fn n_bytes(&self) -> Result<u64> {
        let good = (1..=4).contains(&self.dims.len()) && !self.dims.contains(&0);
        let n = if good {
            self.ty.tensor_bytes(&self.dims)
        } else {
            None
        };
        n.ok_or_else(|| {
            crate::err!(
                InvalidArgument,
                "tensor {} cannot be {} of {:?}",
                self.name,
                self.ty.name(),
                self.dims
            )
        })
    }
}

/// Writes one file: header at once, then tensors in order, in one piece each or in chunks.
///
/// The data goes to a temporary file beside the target; [`finish`](Self::finish) syncs and renames it.
/// Dropped before that, it leaves nothing behind.
pub struct Writer {
    out: BufWriter<File>,
    temporary: Temporary,
    path: PathBuf,
    tensors: Vec<TensorSpec>,
    alignment: u64,
    current: usize,
    /// Bytes of the current tensor that are still to come.
    left: u64,
}

/// Collects small pieces; what is larger goes past it. Small, since the standard library ends the process
/// where there is no memory for it.
const BUFFER: usize = 32 << 10;

/// Removes the file on drop, unless it was renamed.
struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Writer {
    /// Begins `path` with `metadata` and the table of `tensors`. `general.alignment` is honoured.
    ///
    /// # Errors
    /// `InvalidArgument`, when the path exists and `overwrite` is false, or metadata or tensors break
    /// the format's rules; `Io`.
    pub fn create(
        path: &Path,
        metadata: &Metadata,
        tensors: Vec<TensorSpec>,
        overwrite: bool,
    ) -> Result<Self> {
        check_target(path, overwrite)?;
        let alignment = check_metadata(metadata)?;
        check_tensors(&tensors)?;
        let header = header(metadata, &tensors, alignment)?;
        let (file, temporary) = temporary(path).map_err(|e| named(path, e))?;
        let mut out = BufWriter::with_capacity(BUFFER, file);
        out.write_all(&header).map_err(|e| named(path, e))?;
        let left = tensors.first().map_or(Ok(0), TensorSpec::n_bytes)?;
        let path = path.to_owned();
        Ok(Self {
            out,
            temporary,
            path,
            tensors,
            alignment,
            current: 0,
            left,
        })
    }

    /// Writes all of the next tensor, which must be `name`.
    ///
    /// # Errors
    /// `InvalidArgument`, when it is another tensor's turn or the size is wrong; `Io`.
    pub fn write_tensor(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let Some(spec) = self.tensors.get(self.current) else {
            crate::bail!(
                InvalidArgument,
                "tensor {name} comes after the last one announced"
            );
        };
        if spec.name != name {
            crate::bail!(
                InvalidArgument,
                "tensor {name} comes where {} was announced",
                spec.name
            );
        }
        if self.left != bytes.len() as u64 {
            crate::bail!(
                InvalidArgument,
                "tensor {name} has {} bytes; {} were announced",
                bytes.len(),
                self.left
            );
        }
        self.write_chunk(bytes)
    }

    /// Writes the next bytes of the current tensor; after its last, the next one's turn comes.
    ///
    /// # Errors
    /// `InvalidArgument`, when the bytes go beyond the tensor; `Io`.
    pub fn write_chunk(&mut self, bytes: &[u8]) -> Result<()> {
        let n = bytes.len() as u64;
        let Some(left) = self
            .left
            .checked_sub(n)
            .filter(|_| self.current < self.tensors.len())
        else {
            crate::bail!(
                InvalidArgument,
                "{n} bytes go beyond the end of a tensor, {} are left",
                self.left
            );
        };
        self.out.write_all(bytes).map_err(|e| named(&self.path, e))?;
        self.left = left;
        if left == 0 {
            let size = self.tensors[self.current].n_bytes()?;
            // The last tensor is padded too, as llama.cpp's writer does.
            let padding = size.next_multiple_of(self.alignment) - size;
            self.out
                .write_all(&vec![0; padding as usize])
                .map_err(|e| named(&self.path, e))?;
            self.current += 1;
            self.left = self
                .tensors
                .get(self.current)
                .map_or(Ok(0), TensorSpec::n_bytes)?;
        }
        Ok(())
    }

    /// Syncs the file and gives it its name.
    ///
    /// # Errors
    /// `InvalidArgument`, when tensors are missing; `Io`: the target is then as it was before.
    pub fn finish(mut self) -> Result<()> {
        if let Some(spec) = self.tensors.get(self.current) {
            crate::bail!(
                InvalidArgument,
                "tensor {} was announced and never written",
                spec.name
            );
        }
        let done = self.out.flush().and_then(|()| self.out.get_ref().sync_all());
        done.map_err(|e| named(&self.path, e))?;
        if let Some(temporary) = &self.temporary.0 {
            std::fs::rename(temporary, &self.path).map_err(|e| named(&self.path, e))?;
        }
        self.temporary.0 = None;
        sync_folder(&self.path);
        Ok(())
    }
}

fn named(path: &Path, error: std::io::Error) -> Error {
    Error::from(error).context(path.display())
}

fn check_target(path: &Path, overwrite: bool) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(found) if found.is_dir() => {
            crate::bail!(
                InvalidArgument,
                "{} is a folder; name a file in it",
                path.display()
            )
        }
        Ok(_) if !overwrite => {
            crate::bail!(
                InvalidArgument,
                "{} exists; choose another name or allow it to be replaced",
                path.display()
            )
        }
        Ok(found) if !found.is_file() && !found.is_symlink() => {
            crate::bail!(InvalidArgument, "{} is no regular file", path.display())
        }
        Ok(_) => Ok(()),
    }
}

/// A new file beside `path`, so that the rename stays on one file system.
fn temporary(path: &Path) -> std::io::Result<(File, Temporary)> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut tries = 0u32;
    loop {
        let candidate = path.with_file_name(format!(".{name}.{}-{tries}.tmp", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&candidate) {
            Ok(file) => return Ok((file, Temporary(Some(candidate)))),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && tries < 1000 => tries += 1,
            Err(e) => return Err(e),
        }
    }
}

/// Makes the rename itself durable. Best effort: the file is whole either way.
fn sync_folder(path: &Path) {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if cfg!(unix)
        && let Ok(folder) = File::open(folder)
    {
        let _ = folder.sync_all();
    }
}

/// Checks what the reader would refuse; returns the alignment.
fn check_metadata(metadata: &Metadata) -> Result<u64> {
    if metadata.len() as u64 > MAX_KV {
        crate::bail!(InvalidArgument, "{} keys; the limit is {MAX_KV}", metadata.len());
    }
    for (key, value) in metadata.iter() {
        if key.is_empty() || key.contains('\0') || key.len() as u64 > MAX_KEY {
            crate::bail!(InvalidArgument, "key `{key}` is empty, too long or holds a NUL");
        }
        let size = match value {
            Value::String(s) => s.len() as u64,
            Value::Array(a) => a.len() as u64,
            _ => 0,
        };
        if size > MAX_STRING {
            crate::bail!(
                InvalidArgument,
                "key {key} is too long: {size}; the limit is {MAX_STRING}"
            );
        }
    }
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(n)) if n.is_power_of_two() && u64::from(*n) <= MAX_ALIGNMENT => Ok(u64::from(*n)),
        Some(_) => {
            crate::bail!(
                InvalidArgument,
                "key general.alignment must be a u32, a power of two up to {MAX_ALIGNMENT}"
            )
        }
    }
}

fn check_tensors(tensors: &[TensorSpec]) -> Result<()> {
    if tensors.len() as u64 > MAX_TENSORS {
        crate::bail!(
            InvalidArgument,
            "{} tensors; the limit is {MAX_TENSORS}",
            tensors.len()
        );
    }
    let mut names = HashSet::new();
    for spec in tensors {
        let name = &spec.name;
        if name.is_empty() || name.contains('\0') || name.len() as u64 > MAX_NAME {
            crate::bail!(
                InvalidArgument,
                "tensor name `{name}` is empty, too long or holds a NUL"
            );
        }
        if !names.insert(name) {
            crate::bail!(InvalidArgument, "tensor {name} is announced twice");
        }
        spec.n_bytes()?;
    }
    Ok(())
}

/// The header's bytes, padded to where tensor data begins.
fn header(metadata: &Metadata, tensors: &[TensorSpec], alignment: u64) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let keys = metadata
        .iter()
        .map(|(key, value)| key.len() + 24 + value_bytes(value));
    let infos = tensors.iter().map(|t| t.name.len() + 64);
    let n = keys.chain(infos).sum::<usize>() + 24 + alignment as usize;
    out.try_reserve_exact(n)
        .map_err(|_| crate::err!(Resource, "no memory for a header of {n} bytes"))?;
    out.extend_from_slice(b"GGUF");
    out.extend_from_slice(&3u32.to_le_bytes());
    out.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    out.extend_from_slice(&(metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        put_string(&mut out, key.as_bytes());
        out.extend_from_slice(&value.type_id().to_le_bytes());
        put_value(&mut out, value);
    }
    let mut offset = 0u64;
    for spec in tensors {
        put_string(&mut out, spec.name.as_bytes());
        out.extend_from_slice(&(spec.dims.len() as u32).to_le_bytes());
        for d in &spec.dims {
            out.extend_from_slice(&d.to_le_bytes());
        }
        out.extend_from_slice(&spec.ty.id().to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
        let end = offset
            .checked_add(spec.n_bytes()?)
            .and_then(|n| n.checked_next_multiple_of(alignment));
        offset = end.ok_or_else(|| crate::err!(InvalidArgument, "the tensors' size overflows"))?;
    }
    out.resize((out.len() as u64).next_multiple_of(alignment) as usize, 0);
    Ok(out)
}

/// Bytes of a value in the file, or a little more.
fn value_bytes(value: &Value) -> usize {
    match value {
        Value::String(s) => s.len() + 8,
        Value::Array(Array::Strings(list)) => list.iter().map(|s| s.len() + 8).sum(),
        Value::Array(array) => array.len() * 8,
        _ => 8,
    }
}

fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    out.extend_from_slice(&(string.len() as u64).to_le_bytes());
    out.extend_from_slice(string);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::I8(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::U16(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::I16(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::U32(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::I32(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::F32(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::Bool(x) => out.push(u8::from(*x)),
        Value::String(x) => put_string(out, x.as_bytes()),
        Value::U64(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::I64(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::F64(x) => out.extend_from_slice(&x.to_le_bytes()),
        Value::Array(array) => put_array(out, array),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    out.extend_from_slice(&array.type_id().to_le_bytes());
    out.extend_from_slice(&(array.len() as u64).to_le_bytes());
    match array {
        Array::U8(v) => out.extend_from_slice(v),
        Array::I8(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::U16(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::I16(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::U32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::I32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::F32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::Bool(v) => out.extend(v.iter().map(|x| u8::from(*x))),
        Array::Strings(v) => v.iter().for_each(|s| put_string(out, s)),
        Array::U64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::I64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::F64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
    }
}
