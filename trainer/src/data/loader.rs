//! Batches from shards, in an order that follows from a seed: where it stands is three numbers.

use std::path::PathBuf;

use remask::{Result, Token};
use serde::{Deserialize, Serialize};

use super::prepare::Manifest;
use super::shard::{Shard, data};
use crate::objective::Example;

/// Where a loader stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Times that all was read.
    pub epoch: u64,
    /// What was read of this time.
    pub next: u64,
}

/// What is read at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// So many tokens of one long stream.
    Stream,
    /// A document.
    Example,
    /// Two documents: answers to one prompt, the chosen one first.
    Pair,
}

/// Reads sequences of `length` tokens, or whole examples, in random order.
#[derive(Debug)]
pub struct Loader {
    shards: Vec<Shard>,
    manifests: Vec<Manifest>,
    length: usize,
    unit: Unit,
    seed: u64,
    /// Sequences before each shard, and all of them at the end.
    starts: Vec<u64>,
    /// What may be read: shard and (first) document. Not of a stream.
    examples: Vec<(u32, u32)>,
    position: Position,
}

impl Loader {
    /// Opens prepared folders. Documents longer than `length` are passed over, but for a stream, which is
    /// cut.
    ///
    /// # Errors
    /// `Io`, `Data`, naming folder or file.
    pub fn open(folders: &[PathBuf], length: usize, unit: Unit, seed: u64) -> Result<Self> {
        let (mut shards, mut manifests) = (Vec::new(), Vec::new());
        for folder in folders {
            let manifest = Manifest::read(folder)?;
            if manifest.pairs != (unit == Unit::Pair) {
                return Err(data(match manifest.pairs {
                    true => format!(
                        "{}: has pairs of chosen and rejected answers, which only objective.kind = \"preference\" learns from",
                        folder.display()
                    ),
                    false => format!(
                        "{}: has no pairs; prepare lines with `prompt`, `chosen` and `rejected`",
                        folder.display()
                    ),
                }));
            }
            for info in &manifest.shards {
                let shard = Shard::open(&folder.join(&info.file))?;
                if (shard.n_tokens(), shard.n_documents() as u64) != (info.n_tokens, info.n_documents) {
                    return Err(data(format!(
                        "{}: is not the shard that manifest.json describes",
                        folder.join(&info.file).display()
                    )));
                }
                shards.push(shard);
            }
            manifests.push(manifest);
        }
        let mut loader = Self {
            shards,
            manifests,
            length,
            unit,
            seed,
            starts: vec![0],
            examples: Vec::new(),
            position: Position::default(),
        };
        loader.count();
        if loader.n_sequences() == 0 {
            let names: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
            return Err(data(format!(
                "{}: no sequence of {length} tokens",
                names.join(", ")
            )));
        }
        Ok(loader)
    }

    fn count(&mut self) {
        for (i, shard) in self.shards.iter().enumerate() {
            let step = if self.unit == Unit::Pair { 2 } else { 1 };
            let short = |j: usize| j < shard.n_documents() && shard.length_of(j) <= self.length as u64;
            let n = match self.unit {
                Unit::Stream => self.n_sequences() + shard.n_tokens() / self.length as u64,
                _ => {
                    let all = (0..shard.n_documents()).step_by(step);
                    let fitting = all.filter(|&j| (j..j + step).all(short));
                    self.examples.extend(fitting.map(|j| (i as u32, j as u32)));
                    self.examples.len() as u64
                }
            };
            self.starts.push(n);
        }
    }

