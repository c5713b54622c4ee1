//! Checkpoints: a folder that is whole or not there, loads in the authors' code, and resumes the run.
//!
//! `step-00001000/` holds `config.json`, `generation_config.json`, `model.safetensors` (the average of
//! weights where one is kept) and the tokenizer's files, as the authors' layout has them; beside them
//! `trainer.safetensors` (weights and the optimiser's state) and `trainer.json` (where the run stands).

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::ErrorKind as ErrorKindIo;
use std::path::{Path, PathBuf};

use remask::convert::Checkpoint;
use remask::{Error, ErrorKind, Result};
use safetensors::tensor::{Dtype, View};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::data::{Position, SpecialIds};
use crate::files::{UNFINISHED, create_folder, write_atomically};
use crate::import::read_json;
use crate::optim::State;
use crate::shape::{Init, Parameter, Shape};

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// 1.
    pub version: u32,
    /// Updates done.
    pub step: u64,
    /// Tokens that were learned from.
    pub tokens: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// Where the data stands.
    pub position: Position,
    /// The best bound so far, and the update that had it.
    pub best: Option<(f64, u64)>,
    /// Evaluations since then.
    pub stale: u64,
    /// Updates between which the learning rate falls, where minutes end the run.
    #[serde(default)]
    pub fall: Option<(u64, u64)>,
    /// The newest bound.
    pub bound: Option<f64>,
    /// The configuration, as text.
    pub config: String,
    /// A number that follows from the tokenizer's file.
    pub tokenizer: String,
}

/// Files of the tokenizer that go along.
const TOKENIZER_FILES: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

/// A tensor to be written.
struct Floats<'a> {
    dims: Vec<usize>,
    values: &'a [f32],
}

impl View for Floats<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.dims
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect::<Vec<u8>>()
            .into()
    }

    fn data_len(&self) -> usize {
        self.values.len() * 4
    }
}

/// What a checkpoint is made of.
pub struct Snapshot<'a> {
    /// The network.
    pub shape: &'a Shape,
    /// The network's weights: of each parameter those to be used.
    pub weights: &'a [Vec<f32>],
    /// What is learned.
    pub parameters: &'a [Parameter],
    /// Its values and what the optimiser remembers.
    pub state: &'a [State],
    /// Where the run stands.
    pub progress: &'a Progress,
    /// The tokenizer's folder.
    pub tokenizer: &'a Path,
    /// Its special tokens.
    pub ids: SpecialIds,
    /// Whether a prediction is read one slot before its own.
    pub shift: bool,
}

/// Name of the checkpoint of `step`.
pub fn name(step: u64) -> String {
    format!("step-{step:08}")
}

/// Writes a checkpoint into `folder`. Nothing with its name is there before all of it is.
///
/// # Errors
/// `Io`, naming the file.
pub fn save(folder: &Path, snapshot: &Snapshot<'_>) -> Result<PathBuf> {
    create_folder(folder)?;
    let target = folder.join(name(snapshot.progress.step));
    let named = |e: std::io::Error| Error::from(e).context(target.display());
    let scratch = tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(folder)
        .map_err(named)?;
    write_into(scratch.path(), snapshot)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).map_err(named)?;
    }
    sync_folder(scratch.path()).map_err(named)?;
    // One of the same step goes when the new one is there. Until then it has the name that `restore` knows.
    let old = folder.join(format!("{REPLACED}{}", snapshot.progress.step));
    let replaces = target.exists();
    if replaces {
        std::fs::rename(&target, &old).map_err(named)?;
    }
    if let Err(error) = std::fs::rename(scratch.path(), &target) {
        if replaces {
            let _ = std::fs::rename(&old, &target);
        }
        return Err(named(error));
    }
    // It has moved; there is nothing to clean.
    let _ = scratch.keep();
    sync_folder(folder).map_err(named)?;
    if replaces {
        let _ = std::fs::remove_dir_all(&old);
    }
    Ok(target)
}

/// A checkpoint that is being replaced by one of the same step, with the step behind.
const REPLACED: &str = ".replaced-";

