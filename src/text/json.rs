//! Hugging Face's `tokenizer.json`, read by an allow-list of its parts.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::pre::{PreTokenizer, Stage};
use super::vocab::{AddedToken, MAX_TOKEN, SpecialIds, TokenKind, Vocabulary};
use crate::error::Result;

/// Largest file taken.
const MAX_JSON: usize = 64 << 20;

/// Reads and checks `json`; ids must lie below `n_rows`.
///
/// # Errors
/// `Tokenizer` or `Unsupported`, naming the part.
pub(super) fn read(json: &str, specials: SpecialIds, n_rows: u32) -> Result<Vocabulary> {
    if json.len() > MAX_JSON {
        crate::bail!(
            Limit,
            "tokenizer.json has {} bytes; the limit is {MAX_JSON}",
            json.len()
        );
    }
    // Values take up to sixteen times their text.
    crate::error::probe_memory(json.len() * 16, "the tokenizer's values")?;
    let root: Value =
        serde_json::from_str(json).map_err(|e| crate::err!(Tokenizer, "tokenizer.json is not JSON: {e}"))?;
    let model = &root["model"];
    let kind = model["type"].as_str().unwrap_or("BPE");
    if kind != "BPE" {
        let kind: String = kind.chars().take(64).collect();
        crate::bail!(
            Tokenizer,
            "tokenizer.json: model type `{kind}` is not served; BPE is"
        );
    }
    check_model(model)?;
    let mut vocab = Vocabulary {
        tokens: Vec::new(),
        kinds: Vec::new(),
        merges: Vec::new(),
        added: Vec::new(),
        pre: pre_tokenizer(&root["pre_tokenizer"])?,
        nfc: normalizer(&root["normalizer"])?,
        ignore_merges: model["ignore_merges"].as_bool().unwrap_or(false),
        specials,
        add_bos: false,
    };
    read_vocab(&mut vocab, &model["vocab"], n_rows)?;
    read_added(&mut vocab, &root["added_tokens"], n_rows)?;
    let merges = model["merges"].as_array().map(Vec::as_slice).unwrap_or_default();
    vocab.merges = vocab.check_merges(merges.iter().enumerate().map(|(i, m)| merge(i, m)))?;
    vocab.find_specials()?;
    Ok(vocab)
}

/// Options of the model that change how text is cut and are not served.
fn check_model(model: &Value) -> Result<()> {
    for option in ["dropout", "continuing_subword_prefix", "end_of_word_suffix"] {
        let value = &model[option];
        if !value.is_null() && value.as_str() != Some("") {
            crate::bail!(
                Unsupported,
                "tokenizer.json: model option `{option}` is not served"
            );
        }
    }
    if model["byte_fallback"].as_bool() == Some(true) {
        crate::bail!(
            Unsupported,
            "tokenizer.json: model option `byte_fallback` is not served"
        );
    }
    Ok(())
}

fn set(vocab: &mut Vocabulary, id: u32, content: &str, kind: TokenKind) {
    let i = id as usize;
    if vocab.tokens.len() <= i {
        vocab.tokens.resize(i + 1, String::new());
        vocab.kinds.resize(i + 1, TokenKind::Unused);
    }
    vocab.tokens[i] = content.to_owned();
    vocab.kinds[i] = kind;
}

fn id(value: &Value, n_rows: u32, what: &str) -> Result<u32> {
    match value.as_u64() {
        Some(id) if id < u64::from(n_rows) => Ok(id as u32),
        _ => crate::bail!(
            Tokenizer,
            "tokenizer.json: token `{}` has id {value}; it must be below {n_rows}, the rows of the embedding table",
            what.chars().take(64).collect::<String>()
        ),
    }
}

fn read_vocab(vocab: &mut Vocabulary, map: &Value, n_rows: u32) -> Result<()> {
    let Some(map) = map.as_object().filter(|m| !m.is_empty()) else {
        crate::bail!(Tokenizer, "tokenizer.json: the model has no vocabulary");
    };
    for (content, value) in map {
        let id = id(value, n_rows, content)?;
        if content.len() > MAX_TOKEN {
            crate::bail!(
                Tokenizer,
                "tokenizer.json: token {id} has {} bytes; the limit is {MAX_TOKEN}",
                content.len()
            );
        }
        if vocab
            .kinds
            .get(id as usize)
            .is_some_and(|k| *k != TokenKind::Unused)
        {
            crate::bail!(Tokenizer, "tokenizer.json: two tokens have id {id}");
        }
        set(vocab, id, content, TokenKind::Normal);
    }
    Ok(())
}

