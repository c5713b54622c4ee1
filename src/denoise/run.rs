//! The loop: predict, draw, rank, commit, report.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::cancel::CancelToken;
use super::confidence::confidence;
use super::guidance::combine;
use super::noise::Noise;
use super::params::{Commit, Order, Params};
use super::predictor::{Branch, Predictor, Query};
use super::report::{Change, SequenceStep, StepReport};
use super::sample::{Scratch, adjust, candidate, peak, uniforms};
use super::schedule::{Block, origin_probability, plan, quota, response_start};
use super::select::{best, factor, threshold};
use super::stop::{StopRule, eos_end, settled};
use crate::canvas::{Canvas, Slot, Token};
use crate::error::{Error, Result};

/// Canvases being filled. Pull it with [`step`](Self::step) until [`is_done`](Self::is_done).
///
/// Canvases have lengths, plans and ends of their own, and a canvas comes out as it would alone.
/// Buffers are kept between steps: after the first, a step allocates nothing.
pub struct Run {
    params: Params,
    sequences: Vec<Sequence>,
    report: StepReport,
    cancel: Option<CancelToken>,
    logits: Vec<f32>,
    scratch: Scratch,
    n_vocab: usize,
    /// Kept for its memory; empty between steps.
    queries: Vec<Query<'static>>,
}

/// An empty vector in the memory of another, whose elements may have lived shorter.
fn recycled<'b>(mut queries: Vec<Query<'_>>) -> Vec<Query<'b>> {
    queries.clear();
    // Nothing is left to convert: collecting in place keeps the allocation.
    queries.into_iter().map_while(|_| None).collect()
}

/// One canvas and where it is in its plan.
struct Sequence {
    canvas: Canvas,
    /// The canvas with everything masked that was given: guidance's second one.
    unconditional: Vec<Token>,
    blocks: Vec<Block>,
    response_start: Option<usize>,
    i_block: usize,
    /// Step inside the block.
    i_step: usize,
    /// Steps of the plan that are behind.
    n_done: usize,
    /// Masks in the block when it began.
    block_masks: usize,
    end: Option<usize>,
    /// Slots asked for in this step.
    rows: Vec<u32>,
    candidates: Vec<(f32, u32)>,
    drawn: Vec<(u32, Token)>,
    on_canvas: Vec<Token>,
}

impl Run {
    /// A run over `canvases` by `params`, for a model with `n_vocab` columns.
    ///
    /// # Errors
    /// `InvalidArgument` or `Unsupported`, naming the option; `Resource`.
    pub fn new(canvases: Vec<Canvas>, params: &Params, n_vocab: usize) -> Result<Self> {
        if canvases.is_empty() {
            crate::bail!(InvalidArgument, "a run needs at least one canvas");
        }
        params.validate(n_vocab, canvases.len())?;
        let many = canvases.len() > 1;
        let mut sequences = Vec::new();
        for (i, canvas) in canvases.into_iter().enumerate() {
            let sequence = Sequence::new(canvas, params);
            sequences.push(if many {
                sequence.map_err(|e| e.context(format_args!("canvas {i}")))?
            } else {
                sequence?
            });
        }
        let report = StepReport {
            sequences: sequences.iter().map(Sequence::blank_report).collect(),
            ..StepReport::default()
        };
        let (logits, scratch) = (Vec::new(), Scratch::default());
        Ok(Self {
            params: params.clone(),
            sequences,
            report,
            cancel: None,
            logits,
            scratch,
            n_vocab,
            queries: Vec::new(),
        })
    }

    /// The run ends with `Cancelled` before the step after `cancel` is set.
    pub fn set_cancel(&mut self, cancel: CancelToken) {
        self.cancel = Some(cancel);
    }

    /// Whether every canvas is finished.
    pub fn is_done(&self) -> bool {
        self.sequences.iter().all(Sequence::is_done)
    }

    /// What the last step did.
    pub fn report(&self) -> &StepReport {
        &self.report
    }

