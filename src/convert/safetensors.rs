//! A strict reader of safetensors files, one or several with an index.
//!
//! Only headers are held; data is read tensor by tensor. The format: github.com/huggingface/safetensors.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::{Component, Path};

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, ErrorKind, Result, try_push};
use crate::gguf::TensorType;
use crate::weights::read_exact_at;

struct Entry {
    dtype: TensorType,
    shape: Sizes,
    file: usize,
    begin: u64,
    end: u64,
}

/// All tensors of a checkpoint in safetensors files. Headers are checked, data is read when asked for,
/// from any number of threads.
pub struct Checkpoint {
    files: Vec<(String, File)>,
    entries: HashMap<String, Entry>,
    names: Vec<String>,
}

/// Largest header taken: the format's own limit.
const MAX_HEADER: u64 = 100_000_000;
const MAX_SHARDS: usize = 1024;
const INDEX: &str = "model.safetensors.index.json";
/// Where memory for a table is short: as the reader's own error.
const NO_MEMORY: &str = "no memory for a table of tensors";

impl Checkpoint {
    fn empty() -> Self {
        Self {
            files: Vec::new(),
            entries: HashMap::new(),
            names: Vec::new(),
        }
    }

    /// Opens the file `name` in `dir`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_file(dir: &Path, name: &str) -> Result<Self> {
        let mut checkpoint = Self::empty();
        checkpoint.add(dir, name)?;
        Ok(checkpoint)
    }

    /// Opens the checkpoint in `dir`: `model.safetensors`, or the shards that
    /// `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// `Io`; `Format`, `Limit`, `Unsupported`, naming file and tensor: headers that do not describe their
    /// file exactly, tensors that are listed twice, shards outside the folder.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut checkpoint = Self::empty();
        match super::read_text(dir, INDEX)? {
            None => checkpoint.add(dir, "model.safetensors")?,
            Some(index) => {
                let index: Index = parse(index.as_bytes(), INDEX)?;
                checkpoint.add_shards(dir, index.weight_map.0)?;
            }
        }
        Ok(checkpoint)
    }

    /// Whether it has tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Dimensions of a tensor, slowest first.
    pub fn shape(&self, name: &str) -> Option<&[u64]> {
        self.entries.get(name).map(|e| e.shape.as_slice())
    }

    /// Names in the order of the files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Type of a tensor: F32, F16 or BF16.
    pub fn dtype(&self, name: &str) -> Option<TensorType> {
        self.entries.get(name).map(|e| e.dtype)
    }

    /// All values of a tensor as f32.
    ///
    /// # Errors
    /// `Model`, when it is absent; `Io`; `Resource`, when there is no memory for it.
    pub fn values(&self, name: &str) -> Result<Vec<f32>> {
        let Some(entry) = self.entries.get(name) else {
            crate::bail!(Model, "tensor {name} is absent from the checkpoint");
        };
        let n = usize::try_from(entry.end - entry.begin).unwrap_or(usize::MAX);
        let mut bytes = crate::error::try_vec(n, 0u8, name)?;
        self.read(name, 0, &mut bytes)?;
        let size = usize::try_from(entry.dtype.block_bytes()).unwrap_or(4);
        let mut values = crate::error::try_vec(n / size, 0f32, name)?;
        let pairs = || bytes.as_chunks::<2>().0.iter().map(|&b| u16::from_le_bytes(b));
        match entry.dtype {
            TensorType::F16 => fill(&mut values, pairs().map(|b| half::f16::from_bits(b).to_f32())),
            TensorType::Bf16 => fill(&mut values, pairs().map(|b| half::bf16::from_bits(b).to_f32())),
            _ => {
                let words = bytes.as_chunks::<4>().0.iter();
                fill(&mut values, words.map(|&b| f32::from_le_bytes(b)));
            }
        }
        Ok(values)
    }

    /// Reads bytes of a tensor from `offset` on.
    ///
    /// # Errors
    /// `Model`, when it is absent; `Io`; `Internal`, for a range outside of it.
    pub fn read(&self, name: &str, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let Some(entry) = self.entries.get(name) else {
            crate::bail!(Model, "tensor {name} is absent from the checkpoint");
        };
        let end = offset.checked_add(buffer.len() as u64);
        let (Some((file_name, file)), true) = (
            self.files.get(entry.file),
            end.is_some_and(|end| end <= entry.end - entry.begin),
        ) else {
            crate::bail!(Internal, "a range outside of tensor {name} is asked for");
        };
        read_exact_at(file, entry.begin + offset, buffer)
            .map_err(|e| Error::from(e).context(format_args!("{file_name}, tensor {name}")))
    }

    fn add_shards(&mut self, dir: &Path, map: Vec<(String, String)>) -> Result<()> {
        let name = INDEX;
        let mut shards: Vec<&str> = Vec::new();
        for (_, shard) in &map {
            let shard = shard.as_str();
            if !shards.contains(&shard) {
                if shards.len() == MAX_SHARDS {
                    crate::bail!(Limit, "{name} names more than {MAX_SHARDS} files");
                }
                shards.push(shard);
            }
        }
        shards.sort_unstable();
        for shard in shards {
            // A plain file name: nothing outside the folder is ever opened.
            let mut parts = Path::new(shard).components();
            let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
            if !plain || shard.contains(['/', '\\']) {
                crate::bail!(
                    Format,
                    "{name} names `{shard}`, which is no file name inside the folder"
                );
            }
            self.add(dir, shard)?;
        }
        for (tensor, shard) in &map {
            let found = self.entries.get(tensor).and_then(|e| self.files.get(e.file));
            if found.map(|(name, _)| name) != Some(shard) {
                crate::bail!(
                    Format,
                    "{name} says that tensor {tensor} is in {shard}, where it is not"
                );
            }
        }
        Ok(())
    }

    fn add(&mut self, dir: &Path, name: &str) -> Result<()> {
        self.add_file(dir, name).map_err(|e| e.context(name))
    }

    fn add_file(&mut self, dir: &Path, name: &str) -> Result<()> {
        let (mut file, n_file) = open_regular(&dir.join(name))?;
        let (header, data_begin) = read_header(&mut file, n_file)?;
        let n_data = n_file - data_begin;
        let mut ranges = Vec::new();
        for (tensor, about) in header.0 {
            let entry = entry(&tensor, about, self.files.len(), data_begin, n_data)?;
            try_push(&mut ranges, (entry.begin, entry.end), "tensors")?;
            let room = self.entries.try_reserve(1);
            room.map_err(|_| crate::err!(Resource, "{NO_MEMORY}"))?;
            if self.entries.insert(tensor.clone(), entry).is_some() {
                crate::bail!(Format, "tensor {tensor} is listed twice");
            }
            try_push(&mut self.names, tensor, "tensors")?;
        }
        // The data is covered without holes or overlaps.
        ranges.sort_unstable();
        let mut at = data_begin;
        for (begin, end) in ranges {
            if begin != at {
                crate::bail!(
                    Format,
                    "data at byte {} is covered twice or not at all",
                    begin.min(at)
                );
            }
            at = end;
        }
        if at != n_file {
            crate::bail!(Format, "{} bytes at the end belong to no tensor", n_file - at);
        }
        self.files.push((name.to_owned(), file));
        Ok(())
    }
}

