//! A `tokenizer.json` for a vocabulary that came without one.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::pre::Stage;
use super::vocab::{TokenKind, Vocabulary};

/// The file's text; reading it gives the vocabulary back.
pub(super) fn write(vocab: &Vocabulary) -> String {
    let added: Vec<Value> = vocab
        .added
        .iter()
        .map(|t| {
            json!({
                "id": t.id, "content": t.content, "single_word": false, "lstrip": t.lstrip,
                "rstrip": t.rstrip, "normalized": false, "special": t.special,
            })
        })
        .collect();
    let apart: HashSet<u32> = vocab.added.iter().map(|t| t.id).collect();
    let mut tokens = Map::new();
    for (id, (text, kind)) in (0u32..).zip(vocab.tokens.iter().zip(&vocab.kinds)) {
        if *kind != TokenKind::Unused && !apart.contains(&id) {
            tokens.insert(text.clone(), json!(id));
        }
    }
    let merges: Vec<Value> = vocab.merges.iter().map(|(a, b)| json!([a, b])).collect();
    let byte_level = |use_regex: bool| {
        json!({
            "type": "ByteLevel", "add_prefix_space": vocab.pre.add_prefix_space,
            "trim_offsets": true, "use_regex": use_regex,
        })
    };
    let mut stages = Vec::new();
    let mut gpt2 = false;
    for stage in &vocab.pre.stages {
        match stage {
            Stage::Regex(regex) => stages.push(json!({
                "type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false,
            })),
            Stage::Digits { individual } => {
                stages.push(json!({"type": "Digits", "individual_digits": individual}));
            }
            Stage::Gpt2 => gpt2 = true,
        }
    }
    stages.push(byte_level(gpt2));
    let root = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": if vocab.nfc { json!({"type": "NFC"}) } else { Value::Null },
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": stages},
        "post_processor": null,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": vocab.ignore_merges, "vocab": tokens, "merges": merges,
        },
    });
    root.to_string()
}
