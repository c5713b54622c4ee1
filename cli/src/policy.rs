//! The denoiser's policies as flags.

use clap::{Args, ValueEnum};
use remask::{Cache, CacheType, Commit, EarlyCommit, FastDllm, Order, Params, Speed};

#[derive(Clone, Copy, ValueEnum)]
pub enum OrderArg {
    /// The most probable candidates first
    LowConfidence,
    /// Slots in random order
    Random,
    /// The largest lead over the second candidate first
    Margin,
    /// The lowest entropy first
    Entropy,
    /// From left to right
    LeftToRight,
    /// Each slot with the probability of Dream's schedule
    Origin,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum CacheArg {
    /// Compute every slot in every step: exact
    None,
    /// Keep what is before the block
    Prefix,
    /// Keep what is before and after the block
    Dual,
    /// Compute what changed most, everything at intervals
    Feature,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum CacheTypeArg {
    F32,
    F16,
    #[value(name = "q8_0")]
    Q8_0,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum FastDllmArg {
    Main,
    #[value(name = "jun2025")]
    Jun2025,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum SpeedArg {
    /// Nothing is approximate
    Exact,
    /// Faster, where tasks did not suffer
    Balanced,
    /// Faster still; answers change
    Fast,
}

/// The denoiser's policies.
#[derive(Args)]
#[command(next_help_heading = "Denoising")]
pub struct PolicyArgs {
    /// Steps over all blocks [default: one per token]
    #[arg(short, long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    pub steps: usize,
    /// Tokens per block, decoded one block after the other [default: 32; 0: one block]
    #[arg(short, long, value_name = "N")]
    pub block_length: Option<usize>,
    /// Which candidates are committed first (--remasking is the reference's word)
    #[arg(long, alias = "remasking", value_enum, default_value_t = OrderArg::LowConfidence)]
    pub order: OrderArg,
    /// A measured choice of the rules below (docs/speed.md); any of them given beside it comes first
    #[arg(long, value_enum, conflicts_with = "steps")]
    pub speed: Option<SpeedArg>,
    /// Commit all candidates at least this probable, per step; with --order margin, that lead so much
    #[arg(long, value_name = "P", conflicts_with = "steps", group = "rule")]
    pub threshold: Option<f64>,
    /// Commit n candidates while the n-th has 1 - F/(n+1), per step
    #[arg(long, value_name = "F", conflicts_with = "steps", group = "rule")]
    pub factor: Option<f64>,
    /// Commit candidates while their entropies but the largest sum to this, in nats [0.1]
    #[arg(long, value_name = "H", num_args = 0..=1, default_missing_value = "0.1", allow_negative_numbers = true, conflicts_with = "steps", group = "rule")]
    pub entropy_bound: Option<f64>,
    /// Commit what is surer than A, and than R within W slots of such [0.9,0.75,4]
    #[arg(long, value_name = "A,R,W", num_args = 0..=1, default_missing_value = "0.9,0.75,4", conflicts_with = "steps", group = "rule", value_parser = neighbours)]
    pub neighbours: Option<Commit>,
    /// Fill a block once the best logits lead by so much in its first, second, last third [7.5,5,2.5]
    #[arg(long, value_name = "X,Y,Z", num_args = 0..=1, default_missing_value = "7.5,5,2.5", value_parser = early_commit)]
    pub early_commit: Option<EarlyCommit>,
    /// Keys and values kept from step to step [default: none]
    #[arg(long, value_enum, value_name = "KIND")]
    pub cache: Option<CacheArg>,
    /// Compute everything again after N steps that used the cache [default: at a block's start only]
    #[arg(long, value_name = "N")]
    pub cache_refresh: Option<usize>,
    /// With --cache feature: steps between full passes, between passes over the response, and the share
    /// of the response that the other steps compute [25,7,0.25]
    #[arg(long, value_name = "P,R,U", value_parser = feature_cache, requires = "cache")]
    pub feature_intervals: Option<Cache>,
    /// How they are stored
    #[arg(long, value_enum, default_value_t = CacheTypeArg::F32, value_name = "TYPE")]
    pub cache_type: CacheTypeArg,
    /// Show the model only N masked slots after the block [default: all]
    #[arg(long, value_name = "N")]
    pub suffix_window: Option<usize>,
    /// Follow the loop of this published version of Fast-dLLM
    #[arg(long, value_enum, value_name = "VERSION")]
    pub fast_dllm: Option<FastDllmArg>,
    /// 0 takes the most probable token; above, tokens are drawn
    #[arg(long, default_value_t = 0.0, value_name = "T", allow_negative_numbers = true)]
    pub temperature: f64,
    /// Draw from the K most probable tokens [default: off]
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "K")]
    pub top_k: usize,
    /// Draw from the most probable tokens with this probability together
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    pub top_p: f64,
    /// Weaken tokens that stand on the canvas; 1 is off
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    pub repetition_penalty: f64,
    /// Never predict this token id; may be repeated
    #[arg(long, value_name = "ID")]
    pub suppress: Vec<u32>,
    /// Classifier-free guidance; 0 is off (--cfg-scale is the reference's word)
    #[arg(
        long,
        alias = "cfg-scale",
        default_value_t = 0.0,
        value_name = "S",
        allow_negative_numbers = true
    )]
    pub guidance: f64,
    /// Never predict the end of the text
    #[arg(long)]
    pub logits_eos_inf: bool,
    /// Commit end tokens last
    #[arg(long)]
    pub confidence_eos_eot_inf: bool,
    /// Seed of all random numbers
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
}

