//! The command `remask-train`.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::{Config, PRESETS, REFERENCE};
use crate::data::{Encoder, PrepareOptions, prepare, train_tokenizer};
use crate::engine::Engine;
use crate::estimate::{CPU_SHARE, Estimate, GOOD_SHARE, H100, available};
use crate::run::{End, Run};
use crate::shape::Shape;
use crate::show::{self, Plain, Screen, clock, rate};
use crate::{adapter, bench, checkpoint, export, import, plot};
use clap::{Args, Parser, Subcommand};
use remask::quantize::Mix;
use remask::{Error, ErrorKind, Result};

/// A line on stdout. `println!` panics where it cannot be written.
macro_rules! out {
    ($($text:tt)*) => {
        writeln!(std::io::stdout(), $($text)*).map_err(|e| Error::from(e).context("standard output"))?
    };
}

/// A line on stderr. Where it cannot be written, that is no reason to end.
macro_rules! note {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

/// Train masked-diffusion language models, and export them to one file for `remask`.
#[derive(Parser)]
#[command(
    name = "remask-train",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(after_help = "From text to a model:
  remask-train tokenizer --vocab-size 4096 -o tok/ books.jsonl
  remask-train prepare --tokenizer tok/ -o data/ books.jsonl
  remask-train run demo-cpu -o run/ --set run.tokenizer=tok --set 'data.train=[\"data\"]'
  remask-train export run/ -o model.gguf --type q8_0
  remask generate -m model.gguf -p \"Once upon a time\"")]
struct Cli {
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Learn a tokenizer from texts, or take a model's
    Tokenizer(TokenizerArgs),
    /// Turn texts into shards of tokens
    Prepare(PrepareArgs),
    /// Train, or go on with a run
    Run(RunArgs),
    /// Estimate the bound on held-out texts
    Eval(RunArgs),
    /// Write a checkpoint as one file for the runtime, and check it there
    Export(ExportArgs),
    /// Draw the curves of runs
    Plot(PlotArgs),
    /// Measure the speed of a step
    Bench(BenchArgs),
    /// Say what a run will take: memory, operations, time
    Estimate(EstimateArgs),
    /// Print a preset, or every key with its meaning and default
    Config {
        /// A preset
        preset: Option<String>,
    },
}

#[derive(Args)]
struct TokenizerArgs {
    /// Texts: .jsonl, .txt, and these as .gz or .zst
    #[arg(required_unless_present = "from")]
    files: Vec<PathBuf>,
    /// Tokens, special ones included
    #[arg(long, default_value_t = 4096, value_name = "N")]
    vocab_size: usize,
    /// Take that of a model, a Hugging Face folder or a GGUF file, and give it a mask if it has none
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["files", "vocab_size"])]
    from: Option<PathBuf>,
    /// The mask of a model that has none: a token of that spelling, or a new one
    #[arg(long, default_value = "<|mdm_mask|>", value_name = "TEXT", requires = "from")]
    mask_token: String,
    /// Folder to write
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

#[derive(Args)]
#[command(
    after_help = "A line of .jsonl is {\"text\": ...}, {\"prompt\": ..., \"response\": ...} or {\"messages\": [...]}.
Of conversations the assistant's turns are learned, each with what was said before as its prompt."
)]
struct PrepareArgs {
    /// Texts: .jsonl, .txt, these as .gz or .zst, .parquet where it was built in
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The tokenizer's folder
    #[arg(long, value_name = "DIR")]
    tokenizer: PathBuf,
    /// Folder to write
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Conversations of more tokens are left out
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    max_length: usize,
    /// Leave out documents that share a run of tokens with this file; may be repeated
    #[arg(long, value_name = "FILE")]
    exclude: Vec<PathBuf>,
    /// Tokens of such a run
    #[arg(long, default_value_t = 13, value_name = "N")]
    ngram: usize,
}

#[derive(Args)]
struct RunArgs {
    /// A configuration file or preset (`remask-train config` prints every key)
    config: String,
    /// The run's folder; a run that is there goes on
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Another value for a key; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Ends the run with a checkpoint after so many minutes
    #[arg(long, value_name = "N")]
    max_minutes: Option<f64>,
    /// Updates between two lines of the log
    #[arg(long, default_value_t = 20, value_name = "N")]
    log_every: u64,
    /// Lines and no screen, also in a terminal
    #[arg(long)]
    plain: bool,
}

