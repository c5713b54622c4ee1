//! Models of any shape with made-up weights: to measure what a shape costs where no such model is at
//! hand. What they answer means nothing.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::ControlFlow;
use std::path::Path;

use crate::error::Result;
use crate::ggml::{DType, pack};
use crate::gguf::{Array, Metadata, StringArray, TensorSpec, TensorType, Writer};
use crate::quantize::{Mix, Policy, Progress, plan};
use crate::text::TokenKind;

/// Sizes of a LLaDA network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Layers.
    pub n_layer: u32,
    /// Width of the states.
    pub n_embd: u32,
    /// Width inside the feed-forward network.
    pub n_ff: u32,
    /// Query heads.
    pub n_head: u32,
    /// Key and value heads.
    pub n_head_kv: u32,
    /// Tokens of the vocabulary, the last of them the mask token.
    pub n_vocab: u32,
    /// Longest canvas.
    pub n_ctx: u32,
    /// Whether the embedding table is the head too.
    pub tied: bool,
}

/// Names of shapes: 8b is LLaDA-8B's (`GSAI-ML/LLaDA-8B-Instruct`, config.json), 125m and 1b are of its
/// kind, 6m is that of the demonstration models.
const SHAPES: &[(&str, [u32; 7], bool)] = &[
    ("6m", [6, 256, 704, 4, 4, 4096, 512], true),
    ("125m", [12, 768, 2048, 12, 12, 26_112, 2048], false),
    ("1b", [16, 2048, 5632, 32, 32, 51_200, 4096], false),
    ("8b", [32, 4096, 12_288, 32, 32, 126_464, 4096], false),
];

/// Keys of a shape in words, in the order of the table.
const KEYS: [&str; 7] = ["layers", "width", "ff", "heads", "kv", "vocab", "context"];

