//! A vocabulary, checked, before a tokenizer is built from it.
#![forbid(unsafe_code)]

use super::pre::{self, PreTokenizer};
use super::spellings::Spellings;
use crate::error::{Result, try_push, try_text, try_vec};

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

impl AddedToken {
    /// # Errors
    /// `Tokenizer`, for one that is too long.
    pub fn new(id: u32, content: &str, special: bool) -> Result<Self> {
        if content.len() > MAX_ADDED {
            crate::bail!(
                Tokenizer,
                "token {id} is matched as a whole and has {} bytes; the limit is {MAX_ADDED}",
                content.len()
            );
        }
        Ok(Self {
            id,
            content: content.to_owned(),
            special,
            lstrip: false,
            rstrip: false,
        })
    }
}

/// Everything a tokenizer is built from, consistent.
#[derive(Clone, Debug)]
pub(super) struct Vocabulary {
    /// Spelling by id; empty for holes.
    pub tokens: Vec<String>,
    pub kinds: Vec<TokenKind>,
    /// Left, right and what becomes of them, best first.
    pub merges: Vec<[u32; 3]>,
    pub added: Vec<AddedToken>,
    pub pre: PreTokenizer,
    pub nfc: bool,
    pub ignore_merges: bool,
    pub specials: SpecialIds,
    pub add_bos: bool,
    /// Ids of tokens that text can become.
    spellings: Option<Spellings>,
}

/// Longest token, in bytes.
pub(super) const MAX_TOKEN: usize = 64 << 10;
/// Longest token that is matched as a whole: every byte of a text may be compared with as many.
const MAX_ADDED: usize = 256;

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
        let mut tokens = Vec::new();
        for (i, raw) in spec.tokens.iter().enumerate() {
            try_push(&mut tokens, spelling(i, raw)?, "the vocabulary")?;
        }
        let mut vocab = Self::new(spec.specials);
        vocab.added = added(&tokens, &kinds)?;
        (vocab.tokens, vocab.kinds) = (tokens, kinds);
        vocab.pre = pre::named(spec.pre.unwrap_or("default"))?;
        vocab.ignore_merges = matches!(spec.pre, Some("llama3" | "llama-v3" | "llama-bpe" | "falcon3"));
        vocab.add_bos = spec.add_bos;
        vocab.index()?;
        for (i, raw) in spec.merges.iter().enumerate() {
            let text = std::str::from_utf8(raw).ok();
            let Some((a, b)) = text.and_then(|t| t.split_once(' ')) else {
                crate::bail!(Tokenizer, "merge {i} is not two tokens with a space between");
            };
            vocab.add_merge(a, b)?;
        }
        vocab.find_specials()?;
        Ok(vocab)
    }

    /// One without tokens.
    pub fn new(specials: SpecialIds) -> Self {
        Self {
            tokens: Vec::new(),
            kinds: Vec::new(),
            merges: Vec::new(),
            added: Vec::new(),
            pre: PreTokenizer::default(),
            nfc: false,
            ignore_merges: false,
            specials,
            add_bos: false,
            spellings: None,
        }
    }

    /// Makes [`id`](Self::id) know the tokens that are there: holes have no spelling.
    pub fn index(&mut self) -> Result<()> {
        let spelled = |i: usize| {
            let kind = self.kinds.get(i);
            kind != Some(&TokenKind::Unused) && self.tokens.get(i).is_some_and(|t| !t.is_empty())
        };
        self.spellings = Some(Spellings::new(&self.tokens, spelled)?);
        Ok(())
    }

    /// The token that is spelled `text`, the first if there are several.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.spellings.as_ref()?.get(&self.tokens, text)
    }

    /// Adds the next best merge. Both sides and the result must be tokens.
    pub fn add_merge(&mut self, left: &str, right: &str) -> Result<()> {
        let i = self.merges.len();
        let mut whole = String::new();
        let room = whole.try_reserve_exact(left.len() + right.len());
        room.map_err(|_| crate::err!(Resource, "no memory for merge {i}"))?;
        whole.push_str(left);
        whole.push_str(right);
        let find = |part: &str| {
            self.id(part).ok_or_else(|| {
                let part: String = part.chars().take(64).collect();
                crate::err!(
                    Tokenizer,
                    "merge {i} needs token `{part}`, which the vocabulary lacks"
                )
            })
        };
        let merge = [find(left)?, find(right)?, find(&whole)?];
        try_push(&mut self.merges, merge, "merges")
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
                    None if !content.is_empty() => {
                        let token = AddedToken::new(id, content, true)?;
                        try_push(&mut self.added, token, "special tokens")?;
                    }
                    None => {}
                }
            }
        }
        Ok(())
    }
}

fn kinds(spec: &VocabSpec<'_>) -> Result<Vec<TokenKind>> {
    let n = spec.tokens.len();
    let mut kinds = try_vec(n, TokenKind::Normal, "token types")?;
    let Some(types) = spec.token_types else {
        return Ok(kinds);
    };
    if types.len() != n {
        crate::bail!(Tokenizer, "there are {} token types for {n} tokens", types.len());
    }
    for (i, (kind, &id)) in kinds.iter_mut().zip(types).enumerate() {
        let Some(known) = TokenKind::from_id(id) else {
            crate::bail!(Tokenizer, "token {i} is of type {id}; known are 1 to 6");
        };
        *kind = known;
    }
    Ok(kinds)
}

fn spelling(i: usize, raw: &[u8]) -> Result<String> {
    if raw.len() > MAX_TOKEN {
        crate::bail!(
            Tokenizer,
            "token {i} has {} bytes; the limit is {MAX_TOKEN}",
            raw.len()
        );
    }
    let Ok(text) = std::str::from_utf8(raw) else {
        crate::bail!(Tokenizer, "token {i} is not UTF-8");
    };
    try_text(text, "a token")
}

fn added(tokens: &[String], kinds: &[TokenKind]) -> Result<Vec<AddedToken>> {
    let wanted = |kind: TokenKind| matches!(kind, TokenKind::Control | TokenKind::UserDefined);
    let mut added = Vec::new();
    for (id, (content, kind)) in (0u32..).zip(tokens.iter().zip(kinds)) {
        if wanted(*kind) && !content.is_empty() {
            let token = AddedToken::new(id, content, *kind == TokenKind::Control)?;
            try_push(&mut added, token, "special tokens")?;
        }
    }
    Ok(added)
}
