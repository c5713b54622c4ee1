//! The one file that describes a run.

use std::path::{Path, PathBuf};

use remask::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::engine::Precision;
use crate::files::read_text;
use crate::lora::LoraConfig;
use crate::noise::Times;
use crate::optim::AdamW;
use crate::policy::PolicyConfig;
use crate::preference::PreferenceConfig;
use crate::shape::{Shape, invalid};

/// A run. Every key has a default; unknown keys are refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Seed of first weights, order of data and noise.
    pub seed: u64,
    /// The network; ignored with `run.init_from`.
    pub model: Shape,
    /// What it learns from.
    pub data: DataConfig,
    /// The loss.
    pub objective: ObjectiveConfig,
    /// AdamW and the learning rate.
    pub optimizer: AdamW,
    /// Adapters instead of the whole network.
    pub lora: LoraConfig,
    /// Learning from pairs of answers.
    pub preference: PreferenceConfig,
    /// Learning from rewards.
    pub policy: PolicyConfig,
    /// The loop.
    pub run: RunConfig,
}

/// What a run learns from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Folders that `remask-train prepare` made. Of several, each gives in proportion to its size.
    pub train: Vec<PathBuf>,
    /// A prepared folder that is held out; empty for none.
    pub eval: PathBuf,
    /// Slots of a sequence.
    pub length: usize,
    /// Whether documents in one sequence may look at each other.
    pub across_documents: bool,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: Vec::new(),
            eval: PathBuf::new(),
            length: 128,
            across_documents: true,
        }
    }
}

/// The loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveConfig {
    /// Which.
    pub kind: Kind,
    /// Least probability that a slot is masked.
    pub eps: f32,
    /// How times are drawn.
    pub times: Times,
    /// Times are drawn from this part of the interval.
    pub range: [f32; 2],
    /// Share of batches that are cut to a random length.
    pub random_length: f64,
    /// How much less informative tokens are masked than fillers; 0 is equally. See `Keywords`.
    pub keywords: f64,
    /// Updates in which attention grows from causal to full, for networks that were autoregressive.
    pub anneal: u64,
    /// Whether a prediction is read one slot before its own, as an autoregressive network gives it.
    pub shift: bool,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            kind: Kind::Pretrain,
            eps: 1e-3,
            times: Times::Stratified,
            range: [0.0, 1.0],
            random_length: 0.01,
            keywords: 0.0,
            anneal: 0,
            shift: false,
        }
    }
}

/// Which loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Every token may be masked.
    Pretrain,
    /// Only answers are masked.
    Sft,
    /// The autoregressive twin: the next token.
    Causal,
    /// Answers that were chosen over others ([`crate::preference`]).
    Preference,
    /// Rewards of its own answers ([`crate::policy`]).
    Policy,
}

/// The loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// A checkpoint, run, Hugging Face folder or GGUF file to begin with; empty for none.
    pub init_from: PathBuf,
    /// The tokenizer's folder (tokenizer.json and its neighbours); with `init_from` that one's.
    pub tokenizer: PathBuf,
    /// The mask of a tokenizer that came with `init_from` and names none: a token of that spelling, or a new
    /// one.
    pub mask_token: String,
    /// Updates.
    pub steps: u64,
    /// Sequences of an update.
    pub batch: usize,
    /// Sequences that go through the network at once.
    pub micro_batch: usize,
    /// Threads; 0 is one per physical core.
    pub threads: usize,
    /// Compute blocks again in the backward pass: less memory, a third more time.
    pub recompute: bool,
    /// Decay of the average of weights, which is what is evaluated and exported; 0 keeps none.
    pub ema: f64,
    /// Updates between two evaluations of the bound on held-out text; 0 is never.
    pub eval_every: u64,
    /// Sequences of an evaluation.
    pub eval_sequences: usize,
    /// Evaluations without a better bound after which the run ends; 0 is never.
    pub patience: u64,
    /// Updates between two checkpoints.
    pub checkpoint_every: u64,
    /// Checkpoints that are kept, the best and the newest among them.
    pub keep: usize,
    /// Texts that the runtime continues at each checkpoint.
    pub prompts: Vec<String>,
    /// Tokens that it writes.
    pub prompt_tokens: usize,
    /// Minutes after which the run ends with a checkpoint; 0 is no limit.
    pub max_minutes: f64,
    /// What computes: flex or torch; empty is what the build has.
    pub engine: String,
    /// Where tensors live: cpu; of flex vulkan or metal where they were built in, of torch cuda, cuda:1 or
    /// mps.
    pub device: String,
    /// What products are computed in.
    pub precision: Precision,
    /// Whether several processes share the optimiser's state (ZeRO-1): less memory, the same updates.
    pub zero: bool,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            init_from: PathBuf::new(),
            tokenizer: PathBuf::new(),
            mask_token: "<|mdm_mask|>".to_owned(),
            steps: 1000,
            batch: 16,
            micro_batch: 16,
            threads: 0,
            recompute: false,
            ema: 0.0,
            eval_every: 250,
            eval_sequences: 64,
            patience: 0,
            checkpoint_every: 250,
            keep: 3,
            prompts: Vec::new(),
            prompt_tokens: 32,
            max_minutes: 0.0,
            engine: String::new(),
            device: "cpu".to_owned(),
            precision: Precision::F32,
            zero: false,
        }
    }
}

