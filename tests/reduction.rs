//! Rows of logits reduced in the graph, as it is done where the head is on a device: here on the CPU,
//! against the same numbers from the logits.

mod common;

use std::ops::ControlFlow;

use common::convert_golden;
use remask::denoise::{Branch, CacheUse, Predictor, Query, Reduction};
use remask::{
    Cache, Canvas, Commit, EarlyCommit, ErrorKind, GenerateParams, LoadOptions, Model, Order, Params,
    Session, SessionOptions, Token,
};

fn session(name: &str, folder: &std::path::Path) -> Session {
    let path = convert_golden(name, folder);
    let model = Model::load(&path, &LoadOptions::default()).unwrap();
    let options = SessionOptions {
        n_threads: 1,
        ..SessionOptions::default()
    };
    Session::new(&model, &options).unwrap()
}

#[test]
fn peaks_are_those_of_the_logits() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = session("llada-gqa-tiny", folder.path());
    session.set_reduction(Some(true));
    let tokens: Vec<Token> = (0..20).map(|i| (i * 7 + 3) % 200).collect();
    let rows: Vec<u32> = (4..17).collect();
    let query = [Query {
        sequence: 0,
        branch: Branch::Conditional,
        tokens: &tokens,
        rows: &rows,
        cache: CacheUse::Off,
    }];
    let mut logits = Vec::new();
    session.predict(&query, &mut logits).unwrap();
    let n_vocab = session.n_vocab();
    // The likeliest token of the first row is excluded: its place goes to another.
    let best = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    let excluded = best(&logits[..n_vocab]) as Token;
    for excluded in [vec![], vec![excluded]] {
        let reduction = Reduction {
            excluded: excluded.clone(),
            gap: true,
            entropy: true,
            ..Reduction::default()
        };
        let mut peaks = Vec::new();
        let done = session.predict_reduced(&query, &reduction, &[], &mut peaks);
        assert!(done.unwrap());
        assert_eq!(peaks.len(), rows.len());
        for (peak, row) in peaks.iter().zip(logits.chunks_exact(n_vocab)) {
            let mut row = row.to_vec();
            excluded.iter().for_each(|&t| row[t as usize] = f32::NEG_INFINITY);
            let token = best(&row);
            assert_eq!(peak.token as usize, token);
            let z: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            let p = |x: f32| f64::from(x).exp() / z;
            assert!((f64::from(peak.probability) - p(row[token])).abs() < 1e-6);
            assert_eq!(peak.largest, peak.probability);
            let h: f64 = row.iter().map(|&x| p(x) * (p(x) + 1e-10).ln()).sum();
            assert!(
                (f64::from(peak.negative_entropy) - h).abs() < 1e-4,
                "{peak:?} {h}"
            );
            let largest = row[token];
            row[token] = f32::NEG_INFINITY;
            assert!((peak.gap - (largest - row[best(&row)])).abs() < 1e-5);
        }
    }
}

/// The tokens that a run of two canvases leaves, and every confidence on the way.
fn run(session: &mut Session, denoise: &Params, forbid: bool) -> (Vec<Vec<Token>>, Vec<f32>) {
    let mut canvas = Canvas::new(session.model().mask_token());
    canvas.push_fixed(&[11, 23, 5, 42, 7]);
    canvas.push_masked(24).unwrap();
    let mut other = Canvas::new(session.model().mask_token());
    other.push_fixed(&[90, 3]);
    other.push_masked(20).unwrap();
    if forbid {
        canvas.forbid(5..9, &[1, 2, 3]).unwrap();
    }
    let params = GenerateParams {
        denoise: denoise.clone(),
        ..GenerateParams::default()
    };
    let mut run = session.start(vec![canvas, other], &params).unwrap();
    let mut confidences = Vec::new();
    while !run.is_done() {
        let report = run.step().unwrap();
        let changes = report.sequences.iter().flat_map(|s| &s.changed);
        confidences.extend(changes.map(|c| c.confidence));
    }
    let canvases = run.into_canvases();
    (
        canvases.iter().map(|c| c.tokens().to_vec()).collect(),
        confidences,
    )
}

