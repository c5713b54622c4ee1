//! A device that runs out of memory or goes away, at each call to its driver: `tests/c/vulkan.c` stands between
//! the Vulkan backend and the driver. Each case is a process of its own, this program started again: it must see
//! an error, live, and then compute on the CPU.
#![cfg(all(any(feature = "vulkan", feature = "vulkan-archive"), target_os = "linux"))]

mod common;
#[path = "common/preload.rs"]
mod preload;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

use common::convert_golden;
use remask::denoise::Cache;
use remask::device::{self, DeviceChoice, DeviceKind, SplitMode};
use remask::{
    Canvas, Error, ErrorKind, GenerateParams, LoadOptions, Model, Params, Session, SessionOptions, Token,
};

/// Names the library in the processes that are started.
const SHIM: &str = "LD_PRELOAD";
/// In these processes: the model's file.
const MODEL: &str = "REMASK_TEST_LOST_MODEL";

/// In these processes, where two devices are to share every layer: anything.
const TENSORS: &str = "REMASK_TEST_LOST_TENSORS";

/// A greedy run with a cache on `device`, with the session, where there was one.
fn run(
    path: &Path,
    device: DeviceChoice,
    split_mode: SplitMode,
) -> (Option<Session>, Result<Vec<Token>, Error>) {
    let options = LoadOptions {
        device,
        split_mode,
        ..LoadOptions::default()
    };
    let session =
        Model::load(path, &options).and_then(|model| Session::new(&model, &SessionOptions::default()));
    match session {
        Ok(mut session) => {
            let tokens = generate(&mut session);
            (Some(session), tokens)
        }
        Err(error) => (None, Err(error)),
    }
}

fn generate(session: &mut Session) -> Result<Vec<Token>, Error> {
    let mask = session.model().mask_token();
    let mut tokens: Vec<Token> = (3..15).collect();
    tokens.resize(20, mask);
    let mut canvas = Canvas::from_tokens(&tokens, mask);
    let params = GenerateParams {
        denoise: Params {
            steps: 4,
            block_length: 4,
            cache: Cache::Dual,
            ..Params::default()
        },
        ..GenerateParams::default()
    };
    session.generate(&mut canvas, &params, |_, _| ControlFlow::Continue(()))?;
    Ok(canvas.tokens().to_vec())
}

fn is_expected(error: &Error) {
    println!("{:?}: {error}", error.kind());
    assert!(
        matches!(error.kind(), ErrorKind::Resource | ErrorKind::Device),
        "{error:?}"
    );
}

/// What runs in each process; without a model it is none of them.
#[test]
fn the_device_fails_and_the_cpu_goes_on() {
    let Some(path) = std::env::var_os(MODEL) else {
        return;
    };
    let path = Path::new(&path);
    let (split_mode, n_devices) = match std::env::var_os(TENSORS) {
        None => (SplitMode::Layers, 1),
        Some(_) => (SplitMode::Tensors, 2),
    };
    let names: Vec<String> = match device::list() {
        Ok(all) => all
            .into_iter()
            .filter(|d| d.kind != DeviceKind::Cpu)
            .map(|d| d.name)
            .take(n_devices)
            .collect(),
        Err(error) => {
            is_expected(&error);
            Vec::new()
        }
    };
    let (_, reference) = run(path, DeviceChoice::Cpu, SplitMode::Layers);
    let reference = reference.unwrap();
    if names.len() == n_devices {
        let (mut session, first) = run(path, DeviceChoice::Named(names.join(",")), split_mode);
        match (&mut session, first) {
            (_, Ok(tokens)) => {
                assert_eq!(tokens, reference);
                println!("no error");
            }
            (session, Err(error)) => {
                is_expected(&error);
                // Whoever goes on all the same gets an error again, or what is right.
                if let Some(session) = session {
                    match generate(session) {
                        Ok(tokens) => assert_eq!(tokens, reference),
                        Err(error) => is_expected(&error),
                    }
                }
            }
        }
    }
    let (_, after) = run(path, DeviceChoice::Cpu, SplitMode::Layers);
    assert_eq!(after.unwrap(), reference);
    println!("alive");
}

/// Runs the process with a fault and returns what it wrote.
fn with_fault(shim: &Path, model: &Path, tensors: bool, fault: &str) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if tensors {
        command.env(TENSORS, "1");
    }
    let output = command
        .args(["--exact", "the_device_fails_and_the_cpu_goes_on", "--nocapture"])
        .env(SHIM, shim)
        .env(MODEL, model)
        .env("REMASK_VK_FAULT", fault)
        .env("REMASK_VK_CALLS", "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success() && text.contains("alive"),
        "{fault}: {}: {text}",
        output.status
    );
    text
}

#[test]
fn every_call_that_fails_is_an_error_and_not_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let Some(shim) = preload::library("vulkan", folder.path(), &["-Wno-cast-function-type"]) else {
        return;
    };
    let model = convert_golden("llada-gqa-tiny", folder.path());
    every_fault(&shim, &model, false);
    every_fault(&shim, &model, true);
}

/// With `tensors` two devices share every layer.
fn every_fault(shim: &Path, model: &Path, tensors: bool) {
    let with_fault = |fault: &str| self::with_fault(shim, model, tensors, fault);
    let calm = with_fault("none 0");
    let Some(calls) = calm.lines().find_map(|l| l.strip_prefix("calls: ")) else {
        println!("there are not the devices; nothing is tested: {calm}");
        return;
    };
    println!("calls without a fault, tensors split {tensors}: {calls}");
    let count = |name: &str| -> usize {
        let (_, rest) = calls.split_once(name).unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    let (n_memory, n_submit) = (count("memory"), count("submit"));
    if n_submit == 0 {
        println!("there are not the devices; nothing is tested");
        return;
    }
    assert!(calm.contains("no error"), "{calm}");
    let long = std::env::var_os("REMASK_TEST_LONG").is_some();
    for (kind, n) in [("memory", n_memory), ("submit", n_submit), ("wait", n_submit)] {
        // One in the middle, some, or all.
        let short = std::env::var_os("REMASK_TEST_SHORT").is_some();
        let (mut k, mut n_errors) = (if short { n / 2 } else { 0 }, 0);
        while k < n {
            let fault = format!("{kind} {k}");
            let said = with_fault(&fault);
            let error = said
                .lines()
                .find(|l| l.starts_with("Resource") || l.starts_with("Device"));
            println!("{fault}: {}", error.unwrap_or("no error"));
            n_errors += usize::from(error.is_some());
            // Memory may be had elsewhere; a device that is lost cannot have computed what comes after.
            assert!(kind == "memory" || error.is_some(), "{fault}: {said}");
            k += match (short, long) {
                (true, _) => n,
                (_, true) => 1,
                _ => 3 + k,
            };
        }
        assert!(n_errors > 0, "{kind}: nothing failed");
    }
}
