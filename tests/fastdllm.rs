//! Caches and their loops against Fast-dLLM (NVlabs, both published versions): canvas, window and use of
//! the cache at every call.
//!
//! `cargo test --test fastdllm -- --nocapture` prints the table of `docs/parity.md`.

mod common;

use std::collections::BTreeMap;

use common::{Arrays, convert_golden, json, vectors_dir};
use remask::{
    Cache, Canvas, Commit, FastDllm, Flash, GenerateParams, LoadOptions, Model, Params, Session,
    SessionOptions, Token,
};
use serde_json::Value;

fn session(flash: Flash) -> Session {
    let folder = tempfile::tempdir().unwrap();
    let path = convert_golden("llada-tiny", folder.path());
    let model = Model::load(&path, &LoadOptions::default()).unwrap();
    let options = SessionOptions {
        flash,
        n_threads: 1,
        ..SessionOptions::default()
    };
    Session::new(&model, &options).unwrap()
}

fn cases() -> (Vec<Value>, Arrays) {
    let base = vectors_dir().join("fastdllm");
    let file = json(&base.join("llada-tiny.json"));
    let arrays = Arrays::open(&base.join("llada-tiny.safetensors"));
    (file["cases"].as_array().unwrap().clone(), arrays)
}

fn number(case: &Value, key: &str) -> usize {
    case[key].as_u64().unwrap() as usize
}

fn params(case: &Value) -> Params {
    let commit = match (case["threshold"].as_f64(), case["factor"].as_f64()) {
        (Some(x), _) => Commit::Threshold(x),
        (_, Some(x)) => Commit::Factor(x),
        _ => Commit::Quota,
    };
    Params {
        steps: number(case, "steps"),
        block_length: number(case, "block_length"),
        response_start: Some(number(case, "prompt_len")),
        commit,
        cache: match case["function"].as_str().unwrap() {
            "generate" => Cache::None,
            "generate_with_prefix_cache" => Cache::Prefix,
            "generate_with_dual_cache" => Cache::Dual,
            other => panic!("{other}"),
        },
        fast_dllm: Some(match case["version"].as_str().unwrap() {
            "main" => FastDllm::Main,
            "jun2025" => FastDllm::Jun2025,
            other => panic!("{other}"),
        }),
        idle_steps: true,
        ..Params::default()
    }
}

/// A case as recorded: per call the canvases before it, then the result; and the windows.
struct Trace<'a> {
    case: &'a Value,
    states: common::Array<i32>,
    windows: common::Array<i32>,
}

impl Trace<'_> {
    fn state(&self, call: usize, row: usize) -> Vec<Token> {
        let n = self.states.shape[2];
        let all = &self.states.row(call)[row * n..(row + 1) * n];
        all.iter().map(|&t| t as Token).collect()
    }

    /// The slots of the block that a call is for. With a cache a block begins with a full pass; without,
    /// it goes on until it is full in all rows.
    fn block(&self, call: usize, mask: Token) -> std::ops::Range<usize> {
        let (start, length) = (number(self.case, "prompt_len"), number(self.case, "block_length"));
        let i = if self.case["function"] == "generate" {
            let masked = |row| self.state(call, row).iter().position(|&t| t == mask);
            let first = (0..self.states.shape[1]).filter_map(masked).min();
            (first.unwrap() - start) / length
        } else {
            (0..=call).filter(|&i| self.windows.row(i)[2] == 0).count() - 1
        };
        start + i * length..start + (i + 1) * length
    }
}

/// Runs every row alone and compares it with its part of the recorded batch. A call in which a row has
/// nothing to fill is one of the batch's, that the row alone does not make. Returns evaluations.
fn replay(session: &mut Session, trace: &Trace<'_>) -> usize {
    let mask = session.model().mask_token();
    let name = trace.case["name"].as_str().unwrap();
    let n_calls = number(trace.case, "nfe");
    let n_rows = trace.states.shape[1];
    let denoise = params(trace.case);
    let params = GenerateParams {
        denoise,
        ..GenerateParams::default()
    };
    let mut most = 0;
    for row in 0..n_rows {
        let canvas = Canvas::from_tokens(&trace.state(0, row), mask);
        let mut run = session.start(vec![canvas], &params).unwrap();
        let mut made = 0;
        for call in 0..n_calls {
            let before = run.canvases().next().unwrap().tokens().to_vec();
            // The recorder saw what went into the model: a window, and what it had seen before.
            let w = trace.windows.row(call);
            let seen = w[0] as usize..w[1] as usize;
            let expected = trace.state(call, row);
            assert_eq!(
                before[seen.clone()],
                expected[seen],
                "{name}, row {row}, before call {call}"
            );
            let full = !before[trace.block(call, mask)].contains(&mask);
            if n_rows > 1 && full {
                continue;
            }
            let report = run.step().unwrap();
            made += 1;
            assert_eq!(report.nfe, made, "{name}, row {row}, call {call}");
            let step = &report.sequences[0];
            let found = [step.window.start, step.window.end, usize::from(step.cached)];
            let expected: Vec<usize> = trace.windows.row(call).iter().map(|&x| x as usize).collect();
            assert_eq!(found[..], expected[..], "{name}, row {row}, call {call}");
        }
        let last = run.canvases().next().unwrap();
        assert_eq!(last.tokens(), trace.state(n_calls, row), "{name}, row {row}");
        assert!(run.is_done(), "{name}, row {row}: {n_calls} calls");
        most = most.max(made as usize);
    }
    if n_rows == 1 {
        assert_eq!(most, n_calls, "{name}");
        let left = trace.state(n_calls, 0).iter().filter(|&&t| t == mask).count();
        assert_eq!(left, number(trace.case, "masks_left"), "{name}");
    }
    n_calls
}

#[test]
fn every_published_trace_is_followed_call_by_call() {
    let mut exact = session(Flash::Off);
    let mut flash = session(Flash::On);
    let (cases, arrays) = cases();
    assert!(cases.len() > 200);
    let mut table: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (i, case) in cases.iter().enumerate() {
        let name = case["name"].as_str().unwrap();
        let trace = Trace {
            case,
            states: arrays.i32(&format!("{name}.x")),
            windows: arrays.i32(&format!("{name}.windows")),
        };
        let calls = replay(&mut exact, &trace);
        if i % 8 == 0 {
            replay(&mut flash, &trace);
        }
        let rule = match params(case).commit {
            Commit::Quota => "quota",
            Commit::Threshold(_) => "threshold",
            _ => "factor",
        };
        let key = format!(
            "{} | {} | {rule}",
            case["version"].as_str().unwrap(),
            case["function"].as_str().unwrap()
        );
        let entry = table.entry(key).or_default();
        *entry = (entry.0 + 1, entry.1 + calls);
    }
    println!("| version | function | rule | traces | calls | equal |");
    println!("|---|---|---|---|---|---|");
    for (key, (n, calls)) in table {
        println!("| {key} | {n} | {calls} | yes |");
    }
}
