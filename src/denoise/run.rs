//! The loop: predict, draw, rank, commit, report.
#![forbid(unsafe_code)]

use super::cache::{CacheUse, PassShape};
use super::cancel::CancelToken;
use super::draw::{Drawing, Outcome};
use super::guidance::combine;
use super::noise::Noise;
use super::params::{Order, Params};
use super::predictor::{Branch, Predictor, Query};
use super::reduced::{Reduction, RowPeak};
use super::report::StepReport;
use super::sample::Scratch;
use super::sequence::{Drawn, Sequence};
use super::stop::{StopRule, eos_end, settled};
use crate::canvas::{Canvas, Token};
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
    /// What is asked for in place of logits, where that is enough.
    reduction: Option<Reduction>,
    /// The numbers that rows' tokens are drawn by where they are computed.
    uniform: Vec<[f64; 2]>,
    /// What came of it in this step; empty where there are logits.
    peaks: Vec<RowPeak>,
    /// What came of the rows of logits; empty between steps.
    outcomes: Vec<Outcome>,
    scratch: Scratch,
    n_threads: usize,
    n_vocab: usize,
    /// Whether the next step was decided on already, see [`begin`](Self::begin).
    begun: bool,
    /// Kept for its memory; empty between steps.
    queries: Vec<Query<'static>>,
}