/// Presets: name, what it is, and the file.
pub const PRESETS: &[(&str, &str, &str)] = &[
    (
        "demo-cpu",
        "7 million parameters, a small model in an hour or two on two cores",
        include_str!("../presets/demo-cpu.toml"),
    ),
    (
        "demo-gpu",
        "30 million parameters for one GPU",
        include_str!("../presets/demo-gpu.toml"),
    ),
    (
        "llada-8b-pretrain",
        "the numbers of LLaDA-8B's pre-training (arXiv 2502.09992, section 2.2): 0.13 million H800 hours",
        include_str!("../presets/llada-8b-pretrain.toml"),
    ),
    (
        "llada-8b-sft",
        "the numbers of its fine-tuning",
        include_str!("../presets/llada-8b-sft.toml"),
    ),
];

/// Every key with its meaning and default.
pub const REFERENCE: &str = include_str!("../presets/reference.toml");

impl Config {
    /// Reads a file or a preset, and sets `changes` (`section.key=value`) over it.
    ///
    /// # Errors
    /// `Io`; `InvalidArgument`, naming the file, line or key.
    pub fn read(source: &str, changes: &[String]) -> Result<Self> {
        let path = Path::new(source);
        let preset = PRESETS.iter().find(|p| p.0 == source);
        let text = match preset {
            Some((_, _, text)) if !path.exists() => (*text).to_owned(),
            _ => read_text(path).map_err(|e| {
                let names: Vec<_> = PRESETS.iter().map(|p| p.0).collect();
                e.context(format_args!("no configuration (presets: {})", names.join(", ")))
            })?,
        };
        Self::parse(&text, changes).map_err(|e| e.context(source))
    }

    /// As [`read`](Self::read), from text.
    ///
    /// # Errors
    /// `InvalidArgument`, naming line or key.
    pub fn parse(text: &str, changes: &[String]) -> Result<Self> {
        let one_line = |e: toml::de::Error| invalid(e.to_string().trim().replace('\n', " "));
        let mut table: toml::Table = toml::from_str(text).map_err(one_line)?;
        // Before the changes: an unknown key is then reported with its line.
        toml::from_str::<Self>(text).map_err(one_line)?;
        for change in changes {
            set(&mut table, change)?;
        }
        let config: Self = table.try_into().map_err(one_line)?;
        config.check()?;
        Ok(config)
    }