/// Opens a regular file without waiting; returns its size.
pub(super) fn open_regular(path: &Path) -> Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    }
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        crate::bail!(Io, "is no regular file");
    }
    Ok((file, metadata.len()))
}

fn read_header(file: &mut File, n_file: u64) -> Result<(Header<Described>, u64)> {
    if n_file < 8 {
        crate::bail!(
            Format,
            "the file has {n_file} bytes; a safetensors file begins with 8"
        );
    }
    let mut length = [0u8; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length > n_file - 8 {
        crate::bail!(
            Format,
            "the header declares {length} bytes, but the file has {n_file}"
        );
    }
    let mut bytes = crate::error::try_vec(length as usize, 0u8, "the header")?;
    file.read_exact(&mut bytes)?;
    Ok((parse(&bytes, "the header")?, 8 + length))
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| match e.to_string() {
        why if why.starts_with(NO_MEMORY) => crate::err!(Resource, "{NO_MEMORY}"),
        why => crate::err!(Format, "{what} is not valid: {why}"),
    })
}

fn fill(to: &mut [f32], from: impl Iterator<Item = f32>) {
    to.iter_mut().zip(from).for_each(|(to, x)| *to = x);
}

/// The file that says which tensor is in which file.
#[derive(Deserialize)]
struct Index {
    weight_map: Header<String>,
}

