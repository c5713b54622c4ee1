//! A switch that stops a run.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Stops every run that was given it. Clones share one switch. Setting it is a single atomic store:
/// allowed from any thread and from a signal handler.
#[derive(Clone, Debug, Default)]
pub struct CancelToken {
    flag: Arc<AtomicBool>,
}

impl CancelToken {
    /// A token that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the runs.
    pub fn set(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Makes the token usable again.
    pub fn reset(&self) {
        self.flag.store(false, Ordering::Relaxed);
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// The switch itself, for those who poll it inside a computation.
    pub(crate) fn flag(&self) -> &Arc<AtomicBool> {
        &self.flag
    }
}
