//! A vocabulary, checked, before a tokenizer is built from it.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::pre::{self, PreTokenizer};
use crate::error::Result;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Text.
    Normal,
    /// Unknown text.
    Unknown,
    /// A mark such as end-of-text; never made from a user's text.
    Control,
    /// Text that is one token wherever it stands.
    UserDefined,
    /// A hole in the vocabulary.
    Unused,
    /// One byte.
    Byte,
}

impl TokenKind {
    /// The kind with GGUF's number.
    pub fn from_id(id: i32) -> Option<Self> {
        Some(match id {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }

    /// GGUF's number.
    pub fn id(self) -> i32 {
        match self {
            Self::Normal => 1,
            Self::Unknown => 2,
            Self::Control => 3,
            Self::UserDefined => 4,
            Self::Unused => 5,
            Self::Byte => 6,
        }
    }
}

/// Ids with a meaning of their own; `None` where a model has no such token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Begin of text.
    pub bos: Option<u32>,
    /// End of text.
    pub eos: Option<u32>,
    /// End of a turn.
    pub eot: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
    /// The mask.
    pub mask: Option<u32>,
    /// Unknown text.
    pub unk: Option<u32>,
}

impl SpecialIds {
    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        [self.bos, self.eos, self.eot, self.pad, self.mask, self.unk]
            .into_iter()
            .flatten()
    }
}

/// What a GGUF file says of its vocabulary.
#[derive(Clone, Debug)]
pub struct VocabSpec<'a> {
    /// `gpt2` is byte-level BPE; no other is served.
    pub model: &'a str,
    /// Name of the pre-tokenizer.
    pub pre: Option<&'a str>,
    /// Spelling of every token.
    pub tokens: Vec<&'a [u8]>,
    /// GGUF's number of every token's kind.
    pub token_types: Option<&'a [i32]>,
    /// Pairs to merge, best first: `left right`.
    pub merges: Vec<&'a [u8]>,
    /// Rows of the embedding table: ids lie below.
    pub n_rows: u32,
    /// Ids with a meaning of their own.
    pub specials: SpecialIds,
    /// Whether text is to begin with `bos`, for those who ask.
    pub add_bos: bool,
}

/// A token that is matched in text as a whole, before anything is cut.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AddedToken {
    pub id: u32,
    pub content: String,
    pub special: bool,
    pub lstrip: bool,
    pub rstrip: bool,
}

/// Everything a tokenizer is built from, consistent.
#[derive(Clone, Debug)]
pub(super) struct Vocabulary {
    /// Spelling by id; empty for holes.
    pub tokens: Vec<String>,
    pub kinds: Vec<TokenKind>,
    pub merges: Vec<(String, String)>,
    pub added: Vec<AddedToken>,
    pub pre: PreTokenizer,
    pub nfc: bool,
    pub ignore_merges: bool,
    pub specials: SpecialIds,
    pub add_bos: bool,
}

/// Longest token, in bytes.
pub(super) const MAX_TOKEN: usize = 64 << 10;

impl Vocabulary {
    /// Checks what a file says.
    ///
    /// # Errors
    /// `Tokenizer`, naming the token, merge or id; `Unsupported`, for another model than `gpt2`.
    pub fn from_spec(spec: &VocabSpec<'_>) -> Result<Self> {
        if spec.model != "gpt2" {
            let name: String = spec.model.chars().take(64).collect();
            crate::bail!(
                Unsupported,
                "tokenizer model `{name}` is not served; `gpt2` (byte-level BPE) is"
            );
        }
        let n = spec.tokens.len();
        if n == 0 || n > spec.n_rows as usize {
            crate::bail!(
                Tokenizer,
                "there are {n} tokens for {} rows of the embedding table",
                spec.n_rows
            );
        }
        let kinds = kinds(spec)?;
        let mut tokens = Vec::with_capacity(n);
        for (i, raw) in spec.tokens.iter().enumerate() {
            tokens.push(spelling(i, raw)?);
        }
        let mut vocab = Self {
            merges: Vec::new(),
            added: added(&tokens, &kinds),
            tokens,
            kinds,
            pre: pre::named(spec.pre.unwrap_or("default"))?,
            nfc: false,
            ignore_merges: matches!(spec.pre, Some("llama3" | "llama-v3" | "llama-bpe" | "falcon3")),
            specials: spec.specials,
            add_bos: spec.add_bos,
        };
        vocab.merges = vocab.check_merges(spec.merges.iter().enumerate().map(|(i, raw)| {
            let text = std::str::from_utf8(raw).ok();
            let Some((a, b)) = text.and_then(|t| t.split_once(' ')) else {
                crate::bail!(Tokenizer, "merge {i} is not two tokens with a space between");
            };
            Ok((a.to_owned(), b.to_owned()))
        }))?;
        vocab.find_specials()?;
        Ok(vocab)
    }

