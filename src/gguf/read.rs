//! The strict reader.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::limits::*;
use super::metadata::Metadata;
use super::tensor::{TensorInfo, TensorType};
use super::value::{Array, StringArray, Value};
use crate::error::Result;

/// The header of a file: metadata and what tensors lie where.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// Version of the container: 2 or 3.
    pub version: u32,
    /// Alignment of tensor data, in bytes.
    pub alignment: u64,
    /// Key-value pairs.
    pub metadata: Metadata,
    /// Tensors in the order of the file; of a split model, part after part.
    pub tensors: Vec<TensorInfo>,
    /// Where tensor data begins, in bytes from the beginning of the (first) file.
    pub data_offset: u64,
    pub(super) index: HashMap<String, usize>,
}

impl Gguf {
    /// Reads the header in `bytes`, the whole file, and checks that every tensor lies inside.
    ///
    /// # Errors
    /// `Format`, for what contradicts the format; `Unsupported`, for another version, byte order or
    /// tensor type; `Limit`, beyond the bounds of this reader; `Resource`.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut r = Cursor {
            bytes,
            at: 0,
            metadata_bytes: 0,
        };
        let version = r.version()?;
        let n_tensors = r.count("tensors", MAX_TENSORS, 24)?;
        let n_kv = r.count("key-value pairs", MAX_KV, 13)?;
        let metadata = r.metadata(n_kv)?;
        let alignment = alignment(&metadata)?;
        let mut tensors = Vec::new();
        let mut index = HashMap::new();
        for i in 0..n_tensors {
            let info = r.tensor_info(i)?;
            if index.insert(info.name.clone(), tensors.len()).is_some() {
                crate::bail!(Format, "tensor {} is listed twice", info.name);
            }
            tensors.push(info);
        }
        let data_offset = (r.at as u64).next_multiple_of(alignment);
        place(&mut tensors, alignment, data_offset, bytes.len() as u64)?;
        Ok(Self {
            version,
            alignment,
            metadata,
            tensors,
            data_offset,
            index,
        })
    }

    /// The tensor `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(*self.index.get(name)?)
    }
}

/// Makes offsets absolute and checks that data is aligned, in order, apart, and inside the file.
fn place(tensors: &mut [TensorInfo], alignment: u64, data_offset: u64, n_file: u64) -> Result<()> {
    let mut free = data_offset;
    for t in tensors {
        let name = &t.name;
        if !t.offset.is_multiple_of(alignment) {
            crate::bail!(
                Format,
                "tensor {name}: offset {} is not a multiple of {alignment}",
                t.offset
            );
        }
        let begin = t.offset.checked_add(data_offset);
        let range = begin.and_then(|b| Some((b, b.checked_add(t.n_bytes)?)));
        let Some((begin, end)) = range else {
            crate::bail!(Format, "tensor {name}: offset {} is beyond any file", t.offset);
        };
        if begin < free {
            crate::bail!(
                Format,
                "tensor {name}: its data at {begin} overlaps what ends at {free}"
            );
        }
        if end > n_file {
            crate::bail!(
                Format,
                "tensor {name} ends at byte {end}, but the file has {n_file}; it may be cut short"
            );
        }
        t.offset = begin;
        free = end;
    }
    Ok(())
}

fn alignment(metadata: &Metadata) -> Result<u64> {
    let key = "general.alignment";
    let n = match metadata.get(key) {
        None => return Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(n)) => u64::from(*n),
        Some(other) => crate::bail!(Format, "key {key} is {}; it must be a u32", other.type_name()),
    };
    if !n.is_power_of_two() || n > MAX_ALIGNMENT {
        crate::bail!(
            Format,
            "key {key} is {n}; it must be a power of two up to {MAX_ALIGNMENT}"
        );
    }
    Ok(n)
}

/// Reads from the front, never past the end.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Memory that metadata takes so far, by an upper estimate.
    metadata_bytes: u64,
}