    /// The canvases as they are now.
    pub fn canvases(&self) -> impl ExactSizeIterator<Item = &Canvas> {
        self.sequences.iter().map(|s| &s.canvas)
    }

    /// Gives the canvases back.
    pub fn into_canvases(self) -> Vec<Canvas> {
        self.sequences.into_iter().map(|s| s.canvas).collect()
    }

    /// Slots of the longest canvas and the most rows that a step of this run asks for, for those who
    /// want to prepare. One pair per canvas.
    pub fn shapes(&self) -> impl Iterator<Item = (usize, usize)> {
        self.sequences.iter().map(|s| (s.canvas.len(), s.most_rows()))
    }

    /// Puts `tokens` on canvas `sequence`, as if the steps so far had led there: masked where they are
    /// the mask token. Fixed slots keep what they hold. For hosts that edit while a run goes on.
    ///
    /// # Errors
    /// `InvalidArgument`, when there is no such canvas or the length differs.
    pub fn replace(&mut self, sequence: usize, tokens: &[Token]) -> Result<()> {
        let Some(s) = self
            .sequences
            .get_mut(sequence)
            .filter(|s| s.canvas.len() == tokens.len())
        else {
            crate::bail!(
                InvalidArgument,
                "canvas {sequence} does not exist or has another length"
            );
        };
        for (slot, &token) in tokens.iter().enumerate() {
            if s.canvas.slots()[slot] != Slot::Fixed {
                s.canvas.mask_range(slot..slot + 1)?;
                s.fill(slot, token);
            }
        }
        Ok(())
    }

    /// Does one step on every canvas that is not finished. Steps that would commit nothing are passed
    /// over, unless `idle_steps` asks for them.
    ///
    /// # Errors
    /// `Cancelled`; `Numeric`, for logits that are not finite; whatever the predictor reports. The
    /// canvases are then as before the step, and it can be tried again.
    pub fn step(
        &mut self,
        predictor: &mut dyn Predictor,
        noise: &dyn Noise,
        stop: Option<&mut dyn StopRule>,
    ) -> Result<&StepReport> {
        if self.cancel.as_ref().is_some_and(CancelToken::is_set) {
            crate::bail!(Cancelled, "cancelled");
        }
        for s in &mut self.sequences {
            s.ask(&self.params);
        }
        self.predict(predictor)?;
        self.draw(noise)?;
        self.commit(stop);
        Ok(&self.report)
    }

    /// Logits of all rows asked for, guidance applied, in `self.logits`.
    fn predict(&mut self, predictor: &mut dyn Predictor) -> Result<()> {
        let guided = self.params.guidance > 0.0;
        let n_rows: usize = self.sequences.iter().map(|s| s.rows.len()).sum();
        self.report.n_rows = n_rows;
        if n_rows == 0 {
            return Ok(());
        }
        let mut queries = recycled(std::mem::take(&mut self.queries));
        for branch in [Branch::Conditional, Branch::Unconditional] {
            if branch == Branch::Unconditional && !guided {
                continue;
            }
            let asked = self
                .sequences
                .iter()
                .enumerate()
                .filter(|(_, s)| !s.rows.is_empty());
            queries.extend(asked.map(|(sequence, s)| {
                let tokens = match branch {
                    Branch::Conditional => s.canvas.tokens(),
                    Branch::Unconditional => &s.unconditional,
                };
                Query {
                    sequence,
                    branch,
                    tokens,
                    rows: &s.rows,
                }
            }));
        }
        let nfe = queries.len() as u64;
        let done = predictor.predict(&queries, &mut self.logits);
        self.queries = recycled(queries);
        done?;
        let n = n_rows * self.n_vocab;
        let wanted = if guided { 2 * n } else { n };
        if self.logits.len() != wanted {
            crate::bail!(
                Internal,
                "the predictor gave {} logits for {wanted}",
                self.logits.len()
            );
        }
        if guided {
            let (cond, un) = self.logits.split_at_mut(n);
            combine(cond, un, self.params.guidance);
        }
        self.report.nfe += nfe;
        Ok(())
    }

