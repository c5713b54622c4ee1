//! A checkpoint in the Hugging Face layout: LLaDA's names (`model.transformer.blocks.*`), or a plain
//! Llama's (`model.layers.*`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use remask::convert::Checkpoint;
use remask::text::{SpecialIds, Tokenizer};
use remask::{Error, ErrorKind, Result};
use serde_json::Value;

use super::{Source, model, unsupported};
use crate::files::read_text;
use crate::shape::{Init, Shape, invalid};

/// Reads the checkpoint in `folder` and what it says of itself.
pub(super) fn read(folder: &Path) -> Result<Source> {
    let (shape, weights) = read_folder(folder)?;
    let config = read_json(&folder.join("config.json"))?;
    let of = |key: &str| config[key].as_str() == Some("llama");
    let text = read_text(&folder.join("tokenizer.json")).ok();
    let rows = u32::try_from(shape.vocab_size).unwrap_or(u32::MAX);
    Ok(Source {
        shape,
        weights,
        shift: config["shift_logits"] == true,
        autoregressive: of("model_type") && config["mask_token_id"].is_null(),
        tokenizer: text.and_then(|t| Tokenizer::from_json(&t, SpecialIds::default(), rows).ok()),
    })
}

/// Sizes and weights of the checkpoint in `folder`, under LLaDA's names.
///
/// # Errors
/// `Io`; `Format`, `Model` or `Unsupported`, naming the file and the key or tensor.
pub fn read_folder(folder: &Path) -> Result<(Shape, BTreeMap<String, Vec<f32>>)> {
    let config = read_json(&folder.join("config.json"))?;
    let shape = read_shape(&config).map_err(|e| e.context(folder.join("config.json").display()))?;
    let named = |e: Error| e.context(folder.display());
    let checkpoint = Checkpoint::open(folder).map_err(named)?;
    let mut left: BTreeSet<String> = checkpoint.names().map(str::to_owned).collect();
    let mut weights = BTreeMap::new();
    for p in shape.parameters() {
        let other = llama_name(&p.name);
        let names = [p.name.as_str(), other.as_str()];
        let Some(name) = names.into_iter().find(|&n| left.remove(n)) else {
            return Err(model(format!(
                "{}: tensor {} (or {other}) is absent",
                folder.display(),
                p.name
            )));
        };
        let dims: Vec<usize> = checkpoint
            .shape(name)
            .unwrap_or_default()
            .iter()
            .map(|&d| d as usize)
            .collect();
        if dims != p.dims {
            return Err(model(format!(
                "{}: tensor {} is {dims:?}; config.json says {:?}",
                folder.display(),
                p.name,
                p.dims
            )));
        }
        let values = checkpoint.values(name).map_err(named)?;
        if values.iter().any(|x| !x.is_finite()) {
            return Err(Error::new(
                ErrorKind::Numeric,
                format!(
                    "{}: tensor {} has values that are no finite numbers",
                    folder.display(),
                    p.name
                ),
            ));
        }
        weights.insert(p.name, values);
    }
    // Tables that are computed, and a head that is stored although it is tied.
    let known = |name: &str| name.ends_with("inv_freq") || (shape.weight_tying && name == "lm_head.weight");
    if let Some(name) = left.iter().find(|n| !known(n)) {
        return Err(model(format!(
            "{}: tensor {name} has no place in the network",
            folder.display()
        )));
    }
    Ok((shape, weights))
}

/// A JSON file.
///
/// # Errors
/// `Io` and `Format`, naming it.
pub fn read_json(path: &Path) -> Result<Value> {
    let text = read_text(path)?;
    serde_json::from_str(&text)
        .map_err(|e| Error::new(ErrorKind::Format, format!("{}: is no JSON: {e}", path.display())))
}

