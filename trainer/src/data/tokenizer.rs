//! A byte-level BPE tokenizer with LLaDA's special tokens.

use std::path::{Path, PathBuf};

use remask::{Error, ErrorKind, Result};
use serde_json::json;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior, TokenizerBuilder};

use super::texts::{Document, Texts};
use crate::files::{create_folder, write_atomically};

/// Special tokens, in the order of their ids, which follow those of the vocabulary.
const SPECIAL: &[&str] = &[
    "<|startoftext|>",
    "<|endoftext|>",
    "<|mdm_mask|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
];

/// How text is cut before pairs are merged: single digits, words with what stands before them. It is the
/// pattern that llama.cpp knows as `bailingmoe`.
const PATTERN: &str = r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";

/// Llama 3's form, as LLaDA-8B-Instruct's.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";

/// Ids of the tokens that training needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialIds {
    /// End of text, which also pads.
    pub eos: u32,
    /// The mask.
    pub mask: u32,
}

impl SpecialIds {
    /// From a tokenizer's folder: what `config.json` names, what `tokenizer_config.json` names, or the usual
    /// spellings.
    ///
    /// # Errors
    /// `Tokenizer`, naming what is missing.
    pub fn find(folder: &Path, id: &dyn Fn(&str) -> Option<u32>) -> Result<Self> {
        let config = crate::import::read_json(&folder.join("config.json")).unwrap_or_default();
        let number = |key: &str| config[key].as_u64().and_then(|n| u32::try_from(n).ok());
        let names = crate::import::read_json(&folder.join("tokenizer_config.json")).unwrap_or_default();
        let named = |key: &str| crate::import::spelling(&names[key]).and_then(|text| id(&text));
        let by_name = |names: &[&str]| names.iter().find_map(|n| id(n));
        let missing = |what: &str, names: &[&str]| {
            Error::new(
                ErrorKind::Tokenizer,
                format!("{}: has no {what} token ({})", folder.display(), names.join(", ")),
            )
        };
        let masks = ["<|mdm_mask|>", "<[MASK]>", "<|mask|>", "[MASK]"];
        let ends = ["<|endoftext|>", "<|end_of_text|>", "</s>"];
        Ok(Self {
            mask: number("mask_token_id")
                .or_else(|| named("mask_token"))
                .or_else(|| by_name(&masks))
                .ok_or_else(|| missing("mask", &masks))?,
            eos: number("eos_token_id")
                .or_else(|| named("eos_token"))
                .or_else(|| by_name(&ends))
                .ok_or_else(|| missing("end", &ends))?,
        })
    }
}

/// Learns a vocabulary of `n_vocab` tokens from `files` and writes `tokenizer.json` and its neighbours to
/// `folder`.
///
/// # Errors
/// `InvalidArgument`; what the files report; `Io`.
pub fn train_tokenizer(files: &[PathBuf], n_vocab: usize, folder: &Path) -> Result<()> {
    if n_vocab < 256 + SPECIAL.len() || n_vocab > 1 << 20 {
        return Err(crate::shape::invalid(format!(
            "a vocabulary of {n_vocab}; it must have {} to 1048576",
            256 + SPECIAL.len()
        )));
    }
    let wrong = |e: Box<dyn std::error::Error + Send + Sync>| Error::new(ErrorKind::Tokenizer, e.to_string());
    let split = Split::new(
        SplitPattern::Regex(PATTERN.to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    )
    .map_err(wrong)?;
    let parts: Vec<PreTokenizerWrapper> = vec![split.into(), ByteLevel::new(false, true, false).into()];
    let mut tokenizer =
        TokenizerBuilder::<BPE, tokenizers::NormalizerWrapper, _, tokenizers::PostProcessorWrapper, _>::new()
            .with_model(BPE::default())
            .with_normalizer(None)
            .with_pre_tokenizer(Some(Sequence::new(parts)))
            .with_post_processor(None)
            .with_decoder(Some(ByteLevel::default()))
            .build()
            .map_err(wrong)?;
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(n_vocab - SPECIAL.len())
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut error = None;
    let texts = files.iter().flat_map(|path| match Texts::open(path) {
        Ok(texts) => boxed(texts),
        Err(e) => boxed(std::iter::once(Err(e))),
    });
    let strings = texts.map_while(|document| match document {
        Ok(Document::Text(text)) => Some(text),
        Ok(Document::Chat(turns)) => {
            let words: Vec<String> = turns.into_iter().map(|t| t.content).collect();
            Some(words.join("\n"))
        }
        Ok(Document::Pair {
            prompt,
            chosen,
            rejected,
        }) => Some([prompt, chosen, rejected].join("\n")),
        Err(e) => {
            error = Some(e);
            None
        }
    });
    let trained = tokenizer.train(&mut trainer, strings).map(|_| ());
    if let Some(e) = error {
        return Err(e);
    }
    trained.map_err(wrong)?;
    let special: Vec<AddedToken> = SPECIAL.iter().map(|s| AddedToken::from(*s, true)).collect();
    tokenizer.add_special_tokens(&special);
    let text = tokenizer.to_string(true).map_err(wrong)?;
    write_folder(folder, &text)
}

fn boxed<'a>(
    i: impl Iterator<Item = Result<Document>> + Send + 'a,
) -> Box<dyn Iterator<Item = Result<Document>> + Send + 'a> {
    Box::new(i)
}

fn write_folder(folder: &Path, tokenizer: &str) -> Result<()> {
    create_folder(folder)?;
    let names = json!({
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "pad_token": SPECIAL[1],
        "mask_token": SPECIAL[2],
    });
    let mut config = names.clone();
    config["tokenizer_class"] = "PreTrainedTokenizerFast".into();
    config["add_bos_token"] = false.into();
    config["add_eos_token"] = false.into();
    config["clean_up_tokenization_spaces"] = false.into();
    config["chat_template"] = CHAT_TEMPLATE.into();
    for (name, text) in [
        ("tokenizer.json", tokenizer.to_owned()),
        ("tokenizer_config.json", format!("{config:#}\n")),
        ("special_tokens_map.json", format!("{names:#}\n")),
    ] {
        write_atomically(&folder.join(name), |file| {
            std::io::Write::write_all(file, text.as_bytes())
        })?;
    }
    Ok(())
}
