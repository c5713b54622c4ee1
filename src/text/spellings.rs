//! Ids by spelling.
#![forbid(unsafe_code)]

use std::hash::{BuildHasher, RandomState};

use crate::error::{Result, try_vec};

/// A table with open addressing that holds ids alone: their spellings lie with the vocabulary. The hash
/// is keyed by chance, so that no file can make it slow.
#[derive(Clone, Debug)]
pub(super) struct Spellings {
    slots: Vec<u32>,
    hasher: RandomState,
}

const FREE: u32 = u32::MAX;

impl Spellings {
    /// The ids of `tokens` that `wanted` wants; of tokens that are spelled alike the first counts.
    ///
    /// # Errors
    /// `Resource`.
    pub fn new(tokens: &[String], wanted: impl Fn(usize) -> bool) -> Result<Self> {
        let n = tokens.len().saturating_mul(2).next_power_of_two();
        let mut table = Self {
            slots: try_vec(n, FREE, "the vocabulary's table")?,
            hasher: RandomState::new(),
        };
        for (i, token) in tokens.iter().enumerate().filter(|(i, _)| wanted(*i)) {
            let at = table.place(tokens, token);
            if let Some(slot) = table.slots.get_mut(at).filter(|slot| **slot == FREE) {
                *slot = u32::try_from(i).unwrap_or(FREE);
            }
        }
        Ok(table)
    }

    /// The id of `text`.
    /// - tokens: those the table was made of
    pub fn get(&self, tokens: &[String], text: &str) -> Option<u32> {
        let id = self.slots.get(self.place(tokens, text)).copied();
        id.filter(|&id| id != FREE)
    }

    /// The slot of `text`, or the one that it would get. Half of the slots are free, so there is one.
    fn place(&self, tokens: &[String], text: &str) -> usize {
        let last = self.slots.len() - 1;
        let mut at = self.hasher.hash_one(text) as usize & last;
        while let Some(&id) = self.slots.get(at) {
            if id == FREE || tokens.get(id as usize).is_some_and(|t| t == text) {
                break;
            }
            at = (at + 1) & last;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_found_and_no_other() {
        let tokens: Vec<String> = (0..1000).map(|i| format!("t{}", i % 900)).collect();
        let table = Spellings::new(&tokens, |i| i % 900 != 7).unwrap();
        for i in 0..900 {
            let expected = if i == 7 { None } else { Some(i) };
            assert_eq!(table.get(&tokens, &format!("t{i}")), expected);
        }
        assert_eq!(table.get(&tokens, "t900"), None);
        assert_eq!(Spellings::new(&[], |_| true).unwrap().get(&[], ""), None);
    }
}
