//! Opens a run: what the configuration names is found, and fits together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use remask::Result;

use super::Run;
use crate::checkpoint::{self, Progress};
use crate::config::{Config, Kind};
use crate::data::{Encoder, Loader, Unit};
use crate::engine::Engine;
use crate::import;
use crate::lora::Lora;
use crate::metrics::Metrics;
use crate::noise::Keywords;
use crate::shape::{Shape, invalid};

impl Run {
    /// Opens a run in `folder`: goes on from its newest checkpoint, or begins one.
    ///
    /// # Errors
    /// `InvalidArgument`, for a configuration that does not fit, or that differs from that of the
    /// checkpoint in what would change its trajectory; what files and data report.
    pub fn open(config: &Config, folder: &Path) -> Result<Self> {
        Self::open_telling(config, folder, &mut |_| ())
    }

    /// As [`open`](Self::open); `known` hears the configuration, with what it left open filled in, before
    /// anything large is in memory but the weights that it begins with.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_telling(config: &Config, folder: &Path, known: &mut dyn FnMut(&Config)) -> Result<Self> {
        config.check()?;
        let mut notes = Vec::new();
        let (config, tokenizer, encoder, weights) = settle(config, folder, &mut notes)?;
        let (loader, eval) = data(&config, &encoder, &tokenizer)?;
        known(&config);
        let (mut engine, reference) = engines(&config, weights)?;
        let keywords = (config.objective.keywords > 0.0).then(|| {
            let mut counts = vec![0u64; encoder.n_vocab()];
            for manifest in loader.manifests() {
                counts.iter_mut().zip(&manifest.counts).for_each(|(a, b)| *a += b);
            }
            Keywords::from_counts(&counts, config.objective.keywords)
        });
        if let Some(keywords) = &keywords {
            engine.set_exponents(keywords.exponents.clone());
        }
        let ranks = engine.ranks();
        if config.run.batch.div_ceil(config.run.micro_batch) < ranks.n
            && !matches!(config.objective.kind, Kind::Preference | Kind::Policy)
        {
            return Err(invalid(format!(
                "run.batch is {} and run.micro_batch {}: too few parts for {} processes",
                config.run.batch, config.run.micro_batch, ranks.n
            )));
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
            encoder,
            engine,
            reference,
            loader,
            eval,
            keywords,
            notes,
        };
        run.resume()?;
        if run.engine.ranks().rank == 0 {
            run.metrics = Metrics::open(folder, run.progress.step)?;
        }
        Ok(run)
    }
}

type Weights = BTreeMap<String, Vec<f32>>;
type Network = Box<dyn Engine>;

/// Finds the tokenizer and what the run begins with, and fills in the network's sizes.
fn settle(
    config: &Config,
    folder: &Path,
    notes: &mut Vec<String>,
) -> Result<(Config, PathBuf, Encoder, Option<Weights>)> {
    let mut config = config.clone();
    let init = match config.run.init_from.as_os_str().is_empty() {
        true => None,
        false => Some(checkpoint::find(&config.run.init_from)?),
    };
    let tokenizer = match (&init, config.run.tokenizer.as_os_str().is_empty()) {
        (Some(init), true) if !import::is_gguf(init) && import::knows_its_mask(init) => init.clone(),
        (Some(init), true) => {
            let taken = folder.join("tokenizer");
            import::write_tokenizer(init, &config.run.mask_token, &taken)?;
            taken
        }
        (None, true) => {
            return Err(invalid(
                "run.tokenizer is empty; name the tokenizer's folder".to_owned(),
            ));
        }
        (_, false) => config.run.tokenizer.clone(),
    };
    let encoder = Encoder::open(&tokenizer)?;
    let weights = match &init {
        Some(init) => Some(begin_with(init, &mut config, &encoder, notes)?),
        None => None,
    };
    if config.model.vocab_size == 0 {
        config.model.vocab_size = encoder.n_vocab().next_multiple_of(64);
    }
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
    if config.objective.kind == Kind::Policy
        && config.data.length + config.policy.tokens > config.model.max_sequence_length
    {
        return Err(invalid(format!(
            "data.length is {} and policy.tokens {}; together they may be model.max_sequence_length, {}",
            config.data.length, config.policy.tokens, config.model.max_sequence_length
        )));
    }
    Ok((config, tokenizer, encoder, weights))
}

/// Weights of the network at `init`, whose sizes go into the configuration.
fn begin_with(
    init: &Path,
    config: &mut Config,
    encoder: &Encoder,
    notes: &mut Vec<String>,
) -> Result<Weights> {
    let mut source = import::read(init)?;
    let grown = source.shape.vocab_size;
    source
        .grow(encoder.tokenizer())
        .map_err(|e| e.context(init.display()))?;
    if source.shape.vocab_size > grown {
        notes.push(format!(
            "the vocabulary grew from {grown} to {} rows",
            source.shape.vocab_size
        ));
    }
    let next = config.objective.shift || config.objective.kind == Kind::Causal;
    if source.shift && !next {
        return Err(invalid(format!(
            "{}: its predictions are read one slot before their own; set objective.shift = true",
            init.display()
        )));
    }
    if source.autoregressive && !next {
        notes.push(format!(
            "{}: predicts the next token; with objective.shift = true it could go on with that",
            init.display()
        ));
    }
    config.model = Shape {
        init: config.model.init,
        init_std: config.model.init_std,
        ..source.shape
    };
    Ok(source.weights)
}

/// What is learned from, and what is held out.
fn data(config: &Config, encoder: &Encoder, tokenizer: &Path) -> Result<(Loader, Option<Loader>)> {
    if config.data.train.is_empty() {
        return Err(invalid(
            "data.train is empty; name folders of `remask-train prepare`".to_owned(),
        ));
    }
    let length = config.data.length;
    let unit = match config.objective.kind {
        Kind::Sft | Kind::Policy => Unit::Example,
        Kind::Preference => Unit::Pair,
        Kind::Pretrain | Kind::Causal => Unit::Stream,
    };
    let loader = Loader::open(&config.data.train, length, unit, config.seed)?;
    // Pairs are held out as fine-tuning sees them: their chosen answers' bound is what is estimated.
    let eval_unit = if unit == Unit::Pair { Unit::Example } else { unit };
    let eval = match config.data.eval.as_os_str().is_empty() {
        true => None,
        false => Some(Loader::open(
            std::slice::from_ref(&config.data.eval),
            length,
            eval_unit,
            0,
        )?),
    };
    let held_out = eval.iter().flat_map(|e| e.manifests());
    for manifest in loader.manifests().iter().chain(held_out) {
        if manifest.tokenizer != encoder.fingerprint() {
            return Err(invalid(format!(
                "the data was prepared with another tokenizer than {}; prepare it again",
                tokenizer.display()
            )));
        }
    }
    Ok((loader, eval))
}

/// The engine, and what it is compared with where the objective does that.
fn engines(config: &Config, weights: Option<Weights>) -> Result<(Network, Option<Network>)> {
    let mut engine = crate::engine::open(config)?;
    let mut reference = None;
    if let Some(mut weights) = weights {
        let each = config.model.parameters().into_iter();
        let values: Vec<_> = each
            .map(|p| weights.remove(&p.name).unwrap_or_default())
            .collect();
        if config.needs_reference() {
            let mut other = crate::engine::open(config)?;
            other.set_weights(values.clone())?;
            reference = Some(other);
        }
        engine.set_weights(values)?;
    }
    if config.lora.rank > 0 {
        engine = Box::new(Lora::new(engine, &config.lora, config.seed)?);
    }
    Ok((engine, reference))
}
