//! One canvas and where it is in its plan.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::cache::{Cache, CacheUse, FastDllm, PassShape};
use super::params::{Commit, Order, Params};
use super::report::{Change, SequenceStep};
use super::schedule::{Block, origin_probability, plan, quota, response_start};
use super::select::{best, entropy_bound, factor, neighbours, threshold};
use crate::canvas::{Canvas, Slot, Token};
use crate::error::Result;

/// One canvas and where it is in its plan.
pub(super) struct Sequence {
    pub canvas: Canvas,
    /// The canvas with everything masked that was given: guidance's second one.
    pub unconditional: Vec<Token>,
    pub response_start: Option<usize>,
    pub end: Option<usize>,
    /// Slots asked for in this step.
    pub rows: Vec<u32>,
    /// How they are computed.
    pub pass: CacheUse,
    /// Rank of each row's candidate, and the row.
    pub candidates: Vec<(f32, u32)>,
    pub drawn: Vec<Drawn>,
    pub on_canvas: Vec<Token>,
    /// Steps of the plan that are behind.
    pub n_done: usize,
    blocks: Vec<Block>,
    i_block: usize,
    /// Step inside the block.
    i_step: usize,
    /// Masks in the block when it began.
    block_masks: usize,
    /// The first slot that was masked at the start.
    first_masked: usize,
    /// What a cached step computes in this block.
    window: Range<usize>,
    /// Cached steps since everything was computed; `None` where the block still has to.
    since_fill: Option<usize>,
    /// Whether a cached step is due although nothing is left to commit: see [`FastDllm::Jun2025`].
    owed: bool,
}

/// What was drawn for one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawn {
    pub slot: u32,
    pub token: Token,
    /// Entropy in nats, where the commit rule needs it.
    pub entropy: f32,
    /// The largest logit less the second, where early commit needs it.
    pub gap: f32,
}

fn n_masked(slots: &[Slot]) -> usize {
    slots.iter().filter(|&&s| s == Slot::Masked).count()
}

/// Slots that a partial pass over `n` computes.
fn n_updated(n: usize, share: f64) -> usize {
    ((n as f64 * share) as usize).clamp(1, n.max(1))
}

impl Sequence {
    pub fn new(canvas: Canvas, params: &Params) -> Result<Self> {
        let blocks = plan(&canvas, params)?;
        let first = canvas
            .slots()
            .iter()
            .position(|&s| s == Slot::Masked)
            .unwrap_or(0);
        let start = response_start(&canvas, params, first)?;
        let open_end = start.is_some_and(|s| !canvas.slots()[s..].contains(&Slot::Fixed));
        let needs_open_end = [
            ("stop_at_eos", params.stop_at_eos),
            ("suffix_window", params.suffix_window.is_some()),
        ];
        if let Some((name, _)) = needs_open_end.iter().find(|(_, on)| *on && !open_end) {
            crate::bail!(
                Unsupported,
                "{name} needs a response of masked slots at the end of the canvas; fixed text is in or after it"
            );
        }
        let n_unconditional = if params.guidance > 0.0 { canvas.len() } else { 0 };
        let unconditional = crate::error::try_vec(n_unconditional, canvas.mask_token(), "guidance")?;
        let most = canvas.n_masked();
        let mut sequence = Self {
            canvas,
            unconditional,
            blocks,
            response_start: start,
            i_block: 0,
            i_step: 0,
            n_done: 0,
            block_masks: 0,
            first_masked: first,
            window: 0..0,
            since_fill: None,
            owed: false,
            end: None,
            pass: CacheUse::Off,
            rows: Vec::with_capacity(most),
            candidates: Vec::with_capacity(most),
            drawn: Vec::with_capacity(most),
            on_canvas: Vec::new(),
        };
        if params.repetition_penalty != 1.0 {
            sequence.on_canvas.reserve(sequence.canvas.len());
        }
        sequence.enter_block(params);
        Ok(sequence)
    }

    pub fn is_done(&self) -> bool {
        self.end.is_some() || self.i_block >= self.blocks.len()
    }

