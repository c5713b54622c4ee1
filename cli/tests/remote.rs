//! Layers on other machines: two workers on the loopback device, one of them killed.
#![cfg(feature = "rpc")]

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use remask::device::DeviceChoice;
use remask::{
    Cache, Canvas, ErrorKind, Flash, GenerateParams, LoadOptions, Model, Params, Result, Session,
    SessionOptions, Token,
};

/// Killed when the test ends, however it does.
struct Worker {
    process: Child,
    address: String,
}

impl Worker {
    /// A worker at `bind`; port 0 is any free one.
    fn start(bind: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_remask"))
            .args(["worker", "--bind", bind, "--threads", "1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let warning = lines.next().unwrap().unwrap();
        assert!(warning.contains("trusted networks only"), "{warning}");
        let listening = lines.next().unwrap().unwrap();
        let address = listening.rsplit(' ').next().unwrap().to_owned();
        // What it says later is read, so that it does not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let worker = Self { process, address };
        worker.wait_until_it_listens();
        worker
    }

    /// Its port is in the kernel's table once ggml listens; a connection would take its one place.
    fn wait_until_it_listens(&self) {
        let port: u16 = self.address.rsplit(':').next().unwrap().parse().unwrap();
        let entry = format!(":{port:04X} 00000000:0000 0A");
        for _ in 0..1000 {
            match std::fs::read_to_string("/proc/net/tcp") {
                Ok(table) if table.contains(&entry) => return,
                Ok(_) => {}
                // No such table on this system.
                Err(_) => return std::thread::sleep(Duration::from_secs(1)),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the worker does not listen at {}", self.address);
    }

    fn device(&self) -> String {
        format!("rpc://{}", self.address)
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn model_file() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let found = std::fs::read_dir(folder).unwrap().flatten().map(|e| e.path());
    let mut models: Vec<_> = found
        .filter(|p| p.extension().is_some_and(|e| e == "gguf"))
        .collect();
    models.sort();
    models.remove(0)
}

fn load(device: DeviceChoice, split: &[f64]) -> Result<Model> {
    let options = LoadOptions {
        device,
        split: split.to_vec(),
        ..LoadOptions::default()
    };
    Model::load(model_file(), &options)
}

fn session(model: &Model) -> Session {
    let options = SessionOptions {
        n_threads: 1,
        flash: Flash::Off,
        ..SessionOptions::default()
    };
    Session::new(model, &options).unwrap()
}

fn on(devices: &[&Worker]) -> DeviceChoice {
    let names: Vec<String> = devices.iter().map(|w| w.device()).collect();
    DeviceChoice::Named(names.join(","))
}

fn canvas(model: &Model, n: usize) -> Canvas {
    let mut canvas = Canvas::new(model.mask_token());
    let prompt: Vec<Token> = (5..17).collect();
    canvas.push_fixed(&prompt);
    canvas.push_masked(n).unwrap();
    canvas
}

fn params(cache: Cache) -> GenerateParams {
    GenerateParams {
        denoise: Params {
            block_length: 8,
            cache,
            ..Params::default()
        },
        ..GenerateParams::default()
    }
}

fn tokens(session: &mut Session, cache: Cache) -> Vec<Token> {
    let mut canvas = canvas(&session.model().clone(), 16);
    session
        .generate(&mut canvas, &params(cache), |_, _| ControlFlow::Continue(()))
        .unwrap();
    canvas.tokens().to_vec()
}

#[test]
fn two_workers_compute_what_the_cpu_does() {
    let workers = [Worker::start("127.0.0.1:0"), Worker::start("127.0.0.1:0")];
    let cpu = load(DeviceChoice::Cpu, &[]).unwrap();
    let remote = load(on(&[&workers[0], &workers[1]]), &[1.0, 1.0]).unwrap();
    let (mut a, mut b) = (session(&cpu), session(&remote));
    let canvas = canvas(&cpu, 8);
    let rows: Vec<u32> = (12..20).collect();
    let (mut expected, mut got) = (Vec::new(), Vec::new());
    a.logits(canvas.tokens(), &rows, &mut expected).unwrap();
    b.logits(canvas.tokens(), &rows, &mut got).unwrap();
    let errors = expected.iter().zip(&got).map(|(a, b)| (a - b).abs());
    let worst = errors.fold(0f32, f32::max);
    println!("largest difference of a logit: {worst:.1e}");
    // The demonstration model is quantized: products on the CPU are by other kernels, see
    // docs/products.md. What differs is how activations are rounded.
    assert!(worst < 0.5, "{worst}");
    for cache in [Cache::None, Cache::Dual] {
        assert_eq!(tokens(&mut a, cache), tokens(&mut b, cache), "{cache:?}");
        // Logits come back where they are asked for, and give the same tokens.
        b.set_reduction(Some(false));
        assert_eq!(tokens(&mut a, cache), tokens(&mut b, cache), "{cache:?}");
        b.set_reduction(None);
    }
}

#[test]
fn a_worker_killed_in_mid_run_is_an_error_and_the_next_load_works() {
    let mut workers = [Worker::start("127.0.0.1:0"), Worker::start("127.0.0.1:0")];
    let model = load(on(&[&workers[0], &workers[1]]), &[1.0, 1.0]).unwrap();
    let mut lost = session(&model);
    let mut run = lost
        .start(vec![canvas(&model, 64)], &params(Cache::None))
        .unwrap();
    for _ in 0..3 {
        run.step().unwrap();
    }
    let before: Vec<Token> = run.canvases().next().unwrap().tokens().to_vec();
    workers[1].kill();
    let began = Instant::now();
    let error = run.step().err().unwrap();
    println!("{error}; after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(error.kind(), ErrorKind::Device);
    assert!(error.message().contains(&workers[1].address), "{error}");
    // The canvas is as before the step, and the session says the same again.
    assert_eq!(run.canvases().next().unwrap().tokens(), before);
    assert_eq!(run.step().err().unwrap().kind(), ErrorKind::Device);
    drop(run);
    // Nobody listens there now.
    let error = load(on(&[&workers[0], &workers[1]]), &[1.0, 1.0]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Device);
    drop((lost, model));
    // A new worker at the old address: the same names work again.
    workers[1] = Worker::start(&workers[1].address.clone());
    let cpu = load(DeviceChoice::Cpu, &[]).unwrap();
    let again = load(on(&[&workers[0], &workers[1]]), &[1.0, 1.0]).unwrap();
    assert_eq!(
        tokens(&mut session(&again), Cache::None),
        tokens(&mut session(&cpu), Cache::None)
    );
}

#[test]
fn a_worker_lost_while_the_model_is_idle_does_not_spoil_the_next_load() {
    let mut worker = Worker::start("127.0.0.1:0");
    let old = load(on(&[&worker]), &[]).unwrap();
    worker.kill();
    worker = Worker::start(&worker.address.clone());
    // The old model is still there.
    let new = load(on(&[&worker]), &[]).unwrap();
    let cpu = load(DeviceChoice::Cpu, &[]).unwrap();
    assert_eq!(
        tokens(&mut session(&new), Cache::None),
        tokens(&mut session(&cpu), Cache::None)
    );
    let rows: Vec<u32> = vec![1];
    let error = session_error(&old, &rows);
    assert_eq!(error.kind(), ErrorKind::Device);
}

fn session_error(model: &Model, rows: &[u32]) -> remask::Error {
    let options = SessionOptions::default();
    match Session::new(model, &options) {
        Err(error) => error,
        Ok(mut session) => session.logits(&[1, 2, 3], rows, &mut Vec::new()).err().unwrap(),
    }
}

#[cfg(unix)]
#[test]
fn a_worker_that_serves_another_is_an_error_and_no_wait() {
    let worker = Worker::start("127.0.0.1:0");
    let held = load(on(&[&worker]), &[]).unwrap();
    let model = model_file();
    let began = Instant::now();
    let out = Command::new(env!("CARGO_BIN_EXE_remask"))
        .args([
            "generate",
            "-m",
            model.to_str().unwrap(),
            "-p",
            "hello",
            "-n",
            "4",
        ])
        .args(["--device", &worker.device()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    println!("{said}; after {:?}", began.elapsed());
    assert!(!out.status.success() && out.status.code().is_some());
    assert!(said.contains("busy with another client"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(60));
    drop(held);
}

#[test]
fn addresses_that_others_reach_are_refused() {
    let out = Command::new(env!("CARGO_BIN_EXE_remask"))
        .args(["worker", "--bind", "0.0.0.0:0"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success());
    assert!(said.contains("the network is trusted"), "{said}");
}
