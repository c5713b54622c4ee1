//! Back from a GGUF file to a Hugging Face checkpoint that the authors' code loads.
//!
//! The inverse of the conversion: names, the order of query and key rows, and the configurations that
//! were kept. What a file of another program lacks is made from its keys.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Value, json};

use super::names::{LAYER, outer_names};
use super::rows::file_row;
use super::safetensors_write::{Entry, SafetensorsWriter};
use super::staging::Staging;
use crate::arch::Sizes;
use crate::error::{Error, Result};
use crate::gguf::{Metadata, TensorInfo, TensorType};
use crate::quantize::Progress;
use crate::text::Tokenizer;
use crate::weights::{GgufFiles, Residence, first_not_finite};

/// How to export.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// Write into a folder that holds files, replacing those of the same names.
    pub overwrite: bool,
    /// Bytes of tensors in one safetensors file at most; 5 GB is what the hub's tools use.
    pub shard_bytes: u64,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            overwrite: false,
            shard_bytes: 5_000_000_000,
        }
    }
}

/// What an export made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportReport {
    /// Tensors written.
    pub n_tensors: usize,
    /// Bytes of their data.
    pub n_bytes: u64,
    /// Names of the files, in the order that they were put in place.
    pub files: Vec<String>,
}

/// Writes the model in `input` as a checkpoint to the folder `dir`: `config.json`, the tokenizer's files
/// and `model.safetensors`, in several parts where it is large.
///
/// A new folder appears whole or not at all. Into one that is there the files are written under other names
/// and renamed at the end; where that fails, it is as it was before.
///
/// # Errors
/// `Unsupported`, for quantized tensors, for tensors that a checkpoint has no place for, and for
/// families other than LLaDA's; `InvalidArgument`, when the folder holds files; `Numeric`, for weights
/// that are not finite; `Io`; `Cancelled`, when `progress` breaks.
pub fn export(
    input: &Path,
    dir: &Path,
    options: &ExportOptions,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<ExportReport> {
    let files = GgufFiles::open(input, Residence::Map)?;
    let named = |e: Error| e.context(input.display());
    let sizes = crate::arch::open(&files.gguf).map_err(named)?.sizes().clone();
    let tokenizer = crate::model::tokenizer(&files.gguf, sizes.n_vocab, None).map_err(named)?;
    let tensors = tensors(&files, &sizes).map_err(named)?;
    let texts = texts(&files.gguf.metadata, &sizes, &tensors, &tokenizer).map_err(named)?;
    let staging = Staging::new(dir, options.overwrite)?;
    let total = tensors.iter().map(|t| t.entry.n_bytes).sum();
    let mut done = 0;
    let mut tell = |tensor: &str, n: u64| {
        done += n;
        match progress(Progress { tensor, done, total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                crate::bail!(Cancelled, "the export was cancelled; nothing was written")
            }
        }
    };
    let shards = shards(&tensors, options.shard_bytes);
    let mut names = Vec::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => "model.safetensors".to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        let entries: Vec<&Entry> = shard.iter().map(|t| &t.entry).collect();
        let mut writer = SafetensorsWriter::create(&staging.path(&name), &entries)?;
        for t in *shard {
            t.copy(&files, &mut writer, &mut |n| tell(&t.entry.name, n))?;
        }
        writer.finish()?;
        names.push(name);
    }
    if shards.len() > 1 {
        let name = "model.safetensors.index.json".to_owned();
        let map = shards.iter().zip(&names).flat_map(|(shard, file)| {
            let pair = |t: &Tensor<'_>| (t.entry.name.clone(), json!(file));
            shard.iter().map(pair).collect::<Vec<_>>()
        });
        let map: serde_json::Map<String, Value> = map.collect();
        let index = json!({"metadata": {"total_size": total}, "weight_map": map});
        staging.write(&name, &pretty(&index))?;
        names.push(name);
    }
    for (name, text) in texts {
        staging.write(&name, &text)?;
        names.push(name);
    }
    staging.publish(&names)?;
    let _ = tell("", 0);
    Ok(ExportReport {
        n_tensors: tensors.len(),
        n_bytes: total,
        files: names,
    })
}

/// A tensor of the file and what becomes of it.
struct Tensor<'a> {
    entry: Entry,
    info: &'a TensorInfo,
    /// Heads whose rows change from adjacent pairs to half-split; 0 for none.
    permute_heads: u64,
}