fn llama_name(name: &str) -> String {
    let name = name.strip_prefix("model.transformer.").unwrap_or(name);
    let pairs = [
        ("attn_norm", "input_layernorm"),
        ("q_proj", "self_attn.q_proj"),
        ("k_proj", "self_attn.k_proj"),
        ("v_proj", "self_attn.v_proj"),
        ("attn_out", "self_attn.o_proj"),
        ("ff_norm", "post_attention_layernorm"),
        ("ff_proj", "mlp.gate_proj"),
        ("up_proj", "mlp.up_proj"),
        ("ff_out", "mlp.down_proj"),
    ];
    match name {
        "wte.weight" => return "model.embed_tokens.weight".to_owned(),
        "ln_f.weight" => return "model.norm.weight".to_owned(),
        "ff_out.weight" => return "lm_head.weight".to_owned(),
        _ => {}
    }
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        ["blocks", layer, part, "weight"] => {
            let part = pairs.iter().find(|(ours, _)| ours == part).map_or(*part, |p| p.1);
            format!("model.layers.{layer}.{part}.weight")
        }
        _ => name.to_owned(),
    }
}

/// Sizes from a `config.json` of either kind.
fn read_shape(config: &Value) -> Result<Shape> {
    let number = |names: &[&str]| -> Option<usize> {
        let found = names.iter().find_map(|n| config.get(*n).and_then(Value::as_u64));
        found.and_then(|n| usize::try_from(n).ok())
    };
    let need = |names: &[&str]| {
        let missing = || Error::new(ErrorKind::Format, format!("{} is absent", names.join(" or ")));
        number(names).ok_or_else(missing)
    };
    let float = |names: &[&str], default: f64| {
        let found = names.iter().find_map(|n| config.get(*n).and_then(Value::as_f64));
        found.unwrap_or(default)
    };
    let flag = |names: &[&str]| {
        let found = names.iter().find_map(|n| config.get(*n).and_then(Value::as_bool));
        found.unwrap_or(false)
    };
    for (key, others) in [
        ("include_bias", false),
        ("include_qkv_bias", false),
        ("attention_bias", false),
        ("mlp_bias", false),
        ("attention_layer_norm", false),
        ("alibi", false),
        ("input_emb_norm", false),
        ("scale_logits", false),
    ] {
        if flag(&[key]) != others {
            return Err(unsupported(format!(
                "{key} is {}; networks without it are trained",
                !others
            )));
        }
    }
    // Newer configurations keep base and scaling together.
    let rope = &config["rope_parameters"];
    let kind = |v: &Value| {
        v["rope_type"]
            .as_str()
            .or(v["type"].as_str())
            .unwrap_or("default")
            == "default"
    };
    let scaled = config.get("rope_scaling").is_some_and(|v| !v.is_null()) || !kind(rope);
    if scaled {
        return Err(unsupported(
            "rope_scaling is set; networks without it are trained".to_owned(),
        ));
    }
    if let Some(act) = config["hidden_act"].as_str().filter(|&a| a != "silu") {
        return Err(unsupported(format!("hidden_act is `{act}`; silu is trained")));
    }
    let is_llama = config.get("d_model").is_none();
    let n_heads = need(&["n_heads", "num_attention_heads"])?;
    let n_kv_heads = match flag(&["multi_query_attention"]) {
        true => 1,
        false => number(&["n_kv_heads", "num_key_value_heads"]).unwrap_or(n_heads),
    };
    let d_model = need(&["d_model", "hidden_size"])?;
    let shape = Shape {
        d_model,
        n_layers: need(&["n_layers", "num_hidden_layers"])?,
        n_heads,
        n_kv_heads,
        mlp_hidden_size: number(&["mlp_hidden_size", "intermediate_size"])
            .or_else(|| Some(number(&["mlp_ratio"])?.saturating_mul(d_model)))
            .ok_or_else(|| invalid("mlp_hidden_size or intermediate_size is absent".to_owned()))?,
        vocab_size: number(&["embedding_size"])
            .filter(|&n| n > 0)
            .map_or_else(|| need(&["vocab_size"]), Ok)?,
        max_sequence_length: need(&["max_sequence_length", "max_position_embeddings"])?,
        weight_tying: flag(&["weight_tying", "tie_word_embeddings"]),
        rope_theta: float(&["rope_theta"], rope["rope_theta"].as_f64().unwrap_or(10000.0)),
        // What the two kinds of code take when it is absent.
        rms_norm_eps: float(&["rms_norm_eps"], if is_llama { 1e-6 } else { 1e-5 }),
        init: Init::Normal,
        init_std: 0.02,
    };
    shape.check()?;
    Ok(shape)
}