/// What a header says of a tensor. A header is small in the file and must stay so in memory: nothing of it is of
/// any length but the name.
#[derive(Deserialize)]
struct Described {
    dtype: Dtype,
    shape: Sizes,
    data_offsets: [u64; 2],
}

/// A type that is served, or the beginning of another's name.
enum Dtype {
    Served(TensorType),
    Other(String),
}

impl<'de> Deserialize<'de> for Dtype {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Dtype;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of a type")
            }

            fn visit_str<E>(self, name: &str) -> std::result::Result<Dtype, E> {
                Ok(match name {
                    "F32" => Dtype::Served(TensorType::F32),
                    "F16" => Dtype::Served(TensorType::F16),
                    "BF16" => Dtype::Served(TensorType::Bf16),
                    other => Dtype::Other(other.chars().take(32).collect()),
                })
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// Up to 4 sizes, slowest first.
#[derive(Default)]
struct Sizes {
    sizes: [u64; 4],
    n: usize,
}

impl Sizes {
    fn as_slice(&self) -> &[u64] {
        self.sizes.get(..self.n).unwrap_or(&self.sizes)
    }
}

impl<'de> Deserialize<'de> for Sizes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Few;
        impl<'de> Visitor<'de> for Few {
            type Value = Sizes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of up to 4 sizes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Sizes, A::Error> {
                let mut list = Sizes::default();
                while let Some(size) = seq.next_element()? {
                    let Some(place) = list.sizes.get_mut(list.n) else {
                        return Err(A::Error::custom("shape is not a list of up to 4 sizes"));
                    };
                    *place = size;
                    list.n += 1;
                }
                Ok(list)
            }
        }
        deserializer.deserialize_seq(Few)
    }
}

/// A JSON object by tensor, in its order.
struct Header<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Header<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Pairs<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pairs<T> {
            type Value = Header<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let named = |e: A::Error| A::Error::custom(format!("tensor {key}: {e}"));
                    let value = map.next_value().map_err(named)?;
                    try_push(&mut pairs, (key, value), "").map_err(|_| A::Error::custom(NO_MEMORY))?;
                }
                Ok(Header(pairs))
            }
        }
        deserializer.deserialize_map(Pairs(std::marker::PhantomData))
    }
}

fn entry(tensor: &str, about: Described, file: usize, data_begin: u64, n_data: u64) -> Result<Entry> {
    let bad = |what: &str| Error::new(ErrorKind::Format, format!("tensor {tensor}: {what}"));
    let dtype = match about.dtype {
        Dtype::Served(dtype) => dtype,
        Dtype::Other(name) => {
            return Err(bad(&format!("dtype is {name}; F32, F16 and BF16 are served")));
        }
    };
    let shape = about.shape;
    let [begin, end] = about.data_offsets;
    if begin > end || end > n_data {
        return Err(bad(&format!(
            "data_offsets {begin}..{end} are not inside {n_data} bytes of data"
        )));
    }
    let size = shape
        .as_slice()
        .iter()
        .try_fold(dtype.block_bytes(), |n, &d| n.checked_mul(d));
    if size != Some(end - begin) {
        return Err(bad(&format!(
            "shape {:?} does not have {} bytes",
            shape.as_slice(),
            end - begin
        )));
    }
    Ok(Entry {
        dtype,
        shape,
        file,
        begin: data_begin + begin,
        end: data_begin + end,
    })
}
