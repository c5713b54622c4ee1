//! Decoding piece by piece.
#![forbid(unsafe_code)]

use super::tokenizer::Tokenizer;

/// Turns ids into text as they come; bytes of a character that is not whole yet are held back.
#[derive(Clone)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    keep_special: bool,
    held: Vec<u8>,
}

impl StreamDecoder {
    pub(super) fn new(tokenizer: Tokenizer, keep_special: bool) -> Self {
        Self {
            tokenizer,
            keep_special,
            held: Vec::new(),
        }
    }

    /// The text that `ids` add, as far as it is certain.
    pub fn push(&mut self, ids: &[u32]) -> String {
        self.held
            .extend(self.tokenizer.decode_bytes(ids, self.keep_special));
        let whole = self.held.len() - unfinished(&self.held);
        let rest = self.held.split_off(whole);
        let ready = std::mem::replace(&mut self.held, rest);
        String::from_utf8_lossy(&ready).into_owned()
    }

    /// What is still held back; U+FFFD for a character that never became whole.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }
}

/// How many bytes at the end begin a character and could still become one.
fn unfinished(bytes: &[u8]) -> usize {
    for n in 1..=bytes.len().min(3) {
        let Some(&lead) = bytes.get(bytes.len() - n) else {
            break;
        };
        let length = match lead {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return 0,
        };
        return if n < length { n } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_beginnings_of_characters_are_held_back() {
        assert_eq!(unfinished("a".as_bytes()), 0);
        assert_eq!(unfinished("ä".as_bytes()), 0);
        assert_eq!(unfinished(&"ä".as_bytes()[..1]), 1);
        assert_eq!(unfinished(&"中".as_bytes()[..2]), 2);
        assert_eq!(unfinished(&"🙂".as_bytes()[..3]), 3);
        assert_eq!(unfinished(&[0xFF]), 0);
        assert_eq!(unfinished(&[0x80, 0x80, 0x80, 0x80]), 0);
        assert_eq!(unfinished(&[]), 0);
    }
}