/// An empty vector in the memory of another, whose elements may have lived shorter.
fn recycled<'b>(mut queries: Vec<Query<'_>>) -> Vec<Query<'b>> {
    queries.clear();
    // Nothing is left to convert: collecting in place keeps the allocation.
    queries.into_iter().map_while(|_| None).collect()
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
            done: sequences.iter().all(Sequence::is_done),
            sequences: sequences.iter().map(Sequence::blank_report).collect(),
            ..StepReport::default()
        };
        let forbids = sequences.iter().any(|s| s.canvas.has_forbidden());
        let reduction = Reduction::of(params, n_vocab).filter(|_| !forbids);
        let n_drawn = match &reduction {
            Some(r) if r.temperature > 0.0 => sequences.iter().map(|s| s.canvas.n_masked()).sum(),
            _ => 0,
        };
        let (logits, scratch) = (Vec::new(), Scratch::default());
        Ok(Self {
            params: params.clone(),
            sequences,
            report,
            cancel: None,
            logits,
            reduction,
            uniform: Vec::with_capacity(n_drawn),
            peaks: Vec::new(),
            outcomes: Vec::new(),
            scratch,
            n_threads: 1,
            n_vocab,
            begun: false,
            queries: Vec::new(),
        })
    }

    /// The run ends with `Cancelled` before the step after `cancel` is set.
    pub fn set_cancel(&mut self, cancel: CancelToken) {
        self.cancel = Some(cancel);
    }

    /// Threads that draw candidates, the calling one counted: 1, the default, or more. Those beside it are
    /// made in steps that have work for them, and end with it; what is drawn does not depend on their number.
    pub fn set_threads(&mut self, n_threads: usize) {
        self.n_threads = n_threads.max(1);
    }

    /// Whether every canvas was finished when the last step was done: one that was begun may have passed over the rest.
    pub fn is_done(&self) -> bool {
        self.report.done
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

    /// The kinds of queries that this run may make, for those who want to prepare; of each canvas the
    /// largest first.
    pub fn shapes(&self) -> impl Iterator<Item = PassShape> {
        let each = self.sequences.iter().enumerate();
        each.flat_map(|(i, s)| s.shapes(i, &self.params))
    }

    /// What this run asks for in place of logits, with this noise; `None` where it needs them.
    pub fn reduction(&self, noise: &dyn Noise) -> Option<&Reduction> {
        let drawn = |r: &&Reduction| r.temperature == 0.0 || noise.slot(0, 0, 0).is_some();
        self.reduction.as_ref().filter(drawn)
    }

    /// Puts `tokens` on canvas `sequence`, as if the steps so far had led there: masked where they are
    /// the mask token. Fixed slots keep what they hold. For hosts that edit while a run goes on.
    ///
    /// # Errors
    /// `InvalidArgument`, when there is no such canvas or the length differs; `Busy`, when the next step was
    /// begun.
    pub fn replace(&mut self, sequence: usize, tokens: &[Token]) -> Result<()> {
        if self.begun {
            crate::bail!(
                Busy,
                "the next step was begun with what is on the canvas; do the step, then replace"
            );
        }
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
            s.replace(slot, token)?;
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
        self.begun = false;
        self.predict(predictor, noise)?;
        self.draw(noise)?;
        self.commit(stop);
        Ok(&self.report)
    }

    /// Decides what the next step asks for and tells the predictor, which may start on it while the caller does
    /// something else: see [`Predictor::begin`]. Nothing else changes; canvases cannot be replaced before
    /// that step.
    pub fn begin(&mut self, predictor: &mut dyn Predictor, noise: &dyn Noise) {
        if self.is_done() || self.begun || self.cancel.as_ref().is_some_and(CancelToken::is_set) {
            return;
        }
        for s in &mut self.sequences {
            s.ask(&self.params);
        }
        self.begun = true;
        if !self.sequences.iter().any(Sequence::asks) {
            return;
        }
        let reduces = self.note_uniform(noise);
        let mut queries = recycled(std::mem::take(&mut self.queries));
        list_queries(&self.sequences, &self.params, &mut queries);
        let reduction = self.reduction.as_ref().filter(|_| reduces);
        predictor.begin(&queries, reduction, &self.uniform);
        self.queries = recycled(queries);
    }

    /// Logits of all rows asked for, guidance applied, in `self.logits`; or what is left of them, in
    /// `self.peaks`.
    fn predict(&mut self, predictor: &mut dyn Predictor, noise: &dyn Noise) -> Result<()> {
        let guided = self.params.guidance > 0.0;
        let n_rows: usize = self.sequences.iter().map(|s| s.rows.len()).sum();
        self.report.n_rows = n_rows;
        self.peaks.clear();
        if !self.sequences.iter().any(Sequence::asks) {
            self.report.sequences.iter_mut().for_each(|s| s.window = 0..0);
            return Ok(());
        }
        let reduces = self.note_uniform(noise);
        let mut queries = recycled(std::mem::take(&mut self.queries));
        list_queries(&self.sequences, &self.params, &mut queries);
        let nfe = queries.len() as u64;
        let done = match &self.reduction {
            Some(reduction) if reduces => {
                predictor.predict_reduced(&queries, reduction, &self.uniform, &mut self.peaks)
            }
            _ => Ok(false),
        };
        let done = match done {
            Ok(false) => predictor.predict(&queries, &mut self.logits).map(|()| false),
            done => done,
        };
        self.queries = recycled(queries);
        let reduced = done?;
        let n = if reduced { n_rows } else { n_rows * self.n_vocab };
        let wanted = if guided { 2 * n } else { n };
        let got = if reduced {
            self.peaks.len()
        } else {
            self.logits.len()
        };
        if got != wanted {
            crate::bail!(Internal, "the predictor gave {got} numbers for {wanted}");
        }
        if guided {
            let (cond, un) = self.logits.split_at_mut(n);
            combine(cond, un, self.params.guidance);
        }
        self.report.nfe += nfe;
        let branches = if guided { 2 } else { 1 };
        for (s, out) in self.sequences.iter().zip(&mut self.report.sequences) {
            out.window = s.computed(&self.params);
            let cached = matches!(s.pass, CacheUse::Window { .. } | CacheUse::Partial { .. });
            out.cached = cached && s.asks();
            self.report.n_computed += branches * s.n_computed(&self.params) as u64;
        }
        Ok(())
    }

    /// Asks for the numbers that rows are drawn by where they are computed; whether they can be.
    fn note_uniform(&mut self, noise: &dyn Noise) -> bool {
        self.uniform.clear();
        let Some(reduction) = &self.reduction else {
            return false;
        };
        if reduction.temperature == 0.0 {
            return true;
        }
        for (i, s) in self.sequences.iter().enumerate() {
            for &slot in &s.rows {
                match noise.slot(s.n_done, i, slot as usize) {
                    Some(u) => self.uniform.push(u),
                    None => return false,
                }
            }
        }
        true
    }

    /// Draws and ranks a candidate for every row.
    fn draw(&mut self, noise: &dyn Noise) -> Result<()> {
        if !self.peaks.is_empty() {
            return self.draw_reduced(noise);
        }
        let drawing = Drawing {
            params: &self.params,
            sequences: &self.sequences,
            noise,
        };
        drawing.all(
            &mut self.logits,
            self.n_vocab,
            self.n_threads,
            &mut self.scratch,
            &mut self.outcomes,
        );
        let mut outcomes = self.outcomes.drain(..);
        for (i, s) in self.sequences.iter_mut().enumerate() {
            s.candidates.clear();
            s.drawn.clear();
            for k in 0..s.rows.len() {
                let Some(Some(outcome)) = outcomes.next() else {
                    break;
                };
                let (rank, drawn) = outcome.map_err(|e| named(e, i, self.report.sequences.len()))?;
                s.candidates.push((rank, k as u32));
                s.drawn.push(drawn);
            }
        }
        Ok(())
    }

    /// As [`draw`](Self::draw), from what is left of the rows.
    fn draw_reduced(&mut self, noise: &dyn Noise) -> Result<()> {
        let n_excluded = self.reduction.as_ref().map_or(0, |r| r.excluded.len());
        let mut peaks = self.peaks.iter();
        for (i, s) in self.sequences.iter_mut().enumerate() {
            s.candidates.clear();
            s.drawn.clear();
            for ((k, &slot), peak) in s.rows.iter().enumerate().zip(&mut peaks) {
                let at = slot as usize;
                let checked = peak.check(at, n_excluded);
                checked.map_err(|e| named(e, i, self.report.sequences.len()))?;
                let rank = match self.params.order {
                    Order::Random | Order::Origin => noise.order(s.n_done, i, at),
                    Order::LeftToRight => -(slot as f32),
                    order => peak.rank(order),
                };
                s.candidates.push((rank, k as u32));
                s.drawn.push(Drawn {
                    slot,
                    token: peak.token,
                    entropy: -peak.negative_entropy,
                    gap: peak.gap,
                });
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
        self.report.done = self.sequences.iter().all(Sequence::is_done);
    }
}

/// Appends what this step asks for.
fn list_queries<'s>(sequences: &'s [Sequence], params: &Params, queries: &mut Vec<Query<'s>>) {
    for branch in [Branch::Conditional, Branch::Unconditional] {
        if branch == Branch::Unconditional && params.guidance == 0.0 {
            continue;
        }
        let asked = sequences.iter().enumerate().filter(|(_, s)| s.asks());
        queries.extend(asked.map(|(sequence, s)| {
            let tokens = match branch {
                Branch::Conditional => s.canvas.tokens(),
                Branch::Unconditional => &s.unconditional,
            };
            Query {
                sequence,
                branch,
                tokens: &tokens[..s.n_shown(params)],
                rows: &s.rows,
                cache: s.pass,
            }
        }));
    }
}

fn named(error: Error, i: usize, n: usize) -> Error {
    if n > 1 {
        error.context(format_args!("canvas {i}"))
    } else {
        error
    }
}
