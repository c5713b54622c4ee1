//! Hugging Face's `tokenizer.json`, read by an allow-list of its parts.
#![forbid(unsafe_code)]

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::pre::{PreTokenizer, Stage};
use super::spellings::Spellings;
use super::vocab::{AddedToken, MAX_TOKEN, SpecialIds, TokenKind, Vocabulary};
use crate::error::{Result, try_push};

/// Largest file taken.
const MAX_JSON: usize = 64 << 20;
/// Most stages of a pre-tokenizer. Published ones have up to five.
const MAX_STAGES: usize = 32;
/// Where memory for a table is short: as the reader's own error.
const NO_MEMORY: &str = "no memory for the tokenizer's";

/// What is read of the file. Its tables are asked for as they grow; other values of it are small.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Root {
    model: Model,
    added_tokens: List<Value>,
    pre_tokenizer: Value,
    normalizer: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Model {
    #[serde(rename = "type")]
    kind: Value,
    dropout: Value,
    continuing_subword_prefix: Value,
    end_of_word_suffix: Value,
    byte_fallback: Value,
    ignore_merges: Value,
    vocab: Pairs,
    merges: List<Merge>,
}

/// A list, or nothing for `null`.
struct List<T>(Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// A merge as `"a b"` (older files) or `["a", "b"]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair((String, String)),
}