fn read_added(vocab: &mut Vocabulary, list: &Value, n_rows: u32) -> Result<()> {
    for token in list.as_array().map(Vec::as_slice).unwrap_or_default() {
        let content = token["content"].as_str().unwrap_or_default();
        let id = id(&token["id"], n_rows, content)?;
        if content.is_empty() || content.len() > MAX_TOKEN {
            crate::bail!(Tokenizer, "tokenizer.json: added token {id} is empty or too long");
        }
        if token["single_word"].as_bool() == Some(true) {
            crate::bail!(
                Unsupported,
                "tokenizer.json: added token `{content}` is single_word, which is not served"
            );
        }
        let taken = vocab
            .tokens
            .get(id as usize)
            .is_some_and(|t| !t.is_empty() && t != content);
        if taken {
            crate::bail!(
                Tokenizer,
                "tokenizer.json: added token `{content}` has id {id}, which is another's"
            );
        }
        let special = token["special"].as_bool().unwrap_or(false);
        let kind = if special {
            TokenKind::Control
        } else {
            TokenKind::UserDefined
        };
        set(vocab, id, content, kind);
        vocab.added.push(AddedToken {
            id,
            content: content.to_owned(),
            special,
            lstrip: token["lstrip"].as_bool().unwrap_or(false),
            rstrip: token["rstrip"].as_bool().unwrap_or(false),
        });
    }
    Ok(())
}

/// A merge as `"a b"` (older files) or `["a", "b"]`.
fn merge(i: usize, value: &Value) -> Result<(String, String)> {
    let pair = match value {
        Value::String(text) => text.split_once(' '),
        Value::Array(pair) if pair.len() == 2 => pair[0].as_str().zip(pair[1].as_str()),
        _ => None,
    };
    match pair {
        Some((a, b)) => Ok((a.to_owned(), b.to_owned())),
        None => crate::bail!(Tokenizer, "tokenizer.json: merge {i} is not two tokens"),
    }
}

/// Whether text is brought to NFC first; nothing else is served.
fn normalizer(value: &Value) -> Result<bool> {
    match value["type"].as_str() {
        None if value.is_null() => Ok(false),
        Some("NFC") => Ok(true),
        Some("Sequence") => {
            let parts = value["normalizers"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            parts
                .iter()
                .try_fold(false, |nfc, part| Ok(nfc | normalizer(part)?))
        }
        other => crate::bail!(
            Unsupported,
            "tokenizer.json: normalizer `{}` is not served; NFC or none is",
            other.unwrap_or("?").chars().take(64).collect::<String>()
        ),
    }
}

fn pre_tokenizer(value: &Value) -> Result<PreTokenizer> {
    let mut pre = PreTokenizer::default();
    let mut spells_bytes = false;
    let single = [value.clone()];
    let parts = match value["type"].as_str() {
        Some("Sequence") => value["pretokenizers"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default(),
        _ => &single[..],
    };
    for part in parts {
        let kind = part["type"].as_str().unwrap_or("?");
        if spells_bytes {
            crate::bail!(
                Unsupported,
                "tokenizer.json: pre-tokenizer `{kind}` after ByteLevel is not served"
            );
        }
        match kind {
            "Split" => {
                let isolated = part["behavior"].as_str() == Some("Isolated");
                let regex = part["pattern"]["Regex"].as_str();
                let (Some(regex), true, false) = (regex, isolated, part["invert"].as_bool() == Some(true))
                else {
                    crate::bail!(
                        Unsupported,
                        "tokenizer.json: only Split by regex, isolated and not inverted, is served"
                    );
                };
                pre.stages.push(Stage::Regex(regex.to_owned()));
            }
            "Digits" => pre.stages.push(Stage::Digits {
                individual: part["individual_digits"].as_bool().unwrap_or(false),
            }),
            "ByteLevel" => {
                spells_bytes = true;
                pre.add_prefix_space = part["add_prefix_space"].as_bool().unwrap_or(false);
                if part["use_regex"].as_bool().unwrap_or(true) {
                    pre.stages.push(Stage::Gpt2);
                }
            }
            other => crate::bail!(
                Unsupported,
                "tokenizer.json: pre-tokenizer `{}` is not served; Split, Digits and ByteLevel are",
                other.chars().take(64).collect::<String>()
            ),
        }
    }
    if !spells_bytes {
        crate::bail!(
            Unsupported,
            "tokenizer.json: the vocabulary is not byte-level, which alone is served"
        );
    }
    Ok(pre)
}
