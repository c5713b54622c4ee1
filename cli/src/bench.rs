//! `remask bench`: the time of one step beside what the arithmetic alone would take. Of whole answers see
//! `lengths.rs` and `answers.rs`, of two builds `against.rs`.

use std::hint::black_box;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use remask::kernels::Level;
use remask::quantize::Mix;
use remask::synthetic::Shape;
use remask::{Part, Session};
use serde_json::json;

use crate::args::BenchArgs;
use crate::machine::{Peaks, Resident};
use crate::output::{Failure, Outcome, ProgressLine, bytes, invalid};
use crate::{against, answers, fill, lengths, run_steps};

pub fn run(args: &BenchArgs, quiet: bool) -> Outcome {
    if args.rows == 0 || args.rows > args.canvas || args.steps == 0 {
        return Err(invalid("--rows must be 1 to --canvas, and --steps 1 or more"));
    }
    if let Some(name) = &args.kernels {
        restrict(name)?;
    }
    let file = ModelFile::find(args, quiet)?;
    if let Some(command) = &args.against {
        return against::run(args, file.path(), command, quiet);
    }
    let began = Instant::now();
    let mut session = fill::open_file(file.path(), &args.model, quiet)?;
    let load_s = began.elapsed().as_secs_f64();
    file.is_open();
    if let Some(data) = &args.data {
        return answers::run(args, &mut session, data, quiet);
    }
    if !args.lengths.answers.is_empty() {
        return lengths::run(args, &mut session, quiet);
    }
    if !args.runs.blocks.is_empty() {
        return run_steps::run(args, &mut session, quiet);
    }
    let step = Step::measure(&mut session, args)?;
    let peaks = Peaks::measure(session.n_threads());
    print(args, &session, load_s, &step, &peaks)
}

/// Products by one kind of instructions only.
fn restrict(name: &str) -> Outcome {
    if name == "ggml" {
        remask::kernels::restrict(None);
        return Ok(());
    }
    let level = Level::from_name(name).filter(|level| level.is_available());
    let Some(level) = level else {
        let have = Level::available().into_iter().map(|l| l.name() + ", ");
        let have: String = have.collect();
        return Err(invalid(format!(
            "--kernels {name}: this processor has {have}and ggml for all"
        )));
    };
    remask::kernels::restrict(Some(level));
    Ok(())
}

/// The model's file: the user's, or one that is made for the measurement and removed after it.
pub struct ModelFile {
    path: PathBuf,
    made: bool,
}

