//! Runs on a session: pulled step by step, or driven to the end with a callback.
#![forbid(unsafe_code)]

use std::borrow::BorrowMut;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::canvas::Canvas;
use crate::denoise::{Cache, CancelToken, CounterNoise, Noise, Params, Run, StepReport, StopRule};
use crate::error::{Error, Result};

use super::Session;
use super::stop::StopTexts;

/// What a run is asked for: the denoiser's policies and what needs the tokenizer.
#[derive(Clone, Debug, Default)]
pub struct GenerateParams {
    /// The denoiser's policies. `eos` and `eot` are filled in from the model where they are `None`.
    pub denoise: Params,
    /// The response ends before the first of these texts.
    pub stop: Vec<String>,
    /// Stops the run: between two nodes of the network on a CPU, else before the next step.
    pub cancel: Option<CancelToken>,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Function evaluations: forward passes of one canvas.
    pub nfe: u64,
    /// Where each canvas' response ends: its length, or sooner by an end token or stop text.
    pub ends: Vec<usize>,
    /// Time spent in steps.
    pub elapsed: Duration,
    /// Whether the callback ended the run.
    pub stopped: bool,
}

/// A run in progress. Holds its session, borrowed or owned: another can start when it is dropped.
pub struct Generation<S> {
    session: S,
    run: Run,
    noise: Box<dyn Noise + Send>,
    stop: Option<StopTexts>,
    elapsed: Duration,
}

impl Session {
    /// Starts a run that fills the masked slots of `canvases`.
    ///
    /// # Errors
    /// `InvalidArgument` or `Unsupported`, naming the option or canvas; `Resource`.
    pub fn start(&mut self, canvases: Vec<Canvas>, params: &GenerateParams) -> Result<Generation<&mut Self>> {
        let noise = self.noise(canvases.len(), params);
        self.start_with_noise(canvases, params, noise)
    }

    /// As [`start`](Self::start), for hosts that cannot borrow: the run owns the session until
    /// [`Generation::into_parts`] gives it back.
    ///
    /// # Errors
    /// As [`start`](Self::start); the session comes back with the error.
    pub fn into_generation(
        mut self,
        canvases: Vec<Canvas>,
        params: &GenerateParams,
    ) -> std::result::Result<Generation<Self>, Box<(Self, Error)>> {
        let noise = self.noise(canvases.len(), params);
        match self.prepare(canvases, params, noise.as_ref()) {
            Ok((run, stop)) => Ok(Generation::new(self, run, stop, noise)),
            Err(error) => Err(Box::new((self, error))),
        }
    }

    fn noise(&self, n_canvases: usize, params: &GenerateParams) -> Box<dyn Noise + Send> {
        let seeds = match params.denoise.seeds.len() {
            0 => vec![params.denoise.seed; n_canvases],
            _ => params.denoise.seeds.clone(),
        };
        Box::new(CounterNoise::new(seeds, self.model.sizes().n_vocab))
    }

