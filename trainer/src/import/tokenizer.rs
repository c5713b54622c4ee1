//! The tokenizer of a network that is to be trained on, with a mask.

use std::path::Path;

use remask::text::{SpecialIds as TextIds, Tokenizer};
use remask::{Error, ErrorKind, ModelFile, Residence, Result};
use serde_json::{Map, Value, json};

use super::{is_gguf, read_json};
use crate::data::SpecialIds;
use crate::files::{create_folder, read_text, write_atomically};

/// Largest vocabulary taken.
const MAX_VOCAB: u32 = 1 << 22;

/// The tokenizer's files as text.
struct Files {
    tokenizer: String,
    config: Value,
    map: Value,
    template: Option<String>,
}

/// Whether the tokenizer in `folder` names a mask.
pub(crate) fn knows_its_mask(folder: &Path) -> bool {
    let read = || -> Result<()> {
        let text = read_text(&folder.join("tokenizer.json"))?;
        let tokenizer = Tokenizer::from_json(&text, TextIds::default(), MAX_VOCAB)?;
        SpecialIds::find(folder, &|name| tokenizer.token_id(name)).map(|_| ())
    };
    read().is_ok()
}

/// Takes the tokenizer of the network at `source`, a folder or a GGUF file, to `folder`. Where it names no
/// mask, `mask` becomes it: the token of that spelling, or a new one at the end.
///
/// # Errors
/// `Io`, `Format`, `Tokenizer`, naming the file; `InvalidArgument`, for an empty spelling.
pub fn write_tokenizer(source: &Path, mask: &str, folder: &Path) -> Result<()> {
    let mut files = match is_gguf(source) {
        true => of_gguf(source),
        false => of_folder(source),
    }
    .map_err(|e| e.context(source.display()))?;
    let named = |e: Error| e.context(source.display());
    let tokenizer = Tokenizer::from_json(&files.tokenizer, TextIds::default(), MAX_VOCAB).map_err(named)?;
    let known = match is_gguf(source) {
        true => None,
        false => SpecialIds::find(source, &|name| tokenizer.token_id(name)).ok(),
    };
    let spelled = known.and_then(|ids| tokenizer.token_text(ids.mask).map(str::to_owned));
    let spelled = spelled.or_else(|| spelling(&files.config["mask_token"]));
    let mask = spelled.as_deref().unwrap_or(mask);
    if mask.is_empty() {
        return Err(crate::shape::invalid(format!(
            "{}: has no mask; name one (run.mask_token, or --mask-token)",
            source.display()
        )));
    }
    if tokenizer.token_id(mask).is_none() {
        files.tokenizer = with_token(&files.tokenizer, mask, tokenizer.n_vocab()).map_err(named)?;
    }
    files.config["mask_token"] = mask.into();
    files.map["mask_token"] = mask.into();
    create_folder(folder)?;
    let mut texts = vec![
        ("tokenizer.json", files.tokenizer),
        ("tokenizer_config.json", format!("{:#}\n", files.config)),
        ("special_tokens_map.json", format!("{:#}\n", files.map)),
    ];
    texts.extend(files.template.map(|t| ("chat_template.jinja", t)));
    for (name, text) in texts {
        write_atomically(&folder.join(name), |file| {
            std::io::Write::write_all(file, text.as_bytes())
        })?;
    }
    Ok(())
}

/// A special token of `tokenizer_config.json`: a text, or an object with `content`.
pub(crate) fn spelling(value: &Value) -> Option<String> {
    let text = value.as_str().or(value["content"].as_str())?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// `tokenizer.json` with one more special token.
fn with_token(text: &str, token: &str, id: usize) -> Result<String> {
    let wrong = |what: &str| Error::new(ErrorKind::Tokenizer, format!("tokenizer.json {what}"));
    let mut root: Value = serde_json::from_str(text).map_err(|e| wrong(&format!("is no JSON: {e}")))?;
    let object = root.as_object_mut().ok_or_else(|| wrong("is no object"))?;
    let added = object.entry("added_tokens").or_insert_with(|| json!([]));
    let added = added
        .as_array_mut()
        .ok_or_else(|| wrong("has added_tokens that are no list"))?;
    added.push(json!({
        "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    }));
    Ok(root.to_string())
}

fn object(value: Result<Value>) -> Value {
    match value {
        Ok(value) if value.is_object() => value,
        _ => Value::Object(Map::new()),
    }
}

fn of_folder(source: &Path) -> Result<Files> {
    let mut config = object(read_json(&source.join("tokenizer_config.json")));
    // The ids that a model's own configuration names go before the tokenizer's.
    let text = read_text(&source.join("tokenizer.json"))?;
    let model = object(read_json(&source.join("config.json")));
    if spelling(&config["eos_token"]).is_none()
        && let Some(id) = model["eos_token_id"].as_u64()
    {
        let tokenizer = Tokenizer::from_json(&text, TextIds::default(), MAX_VOCAB)?;
        let id = u32::try_from(id).unwrap_or(u32::MAX);
        config["eos_token"] = tokenizer.token_text(id).into();
    }
    Ok(Files {
        tokenizer: text,
        config,
        map: object(read_json(&source.join("special_tokens_map.json"))),
        template: read_text(&source.join("chat_template.jinja")).ok(),
    })
}

fn of_gguf(source: &Path) -> Result<Files> {
    let file = ModelFile::open(source, Residence::Map)?;
    let tokenizer = file.tokenizer()?;
    let m = &file.gguf.metadata;
    let text = match m.str("tokenizer.huggingface.json")? {
        Some(text) => text.to_owned(),
        None => tokenizer.to_json()?,
    };
    let s = tokenizer.specials();
    let mut map = json!({});
    for (key, id) in [
        ("bos_token", s.bos),
        ("eos_token", s.eos),
        ("pad_token", s.pad),
        ("mask_token", s.mask),
    ] {
        if let Some(text) = id.and_then(|id| tokenizer.token_text(id)) {
            map[key] = text.into();
        }
    }
    let mut config = map.clone();
    config["tokenizer_class"] = "PreTrainedTokenizerFast".into();
    config["add_bos_token"] = tokenizer.add_bos().into();
    config["clean_up_tokenization_spaces"] = false.into();
    if let Some(template) = m.str("tokenizer.chat_template")? {
        config["chat_template"] = template.into();
    }
    Ok(Files {
        tokenizer: text,
        config,
        map,
        template: None,
    })
}
