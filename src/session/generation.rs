//! Runs on a session: pulled step by step, or driven to the end with a callback.
#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::canvas::Canvas;
use crate::denoise::{Cache, CancelToken, CounterNoise, Noise, Params, Run, StepReport, StopRule};
use crate::error::Result;

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

/// A run in progress. Holds its session: another can start when it is dropped.
pub struct Generation<'s> {
    session: &'s mut Session,
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
    pub fn start(&mut self, canvases: Vec<Canvas>, params: &GenerateParams) -> Result<Generation<'_>> {
        let seeds = match params.denoise.seeds.len() {
            0 => vec![params.denoise.seed; canvases.len()],
            _ => params.denoise.seeds.clone(),
        };
        let noise = CounterNoise::new(seeds, self.model.sizes().n_vocab);
        self.start_with_noise(canvases, params, Box::new(noise))
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
    ) -> Result<Generation<'_>> {
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
        if cached {
            let lengths = run.canvases().map(Canvas::len);
            let guided = policies.guidance > 0.0;
            self.predictor
                .prepare_cache(lengths, guided, policies.cache_type)?;
        }
        self.predictor.reserve(run.shapes(), cached)?;
        self.predictor.cancel = params.cancel.as_ref().map(|c| c.flag().clone());
        if let Some(cancel) = &params.cancel {
            run.set_cancel(cancel.clone());
        }
        Ok(Generation {
            session: self,
            run,
            noise,
            stop,
            elapsed: Duration::ZERO,
        })
    }

    /// Fills every masked slot of `canvas` and cuts it where the response ends. `on_step` sees every
    /// step and may break; what there is then stays on the canvas.
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

impl Generation<'_> {
    /// Does one step.
    ///
    /// # Errors
    /// `Cancelled`; `Io`, when the mapped file was changed; `Numeric`; `Resource`; `Device`. The
    /// canvases are then as before the step.
    pub fn step(&mut self) -> Result<&StepReport> {
        let began = Instant::now();
        let stop = self.stop.as_mut().map(|s| s as &mut dyn StopRule);
        self.run
            .step(&mut self.session.predictor, self.noise.as_ref(), stop)?;
        self.elapsed += began.elapsed();
        Ok(self.run.report())
    }

    /// Whether every canvas is finished.
    pub fn is_done(&self) -> bool {
        self.run.is_done()
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
}