/// Gives a checkpoint its name back where its replacement never came, and removes what a kill left half done.
///
/// # Errors
/// `Io`.
pub fn restore(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let step = entry
            .file_name()
            .to_str()
            .and_then(|n| n.strip_prefix(REPLACED)?.parse().ok());
        let Some(step) = step else { continue };
        let target = folder.join(name(step));
        let done = match target.exists() {
            true => std::fs::remove_dir_all(entry.path()),
            false => std::fs::rename(entry.path(), &target),
        };
        done.map_err(|e| Error::from(e).context(target.display()))?;
    }
    sweep(folder);
    // Of the metrics, which a run that goes on cuts to its step.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// The names in a folder reach the disk, where the system can do that.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    match std::fs::File::open(folder).and_then(|handle| handle.sync_all()) {
        // Not every system syncs folders.
        Err(e)
            if matches!(
                e.kind(),
                ErrorKindIo::InvalidInput | ErrorKindIo::PermissionDenied | ErrorKindIo::Unsupported
            ) =>
        {
            Ok(())
        }
        done => done,
    }
}

fn write_into(folder: &Path, s: &Snapshot<'_>) -> Result<()> {
    let network = s.shape.parameters();
    let weights = network
        .iter()
        .zip(s.weights)
        .map(|(p, values)| (p.name.clone(), floats(p, values)));
    write_tensors(&folder.join("model.safetensors"), weights.collect(), "pt")?;
    let all = s.parameters.iter().zip(s.state).flat_map(|(p, s)| {
        let parts = [
            ("values", &s.values),
            ("first", &s.first),
            ("second", &s.second),
            ("average", &s.average),
        ];
        let kept = parts.into_iter().filter(|(_, values)| !values.is_empty());
        kept.map(|(what, values)| (format!("{what}.{}", p.name), floats(p, values)))
    });
    write_tensors(&folder.join("trainer.safetensors"), all.collect(), "remask-train")?;
    let text = |name: &str, value: &serde_json::Value| {
        write_atomically(&folder.join(name), |file| {
            std::io::Write::write_all(file, format!("{value:#}\n").as_bytes())
        })
    };
    text("config.json", &config_json(s))?;
    text(
        "generation_config.json",
        &json!({"mask_token_id": s.ids.mask, "eos_token_id": s.ids.eos, "pad_token_id": s.ids.eos}),
    )?;
    text(
        "trainer.json",
        &serde_json::to_value(s.progress).unwrap_or_default(),
    )?;
    for name in TOKENIZER_FILES {
        let from = s.tokenizer.join(name);
        if from.exists() {
            std::fs::copy(&from, folder.join(name)).map_err(|e| Error::from(e).context(from.display()))?;
        }
    }
    Ok(())
}

fn floats<'a>(p: &Parameter, values: &'a [f32]) -> Floats<'a> {
    Floats {
        dims: p.dims.clone(),
        values,
    }
}

fn write_tensors(path: &Path, tensors: Vec<(String, Floats<'_>)>, format: &str) -> Result<()> {
    let about = HashMap::from([("format".to_owned(), format.to_owned())]);
    safetensors::serialize_to_file(tensors, Some(about), path).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(e) => Error::from(e).context(path.display()),
        e => Error::new(ErrorKind::Internal, format!("{}: {e}", path.display())),
    })?;
    let sync = std::fs::File::open(path).and_then(|f| f.sync_all());
    sync.map_err(|e| Error::from(e).context(path.display()))
}

/// `config.json`, with what the authors' `configuration_llada.py` reads.
fn config_json(snapshot: &Snapshot<'_>) -> serde_json::Value {
    let (s, ids) = (snapshot.shape, snapshot.ids);
    let mut config = json!({
        "architectures": ["LLaDAModelLM"],
        "auto_map": {
            "AutoConfig": "configuration_llada.LLaDAConfig",
            "AutoModelForCausalLM": "modeling_llada.LLaDAModelLM",
            "AutoModel": "modeling_llada.LLaDAModelLM"
        },
        "model_type": "llada",
        "activation_type": "silu",
        "alibi": false,
        "attention_dropout": 0.0,
        "attention_layer_norm": false,
        "attention_layer_norm_with_affine": true,
        "bias_for_layer_norm": false,
        "block_group_size": 1,
        "block_type": "llama",
        "d_model": s.d_model,
        "embedding_dropout": 0.0,
        "embedding_size": s.vocab_size,
        "eos_token_id": ids.eos,
        "flash_attention": false,
        "include_bias": false,
        "include_qkv_bias": false,
        "init_cutoff_factor": null,
        "init_device": "meta",
        "init_fn": match s.init { Init::Mitchell => "mitchell", Init::Normal => "normal" },
        "init_std": s.init_std,
        "input_emb_norm": false,
        "layer_norm_type": "rms",
        "layer_norm_with_affine": true,
        "mask_token_id": ids.mask,
        "max_sequence_length": s.max_sequence_length,
        "mlp_hidden_size": s.mlp_hidden_size,
        "mlp_ratio": 4,
        "multi_query_attention": null,
        "n_heads": s.n_heads,
        "n_kv_heads": s.kv_heads(),
        "n_layers": s.n_layers,
        "pad_token_id": ids.eos,
        "residual_dropout": 0.0,
        "rms_norm_eps": s.rms_norm_eps,
        "rope": true,
        "rope_full_precision": true,
        "rope_theta": s.rope_theta,
        "scale_logits": false,
        "torch_dtype": "float32",
        "use_cache": false,
        "vocab_size": s.vocab_size,
        "weight_tying": s.weight_tying
    });
    if snapshot.shift {
        // Not a key of the authors': their code reads every prediction at its own slot.
        config["shift_logits"] = true.into();
    }
    config
}

