//! Stop texts: the response ends before the first of them.
#![forbid(unsafe_code)]

use crate::canvas::Token;
use crate::denoise::StopRule;
use crate::error::Result;
use crate::text::Tokenizer;

/// Longest stop text, in bytes, and how many there may be.
const MAX_STOP: usize = 4096;

/// Looks for stop texts in what is settled, decoding what is new.
pub(super) struct StopTexts {
    tokenizer: Tokenizer,
    stop: Vec<String>,
    seen: Vec<Seen>,
}

/// The decoded beginning of one response.
#[derive(Clone, Default)]
struct Seen {
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<usize>,
}

impl StopTexts {
    pub fn new(tokenizer: &Tokenizer, stop: &[String], n_sequences: usize) -> Result<Self> {
        for text in stop {
            if text.is_empty() || text.len() > MAX_STOP {
                crate::bail!(
                    InvalidArgument,
                    "a stop text has {} bytes; it must have 1 to {MAX_STOP}",
                    text.len()
                );
            }
        }
        if stop.len() > MAX_STOP {
            crate::bail!(
                InvalidArgument,
                "{} stop texts; the limit is {MAX_STOP}",
                stop.len()
            );
        }
        Ok(Self {
            tokenizer: tokenizer.clone(),
            stop: stop.to_vec(),
            seen: vec![Seen::default(); n_sequences],
        })
    }
}

impl StopRule for StopTexts {
    fn settled_end(&mut self, sequence: usize, response: &[Token]) -> Option<usize> {
        let seen = self.seen.get_mut(sequence)?;
        let from = seen.bytes.len();
        for &token in response.get(seen.ends.len()..)? {
            seen.bytes.extend(self.tokenizer.token_bytes(token));
            seen.ends.push(seen.bytes.len());
        }
        let longest = self.stop.iter().map(String::len).max().unwrap_or(1);
        let begin = from.saturating_sub(longest - 1);
        let window = seen.bytes.get(begin..)?;
        let first = self
            .stop
            .iter()
            .filter_map(|text| find(window, text.as_bytes()))
            .min()?
            + begin;
        // The token in which the stop text begins goes too.
        Some(seen.ends.iter().filter(|&&end| end <= first).count())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}