impl ModelFile {
    fn find(args: &BenchArgs, quiet: bool) -> Result<Self, Failure> {
        let Some(shape) = &args.synthetic else {
            if args.model.model.as_os_str() == "-" {
                return Err(invalid("name a model with -m FILE, or a shape with --synthetic"));
            }
            return Ok(Self {
                path: args.model.model.clone(),
                made: false,
            });
        };
        let shape = Shape::parse(shape)?;
        let Some(mix) = Mix::from_name(&args.mix) else {
            let all: Vec<_> = Mix::all().map(Mix::name).collect();
            return Err(invalid(format!(
                "--type {}: must be one of {}",
                args.mix,
                all.join(", ")
            )));
        };
        let path = match &args.keep {
            Some(path) => path.clone(),
            None => std::env::temp_dir().join(format!("remask-bench-{}.gguf", std::process::id())),
        };
        let made = args.keep.is_none();
        let file = Self { path, made };
        let mut line = ProgressLine::new(quiet);
        shape.write(&file.path, mix, false, &mut |p| {
            line.show(|| format!("writing {} of {}", bytes(p.done), bytes(p.total)));
            ControlFlow::Continue(())
        })?;
        line.clear();
        Ok(file)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Once it is open, its name is not needed any more, so that a process that is killed leaves nothing.
    fn is_open(&self) {
        if self.made && cfg!(unix) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Drop for ModelFile {
    fn drop(&mut self) {
        if self.made {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What one step takes.
struct Step {
    /// The first pass: it takes the memory to compute in and checks the weights.
    first_s: f64,
    /// Passes, the fastest first.
    times: Vec<f64>,
    /// Where the time of a pass goes, by as many passes again.
    parts: Vec<Part>,
}

impl Step {
    fn measure(session: &mut Session, args: &BenchArgs) -> Result<Self, Failure> {
        let n_prompt = args.canvas - args.rows;
        let mut tokens = prompt(session, n_prompt);
        tokens.resize(args.canvas, session.model().mask_token());
        let rows: Vec<u32> = (n_prompt..args.canvas).map(|i| i as u32).collect();
        let mut logits = Vec::new();
        let mut pass = |session: &mut Session| -> Result<f64, Failure> {
            let began = Instant::now();
            session.logits(&tokens, &rows, &mut logits)?;
            black_box(&logits);
            Ok(began.elapsed().as_secs_f64())
        };
        let first_s = pass(session)?;
        pass(session)?;
        let mut times = Vec::new();
        for _ in 0..args.steps {
            times.push(pass(session)?);
        }
        times.sort_by(f64::total_cmp);
        session.set_profiling(true);
        for _ in 0..args.steps {
            pass(session)?;
        }
        let mut parts = session.take_profile();
        session.set_profiling(false);
        for part in &mut parts {
            part.seconds /= args.steps as f64;
            part.macs /= args.steps as f64;
            part.n /= args.steps as u64;
        }
        Ok(Self {
            first_s,
            times,
            parts,
        })
    }

    fn median(&self) -> f64 {
        self.times[self.times.len() / 2]
    }
}

/// Tokens that stand for a prompt.
pub fn prompt(session: &Session, n: usize) -> Vec<u32> {
    let model = session.model();
    let n_vocab = model.sizes().n_vocab;
    let mask = model.mask_token();
    let token = |i: usize| (i * 7919 % n_vocab) as u32;
    (0..n)
        .map(|i| if token(i) == mask { 0 } else { token(i) })
        .collect()
}

fn print(args: &BenchArgs, session: &Session, load_s: f64, step: &Step, peaks: &Peaks) -> Outcome {
    let n_threads = session.n_threads();
    let median = step.median();
    let (fastest, slowest) = (step.times[0], step.times[step.times.len() - 1]);
    let macs = macs(session.model().sizes(), args.canvas as f64, args.rows as f64);
    let gmacs = macs / median / 1e9;
    let weights = session.model().n_bytes();
    let read_gb = weights as f64 / median / 1e9;
    let resident = Resident::now();
    let mut out = std::io::stdout().lock();
    if args.json {
        let int8: Vec<_> = peaks
            .int8
            .iter()
            .map(|p| json!({"instructions": p.name, "gmac_per_s": p.gmacs}))
            .collect();
        let parts: Vec<_> = step
            .parts
            .iter()
            .map(|p| json!({"part": p.name, "s": p.seconds, "operations": p.n, "gmac": p.macs / 1e9}))
            .collect();
        let line = json!({"canvas": args.canvas, "rows": args.rows, "threads": n_threads,
            "load_s": load_s, "first_s": step.first_s, "step_s": median, "step_min_s": fastest,
            "step_max_s": slowest, "gmac": macs / 1e9, "gmac_per_s": gmacs,
            "f32_peak_gmac_per_s": peaks.f32_gmacs, "int8_peaks": int8,
            "read_peak_gb_per_s": peaks.read_gb, "weights_gb_per_s": read_gb,
            "parts": parts, "session_bytes": session.n_bytes(), "weight_bytes": weights,
            "resident_bytes": resident.map(|r| r.peak), "resident_own_bytes": resident.map(|r| r.anonymous)});
        writeln!(out, "{line}")?;
        return Ok(());
    }
    let ms = |s: f64| s * 1e3;
    writeln!(
        out,
        "canvas {} slots, {} rows, {n_threads} threads",
        args.canvas, args.rows
    )?;
    writeln!(out, "load        {:.1} ms", ms(load_s))?;
    writeln!(
        out,
        "first step  {:.1} ms, with the check that weights are finite",
        ms(step.first_s)
    )?;
    writeln!(
        out,
        "step        {:.3} ms (median of {}; {:.3} to {:.3})",
        ms(median),
        step.times.len(),
        ms(fastest),
        ms(slowest)
    )?;
    writeln!(out, "products    {:.3} GMAC, {gmacs:.1} GMAC/s", macs / 1e9)?;
    writeln!(
        out,
        "f32 peak    {:.1} GMAC/s: the products alone would take {:.3} ms, the step takes {:.2} times that",
        peaks.f32_gmacs,
        ms(macs / peaks.f32_gmacs / 1e9),
        median * peaks.f32_gmacs * 1e9 / macs
    )?;
    for peak in &peaks.int8 {
        writeln!(
            out,
            "int8 peak   {:.1} GMAC/s ({}): the step is at {:.0} %",
            peak.gmacs,
            peak.name,
            gmacs / peak.gmacs * 100.0
        )?;
    }
    writeln!(
        out,
        "reading     {:.1} GB/s at most: the weights alone would take {:.3} ms, {:.0} % of the step",
        peaks.read_gb,
        ms(weights as f64 / peaks.read_gb / 1e9),
        read_gb / peaks.read_gb * 100.0
    )?;
    writeln!(
        out,
        "memory      {} of weights, {} to compute in",
        bytes(weights),
        bytes(session.n_bytes())
    )?;
    if let Some(resident) = resident {
        writeln!(
            out,
            "resident    {} of its own, {} of the file; {} at most",
            bytes(resident.anonymous),
            bytes(resident.file),
            bytes(resident.peak)
        )?;
    }
    print_parts(&mut out, step, peaks)
}

/// The table of parts.
fn print_parts(out: &mut impl Write, step: &Step, peaks: &Peaks) -> Outcome {
    let all: f64 = step.parts.iter().map(|p| p.seconds).sum();
    if all == 0.0 {
        return Ok(());
    }
    writeln!(
        out,
        "\npart              n         ms   share   GMAC/s  of int8 peak"
    )?;
    for p in &step.parts {
        let speed = p.macs / p.seconds / 1e9;
        let of_peak = peaks.int8_gmacs().map(|peak| speed / peak * 100.0);
        let speed = match (p.macs > 0.0, of_peak) {
            (false, _) => String::new(),
            (true, None) => format!("  {speed:>7.1}"),
            (true, Some(share)) => format!("  {speed:>7.1}  {share:>8.0} %"),
        };
        writeln!(
            out,
            "{:<14} {:>4} {:>10.3}  {:>4.1} %{speed}",
            p.name,
            p.n,
            p.seconds * 1e3,
            p.seconds / all * 100.0
        )?;
    }
    Ok(())
}

/// Multiply-adds of one step: the last layer's queries, feed-forward network and head for the rows only.
pub fn macs(s: &remask::Sizes, n: f64, rows: f64) -> f64 {
    let [d, f, v, layers] = [s.n_embd, s.n_ff, s.n_vocab, s.n_layer].map(|x| x as f64);
    let (q, kv) = ((s.n_rot * s.n_head) as f64, (s.n_rot * s.n_head_kv) as f64);
    let layer = |n_q: f64| n_q * (2.0 * d * q + 3.0 * d * f) + 2.0 * n * d * kv + 2.0 * n_q * n * q;
    (layers - 1.0) * layer(n) + layer(rows) + rows * d * v
}
