//! The command `remask-train`.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::{Config, PRESETS, REFERENCE};
use crate::data::{PrepareOptions, prepare, train_tokenizer};
use crate::engine::Engine;
use crate::run::{End, Event, Run, memory};
use crate::{bench, checkpoint, export, import, plot};
use clap::{Args, Parser, Subcommand};
use remask::quantize::Mix;
use remask::{Error, ErrorKind, Result};

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
    /// Learn a tokenizer from texts
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
    /// Print a preset, or every key with its meaning and default
    Config {
        /// A preset
        preset: Option<String>,
    },
}

#[derive(Args)]
struct TokenizerArgs {
    /// Texts: .jsonl, .txt, and these as .gz or .zst
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Tokens, special ones included
    #[arg(long, default_value_t = 4096, value_name = "N")]
    vocab_size: usize,
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
    /// Texts: .jsonl, .txt, and these as .gz or .zst
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
}

/// The whole command: reads the arguments, works, and says how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    remask::log::set_log_sink(Some(Box::new(|level, text| {
        if level >= remask::log::Level::Warn {
            let _ = writeln!(std::io::stderr(), "remask-train: {text}");
        }
    })));
    let done = match cli.command {
        Command::Tokenizer(args) => tokenizer(&args, cli.quiet),
        Command::Prepare(args) => run_prepare(&args, cli.quiet),
        Command::Run(args) => train(&args, cli.quiet),
        Command::Eval(args) => evaluate(&args),
        Command::Export(args) => run_export(&args, cli.quiet),
        Command::Plot(args) => plot::plot(&args.runs, &args.output),
        Command::Bench(args) => run_bench(&args),
        Command::Config { preset } => print_config(preset.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("remask-train: {e}");
            ExitCode::from(match e.kind() {
                ErrorKind::InvalidArgument => 2,
                ErrorKind::Resource | ErrorKind::Device => 4,
                ErrorKind::Cancelled => 130,
                _ => 3,
            })
        }
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
    print!("{text}");
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
    train_tokenizer(&args.files, args.vocab_size, &args.output)?;
    if !quiet {
        eprintln!(
            "{}: a tokenizer of {} tokens",
            args.output.display(),
            args.vocab_size
        );
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
                eprint!("\r\x1b[K{done} documents");
            }
        },
    );
    if terminal {
        eprint!("\r\x1b[K");
    }
    let done = done?;
    if !quiet {
        let m = &done.manifest;
        eprintln!(
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
                eprintln!("{n} documents were left out: they {why}");
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
    let n = config.n_threads();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build_global();
    pool.map_err(|e| Error::new(ErrorKind::Resource, format!("{n} threads cannot be started: {e}")))
}

static ASKED: AtomicBool = AtomicBool::new(false);

fn train(args: &RunArgs, quiet: bool) -> Result<()> {
    let config = configure(args)?;
    threads(&config)?;
    // The first Ctrl-C ends the run with a checkpoint, the second at once.
    let _ = ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        let _ = writeln!(
            std::io::stderr(),
            "ending with a checkpoint; Ctrl-C again ends at once"
        );
    });
    let mut run = Run::open(&config, &args.output)?;
    // Of several processes the first one speaks.
    let quiet = quiet || run.ranks().rank > 0;
    let mut log = Log {
        quiet,
        every: args.log_every.max(1),
        losses: Vec::new(),
    };
    let end = run.train(&mut |event| {
        log.tell(&event);
        match ASKED.load(Ordering::SeqCst) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    if !quiet {
        let why = match end {
            End::Steps => "all updates are done",
            End::Minutes => "its minutes are over",
            End::Patience => "the bound on held-out text gets no better",
            End::Asked => "it was asked to end; the same command goes on with it",
        };
        eprintln!("{}: {why}", args.output.display());
    }
    Ok(())
}

/// Plain lines.
struct Log {
    quiet: bool,
    every: u64,
    losses: Vec<f64>,
}

impl Log {
    fn tell(&mut self, event: &Event<'_>) {
        if self.quiet {
            return;
        }
        let mut err = std::io::stderr().lock();
        let _ = match event {
            Event::Started {
                n_parameters,
                config,
                step,
                memory,
            } => writeln!(
                err,
                "{:.2} million parameters, {} x {} tokens an update, {} of {} updates done, about {:.2} GB",
                *n_parameters as f64 / 1e6,
                config.run.batch,
                config.data.length,
                step,
                config.run.steps,
                *memory as f64 / 1e9
            ),
            Event::Step(s) => {
                self.losses.push(s.loss);
                if !s.step.is_multiple_of(self.every) && s.step != s.total {
                    return;
                }
                let mean = self.losses.iter().sum::<f64>() / self.losses.len() as f64;
                self.losses.clear();
                let score = s.score.map_or(String::new(), |s| format!("  score {s:.3}"));
                let left = (s.total - s.step) as f64 * (s.seconds / s.step as f64);
                writeln!(
                    err,
                    "{:>7}/{}  loss {mean:.4}{score}  |g| {:.2}  lr {:.2e}  {:.0} tokens/s  {:.1} GFLOP/s  {} left",
                    s.step,
                    s.total,
                    s.grad_norm,
                    s.lr,
                    s.tokens_per_s,
                    s.flops / 1e9,
                    clock(left)
                )
            }
            Event::Evaluated {
                step,
                bound,
                error,
                bits_per_byte,
            } => writeln!(
                err,
                "{step:>7}  held out: {bound:.4} ± {error:.4} nats a token, {bits_per_byte:.3} bits a byte"
            ),
            Event::Saved(path) => writeln!(err, "         {}", path.display()),
            Event::Wrote { text, .. } => writeln!(err, "         > {}", text.replace('\n', " ")),
            Event::Note(text) => writeln!(err, "         {text}"),
        };
    }
}

fn clock(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    match s / 3600 {
        0 => format!("{}:{:02}", s / 60, s % 60),
        h => format!("{h}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

fn evaluate(args: &RunArgs) -> Result<()> {
    let config = configure(args)?;
    threads(&config)?;
    let mut run = Run::open(&config, &args.output)?;
    let step = run.step();
    match run.bound()? {
        Some((bound, error)) => println!("after {step} updates: {bound:.4} ± {error:.4} nats a token"),
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
    let mut engine = engine_of(&folder)?;
    let (plan, difference) = export::export(&folder, &args.output, mix, args.force, engine.as_mut())?;
    if !quiet {
        eprintln!(
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
    let found = bench::bench(&config, args.steps)?;
    println!(
        "{:.2} million parameters, {} x {} tokens, {} threads",
        found.n_parameters as f64 / 1e6,
        config.run.batch,
        config.data.length,
        rayon::current_num_threads()
    );
    println!(
        "step      {:.3} s (median of {}; {:.3} to {:.3})",
        found.seconds, args.steps, found.fastest, found.slowest
    );
    println!("tokens    {:.0} a second", found.tokens_per_s);
    println!(
        "products  {:.1} GFLOP/s, {:.0} % of the {:.1} that a large product reaches",
        found.flops / 1e9,
        100.0 * found.flops / found.peak,
        found.peak / 1e9
    );
    println!(
        "memory    {:.2} GB estimated, {:.2} GB used",
        memory(&config) as f64 / 1e9,
        found.peak_bytes / 1e9
    );
    Ok(())
}
