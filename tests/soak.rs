//! A process that generates, is cancelled and opens models for long: memory and open files stay as they are.
//! `REMASK_SOAK=10000` for as many rounds.
#![cfg(target_os = "linux")]

mod common;

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use remask::{
    CancelToken, Canvas, ErrorKind, GenerateParams, LoadOptions, Model, Params, Session, SessionOptions,
};

/// Memory and open files are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn n_open() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn filled(model: &Model, cancelled_at: Option<u32>) -> Option<Duration> {
    let options = SessionOptions {
        n_threads: 1,
        ..SessionOptions::default()
    };
    let mut session = Session::new(model, &options).unwrap();
    let mut canvas = Canvas::new(model.mask_token());
    canvas.push_fixed(&[1, 2, 3]);
    canvas.push_masked(8).unwrap();
    let cancel = CancelToken::new();
    let params = GenerateParams {
        denoise: Params {
            steps: 4,
            ..Params::default()
        },
        cancel: Some(cancel.clone()),
        ..GenerateParams::default()
    };
    let (mut step, mut set) = (0, Instant::now());
    let done = session.generate(&mut canvas, &params, |_, _| {
        step += 1;
        if cancelled_at == Some(step) {
            set = Instant::now();
            cancel.set();
        }
        ControlFlow::Continue(())
    });
    cancelled_at.map(|_| {
        assert_eq!(done.unwrap_err().kind(), ErrorKind::Cancelled);
        set.elapsed()
    })
}

#[test]
fn rounds_of_open_generate_cancel_and_close_leave_nothing() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let path = common::convert_golden("llada-gqa-tiny", folder.path());
    let shared = Model::load(&path, &LoadOptions::default()).unwrap();
    let rounds = std::env::var("REMASK_SOAK").ok().and_then(|v| v.parse().ok());
    let rounds: u64 = rounds.unwrap_or(300);
    let mut slowest = Duration::ZERO;
    let mut begin = (0, 0);
    for round in 0..rounds {
        if round == rounds / 3 {
            begin = (resident(), n_open());
        }
        filled(&shared, None);
        slowest = slowest.max(filled(&shared, Some(1 + round as u32 % 3)).unwrap());
        if round % 10 == 0 {
            filled(&Model::load(&path, &LoadOptions::default()).unwrap(), None);
        }
    }
    let growth = resident() as i64 - begin.0 as i64;
    println!(
        "{rounds} rounds: {} KiB more, slowest cancel {slowest:?}",
        growth / 1024
    );
    assert_eq!(n_open(), begin.1);
    assert!(growth <= 1 << 20, "{growth} bytes more");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

#[test]
fn a_session_outlives_its_model() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let path = common::convert_golden("llada-gqa-tiny", folder.path());
    let model = Model::load(&path, &LoadOptions::default()).unwrap();
    let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
    let mask = model.mask_token();
    drop(model);
    std::fs::remove_file(&path).unwrap();
    let mut canvas = Canvas::new(mask);
    canvas.push_masked(4).unwrap();
    let params = GenerateParams::default();
    session
        .generate(&mut canvas, &params, |_, _| ControlFlow::Continue(()))
        .unwrap();
}
