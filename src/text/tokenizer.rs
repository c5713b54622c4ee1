//! The tokenizer: text to ids and back.
#![forbid(unsafe_code)]

use std::sync::Arc;

use unicode_normalization_alignments::UnicodeNormalization;

use super::bpe::{Bpe, Scratch};
use super::bytes;
use super::json;
use super::matcher::Matcher;
use super::pre::{self, Cutter};
use super::stream::StreamDecoder;
use super::vocab::{SpecialIds, TokenKind, VocabSpec, Vocabulary};
use crate::error::{Result, try_push};

/// What becomes of special tokens that a text spells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Special {
    /// They stay text. For everything that comes from a user.
    #[default]
    AsText,
    /// They become their ids. For templates and texts that are trusted.
    Parse,
}

/// Byte-level BPE as a model's file describes it. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Tokenizer {
    shared: Arc<Shared>,
}

struct Shared {
    vocab: Vocabulary,
    bpe: Bpe,
    cutter: Cutter,
    /// All tokens that are matched as a whole, and those of them that are not special. Patterns are in
    /// the order of `vocab.added`.
    matchers: [Matcher; 2],
    plain_added: Vec<usize>,
    /// Whether long text may be cut before a space between letters.
    can_cut: bool,
}

/// Text longer than this is cut into pieces before it is cut into words, which keeps time and memory
/// linear. Cuts fall where every pre-tokenizer here cuts too: before a space between letters.
const PIECE: usize = 16 << 10;
/// A single word longer than this is cut all the same.
const WORD: usize = 64 << 10;

impl Tokenizer {
    /// A tokenizer from a GGUF's own vocabulary and merges.
    ///
    /// # Errors
    /// `Tokenizer` or `Unsupported`, naming what does not hold together.
    pub fn from_vocab(spec: &VocabSpec<'_>) -> Result<Self> {
        Self::build(Vocabulary::from_spec(spec)?)
    }

    /// A tokenizer from a `tokenizer.json`; ids must lie below `n_rows`.
    ///
    /// # Errors
    /// `Tokenizer`, `Unsupported` or `Limit`, naming the part.
    pub fn from_json(json: &str, specials: SpecialIds, n_rows: u32) -> Result<Self> {
        Self::build(json::read(json, specials, n_rows)?)
    }

    /// As [`from_json`](Self::from_json), with what a GGUF's keys say beside it.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json); also when `spec` has more tokens than rows or odd types.
    pub fn from_json_and_vocab(json: &str, spec: &VocabSpec<'_>) -> Result<Self> {
        let mut vocab = json::read(json, spec.specials, spec.n_rows)?;
        vocab.add_bos = spec.add_bos;
        Self::build(vocab)
    }