/// Bytes read at a time.
const SLAB: usize = 4 << 20;

impl Tensor<'_> {
    fn copy(
        &self,
        files: &GgufFiles,
        writer: &mut SafetensorsWriter,
        tell: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        if self.entry.ty != self.info.ty || self.permute_heads > 0 {
            return self.rearrange(files, writer, tell);
        }
        let mut at = 0;
        while at < self.info.n_bytes {
            let n = usize::try_from(self.info.n_bytes - at).unwrap_or(SLAB).min(SLAB);
            let mut bytes = crate::error::try_vec(n, 0u8, "a tensor")?;
            files.read(self.info, at, &mut bytes)?;
            self.check(&bytes)?;
            writer.write(&bytes)?;
            at += n as u64;
            tell(n as u64)?;
        }
        Ok(())
    }

    /// A tensor whose rows or type change, whole in memory: queries and keys, norms, biases.
    fn rearrange(
        &self,
        files: &GgufFiles,
        writer: &mut SafetensorsWriter,
        tell: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let n = usize::try_from(self.info.n_bytes).unwrap_or(usize::MAX);
        let mut bytes = crate::error::try_vec(n, 0u8, "a tensor")?;
        files.read(self.info, 0, &mut bytes)?;
        self.check(&bytes)?;
        if self.permute_heads > 0 {
            let dims = self.info.dims();
            let n_rows = if dims.len() == 1 { dims[0] } else { dims[1] };
            let row = n / usize::try_from(n_rows.max(1)).unwrap_or(usize::MAX);
            let mut sorted = crate::error::try_vec(n, 0u8, "a tensor")?;
            for (i, to) in (0u64..).zip(sorted.chunks_exact_mut(row.max(1))) {
                let from = file_row(i, n_rows, self.permute_heads);
                let from = usize::try_from(from).unwrap_or(usize::MAX) * row;
                if let Some(source) = bytes.get(from..from + row) {
                    to.copy_from_slice(source);
                }
            }
            bytes = sorted;
        }
        let bytes = narrow(self.entry.ty, self.info.ty, bytes);
        writer.write(&bytes)?;
        tell(bytes.len() as u64)
    }

    fn check(&self, bytes: &[u8]) -> Result<()> {
        match first_not_finite(self.info.ty, bytes) {
            None => Ok(()),
            Some(_) => crate::bail!(Numeric, "tensor {} holds NaN or Inf", self.info.name),
        }
    }
}

/// F32 values that are exact in 16 bits, in 16 bits.
fn narrow(to: TensorType, from: TensorType, mut bytes: Vec<u8>) -> Vec<u8> {
    let half: fn(f32) -> [u8; 2] = match (from, to) {
        (TensorType::F32, TensorType::Bf16) => |x| half::bf16::from_f32(x).to_le_bytes(),
        (TensorType::F32, TensorType::F16) => |x| half::f16::from_f32(x).to_le_bytes(),
        _ => return bytes,
    };
    // In place: a half lies before the value that it is made of.
    let n = bytes.len() / 4;
    for i in 0..n {
        if let Some(&[a, b, c, d]) = bytes.get(4 * i..4 * i + 4) {
            let pair = half(f32::from_le_bytes([a, b, c, d]));
            bytes[2 * i..2 * i + 2].copy_from_slice(&pair);
        }
    }
    bytes.truncate(2 * n);
    bytes
}

