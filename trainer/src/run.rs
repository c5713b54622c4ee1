//! The loop: batches, updates, evaluations, checkpoints.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use remask::{Error, ErrorKind, Result};

use crate::checkpoint::{self, Progress, Snapshot};
use crate::config::{Config, Kind};
use crate::data::{Encoder, Loader, SpecialIds};
use crate::engine::{Device, Engine, Flex};
use crate::import::read_folder;
use crate::lora::Lora;
use crate::metrics::Metrics;
use crate::noise::Keywords;
use crate::objective::{
    Attention, Batch, Diffusion, Example, causal, pretrain, pretrain_keywords, sft, uniforms,
};
use crate::optim::Update;
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
    engine: Box<dyn Engine>,
    loader: Loader,
    eval: Option<Loader>,
    keywords: Option<Keywords>,
    progress: Progress,
    metrics: Metrics,
}

fn device(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::Vulkan),
        #[cfg(feature = "metal")]
        "metal" => Ok(Device::Metal),
        other => Err(invalid(format!(
            "run.device is `{other}`; this build has cpu{}{}",
            if cfg!(feature = "vulkan") { ", vulkan" } else { "" },
            if cfg!(feature = "metal") { ", metal" } else { "" }
        ))),
    }
}

impl Run {
    /// Opens a run in `folder`: goes on from its newest checkpoint, or begins one.
    ///
    /// # Errors
    /// `InvalidArgument`, for a configuration that does not fit, or that differs from that of the
    /// checkpoint in what would change its trajectory; what files and data report.
    pub fn open(config: &Config, folder: &Path) -> Result<Self> {
        config.check()?;
        let mut config = config.clone();
        let init = match config.run.init_from.as_os_str().is_empty() {
            true => None,
            false => Some(checkpoint::find(&config.run.init_from)?),
        };
        let tokenizer = match (&init, config.run.tokenizer.as_os_str().is_empty()) {
            (Some(init), true) => init.clone(),
            (None, true) => {
                return Err(invalid(
                    "run.tokenizer is empty; name the tokenizer's folder".to_owned(),
                ));
            }
            (_, false) => config.run.tokenizer.clone(),
        };
        let encoder = Encoder::open(&tokenizer)?;
        if config.data.train.is_empty() {
            return Err(invalid(
                "data.train is empty; name folders of `remask-train prepare`".to_owned(),
            ));
        }
        let loaded = match &init {
            Some(init) => {
                let (shape, weights) = read_folder(init)?;
                config.model = Shape {
                    init: config.model.init,
                    init_std: config.model.init_std,
                    ..shape
                };
                Some(weights)
            }
            None => {
                if config.model.vocab_size == 0 {
                    config.model.vocab_size = encoder.n_vocab().next_multiple_of(64);
                }
                None
            }
        };
        if config.model.vocab_size < encoder.n_vocab() {
            return Err(invalid(format!(
                "model.vocab_size is {}; the tokenizer has {} tokens",
                config.model.vocab_size,
                encoder.n_vocab()
            )));
        }
        if config.data.length > config.model.max_sequence_length {
            return Err(invalid(format!(
                "data.length is {}; model.max_sequence_length is {}",
                config.data.length, config.model.max_sequence_length
            )));
        }
        let whole = config.objective.kind == Kind::Sft;
        let loader = Loader::open(&config.data.train, config.data.length, whole, config.seed)?;
        let eval = match config.data.eval.as_os_str().is_empty() {
            true => None,
            false => Some(Loader::open(
                &[config.data.eval.clone()],
                config.data.length,
                whole,
                0,
            )?),
        };
        for manifest in loader
            .manifests()
            .iter()
            .chain(eval.iter().flat_map(|e| e.manifests()))
        {
            if manifest.tokenizer != encoder.fingerprint() {
                return Err(invalid(format!(
                    "the data was prepared with another tokenizer than {}; prepare it again",
                    tokenizer.display()
                )));
            }
        }
        let mut engine = Flex::new(&config.model, device(&config.run.device)?, config.seed)?;
        if let Some(mut weights) = loaded {
            let each = config.model.parameters().into_iter();
            let values = each.map(|p| weights.remove(&p.name).unwrap_or_default());
            engine.set_weights(values.collect())?;
        }
        engine.set_recompute(config.run.recompute);
        let keywords = (config.objective.keywords > 0.0).then(|| {
            let mut counts = vec![0u64; encoder.n_vocab()];
            for manifest in loader.manifests() {
                counts.iter_mut().zip(&manifest.counts).for_each(|(a, b)| *a += b);
            }
            Keywords::from_counts(&counts, config.objective.keywords)
        });
        let mut engine: Box<dyn Engine> = Box::new(engine);
        if config.lora.rank > 0 {
            engine = Box::new(Lora::new(engine, &config.lora, config.seed)?);
        }
        if let Some(keywords) = &keywords {
            engine.set_exponents(keywords.exponents.clone());
        }
        let mut run = Self {
            progress: Progress {
                version: 1,
                config: config.to_text(),
                tokenizer: encoder.fingerprint().to_owned(),
                ..Progress::default()
            },
            metrics: Metrics::default(),
            config,
            folder: folder.to_owned(),
            tokenizer,
            ids: encoder.ids(),
            engine,
            loader,
            eval,
            keywords,
        };
        run.resume()?;
        run.metrics = Metrics::open(folder, run.progress.step)?;
        Ok(run)
    }