    fn build(vocab: Vocabulary) -> Result<Self> {
        const WHAT: &str = "special tokens";
        let bpe = Bpe::new(&vocab)?;
        if let Some(byte) = bpe.missing() {
            crate::log!(
                Warn,
                "the vocabulary has no token for byte {byte}; text with it loses it"
            );
        }
        let cutter = vocab.pre.build()?;
        let (mut all, mut plain, mut plain_added) = (Vec::new(), Vec::new(), Vec::new());
        for (i, token) in vocab.added.iter().enumerate() {
            try_push(&mut all, token.content.as_str(), WHAT)?;
            if !token.special {
                try_push(&mut plain, token.content.as_str(), WHAT)?;
                try_push(&mut plain_added, i, WHAT)?;
            }
        }
        let matchers = [Matcher::new(&all)?, Matcher::new(&plain)?];
        let can_cut = vocab
            .added
            .iter()
            .all(|t| !t.content.contains(' ') && !t.lstrip && !t.rstrip);
        let shared = Shared {
            vocab,
            bpe,
            cutter,
            matchers,
            plain_added,
            can_cut,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Ids of `text`. No begin-of-text is added.
    ///
    /// # Errors
    /// `Tokenizer`, when the vocabulary cannot spell the text without a special token.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        self.encode_into(text, special, &mut ids)?;
        Ok(ids)
    }

    /// As [`encode`](Self::encode), for bytes.
    ///
    /// # Errors
    /// `Tokenizer`, also when the bytes are not UTF-8, naming the offset.
    pub fn encode_bytes(&self, text: &[u8], special: Special) -> Result<Vec<u32>> {
        match std::str::from_utf8(text) {
            Ok(text) => self.encode(text, special),
            Err(e) => crate::bail!(Tokenizer, "the text is not UTF-8 at byte {}", e.valid_up_to()),
        }
    }

    /// Appends the ids of `text` to `ids`.
    pub(super) fn encode_into(&self, text: &str, special: Special, ids: &mut Vec<u32>) -> Result<()> {
        let [all, plain] = &self.shared.matchers;
        let matcher = match special {
            Special::Parse => all,
            Special::AsText => plain,
        };
        let mut begin = 0;
        while let Some((index, at)) = matcher.find(text, begin) {
            let index = match special {
                Special::Parse => Some(index),
                Special::AsText => self.shared.plain_added.get(index).copied(),
            };
            let Some(token) = index.and_then(|i| self.shared.vocab.added.get(i)) else {
                crate::bail!(Internal, "a special token without a number");
            };
            let mut before = text.get(begin..at.start).unwrap_or_default();
            if token.lstrip {
                before = before.trim_end();
            }
            self.encode_words(before, ids)?;
            try_push(ids, token.id, "the tokens of a text")?;
            begin = at.end;
            if token.rstrip {
                let rest = text.get(begin..).unwrap_or_default();
                begin += rest.len() - rest.trim_start().len();
            }
        }
        self.encode_words(text.get(begin..).unwrap_or_default(), ids)
    }

    /// Appends the ids of text without tokens that are matched as a whole.
    fn encode_words(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let Shared {
            vocab, bpe, cutter, ..
        } = &*self.shared;
        let mut rest = text;
        let mut scratch = Scratch::default();
        let mut normal = String::new();
        while !rest.is_empty() {
            let (mut piece, after) = rest.split_at(self.cut(rest));
            rest = after;
            if vocab.nfc && !piece.is_ascii() {
                normal.clear();
                for (c, _) in piece.nfc() {
                    let room = normal.try_reserve(c.len_utf8());
                    room.map_err(|_| crate::err!(Resource, "no memory for a text"))?;
                    normal.push(c);
                }
                piece = &normal;
            }
            let begin = ids.len();
            cutter.words(piece, &mut |word| bpe.encode(vocab, word, &mut scratch, ids))?;
            let is_special = |id: &u32| vocab.kinds.get(*id as usize) == Some(&TokenKind::Control);
            if ids.iter().skip(begin).any(is_special) {
                crate::bail!(
                    Tokenizer,
                    "the vocabulary's merges spell a special token out of plain text; such a file is not safe to use"
                );
            }
        }
        Ok(())
    }

    /// How much of `text` is cut into words at once.
    fn cut(&self, text: &str) -> usize {
        if text.len() <= PIECE {
            return text.len();
        }
        if self.shared.can_cut {
            // The first space between two letters from PIECE on, within a word's limit.
            let mut before = None;
            for (i, c) in text.char_indices() {
                if i > WORD {
                    break;
                }
                if i >= PIECE && c == ' ' && before.is_some_and(char::is_alphabetic) {
                    let after = text.get(i + 1..).and_then(|t| t.chars().next());
                    if after.is_some_and(char::is_alphabetic) {
                        return i;
                    }
                }
                before = Some(c);
            }
        }
        let mut end = WORD.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        end
    }

    /// Text of `ids`. Bytes that are no UTF-8 become U+FFFD; ids beyond the vocabulary, holes, and
    /// (without `keep_special`) special tokens decode to nothing.
    pub fn decode(&self, ids: &[u32], keep_special: bool) -> String {
        String::from_utf8_lossy(&self.decode_bytes(ids, keep_special)).into_owned()
    }

    /// As [`decode`](Self::decode), the bytes as they are.
    pub fn decode_bytes(&self, ids: &[u32], keep_special: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for &id in ids {
            if keep_special || self.token_kind(id) != Some(TokenKind::Control) {
                out.extend_from_slice(&self.token_bytes(id));
            }
        }
        out
    }

    /// The bytes that token `id` stands for; none beyond the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let Some(spelling) = self.token_text(id) else {
            return Vec::new();
        };
        match self.token_kind(id) {
            Some(TokenKind::Control | TokenKind::UserDefined) => spelling.as_bytes().to_vec(),
            Some(TokenKind::Unused) | None => Vec::new(),
            _ => bytes::decode(spelling),
        }
    }

    /// The token that is spelled `text` in the vocabulary, by a search through all of it.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        let ids = 0..u32::try_from(self.n_vocab()).unwrap_or(u32::MAX);
        ids.into_iter().find(|&id| self.token_text(id) == Some(text))
    }

    /// The spelling of token `id` in the vocabulary.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.shared.vocab.tokens.get(id as usize).map(String::as_str)
    }

    /// What token `id` is for.
    pub fn token_kind(&self, id: u32) -> Option<TokenKind> {
        self.shared.vocab.kinds.get(id as usize).copied()
    }

    /// Ids lie below this. The model may have more columns.
    pub fn n_vocab(&self) -> usize {
        self.shared.vocab.tokens.len()
    }

    /// Ids with a meaning of their own.
    pub fn specials(&self) -> &SpecialIds {
        &self.shared.vocab.specials
    }

    /// Whether a raw text is to begin with `bos`.
    pub fn add_bos(&self) -> bool {
        self.shared.vocab.add_bos
    }

    /// Name of the pre-tokenizer among those that GGUF files use, if it is one of them.
    pub fn pre_name(&self) -> Option<&'static str> {
        pre::name_of(&self.shared.vocab.pre)
    }

    /// The merges, best first: for writers of other formats.
    pub fn merges(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let text = |id: u32| self.token_text(id).unwrap_or_default();
        let all = self.shared.vocab.merges.iter();
        all.map(move |&[left, right, _]| (text(left), text(right)))
    }

    /// A `tokenizer.json` that makes the same tokenizer: for writers of checkpoints.
    ///
    /// # Errors
    /// `Resource`.
    pub fn to_json(&self) -> Result<String> {
        super::json_write::write(&self.shared.vocab)
    }

    /// Decodes piece by piece, holding back bytes of unfinished characters.
    pub fn stream(&self, keep_special: bool) -> StreamDecoder {
        StreamDecoder::new(self.clone(), keep_special)
    }

    /// The first special token that `text` spells.
    pub(super) fn special_in<'a>(&self, text: &'a str) -> Option<&'a str> {
        let (at, _) = self.specials_in(text).next()?;
        text.get(at)
    }

    /// Where `text` spells special tokens, and their ids.
    pub(super) fn specials_in(&self, text: &str) -> impl Iterator<Item = (std::ops::Range<usize>, u32)> {
        let Shared { matchers, vocab, .. } = &*self.shared;
        let mut from = 0;
        let all = std::iter::from_fn(move || {
            let (index, at) = matchers[0].find(text, from)?;
            from = at.end;
            Some((index, at))
        });
        all.filter_map(|(index, at)| {
            let token = vocab.added.get(index).filter(|t| t.special)?;
            Some((at, token.id))
        })
    }
}