impl Shape {
    /// A shape by name (`6m`, `125m`, `1b`, `8b`), in words (`layers=12,width=768,ff=2048,heads=12,
    /// kv=12,vocab=26112,context=2048,tied`), or both: `8b,layers=4`.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut sizes = SHAPES[1].1;
        let mut tied = false;
        for (i, word) in text.split(',').map(str::trim).enumerate() {
            if let Some((_, named, with)) = SHAPES.iter().find(|s| s.0.eq_ignore_ascii_case(word)) {
                if i > 0 {
                    crate::bail!(InvalidArgument, "shape `{text}`: the name comes first");
                }
                (sizes, tied) = (*named, *with);
            } else if word == "tied" {
                tied = true;
            } else {
                let (key, value) = word.split_once('=').unwrap_or((word, ""));
                let at = KEYS.iter().position(|k| *k == key.trim());
                let value = value.trim().parse::<u32>().ok().filter(|n| *n > 0);
                let (Some(at), Some(value)) = (at, value) else {
                    crate::bail!(
                        InvalidArgument,
                        "shape `{text}`: `{word}` is neither one of 6m, 125m, 1b, 8b, nor `tied`, nor a size \
                         such as layers=12 (others: {})",
                        KEYS[1..].join(", ")
                    );
                };
                sizes[at] = value;
            }
        }
        let [n_layer, n_embd, n_ff, n_head, n_head_kv, n_vocab, n_ctx] = sizes;
        let shape = Self {
            n_layer,
            n_embd,
            n_ff,
            n_head,
            n_head_kv,
            n_vocab,
            n_ctx,
            tied,
        };
        shape.check(text)?;
        Ok(shape)
    }

    /// The loader checks all; here stands what would make the file impossible to write.
    fn check(&self, text: &str) -> Result<()> {
        let whole_heads = self.n_embd.is_multiple_of(self.n_head)
            && (self.n_embd / self.n_head).is_multiple_of(2)
            && self.n_head.is_multiple_of(self.n_head_kv);
        if !whole_heads {
            crate::bail!(
                InvalidArgument,
                "shape `{text}`: width must be an even multiple of heads, and heads a multiple of kv"
            );
        }
        for (name, n, limit) in [
            ("layers", self.n_layer, 1024),
            ("width", self.n_embd, 1 << 16),
            ("ff", self.n_ff, 1 << 18),
            ("vocab", self.n_vocab, 1 << 20),
            ("context", self.n_ctx, 1 << 20),
        ] {
            if n > limit || (name == "vocab" && n < 2) {
                crate::bail!(
                    InvalidArgument,
                    "shape `{text}`: {name} is {n}; the limit is {limit}"
                );
            }
        }
        Ok(())
    }

    fn tensors(&self) -> Vec<TensorSpec> {
        let mut all = Vec::new();
        let mut add = |name: String, dims: &[u32]| {
            all.push(TensorSpec {
                name,
                dims: dims.iter().map(|&d| u64::from(d)).collect(),
                ty: TensorType::F32,
            });
        };
        let d = self.n_embd;
        let kv = d / self.n_head * self.n_head_kv;
        add("token_embd.weight".into(), &[d, self.n_vocab]);
        for i in 0..self.n_layer {
            add(format!("blk.{i}.attn_norm.weight"), &[d]);
            add(format!("blk.{i}.attn_q.weight"), &[d, d]);
            add(format!("blk.{i}.attn_k.weight"), &[d, kv]);
            add(format!("blk.{i}.attn_v.weight"), &[d, kv]);
            add(format!("blk.{i}.attn_output.weight"), &[d, d]);
            add(format!("blk.{i}.ffn_norm.weight"), &[d]);
            add(format!("blk.{i}.ffn_gate.weight"), &[d, self.n_ff]);
            add(format!("blk.{i}.ffn_up.weight"), &[d, self.n_ff]);
            add(format!("blk.{i}.ffn_down.weight"), &[self.n_ff, d]);
        }
        add("output_norm.weight".into(), &[d]);
        if !self.tied {
            add("output.weight".into(), &[d, self.n_vocab]);
        }
        all
    }

    /// Keys of the network and a vocabulary of words that stand for nothing.
    fn metadata(&self) -> Metadata {
        let mut m = Metadata::new();
        m.insert("general.architecture", "llada");
        m.insert("general.name", "synthetic");
        for (key, n) in [
            ("context_length", self.n_ctx),
            ("embedding_length", self.n_embd),
            ("block_count", self.n_layer),
            ("feed_forward_length", self.n_ff),
            ("attention.head_count", self.n_head),
            ("attention.head_count_kv", self.n_head_kv),
            ("rope.dimension_count", self.n_embd / self.n_head),
            ("vocab_size", self.n_vocab),
        ] {
            m.insert(format!("llada.{key}"), n);
        }
        m.insert("llada.attention.layer_norm_rms_epsilon", 1e-5f32);
        m.insert("llada.attention.causal", false);
        m.insert("llada.rope.freq_base", 500_000f32);
        m.insert("diffusion.shift_logits", false);
        let mask = self.n_vocab - 1;
        let tokens: StringArray = (0..mask)
            .map(|i| format!("w{i}"))
            .chain(["<|mdm_mask|>".to_owned()])
            .collect();
        let kind = |i| {
            if i == mask {
                TokenKind::Control
            } else {
                TokenKind::Normal
            }
        };
        m.insert("tokenizer.ggml.model", "gpt2");
        m.insert("tokenizer.ggml.pre", "default");
        m.insert("tokenizer.ggml.tokens", tokens);
        let kinds = (0..self.n_vocab).map(|i| kind(i).id()).collect();
        m.insert("tokenizer.ggml.token_type", Array::I32(kinds));
        m.insert("tokenizer.ggml.merges", StringArray::new());
        m.insert("tokenizer.ggml.mask_token_id", mask);
        m
    }

    /// Writes such a model as `mix`: the same bytes every time. Memory stays at a few megabytes; the file
    /// has the size of a real one and appears whole or not at all.
    ///
    /// Rows of a matrix repeat after 251, which no product can make use of.
    ///
    /// # Errors
    /// `InvalidArgument`, when the output exists and `overwrite` is false; `Io`; `Cancelled`, when
    /// `progress` breaks.
    pub fn write(
        &self,
        output: &Path,
        mix: Mix,
        overwrite: bool,
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut metadata = self.metadata();
        let policy = Policy {
            mix,
            ..Policy::default()
        };
        metadata.insert("general.file_type", mix.file_type());
        let plan = plan(&metadata, &self.tensors(), &policy)?;
        let specs: Vec<TensorSpec> = plan.tensors.into_iter().map(|t| t.spec).collect();
        let mut total = 0;
        for spec in &specs {
            total += spec.n_bytes()?;
        }
        let mut writer = Writer::create(output, &metadata, specs.clone(), overwrite)?;
        let mut slabs: HashMap<(TensorType, u64), Vec<u8>> = HashMap::new();
        let mut done = 0;
        for (i, spec) in specs.iter().enumerate() {
            let n_bytes = spec.n_bytes()?;
            let n_in = spec.dims.first().copied().unwrap_or(1);
            let n_rows = spec.dims.get(1).copied().unwrap_or(0);
            if n_rows == 0 {
                let ones: Vec<u8> = (0..n_in).flat_map(|_| 1f32.to_le_bytes()).collect();
                writer.write_chunk(&ones)?;
            } else {
                let slab: &[u8] = match slabs.entry((spec.ty, n_in)) {
                    Entry::Occupied(slab) => slab.into_mut(),
                    Entry::Vacant(place) => place.insert(slab(spec.ty, n_in)?),
                };
                // Tensors begin at rows of their own, so that layers differ.
                let row = slab.len() / SLAB;
                let mut at = i * 37 % SLAB * row;
                let mut left = usize::try_from(n_bytes).unwrap_or(usize::MAX);
                while left > 0 {
                    let n = left.min(slab.len() - at);
                    writer.write_chunk(&slab[at..at + n])?;
                    left -= n;
                    at = 0;
                }
            }
            done += n_bytes;
            let now = Progress {
                tensor: &spec.name,
                done,
                total,
            };
            if progress(now).is_break() {
                crate::bail!(Cancelled, "the work was cancelled; nothing was written");
            }
        }
        writer.finish()
    }
}

