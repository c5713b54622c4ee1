//! The tokenizer: text to ids and back.
#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::Tokenizer as Crate;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;

use super::bytes;
use super::json;
use super::pre;
use super::stream::StreamDecoder;
use super::vocab::{SpecialIds, TokenKind, VocabSpec, Vocabulary};
use crate::error::{Error, Result};

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
    bpe: Crate,
    /// All tokens that are matched as a whole, and those of them that are not special. Patterns are in
    /// the order of `vocab.added`.
    matchers: [Option<AhoCorasick>; 2],
    plain_added: Vec<usize>,
    /// Whether long text may be cut before a space between letters.
    can_cut: bool,
}

/// Text longer than this is cut into pieces before it reaches the crate, which keeps its time and
/// memory linear. Cuts fall where every pre-tokenizer here cuts too: before a space between letters.
const PIECE: usize = 16 << 10;
/// What a token or a merge takes in the tables of the crate and of the matcher, about.
const TOKEN_MEMORY: usize = 512;
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
        for byte in 0..=255u8 {
            let spelling = bytes::to_char(byte).to_string();
            if !vocab.tokens.contains(&spelling) {
                crate::log!(
                    Warn,
                    "the vocabulary has no token for byte {byte}; text with it loses it"
                );
                break;
            }
        }
        let n = vocab.tokens.len() + vocab.merges.len();
        crate::error::probe_memory(n * TOKEN_MEMORY, "the tokenizer's tables")?;
        let bpe = guarded("build", || build_crate(&vocab))?;
        let plain_added: Vec<usize> = (0..vocab.added.len())
            .filter(|&i| !vocab.added[i].special)
            .collect();
        let matcher = |patterns: Vec<&str>| -> Result<Option<AhoCorasick>> {
            if patterns.is_empty() {
                return Ok(None);
            }
            let built = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(patterns);
            built
                .map(Some)
                .map_err(|e| crate::err!(Tokenizer, "the special tokens cannot be matched: {e}"))
        };
        let all = matcher(vocab.added.iter().map(|t| t.content.as_str()).collect())?;
        let plain = matcher(
            plain_added
                .iter()
                .map(|&i| vocab.added[i].content.as_str())
                .collect(),
        )?;
        let can_cut = vocab
            .added
            .iter()
            .all(|t| !t.content.contains(' ') && !t.lstrip && !t.rstrip);
        let shared = Shared {
            vocab,
            bpe,
            matchers: [all, plain],
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
        let Some(matcher) = matcher else {
            return self.encode_words(text, ids);
        };
        let mut begin = 0;
        for found in matcher.find_iter(text) {
            let index = found.pattern().as_usize();
            let index = match special {
                Special::Parse => Some(index),
                Special::AsText => self.shared.plain_added.get(index).copied(),
            };
            let Some(token) = index.and_then(|i| self.shared.vocab.added.get(i)) else {
                continue;
            };
            let mut before = text.get(begin..found.start()).unwrap_or_default();
            if token.lstrip {
                before = before.trim_end();
            }
            self.encode_words(before, ids)?;
            ids.push(token.id);
            begin = found.end();
            if token.rstrip {
                let rest = text.get(begin..).unwrap_or_default();
                begin += rest.len() - rest.trim_start().len();
            }
        }
        self.encode_words(text.get(begin..).unwrap_or_default(), ids)
    }

    /// Appends the ids of text without tokens that are matched as a whole.
    fn encode_words(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(self.cut(rest));
            rest = after;
            let encoding = guarded("encode text", || {
                self.shared
                    .bpe
                    .encode_fast(piece, false)
                    .map_err(|e| e.to_string())
            })?;
            let kinds = &self.shared.vocab.kinds;
            let is_special = |id: &u32| kinds.get(*id as usize) == Some(&TokenKind::Control);
            if encoding.get_ids().iter().any(is_special) {
                crate::bail!(
                    Tokenizer,
                    "the vocabulary's merges spell a special token out of plain text; such a file is not safe to use"
                );
            }
            ids.extend_from_slice(encoding.get_ids());
        }
        Ok(())
    }

    /// How much of `text` goes to the crate at once.
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
        self.shared
            .vocab
            .merges
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
    }

    /// A `tokenizer.json` that makes the same tokenizer: for writers of checkpoints.
    pub fn to_json(&self) -> String {
        super::json_write::write(&self.shared.vocab)
    }

    /// Decodes piece by piece, holding back bytes of unfinished characters.
    pub fn stream(&self, keep_special: bool) -> StreamDecoder {
        StreamDecoder::new(self.clone(), keep_special)
    }

    /// The first special token that `text` spells.
    pub(super) fn special_in<'a>(&self, text: &'a str) -> Option<&'a str> {
        let matcher = self.shared.matchers[0].as_ref()?;
        let special = |i: usize| self.shared.vocab.added.get(i).is_some_and(|t| t.special);
        let found = matcher
            .find_iter(text)
            .find(|m| special(m.pattern().as_usize()))?;
        text.get(found.range())
    }

    /// Where `text` spells special tokens, and their ids.
    pub(super) fn specials_in(&self, text: &str) -> Vec<(std::ops::Range<usize>, u32)> {
        let Some(matcher) = self.shared.matchers[0].as_ref() else {
            return Vec::new();
        };
        let token = |i: usize| self.shared.vocab.added.get(i).filter(|t| t.special);
        let found = matcher.find_iter(text);
        found
            .filter_map(|m| Some((m.range(), token(m.pattern().as_usize())?.id)))
            .collect()
    }
}

fn build_crate(vocab: &Vocabulary) -> std::result::Result<Crate, String> {
    // Holes have no spelling; of tokens spelled alike the first is the one that text becomes.
    let mut map = Vocab::default();
    for (i, token) in vocab.tokens.iter().enumerate() {
        if !token.is_empty() && vocab.kinds.get(i) != Some(&TokenKind::Unused) {
            map.entry(token.clone()).or_insert(i as u32);
        }
    }
    let bpe = BPE::builder()
        .vocab_and_merges(map, vocab.merges.clone())
        .ignore_merges(vocab.ignore_merges)
        .build()
        .map_err(|e| e.to_string())?;
    let mut built = Crate::new(bpe);
    built.with_pre_tokenizer(Some(vocab.pre.build().map_err(|e| e.to_string())?));
    if vocab.nfc {
        built.with_normalizer(Some(NFC));
    }
    Ok(built)
}

/// Runs a piece of the crate. It was given nothing that is known to make it panic; what still does is
/// an error and not the end of the host.
fn guarded<T>(what: &str, call: impl FnOnce() -> std::result::Result<T, String>) -> Result<T> {
    let outcome = catch_unwind(AssertUnwindSafe(call));
    let done = outcome.unwrap_or_else(|_| Err("the tokenizer library panicked".to_owned()));
    done.map_err(|e| Error::new(crate::error::ErrorKind::Tokenizer, format!("cannot {what}: {e}")))
}
