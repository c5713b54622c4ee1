//! The graphs that a run needs, by shape, built before its first step.
#![forbid(unsafe_code)]

use super::{Limits, MAX_GRAPHS, NetworkPredictor, peaks};
use crate::denoise::{Branch, PassShape, Reduction};
use crate::error::{ErrorKind, Result};
use crate::graph::{AttentionKind, CacheShape, GraphShape, HeadShape, PartShape};
use crate::session::Flash;

/// Canvases from this length on use flash attention under [`Flash::Auto`]: below it the exact path is
/// as fast and its score matrix small.
const FLASH_FROM: usize = 1024;

impl NetworkPredictor {
    /// Builds the graphs for queries of these kinds, so that the steps of a run find them: as many as are
    /// kept at a time. With `reduction` their rows are reduced, where this predictor does that.
    pub fn reserve(
        &mut self,
        passes: impl Iterator<Item = PassShape>,
        (cached, guided): (bool, bool),
        reduction: Option<&Reduction>,
    ) -> Result<()> {
        let passes: Vec<PassShape> = passes.collect();
        let mut shapes = Vec::new();
        self.shapes_together(&passes, (cached, guided), &mut shapes)?;
        for pass in &passes {
            self.shapes_alone(pass, cached, &mut shapes)?;
        }
        let head = match reduction.filter(|r| self.reduces(r)) {
            Some(reduction) => peaks::head(reduction, self.model.sizes().n_vocab),
            None => HeadShape::Logits,
        };
        shapes.iter_mut().for_each(|s| s.head = head);
        let known = |shape: &GraphShape| self.graphs.iter().any(|g| g.shape == *shape);
        let n_new = shapes.iter().filter(|s| !known(s)).count();
        if self.graphs.len() + n_new > MAX_GRAPHS {
            self.forget_graphs();
        }
        shapes.truncate(MAX_GRAPHS);
        // The largest take the memory that all compute in.
        shapes.sort_by_key(|s| std::cmp::Reverse(s.n_tokens()));
        let most = |n: fn(&GraphShape) -> usize| shapes.iter().map(n).max().unwrap_or(0);
        let (n_tokens, n_rows) = (most(GraphShape::n_tokens), most(GraphShape::n_rows));
        let n_parts = most(|s| s.parts.len());
        for shape in &shapes {
            match self.graph(shape) {
                Err(e) if e.kind() == ErrorKind::Resource && shape.parts.len() > 1 => {
                    self.limits = Limits::NONE;
                }
                done => drop(done?),
            }
        }
        let n_embd = self.model.sizes().n_embd;
        let s = &mut self.scratch;
        s.last.clear();
        s.last.reserve(n_rows * n_embd);
        s.shape.parts.clear();
        s.shape.parts.reserve(n_parts);
        for (list, n) in [
            (&mut s.tokens, n_tokens),
            (&mut s.positions, n_tokens),
            (&mut s.slots, n_tokens),
            (&mut s.rows, n_rows),
            (&mut s.row_positions, n_rows),
        ] {
            list.clear();
            list.reserve(n);
        }
        for list in &mut s.uniform {
            list.clear();
            list.reserve(n_rows);
        }
        Ok(())
    }

    /// Adds the shapes for steps in which all canvases do the same: all their first passes, all their
    /// second ones, and so on. Passes of one canvas follow one another.
    fn shapes_together(
        &self,
        passes: &[PassShape],
        (cached, guided): (bool, bool),
        shapes: &mut Vec<GraphShape>,
    ) -> Result<()> {
        let of_each: Vec<&[PassShape]> = passes.chunk_by(|a, b| a.sequence == b.sequence).collect();
        for kind in 0..of_each.iter().map(|p| p.len()).max().unwrap_or(0) {
            let mut parts = Vec::new();
            for branch in [Branch::Conditional, Branch::Unconditional] {
                if branch == Branch::Unconditional && !guided {
                    continue;
                }
                for pass in of_each.iter().filter_map(|p| p.get(kind)) {
                    parts.extend(self.shape_of(pass, branch, cached)?);
                }
            }
            let mut rest = &mut parts[..];
            while !rest.is_empty() {
                let k = self.limits.n_together(rest.len(), |i| rest[i]);
                let (group, others) = std::mem::take(&mut rest).split_at_mut(k);
                rest = others;
                if k < 2 {
                    continue;
                }
                let mut rows = common_rows(group.iter().map(|p| p.n_rows));
                loop {
                    group.iter_mut().for_each(|p| p.n_rows = rows.min(p.n_tokens));
                    add(shapes, group);
                    if rows <= SMALLEST_BUCKET {
                        break;
                    }
                    rows /= 2;
                }
            }
        }
        Ok(())
    }

