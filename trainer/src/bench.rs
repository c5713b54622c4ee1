//! How fast a step is.

use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use remask::{Result, Token};

use crate::config::Config;
use crate::noise::Times;
use crate::objective::{Diffusion, pretrain, uniforms};
use crate::optim::Update;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Values of all parameters.
    pub n_parameters: usize,
    /// Seconds of a step: the median.
    pub seconds: f64,
    /// The fastest.
    pub fastest: f64,
    /// The slowest.
    pub slowest: f64,
    /// Tokens a second.
    pub tokens_per_s: f64,
    /// Floating-point operations a second, those of matrix products and attention.
    pub flops: f64,
    /// Those that a large product of the same library reaches.
    pub peak: f64,
    /// Most bytes that the process had; NaN where the system does not tell.
    pub peak_bytes: f64,
}

/// Takes `steps` steps on random tokens with half of the slots masked, after one that is not counted.
///
/// # Errors
/// As the engine.
pub fn bench(config: &Config, steps: usize) -> Result<Measured> {
    let mut shape = config.model.clone();
    if shape.vocab_size == 0 {
        shape.vocab_size = 4096;
    }
    let config = &Config {
        model: shape.clone(),
        ..config.clone()
    };
    let mut engine = crate::engine::open(config)?;
    let (n, length) = (config.run.batch, config.data.length);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let tokens: Vec<Token> = (0..n * length)
        .map(|i| (i * 7919 % shape.vocab_size) as Token)
        .collect();
    let d = Diffusion {
        mask: 0,
        eps: 1e-3,
        times: Times::Stratified,
    };
    let mut times = Vec::new();
    let mut flops = 0.0;
    for step in 0..steps + 1 {
        let t = d.times.draw(n, &mut rng);
        let batch = pretrain(&tokens, length, &d, &t, &uniforms(n * length, &mut rng));
        let clock = Instant::now();
        for part in batch.split(config.run.micro_batch) {
            engine.accumulate(&part)?;
            if step == 0 {
                flops += shape.flops(part.n_sequences, length, part.slots.len());
            }
        }
        engine.update(&Update {
            adamw: config.optimizer.clone(),
            lr: 1e-4,
            step: step as u64 + 1,
            ema: config.run.ema,
        })?;
        if step > 0 {
            times.push(clock.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    let seconds = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
    let peak_bytes = peak_bytes();
    Ok(Measured {
        n_parameters: shape.n_parameters(),
        seconds,
        fastest: times.first().copied().unwrap_or(f64::NAN),
        slowest: times.last().copied().unwrap_or(f64::NAN),
        tokens_per_s: (n * length) as f64 / seconds,
        flops: flops / seconds,
        peak: engine.peak_flops(),
        peak_bytes,
    })
}

fn peak_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.map_or(f64::NAN, |k| k * 1024.0)
}
