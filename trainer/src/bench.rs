//! How fast a step is, and beside another program's, turn by turn.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use remask::{Error, ErrorKind, Result, Token};
use serde_json::Value;

use crate::config::Config;
use crate::engine::Engine;
use crate::noise::Times;
use crate::objective::{Diffusion, pretrain, uniforms};
use crate::optim::Update;
use crate::shape::invalid;

/// Columns of the logits where the configuration leaves them open.
pub const VOCAB: usize = 4096;

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
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
    /// Bytes that were estimated.
    pub estimated: f64,
    /// Most bytes that the process had; NaN where the system does not tell.
    pub peak_bytes: f64,
    /// The other program.
    pub other: Option<Other>,
}

/// What another program measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Other {
    /// What it calls itself.
    pub name: String,
    /// Seconds of a step: the median.
    pub seconds: f64,
    /// Most bytes that it had; NaN where it does not tell.
    pub peak_bytes: f64,
}

/// Takes `steps` steps on random tokens with half of the slots masked, after one that is not counted.
/// The program `against`, a command line, takes as many of the same shape, in turn.
///
/// # Errors
/// As the engine; `InvalidArgument`, when the other program does not start or answer.
pub fn bench(config: &Config, steps: usize, against: Option<&str>) -> Result<Measured> {
    let mut shape = config.model.clone();
    if shape.vocab_size == 0 {
        shape.vocab_size = VOCAB;
    }
    let config = &Config {
        model: shape.clone(),
        ..config.clone()
    };
    let mut engine = crate::engine::open(config)?;
    let mut other = against.map(|command| Turns::start(command, config)).transpose()?;
    let (mut times, mut theirs) = (Vec::new(), Vec::new());
    let mut flops = 0.0;
    for i in 0..steps + 1 {
        let (seconds, done) = step(engine.as_mut(), config, i)?;
        let their = other.as_mut().map(Turns::step).transpose()?;
        if i > 0 {
            times.push(seconds);
            theirs.extend(their);
            flops += done / steps as f64;
        }
    }
    times.sort_by(f64::total_cmp);
    let seconds = median(&times);
    let (n, length) = (config.run.batch, config.data.length);
    let peak_bytes = peak_bytes();
    Ok(Measured {
        n_parameters: shape.n_parameters(),
        seconds,
        fastest: times.first().copied().unwrap_or(f64::NAN),
        slowest: times.last().copied().unwrap_or(f64::NAN),
        tokens_per_s: (n * length) as f64 / seconds,
        flops: flops / seconds,
        peak: engine.peak_flops(),
        estimated: crate::estimate::memory(config) as f64,
        peak_bytes,
        other: other.map(|o| o.finish(&mut theirs)).transpose()?,
    })
}

fn median(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Step `i`: its seconds and its operations.
fn step(engine: &mut dyn Engine, config: &Config, i: usize) -> Result<(f64, f64)> {
    let (shape, n, length) = (&config.model, config.run.batch, config.data.length);
    let tokens: Vec<Token> = (0..n * length)
        .map(|i| (i * 7919 % shape.vocab_size) as Token)
        .collect();
    let d = Diffusion {
        mask: 0,
        eps: 1e-3,
        times: Times::Stratified,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(i as u64);
    let t = d.times.draw(n, &mut rng);
    let batch = pretrain(&tokens, length, &d, &t, &uniforms(n * length, &mut rng));
    let mut flops = 0.0;
    let clock = Instant::now();
    for part in batch.split(config.run.micro_batch) {
        engine.accumulate(&part)?;
        flops += shape.flops(part.n_sequences, length, part.slots.len());
    }
    engine.update(&Update {
        adamw: config.optimizer.clone(),
        lr: 1e-4,
        step: i as u64 + 1,
        ema: config.run.ema,
    })?;
    Ok((clock.elapsed().as_secs_f64(), flops))
}

/// Another program that takes steps when it is told to: it says `{"name": ...}` when it is ready, answers
/// each line with `{"seconds": ...}`, and the end of its input with `{"peak_bytes": ...}`.
struct Turns {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    name: String,
}

impl Turns {
    fn start(command: &str, config: &Config) -> Result<Self> {
        let mut words = command.split_whitespace();
        let Some(program) = words.next() else {
            return Err(invalid("--against is empty".to_owned()));
        };
        let s = &config.model;
        let mut run = Command::new(program);
        run.args(words);
        for (flag, value) in [
            ("--d-model", s.d_model),
            ("--n-layers", s.n_layers),
            ("--n-heads", s.n_heads),
            ("--n-kv-heads", s.kv_heads()),
            ("--mlp-hidden-size", s.mlp_hidden_size),
            ("--vocab-size", s.vocab_size),
            ("--length", config.data.length),
            ("--batch", config.run.batch),
            ("--micro-batch", config.run.micro_batch),
            ("--threads", config.n_threads()),
            ("--tied", usize::from(s.weight_tying)),
        ] {
            run.arg(flag).arg(value.to_string());
        }
        run.arg("--device").arg(&config.run.device);
        run.arg("--precision").arg(match config.run.precision {
            crate::engine::Precision::F32 => "f32",
            crate::engine::Precision::Bf16 => "bf16",
        });
        run.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = run.spawn().map_err(|e| Error::from(e).context(program))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let Some(output) = output else {
            return Err(Error::new(ErrorKind::Internal, "a program without output"));
        };
        let mut turns = Self {
            child,
            input,
            output: BufReader::new(output),
            name: command.to_owned(),
        };
        let ready = turns.answer()?;
        if let Some(name) = ready["name"].as_str() {
            turns.name = name.to_owned();
        }
        Ok(turns)
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|_| {
            let said: String = line.trim().chars().take(80).collect();
            invalid(format!("{}: answered `{said}`, which is no JSON", self.name))
        })
    }

    fn number(&mut self, key: &str) -> Result<f64> {
        let answer = self.answer()?;
        answer[key]
            .as_f64()
            .ok_or_else(|| invalid(format!("{}: answered without `{key}`", self.name)))
    }

    fn step(&mut self) -> Result<f64> {
        if let Some(input) = &mut self.input {
            input.write_all(b"step\n")?;
            input.flush()?;
        }
        self.number("seconds")
    }

    fn finish(mut self, times: &mut [f64]) -> Result<Other> {
        drop(self.input.take());
        let peak_bytes = self.number("peak_bytes").unwrap_or(f64::NAN);
        times.sort_by(f64::total_cmp);
        Ok(Other {
            name: self.name.clone(),
            seconds: median(times),
            peak_bytes,
        })
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn peak_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.map_or(f64::NAN, |k| k * 1024.0)
}
