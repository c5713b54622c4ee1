//! The policies of a run, as plain data.
#![forbid(unsafe_code)]

use super::cache::{Cache, CacheType, FastDllm};
use super::settle::EarlyCommit;
use crate::canvas::Token;
use crate::error::Result;

/// By what candidates are ranked; the best are committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Probability of the candidate under the model, without temperature and noise: the reference's
    /// `low_confidence`.
    #[default]
    LowConfidence,
    /// A uniform number per slot: the reference's `random`.
    Random,
    /// Probability of the best token less that of the second (Dream's `topk_margin`).
    Margin,
    /// Negative entropy of the distribution (Dream's `entropy`).
    Entropy,
    /// The leftmost slots first: autoregressive order.
    LeftToRight,
    /// Every masked slot is committed with probability 1 - s/t, for steps t > s evenly from 1 to 0.001
    /// (Dream's `origin`); the last step commits all.
    Origin,
}

/// How many candidates a step commits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Commit {
    /// The masks of the block divided over its steps: the reference's `num_transfer_tokens`.
    #[default]
    Quota,
    /// All whose confidence is at least this, and always the best (Fast-dLLM, arXiv 2505.22618; its
    /// default is 0.9). A block then takes as many steps as it needs. With order `Margin` it is the
    /// margin that is compared.
    Threshold(f64),
    /// The n best, as long as the n-th has a confidence of at least 1 - factor/(n + 1); always the best
    /// (Fast-dLLM).
    Factor(f64),
    /// The most whose entropies in nats, the largest left out, sum to at most this; always the best
    /// (EB-Sampler, arXiv 2505.24857; 0.1 is usual). Needs order `LowConfidence`, `Margin` or `Entropy`.
    EntropyBound(f64),
    /// All that are surer than `anchor`, and near them what is surer than `relaxed`; always the best
    /// (LocalLeap, arXiv 2510.07081; see [`Commit::NEIGHBOURS`]).
    Neighbours {
        /// Least confidence of an anchor.
        anchor: f64,
        /// Least confidence near one.
        relaxed: f64,
        /// How far from an anchor that is, in slots.
        radius: usize,
    },
}

impl Commit {
    /// [`Neighbours`](Self::Neighbours) with the published settings.
    pub const NEIGHBOURS: Self = Self::Neighbours {
        anchor: 0.9,
        relaxed: 0.75,
        radius: 4,
    };
}

