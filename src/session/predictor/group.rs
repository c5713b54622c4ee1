//! Parts of several canvases that one graph computes together: the weights are then read once for all of
//! them, and products have more rows.
#![forbid(unsafe_code)]

use crate::canvas::Token;
use crate::graph::{AttentionKind, CacheShape, PartShape};
use crate::weights::Placement;

/// The most parts of a group.
pub(super) const MAX_PARTS: usize = 16;

/// A stretch of a canvas that a graph computes.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    /// The tokens that are computed.
    pub tokens: &'a [Token],
    /// Position of the first.
    pub begin: usize,
    /// Slots whose logits are wanted, by position.
    pub rows: &'a [u32],
    /// What the graph has for it.
    pub shape: PartShape,
    /// The region of the cache that is filled with it.
    pub fills: Option<usize>,
}

impl Part<'_> {
    /// What stands where there is no part.
    pub const NONE: Self = Self {
        tokens: &[],
        begin: 0,
        rows: &[],
        shape: PartShape {
            n_tokens: 0,
            n_rows: 0,
            attention: AttentionKind::Exact,
            cache: CacheShape::Off,
        },
        fills: None,
    };
}

/// What may be computed together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Parts.
    pub n_parts: usize,
    /// Slots that a part must have. Products of fewer rows may be by other kernels, whose last digits differ.
    pub least: usize,
    /// Slots in all.
    pub n_tokens: usize,
    /// Rows of logits in all.
    pub n_rows: usize,
}

impl Limits {
    /// On a CPU: from 128 rows on a product is bound by arithmetic, and a larger one gains nothing. Parts
    /// of 8 slots give the same bits alone and together.
    pub const CPU: Self = Self {
        n_parts: MAX_PARTS,
        least: 8,
        n_tokens: 128,
        n_rows: 128,
    };

    /// On other devices: within the canvas that memory is kept free for, see `device::place`.
    pub const DEVICE: Self = Self {
        n_parts: MAX_PARTS,
        least: 1,
        n_tokens: 1024,
        n_rows: 256,
    };

    /// Where devices share every layer: ggml has room for 16 views of a state (`compute_headroom`,
    /// ggml-backend-meta.cpp:1725), and a graph has one and three for each part.
    pub const JOINED: Self = Self {
        n_parts: 5,
        ..Self::DEVICE
    };

    /// Nothing.
    pub const NONE: Self = Self {
        n_parts: 1,
        ..Self::CPU
    };

    /// Those of where a model's layers are.
    pub fn of(placement: &Placement) -> Self {
        match (placement.devices().is_empty(), &placement.parts) {
            (true, _) => Self::CPU,
            (false, None) => Self::DEVICE,
            (false, Some(_)) => Self::JOINED,
        }
    }

    fn may_join(&self, part: &PartShape) -> bool {
        // What is chosen by how much it changed is chosen among all slots of a graph.
        part.n_tokens >= self.least && !part.cache.has_features()
    }

    /// How many of the first parts are computed together, at least one. `part(i)` is part i.
    pub fn n_together(&self, n_parts: usize, part: impl Fn(usize) -> PartShape) -> usize {
        let (mut n_tokens, mut most_rows) = (0, 0);
        let most = n_parts.min(self.n_parts);
        for i in 0..most {
            let next = part(i);
            n_tokens += next.n_tokens;
            most_rows = next.n_rows.max(most_rows);
            let fits = n_tokens <= self.n_tokens && most_rows * (i + 1) <= self.n_rows;
            if !(fits && self.may_join(&next)) {
                return i.max(1);
            }
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(n_tokens: usize, n_rows: usize) -> PartShape {
        PartShape {
            n_tokens,
            n_rows,
            attention: AttentionKind::Exact,
            cache: CacheShape::Off,
        }
    }

    fn together(limits: Limits, parts: &[PartShape]) -> usize {
        limits.n_together(parts.len(), |i| parts[i])
    }

    #[test]
    fn parts_are_taken_up_to_the_limits() {
        let limits = Limits {
            n_parts: MAX_PARTS,
            least: 8,
            n_tokens: 100,
            n_rows: 60,
        };
        assert_eq!(together(limits, &[part(32, 8); 8]), 3);
        // Rows count as many for each part as the part with the most has.
        assert_eq!(together(limits, &[part(8, 4), part(24, 24), part(8, 4)]), 2);
        assert_eq!(together(limits, &[part(10, 4); 40]), 10);
        assert_eq!(together(Limits::DEVICE, &[part(1, 1); 40]), MAX_PARTS);
        assert_eq!(together(Limits::JOINED, &[part(1, 1); 40]), 5);
    }

    #[test]
    fn what_may_not_join_is_alone() {
        assert_eq!(together(Limits::CPU, &[part(500, 9); 3]), 1);
        assert_eq!(together(Limits::CPU, &[part(7, 7); 3]), 1);
        assert_eq!(together(Limits::CPU, &[part(20, 7), part(7, 7)]), 1);
        assert_eq!(together(Limits::NONE, &[part(20, 7); 2]), 1);
        let mut kept = part(20, 7);
        kept.cache = CacheShape::Fill {
            first: 0,
            features: true,
        };
        assert_eq!(together(Limits::CPU, &[part(20, 7), part(20, 7), kept]), 2);
        assert_eq!(together(Limits::CPU, &[kept; 2]), 1);
    }
}