    /// Draws and ranks a candidate for every row.
    fn draw(&mut self, noise: &dyn Noise) -> Result<()> {
        let mut rows = self.logits.chunks_exact_mut(self.n_vocab.max(1));
        for (i, s) in self.sequences.iter_mut().enumerate() {
            s.candidates.clear();
            s.drawn.clear();
            for (k, &slot) in s.rows.iter().enumerate() {
                let Some(row) = rows.next() else { break };
                adjust(row, &self.params, &s.on_canvas);
                let at = slot as usize;
                for token in s.canvas.forbidden(at) {
                    if let Some(logit) = row.get_mut(token as usize) {
                        *logit = f32::NEG_INFINITY;
                    }
                }
                let peak = peak(row, at).map_err(|e| named(e, i, self.report.sequences.len()))?;
                let uniform = uniforms(noise, s.n_done, i, at);
                let token = candidate(row, peak, &self.params, &mut self.scratch, uniform);
                let rank = match self.params.order {
                    Order::Random | Order::Origin => noise.order(s.n_done, i, at),
                    Order::LeftToRight => -(slot as f32),
                    _ => confidence(row, peak, token, &self.params),
                };
                s.candidates.push((rank, k as u32));
                s.drawn.push((slot, token));
            }
        }
        Ok(())
    }

    /// Fills the slots of the best candidates and moves every plan on.
    fn commit(&mut self, mut stop: Option<&mut dyn StopRule>) {
        for (i, s) in self.sequences.iter_mut().enumerate() {
            let Some(out) = self.report.sequences.get_mut(i) else {
                continue;
            };
            out.changed.clear();
            if !s.is_done() {
                s.commit(&self.params, &mut out.changed);
                if let Some(start) = s.response_start {
                    let by_stop = stop
                        .as_deref_mut()
                        .and_then(|rule| rule.settled_end(i, settled(&s.canvas, start)))
                        .map(|n| start + n);
                    let by_eos = eos_end(&s.canvas, start, &self.params);
                    s.end = [by_stop, by_eos].into_iter().flatten().min();
                }
            }
            s.fill_report(out);
        }
        self.report.done = self.is_done();
    }
}

fn named(error: Error, i: usize, n: usize) -> Error {
    if n > 1 {
        error.context(format_args!("canvas {i}"))
    } else {
        error
    }
}