    /// Checks that both sides and the result of every merge are tokens: the crate panics on some that
    /// are not.
    pub fn check_merges(
        &self,
        merges: impl Iterator<Item = Result<(String, String)>>,
    ) -> Result<Vec<(String, String)>> {
        let known: HashMap<&str, ()> = self.tokens.iter().map(|t| (t.as_str(), ())).collect();
        let mut checked = Vec::new();
        for (i, merge) in merges.enumerate() {
            let (a, b) = merge?;
            let whole = format!("{a}{b}");
            for part in [&a, &b, &whole] {
                if part.is_empty() || !known.contains_key(part.as_str()) {
                    let part: String = part.chars().take(64).collect();
                    crate::bail!(
                        Tokenizer,
                        "merge {i} needs token `{part}`, which the vocabulary lacks"
                    );
                }
            }
            checked.push((a, b));
        }
        Ok(checked)
    }

    /// Checks the special ids, and finds the end of a turn by its spelling where no key names it.
    pub fn find_specials(&mut self) -> Result<()> {
        for id in self.specials.all() {
            if id as usize >= self.tokens.len() {
                crate::bail!(
                    Tokenizer,
                    "special token id {id} is outside the vocabulary of {}",
                    self.tokens.len()
                );
            }
        }
        const TURN_ENDS: &[&str] = &[
            "<|eot_id|>",
            "<|im_end|>",
            "<|role_end|>",
            "<|end|>",
            "<end_of_turn>",
        ];
        if self.specials.eot.is_none() {
            let found = TURN_ENDS.iter().find_map(|name| {
                let end = self.added.iter().find(|t| t.special && t.content == *name)?;
                Some(end.id)
            });
            self.specials.eot = found;
        }
        // What has a meaning must never come from a user's text, whatever its kind says.
        let specials = self.specials;
        for id in specials.all() {
            let i = id as usize;
            if let (Some(kind), Some(content)) = (self.kinds.get_mut(i), self.tokens.get(i)) {
                if *kind != TokenKind::Unknown {
                    *kind = TokenKind::Control;
                }
                match self.added.iter_mut().find(|t| t.id == id) {
                    Some(token) => token.special = true,
                    None if !content.is_empty() => self.added.push(AddedToken {
                        id,
                        content: content.clone(),
                        special: true,
                        lstrip: false,
                        rstrip: false,
                    }),
                    None => {}
                }
            }
        }
        Ok(())
    }
}

fn kinds(spec: &VocabSpec<'_>) -> Result<Vec<TokenKind>> {
    let n = spec.tokens.len();
    let Some(types) = spec.token_types else {
        return Ok(vec![TokenKind::Normal; n]);
    };
    if types.len() != n {
        crate::bail!(Tokenizer, "there are {} token types for {n} tokens", types.len());
    }
    let kind = |(i, &t): (usize, &i32)| match TokenKind::from_id(t) {
        Some(kind) => Ok(kind),
        None => crate::bail!(Tokenizer, "token {i} is of type {t}; known are 1 to 6"),
    };
    types.iter().enumerate().map(kind).collect()
}

fn spelling(i: usize, raw: &[u8]) -> Result<String> {
    if raw.len() > MAX_TOKEN {
        crate::bail!(
            Tokenizer,
            "token {i} has {} bytes; the limit is {MAX_TOKEN}",
            raw.len()
        );
    }
    match std::str::from_utf8(raw) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => crate::bail!(Tokenizer, "token {i} is not UTF-8"),
    }
}

fn added(tokens: &[String], kinds: &[TokenKind]) -> Vec<AddedToken> {
    let wanted = |kind: TokenKind| matches!(kind, TokenKind::Control | TokenKind::UserDefined);
    let all = tokens.iter().zip(kinds).enumerate();
    all.filter(|(_, (content, kind))| wanted(**kind) && !content.is_empty())
        .map(|(i, (content, kind))| AddedToken {
            id: i as u32,
            content: content.clone(),
            special: *kind == TokenKind::Control,
            lstrip: false,
            rstrip: false,
        })
        .collect()
}