    /// Whether this step computes anything.
    pub fn asks(&self) -> bool {
        !self.rows.is_empty() || self.owed
    }

    fn block(&self) -> Range<usize> {
        self.blocks
            .get(self.i_block)
            .or(self.blocks.last())
            .map_or(0..0, |b| b.range.clone())
    }

    fn n_steps(&self) -> usize {
        self.blocks.iter().map(|b| b.steps).sum()
    }

    /// Slots that the model is shown while `block` is at work.
    fn shown_with(&self, block: &Range<usize>, params: &Params) -> usize {
        match params.suffix_window {
            Some(n) => block.end.saturating_add(n).min(self.canvas.len()),
            None => self.canvas.len(),
        }
    }

    /// Slots that the model is shown now.
    pub fn n_shown(&self, params: &Params) -> usize {
        self.shown_with(&self.block(), params)
    }

    /// What a cached step computes while `block` is at work. Between fixed text a block begins where the
    /// last one ended; its first hole is soon enough.
    fn window_of(&self, block: &Range<usize>, params: &Params) -> Range<usize> {
        if let Cache::Feature { .. } = params.cache {
            return self.first_masked..self.canvas.len();
        }
        let slots = &self.canvas.slots()[block.clone()];
        let begin = match self.response_start {
            Some(_) => block.start,
            None => block.start + slots.iter().position(|&s| s == Slot::Masked).unwrap_or(0),
        };
        match params.cache {
            Cache::Prefix => begin..self.shown_with(block, params),
            _ => begin..block.end,
        }
    }

    /// The quota counts the masks inside the block when it begins, left-overs before it not.
    fn enter_block(&mut self, params: &Params) {
        let block = self.block();
        self.block_masks = n_masked(&self.canvas.slots()[block.clone()]);
        self.i_step = 0;
        self.window = self.window_of(&block, params);
        if !matches!(params.cache, Cache::Feature { .. }) {
            self.since_fill = None;
        }
        self.owed = false;
    }

    /// The kinds of steps that may come.
    pub fn shapes(&self, sequence: usize, params: &Params) -> Vec<PassShape> {
        let masked = |range: Range<usize>| n_masked(&self.canvas.slots()[range]);
        let early = self.blocks.first().map_or(0, |b| masked(0..b.range.start));
        let in_block = self.blocks.iter().map(|b| masked(b.range.clone()));
        let most = in_block.max().unwrap_or(0) + early;
        let mut shapes = Vec::new();
        let mut add = |shape: PassShape| {
            if !shapes.contains(&shape) {
                shapes.push(shape);
            }
        };
        for block in &self.blocks {
            let n_slots = self.shown_with(&block.range, params);
            add(PassShape {
                sequence,
                n_slots,
                window: None,
                n_update: None,
                n_rows: most,
            });
            let window = self.window_of(&block.range, params).len();
            if let Cache::Feature { update, .. } = params.cache {
                for n_update in [None, Some(n_updated(window, update))] {
                    add(PassShape {
                        sequence,
                        n_slots,
                        window: Some(window),
                        n_update,
                        n_rows: most,
                    });
                }
                continue;
            }
            if params.cache != Cache::None {
                add(PassShape {
                    sequence,
                    n_slots,
                    window: Some(window),
                    n_update: None,
                    n_rows: masked(block.range.clone()),
                });
            }
        }
        shapes.sort_by_key(|s| std::cmp::Reverse((s.window.unwrap_or(s.n_slots), s.n_rows)));
        shapes
    }

