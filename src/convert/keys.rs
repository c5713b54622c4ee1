//! The metadata of the output.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::Texts;
use super::config::{Config, Layout};
use crate::error::{Result, try_push, try_text};
use crate::gguf::{Array, Metadata, StringArray};
use crate::text::{SpecialIds, TokenKind, Tokenizer};

/// Keys as llama.cpp's converter writes them, the whole tokenizer, and where it all comes from.
pub(super) fn metadata(c: &Config, name: &str, texts: &Texts) -> Result<Metadata> {
    let mut m = Metadata::new();
    m.insert("general.architecture", "llada");
    m.insert("general.type", "model");
    m.insert("general.name", name);
    m.insert("general.source.format", "safetensors");
    m.insert("remask.convert.version", env!("CARGO_PKG_VERSION"));
    let layout = match c.layout {
        Layout::Llada => "llada",
        Layout::Llama => "illada",
    };
    m.insert("remask.convert.layout", layout);
    network(&mut m, c);
    m.insert("diffusion.shift_logits", c.shift);
    tokenizer(&mut m, c, texts)?;
    for (name, text) in &texts.kept {
        m.insert(format!("remask.huggingface.{name}"), text.as_str());
    }
    Ok(m)
}

fn network(m: &mut Metadata, c: &Config) {
    let mut count = |name: &str, n: u64| m.insert(format!("llada.{name}"), n as u32);
    count("context_length", c.n_ctx);
    count("embedding_length", c.n_embd);
    count("block_count", c.n_layer);
    count("feed_forward_length", c.n_ff);
    count("attention.head_count", c.n_head);
    count("attention.head_count_kv", c.n_head_kv);
    count("rope.dimension_count", c.n_rot);
    count("vocab_size", c.n_vocab);
    if c.n_rot * c.n_head != c.n_embd {
        count("attention.key_length", c.n_rot);
        count("attention.value_length", c.n_rot);
    }
    m.insert("llada.attention.layer_norm_rms_epsilon", c.eps as f32);
    m.insert("llada.attention.causal", false);
    m.insert("llada.rope.freq_base", c.rope_theta as f32);
    if let Some(scaling) = &c.rope_scaling {
        m.insert("llada.rope.scaling.type", scaling.kind);
        m.insert("llada.rope.scaling.factor", scaling.factor as f32);
        if let Some(n) = scaling.original_context {
            m.insert(
                "llada.rope.scaling.original_context_length",
                u32::try_from(n).unwrap_or(u32::MAX),
            );
        }
    }
}

/// The template: a text, or of several named ones the default.
fn chat_template(config: &Value) -> Option<&str> {
    let value = &config["chat_template"];
    let default = |list: &'_ Vec<Value>| list.iter().position(|t| t["name"] == "default");
    match value.as_array() {
        Some(list) => list.get(default(list)?)?["template"].as_str(),
        None => value.as_str(),
    }
}

/// Spellings of the mask token in published tokenizers.
const MASKS: &[&str] = &["<|mdm_mask|>", "<[MASK]>", "<|mask|>", "[MASK]", "<mask>"];

fn tokenizer(m: &mut Metadata, c: &Config, texts: &Texts) -> Result<()> {
    let (json, config) = (texts.tokenizer.as_str(), &texts.tokenizer_config);
    let n_rows = u32::try_from(c.n_vocab).unwrap_or(u32::MAX);
    let t = Tokenizer::from_json(json, SpecialIds::default(), n_rows)?;
    let by_text = |text: &str| (0..t.n_vocab() as u32).find(|&i| t.token_text(i) == Some(text));
    let named = |key: &str| -> Option<u32> {
        // A string, or an object with `content`.
        let value = &config[key];
        by_text(value.as_str().or(value["content"].as_str())?)
    };
    let id = |from_config: Option<u64>, key: &str| from_config.map(|id| id as u32).or_else(|| named(key));
    let mask = id(c.mask, "mask_token").or_else(|| MASKS.iter().find_map(|text| by_text(text)));
    let Some(mask) = mask else {
        crate::bail!(
            Model,
            "config.json has no mask_token_id, and the tokenizer no token such as {}",
            MASKS[0]
        );
    };
    let mut tokens = StringArray::new();
    let mut types = Vec::new();
    for i in 0..n_rows {
        let text = t.token_text(i).unwrap_or_default();
        let kind = t.token_kind(i).unwrap_or(TokenKind::Unused);
        if text.is_empty() {
            tokens.try_push(format!("[PAD{i}]").as_bytes())?;
            try_push(&mut types, TokenKind::Unused.id(), "token types")?;
        } else {
            tokens.try_push(text.as_bytes())?;
            let kind = if i == mask { TokenKind::Control } else { kind };
            try_push(&mut types, kind.id(), "token types")?;
        }
    }
    m.insert("tokenizer.ggml.model", "gpt2");
    m.insert("tokenizer.ggml.pre", t.pre_name().unwrap_or("default"));
    m.insert("tokenizer.ggml.tokens", tokens);
    m.insert("tokenizer.ggml.token_type", Array::I32(types));
    let mut merges = StringArray::new();
    for (a, b) in t.merges() {
        merges.try_push(format!("{a} {b}").as_bytes())?;
    }
    m.insert("tokenizer.ggml.merges", merges);
    let ids = [
        ("bos", id(c.bos, "bos_token")),
        ("eos", id(c.eos, "eos_token")),
        ("padding", id(c.pad, "pad_token")),
        ("eot", t.specials().eot),
        ("mask", Some(mask)),
    ];
    for (name, id) in ids {
        if let Some(id) = id {
            m.insert(format!("tokenizer.ggml.{name}_token_id"), id);
        }
    }
    m.insert(
        "tokenizer.ggml.add_bos_token",
        config["add_bos_token"].as_bool().unwrap_or(false),
    );
    if let Some(template) = chat_template(config).or(texts.chat_template.as_deref()) {
        m.insert("tokenizer.chat_template", template);
    }
    m.insert("tokenizer.huggingface.json", try_text(json, "the tokenizer")?);
    Ok(())
}
