//! The chores of this repository: `cargo xtask help`.
#![forbid(unsafe_code)]

mod asserts;
mod backend;
mod demo;
mod dist;
mod dynamic;
mod licences;
mod pack;
mod prerequisites;
mod remote;
mod speed_table;
mod staticlib;
mod test;
mod torch;
mod torture;
mod train_demo;
mod vulkan;
mod wheel;

use std::process::{Command, ExitCode};

const HELP: &str = "\
cargo xtask COMMAND

  demo              builds the command and runs it on the model in models/
  train-demo        trains a small model on a little world, five minutes, and runs it
  test              checks format, lints and runs the whole test suite
                    --quick: without format and lints
  test-vulkan       builds the Vulkan backend and runs all its tests, on Mesa's software driver where there is
                    no GPU (minutes; `test` runs the shorter ones; see docs/devices.md)
  test-rpc          builds with the feature rpc and tests layers on other machines, with workers on this one
  torture           the long forms: fuzzing, faults, threads, soak; an hour and more. A run that was
                    stopped goes on; --again: from the start
  asserts           compares the assertions of ggml that our calls can reach with tests/data/ggml-asserts.txt
                    --write: after an update of ggml, when each new one is checked before the call
  test-torch        fetches PyTorch's library and tests the trainer's engine on it (a gigabyte, minutes)
  header            writes include/remask.h from src/ffi
  dist              makes dist/remask-VERSION-TARGET, a folder to build programs with, and its .tar.gz
                    --out DIR: elsewhere; --test: builds and runs the examples with a moved copy;
                    --features cuda: with a GPU's backend; --trainer: with remask-train; --dev: quick
                    to build, slow to run; --dynamic: with ggml's backends as files, the best of which
                    for a processor is chosen where it runs
  backend KIND      makes dist/libggml-KIND.so, a file to put beside a --dynamic library: cuda or vulkan
                    --arch 90: for GPUs of this compute capability; --pypi: with a CUDA toolkit of Python
                    wheels (a gigabyte); --bundle FILE.tar.gz: packs what makes it on another machine,
                    without Rust; the rest goes to xtask/backend/build.sh
  staticlib IN OUT  links the archive IN into one object that shows only remask_*, as the archive OUT
  speed-table       measures the denoiser's policies and writes the table and picture of docs/speed.md;
                    --model FILE --data FILE.jsonl --name NAME: of another model; see --help of it
  wheel             makes the Python wheel in bindings/python/dist
                    --profile NAME: of the library; release, or dev for the tests
                    --test: installs it in a new virtual environment and runs its tests
  pack-test-data    makes the archives of tests/data from ../shared
  help              this text

demo, dist, train-demo and the tests first look for what the build needs beside Rust (a C++ compiler, CMake and
libclang) and install it where they can: by apt-get on Debian and Ubuntu, by Homebrew on macOS.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["demo"] => prerequisites::ensure().and_then(|()| demo::run()),
        ["test"] => prerequisites::ensure().and_then(|()| test::run(false)),
        ["test", "--quick"] => prerequisites::ensure().and_then(|()| test::run(true)),
        ["test-vulkan"] => prerequisites::ensure().and_then(|()| vulkan::run()),
        ["test-rpc"] => prerequisites::ensure().and_then(|()| remote::run()),
        ["torture"] => prerequisites::ensure().and_then(|()| torture::run(false)),
        ["torture", "--again"] => prerequisites::ensure().and_then(|()| torture::run(true)),
        ["asserts"] => asserts::run(false),
        ["asserts", "--write"] => asserts::run(true),
        ["test-torch"] => prerequisites::ensure().and_then(|()| torch::run()),
        ["train-demo"] => prerequisites::ensure().and_then(|()| train_demo::run()),
        ["header"] => header(),
        ["dist", rest @ ..] => prerequisites::ensure().and_then(|()| dist::run(rest)),
        ["backend", rest @ ..] => backend::run(rest),
        ["staticlib", input, output] => staticlib::run(input.as_ref(), output.as_ref()),
        ["speed-table", rest @ ..] => prerequisites::ensure().and_then(|()| speed_table::run(rest)),
        ["wheel"] => prerequisites::ensure().and_then(|()| wheel::run("release", wheel::Tests::None)),
        ["wheel", "--test"] => prerequisites::ensure().and_then(|()| wheel::run("dev", wheel::Tests::All)),
        ["wheel", "--profile", profile] => {
            prerequisites::ensure().and_then(|()| wheel::run(profile, wheel::Tests::None))
        }
        ["wheel", "--profile", profile, "--test"] => {
            prerequisites::ensure().and_then(|()| wheel::run(profile, wheel::Tests::All))
        }
        ["pack-test-data"] => pack::run(),
        [] | ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        _ => Err(format!(
            "`{}` is no command; see cargo xtask help",
            args.join(" ")
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What chores return: an error is one line for the user.
type Outcome = Result<(), String>;

/// The repository's root: by what cargo says of the package that it runs, since a target folder that two clones
/// share may hold what was compiled in the other.
fn root() -> &'static std::path::Path {
    static ROOT: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();
    ROOT.get_or_init(|| {
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), std::path::PathBuf::from);
        package.parent().map_or_else(|| ".".into(), Into::into)
    })
}

/// Runs a command in the root and shows it first.
fn run(program: &str, args: &[&str]) -> Outcome {
    println!("$ {program} {}", args.join(" "));
    let status = Command::new(program).args(args).current_dir(root()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{program} {}` ended with {status}", args.join(" "))),
        Err(error) => Err(format!("`{program}` does not start: {error}")),
    }
}

/// Writes the header: the test that compares it does so when it is asked to.
fn header() -> Outcome {
    let status = Command::new(cargo())
        .args(["test", "--package", "remask", "--test", "header", "--quiet"])
        .env("REMASK_WRITE_HEADER", "1")
        .current_dir(root())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("include/remask.h was not written".to_owned()),
        Err(error) => Err(format!("cargo does not start: {error}")),
    }
}

/// Cargo, the one that runs us.
fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}