#[test]
fn runs_are_the_same_by_every_rule() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = session("llada-tiny", folder.path());
    let blocks = |params: Params| Params {
        block_length: 8,
        ..params
    };
    let rules = [
        Params::default(),
        Params {
            suppress: vec![17, 3, 200],
            ..Params::default()
        },
        Params {
            order: Order::Margin,
            commit: Commit::Threshold(0.2),
            ..Params::default()
        },
        Params {
            order: Order::Entropy,
            ..Params::default()
        },
        Params {
            commit: Commit::EntropyBound(0.5),
            cache: Cache::Dual,
            ..Params::default()
        },
        Params {
            commit: Commit::NEIGHBOURS,
            cache: Cache::Prefix,
            cache_refresh: 3,
            ..Params::default()
        },
        Params {
            early_commit: Some(EarlyCommit::default()),
            cache: Cache::FEATURE,
            ..Params::default()
        },
        Params {
            order: Order::LeftToRight,
            ..Params::default()
        },
        Params {
            order: Order::Random,
            seed: 5,
            ..Params::default()
        },
        // Tokens that are drawn.
        Params {
            temperature: 0.8,
            seed: 3,
            ..Params::default()
        },
        Params {
            temperature: 1.5,
            suppress: vec![17, 3, 200],
            commit: Commit::Threshold(0.2),
            cache: Cache::Dual,
            seed: 4,
            ..Params::default()
        },
        Params {
            temperature: 0.3,
            order: Order::Margin,
            early_commit: Some(EarlyCommit::default()),
            seeds: vec![5, 6],
            ..Params::default()
        },
        Params {
            temperature: 5.0,
            order: Order::Entropy,
            commit: Commit::EntropyBound(0.5),
            cache: Cache::FEATURE,
            ..Params::default()
        },
        Params {
            temperature: 1.0,
            order: Order::Random,
            logits_eos_inf: true,
            eos: Some(7),
            seed: 9,
            ..Params::default()
        },
        Params {
            temperature: 1e-3,
            order: Order::Origin,
            ..Params::default()
        },
        // Of some tokens only, of which the largest logits come back.
        Params {
            temperature: 0.8,
            top_k: 20,
            top_p: 0.9,
            seed: 3,
            ..Params::default()
        },
        Params {
            temperature: 1.2,
            top_k: 5,
            suppress: vec![17, 3, 200],
            order: Order::Margin,
            cache: Cache::Dual,
            ..Params::default()
        },
        Params {
            temperature: 0.1,
            top_p: 0.8,
            seed: 12,
            ..Params::default()
        },
        // More tokens than come back, so that rows are read.
        Params {
            temperature: 5.0,
            top_p: 0.95,
            order: Order::Entropy,
            seeds: vec![7, 8],
            ..Params::default()
        },
        // These need logits and get them.
        Params {
            temperature: 0.8,
            top_k: 2000,
            ..Params::default()
        },
        Params {
            guidance: 0.5,
            repetition_penalty: 1.2,
            ..Params::default()
        },
    ];
    for rule in rules.map(blocks) {
        for forbid in [false, true] {
            session.set_reduction(Some(false));
            let (tokens, confidences) = run(&mut session, &rule, forbid);
            session.set_reduction(Some(true));
            let (reduced, same) = run(&mut session, &rule, forbid);
            assert_eq!(tokens, reduced, "{rule:?}");
            assert_eq!(confidences.len(), same.len());
            for (a, b) in confidences.iter().zip(&same) {
                assert!((a - b).abs() <= 2e-5 * a.abs().max(1.0), "{a} {b}: {rule:?}");
            }
        }
    }
}

#[test]
fn a_row_without_a_token_is_an_error_and_the_canvas_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = session("llada-tiny", folder.path());
    session.set_reduction(Some(true));
    let n_vocab = session.n_vocab() as Token;
    let params = GenerateParams {
        denoise: Params {
            suppress: (0..n_vocab).collect(),
            ..Params::default()
        },
        ..GenerateParams::default()
    };
    let mut canvas = Canvas::new(session.model().mask_token());
    canvas.push_fixed(&[1, 2]);
    canvas.push_masked(4).unwrap();
    let before = canvas.tokens().to_vec();
    let error = session
        .generate(&mut canvas, &params, |_, _| ControlFlow::Continue(()))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Numeric);
    assert!(error.message().contains("excluded"), "{error}");
    assert_eq!(canvas.tokens(), before);
}
