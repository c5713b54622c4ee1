//! Blocks, steps, and how many tokens a step commits.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::cache::{Cache, FastDllm};
use super::params::Params;
use crate::canvas::{Canvas, Slot};
use crate::error::Result;

/// A stretch of the canvas that is decoded before the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Slots of the block.
    pub range: Range<usize>,
    /// Steps spent on it.
    pub steps: usize,
}

/// How many tokens each of `steps` steps commits of `n_masked`: an even share, the remainder on the
/// first steps (`get_num_transfer_tokens` in LLaDA's `generate.py`).
pub fn num_transfer_tokens(n_masked: usize, steps: usize) -> Vec<usize> {
    (0..steps).map(|i| quota(n_masked, steps, i)).collect()
}

/// Entry `i` of [`num_transfer_tokens`].
pub(super) fn quota(n_masked: usize, steps: usize, i: usize) -> usize {
    let Some(share) = n_masked.checked_div(steps) else {
        return 0;
    };
    share + usize::from(i < n_masked % steps)
}

/// Divides a canvas into blocks and the steps over them.
///
/// With a response (`response_start`, or a masked tail) block k is `[start + k * length, start +
/// (k + 1) * length)`, the last one shorter where the length does not divide the response. For holes
/// between fixed text, a block is as many consecutive masked slots as `block_length` says, with the
/// text around them. Steps are shared evenly; where they do not divide, earlier blocks get more.
///
/// # Errors
/// `InvalidArgument`, when `response_start` is outside the canvas, there is nothing to fill, or there
/// are fewer steps than blocks.
pub fn plan(canvas: &Canvas, params: &Params) -> Result<Vec<Block>> {
    let Some(first) = canvas.slots().iter().position(|&s| s == Slot::Masked) else {
        crate::bail!(
            InvalidArgument,
            "the canvas has no masked slot; there is nothing to fill"
        );
    };
    let tail = response_start(canvas, params, first)?;
    let ranges = match tail {
        Some(start) => tail_blocks(start, canvas.len(), params.block_length),
        None => hole_blocks(canvas, params.block_length),
    };
    let masked = |range: &Range<usize>| {
        canvas.slots()[range.clone()]
            .iter()
            .filter(|&&s| s == Slot::Masked)
            .count()
    };
    let n_blocks = ranges.len();
    // The one published loop that ends an adaptive block by the clock.
    let by_clock = params.cache == Cache::Dual && params.fast_dllm == Some(FastDllm::Main);
    let adaptive = params.is_adaptive() && !by_clock;
    if params.steps != 0 && params.steps < n_blocks && !adaptive {
        crate::bail!(
            InvalidArgument,
            "steps is {}, fewer than the {n_blocks} blocks; give more steps or a larger block_length",
            params.steps
        );
    }
    let share = |i: usize| params.steps / n_blocks + usize::from(i < params.steps % n_blocks);
    Ok(ranges
        .into_iter()
        .enumerate()
        .map(|(i, range)| {
            // What a threshold or factor commits is at least one token a step.
            let steps = if adaptive && i == 0 {
                masked(&(0..range.end))
            } else if params.steps == 0 || adaptive {
                masked(&range)
            } else {
                share(i)
            };
            Block { range, steps }
        })
        .collect())
}

/// Where the response begins; `None` for holes between fixed text.
pub(super) fn response_start(canvas: &Canvas, params: &Params, first_masked: usize) -> Result<Option<usize>> {
    match params.response_start {
        Some(start) if start < canvas.len() => Ok(Some(start)),
        Some(start) => crate::bail!(
            InvalidArgument,
            "response_start is {start}, but the canvas has {} slots",
            canvas.len()
        ),
        None => {
            let tail_is_masked = canvas.slots()[first_masked..].iter().all(|&s| s == Slot::Masked);
            Ok(tail_is_masked.then_some(first_masked))
        }
    }
}

fn tail_blocks(start: usize, end: usize, block_length: usize) -> Vec<Range<usize>> {
    let length = if block_length == 0 {
        end - start
    } else {
        block_length
    };
    (start..end)
        .step_by(length)
        .map(|begin| begin..(begin + length).min(end))
        .collect()
}

fn hole_blocks(canvas: &Canvas, block_length: usize) -> Vec<Range<usize>> {
    let masked: Vec<usize> = (0..canvas.len())
        .filter(|&i| canvas.slots()[i] == Slot::Masked)
        .collect();
    let length = if block_length == 0 {
        masked.len()
    } else {
        block_length
    };
    let mut begin = 0;
    let mut blocks = Vec::new();
    for chunk in masked.chunks(length.max(1)) {
        let end = chunk.last().map_or(begin, |&i| i + 1);
        blocks.push(begin..end);
        begin = end;
    }
    blocks
}

/// The probability with which Dream's `origin` commits a slot in step `i` of `n`: 1 - s/t for
/// consecutive times t > s of `linspace(1, eps, n + 1)`; 1 in the last step.
pub(super) fn origin_probability(i: usize, n: usize) -> f32 {
    const EPS: f64 = 1e-3;
    if i + 1 >= n {
        return 1.0;
    }
    let time = |i: usize| 1.0 + (EPS - 1.0) * i as f64 / n as f64;
    (1.0 - time(i + 1) / time(i)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canvas(n_prompt: usize, n_masked: usize) -> Canvas {
        let mut canvas = Canvas::new(0);
        canvas.push_fixed(&vec![1; n_prompt]);
        canvas.push_masked(n_masked).unwrap();
        canvas
    }

    #[test]
    fn the_tail_is_cut_into_blocks_from_its_start() {
        let params = Params {
            steps: 8,
            block_length: 16,
            ..Params::default()
        };
        let blocks = plan(&canvas(5, 32), &params).unwrap();
        assert_eq!(
            blocks,
            [
                Block {
                    range: 5..21,
                    steps: 4
                },
                Block {
                    range: 21..37,
                    steps: 4
                }
            ]
        );
    }

    #[test]
    fn what_does_not_divide_is_shared_from_the_front() {
        let params = Params {
            steps: 7,
            block_length: 16,
            ..Params::default()
        };
        let blocks = plan(&canvas(0, 40), &params).unwrap();
        let steps: Vec<_> = blocks.iter().map(|b| (b.range.len(), b.steps)).collect();
        assert_eq!(steps, [(16, 3), (16, 2), (8, 2)]);
    }

    #[test]
    fn holes_are_grouped_by_masked_slots() {
        let mut canvas = canvas(2, 3);
        canvas.push_fixed(&[1, 1]);
        canvas.push_masked(2).unwrap();
        canvas.push_fixed(&[1]);
        let params = Params {
            block_length: 4,
            ..Params::default()
        };
        let blocks = plan(&canvas, &params).unwrap();
        assert_eq!(
            blocks,
            [
                Block {
                    range: 0..8,
                    steps: 4
                },
                Block {
                    range: 8..9,
                    steps: 1
                }
            ]
        );
    }

    #[test]
    fn nothing_to_fill_and_too_few_steps_are_refused() {
        assert!(plan(&canvas(4, 0), &Params::default()).is_err());
        let params = Params {
            steps: 2,
            block_length: 8,
            ..Params::default()
        };
        let error = plan(&canvas(1, 32), &params).unwrap_err();
        assert!(error.message().contains("4 blocks"), "{error}");
    }

    #[test]
    fn origin_commits_all_in_the_last_step() {
        assert_eq!(origin_probability(4, 5), 1.0);
        // s/t of the first of two steps: 0.5005 / 1.
        assert!((origin_probability(0, 2) - 0.4995).abs() < 1e-6);
    }
}