    /// As [`start`](Self::start), with random numbers of the caller's.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with_noise(
        &mut self,
        canvases: Vec<Canvas>,
        params: &GenerateParams,
        noise: Box<dyn Noise + Send>,
    ) -> Result<Generation<&mut Self>> {
        let (run, stop) = self.prepare(canvases, params, noise.as_ref())?;
        Ok(Generation::new(self, run, stop, noise))
    }

    /// Checks what is asked for and makes everything that a run needs.
    fn prepare(
        &mut self,
        canvases: Vec<Canvas>,
        params: &GenerateParams,
        noise: &dyn Noise,
    ) -> Result<(Run, Option<StopTexts>)> {
        for (i, canvas) in canvases.iter().enumerate() {
            self.check_length(canvas.len())?;
            if canvas.mask_token() != self.model.mask_token() {
                crate::bail!(
                    InvalidArgument,
                    "canvas {i} was made for another model: its mask token differs"
                );
            }
        }
        let mut policies = params.denoise.clone();
        let specials = self.model.tokenizer().specials();
        policies.eos = policies.eos.or(specials.eos);
        policies.eot = policies.eot.or(specials.eot);
        let mut run = Run::new(canvases, &policies, self.model.sizes().n_vocab)?;
        let stop = match params.stop.is_empty() {
            true => None,
            false => Some(StopTexts::new(
                self.model.tokenizer(),
                &params.stop,
                run.canvases().len(),
            )?),
        };
        let cached = policies.cache != Cache::None;
        let guided = policies.guidance > 0.0;
        if cached {
            let lengths = run.canvases().map(Canvas::len);
            let features = matches!(policies.cache, Cache::Feature { .. });
            self.predictor
                .prepare_cache(lengths, guided, policies.cache_type, features)?;
        }
        self.predictor
            .reserve(run.shapes(), (cached, guided), run.reduction(noise))?;
        self.predictor.cancel = params.cancel.as_ref().map(|c| c.flag().clone());
        run.set_threads(self.n_threads());
        if let Some(cancel) = &params.cancel {
            run.set_cancel(cancel.clone());
        }
        self.stats.n_runs += 1;
        Ok((run, stop))
    }

    /// Fills every masked slot of `canvas` and cuts it where the response ends. `on_step` sees every
    /// step and may break; what there is then stays on the canvas. Devices compute the next step meanwhile.
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`Generation::step`]; the canvas keeps what was filled before.
    pub fn generate(
        &mut self,
        canvas: &mut Canvas,
        params: &GenerateParams,
        mut on_step: impl FnMut(&StepReport, &Canvas) -> ControlFlow<()>,
    ) -> Result<Summary> {
        let mut generation = self.start(vec![canvas.clone()], params)?;
        let mut stopped = false;
        let mut failed = None;
        while !generation.is_done() && !stopped {
            match generation.step() {
                Ok(_) => {}
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
            generation.begin();
            if let Some(now) = generation.run.canvases().next() {
                stopped = on_step(generation.run.report(), now).is_break();
            }
        }
        let summary = Summary {
            stopped,
            ..generation.summary()
        };
        if let Some(filled) = generation.into_canvases().pop() {
            *canvas = filled;
        }
        if let Some(&end) = summary.ends.first() {
            canvas.truncate(end);
        }
        failed.map_or(Ok(summary), Err)
    }
}

impl<S: BorrowMut<Session>> Generation<S> {
    fn new(session: S, run: Run, stop: Option<StopTexts>, noise: Box<dyn Noise + Send>) -> Self {
        Self {
            session,
            run,
            noise,
            stop,
            elapsed: Duration::ZERO,
        }
    }

    /// Does one step.
    ///
    /// # Errors
    /// `Cancelled`; `Io`, when the mapped file was changed; `Numeric`; `Resource`; `Device`. The
    /// canvases are then as before the step.
    pub fn step(&mut self) -> Result<&StepReport> {
        let began = Instant::now();
        let stop = self.stop.as_mut().map(|s| s as &mut dyn StopRule);
        let session = self.session.borrow_mut();
        let before = self.run.report().nfe;
        self.run.step(&mut session.predictor, self.noise.as_ref(), stop)?;
        let (took, nfe) = (began.elapsed(), self.run.report().nfe - before);
        self.elapsed += took;
        session.stats.n_steps += 1;
        session.stats.add(nfe, took);
        Ok(self.run.report())
    }

    /// Starts what the next step computes, where devices compute all of it, and returns at once: for hosts
    /// with something else to do between two steps. Until that step canvases cannot be replaced. On a CPU
    /// nothing is done ahead.
    pub fn begin(&mut self) {
        let session = self.session.borrow_mut();
        self.run.begin(&mut session.predictor, self.noise.as_ref());
    }

    /// Whether every canvas is finished.
    pub fn is_done(&self) -> bool {
        self.run.is_done()
    }

    /// The session.
    pub fn session(&self) -> &Session {
        self.session.borrow()
    }

    /// What the last step did.
    pub fn report(&self) -> &StepReport {
        self.run.report()
    }

    /// The canvases as they are now.
    pub fn canvases(&self) -> impl ExactSizeIterator<Item = &Canvas> {
        self.run.canvases()
    }

    /// The denoiser's run, for hosts that edit between steps.
    pub fn run_mut(&mut self) -> &mut Run {
        &mut self.run
    }

    /// What the run came to so far.
    pub fn summary(&self) -> Summary {
        let report = self.run.report();
        let ends = self.run.canvases().zip(&report.sequences);
        Summary {
            nfe: report.nfe,
            ends: ends.map(|(canvas, s)| s.end.unwrap_or(canvas.len())).collect(),
            elapsed: self.elapsed,
            stopped: false,
        }
    }

    /// Ends the run and gives the canvases back, as they are.
    pub fn into_canvases(self) -> Vec<Canvas> {
        self.run.into_canvases()
    }

    /// Ends the run and gives back its session and the canvases, as they are.
    pub fn into_parts(self) -> (S, Vec<Canvas>) {
        (self.session, self.run.into_canvases())
    }
}