    /// As text that [`parse`](Self::parse) reads.
    pub fn to_text(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// # Errors
    /// `InvalidArgument`, naming the key.
    pub fn check(&self) -> Result<()> {
        self.optimizer.check()?;
        let o = &self.objective;
        if !(o.eps > 0.0 && o.eps < 1.0) {
            return Err(invalid(format!(
                "objective.eps is {}; it must be above 0 and below 1",
                o.eps
            )));
        }
        let [from, to] = o.range;
        if !(0.0 <= from && from < to && to <= 1.0) {
            return Err(invalid(format!(
                "objective.range is [{from}, {to}]; it must rise and lie in 0 to 1"
            )));
        }
        if !(0.0..=1.0).contains(&o.random_length) {
            return Err(invalid(format!(
                "objective.random_length is {}; it must be 0 to 1",
                o.random_length
            )));
        }
        if !(0.0..=2.0).contains(&o.keywords) {
            return Err(invalid(format!(
                "objective.keywords is {}; it must be 0 to 2",
                o.keywords
            )));
        }
        if o.keywords > 0.0 && o.kind != Kind::Pretrain {
            return Err(invalid(
                "objective.keywords is for objective.kind = \"pretrain\"".to_owned(),
            ));
        }
        self.check_later_stages()?;
        let r = &self.run;
        let (p, q) = (&self.preference, &self.policy);
        for (key, value) in [
            ("run.batch", r.batch),
            ("run.micro_batch", r.micro_batch),
            ("run.keep", r.keep),
            ("data.length", self.data.length),
            ("preference.samples", p.samples),
            ("policy.group", q.group),
            ("policy.iterations", q.iterations),
            ("policy.tokens", q.tokens),
        ] {
            if value == 0 {
                return Err(invalid(format!("{key} is 0; it must be 1 or more")));
            }
        }
        if r.steps == 0 || r.checkpoint_every == 0 {
            return Err(invalid(
                "run.steps and run.checkpoint_every must be 1 or more".to_owned(),
            ));
        }
        if !(0.0..1.0).contains(&r.ema) {
            return Err(invalid(format!("run.ema is {}; it must be 0 to below 1", r.ema)));
        }
        if r.max_minutes.is_nan() || r.max_minutes < 0.0 {
            return Err(invalid(format!(
                "run.max_minutes is {}; it must be 0 or more",
                r.max_minutes
            )));
        }
        Ok(())
    }

    /// Threads that compute.
    pub fn n_threads(&self) -> usize {
        match self.run.threads {
            0 => remask::default_threads(),
            n => n,
        }
    }

    /// Whether what the run begins with is kept as a reference.
    pub fn needs_reference(&self) -> bool {
        match self.objective.kind {
            Kind::Preference => true,
            Kind::Policy => self.policy.kl > 0.0,
            _ => false,
        }
    }

    fn check_later_stages(&self) -> Result<()> {
        let (p, q) = (&self.preference, &self.policy);
        for (key, value, least) in [
            ("preference.beta", p.beta, f64::MIN_POSITIVE),
            ("preference.sft", p.sft, 0.0),
            ("policy.epsilon", q.epsilon, 0.0),
            ("policy.kl", q.kl, 0.0),
            ("policy.temperature", q.temperature, f64::MIN_POSITIVE),
        ] {
            if !value.is_finite() || value < least {
                let range = if least > 0.0 { "above 0" } else { "0 or more" };
                return Err(invalid(format!("{key} is {value}; it must be {range}")));
            }
        }
        if !(0.0..1.0).contains(&q.prompt_mask) {
            return Err(invalid(format!(
                "policy.prompt_mask is {}; it must be 0 to below 1",
                q.prompt_mask
            )));
        }
        let later = matches!(self.objective.kind, Kind::Preference | Kind::Policy);
        if later && self.run.init_from.as_os_str().is_empty() {
            return Err(invalid(
                "run.init_from is empty; preferences and rewards need a network that was fine-tuned"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

/// Sets `section.key=value`; the value is TOML, or a word that is taken as text.
fn set(table: &mut toml::Table, change: &str) -> Result<()> {
    let Some((key, value)) = change.split_once('=') else {
        return Err(invalid(format!("`{change}` must be section.key=value")));
    };
    let (key, value) = (key.trim(), value.trim());
    let parsed: Option<toml::Table> = toml::from_str(&format!("value = {value}")).ok();
    let value = match parsed.and_then(|mut t| t.remove("value")) {
        Some(value) => value,
        None => toml::Value::String(value.to_owned()),
    };
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut at = table;
    for part in parts {
        let next = at
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let Some(next) = next.as_table_mut() else {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("`{part}` of `{change}` is no section"),
            ));
        };
        at = next;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}
