//! What a run will take, before it begins: memory, operations, time.

use crate::config::{Config, Kind};

/// What a run will take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Values of all parameters.
    pub n_parameters: f64,
    /// Bytes of memory, of one process.
    pub bytes: f64,
    /// Tokens that go through the network with gradients, in all updates.
    pub tokens: f64,
    /// Floating-point operations of all updates.
    pub flops: f64,
}

/// Dense bf16 operations a second of an H100 (NVIDIA's data sheet, SXM, without sparsity).
pub const H100: f64 = 989e12;
/// The share of that which a good trainer reaches.
pub const GOOD_SHARE: f64 = 0.4;
/// The share of a large product's operations that a step reaches on a CPU, as measured (docs/training.md).
pub const CPU_SHARE: f64 = 0.5;

impl Estimate {
    /// That of `config`, whose model has all its sizes.
    pub fn of(config: &Config) -> Self {
        let (tokens, flops) = work(config);
        Self {
            n_parameters: config.model.n_parameters() as f64,
            bytes: memory(config) as f64,
            tokens: tokens * config.run.steps as f64,
            flops: flops * config.run.steps as f64,
        }
    }

    /// Seconds at so many operations a second.
    pub fn seconds(&self, flops_per_s: f64) -> f64 {
        self.flops / flops_per_s
    }
}

/// Tokens with gradients and operations of one update. A pass without gradients is a third of one with.
fn work(config: &Config) -> (f64, f64) {
    let (shape, length, batch) = (&config.model, config.data.length, config.run.batch);
    let pass =
        |n: usize, length: usize, rows: f64| ((n * length) as f64, shape.flops(n, length, rows as usize));
    let n_tokens = (batch * length) as f64;
    match config.objective.kind {
        Kind::Causal => pass(batch, length, n_tokens),
        // Half of the slots are masked on average.
        Kind::Pretrain | Kind::Sft => pass(batch, length, n_tokens / 2.0),
        Kind::Preference => {
            let n = 2 * batch * config.preference.samples;
            let (tokens, flops) = pass(n, length, (n * length) as f64 / 2.0);
            (tokens, flops * (1.0 + 2.0 / 3.0))
        }
        Kind::Policy => {
            let p = &config.policy;
            let (n, whole) = (batch * p.group, length + p.tokens);
            let (tokens, flops) = pass(n, whole, (n * p.tokens) as f64);
            let looks = p.iterations as f64 * if p.kl > 0.0 { 5.0 / 3.0 } else { 4.0 / 3.0 };
            let writes = if p.steps == 0 { p.tokens } else { p.steps } as f64 / 3.0;
            (tokens * p.iterations as f64, flops * (looks + writes))
        }
    }
}

/// Bytes that training takes: weights, gradients and what the optimiser and the average keep, and the
/// activations of one micro-batch. The factors are fitted to what the engines were seen to use on a CPU, for
/// 16 shapes of the default one and 5 of torch's within 10 % (docs/training.md).
pub fn memory(config: &Config) -> u64 {
    let s = &config.model;
    let n = s.n_parameters() as f64;
    let rows = (config.run.micro_batch.min(config.run.batch) * config.data.length) as f64;
    let (d, ff) = (s.d_model as f64, s.mlp_hidden_size as f64);
    let torch = cfg!(not(feature = "flex")) || config.run.engine == "torch";
    // Its attention keeps no scores.
    let scores = if torch { 0 } else { s.n_heads * config.data.length } as f64;
    let block = 6.2 * d + 5.1 * ff + 4.4 * scores;
    let layers = s.n_layers as f64;
    // With recomputation gradients are taken away block by block.
    let (copies, blocks) = match (torch, config.run.recompute) {
        (true, recompute) => (
            10.3,
            if recompute {
                block + layers * d
            } else {
                layers * block
            },
        ),
        (false, true) => (5.0, block + layers * d),
        (false, false) => (5.7, layers * block),
    };
    let backward = copies * n + rows * (blocks + 2.2 * s.vocab_size as f64);
    // The new weights are there before the old ones go.
    let update = 7.0 * n;
    let average = if config.run.ema > 0.0 { 1.3 * n } else { 0.0 };
    // The program itself, with its libraries.
    let program = if torch { 0.145e9 } else { 0.07e9 };
    (program + 4.0 * (backward.max(update) + average)) as u64
}

/// Bytes of memory that the system could still give; `None` where it does not say.
pub fn available() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that `remask-train bench` was seen to take: the most that the process had.
    #[test]
    fn memory_is_estimated_within_a_tenth() {
        for (changes, seen) in [
            ("", 0.49e9),
            ("model.n_layers=12", 0.86e9),
            ("model.vocab_size=8192", 0.67e9),
            ("model.mlp_hidden_size=1536", 0.81e9),
            ("data.length=256", 1.02e9),
            ("model.d_model=384", 0.67e9),
            ("model.d_model=768 run.batch=1", 0.75e9),
            ("model.d_model=768 run.batch=1 run.ema=0.9", 0.88e9),
            (
                "model.d_model=512 model.mlp_hidden_size=1408 model.n_layers=8 run.batch=4",
                0.85e9,
            ),
            ("run.recompute=true", 0.22e9),
            (
                "run.recompute=true model.n_layers=12 run.batch=32 run.micro_batch=32",
                0.37e9,
            ),
            ("run.engine='torch'", 0.51e9),
            (
                "run.engine='torch' model.vocab_size=4096 model.d_model=768 model.mlp_hidden_size=2048 run.batch=2",
                2.25e9,
            ),
            (
                "run.engine='torch' model.vocab_size=4096 model.d_model=256 model.mlp_hidden_size=704 run.batch=32 run.micro_batch=32",
                1.15e9,
            ),
        ] {
            let base = "model.d_model=192 model.n_layers=6 model.mlp_hidden_size=512 model.vocab_size=2048";
            let all = base
                .split(' ')
                .chain(changes.split(' ').filter(|c| !c.is_empty()));
            let all: Vec<String> = all.map(str::to_owned).collect();
            let found = memory(&Config::read("demo-cpu", &all).unwrap()) as f64;
            assert!((found / seen - 1.0).abs() < 0.1, "{changes}: {found} for {seen}");
        }
    }

    /// LLaDA-8B: 2.3 trillion tokens, 8.02 billion parameters (arXiv 2502.09992, sections 2.2 and B.2).
    #[test]
    fn the_papers_run_comes_out_as_the_papers() {
        let config = Config::read("llada-8b-pretrain", &[]).unwrap();
        let e = Estimate::of(&config);
        assert!((e.n_parameters / 8.02e9 - 1.0).abs() < 0.01, "{e:?}");
        assert!((e.tokens / 2.3e12 - 1.0).abs() < 0.01, "{e:?}");
        // 0.13 million H800 hours, whose peak is the H100's: between a tenth and all of it.
        let hours = e.seconds(H100) / 3600.0;
        assert!((13_000.0..130_000.0).contains(&hours), "{hours}");
    }
}