    /// Decides how the next step computes: everything at a block's start, when a refresh is due, and
    /// when only masks before the block are left.
    fn choose_pass(&mut self, params: &Params) {
        if params.cache == Cache::None {
            self.pass = CacheUse::Off;
            return;
        }
        let Range { start: begin, end } = self.window;
        if let Cache::Feature {
            prompt_interval,
            response_interval,
            update,
        } = params.cache
        {
            let n_update = n_updated(end - begin, update);
            self.pass = match self.since_fill.map(|n| n + 1) {
                None => CacheUse::Fill,
                Some(n) if n >= prompt_interval => CacheUse::Fill,
                Some(n) if n.is_multiple_of(response_interval) => CacheUse::Window { begin, end },
                Some(_) => CacheUse::Partial { begin, n_update },
            };
            return;
        }
        let refresh = params.cache_refresh;
        let in_block = self.canvas.slots()[self.block()].contains(&Slot::Masked);
        let usable = self.since_fill.is_some_and(|n| refresh == 0 || n < refresh);
        self.pass = match usable && (in_block || self.owed) {
            true => CacheUse::Window { begin, end },
            false => CacheUse::Fill,
        };
    }

    /// Sets the rows to ask for: all masked slots up to the block's end, also those left before it where
    /// everything is computed. Passes over steps that would commit nothing.
    pub fn ask(&mut self, params: &Params) {
        self.rows.clear();
        while !self.is_done() {
            self.choose_pass(params);
            let block = self.block();
            let begin = match self.pass {
                CacheUse::Window { .. } if !matches!(params.cache, Cache::Feature { .. }) => block.start,
                _ => 0,
            };
            let slots = self.canvas.slots()[begin..block.end].iter().enumerate();
            let masked = slots.filter(|(_, s)| **s == Slot::Masked);
            self.rows.extend(masked.map(|(i, _)| (begin + i) as u32));
            let steps = self.blocks[self.i_block].steps;
            let idle = self.rows.is_empty() || self.is_idle(params);
            if self.owed {
                break;
            } else if self.i_step >= steps {
                self.next_block(params);
            } else if idle && !params.idle_steps {
                self.n_done += 1;
                self.i_step += 1;
                if self.i_step >= steps {
                    self.next_block(params);
                }
            } else {
                break;
            }
            self.rows.clear();
        }
        if params.repetition_penalty != 1.0 {
            self.note_tokens();
        }
    }

    /// Whether this step's quota is nothing.
    fn is_idle(&self, params: &Params) -> bool {
        let steps = self.blocks[self.i_block].steps;
        params.commit == Commit::Quota
            && params.order != Order::Origin
            && quota(self.block_masks, steps, self.i_step) == 0
    }

    /// The distinct tokens on the canvas, masks not counted.
    fn note_tokens(&mut self) {
        self.on_canvas.clear();
        let filled = self.canvas.tokens().iter().zip(self.canvas.slots());
        self.on_canvas
            .extend(filled.filter(|(_, s)| **s != Slot::Masked).map(|(t, _)| *t));
        self.on_canvas.sort_unstable();
        self.on_canvas.dedup();
    }

    fn next_block(&mut self, params: &Params) {
        self.i_block += 1;
        if self.i_block < self.blocks.len() {
            self.enter_block(params);
        }
    }

    pub fn commit(&mut self, params: &Params, changed: &mut Vec<Change>) {
        let steps = self.blocks[self.i_block].steps;
        let mut candidates = std::mem::take(&mut self.candidates);
        let n = self.accept(params, &mut candidates);
        for &(confidence, k) in candidates.iter().take(n) {
            let Some(&Drawn { slot, token, .. }) = self.drawn.get(k as usize) else {
                continue;
            };
            let slot = slot as usize;
            self.fill(slot, token);
            if self.canvas.slots()[slot] == Slot::Filled {
                changed.push(Change {
                    slot,
                    token,
                    confidence,
                });
            }
        }
        self.candidates = candidates;
        self.n_done += 1;
        self.i_step += 1;
        let filling = self.pass == CacheUse::Fill;
        self.since_fill = match self.pass {
            CacheUse::Off => None,
            CacheUse::Fill => Some(0),
            CacheUse::Window { .. } | CacheUse::Partial { .. } => self.since_fill.map(|n| n + 1),
        };
        let block = self.block();
        let begin = match params.fast_dllm {
            Some(_) => block.start,
            None => 0,
        };
        let filled = !self.canvas.slots()[begin..block.end].contains(&Slot::Masked);
        self.owed = params.fast_dllm == Some(FastDllm::Jun2025) && filling && filled && self.i_step < steps;
        // Without a quota a block ends when it is full, or when the model insists on the mask token and
        // would go on so for ever.
        let over = params.is_adaptive() && (filled || changed.is_empty());
        if !self.owed && (self.i_step >= steps || over) {
            self.n_done += steps.saturating_sub(self.i_step);
            self.next_block(params);
        }
    }