    /// Goes on from the newest checkpoint, if there is one.
    fn resume(&mut self) -> Result<()> {
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
            memory: memory(&self.config),
        };
        if tell(started).is_break() {
            return Ok(End::Asked);
        }
        let begin = Instant::now();
        let before = self.progress.seconds;
        let mut saved = self.progress.step;
        let mut evaluated = None;
        let end = loop {
            if self.progress.step >= self.config.run.steps {
                break End::Steps;
            }
            let minutes = begin.elapsed().as_secs_f64() / 60.0;
            if self.config.run.max_minutes > 0.0 && minutes >= self.config.run.max_minutes {
                break End::Minutes;
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

    /// One update; its `tokens` are those of this step, its `flops` operations.
    fn update(&mut self) -> Result<Step> {
        let step = self.progress.step;
        // Noise depends on the step alone, so that nothing of it has to be saved.
        let mut rng = ChaCha8Rng::seed_from_u64(self.config.seed);
        rng.set_stream(step + (1 << 32));
        let at = self.loader.position();
        let (examples, numbers) = self.loader.next_batch(self.config.run.batch, self.ids.eos)?;
        let batch = self.batch(examples, numbers, &mut rng);
        let (mut loss, mut flops) = (0.0, 0.0);
        for part in batch.split(self.config.run.micro_batch) {
            let pass = self.engine.accumulate(&part)?;
            loss += part.loss(&pass.log_probs, &pass.rates);
            flops += self
                .config
                .model
                .flops(part.n_sequences, part.length, part.slots.len());
        }
        let where_ = || {
            format!(
                "step {}, batch at epoch {} sequence {}",
                step + 1,
                at.epoch,
                at.next
            )
        };
        if !loss.is_finite() {
            return Err(Error::new(
                ErrorKind::Numeric,
                format!(
                    "{}: the loss is {loss}; the checkpoints before it are good",
                    where_()
                ),
            ));
        }
        let lr = self.config.optimizer.lr_at(step, self.config.run.steps);
        let update = Update {
            adamw: self.config.optimizer.clone(),
            lr,
            step: step + 1,
            ema: self.config.run.ema,
        };
        let updated = self.engine.update(&update).map_err(|e| e.context(where_()))?;
        self.progress.step += 1;
        self.progress.position = self.loader.position();
        Ok(Step {
            step: step + 1,
            total: self.config.run.steps,
            loss,
            grad_norm: updated.grad_norm,
            lr,
            tokens: (batch.n_sequences * batch.length) as u64,
            tokens_per_s: 0.0,
            flops,
            seconds: 0.0,
        })
    }

    fn diffusion(&self) -> Diffusion {
        Diffusion {
            mask: self.ids.mask,
            eps: self.config.objective.eps,
            times: self.config.objective.times,
        }
    }

    /// The noised batch of an update.
    fn batch(&self, mut examples: Vec<Example>, mut numbers: Vec<u32>, rng: &mut ChaCha8Rng) -> Batch {
        let o = &self.config.objective;
        let d = self.diffusion();
        let mut length = examples.first().map_or(0, |e| e.tokens.len());
        if o.kind != Kind::Sft && rng.random::<f64>() < o.random_length {
            let cut = rng.random_range(1..=length);
            numbers = numbers
                .chunks_exact(length)
                .flat_map(|n| n[..cut].to_vec())
                .collect();
            examples.iter_mut().for_each(|e| e.tokens.truncate(cut));
            length = cut;
        }
        let [from, to] = o.range;
        let mut times = d.times.draw(examples.len(), rng);
        times.iter_mut().for_each(|t| *t = from + *t * (to - from));
        let u = uniforms(examples.len() * length, rng);
        let flat = || {
            examples
                .iter()
                .flat_map(|e| e.tokens.iter().copied())
                .collect::<Vec<_>>()
        };
        let mut batch = match (o.kind, &self.keywords) {
            (Kind::Sft, _) => sft(&examples, &d, &times, &u),
            (Kind::Causal, _) => causal(&examples),
            (Kind::Pretrain, Some(keywords)) => pretrain_keywords(&flat(), length, &d, keywords, &times, &u),
            (Kind::Pretrain, None) => pretrain(&flat(), length, &d, &times, &u),
        };
        if o.kind != Kind::Causal {
            if o.anneal > self.progress.step {
                batch.attention = annealed(length, self.progress.step as f64 / o.anneal as f64, rng);
            } else if !self.config.data.across_documents && !numbers.is_empty() {
                batch.attention = Attention::Documents(numbers);
            }
            if o.shift {
                batch.shift();
            }
        }
        batch
    }

    /// The bound on held-out sequences, always the same with the same noise: nats per token and its
    /// standard error over sequences. With an average of weights, that one's.
    ///
    /// # Errors
    /// What data and engine report.
    pub fn bound(&mut self) -> Result<Option<(f64, f64)>> {
        let Some(loader) = &mut self.eval else {
            return Ok(None);
        };
        let examples = loader.first(self.config.run.eval_sequences)?;
        let swapped = self.config.run.ema > 0.0;
        if swapped {
            self.swap_average()?;
        }
        let mut values = Vec::new();
        let mut failed = None;
        for (i, example) in examples.iter().enumerate() {
            match self.loss_of(example, i) {
                Ok(loss) => values.push(loss),
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        if swapped {
            self.swap_average()?;
        }
        if let Some(e) = failed {
            return Err(e);
        }
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        Ok(Some((mean, (variance / n).sqrt())))
    }

    /// One sequence's loss, averaged over four times that cover the interval.
    fn loss_of(&mut self, example: &Example, number: usize) -> Result<f64> {
        const DRAWS: usize = 4;
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        rng.set_stream(number as u64);
        let length = example.tokens.len();
        let d = self.diffusion();
        if self.config.objective.kind == Kind::Causal {
            let batch = causal(std::slice::from_ref(example));
            let pass = self.engine.evaluate(&batch)?;
            return Ok(batch.loss(&pass.log_probs, &pass.rates));
        }
        let times = crate::noise::Times::Stratified.draw(DRAWS, &mut rng);
        let u = uniforms(DRAWS * length, &mut rng);
        let copies = vec![example.clone(); DRAWS];
        let mut batch = match self.config.objective.kind {
            Kind::Sft => sft(&copies, &d, &times, &u),
            _ => {
                let flat: Vec<_> = copies.iter().flat_map(|e| e.tokens.iter().copied()).collect();
                pretrain(&flat, length, &d, &times, &u)
            }
        };
        if self.config.objective.shift {
            batch.shift();
        }
        let pass = self.engine.evaluate(&batch)?;
        Ok(batch.loss(&pass.log_probs, &pass.rates))
    }

    fn swap_average(&mut self) -> Result<()> {
        let mut state = self.engine.state();
        for s in &mut state {
            if s.average.len() == s.values.len() {
                std::mem::swap(&mut s.values, &mut s.average);
            }
        }
        self.engine.set_state(state)
    }

    fn evaluate(&mut self, tell: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>) -> Result<()> {
        let Some((bound, error)) = self.bound()? else {
            return Ok(());
        };
        let step = self.progress.step;
        let bytes = self
            .eval
            .as_ref()
            .and_then(|e| e.manifests().first())
            .map_or(1.0, |m| m.bytes_per_token());
        let bits_per_byte = bound / std::f64::consts::LN_2 / bytes.max(1e-9);
        self.metrics.evaluation(step, bound, error, bits_per_byte)?;
        self.progress.bound = Some(bound);
        if self.progress.best.is_none_or(|(best, _)| bound < best) {
            self.progress.best = Some((bound, step));
            self.progress.stale = 0;
        } else {
            self.progress.stale += 1;
        }
        let _ = tell(Event::Evaluated {
            step,
            bound,
            error,
            bits_per_byte,
        });
        Ok(())
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

/// Attention between causal and full: of what comes after a slot a share `open` is seen, another for each
/// pair and update (DiffuLLaMA, arXiv 2410.17891, section 3.2: attention mask annealing).
fn annealed(length: usize, open: f64, rng: &mut impl Rng) -> Attention {
    let table = (0..length * length).map(|at| {
        let (from, to) = (at / length, at % length);
        to <= from || rng.random::<f64>() < open
    });
    Attention::Table(table.collect())
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
    if a.optimizer != b.optimizer {
        return Some("[optimizer]");
    }
    if (a.run.steps, a.run.batch) != (b.run.steps, b.run.batch) {
        return Some("run.steps or run.batch");
    }
    None
}

/// Bytes that training takes: weights, gradients and what the optimiser and the average keep, and the
/// activations of one micro-batch.
pub fn memory(config: &Config) -> u64 {
    let s = &config.model;
    let n = s.n_parameters() as u64;
    let copies = if config.run.ema > 0.0 { 6 } else { 5 };
    let rows = (config.run.micro_batch.min(config.run.batch) * config.data.length) as u64;
    let (d, ff) = (s.d_model as u64, s.mlp_hidden_size as u64);
    let scores = (s.n_heads * config.data.length) as u64;
    // Floats per row that a block keeps for its gradients.
    let block = 24 * d + 6 * ff + 4 * scores;
    let blocks = match config.run.recompute {
        true => block + s.n_layers as u64 * d,
        false => block * s.n_layers as u64,
    };
    // Half of the slots are masked on average; all may be.
    let head = 4 * s.vocab_size as u64;
    4 * (n * copies + rows * (blocks + head))
}
