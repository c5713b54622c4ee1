//! Finds tokens that are matched as a whole.
#![forbid(unsafe_code)]

use std::ops::Range;

use crate::error::{Result, try_push};

/// A trie of patterns: at the first place where one begins, the longest is found. The time for a byte of
/// text is bounded by the longest pattern, which the vocabulary bounds.
pub(super) struct Matcher {
    /// In the order of their levels: the children of a node stand one after the other.
    nodes: Vec<Node>,
}

struct Node {
    /// Which bytes go on.
    bytes: [u64; 4],
    /// The child of the least of them.
    first: u32,
    /// What ends here.
    pattern: Option<u32>,
}

impl Matcher {
    /// Of patterns that are equal the first is found. Empty ones are not.
    ///
    /// # Errors
    /// `Resource`.
    pub fn new(patterns: &[&str]) -> Result<Self> {
        const WHAT: &str = "the special tokens' table";
        let mut order: Vec<u32> = Vec::new();
        for i in (0u32..).zip(patterns).map(|(i, _)| i) {
            try_push(&mut order, i, WHAT)?;
        }
        let text = |i: u32| patterns.get(i as usize).map_or(&[][..], |p| p.as_bytes());
        order.sort_unstable_by(|&a, &b| text(a).cmp(text(b)).then(a.cmp(&b)));
        let (mut nodes, mut spans) = (Vec::new(), Vec::new());
        try_push(&mut spans, 0..order.len(), WHAT)?;
        let (mut depth, mut level_end) = (0, 1);
        let mut i = 0;
        while let Some(span) = spans.get(i).cloned() {
            if i == level_end {
                (depth, level_end) = (depth + 1, spans.len());
            }
            let mut node = Node {
                bytes: [0; 4],
                first: u32::try_from(spans.len()).unwrap_or(u32::MAX),
                pattern: None,
            };
            let mut last = None;
            for at in span {
                let pattern = order.get(at).copied().unwrap_or(0);
                match text(pattern).get(depth) {
                    // A pattern comes before those that it begins.
                    None if depth > 0 => node.pattern = node.pattern.or(Some(pattern)),
                    None => {}
                    Some(&byte) if last == Some(byte) => {
                        if let Some(span) = spans.last_mut() {
                            span.end = at + 1;
                        }
                    }
                    Some(&byte) => {
                        last = Some(byte);
                        node.bytes[usize::from(byte >> 6)] |= 1 << (byte & 63);
                        try_push(&mut spans, at..at + 1, WHAT)?;
                    }
                }
            }
            try_push(&mut nodes, node, WHAT)?;
            i += 1;
        }
        Ok(Self { nodes })
    }

    /// The first pattern in `text` from `from` on: its number and where it stands.
    pub fn find(&self, text: &str, from: usize) -> Option<(usize, Range<usize>)> {
        let bytes = text.as_bytes();
        (from..bytes.len()).find_map(|begin| {
            let (pattern, n) = self.longest(bytes.get(begin..).unwrap_or_default())?;
            Some((pattern, begin..begin + n))
        })
    }

    /// The longest pattern that `bytes` begins with, and its length.
    fn longest(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let mut node = self.nodes.first()?;
        let mut found = None;
        for (i, &byte) in bytes.iter().enumerate() {
            let Some(next) = node.child(byte).and_then(|at| self.nodes.get(at)) else {
                break;
            };
            node = next;
            if let Some(pattern) = node.pattern {
                found = Some((pattern as usize, i + 1));
            }
        }
        found
    }
}

impl Node {
    fn child(&self, byte: u8) -> Option<usize> {
        let (word, bit) = (usize::from(byte >> 6), 1u64 << (byte & 63));
        if self.bytes[word] & bit == 0 {
            return None;
        }
        let before: u32 = self.bytes[..word].iter().map(|w| w.count_ones()).sum();
        let here = (self.bytes[word] & (bit - 1)).count_ones();
        Some(self.first as usize + (before + here) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(patterns: &[&str], text: &str) -> Vec<(usize, Range<usize>)> {
        let matcher = Matcher::new(patterns).unwrap();
        let mut found = Vec::new();
        let mut from = 0;
        while let Some((pattern, at)) = matcher.find(text, from) {
            from = at.end;
            found.push((pattern, at));
        }
        found
    }

    #[test]
    fn the_leftmost_and_of_those_the_longest() {
        assert_eq!(all(&["ab", "abcd", "bcx"], "abcx"), [(0, 0..2)]);
        assert_eq!(all(&["ab", "abcd", "bcx"], "abcd"), [(1, 0..4)]);
        assert_eq!(all(&["abcd", "bc"], "abcebcd"), [(1, 1..3), (1, 4..6)]);
        assert_eq!(all(&["a", "a", ""], "xaa"), [(0, 1..2), (0, 2..3)]);
        assert_eq!(all(&["ß", "中文"], "a中ß中文"), [(0, 4..6), (1, 6..12)]);
        assert_eq!(all(&[], "abc"), []);
        assert_eq!(all(&["abc"], ""), []);
    }

    proptest::proptest! {
        #[test]
        fn as_a_search_by_hand(
            patterns in proptest::collection::vec("[abß]{0,4}", 0..8), text in "[abcß]{0,40}"
        ) {
            let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
            let mut expected = Vec::new();
            let mut at = 0;
            while at < text.len() {
                let here = |p: &&str| !p.is_empty() && text.as_bytes()[at..].starts_with(p.as_bytes());
                let longest = patterns.iter().filter(|p| here(p)).map(|p| p.len()).max();
                match longest {
                    Some(n) => {
                        let which = patterns.iter().position(|p| here(p) && p.len() == n).unwrap();
                        expected.push((which, at..at + n));
                        at += n;
                    }
                    None => at += 1,
                }
            }
            proptest::prop_assert_eq!(all(&patterns, &text), expected);
        }
    }
}