    /// Adds the shapes of the graphs that one kind of query needs, the largest first.
    fn shapes_alone(&self, pass: &PassShape, cached: bool, shapes: &mut Vec<GraphShape>) -> Result<()> {
        for branch in [Branch::Conditional, Branch::Unconditional] {
            // Without a cache both branches have one shape.
            let Some(mut part) = self.shape_of(pass, branch, cached)? else {
                continue;
            };
            let n_tokens = part.n_tokens;
            loop {
                add(shapes, &[part]);
                if part.n_rows <= SMALLEST_BUCKET.min(n_tokens) {
                    break;
                }
                part.n_rows = bucket_below(part.n_rows, n_tokens, cached);
            }
        }
        Ok(())
    }

    /// What a pass computes of a canvas; `None` where there is no such branch.
    fn shape_of(&self, pass: &PassShape, branch: Branch, cached: bool) -> Result<Option<PartShape>> {
        let n_tokens = pass.window.unwrap_or(pass.n_slots);
        let features = self.features;
        let mut cache = CacheShape::Off;
        if cached {
            let region = self.region(pass.sequence, branch)?;
            if region.len == 0 {
                return Ok(None);
            }
            let (first, n_kv) = (region.first, pass.n_slots);
            cache = match (pass.window, pass.n_update) {
                (None, _) => CacheShape::Fill { first, features },
                (Some(_), Some(n_update)) => CacheShape::Partial {
                    first,
                    n_kv,
                    n_update,
                },
                (Some(_), None) => CacheShape::Window {
                    first,
                    n_kv,
                    features,
                },
            };
        }
        let n_rows = bucket(pass.n_rows.max(1), n_tokens, cached);
        Ok(Some(self.part_shape(n_tokens, n_rows, cache)))
    }

    pub(super) fn part_shape(&self, n_tokens: usize, n_rows: usize, cache: CacheShape) -> PartShape {
        let n_kv = match cache {
            CacheShape::Window { n_kv, .. } | CacheShape::Partial { n_kv, .. } => n_kv,
            _ => n_tokens,
        };
        let flash = match self.flash {
            Flash::On => true,
            Flash::Off => false,
            Flash::Auto => n_kv >= FLASH_FROM || self.cut_in_groups(),
        };
        let attention = match (flash, self.on_gpu) {
            (false, _) => AttentionKind::Exact,
            (true, false) => AttentionKind::Flash,
            (true, true) => AttentionKind::FlashF16,
        };
        PartShape {
            n_tokens,
            n_rows,
            attention,
            cache,
        }
    }
}

fn add(shapes: &mut Vec<GraphShape>, parts: &[PartShape]) {
    if !shapes.iter().any(|s| s.parts == parts) {
        shapes.push(GraphShape {
            parts: parts.to_vec(),
            ..GraphShape::default()
        });
    }
}

/// The number of rows that each part has where several are computed together and `wanted` of them are wanted.
pub(super) fn common_rows(wanted: impl Iterator<Item = usize>) -> usize {
    bucket(wanted.max().unwrap_or(1), usize::MAX, true)
}

const SMALLEST_BUCKET: usize = 8;

/// The number of rows that a graph for `n_rows` of `n_tokens` computes: two sizes an octave (8, 12, 16,
/// 24, 32, ...), so that a run needs few graphs while rows are filled; one an octave where `coarse`, for
/// runs with a cache, which need graphs for windows too.
pub(super) fn bucket(n_rows: usize, n_tokens: usize, coarse: bool) -> usize {
    let mut size = SMALLEST_BUCKET;
    while size < n_rows {
        size = next_bucket(size, coarse);
    }
    size.min(n_tokens)
}

fn next_bucket(size: usize, coarse: bool) -> usize {
    match size.is_power_of_two() {
        true if coarse => size * 2,
        true => size / 2 * 3,
        false => size / 3 * 4,
    }
}

/// The next smaller size.
fn bucket_below(size: usize, n_tokens: usize, coarse: bool) -> usize {
    let mut below = SMALLEST_BUCKET;
    loop {
        let next = next_bucket(below, coarse);
        if next.min(n_tokens) >= size {
            return below.min(n_tokens);
        }
        below = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_is_asked_and_little_more() {
        for n_tokens in [1, 7, 40, 300, 1000] {
            for n in 1..=n_tokens {
                let size = bucket(n, n_tokens, false);
                assert!(size >= n && size <= n_tokens);
                assert!(size <= SMALLEST_BUCKET || size <= n + n / 2, "{n} -> {size}");
                let coarse = bucket(n, n_tokens, true);
                assert!(coarse >= size && coarse <= n_tokens);
            }
        }
    }

    #[test]
    fn going_down_visits_every_bucket() {
        let mut size = bucket(96, 100, false);
        let mut seen = vec![size];
        while size > SMALLEST_BUCKET {
            size = bucket_below(size, 100, false);
            seen.push(size);
        }
        assert_eq!(seen, [96, 64, 48, 32, 24, 16, 12, 8]);
    }
}
