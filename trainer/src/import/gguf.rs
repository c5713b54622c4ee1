//! A GGUF file of the architectures `llada` and `llama`, of any type that ggml unpacks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use remask::gguf::Metadata;
use remask::{ModelFile, Residence, Result};

use super::{Source, model, unsupported};
use crate::shape::{Init, Shape};

/// Reads the file at `path`.
pub(super) fn read(path: &Path) -> Result<Source> {
    let file = ModelFile::open(path, Residence::Map)?;
    let m = &file.gguf.metadata;
    let arch = match m.str("general.architecture")? {
        Some(arch @ ("llada" | "llama")) => arch,
        other => {
            return Err(unsupported(format!(
                "is of the architecture `{}`; llada and llama are read",
                other.unwrap_or_default()
            )));
        }
    };
    let mut left: BTreeSet<&str> = file.gguf.tensors.iter().map(|t| t.name.as_str()).collect();
    let shape = shape(m, arch, &file)?;
    let mut weights = BTreeMap::new();
    for p in shape.parameters() {
        let name = name_of(&p.name);
        let mut dims: Vec<u64> = p.dims.iter().map(|&d| d as u64).collect();
        dims.reverse();
        let Some(info) = file.gguf.tensor(&name).filter(|_| left.remove(&*name)) else {
            return Err(model(format!("tensor {name} is absent")));
        };
        if info.dims() != dims {
            return Err(model(format!(
                "tensor {name} is {:?}; its keys say {dims:?}",
                info.dims()
            )));
        }
        let values = file.values(&name)?;
        let values = match name.rsplit('.').nth(1) {
            Some("attn_q") => half_split(&values, p.dims[1], shape.n_heads),
            Some("attn_k") => half_split(&values, p.dims[1], shape.kv_heads()),
            _ => values,
        };
        weights.insert(p.name, values);
    }
    if let Some(name) = left.first() {
        return Err(unsupported(format!("tensor {name} has no place in the network")));
    }
    let shift = m.bool("diffusion.shift_logits")?;
    Ok(Source {
        shape,
        weights,
        shift: shift.unwrap_or(false),
        autoregressive: arch == "llama" && shift.is_none(),
        tokenizer: file.tokenizer().ok(),
    })
}

fn shape(m: &Metadata, arch: &str, file: &ModelFile) -> Result<Shape> {
    let count = |name: &str| -> Result<Option<usize>> {
        let n = m.u64(&format!("{arch}.{name}"))?;
        Ok(n.and_then(|n| usize::try_from(n).ok()))
    };
    let need = |name: &str| -> Result<usize> {
        count(name)?.ok_or_else(|| model(format!("key {arch}.{name} is absent")))
    };
    let float = |name: &str, default: f32| -> Result<f64> {
        let value = m.f32(&format!("{arch}.{name}"))?.unwrap_or(default);
        // The shortest decimal that is this f32, not its expansion in f64.
        Ok(value.to_string().parse().unwrap_or(f64::from(value)))
    };
    let Some(table) = file.gguf.tensor("token_embd.weight") else {
        return Err(model("tensor token_embd.weight is absent".to_owned()));
    };
    let n_heads = need("attention.head_count")?;
    let shape = Shape {
        d_model: need("embedding_length")?,
        n_layers: need("block_count")?,
        n_heads,
        n_kv_heads: count("attention.head_count_kv")?.unwrap_or(n_heads),
        mlp_hidden_size: need("feed_forward_length")?,
        vocab_size: usize::try_from(table.dims().get(1).copied().unwrap_or(1)).unwrap_or(usize::MAX),
        max_sequence_length: need("context_length")?,
        weight_tying: file.gguf.tensor("output.weight").is_none(),
        rope_theta: float("rope.freq_base", 10_000.0)?,
        rms_norm_eps: float("attention.layer_norm_rms_epsilon", 1e-5)?,
        init: Init::Normal,
        init_std: 0.02,
    };
    shape.check()?;
    for name in [
        "rope.dimension_count",
        "attention.key_length",
        "attention.value_length",
    ] {
        if let Some(n) = count(name)?.filter(|&n| n != shape.head_dim()) {
            return Err(unsupported(format!(
                "key {arch}.{name} is {n}; heads of width / heads are trained, here {}",
                shape.head_dim()
            )));
        }
    }
    let scaling = m.str(&format!("{arch}.rope.scaling.type"))?;
    if scaling.is_some_and(|s| s != "none") || file.gguf.tensor("rope_freqs.weight").is_some() {
        return Err(unsupported(
            "scales rotary frequencies; networks without that are trained".to_owned(),
        ));
    }
    if count("expert_count")?.unwrap_or(0) > 0 {
        return Err(unsupported("has experts; dense networks are trained".to_owned()));
    }
    Ok(shape)
}

/// ggml's name of a parameter.
pub(crate) fn name_of(name: &str) -> String {
    let name = name.strip_prefix("model.transformer.").unwrap_or(name);
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        ["wte", ..] => "token_embd.weight".to_owned(),
        ["ln_f", ..] => "output_norm.weight".to_owned(),
        ["ff_out", ..] => "output.weight".to_owned(),
        ["blocks", layer, part, ..] => {
            let part = match *part {
                "q_proj" => "attn_q",
                "k_proj" => "attn_k",
                "v_proj" => "attn_v",
                "attn_out" => "attn_output",
                "ff_norm" => "ffn_norm",
                "ff_proj" => "ffn_gate",
                "up_proj" => "ffn_up",
                "ff_out" => "ffn_down",
                other => other,
            };
            format!("blk.{layer}.{part}.weight")
        }
        _ => name.to_owned(),
    }
}

/// Rows of queries or keys from the file's order, where the two dimensions that are turned against each
/// other are neighbours, to that of checkpoints, where they are half a head apart.
fn half_split(values: &[f32], n_in: usize, n_heads: usize) -> Vec<f32> {
    let size = values.len() / n_in / n_heads;
    let row = |i: usize| {
        let (head, r) = (i / size, i % size);
        let from = head * size + 2 * (r % (size / 2)) + r / (size / 2);
        &values[from * n_in..(from + 1) * n_in]
    };
    (0..n_heads * size).flat_map(row).copied().collect()
}

/// The other way.
pub(crate) fn neighbours(values: &[f32], n_in: usize, n_heads: usize) -> Vec<f32> {
    let size = values.len() / n_in / n_heads;
    let row = |i: usize| {
        let (head, r) = (i / size, i % size);
        let from = head * size + (r % 2) * (size / 2) + r / 2;
        &values[from * n_in..(from + 1) * n_in]
    };
    (0..n_heads * size).flat_map(row).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_orders_of_rows_are_inverse() {
        let values: Vec<f32> = (0..16).map(|i| i as f32).collect();
        // Two heads of four rows of two.
        let file = neighbours(&values, 2, 2);
        assert_eq!(file[..8], [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
        assert_eq!(half_split(&file, 2, 2), values);
    }
}