/// The pairs of an object in their order.
#[derive(Default)]
struct Pairs(Vec<(String, Value)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Reader<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_unit<E>(self) -> std::result::Result<List<T>, E> {
                Ok(List::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<List<T>, A::Error> {
                let mut list = Vec::new();
                while let Some(value) = seq.next_element()? {
                    try_push(&mut list, value, "").map_err(|_| A::Error::custom(NO_MEMORY))?;
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_any(Reader(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E>(self) -> std::result::Result<Pairs, E> {
                Ok(Pairs::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    try_push(&mut pairs, pair, "").map_err(|_| A::Error::custom(NO_MEMORY))?;
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Refuses JSON that would take many times its length once it is read as values: each takes a hundred bytes, and
/// two in the file.
///
/// # Errors
/// `Limit`, naming `what`.
pub(crate) fn check_values(json: &str, what: &str) -> Result<()> {
    const EACH: usize = 100;
    let n = json.bytes().filter(|b| matches!(b, b',' | b'[' | b'{')).count();
    if n.saturating_mul(EACH) > (64 << 20) + json.len().saturating_mul(3) {
        crate::bail!(
            Limit,
            "{what} has {n} values in {} bytes, too many to be read",
            json.len()
        );
    }
    Ok(())
}

fn parse(json: &str) -> Result<Root> {
    check_values(json, "tokenizer.json")?;
    serde_json::from_str(json).map_err(|e| match e.to_string() {
        why if why.starts_with(NO_MEMORY) => crate::err!(Resource, "{NO_MEMORY} tables"),
        why => crate::err!(Tokenizer, "tokenizer.json is not JSON: {why}"),
    })
}

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
    let root = parse(json)?;
    let model = &root.model;
    let kind = model.kind.as_str().unwrap_or("BPE");
    if kind != "BPE" {
        let kind: String = kind.chars().take(64).collect();
        crate::bail!(
            Tokenizer,
            "tokenizer.json: model type `{kind}` is not served; BPE is"
        );
    }
    check_model(model)?;
    let mut vocab = Vocabulary::new(specials);
    vocab.pre = pre_tokenizer(&root.pre_tokenizer)?;
    vocab.nfc = normalizer(&root.normalizer, 0)?;
    vocab.ignore_merges = model.ignore_merges.as_bool().unwrap_or(false);
    read_vocab(&mut vocab, &model.vocab.0, n_rows)?;
    read_added(&mut vocab, &root.added_tokens.0, n_rows)?;
    vocab.index()?;
    for (i, value) in model.merges.0.iter().enumerate() {
        let (left, right) = merge(i, value)?;
        vocab.add_merge(left, right)?;
    }
    vocab.find_specials()?;
    Ok(vocab)
}

/// Options of the model that change how text is cut and are not served.
fn check_model(model: &Model) -> Result<()> {
    for (option, value) in [
        ("dropout", &model.dropout),
        ("continuing_subword_prefix", &model.continuing_subword_prefix),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if !value.is_null() && value.as_str() != Some("") {
            crate::bail!(
                Unsupported,
                "tokenizer.json: model option `{option}` is not served"
            );
        }
    }
    if model.byte_fallback.as_bool() == Some(true) {
        crate::bail!(
            Unsupported,
            "tokenizer.json: model option `byte_fallback` is not served"
        );
    }
    Ok(())
}

fn set(vocab: &mut Vocabulary, id: u32, content: &str, kind: TokenKind) -> Result<()> {
    let n = id as usize + 1;
    if vocab.tokens.len() < n {
        let what = "the vocabulary";
        let room = vocab.tokens.try_reserve(n - vocab.tokens.len());
        room.map_err(|_| crate::err!(Resource, "no memory for {what}"))?;
        vocab.tokens.resize(n, String::new());
        let room = vocab.kinds.try_reserve(n - vocab.kinds.len());
        room.map_err(|_| crate::err!(Resource, "no memory for {what}"))?;
        vocab.kinds.resize(n, TokenKind::Unused);
    }
    vocab.tokens[n - 1] = content.to_owned();
    vocab.kinds[n - 1] = kind;
    Ok(())
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

fn read_vocab(vocab: &mut Vocabulary, map: &[(String, Value)], n_rows: u32) -> Result<()> {
    if map.is_empty() {
        crate::bail!(Tokenizer, "tokenizer.json: the model has no vocabulary");
    }
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
        set(vocab, id, content, TokenKind::Normal)?;
    }
    // Of a key that is there twice, readers take the one or the other.
    let used = |i: usize| vocab.kinds.get(i) == Some(&TokenKind::Normal);
    let spellings = Spellings::new(&vocab.tokens, used)?;
    for (i, token) in vocab.tokens.iter().enumerate().filter(|(i, _)| used(*i)) {
        if spellings.get(&vocab.tokens, token).map(|id| id as usize) != Some(i) {
            let token: String = token.chars().take(64).collect();
            crate::bail!(
                Tokenizer,
                "tokenizer.json: token `{token}` is in the vocabulary twice"
            );
        }
    }
    Ok(())
}

fn read_added(vocab: &mut Vocabulary, list: &[Value], n_rows: u32) -> Result<()> {
    for token in list {
        let content = token["content"].as_str().unwrap_or_default();
        let id = id(&token["id"], n_rows, content)?;
        if content.is_empty() {
            crate::bail!(Tokenizer, "tokenizer.json: added token {id} is empty");
        }
        let special = token["special"].as_bool().unwrap_or(false);
        let added = AddedToken {
            lstrip: token["lstrip"].as_bool().unwrap_or(false),
            rstrip: token["rstrip"].as_bool().unwrap_or(false),
            ..AddedToken::new(id, content, special)?
        };
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
        let kind = match special {
            true => TokenKind::Control,
            false => TokenKind::UserDefined,
        };
        set(vocab, id, content, kind)?;
        try_push(&mut vocab.added, added, "special tokens")?;
    }
    Ok(())
}

/// The two sides of a merge.
fn merge(i: usize, merge: &Merge) -> Result<(&str, &str)> {
    let pair = match merge {
        Merge::Text(text) => text.split_once(' '),
        Merge::Pair((left, right)) => Some((left.as_str(), right.as_str())),
    };
    pair.ok_or_else(|| crate::err!(Tokenizer, "tokenizer.json: merge {i} is not two tokens"))
}

/// Whether text is brought to NFC first; nothing else is served.
fn normalizer(value: &Value, depth: usize) -> Result<bool> {
    if depth > MAX_STAGES {
        crate::bail!(Unsupported, "tokenizer.json: normalizers inside one another");
    }
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
                .try_fold(false, |nfc, part| Ok(nfc | normalizer(part, depth + 1)?))
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
    if parts.len() > MAX_STAGES {
        crate::bail!(
            Unsupported,
            "tokenizer.json: the pre-tokenizer has {} stages; the limit is {MAX_STAGES}",
            parts.len()
        );
    }
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