    /// Sorts the accepted candidates to the front and counts them.
    fn accept(&self, params: &Params, candidates: &mut Vec<(f32, u32)>) -> usize {
        let drawn = |k: u32| self.drawn.get(k as usize);
        // An idle step commits nothing, or the text would depend on whether it is computed.
        if let Some(rule) = params.early_commit
            && !self.is_idle(params)
        {
            let filled =
                self.block_masks - n_masked(&self.canvas.slots()[self.block()]).min(self.block_masks);
            let gaps = self.drawn.iter().map(|d| d.gap);
            if rule.is_settled(gaps, filled, self.block_masks) {
                return best(candidates, usize::MAX);
            }
        }
        match (params.order, params.commit) {
            (Order::Origin, _) => {
                let p = origin_probability(self.i_step, self.blocks[self.i_block].steps);
                candidates.retain(|(u, _)| *u < p);
                candidates.len()
            }
            (_, Commit::Quota) => {
                let steps = self.blocks[self.i_block].steps;
                best(candidates, quota(self.block_masks, steps, self.i_step))
            }
            (_, Commit::Threshold(x)) => threshold(candidates, x),
            (_, Commit::Factor(x)) => factor(candidates, x),
            (_, Commit::EntropyBound(x)) => {
                entropy_bound(candidates, x, |k| drawn(k).map_or(f32::INFINITY, |d| d.entropy))
            }
            (
                _,
                Commit::Neighbours {
                    anchor,
                    relaxed,
                    radius,
                },
            ) => neighbours(candidates, (anchor, relaxed), radius, |k| {
                drawn(k).map_or(0, |d| d.slot as usize)
            }),
        }
    }

    /// Puts `token` on `slot` as a host asks for. What is kept of slots outside the window is then of
    /// another canvas.
    pub fn replace(&mut self, slot: usize, token: Token) -> Result<()> {
        if self.canvas.slots()[slot] == Slot::Fixed {
            return Ok(());
        }
        if self.canvas.tokens()[slot] != token && !self.window.contains(&slot) {
            self.since_fill = None;
        }
        self.canvas.mask_range(slot..slot + 1)?;
        self.fill(slot, token);
        Ok(())
    }

    fn fill(&mut self, slot: usize, token: Token) {
        self.canvas.fill(slot, token);
        // What is generated is seen by both of guidance's canvases.
        if let Some(un) = self.unconditional.get_mut(slot) {
            *un = self.canvas.tokens()[slot];
        }
    }

    pub fn blank_report(&self) -> SequenceStep {
        SequenceStep {
            step: 0,
            n_steps: self.n_steps(),
            block: self.block(),
            window: 0..0,
            cached: false,
            changed: Vec::with_capacity(self.canvas.n_masked()),
            n_masked: self.canvas.n_masked(),
            end: None,
            done: false,
        }
    }

    /// The slots that this step computes.
    pub fn computed(&self, params: &Params) -> Range<usize> {
        match self.pass {
            _ if !self.asks() => 0..0,
            CacheUse::Window { begin, end } => begin..end,
            CacheUse::Partial { begin, .. } => begin..self.n_shown(params),
            _ => 0..self.n_shown(params),
        }
    }

    /// How many slots this step computes.
    pub fn n_computed(&self, params: &Params) -> usize {
        match self.pass {
            CacheUse::Partial { n_update, .. } if self.asks() => n_update,
            _ => self.computed(params).len(),
        }
    }

    pub fn fill_report(&self, out: &mut SequenceStep) {
        out.step = self.n_done;
        out.block = self.block();
        out.n_masked = self.canvas.n_masked();
        out.end = self.end;
        out.done = self.is_done();
    }
}
