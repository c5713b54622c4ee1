//! Which tensor of a checkpoint becomes which tensor of the file.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::config::{Config, Layout};
use super::safetensors::Checkpoint;
use crate::error::Result;

/// One tensor to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// Name in the file.
    pub name: String,
    /// Name in the checkpoint.
    pub source: String,
    /// Dimensions in ggml order.
    pub dims: Vec<u64>,
    /// A norm or bias: stays F32.
    pub vector: bool,
    /// Heads whose rows change from half-split to adjacent pairs; 0 for none.
    pub permute_heads: u64,
}

/// Names inside a layer: file, LLaDA, Llama.
pub(super) const LAYER: &[(&str, &str, &str)] = &[
    ("attn_norm", "attn_norm", "input_layernorm"),
    ("attn_q", "q_proj", "self_attn.q_proj"),
    ("attn_k", "k_proj", "self_attn.k_proj"),
    ("attn_v", "v_proj", "self_attn.v_proj"),
    ("attn_output", "attn_out", "self_attn.o_proj"),
    ("ffn_norm", "ff_norm", "post_attention_layernorm"),
    ("ffn_gate", "ff_proj", "mlp.gate_proj"),
    ("ffn_up", "up_proj", "mlp.up_proj"),
    ("ffn_down", "ff_out", "mlp.down_proj"),
];

/// Names outside the layers, and the prefix of the layers.
pub(super) struct Outer {
    pub embd: &'static str,
    pub norm: &'static str,
    pub head: &'static str,
    pub layer: &'static str,
}

pub(super) fn outer_names(is_llama: bool) -> Outer {
    match is_llama {
        false => Outer {
            embd: "model.transformer.wte",
            norm: "model.transformer.ln_f",
            head: "model.transformer.ff_out",
            layer: "model.transformer.blocks",
        },
        true => Outer {
            embd: "model.embed_tokens",
            norm: "model.norm",
            head: "lm_head",
            layer: "model.layers",
        },
    }
}

/// All tensors to write, in llama.cpp's order, each checked against the checkpoint.
pub(super) fn jobs(c: &Config, checkpoint: &Checkpoint) -> Result<Vec<Job>> {
    let Outer {
        embd,
        norm,
        head,
        layer,
    } = outer_names(c.layout == Layout::Llama);
    let job = |name: &str, source: &str, dims: &[u64]| Job {
        name: name.to_owned(),
        source: source.to_owned(),
        dims: dims.to_vec(),
        vector: dims.len() == 1,
        permute_heads: 0,
    };
    let (d, v) = (c.n_embd, c.n_vocab);
    let mut jobs = vec![job("token_embd.weight", &format!("{embd}.weight"), &[d, v])];
    for i in 0..c.n_layer {
        for (to, llada, llama) in LAYER {
            let from = if c.layout == Layout::Llada { llada } else { llama };
            let (dims, heads) = layer_dims(c, to);
            let name = format!("blk.{i}.{to}.weight");
            let mut one = job(&name, &format!("{layer}.{i}.{from}.weight"), &dims);
            one.permute_heads = heads;
            jobs.push(one);
            let bias = format!("{layer}.{i}.{from}.bias");
            if dims.len() == 2 && checkpoint.contains(&bias) {
                let mut one = job(&format!("blk.{i}.{to}.bias"), &bias, &dims[1..]);
                one.permute_heads = heads;
                jobs.push(one);
            }
        }
    }
    jobs.push(job("output_norm.weight", &format!("{norm}.weight"), &[d]));
    let head = format!("{head}.weight");
    if !c.tied {
        jobs.push(job("output.weight", &head, &[d, v]));
    }
    check(c, checkpoint, &jobs, &head)?;
    Ok(jobs)
}

/// Dimensions of a layer's tensor, and the heads whose rows are permuted.
fn layer_dims(c: &Config, name: &str) -> (Vec<u64>, u64) {
    let (d, f) = (c.n_embd, c.n_ff);
    let (q, kv) = (c.n_rot * c.n_head, c.n_rot * c.n_head_kv);
    match name {
        "attn_q" => (vec![d, q], c.n_head),
        "attn_k" => (vec![d, kv], c.n_head_kv),
        "attn_v" => (vec![d, kv], 0),
        "attn_output" => (vec![q, d], 0),
        "ffn_gate" | "ffn_up" => (vec![d, f], 0),
        "ffn_down" => (vec![f, d], 0),
        _ => (vec![d], 0),
    }
}

fn check(c: &Config, checkpoint: &Checkpoint, jobs: &[Job], head: &str) -> Result<()> {
    let mut used: HashSet<&str> = HashSet::new();
    for job in jobs {
        let Some(shape) = checkpoint.shape(&job.source) else {
            crate::bail!(Model, "tensor {} is absent from the checkpoint", job.source);
        };
        let mut dims = shape.to_vec();
        dims.reverse();
        if dims != job.dims {
            let mut expected = job.dims.clone();
            expected.reverse();
            crate::bail!(
                Model,
                "tensor {} is {shape:?}; config.json makes it {expected:?}",
                job.source
            );
        }
        used.insert(&job.source);
    }
    // A tied checkpoint may repeat its head.
    if c.tied {
        used.insert(head);
    }
    let left = checkpoint
        .names()
        .find(|name| !used.contains(name) && !name.ends_with("rotary_emb.inv_freq"));
    if let Some(name) = left {
        crate::bail!(
            Model,
            "tensor {name} of the checkpoint is not part of this architecture"
        );
    }
    Ok(())
}