/// Rows that are made and repeated: prime, so that they meet no other period.
const SLAB: usize = 251;

/// Rows of `n_in` values of deviation `1 / sqrt(n_in)`, packed.
fn slab(ty: TensorType, n_in: u64) -> Result<Vec<u8>> {
    let n = usize::try_from(n_in).unwrap_or(usize::MAX);
    let scale = (12.0 / n_in as f32).sqrt();
    let values = (0..SLAB * n).map(|i| (hash(i as u64) as f32 / u32::MAX as f32 - 0.5) * scale);
    let values: Vec<f32> = values.collect();
    if ty == TensorType::F32 {
        return Ok(values.iter().flat_map(|x| x.to_le_bytes()).collect());
    }
    let (Some(dtype), Some(n_bytes)) = (DType::packable(ty.id()), ty.row_bytes(n_in)) else {
        crate::bail!(
            InvalidArgument,
            "rows of {n_in} cannot be packed as {}",
            ty.name()
        );
    };
    let mut packed = vec![0; n_bytes as usize * SLAB];
    pack(dtype, n, &values, None, &mut packed)?;
    Ok(packed)
}

/// The upper half of splitmix64.
fn hash(i: u64) -> u32 {
    let mut z = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LoadOptions, Model, Session, SessionOptions};

    #[test]
    fn shapes_are_named_spelled_and_refused() {
        let named = Shape::parse("8b").unwrap();
        assert_eq!((named.n_layer, named.n_vocab, named.tied), (32, 126_464, false));
        let cut = Shape::parse("8b,layers=4,tied").unwrap();
        assert_eq!(
            cut,
            Shape {
                n_layer: 4,
                tied: true,
                ..named
            }
        );
        for (bad, named) in [
            ("9b", "9b"),
            ("layers=0", "layers=0"),
            ("layers=12,8b", "first"),
            ("width=10,heads=3", "heads"),
            ("vocab=1", "vocab"),
            ("layers=4294967295", "limit"),
        ] {
            let error = Shape::parse(bad).unwrap_err();
            assert!(error.message().contains(named), "{bad}: {error}");
        }
    }

    #[test]
    fn a_model_of_every_mix_is_written_the_same_twice_loads_and_computes() {
        let folder = std::env::temp_dir().join(format!("remask-synthetic-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let shape = Shape::parse("layers=2,width=256,ff=512,heads=4,kv=2,vocab=300,context=64").unwrap();
        for mix in Mix::all() {
            let paths = ["a.gguf", "b.gguf"].map(|name| folder.join(name));
            for path in &paths {
                shape
                    .write(path, mix, true, &mut |_| ControlFlow::Continue(()))
                    .unwrap();
            }
            assert_eq!(
                std::fs::read(&paths[0]).unwrap(),
                std::fs::read(&paths[1]).unwrap()
            );
            let model = Model::load(&paths[0], &LoadOptions::default()).unwrap();
            let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
            let mut logits = Vec::new();
            session.logits(&[1, 2, 299, 299], &[2, 3], &mut logits).unwrap();
            let spread = logits.iter().fold(0f32, |m, x| m.max(x.abs()));
            assert!(spread > 0.1 && spread < 100.0, "{}: {spread}", mix.name());
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
