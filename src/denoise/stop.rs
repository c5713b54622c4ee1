//! When a response is over before its last slot.
#![forbid(unsafe_code)]

use super::params::Params;
use crate::canvas::{Canvas, Slot, Token};

/// Ends responses by what they say. The session's rule decodes the tokens and looks for stop texts.
pub trait StopRule {
    /// How many of `response`, the filled beginning of a response, are to be kept; `None` to go on.
    fn settled_end(&mut self, sequence: usize, response: &[Token]) -> Option<usize>;
}

/// Where the response ends by an end-of-sequence or end-of-turn token: its slot, once everything in the
/// response before it is filled.
pub(super) fn eos_end(canvas: &Canvas, response_start: usize, params: &Params) -> Option<usize> {
    if !params.stop_at_eos {
        return None;
    }
    let settled = settled(canvas, response_start);
    let is_end = |t: &Token| params.eos == Some(*t) || params.eot == Some(*t);
    settled.iter().position(is_end).map(|i| response_start + i)
}

/// The filled beginning of the response.
pub(super) fn settled(canvas: &Canvas, response_start: usize) -> &[Token] {
    let slots = canvas.slots().get(response_start..).unwrap_or_default();
    let n = slots
        .iter()
        .position(|&s| s == Slot::Masked)
        .unwrap_or(slots.len());
    canvas
        .tokens()
        .get(response_start..response_start + n)
        .unwrap_or_default()
}