/// All tensors, in the order of the file, each with its place in a checkpoint.
fn tensors<'a>(files: &'a GgufFiles, sizes: &Sizes) -> Result<Vec<Tensor<'a>>> {
    let gguf = &files.gguf;
    if gguf.metadata.str("general.architecture")? != Some("llada") {
        crate::bail!(Unsupported, "only files of the architecture llada are exported");
    }
    let is_llama = is_llama(&gguf.metadata)?;
    // A checkpoint of one type throughout stays one: norms and biases, which this format keeps in F32,
    // go back where nothing is lost.
    let matrices = gguf.tensors.iter().filter(|t| t.dims().len() > 1);
    let mut types: Vec<_> = matrices.map(|t| t.ty).collect();
    types.dedup();
    let uniform = match types.as_slice() {
        [ty @ (TensorType::F16 | TensorType::Bf16)] => Some(*ty),
        _ => None,
    };
    let mut all = Vec::new();
    for info in &gguf.tensors {
        if !matches!(info.ty, TensorType::F32 | TensorType::F16 | TensorType::Bf16) {
            crate::bail!(
                Unsupported,
                "tensor {} is {}; only F32, F16 and BF16 files are exported",
                info.name,
                info.ty.name()
            );
        }
        let Some((name, heads)) = checkpoint_name(&info.name, is_llama) else {
            crate::bail!(
                Unsupported,
                "tensor {} has no place in a checkpoint of this family",
                info.name
            );
        };
        let permute_heads = match heads {
            Heads::None => 0,
            Heads::Queries => sizes.n_head as u64,
            Heads::Keys => sizes.n_head_kv as u64,
        };
        let mut shape = info.dims().to_vec();
        shape.reverse();
        let ty = match uniform {
            Some(ty) if info.dims().len() == 1 && fits(files, info, ty)? => ty,
            _ => info.ty,
        };
        let n_bytes = ty.tensor_bytes(info.dims()).unwrap_or(info.n_bytes);
        all.push(Tensor {
            entry: Entry {
                name,
                shape,
                ty,
                n_bytes,
            },
            info,
            permute_heads,
        });
    }
    Ok(all)
}

/// Whether all values of an F32 vector are exact in `ty`.
fn fits(files: &GgufFiles, info: &TensorInfo, ty: TensorType) -> Result<bool> {
    if info.ty != TensorType::F32 {
        return Ok(info.ty == ty);
    }
    let n = usize::try_from(info.n_bytes).unwrap_or(usize::MAX);
    let mut bytes = crate::error::try_vec(n, 0u8, "a tensor")?;
    files.read(info, 0, &mut bytes)?;
    let exact = |b: &[u8]| {
        let x = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        match ty {
            TensorType::F16 => half::f16::from_f32(x).to_f32() == x,
            _ => half::bf16::from_f32(x).to_f32() == x,
        }
    };
    Ok(bytes.chunks_exact(4).all(exact))
}

enum Heads {
    None,
    Queries,
    Keys,
}

/// The checkpoint's name of a tensor, and whose heads its rows are.
fn checkpoint_name(name: &str, is_llama: bool) -> Option<(String, Heads)> {
    let outer = outer_names(is_llama);
    match name {
        "token_embd.weight" => return Some((format!("{}.weight", outer.embd), Heads::None)),
        "output_norm.weight" => return Some((format!("{}.weight", outer.norm), Heads::None)),
        "output.weight" => return Some((format!("{}.weight", outer.head), Heads::None)),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, suffix) = rest.split_once('.')?;
    let (_, llada, llama) = LAYER.iter().find(|(own, _, _)| *own == part)?;
    let heads = match part {
        "attn_q" => Heads::Queries,
        "attn_k" => Heads::Keys,
        _ => Heads::None,
    };
    let part = if is_llama { llama } else { llada };
    Some((format!("{}.{layer}.{part}.{suffix}", outer.layer), heads))
}

fn is_llama(m: &Metadata) -> Result<bool> {
    Ok(m.str("remask.convert.layout")? == Some("illada"))
}

/// Tensors in runs of at most `limit` bytes each.
fn shards<'a, 'b>(tensors: &'b [Tensor<'a>], limit: u64) -> Vec<&'b [Tensor<'a>]> {
    let mut shards = Vec::new();
    let (mut begin, mut size) = (0, 0u64);
    for (i, t) in tensors.iter().enumerate() {
        if i > begin && size + t.entry.n_bytes > limit {
            shards.push(&tensors[begin..i]);
            (begin, size) = (i, 0);
        }
        size += t.entry.n_bytes;
    }
    shards.push(&tensors[begin..]);
    shards
}

