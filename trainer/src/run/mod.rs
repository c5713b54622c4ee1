//! The loop: batches, updates, evaluations, checkpoints.

mod evaluate;
mod open;
mod update;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use remask::Result;

use crate::checkpoint::{self, Progress, Snapshot};
use crate::config::Config;
use crate::data::{Encoder, Loader, SpecialIds};
use crate::engine::{Engine, Ranks};
use crate::metrics::Metrics;
use crate::noise::Keywords;
use crate::optim::Schedule;
use crate::shape::{Shape, invalid};

/// What the loop tells while it works.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// It begins, or goes on.
    Started {
        /// Values of all parameters.
        n_parameters: usize,
        /// The configuration, with what it left open filled in.
        config: &'a Config,
        /// Updates done before.
        step: u64,
        /// Bytes that training will take, estimated.
        memory: u64,
    },
    /// An update is done.
    Step(&'a Step),
    /// The bound on held-out text was estimated.
    Evaluated {
        /// After so many updates.
        step: u64,
        /// Nats per token, and its standard error.
        bound: f64,
        /// See `bound`.
        error: f64,
        /// The same in bits per byte of text.
        bits_per_byte: f64,
    },
    /// A checkpoint is there.
    Saved(&'a Path),
    /// The runtime wrote this.
    Wrote {
        /// What it went on from.
        prompt: &'a str,
        /// What it wrote.
        text: &'a str,
    },
    /// Something that is no error.
    Note(&'a str),
}

/// One update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Updates done.
    pub step: u64,
    /// Updates in all.
    pub total: u64,
    /// The loss: for diffusion a bound in nats per token, from one draw of the noise.
    pub loss: f64,
    /// Of preferences the share of pairs that were told apart, of rewards their mean.
    pub score: Option<f64>,
    /// Norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Tokens learned from so far.
    pub tokens: u64,
    /// Tokens a second.
    pub tokens_per_s: f64,
    /// Floating-point operations a second.
    pub flops: f64,
    /// Seconds of training so far.
    pub seconds: f64,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All updates are done.
    Steps,
    /// `run.max_minutes` have passed.
    Minutes,
    /// `run.patience` evaluations were no better.
    Patience,
    /// It was asked to.
    Asked,
}

/// A run in its folder.
pub struct Run {
    config: Config,
    folder: PathBuf,
    tokenizer: PathBuf,
    ids: SpecialIds,
    encoder: Encoder,
    engine: Box<dyn Engine>,
    /// What the run began with, where the objective compares with it.
    reference: Option<Box<dyn Engine>>,
    loader: Loader,
    eval: Option<Loader>,
    keywords: Option<Keywords>,
    progress: Progress,
    metrics: Metrics,
    /// What was noticed at opening and is no error.
    notes: Vec<String>,
}

impl Run {
    /// Goes on from the newest checkpoint, if there is one.
    fn resume(&mut self) -> Result<()> {
        checkpoint::restore(&self.folder)?;
        let Some((_, path)) = checkpoint::list(&self.folder).into_iter().next() else {
            return Ok(());
        };
        let progress = checkpoint::load_progress(&path)?;
        let before = Config::parse(&progress.config, &[])
            .map_err(|e| e.context(path.join("trainer.json").display()))?;
        if let Some(key) = changed(&before, &self.config) {
            return Err(invalid(format!(
                "{}: was made with another {key}; give it its value back, or name another folder (--set run.init_from={} begins a new run with its weights)",
                path.display(),
                path.display()
            )));
        }
        if progress.tokenizer != self.progress.tokenizer {
            return Err(invalid(format!(
                "{}: was made with another tokenizer",
                path.display()
            )));
        }
        self.engine
            .set_state(checkpoint::load_state(&path, &self.engine.parameters())?)?;
        self.loader.seek(progress.position);
        self.progress = Progress {
            config: self.progress.config.clone(),
            ..progress
        };
        Ok(())
    }

    /// Updates done.
    pub fn step(&self) -> u64 {
        self.progress.step
    }

    /// Which process of how many this is.
    pub fn ranks(&self) -> Ranks {
        self.engine.ranks()
    }

    /// Floating-point operations a second of a large matrix product.
    pub fn peak_flops(&mut self) -> f64 {
        self.engine.peak_flops()
    }

    /// The configuration, with what it left open filled in.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Trains until something ends it. `tell` may end it, too; a checkpoint is written then.
    ///
    /// # Errors
    /// `Numeric`, naming step and data, when the loss is no number: the last checkpoint stays. `Io`, when a
    /// shard vanished or the disk is full.
    pub fn train(&mut self, tell: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) -> Result<End> {
        let started = Event::Started {
            n_parameters: self.config.model.n_parameters(),
            config: &self.config,
            step: self.progress.step,
            memory: crate::estimate::memory(&self.config),
        };
        if tell(started).is_break() {
            return Ok(End::Asked);
        }
        for note in std::mem::take(&mut self.notes) {
            let _ = tell(Event::Note(&note));
        }
        let begin = Instant::now();
        let before = self.progress.seconds;
        let mut saved = self.progress.step;
        let mut evaluated = None;
        let first = self.progress.step;
        let end = loop {
            if self.progress.step >= self.config.run.steps {
                break End::Steps;
            }
            let minutes = self.agree(begin.elapsed().as_secs_f64() / 60.0)?;
            if self.config.run.max_minutes > 0.0 {
                if minutes >= self.config.run.max_minutes || self.fallen() {
                    break End::Minutes;
                }
                self.fall_in_time(minutes, self.progress.step - first);
            }
            let clock = Instant::now();
            let mut step = self.update()?;
            let elapsed = clock.elapsed().as_secs_f64();
            step.tokens_per_s = step.tokens as f64 / elapsed;
            step.flops /= elapsed;
            self.progress.tokens += step.tokens;
            step.tokens = self.progress.tokens;
            self.progress.seconds = before + begin.elapsed().as_secs_f64();
            step.seconds = self.progress.seconds;
            self.metrics.step(&step)?;
            let asked = tell(Event::Step(&step)).is_break();
            let asked = self.any(asked)?;
            let done = self.progress.step;
            let due = |every: u64| every > 0 && done.is_multiple_of(every);
            if due(self.config.run.eval_every) {
                self.evaluate(tell)?;
                evaluated = Some(self.progress.step);
            }
            if due(self.config.run.checkpoint_every) {
                self.save(tell)?;
                saved = self.progress.step;
            }
            if asked {
                break End::Asked;
            }
            if self.config.run.patience > 0 && self.progress.stale >= self.config.run.patience {
                break End::Patience;
            }
        };
        if saved != self.progress.step {
            if end != End::Asked && evaluated != Some(self.progress.step) && self.config.run.eval_every > 0 {
                self.evaluate(tell)?;
            }
            self.save(tell)?;
        }
        Ok(end)
    }

    /// The first process's value, so that all decide alike.
    fn agree(&mut self, value: f64) -> Result<f64> {
        let first = self.engine.ranks().rank == 0;
        let mut sum = [if first { value } else { 0.0 }];
        self.engine.sum(&mut sum)?;
        Ok(sum[0])
    }

    /// Whether it is so in any process.
    fn any(&mut self, here: bool) -> Result<bool> {
        let mut sum = [f64::from(u8::from(here))];
        self.engine.sum(&mut sum)?;
        Ok(sum[0] > 0.0)
    }

    /// Whether the rate has fallen to its end before all updates were done.
    fn fallen(&self) -> bool {
        self.progress.fall.is_some_and(|(_, to)| self.progress.step >= to)
    }

    /// Where minutes end the run, the rate falls in the last of them: when its share of the minutes is what
    /// is left, the fall begins, and ends after as many updates as will fit.
    fn fall_in_time(&mut self, minutes: f64, done: u64) {
        let o = &self.config.optimizer;
        let limit = self.config.run.max_minutes;
        if o.schedule != Schedule::Wsd || self.progress.fall.is_some() || done == 0 {
            return;
        }
        let (step, total) = (self.progress.step, self.config.run.steps);
        if minutes < limit * (1.0 - o.decay) || step >= o.fall_from(total) {
            return;
        }
        let fitting = (limit - minutes) * done as f64 / minutes.max(1e-9);
        // A little less, so that the clock does not cut the end off.
        let to = step + (fitting * 0.97) as u64;
        self.progress.fall = (to < total).then_some((step, to.max(step + 1)));
    }

    fn save(&mut self, tell: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) -> Result<()> {
        let state = self.engine.state();
        // The average is what is used; with adapters it has to be merged.
        let averaged = self.config.run.ema > 0.0;
        if averaged {
            self.swap_average()?;
        }
        let weights = self.engine.weights();
        if averaged {
            self.engine.set_state(state.clone())?;
        }
        // One process writes what all of them have.
        if self.engine.ranks().rank > 0 {
            return Ok(());
        }
        let path = checkpoint::save(
            &self.folder,
            &Snapshot {
                shape: &self.config.model,
                weights: &weights,
                parameters: &self.engine.parameters(),
                state: &state,
                progress: &self.progress,
                tokenizer: &self.tokenizer,
                ids: self.ids,
                shift: self.config.objective.shift,
            },
        )?;
        drop((state, weights));
        self.metrics.flush()?;
        checkpoint::prune(
            &self.folder,
            self.config.run.keep,
            self.progress.best.map(|b| b.1),
        );
        let _ = tell(Event::Saved(&path));
        for prompt in &self.config.run.prompts {
            match crate::sample::write(&path, prompt, self.config.run.prompt_tokens) {
                Ok(text) => {
                    let _ = tell(Event::Wrote { prompt, text: &text });
                }
                // A sample is not worth a run.
                Err(e) => {
                    let _ = tell(Event::Note(&format!("no sample: {e}")));
                }
            }
        }
        Ok(())
    }
}

/// The first key whose change would change the trajectory.
fn changed(a: &Config, b: &Config) -> Option<&'static str> {
    let model = |c: &Config| Shape {
        init: crate::shape::Init::Normal,
        init_std: 0.0,
        ..c.model.clone()
    };
    if model(a) != model(b) {
        return Some("[model]");
    }
    if a.seed != b.seed {
        return Some("seed");
    }
    if a.data != b.data {
        return Some("[data]");
    }
    if a.objective != b.objective {
        return Some("[objective]");
    }
    if a.lora != b.lora {
        return Some("[lora]");
    }
    if a.preference != b.preference {
        return Some("[preference]");
    }
    if a.policy != b.policy {
        return Some("[policy]");
    }
    if a.optimizer != b.optimizer {
        return Some("[optimizer]");
    }
    if (a.run.steps, a.run.batch) != (b.run.steps, b.run.batch) {
        return Some("run.steps or run.batch");
    }
    None
}