/// Three numbers between commas.
fn three(text: &str) -> Result<[f64; 3], String> {
    let numbers: Option<Vec<f64>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
    let three = numbers.and_then(|n| <[f64; 3]>::try_from(n).ok());
    three.ok_or_else(|| "give three numbers with commas between".to_owned())
}

fn neighbours(text: &str) -> Result<Commit, String> {
    let [anchor, relaxed, radius] = three(text)?;
    if radius < 0.0 || radius.fract() != 0.0 || radius > 1e6 {
        return Err("the third is a number of slots".to_owned());
    }
    Ok(Commit::Neighbours {
        anchor,
        relaxed,
        radius: radius as usize,
    })
}

fn feature_cache(text: &str) -> Result<Cache, String> {
    let [prompt, response, update] = three(text)?;
    let count = |x: f64| (x.fract() == 0.0 && (1.0..=1e9).contains(&x)).then_some(x as usize);
    match (count(prompt), count(response)) {
        (Some(prompt_interval), Some(response_interval)) => Ok(Cache::Feature {
            prompt_interval,
            response_interval,
            update,
        }),
        _ => Err("the first two are numbers of steps".to_owned()),
    }
}

fn early_commit(text: &str) -> Result<EarlyCommit, String> {
    let [early, middle, late] = three(text)?;
    Ok(EarlyCommit { early, middle, late })
}

impl PolicyArgs {
    pub fn params(&self) -> Params {
        let order = match self.order {
            OrderArg::LowConfidence => Order::LowConfidence,
            OrderArg::Random => Order::Random,
            OrderArg::Margin => Order::Margin,
            OrderArg::Entropy => Order::Entropy,
            OrderArg::LeftToRight => Order::LeftToRight,
            OrderArg::Origin => Order::Origin,
        };
        let rule = self
            .threshold
            .map(Commit::Threshold)
            .or(self.factor.map(Commit::Factor))
            .or(self.entropy_bound.map(Commit::EntropyBound))
            .or(self.neighbours);
        let speed = match self.speed {
            None | Some(SpeedArg::Exact) => Speed::Exact,
            Some(SpeedArg::Balanced) => Speed::Balanced,
            Some(SpeedArg::Fast) => Speed::Fast,
        };
        let preset = speed.params();
        Params {
            steps: self.steps,
            block_length: self.block_length.unwrap_or(32),
            order,
            commit: rule.unwrap_or(preset.commit),
            early_commit: self.early_commit.or(preset.early_commit),
            cache: match self.cache {
                None => preset.cache,
                Some(CacheArg::None) => Cache::None,
                Some(CacheArg::Prefix) => Cache::Prefix,
                Some(CacheArg::Dual) => Cache::Dual,
                Some(CacheArg::Feature) => self.feature_intervals.unwrap_or(Cache::FEATURE),
            },
            cache_refresh: self.cache_refresh.unwrap_or(match self.cache {
                None => preset.cache_refresh,
                Some(_) => 0,
            }),
            cache_type: match self.cache_type {
                CacheTypeArg::F32 => CacheType::F32,
                CacheTypeArg::F16 => CacheType::F16,
                CacheTypeArg::Q8_0 => CacheType::Q8_0,
            },
            suffix_window: self.suffix_window.or(preset.suffix_window),
            fast_dllm: self.fast_dllm.map(|version| match version {
                FastDllmArg::Main => FastDllm::Main,
                FastDllmArg::Jun2025 => FastDllm::Jun2025,
            }),
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            repetition_penalty: self.repetition_penalty,
            suppress: self.suppress.clone(),
            guidance: self.guidance,
            logits_eos_inf: self.logits_eos_inf,
            confidence_eos_eot_inf: self.confidence_eos_eot_inf,
            seed: self.seed,
            ..Params::default()
        }
    }
}