/// The files beside the weights: name and content.
fn texts<'a>(
    m: &'a Metadata,
    sizes: &Sizes,
    tensors: &[Tensor<'_>],
    tokenizer: &Tokenizer,
) -> Result<Vec<(String, Cow<'a, str>)>> {
    let mut texts = Vec::new();
    let json = m.str("tokenizer.huggingface.json")?;
    let json = match json {
        Some(json) => Cow::Borrowed(json),
        None => Cow::Owned(tokenizer.to_json()?),
    };
    texts.push(("tokenizer.json".to_owned(), json));
    let mut config = None;
    for name in super::KEPT {
        let Some(text) = m.str(&format!("remask.huggingface.{name}"))? else {
            continue;
        };
        if *name == "config.json" {
            let parsed = serde_json::from_str::<Value>(text);
            config = Some(parsed.map_err(|e| crate::err!(Format, "key remask.huggingface.{name}: {e}"))?);
        } else {
            texts.push(((*name).to_owned(), Cow::Borrowed(text)));
        }
    }
    let mut config = match config.filter(Value::is_object) {
        Some(config) => config,
        None => config_of(m, sizes, tensors)?,
    };
    let matrix = tensors.iter().find(|t| t.info.dims().len() > 1);
    let dtype = match matrix.map(|t| t.entry.ty) {
        Some(TensorType::F16) => "float16",
        Some(TensorType::Bf16) => "bfloat16",
        _ => "float32",
    };
    let key = if config.get("dtype").is_some() {
        "dtype"
    } else {
        "torch_dtype"
    };
    config[key] = json!(dtype);
    if !texts.iter().any(|(name, _)| name == "tokenizer_config.json") {
        texts.push((
            "tokenizer_config.json".to_owned(),
            pretty(&tokenizer_config(m, tokenizer)?).into(),
        ));
    }
    // Last: without it the folder is no checkpoint.
    texts.push(("config.json".to_owned(), pretty(&config).into()));
    Ok(texts)
}

/// A configuration from the file's keys, for files that other programs converted.
fn config_of(m: &Metadata, s: &Sizes, tensors: &[Tensor<'_>]) -> Result<Value> {
    let tied = !tensors.iter().any(|t| t.info.name == "output.weight");
    let bias = tensors.iter().any(|t| t.info.name.ends_with(".bias"));
    let float = |key: &str, default: f32| -> Result<f64> {
        let value = m.f32(&format!("llada.{key}"))?.unwrap_or(default);
        // The shortest decimal that is this f32, not its expansion in f64.
        Ok(value.to_string().parse().unwrap_or(f64::from(value)))
    };
    if m.str("llada.rope.scaling.type")?
        .is_some_and(|kind| kind != "none")
    {
        crate::bail!(
            Unsupported,
            "the authors' code knows no rope scaling; the file cannot be exported"
        );
    }
    if s.n_rot * s.n_head != s.n_embd {
        crate::bail!(
            Unsupported,
            "the authors' code has heads of width / heads; here they are {}",
            s.n_rot
        );
    }
    let id = |name: &str| m.u32(&format!("tokenizer.ggml.{name}_token_id"));
    let mut config = json!({
        "architectures": ["LLaDAModelLM"],
        "auto_map": {
            "AutoConfig": "configuration_llada.LLaDAConfig",
            "AutoModel": "modeling_llada.LLaDAModelLM",
            "AutoModelForCausalLM": "modeling_llada.LLaDAModelLM",
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
        "d_model": s.n_embd,
        "embedding_dropout": 0.0,
        "embedding_size": s.n_vocab,
        "eos_token_id": id("eos")?,
        "pad_token_id": id("padding")?,
        "mask_token_id": id("mask")?,
        "flash_attention": false,
        "include_bias": bias,
        "include_qkv_bias": bias,
        "init_device": "meta",
        "input_emb_norm": false,
        "layer_norm_type": "rms",
        "layer_norm_with_affine": true,
        "max_sequence_length": s.n_ctx,
        "mlp_hidden_size": s.n_ff,
        "multi_query_attention": null,
        "n_heads": s.n_head,
        "n_kv_heads": s.n_head_kv,
        "n_layers": s.n_layer,
        "residual_dropout": 0.0,
        "rms_norm_eps": float("attention.layer_norm_rms_epsilon", 1e-5)?,
        "rope": true,
        "rope_full_precision": true,
        "rope_theta": float("rope.freq_base", 10_000.0)?,
        "scale_logits": false,
        "use_cache": false,
        "vocab_size": s.n_vocab,
        "weight_tying": tied,
    });
    if s.shift_logits {
        config["shift_logits"] = json!(true);
    }
    Ok(config)
}

fn tokenizer_config(m: &Metadata, tokenizer: &Tokenizer) -> Result<Value> {
    let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id));
    let s = tokenizer.specials();
    Ok(json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": tokenizer.add_bos(),
        "bos_token": text(s.bos),
        "eos_token": text(s.eos),
        "pad_token": text(s.pad),
        "mask_token": text(s.mask),
        "clean_up_tokenization_spaces": false,
        "chat_template": m.str("tokenizer.chat_template")?,
    }))
}

fn pretty(value: &Value) -> String {
    // Serialising a `Value` cannot fail.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}