impl<'a> Cursor<'a> {
    fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8]> {
        let end = usize::try_from(n).ok().and_then(|n| self.at.checked_add(n));
        match end.and_then(|end| Some((self.bytes.get(self.at..end)?, end))) {
            Some((slice, end)) => {
                self.at = end;
                Ok(slice)
            }
            None => crate::bail!(
                Format,
                "the file ends inside {what} at byte {}: {n} bytes are needed, {} are left",
                self.at,
                self.left()
            ),
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let slice = self.take(N as u64, what)?;
        Ok(slice.try_into().unwrap_or([0; N]))
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn version(&mut self) -> Result<u32> {
        if self.take(4, "the magic")? != b"GGUF" {
            crate::bail!(
                Format,
                "the file does not begin with `GGUF`; it is another kind of file"
            );
        }
        let version = self.u32("the version")?;
        match version {
            2 | 3 => Ok(version),
            _ if matches!(version.swap_bytes(), 1..=3) => {
                crate::bail!(
                    Unsupported,
                    "the file is big-endian; convert it on the machine it came from"
                )
            }
            _ => crate::bail!(Unsupported, "GGUF version {version}; this reader knows 2 and 3"),
        }
    }

    /// A count of things that take at least `least` bytes each in the file.
    fn count(&mut self, what: &str, max: u64, least: u64) -> Result<u64> {
        let n = self.u64(what)?;
        if n > max {
            crate::bail!(Limit, "the file declares {n} {what}; the limit is {max}");
        }
        if n.saturating_mul(least) > self.left() {
            crate::bail!(
                Format,
                "the file declares {n} {what} but has {} bytes left",
                self.left()
            );
        }
        Ok(n)
    }

    fn string(&mut self, what: &str, max: u64) -> Result<&'a [u8]> {
        let n = self.u64(what)?;
        // What does not fit the file is a fault of the file, whatever the limit.
        if n > self.left() {
            crate::bail!(
                Format,
                "{what} declares {n} bytes at byte {}, but {} are left",
                self.at,
                self.left()
            );
        }
        if n > max {
            crate::bail!(Limit, "{what} has {n} bytes; the limit is {max}");
        }
        self.take(n, what)
    }

    fn metadata(&mut self, n_kv: u64) -> Result<Metadata> {
        let mut metadata = Metadata::new();
        for i in 0..n_kv {
            let what = format!("key {i}");
            let key = self.string(&what, MAX_KEY)?;
            let key = name(key, &what)?;
            if metadata.get(key).is_some() {
                crate::bail!(Format, "key {key} is there twice");
            }
            self.account(key.len() as u64 * 2 + 128, key)?;
            let ty = self.u32(key)?;
            let value = self.value(key, ty)?;
            metadata.insert(key, value);
        }
        Ok(metadata)
    }

    fn account(&mut self, n_bytes: u64, key: &str) -> Result<()> {
        self.metadata_bytes = self.metadata_bytes.saturating_add(n_bytes);
        if self.metadata_bytes > MAX_METADATA {
            crate::bail!(
                Limit,
                "key {key}: the metadata takes more than {MAX_METADATA} bytes"
            );
        }
        Ok(())
    }

    fn value(&mut self, key: &str, ty: u32) -> Result<Value> {
        Ok(match ty {
            0 => Value::U8(u8::from_le_bytes(self.array(key)?)),
            1 => Value::I8(i8::from_le_bytes(self.array(key)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(key)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(key)?)),
            4 => Value::U32(self.u32(key)?),
            5 => Value::I32(i32::from_le_bytes(self.array(key)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(key)?)),
            7 => Value::Bool(bool_of(self.array::<1>(key)?[0], key)?),
            8 => {
                let string = self.string(&format!("key {key}"), MAX_STRING)?;
                self.account(string.len() as u64, key)?;
                match std::str::from_utf8(string) {
                    Ok(string) => Value::String(string.to_owned()),
                    Err(_) => crate::bail!(Format, "key {key} is not UTF-8"),
                }
            }
            9 => Value::Array(self.array_value(key)?),
            10 => Value::U64(self.u64(key)?),
            11 => Value::I64(i64::from_le_bytes(self.array(key)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(key)?)),
            _ => crate::bail!(Format, "key {key} is of type {ty}; GGUF has types 0 to 12"),
        })
    }

    fn array_value(&mut self, key: &str) -> Result<Array> {
        let ty = self.u32(key)?;
        let n = self.u64(key)?;
        Ok(match ty {
            0 => Array::U8(self.elements(key, n, u8::from_le_bytes)?),
            1 => Array::I8(self.elements(key, n, i8::from_le_bytes)?),
            2 => Array::U16(self.elements(key, n, u16::from_le_bytes)?),
            3 => Array::I16(self.elements(key, n, i16::from_le_bytes)?),
            4 => Array::U32(self.elements(key, n, u32::from_le_bytes)?),
            5 => Array::I32(self.elements(key, n, i32::from_le_bytes)?),
            6 => Array::F32(self.elements(key, n, f32::from_le_bytes)?),
            7 => {
                let bytes = self.elements(key, n, u8::from_le_bytes)?;
                Array::Bool(
                    bytes
                        .into_iter()
                        .map(|b| bool_of(b, key))
                        .collect::<Result<_>>()?,
                )
            }
            8 => Array::Strings(self.strings(key, n)?),
            9 => crate::bail!(
                Format,
                "key {key} is an array of arrays; GGUF readers do not take them"
            ),
            10 => Array::U64(self.elements(key, n, u64::from_le_bytes)?),
            11 => Array::I64(self.elements(key, n, i64::from_le_bytes)?),
            12 => Array::F64(self.elements(key, n, f64::from_le_bytes)?),
            _ => crate::bail!(
                Format,
                "key {key} is an array of type {ty}; GGUF has types 0 to 12"
            ),
        })
    }

    fn elements<T, const N: usize>(&mut self, key: &str, n: u64, read: fn([u8; N]) -> T) -> Result<Vec<T>> {
        let n_bytes = n.checked_mul(N as u64).filter(|&b| b <= self.left());
        let Some(n_bytes) = n_bytes else {
            crate::bail!(
                Format,
                "key {key} declares {n} elements, but {} bytes are left",
                self.left()
            );
        };
        if n > MAX_ARRAY {
            crate::bail!(Limit, "key {key} has {n} elements; the limit is {MAX_ARRAY}");
        }
        self.account(n_bytes, key)?;
        let bytes = self.take(n_bytes, key)?;
        let mut elements = Vec::new();
        elements
            .try_reserve_exact(bytes.len() / N)
            .map_err(|_| crate::err!(Resource, "no memory for key {key} ({n} elements)"))?;
        elements.extend(
            bytes
                .chunks_exact(N)
                .map(|c| read(c.try_into().unwrap_or([0; N]))),
        );
        Ok(elements)
    }

    fn strings(&mut self, key: &str, n: u64) -> Result<StringArray> {
        // Eight bytes of length each: a bound before anything is reserved.
        if n.checked_mul(8).is_none_or(|b| b > self.left()) {
            crate::bail!(
                Format,
                "key {key} declares {n} strings, but {} bytes are left",
                self.left()
            );
        }
        if n > MAX_ARRAY {
            crate::bail!(Limit, "key {key} has {n} elements; the limit is {MAX_ARRAY}");
        }
        self.account(n * 32, key)?;
        // One pass to measure, one to copy: the array is then exactly as large as it must be.
        let begin = self.at;
        let mut total = 0usize;
        for i in 0..n {
            total += self.string_of(key, i)?.len();
        }
        self.account(total as u64, key)?;
        self.at = begin;
        let mut strings = StringArray::new();
        strings.try_reserve(usize::try_from(n).unwrap_or(usize::MAX), total)?;
        for _ in 0..n {
            strings.push(self.string(key, MAX_STRING)?);
        }
        Ok(strings)
    }

    /// Element `i` of a string array; its name is spelled out only when something is wrong.
    fn string_of(&mut self, key: &str, i: u64) -> Result<&'a [u8]> {
        self.string("", MAX_STRING)
            .map_err(|e| e.context(format_args!("element {i} of key {key}")))
    }

    fn tensor_info(&mut self, i: u64) -> Result<TensorInfo> {
        let what = format!("the name of tensor {i}");
        let raw = self.string(&what, MAX_KEY)?;
        let name = name(raw, &what)?.to_owned();
        if name.len() as u64 > MAX_NAME {
            crate::bail!(Format, "{what} has {} bytes; the limit is {MAX_NAME}", name.len());
        }
        let n_dims = self.u32(&name)?;
        if !(1..=MAX_DIMS).contains(&n_dims) {
            crate::bail!(
                Format,
                "tensor {name} has {n_dims} dimensions; there must be 1 to {MAX_DIMS}"
            );
        }
        let mut dims = [1u64; 4];
        for d in dims.iter_mut().take(n_dims as usize) {
            *d = self.u64(&name)?;
            if *d == 0 || *d > i64::MAX as u64 {
                crate::bail!(
                    Format,
                    "tensor {name} has a dimension of {}; it must be 1 to 2^63 - 1",
                    *d
                );
            }
        }
        let id = self.u32(&name)?;
        let Some(ty) = TensorType::from_id(id) else {
            crate::bail!(
                Unsupported,
                "tensor {name} is of type {id}, which this version does not know"
            );
        };
        let offset = self.u64(&name)?;
        let n_dims = n_dims as usize;
        if !dims[0].is_multiple_of(ty.block_len()) {
            crate::bail!(
                Format,
                "tensor {name}: rows of {} elements do not divide into {} blocks of {}",
                dims[0],
                ty.name(),
                ty.block_len()
            );
        }
        let Some(n_bytes) = ty.tensor_bytes(&dims[..n_dims]).filter(|&n| n <= i64::MAX as u64) else {
            crate::bail!(
                Format,
                "tensor {name}: the size of {:?} elements overflows",
                &dims[..n_dims]
            );
        };
        Ok(TensorInfo {
            name,
            dims,
            n_dims,
            ty,
            offset,
            n_bytes,
            file: 0,
        })
    }
}

/// A key or tensor name: UTF-8, not empty, without NUL, which C code would take for its end.
fn name<'a>(raw: &'a [u8], what: &str) -> Result<&'a str> {
    let Ok(text) = std::str::from_utf8(raw) else {
        crate::bail!(Format, "{what} is not UTF-8")
    };
    if text.is_empty() {
        crate::bail!(Format, "{what} is empty");
    }
    if text.contains('\0') {
        crate::bail!(Format, "{what}, `{text}`, holds a NUL");
    }
    Ok(text)
}

fn bool_of(byte: u8, key: &str) -> Result<bool> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => crate::bail!(Format, "key {key} holds a bool of {byte}; it must be 0 or 1"),
    }
}