/// The policies of a run. [`Params::default`] is the reference's default: greedy, low-confidence
/// remasking, one token per step, one block.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Steps over all blocks; 0 is one per masked slot.
    pub steps: usize,
    /// Slots per block, decoded one after the other (semi-autoregressive); 0 is one block.
    pub block_length: usize,
    /// Where the response begins. `None`: at the masked tail of the canvas, or, where fixed text
    /// follows masked slots, blocks are counted in masked slots.
    pub response_start: Option<usize>,
    /// By what candidates are ranked.
    pub order: Order,
    /// How many are committed per step.
    pub commit: Commit,
    /// When a block is filled at once because its answer has settled; `None` is never.
    pub early_commit: Option<EarlyCommit>,
    /// What is kept from step to step. All but `None` are approximate.
    pub cache: Cache,
    /// With a cache: everything is computed again after so many steps that used it; 0 is at the start
    /// of a block only.
    pub cache_refresh: usize,
    /// How kept keys and values are stored.
    pub cache_type: CacheType,
    /// Masked slots after the block that are shown to the model; `None` is all. Approximate: the model
    /// does not see how long the response may become.
    pub suffix_window: Option<usize>,
    /// Follow the loop of this published version where it differs; `None` is the sane one.
    pub fast_dllm: Option<FastDllm>,
    /// 0 takes the likeliest token; above, tokens are drawn from softmax(logits / temperature): by the
    /// inverse of its cumulative distribution, or as the run's [`Noise`](super::Noise) has it.
    pub temperature: f64,
    /// Draw from the likeliest k tokens only; 0 is off. Without effect at temperature 0.
    pub top_k: usize,
    /// Draw from the smallest set of likeliest tokens with this probability; 1 is off. Without effect
    /// at temperature 0.
    pub top_p: f64,
    /// Divides positive and multiplies negative logits of tokens that stand on the canvas (CTRL,
    /// arXiv 1909.05858); 1 is off. Confidences are those of the changed logits.
    pub repetition_penalty: f64,
    /// Tokens that are never predicted. Confidences are renormalised without them.
    pub suppress: Vec<Token>,
    /// Classifier-free guidance: logits = un + (guidance + 1) * (cond - un); 0 is off. Doubles the
    /// work.
    pub guidance: f64,
    /// End-of-sequence token, where the options below need it.
    pub eos: Option<Token>,
    /// End-of-turn token, where the options below need it.
    pub eot: Option<Token>,
    /// Never predict `eos` (the reference's `logits_eos_inf`).
    pub logits_eos_inf: bool,
    /// Commit `eos` and `eot` last (the reference's `confidence_eos_eot_inf`, with what it really does
    /// above temperature 0: only `eot`).
    pub confidence_eos_eot_inf: bool,
    /// End when an `eos` or `eot` stands in the response and everything before it is filled. What comes
    /// before it is the same as without the option.
    pub stop_at_eos: bool,
    /// Compute steps that commit nothing, as the reference does. The text is the same.
    pub idle_steps: bool,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Seeds of the canvases of a batch, one each; empty: all have `seed`.
    pub seeds: Vec<u64>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            steps: 0,
            block_length: 0,
            response_start: None,
            order: Order::LowConfidence,
            commit: Commit::Quota,
            early_commit: None,
            cache: Cache::None,
            cache_refresh: 0,
            cache_type: CacheType::F32,
            suffix_window: None,
            fast_dllm: None,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            repetition_penalty: 1.0,
            suppress: Vec::new(),
            guidance: 0.0,
            eos: None,
            eot: None,
            logits_eos_inf: false,
            confidence_eos_eot_inf: false,
            stop_at_eos: false,
            idle_steps: false,
            seed: 0,
            seeds: Vec::new(),
        }
    }
}

/// The largest number of steps.
const MAX_STEPS: usize = 1 << 20;

impl Params {
    /// Checks every option and their combinations.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the option, its value and its range; `Unsupported`, for options that
    /// exclude each other.
    pub fn validate(&self, n_vocab: usize, n_sequences: usize) -> Result<()> {
        let number = |name: &str, x: f64, good: fn(f64) -> bool, range: &str| {
            if x.is_finite() && good(x) {
                Ok(())
            } else {
                Err(crate::err!(InvalidArgument, "{name} is {x}; it must be {range}"))
            }
        };
        number(
            "temperature",
            self.temperature,
            |x| (0.0..=1e6).contains(&x),
            "0 or more",
        )?;
        number(
            "top_p",
            self.top_p,
            |x| x > 0.0 && x <= 1.0,
            "above 0 and at most 1",
        )?;
        number(
            "repetition_penalty",
            self.repetition_penalty,
            |x| x > 0.0 && x <= 100.0,
            "above 0 and at most 100",
        )?;
        number(
            "guidance",
            self.guidance,
            |x| (0.0..=1e6).contains(&x),
            "0 or more",
        )?;
        let share: fn(f64) -> bool = |x| (0.0..=1.0).contains(&x);
        match self.commit {
            Commit::Quota => {}
            Commit::Threshold(x) => number("threshold", x, share, "0 to 1")?,
            Commit::Factor(x) => number("factor", x, |x| x > 0.0 && x <= 1e6, "above 0")?,
            Commit::EntropyBound(x) => number("entropy_bound", x, |x| (0.0..=1e6).contains(&x), "0 or more")?,
            Commit::Neighbours { anchor, relaxed, .. } => {
                number("anchor", anchor, share, "0 to 1")?;
                number("relaxed", relaxed, share, "0 to 1")?;
            }
        }
        if let Cache::Feature {
            prompt_interval,
            response_interval,
            update,
        } = self.cache
        {
            number("update", update, share, "0 to 1")?;
            if prompt_interval == 0 || response_interval == 0 {
                crate::bail!(
                    InvalidArgument,
                    "intervals of the feature cache are {prompt_interval} and {response_interval}; they must be 1 or more"
                );
            }
        }
        if let Some(rule) = &self.early_commit {
            for x in [rule.early, rule.middle, rule.late] {
                number(
                    "an early_commit limit",
                    x,
                    |x| (0.0..=1e6).contains(&x),
                    "0 or more",
                )?;
            }
        }
        if self.steps > MAX_STEPS {
            crate::bail!(
                InvalidArgument,
                "steps is {}; the limit is {MAX_STEPS}",
                self.steps
            );
        }
        self.validate_tokens(n_vocab)?;
        self.validate_combinations()?;
        if !self.seeds.is_empty() && self.seeds.len() != n_sequences {
            crate::bail!(
                InvalidArgument,
                "{} seeds for {n_sequences} canvases; give one each",
                self.seeds.len()
            );
        }
        Ok(())
    }

