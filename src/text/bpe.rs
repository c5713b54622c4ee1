//! Byte-level BPE: the bytes of a word, merged pair by pair, the best pair first (Sennrich et al., arXiv
//! 1508.07909), with the ties that the `tokenizers` crate has (`models/bpe/word.rs`).
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::bytes;
use super::vocab::Vocabulary;
use crate::error::{Result, try_push};

/// Merges by pair, and the token of every byte.
pub(super) struct Bpe {
    /// Rank and result. The hash is keyed by chance.
    merges: HashMap<[u32; 2], [u32; 2]>,
    bytes: Vec<Option<u32>>,
    chars: Vec<char>,
}

/// What one word after the other is merged in.
#[derive(Default)]
pub(super) struct Scratch {
    symbols: Vec<Symbol>,
    /// The best pair first: rank, place, result.
    queue: BinaryHeap<Reverse<[u32; 3]>>,
    spelled: String,
}

#[derive(Clone, Copy)]
struct Symbol {
    token: u32,
    before: u32,
    after: u32,
}

/// No neighbour.
const NONE: u32 = u32::MAX;
/// The token of a symbol that is part of another now.
const GONE: u32 = u32::MAX;

impl Bpe {
    /// # Errors
    /// `Resource`.
    pub fn new(vocab: &Vocabulary) -> Result<Self> {
        let mut merges = HashMap::new();
        merges
            .try_reserve(vocab.merges.len())
            .map_err(|_| crate::err!(Resource, "no memory for {} merges", vocab.merges.len()))?;
        for (rank, &[left, right, whole]) in (0u32..).zip(&vocab.merges) {
            merges.insert([left, right], [rank, whole]);
        }
        let chars: Vec<char> = (0..=255).map(bytes::to_char).collect();
        let mut spelling = [0u8; 4];
        let token = |c: &char| vocab.id(c.encode_utf8(&mut spelling));
        Ok(Self {
            merges,
            bytes: chars.iter().map(token).collect(),
            chars,
        })
    }

    /// The first byte that the vocabulary has no token for: text with it loses it.
    pub fn missing(&self) -> Option<usize> {
        self.bytes.iter().position(Option::is_none)
    }

    /// Appends the tokens of `word`.
    ///
    /// # Errors
    /// `Resource`.
    pub fn encode(&self, vocab: &Vocabulary, word: &str, s: &mut Scratch, ids: &mut Vec<u32>) -> Result<()> {
        const WHAT: &str = "the tokens of a text";
        if vocab.ignore_merges {
            s.spelled.clear();
            // A spelling takes up to two bytes for one.
            let room = s.spelled.try_reserve(word.len() * 2);
            room.map_err(|_| crate::err!(Resource, "no memory for a word of {} bytes", word.len()))?;
            let spelled = word.bytes().filter_map(|b| self.chars.get(usize::from(b)));
            s.spelled.extend(spelled);
            if let Some(id) = vocab.id(&s.spelled) {
                return try_push(ids, id, WHAT);
            }
        }
        s.symbols.clear();
        for byte in word.bytes() {
            // Bytes without a token are left out, as the crate does.
            if let Some(&Some(token)) = self.bytes.get(usize::from(byte)) {
                let at = s.symbols.len() as u32;
                let symbol = Symbol {
                    token,
                    before: at.checked_sub(1).unwrap_or(NONE),
                    after: at + 1,
                };
                try_push(&mut s.symbols, symbol, WHAT)?;
            }
        }
        if let Some(last) = s.symbols.last_mut() {
            last.after = NONE;
        }
        self.merge(s)?;
        for symbol in s.symbols.iter().filter(|s| s.token != GONE) {
            try_push(ids, symbol.token, WHAT)?;
        }
        Ok(())
    }

    fn merge(&self, s: &mut Scratch) -> Result<()> {
        s.queue.clear();
        for at in 0..s.symbols.len() as u32 {
            self.offer(s, at)?;
        }
        while let Some(Reverse([_, at, whole])) = s.queue.pop() {
            let Some(&left) = s.symbols.get(at as usize) else {
                continue;
            };
            let Some(&right) = s.symbols.get(left.after as usize) else {
                continue;
            };
            // What was queued may be about symbols that are others now.
            let now = self.merges.get(&[left.token, right.token]);
            if left.token == GONE || now.is_none_or(|&[_, result]| result != whole) {
                continue;
            }
            set(s, left.after, |gone| gone.token = GONE);
            set(s, right.after, |next| next.before = at);
            set(s, at, |merged| {
                (merged.token, merged.after) = (whole, right.after)
            });
            self.offer(s, left.before)?;
            self.offer(s, at)?;
        }
        Ok(())
    }

    /// Queues the pair that begins with symbol `at`, if there is one and it merges.
    fn offer(&self, s: &mut Scratch, at: u32) -> Result<()> {
        let left = s.symbols.get(at as usize).copied();
        let right = left.and_then(|l| s.symbols.get(l.after as usize));
        let (Some(left), Some(right)) = (left, right) else {
            return Ok(());
        };
        if let Some(&[rank, whole]) = self.merges.get(&[left.token, right.token]) {
            let room = s.queue.try_reserve(1);
            room.map_err(|_| crate::err!(Resource, "no memory to merge {} bytes", s.symbols.len()))?;
            s.queue.push(Reverse([rank, at, whole]));
        }
        Ok(())
    }
}

fn set(s: &mut Scratch, at: u32, change: impl FnOnce(&mut Symbol)) {
    if let Some(symbol) = s.symbols.get_mut(at as usize) {
        change(symbol);
    }
}