impl Sequence {
    fn new(canvas: Canvas, params: &Params) -> Result<Self> {
        let blocks = plan(&canvas, params)?;
        let first = canvas
            .slots()
            .iter()
            .position(|&s| s == Slot::Masked)
            .unwrap_or(0);
        let start = response_start(&canvas, params, first)?;
        if params.stop_at_eos && start.is_none_or(|s| canvas.slots()[s..].contains(&Slot::Fixed)) {
            crate::bail!(
                Unsupported,
                "stop_at_eos needs a response of masked slots at the end of the canvas; fixed text is in or after it"
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
            end: None,
            rows: Vec::with_capacity(most),
            candidates: Vec::with_capacity(most),
            drawn: Vec::with_capacity(most),
            on_canvas: Vec::new(),
        };
        if params.repetition_penalty != 1.0 {
            sequence.on_canvas.reserve(sequence.canvas.len());
        }
        sequence.enter_block();
        Ok(sequence)
    }

    fn is_done(&self) -> bool {
        self.end.is_some() || self.i_block >= self.blocks.len()
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

    /// The quota counts the masks inside the block when it begins, left-overs before it not.
    fn enter_block(&mut self) {
        let slots = &self.canvas.slots()[self.block()];
        self.block_masks = slots.iter().filter(|&&s| s == Slot::Masked).count();
        self.i_step = 0;
    }

    fn most_rows(&self) -> usize {
        let masked = |range: Range<usize>| {
            self.canvas.slots()[range]
                .iter()
                .filter(|&&s| s == Slot::Masked)
                .count()
        };
        let early = self.blocks.first().map_or(0, |b| b.range.start);
        let most = self
            .blocks
            .iter()
            .map(|b| masked(b.range.clone()))
            .max()
            .unwrap_or(0);
        most + masked(0..early)
    }

    /// Sets the rows to ask for: all masked slots up to the block's end, also those left before it.
    /// Passes over steps that would commit nothing.
    fn ask(&mut self, params: &Params) {
        self.rows.clear();
        while !self.is_done() {
            let end = self.block().end;
            let slots = self.canvas.slots().iter().take(end).enumerate();
            self.rows
                .extend(slots.filter(|(_, s)| **s == Slot::Masked).map(|(i, _)| i as u32));
            let steps = self.blocks[self.i_block].steps;
            let idle = self.rows.is_empty()
                || (params.commit == Commit::Quota
                    && params.order != Order::Origin
                    && quota(self.block_masks, steps, self.i_step) == 0);
            if self.i_step >= steps {
                self.next_block();
            } else if idle && !params.idle_steps {
                self.n_done += 1;
                self.i_step += 1;
                if self.i_step >= steps {
                    self.next_block();
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

    /// The distinct tokens on the canvas, masks not counted.
    fn note_tokens(&mut self) {
        self.on_canvas.clear();
        let filled = self.canvas.tokens().iter().zip(self.canvas.slots());
        self.on_canvas
            .extend(filled.filter(|(_, s)| **s != Slot::Masked).map(|(t, _)| *t));
        self.on_canvas.sort_unstable();
        self.on_canvas.dedup();
    }

    fn next_block(&mut self) {
        self.i_block += 1;
        if self.i_block < self.blocks.len() {
            self.enter_block();
        }
    }

    fn commit(&mut self, params: &Params, changed: &mut Vec<Change>) {
        let steps = self.blocks[self.i_block].steps;
        let mut candidates = std::mem::take(&mut self.candidates);
        let n = match (params.order, params.commit) {
            (Order::Origin, _) => {
                let p = origin_probability(self.i_step, steps);
                candidates.retain(|(u, _)| *u < p);
                candidates.len()
            }
            (_, Commit::Quota) => best(&mut candidates, quota(self.block_masks, steps, self.i_step)),
            (_, Commit::Threshold(x)) => threshold(&mut candidates, x),
            (_, Commit::Factor(x)) => factor(&mut candidates, x),
        };
        for &(confidence, k) in candidates.iter().take(n) {
            let Some(&(slot, token)) = self.drawn.get(k as usize) else {
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
        let end = self.block().end;
        let filled = !self.canvas.slots()[..end].contains(&Slot::Masked);
        // Without a quota a block ends when it is full, or when the model insists on the mask token and
        // would go on so for ever.
        let adaptive = params.commit != Commit::Quota;
        if self.i_step >= steps || (adaptive && (filled || changed.is_empty())) {
            self.n_done += steps.saturating_sub(self.i_step);
            self.next_block();
        }
    }

    fn fill(&mut self, slot: usize, token: Token) {
        self.canvas.fill(slot, token);
        // What is generated is seen by both of guidance's canvases.
        if let Some(un) = self.unconditional.get_mut(slot) {
            *un = self.canvas.tokens()[slot];
        }
    }

    fn blank_report(&self) -> SequenceStep {
        SequenceStep {
            step: 0,
            n_steps: self.n_steps(),
            block: self.block(),
            changed: Vec::with_capacity(self.canvas.n_masked()),
            n_masked: self.canvas.n_masked(),
            end: None,
            done: false,
        }
    }

    fn fill_report(&self, out: &mut SequenceStep) {
        out.step = self.n_done;
        out.block = self.block();
        out.n_masked = self.canvas.n_masked();
        out.end = self.end;
        out.done = self.is_done();
    }
}
