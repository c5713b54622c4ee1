//! What a session has done.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Counts since a session was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// Runs begun.
    pub n_runs: u64,
    /// Steps done in them.
    pub n_steps: u64,
    /// Function evaluations: forward passes of one canvas, in runs, scores, logits and hidden states.
    pub nfe: u64,
    /// Time spent in them.
    pub elapsed: Duration,
}

impl SessionStats {
    pub(super) fn add(&mut self, nfe: u64, elapsed: Duration) {
        self.nfe += nfe;
        self.elapsed += elapsed;
    }
}
