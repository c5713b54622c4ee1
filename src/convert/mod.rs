//! From a Hugging Face checkpoint of the LLaDA family to one GGUF file.
//!
//! Keys and tensor names are those of llama.cpp's converter, so that either program reads the other's
//! files; the whole `tokenizer.json` is kept beside them. Tensors are streamed: memory is bounded by
//! the largest. The output appears whole or not at all.
#![forbid(unsafe_code)]

mod config;
mod keys;
mod names;
mod rows;
mod safetensors;

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::Value;

use crate::error::Result;
use crate::gguf::{TensorSpec, TensorType, Writer};
use config::Config;
use names::Job;
use safetensors::Checkpoint;

/// The type of matrices in the output. Norms and biases are always F32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputType {
    /// Exact for every checkpoint.
    F32,
    /// Half the size; values beyond 65504 are refused.
    #[default]
    F16,
    /// Exact for BF16 checkpoints.
    Bf16,
}

/// How to convert.
#[derive(Clone, Debug, Default)]
pub struct ConvertOptions {
    /// Type of matrices.
    pub ty: OutputType,
    /// Replace an existing output.
    pub overwrite: bool,
    /// `general.name`; `None` is the folder's name.
    pub name: Option<String>,
}

/// How far a conversion is.
#[derive(Clone, Debug)]
pub struct ConvertProgress<'a> {
    /// The tensor at work.
    pub tensor: &'a str,
    /// Bytes written.
    pub done: u64,
    /// Bytes to write.
    pub total: u64,
}

/// What a conversion made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertReport {
    /// Tensors written.
    pub n_tensors: usize,
    /// Bytes of their data.
    pub n_bytes: u64,
}

/// Largest JSON file taken, in bytes.
const MAX_JSON: u64 = 64 << 20;

/// Converts the checkpoint in folder `dir` to `output`.
///
/// # Errors
/// Naming the file, key or tensor: `Io`; `Format`, for files that break their format; `Unsupported`,
/// for switches of the configuration that would change results; `Model`, for tensors that are missing,
/// left over or of a wrong shape; `Tokenizer`; `Numeric`, for weights that are not finite;
/// `InvalidArgument`, when the output exists; `Cancelled`, when `progress` breaks.
pub fn convert(
    dir: &Path,
    output: &Path,
    options: &ConvertOptions,
    progress: &mut dyn FnMut(ConvertProgress<'_>) -> ControlFlow<()>,
) -> Result<ConvertReport> {
    if !dir.is_dir() {
        crate::bail!(Io, "{} is no folder; give the checkpoint's folder", dir.display());
    }
    let config = read_json(dir, "config.json")?;
    let Some(config) = config else {
        crate::bail!(
            Io,
            "{} has no config.json; it is not a checkpoint's folder",
            dir.display()
        );
    };
    let config = Config::read(&config).map_err(|e| e.context("config.json"))?;
    let tokenizer_json = read_text(dir, "tokenizer.json")?;
    let Some(tokenizer_json) = tokenizer_json else {
        crate::bail!(Tokenizer, "{} has no tokenizer.json", dir.display());
    };
    let tokenizer_config = read_json(dir, "tokenizer_config.json")?.unwrap_or(Value::Null);
    let mut checkpoint = Checkpoint::open(dir)?;
    let jobs = names::jobs(&config, &checkpoint)?;
    let name = options.name.clone().unwrap_or_else(|| folder_name(dir));
    let metadata = keys::metadata(&config, options.ty, &name, &tokenizer_json, &tokenizer_config)?;
    let specs: Vec<TensorSpec> = jobs.iter().map(|job| job.spec(options.ty)).collect();
    let total = specs.iter().map(TensorSpec::n_bytes).sum::<Result<u64>>()?;
    let mut writer = Writer::create(output, &metadata, specs, options.overwrite)?;
    let mut done = 0;
    for job in &jobs {
        if progress(ConvertProgress {
            tensor: &job.name,
            done,
            total,
        })
        .is_break()
        {
            crate::bail!(Cancelled, "the conversion was cancelled");
        }
        let bytes = rows::read(&mut checkpoint, job, options.ty)?;
        writer.write_tensor(&job.name, &bytes)?;
        done += bytes.len() as u64;
    }
    writer.finish()?;
    let _ = progress(ConvertProgress {
        tensor: "",
        done,
        total,
    });
    Ok(ConvertReport {
        n_tensors: jobs.len(),
        n_bytes: total,
    })
}

impl OutputType {
    /// The container's type of matrices.
    pub(crate) fn tensor_type(self) -> TensorType {
        match self {
            Self::F32 => TensorType::F32,
            Self::F16 => TensorType::F16,
            Self::Bf16 => TensorType::Bf16,
        }
    }

    /// llama.cpp's number of the file's type.
    pub(crate) fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Bf16 => 32,
        }
    }
}

impl Job {
    fn spec(&self, ty: OutputType) -> TensorSpec {
        let ty = if self.vector {
            TensorType::F32
        } else {
            ty.tensor_type()
        };
        TensorSpec {
            name: self.name.clone(),
            dims: self.dims.clone(),
            ty,
        }
    }
}

fn folder_name(dir: &Path) -> String {
    let full = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    full.file_name()
        .map_or_else(|| "model".to_owned(), |n| n.to_string_lossy().into_owned())
}

fn read_text(dir: &Path, name: &str) -> Result<Option<String>> {
    let path = dir.join(name);
    if std::fs::symlink_metadata(&path).is_err() {
        return Ok(None);
    }
    let (file, n_bytes) = safetensors::open_regular(&path).map_err(|e| e.context(name))?;
    if n_bytes > MAX_JSON {
        crate::bail!(Limit, "{name} has {n_bytes} bytes; the limit is {MAX_JSON}");
    }
    let mut text = String::new();
    use std::io::Read;
    match file.take(MAX_JSON).read_to_string(&mut text) {
        Ok(_) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => crate::bail!(Format, "{name} is not UTF-8"),
        Err(e) => Err(crate::error::Error::from(e).context(name)),
    }
}

fn read_json(dir: &Path, name: &str) -> Result<Option<Value>> {
    let Some(text) = read_text(dir, name)? else {
        return Ok(None);
    };
    let parsed = serde_json::from_str(&text);
    parsed
        .map(Some)
        .map_err(|e| crate::err!(Format, "{name} is not JSON: {e}"))
}