    /// Sequences of one time through all.
    pub fn n_sequences(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// What was prepared.
    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    /// Where it stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes there.
    pub fn seek(&mut self, position: Position) {
        self.position = position;
    }

    /// The next sequence (two of a pair), and the document that each of its tokens is of.
    ///
    /// # Errors
    /// `Io`, naming the shard.
    pub fn next_examples(&mut self) -> Result<(Vec<Example>, Vec<u32>)> {
        let n = self.n_sequences();
        if self.position.next >= n {
            self.position = Position {
                epoch: self.position.epoch + 1,
                next: 0,
            };
        }
        let i = permute(
            self.position.next,
            n,
            self.seed ^ self.position.epoch.wrapping_mul(0x9E37_79B9),
        );
        self.position.next += 1;
        if self.unit != Unit::Stream {
            let (shard, document) = self.examples[i as usize];
            let shard = &self.shards[shard as usize];
            let first = document as usize;
            let last = if self.unit == Unit::Pair { first + 1 } else { first };
            let examples: Result<Vec<Example>> = (first..=last).map(|j| shard.document(j)).collect();
            return Ok((examples?, Vec::new()));
        }
        let at = self.starts.partition_point(|&s| s <= i) - 1;
        let shard = &self.shards[at];
        let (n_tokens, length) = (shard.n_tokens(), self.length as u64);
        // Each time through, the cuts fall elsewhere.
        let shift = hash(self.seed.wrapping_add(self.position.epoch)) % (n_tokens % length + 1);
        let begin = (i - self.starts[at]) * length + shift;
        let tokens = shard.tokens(begin, self.length)?;
        let first = shard.document_of(begin) as u32;
        let numbers = (0..length).map(|k| shard.document_of(begin + k) as u32 - first);
        let numbers = numbers.collect();
        Ok((vec![Example { tokens, n_prompt: 0 }], numbers))
    }

    /// The next `n`, all of the same length: shorter ones are padded with `eos`, which is part of their
    /// answers.
    ///
    /// # Errors
    /// As [`next_examples`](Self::next_examples).
    pub fn next_batch(&mut self, n: usize, eos: Token) -> Result<(Vec<Example>, Vec<u32>)> {
        let (mut examples, mut numbers) = (Vec::with_capacity(n), Vec::new());
        for _ in 0..n {
            let (own_examples, own) = self.next_examples()?;
            examples.extend(own_examples);
            numbers.extend(own);
        }
        let longest = examples.iter().map(|e| e.tokens.len()).max().unwrap_or(0);
        if self.unit != Unit::Stream {
            // Few different lengths, so that memory is used again.
            let length = longest.next_multiple_of(16).min(self.length);
            for example in &mut examples {
                example.tokens.resize(length, eos);
            }
        }
        Ok((examples, numbers))
    }

    /// Fixed sequences from the beginning, for an evaluation: always the same.
    ///
    /// # Errors
    /// As [`next_examples`](Self::next_examples).
    pub fn first(&mut self, n: usize) -> Result<Vec<Example>> {
        let before = self.position;
        self.position = Position::default();
        let n = n.min(usize::try_from(self.n_sequences()).unwrap_or(usize::MAX));
        let found: Result<Vec<_>> = (0..n).map(|_| Ok(self.next_examples()?.0)).collect();
        self.position = before;
        Ok(found?.into_iter().flatten().collect())
    }
}

fn hash(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The `i`-th of 0..n in an order that follows from `seed`: a Feistel network over the next power of 4,
/// walked until it is inside. No table, and any place is reached at once.
fn permute(i: u64, n: u64, seed: u64) -> u64 {
    let bits = (64 - (n.max(2) - 1).leading_zeros()).div_ceil(2);
    let mask = (1u64 << bits) - 1;
    let mut x = i;
    loop {
        let (mut left, mut right) = (x >> bits, x & mask);
        for round in 0..4 {
            let mixed = hash(seed.wrapping_add(round << 32).wrapping_add(right)) & mask;
            (left, right) = (right, left ^ mixed);
        }
        x = left << bits | right;
        if x < n {
            return x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_everything_once() {
        for n in [1, 2, 3, 7, 64, 100, 1000] {
            for seed in [0, 1] {
                let mut all: Vec<u64> = (0..n).map(|i| permute(i, n, seed)).collect();
                if n == 1000 {
                    let fixed = all.iter().enumerate().filter(|(i, x)| *i as u64 == **x).count();
                    assert!(fixed < 10, "{fixed}");
                }
                all.sort_unstable();
                assert!(all.iter().copied().eq(0..n), "{n} {seed}");
            }
        }
    }
}
