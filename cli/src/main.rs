//! The command `remask`.
#![forbid(unsafe_code)]

mod against;
mod answers;
mod args;
mod bench;
mod chat;
mod devices;
mod evaluate;
mod export;
mod fill;
mod generate;
mod infill;
mod inspect;
mod lengths;
mod machine;
mod output;
mod policy;
mod quantize;
mod run_steps;
mod visual;
#[cfg(feature = "rpc")]
mod worker;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};
use output::{Failure, note};

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::set_up_log(cli.verbose, cli.quiet);
    let done = match cli.command {
        Command::Generate(args) => generate::run(&args, cli.quiet),
        Command::Infill(args) => infill::run(&args, cli.quiet),
        Command::Chat(args) => chat::run(&args, cli.quiet),
        Command::Inspect(args) => inspect::run(&args),
        Command::Convert(args) => quantize::run_convert(&args, cli.quiet),
        Command::Quantize(args) => quantize::run_quantize(&args, cli.quiet),
        Command::Export(args) => export::run(&args, cli.quiet),
        Command::Imatrix(args) => evaluate::run_imatrix(&args, cli.quiet),
        Command::Compare(args) => evaluate::run_compare(&args, cli.quiet),
        Command::Bench(args) => bench::run(&args, cli.quiet),
        Command::Devices(args) => devices::run(&args),
        #[cfg(feature = "rpc")]
        Command::Worker(args) => worker::run(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "remask", &mut std::io::stdout());
            Ok(())
        }
    };
    match done.and_then(|()| std::io::stdout().flush().map_err(Failure::from)) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader went away (`remask ... | head`): nothing is left to be said.
        Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(Failure::Cancelled) => ExitCode::from(130),
        Err(Failure::Error(error)) => {
            note!("remask: {error}");
            ExitCode::from(output::exit_code(error.kind()))
        }
    }
}
