//! A run between its calls: the session and the canvases that it has taken, and its reports.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::args::{array, handle};
use super::canvas::remask_canvas;
use super::generate::{self, remask_generate_params};
use super::guard::{Outcome, invalid, not_found};
use super::run::{remask_change, remask_step};
use super::session::remask_session;
use crate::canvas::Canvas;
use crate::session::{Generation, Session};

pub(super) struct Work {
    generation: Option<Generation<Session>>,
    session: Arc<remask_session>,
    canvases: Canvases,
    /// What the last step changed, per canvas, in C's words.
    changes: Vec<Vec<remask_change>>,
    /// Which canvases the last step worked on.
    worked: Vec<bool>,
    step: Duration,
    elapsed: Duration,
}

// A run may be stepped from one thread after the other.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Work>();
};

/// Canvases that are in a run until this goes.
struct Canvases(Vec<Arc<remask_canvas>>);

impl Drop for Canvases {
    fn drop(&mut self) {
        self.0.iter().for_each(|canvas| canvas.leave_run());
    }
}

impl Work {
    /// Takes the session and the canvases.
    ///
    /// # Safety
    /// Handles are NULL or live, `canvases` is NULL or points at `n_canvases`, `params` is NULL or prepared.
    pub unsafe fn begin(
        session: *const remask_session,
        canvases: *const *mut remask_canvas,
        n_canvases: usize,
        params: *const remask_generate_params,
    ) -> Outcome<Self> {
        // SAFETY: by this function's contract.
        let session = unsafe { handle(session, "session") }?;
        // SAFETY: by this function's contract.
        let handles = unsafe { array(canvases, n_canvases, "canvases") }?;
        // SAFETY: by this function's contract.
        let params = unsafe { generate::read_params(params) }?;
        if handles.is_empty() {
            return Err(invalid("a run needs at least one canvas"));
        }
        let mut taken = Canvases(Vec::new());
        let mut copies: Vec<Canvas> = Vec::new();
        for &canvas in handles {
            // SAFETY: by this function's contract.
            let canvas = unsafe { handle(canvas, "canvas") }?;
            copies.push(canvas.enter_run()?);
            taken.0.push(canvas);
        }
        let owned = session.enter_run()?;
        let generation = match owned.into_generation(copies, &params) {
            Ok(generation) => generation,
            Err(failed) => {
                let (owned, error) = *failed;
                session.leave_run(owned);
                return Err(error.into());
            }
        };
        Ok(Self {
            generation: Some(generation),
            session,
            changes: vec![Vec::new(); taken.0.len()],
            worked: vec![false; taken.0.len()],
            canvases: taken,
            step: Duration::ZERO,
            elapsed: Duration::ZERO,
        })
    }

    fn generation(&self) -> Outcome<&Generation<Session>> {
        match &self.generation {
            Some(generation) => Ok(generation),
            None => Err(crate::err!(Internal, "the run is over").into()),
        }
    }

    pub fn n_canvases(&self) -> usize {
        self.canvases.0.len()
    }

    pub fn is_done(&self) -> bool {
        self.generation.as_ref().is_none_or(Generation::is_done)
    }

    /// Whether the last step worked on canvas `i`.
    pub fn worked_on(&self, i: usize) -> bool {
        self.worked.get(i).copied().unwrap_or(false)
    }

    /// Does one step and shows it on the canvases; none when the run is done.
    pub fn step(&mut self) -> Outcome {
        let Some(generation) = &mut self.generation else {
            return Err(crate::err!(Internal, "the run is over").into());
        };
        let over = generation.is_done();
        let before = generation.report().sequences.iter();
        for (worked, sequence) in self.worked.iter_mut().zip(before) {
            *worked = !over && !sequence.done;
        }
        let began = Instant::now();
        let report = match over {
            true => generation.report(),
            false => generation.step()?,
        };
        self.step = if over { Duration::ZERO } else { began.elapsed() };
        self.elapsed += self.step;
        for (i, (changes, sequence)) in self.changes.iter_mut().zip(&report.sequences).enumerate() {
            changes.clear();
            if !self.worked[i] {
                continue;
            }
            changes.extend(sequence.changed.iter().map(|c| remask_change {
                slot: c.slot as u32,
                token: c.token as i32,
                confidence: c.confidence,
                reserved: 0,
            }));
        }
        self.show(false)
    }

    /// Starts what the next step computes.
    pub fn begin_step(&mut self) -> Outcome {
        match &mut self.generation {
            Some(generation) => generation.begin(),
            None => return Err(crate::err!(Internal, "the run is over").into()),
        }
        Ok(())
    }

    /// Puts tokens on canvas `i` between two steps.
    pub fn replace(&mut self, i: usize, tokens: &[u32]) -> Outcome {
        let n_vocab = self.generation()?.session().model().sizes().n_vocab;
        if let Some(id) = tokens.iter().find(|&&id| id as usize >= n_vocab) {
            return Err(invalid(format!(
                "token {id} is outside the vocabulary of {n_vocab}"
            )));
        }
        if let Some(generation) = &mut self.generation {
            generation.run_mut().replace(i, tokens)?;
        }
        self.show(true)
    }

    /// Brings the caller's canvases up to date: all, or those that the last step worked on.
    fn show(&self, all: bool) -> Outcome {
        let generation = self.generation()?;
        let sequences = &generation.report().sequences;
        let now = generation.canvases().zip(sequences).zip(&self.canvases.0);
        for (i, ((canvas, sequence), shown)) in now.enumerate() {
            if all || self.worked_on(i) {
                shown.show(canvas, sequence.end.unwrap_or(canvas.len()));
            }
        }
        Ok(())
    }

    /// The last step's report of canvas `i`. Its arrays live in this run until the next step.
    pub fn report(&self, i: usize) -> Outcome<remask_step> {
        let generation = self.generation()?;
        let report = generation.report();
        let found = report.sequences.get(i).zip(generation.canvases().nth(i));
        let (Some((sequence, canvas)), Some(changes)) = (found, self.changes.get(i)) else {
            return Err(not_found(format!("there is no canvas {i} in this run")));
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Ok(remask_step {
            i_canvas: count(i),
            n_canvases: count(self.n_canvases()),
            done: u32::from(generation.is_done()),
            canvas_done: u32::from(sequence.done),
            ended: u32::from(sequence.end.is_some()),
            i_step: count(sequence.step),
            n_steps: count(sequence.n_steps),
            block_begin: count(sequence.block.start),
            block_end: count(sequence.block.end),
            n_masked: count(sequence.n_masked),
            end: count(sequence.end.unwrap_or(canvas.len())),
            nfe: report.nfe,
            step_us: us(self.step),
            elapsed_us: us(self.elapsed),
            changed: changes.as_ptr(),
            n_changed: changes.len(),
            tokens: canvas.tokens().as_ptr().cast(),
            slots: canvas.slots().as_ptr().cast(),
            n_slots: canvas.len(),
            struct_size: size_of::<remask_step>() as u32,
        })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(generation) = self.generation.take() {
            let (session, _) = generation.into_parts();
            self.session.leave_run(session);
        }
    }
}
