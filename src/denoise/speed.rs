//! Presets: how much speed for how much change.
#![forbid(unsafe_code)]

use super::cache::Cache;
use super::params::{Commit, Params};

/// A choice of rules by what the table of `docs/speed.md` shows of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Speed {
    /// Nothing is approximate: a token a step, nothing kept.
    #[default]
    Exact,
    /// The fastest rules that leave nine texts in ten as they are, and no task worse than by its standard
    /// error.
    Balanced,
    /// Faster still; answers change. Only for responses at the end of the canvas: it has a suffix window.
    Fast,
}

impl Speed {
    /// The rules: parameters that are [`Params::default`] but for them.
    pub fn params(self) -> Params {
        match self {
            Self::Exact => Params::default(),
            Self::Balanced => Params {
                commit: Commit::Threshold(0.9),
                cache: Cache::Dual,
                cache_refresh: 4,
                ..Params::default()
            },
            Self::Fast => Params {
                commit: Commit::Threshold(0.9),
                cache: Cache::Dual,
                suffix_window: Some(16),
                ..Params::default()
            },
        }
    }
}