#[derive(Args)]
struct ExportArgs {
    /// A run or a checkpoint
    run: PathBuf,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Type of matrices
    #[arg(long = "type", default_value = "q8_0", value_name = "TYPE")]
    ty: String,
    /// Write the adapters of a run with lora.rank alone, as F32 in llama.cpp's format
    #[arg(long, conflicts_with = "ty")]
    adapter: bool,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
struct PlotArgs {
    /// Runs
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// SVG file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Args)]
struct BenchArgs {
    /// A configuration file or preset
    #[arg(default_value = "demo-cpu")]
    config: String,
    /// Another value for a key; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Steps measured, after one that is not
    #[arg(long, default_value_t = 5, value_name = "N")]
    steps: usize,
    /// A program that takes the same steps, turn by turn: "python trainer/scripts/bench_torch.py"
    #[arg(long, value_name = "COMMAND")]
    against: Option<String>,
}

#[derive(Args)]
struct EstimateArgs {
    /// A configuration file or preset
    config: String,
    /// Another value for a key; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Operations a second of a device, in units of 10^12; 0 measures this machine's
    #[arg(long, default_value_t = H100 / 1e12, value_name = "TFLOPS")]
    peak: f64,
    /// The share of them that training reaches
    #[arg(long, default_value_t = GOOD_SHARE, value_name = "SHARE")]
    share: f64,
}

/// The whole command: reads the arguments, works, and says how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    remask::log::set_log_sink(Some(Box::new(warn)));
    let done = match cli.command {
        Command::Tokenizer(args) => tokenizer(&args, cli.quiet),
        Command::Prepare(args) => pool(0).and_then(|()| run_prepare(&args, cli.quiet)),
        Command::Run(args) => train(&args, cli.quiet),
        Command::Eval(args) => evaluate(&args),
        Command::Export(args) => pool(0).and_then(|()| run_export(&args, cli.quiet)),
        Command::Plot(args) => plot::plot(&args.runs, &args.output),
        Command::Bench(args) => run_bench(&args),
        Command::Estimate(args) => run_estimate(&args),
        Command::Config { preset } => print_config(preset.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            note!("remask-train: {e}");
            ExitCode::from(match e.kind() {
                ErrorKind::InvalidArgument => 2,
                ErrorKind::Resource | ErrorKind::Device => 4,
                ErrorKind::Cancelled => 130,
                _ => 3,
            })
        }
    }
}

/// Where warnings go while no screen has the terminal.
pub(crate) fn warn(level: remask::log::Level, text: &str) {
    if level >= remask::log::Level::Warn {
        let _ = writeln!(std::io::stderr(), "remask-train: {text}");
    }
}

fn print_config(preset: Option<&str>) -> Result<()> {
    let text = match preset {
        None => REFERENCE,
        Some(name) => match PRESETS.iter().find(|p| p.0 == name) {
            Some((_, _, text)) => text,
            None => {
                let all = PRESETS.iter().map(|(n, what, _)| format!("\n  {n}: {what}"));
                return Err(invalid(format!(
                    "`{name}` is no preset; there are{}",
                    all.collect::<String>()
                )));
            }
        },
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

fn tokenizer(args: &TokenizerArgs, quiet: bool) -> Result<()> {
    if args.output.join("tokenizer.json").exists() {
        return Err(invalid(format!(
            "{} holds a tokenizer already; name another folder",
            args.output.display()
        )));
    }
    match &args.from {
        Some(model) => {
            import::write_tokenizer(&checkpoint::find(model)?, &args.mask_token, &args.output)?;
        }
        None => train_tokenizer(&args.files, args.vocab_size, &args.output)?,
    }
    if !quiet {
        let n = Encoder::open(&args.output)?.n_vocab();
        note!("{}: a tokenizer of {n} tokens", args.output.display());
    }
    Ok(())
}

fn run_prepare(args: &PrepareArgs, quiet: bool) -> Result<()> {
    let options = PrepareOptions {
        max_length: args.max_length,
        exclude: args.exclude.clone(),
        ngram: args.ngram,
        ..PrepareOptions::default()
    };
    let terminal = !quiet && std::io::stderr().is_terminal();
    let done = prepare(
        &args.files,
        &args.tokenizer,
        &args.output,
        &options,
        &mut |done| {
            if terminal {
                let _ = write!(std::io::stderr(), "\r\x1b[K{done} documents");
            }
        },
    );
    if terminal {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
    let done = done?;
    if !quiet {
        let m = &done.manifest;
        note!(
            "{}: {} documents, {} tokens, {:.2} bytes a token, {} shards",
            args.output.display(),
            m.n_documents(),
            m.n_tokens(),
            m.bytes_per_token(),
            m.shards.len()
        );
        for (n, why) in [
            (done.n_excluded, "share text with --exclude"),
            (done.n_too_long, "are longer than --max-length"),
        ] {
            if n > 0 {
                note!("{n} documents were left out: they {why}");
            }
        }
    }
    Ok(())
}

fn configure(args: &RunArgs) -> Result<Config> {
    let mut changes = args.set.clone();
    if let Some(minutes) = args.max_minutes {
        changes.push(format!("run.max_minutes={minutes:?}"));
    }
    Config::read(&args.config, &changes)
}

fn threads(config: &Config) -> Result<()> {
    pool(config.n_threads())
}

/// Starts so many threads, 0 for one a processor. Left to rayon, that they cannot be started is a panic.
fn pool(n: usize) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build_global();
    pool.map_err(|e| Error::new(ErrorKind::Resource, format!("threads cannot be started: {e}")))
}

static ASKED: AtomicBool = AtomicBool::new(false);

/// The first Ctrl-C ends the run with a checkpoint, the second at once.
fn interrupted() {
    if ASKED.swap(true, Ordering::SeqCst) {
        show::give_back();
        std::process::exit(130);
    }
    if !show::is_shown() {
        let _ = writeln!(
            std::io::stderr(),
            "ending with a checkpoint; Ctrl-C again ends at once"
        );
    }
}

fn train(args: &RunArgs, quiet: bool) -> Result<()> {
    let config = configure(args)?;
    threads(&config)?;
    let _ = ctrlc::set_handler(interrupted);
    let mut known = |config: &Config| {
        if !quiet {
            say_memory(config);
        }
    };
    let mut run = Run::open_telling(&config, &args.output, &mut known)?;
    // Of several processes the first one speaks.
    let quiet = quiet || run.ranks().rank > 0;
    let peak = if quiet { 0.0 } else { run.peak_flops() };
    if !quiet {
        say_time(run.config(), run.step(), peak);
    }
    let screen = !quiet && !args.plain && std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
    let mut screen = match screen {
        true => Some(Screen::open(&args.output, peak, &ASKED)?),
        false => None,
    };
    let mut plain = Plain::new(quiet, args.log_every, peak);
    let end = run.train(&mut |event| {
        match &mut screen {
            Some(screen) => screen.tell(&event),
            None => plain.tell(&event),
        }
        match ASKED.load(Ordering::SeqCst) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    let last = screen.and_then(|screen| screen.last());
    let end = end?;
    if !quiet {
        if let Some(last) = last {
            note!("{last}");
        }
        let why = match end {
            End::Steps => "all updates are done",
            End::Minutes => "its minutes are over",
            End::Patience => "the bound on held-out text gets no better",
            End::Asked => "it was asked to end; the same command goes on with it",
        };
        note!("{}: {why}", args.output.display());
    }
    Ok(())
}

/// What the run will need, before it takes it.
fn say_memory(config: &Config) {
    let e = Estimate::of(config);
    let on_cpu = config.run.device == "cpu";
    let have = available().filter(|&have| on_cpu && e.bytes > have);
    let short = have.map_or(String::new(), |have| {
        format!("; this machine has {:.2} GB left", have / 1e9)
    });
    note!(
        "estimated {:.2} GB{short}, {:.3e} tokens, {:.3e} operations",
        e.bytes / 1e9,
        e.tokens,
        e.flops
    );
}

fn say_time(config: &Config, done: u64, peak: f64) {
    let left = 1.0 - done as f64 / config.run.steps as f64;
    let seconds = Estimate::of(config).seconds(peak * CPU_SHARE) * left.max(0.0);
    note!(
        "estimated {} at {:.0} % of the {} that a large product reaches here",
        clock(seconds),
        100.0 * CPU_SHARE,
        rate(peak)
    );
}

fn run_estimate(args: &EstimateArgs) -> Result<()> {
    let mut config = Config::read(&args.config, &args.set)?;
    if config.model.vocab_size == 0 {
        config.model.vocab_size = match config.run.tokenizer.as_os_str().is_empty() {
            true => bench::VOCAB,
            false => Encoder::open(&config.run.tokenizer)?
                .n_vocab()
                .next_multiple_of(64),
        };
    }
    config.model.check()?;
    let e = Estimate::of(&config);
    let (peak, share) = match args.peak > 0.0 {
        true => (args.peak * 1e12, args.share),
        false => (crate::engine::open(&small(&config))?.peak_flops(), args.share),
    };
    if let Some((_, what, _)) = PRESETS.iter().find(|p| p.0 == args.config) {
        out!("preset      {what}");
    }
    out!("parameters  {:.3} million", e.n_parameters / 1e6);
    out!("memory      {:.2} GB of one process", e.bytes / 1e9);
    out!("tokens      {:.3e} in {} updates", e.tokens, config.run.steps);
    out!("operations  {:.3e}", e.flops);
    out!(
        "time        {:.1} hours of a device with {}, of which {:.0} % are reached",
        e.seconds(peak * share) / 3600.0,
        rate(peak),
        100.0 * share
    );
    Ok(())
}

/// The same device and precision with a network of no size: to measure the device.
fn small(config: &Config) -> Config {
    Config {
        model: Shape {
            vocab_size: 64,
            n_layers: 1,
            ..Shape::default()
        },
        run: config.run.clone(),
        ..Config::default()
    }
}

fn evaluate(args: &RunArgs) -> Result<()> {
    let config = configure(args)?;
    threads(&config)?;
    let mut run = Run::open(&config, &args.output)?;
    let step = run.step();
    match run.bound()? {
        Some((bound, error)) => out!("after {step} updates: {bound:.4} ± {error:.4} nats a token"),
        None => return Err(invalid("data.eval is empty; name a prepared folder".to_owned())),
    }
    Ok(())
}

fn engine_of(folder: &Path) -> Result<Box<dyn Engine>> {
    let (shape, mut weights) = import::read_folder(folder)?;
    let config = Config {
        model: shape.clone(),
        ..Config::default()
    };
    let mut engine = crate::engine::open(&config)?;
    let each = shape.parameters().into_iter();
    let values = each.map(|p| weights.remove(&p.name).unwrap_or_default());
    engine.set_weights(values.collect())?;
    Ok(engine)
}

fn run_export(args: &ExportArgs, quiet: bool) -> Result<()> {
    let Some(mix) = Mix::from_name(&args.ty) else {
        let names: Vec<_> = Mix::all().map(Mix::name).collect();
        return Err(invalid(format!(
            "`{}` is no type; there are {}",
            args.ty,
            names.join(", ")
        )));
    };
    let folder = checkpoint::find(&args.run)?;
    if args.adapter {
        let n = adapter::export_adapter(&folder, &args.output, args.force)?;
        if !quiet {
            note!("{}: adapters of {n} matrices", args.output.display());
        }
        return Ok(());
    }
    let mut engine = engine_of(&folder)?;
    let (plan, difference) = export::export(&folder, &args.output, mix, args.force, engine.as_mut())?;
    if !quiet {
        note!(
            "{}: {:.2} MB from {}; in the runtime its logits are {:.2e} of their deviation from the trainer's, {:.1} % of likeliest tokens the same",
            args.output.display(),
            plan.bytes_after() as f64 / 1e6,
            folder.display(),
            difference.relative,
            difference.agreement * 100.0
        );
    }
    Ok(())
}

fn run_bench(args: &BenchArgs) -> Result<()> {
    let config = Config::read(&args.config, &args.set)?;
    threads(&config)?;
    let found = bench::bench(&config, args.steps, args.against.as_deref())?;
    out!(
        "{:.2} million parameters, {} x {} tokens, {} threads",
        found.n_parameters as f64 / 1e6,
        config.run.batch,
        config.data.length,
        rayon::current_num_threads()
    );
    out!(
        "step      {:.3} s (median of {}; {:.3} to {:.3})",
        found.seconds,
        args.steps,
        found.fastest,
        found.slowest
    );
    out!("tokens    {:.0} a second", found.tokens_per_s);
    out!(
        "products  {}, MFU {:.0} % of the {} that a large product reaches",
        rate(found.flops),
        100.0 * found.flops / found.peak,
        rate(found.peak)
    );
    out!(
        "memory    {:.2} GB estimated, {:.2} GB used",
        found.estimated / 1e9,
        found.peak_bytes / 1e9
    );
    if let Some(other) = &found.other {
        out!(
            "against   {}: {:.3} s a step ({:.2} x its speed), {:.2} GB",
            other.name,
            other.seconds,
            other.seconds / found.seconds,
            other.peak_bytes / 1e9
        );
    }
    Ok(())
}