/// Checkpoints in a run's folder, the newest first.
pub fn list(folder: &Path) -> Vec<(u64, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let step = |path: &Path| -> Option<u64> {
        let name = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
        path.join("trainer.json").exists().then_some(name)
    };
    let mut all: Vec<_> = entries
        .filter_map(|e| Some((step(&e.path())?, e.path())))
        .collect();
    all.sort_unstable_by_key(|(step, _)| std::cmp::Reverse(*step));
    all
}

/// Removes checkpoints but the newest `keep` and the best, and what broken writes left.
pub fn prune(folder: &Path, keep: usize, best: Option<u64>) {
    for (i, (step, path)) in list(folder).into_iter().enumerate() {
        if i >= keep.max(1) && Some(step) != best {
            // The name goes first: what is half removed must not look like a checkpoint.
            let gone = folder.join(format!(".removed-{step}"));
            if std::fs::rename(&path, &gone).is_ok() {
                let _ = std::fs::remove_dir_all(&gone);
            }
        }
    }
    sweep(folder);
}

/// Removes what broken writes and removals left.
fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(".partial-") || name.starts_with(".removed-") {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A checkpoint: the folder or GGUF file given, or the newest of a run.
///
/// # Errors
/// `Io`, when there is none.
pub fn find(path: &Path) -> Result<PathBuf> {
    if path.join("config.json").exists() || (crate::import::is_gguf(path) && path.is_file()) {
        return Ok(path.to_owned());
    }
    let newest = list(path).into_iter().next().map(|(_, path)| path);
    newest.ok_or_else(|| {
        Error::new(
            ErrorKind::Io,
            format!(
                "{}: holds no checkpoint (a config.json, or folders step-*)",
                path.display()
            ),
        )
    })
}

/// Where the run of a checkpoint stands.
///
/// # Errors
/// `Io`, `Format`, naming the file.
pub fn load_progress(folder: &Path) -> Result<Progress> {
    let path = folder.join("trainer.json");
    serde_json::from_value(read_json(&path)?)
        .map_err(|e| Error::new(ErrorKind::Format, format!("{}: {e}", path.display())))
}

/// The values of `parameters` in a checkpoint and what the optimiser remembers of them.
///
/// # Errors
/// `Io`, `Format`, `Model`, naming the file.
pub fn load_state(folder: &Path, parameters: &[Parameter]) -> Result<Vec<State>> {
    let path = folder.join("trainer.safetensors");
    let named = |e: Error| e.context(folder.display());
    let file = Checkpoint::open_file(folder, "trainer.safetensors").map_err(named)?;
    let mut states = Vec::new();
    for p in parameters {
        let take = |what: &str| -> Result<Vec<f32>> {
            let name = format!("{what}.{}", p.name);
            let Some(dims) = file.shape(&name) else {
                return Ok(Vec::new());
            };
            if !dims.iter().map(|&d| d as usize).eq(p.dims.iter().copied()) {
                let message = format!("{}: {name} is {dims:?}, not {:?}", path.display(), p.dims);
                return Err(Error::new(ErrorKind::Model, message));
            }
            file.values(&name).map_err(named)
        };
        let state = State {
            values: take("values")?,
            first: take("first")?,
            second: take("second")?,
            average: take("average")?,
        };
        if state.values.is_empty() {
            let message = format!("{}: values.{} is absent", path.display(), p.name);
            return Err(Error::new(ErrorKind::Model, message));
        }
        states.push(state);
    }
    Ok(states)
}
