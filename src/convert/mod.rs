//! From a Hugging Face checkpoint of the LLaDA family to one GGUF file.
//!
//! Keys and tensor names are those of llama.cpp's converter, so that either program reads the other's
//! files; the whole `tokenizer.json` and the configurations are kept beside them. Tensors go through in
//! slabs, straight to the type that is asked for. The output appears whole or not at all.
#![forbid(unsafe_code)]

mod config;
mod export;
mod keys;
mod names;
mod rows;
mod safetensors;
mod safetensors_write;
mod staging;

pub use export::{ExportOptions, ExportReport, export};
pub use safetensors::Checkpoint;

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::Value;

use crate::error::Result;
use crate::gguf::{Metadata, TensorSpec, TensorType};
use crate::quantize::{self, Plan, Policy, Progress, Rows};
use config::Config;
use rows::CheckpointRows;

/// How to convert.
#[derive(Clone, Debug, Default)]
pub struct ConvertOptions {
    /// Which types tensors get; F16 by default. Norms and biases are always F32.
    pub policy: Policy,
    /// Threads; 0 is one per physical core.
    pub n_threads: usize,
    /// Replace an existing output.
    pub overwrite: bool,
    /// `general.name`; `None` is the folder's name.
    pub name: Option<String>,
}

/// Largest JSON file taken, in bytes.
const MAX_JSON: u64 = 64 << 20;

/// What would become of the checkpoint in folder `dir`, without doing it.
///
/// # Errors
/// As [`convert`], as far as headers show it.
pub fn plan_folder(dir: &Path, options: &ConvertOptions) -> Result<Plan> {
    Source::open(dir, options).map(|source| source.plan)
}

/// Converts the checkpoint in folder `dir` to `output`.
///
/// # Errors
/// Naming the file, key or tensor: `Io`; `Format`, for files that break their format; `Unsupported`,
/// for switches of the configuration that would change results; `Model`, for tensors that are missing,
/// left over or of a wrong shape; `Tokenizer`; `Numeric`, for weights that are not finite or do not fit
/// their type; `InvalidArgument`, when the output exists or the policy does not fit; `Cancelled`, when
/// `progress` breaks.
pub fn convert(
    dir: &Path,
    output: &Path,
    options: &ConvertOptions,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Plan> {
    let source = Source::open(dir, options)?;
    let rows: Vec<_> = source.jobs.iter().map(|job| source.rows(job)).collect();
    let rows: Vec<&dyn Rows> = rows.iter().map(|r| r as &dyn Rows).collect();
    let job = quantize::Job {
        policy: &options.policy,
        n_threads: options.n_threads,
        overwrite: options.overwrite,
    };
    job.write(output, &source.metadata, &source.plan, &rows, progress)?;
    Ok(source.plan)
}

/// A checkpoint, opened and understood.
struct Source {
    checkpoint: Checkpoint,
    jobs: Vec<names::Job>,
    metadata: Metadata,
    plan: Plan,
}

impl Source {
    fn open(dir: &Path, options: &ConvertOptions) -> Result<Self> {
        if !dir.is_dir() {
            crate::bail!(Io, "{} is no folder; give the checkpoint's folder", dir.display());
        }
        let texts = Texts::read(dir)?;
        let config =
            Config::read(&texts.config, &texts.generation_config).map_err(|e| e.context("config.json"))?;
        let checkpoint = Checkpoint::open(dir)?;
        let jobs = names::jobs(&config, &checkpoint)?;
        let name = options.name.clone().unwrap_or_else(|| folder_name(dir));
        let mut metadata = keys::metadata(&config, &name, &texts)?;
        quantize::mark(&mut metadata, &options.policy);
        let specs = jobs.iter().map(|job| spec(&checkpoint, job));
        let plan = quantize::plan(&metadata, &specs.collect::<Vec<_>>(), &options.policy)?;
        Ok(Self {
            checkpoint,
            jobs,
            metadata,
            plan,
        })
    }

    fn rows<'a>(&'a self, job: &'a names::Job) -> CheckpointRows<'a> {
        CheckpointRows {
            checkpoint: &self.checkpoint,
            job,
            ty: self.checkpoint.dtype(&job.source).unwrap_or(TensorType::F32),
        }
    }
}

/// The tensor before the policy has its say: matrices as they come, vectors F32.
fn spec(checkpoint: &Checkpoint, job: &names::Job) -> TensorSpec {
    let ty = match checkpoint.dtype(&job.source) {
        Some(ty) if !job.vector => ty,
        _ => TensorType::F32,
    };
    TensorSpec {
        name: job.name.clone(),
        dims: job.dims.clone(),
        ty,
    }
}

/// The files of a checkpoint that are not weights.
struct Texts {
    config: Value,
    generation_config: Value,
    tokenizer: String,
    tokenizer_config: Value,
    /// A template in a file of its own, as newer checkpoints have it.
    chat_template: Option<String>,
    /// All of them as they are, by name.
    kept: Vec<(&'static str, String)>,
}

/// Files that are kept whole in the output, under `remask.huggingface.` and their name.
const KEPT: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

impl Texts {
    fn read(dir: &Path) -> Result<Self> {
        let Some(config) = read_json(dir, "config.json")? else {
            crate::bail!(
                Io,
                "{} has no config.json; it is not a checkpoint's folder",
                dir.display()
            );
        };
        let Some(tokenizer) = read_text(dir, "tokenizer.json")? else {
            crate::bail!(Tokenizer, "{} has no tokenizer.json", dir.display());
        };
        let mut kept = Vec::new();
        for name in KEPT {
            if let Some(text) = read_text(dir, name)? {
                kept.push((*name, text));
            }
        }
        Ok(Self {
            config,
            generation_config: read_json(dir, "generation_config.json")?.unwrap_or(Value::Null),
            tokenizer,
            tokenizer_config: read_json(dir, "tokenizer_config.json")?.unwrap_or(Value::Null),
            chat_template: read_text(dir, "chat_template.jinja")?,
            kept,
        })
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
    crate::text::check_values(&text, name)?;
    let parsed = serde_json::from_str(&text);
    parsed
        .map(Some)
        .map_err(|e| crate::err!(Format, "{name} is not JSON: {e}"))
}