    fn validate_combinations(&self) -> Result<()> {
        let (needs, fits) = match self.commit {
            Commit::Quota => ("any", true),
            Commit::Threshold(_) => (
                "low_confidence or margin",
                matches!(self.order, Order::LowConfidence | Order::Margin),
            ),
            Commit::EntropyBound(_) => (
                "low_confidence, margin or entropy",
                matches!(self.order, Order::LowConfidence | Order::Margin | Order::Entropy),
            ),
            Commit::Factor(_) | Commit::Neighbours { .. } => {
                ("low_confidence", self.order == Order::LowConfidence)
            }
        };
        if !fits {
            crate::bail!(
                Unsupported,
                "order is {:?}; this commit rule compares confidences and needs {needs}",
                self.order
            );
        }
        if self.cache == Cache::None {
            let option = match (self.cache_refresh, self.cache_type) {
                (0, CacheType::F32) => None,
                (0, _) => Some("cache_type"),
                _ => Some("cache_refresh"),
            };
            if let Some(option) = option {
                crate::bail!(Unsupported, "{option} is set, but there is no cache");
            }
        }
        if let Cache::Feature { .. } = self.cache {
            let option = match (self.cache_refresh, self.suffix_window) {
                (0, None) => None,
                (0, _) => Some("suffix_window"),
                _ => Some("cache_refresh"),
            };
            if let Some(option) = option {
                crate::bail!(
                    Unsupported,
                    "{option} does not go with a feature cache, which has its own intervals"
                );
            }
        }
        if self.fast_dllm.is_some() {
            let option = match self.commit {
                Commit::EntropyBound(_) => Some("entropy_bound"),
                Commit::Neighbours { .. } => Some("neighbours"),
                _ if matches!(self.cache, Cache::Feature { .. }) => Some("a feature cache"),
                _ if self.early_commit.is_some() => Some("early_commit"),
                _ if self.cache_refresh > 0 => Some("cache_refresh"),
                _ if self.suffix_window.is_some() => Some("suffix_window"),
                _ => None,
            };
            if let Some(option) = option {
                crate::bail!(
                    Unsupported,
                    "{option} is not in any published version of Fast-dLLM"
                );
            }
        }
        Ok(())
    }

    /// Whether blocks take as many steps as they need.
    pub(super) fn is_adaptive(&self) -> bool {
        self.commit != Commit::Quota
    }

    fn validate_tokens(&self, n_vocab: usize) -> Result<()> {
        let named = [("eos", self.eos), ("eot", self.eot)];
        let listed = self.suppress.iter().map(|&t| ("suppress", Some(t)));
        for (name, token) in named.into_iter().chain(listed) {
            if token.is_some_and(|t| t as usize >= n_vocab) {
                crate::bail!(
                    InvalidArgument,
                    "{name} names token {}; the model has {n_vocab} columns",
                    token.unwrap_or(0)
                );
            }
        }
        if self.logits_eos_inf && self.eos.is_none() {
            crate::bail!(
                InvalidArgument,
                "logits_eos_inf needs an eos token, and this model names none"
            );
        }
        let some_end = self.eos.is_some() || self.eot.is_some();
        if (self.confidence_eos_eot_inf || self.stop_at_eos) && !some_end {
            let name = if self.stop_at_eos {
                "stop_at_eos"
            } else {
                "confidence_eos_eot_inf"
            };
            crate::bail!(
                InvalidArgument,
                "{name} needs an eos or eot token, and this model names none"
            );
        }
        Ok(())
    }
}
