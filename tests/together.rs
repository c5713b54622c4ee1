//! Canvases that go through the network together come out as they do alone, bit by bit, on a CPU.

mod common;

use std::path::Path;

use common::{canvas, convert_golden};
use remask::denoise::{CacheUse, Predictor, Query};
use remask::quantize::Mix;
use remask::synthetic::Shape;
use remask::{
    Cache, CacheType, Canvas, Commit, GenerateParams, LoadOptions, Model, Params, Session, SessionOptions,
};

fn session(path: &Path) -> Session {
    let model = Model::load(path, &LoadOptions::default()).unwrap();
    let options = SessionOptions {
        n_threads: 1,
        ..SessionOptions::default()
    };
    Session::new(&model, &options).unwrap()
}

/// What a run came to: tokens, the confidences of all that was committed, by bits, and how many matrix products
/// it took.
fn run(
    session: &mut Session,
    canvases: &[Canvas],
    params: &Params,
    together: bool,
) -> (Vec<Canvas>, Vec<u32>, u64) {
    session.set_together(together);
    session.set_profiling(true);
    let params = GenerateParams {
        denoise: params.clone(),
        ..GenerateParams::default()
    };
    let mut run = session.start(canvases.to_vec(), &params).unwrap();
    let mut confidences = Vec::new();
    while !run.is_done() {
        let changed = run.step().unwrap().sequences.iter().flat_map(|s| &s.changed);
        confidences.extend(changed.map(|c| c.confidence.to_bits()));
    }
    let canvases = run.into_canvases();
    let parts = session.take_profile();
    let products = parts.iter().filter(|p| p.name.starts_with("products"));
    (canvases, confidences, products.map(|p| p.n).sum())
}

fn policies() -> Vec<Params> {
    let base = Params {
        block_length: 12,
        ..Params::default()
    };
    let mut all = vec![
        base.clone(),
        Params {
            guidance: 1.5,
            commit: Commit::Threshold(0.3),
            ..base.clone()
        },
        Params {
            temperature: 0.8,
            seeds: vec![1, 2, 3, 4],
            ..base.clone()
        },
    ];
    for cache in [Cache::Prefix, Cache::Dual, Cache::FEATURE] {
        for cache_type in [CacheType::F32, CacheType::F16, CacheType::Q8_0] {
            all.push(Params {
                cache,
                cache_type,
                cache_refresh: if cache == Cache::FEATURE { 0 } else { 5 },
                commit: Commit::Threshold(0.3),
                ..base.clone()
            });
        }
    }
    all
}

#[test]
fn canvases_come_out_as_they_do_alone() {
    let folder = tempfile::tempdir().unwrap();
    let golden = ["llada-gqa-tiny", "illada-tiny"].map(|name| convert_golden(name, folder.path()));
    let shape = Shape::parse("layers=2,width=256,ff=512,heads=8,kv=4,vocab=600,context=256").unwrap();
    let mixes = ["f16", "q8_0", "q4_k_m"].map(|name| {
        let path = folder.path().join(format!("{name}.gguf"));
        let mix = Mix::from_name(name).unwrap();
        shape
            .write(&path, mix, false, &mut |_| std::ops::ControlFlow::Continue(()))
            .unwrap();
        path
    });
    for path in golden.iter().chain(&mixes) {
        let mut session = session(path);
        let all = [
            canvas(&session, 5, 24),
            canvas(&session, 33, 18),
            canvas(&session, 1, 30),
            canvas(&session, 9, 24),
        ];
        let sizes = session.model().sizes().clone();
        let divides = |p: &Params| {
            p.cache_type != CacheType::Q8_0 || (sizes.n_rot * sizes.n_head_kv).is_multiple_of(32)
        };
        for params in policies().into_iter().filter(divides) {
            let (tokens, confidences, n) = run(&mut session, &all, &params, true);
            let (alone, same, n_alone) = run(&mut session, &all, &params, false);
            assert_eq!(tokens, alone, "{} {params:?}", path.display());
            assert_eq!(confidences, same, "{} {params:?}", path.display());
            // What is kept of what layers add is by canvas.
            match params.cache {
                Cache::Feature { .. } => assert_eq!(n, n_alone),
                _ => assert!(3 * n < 2 * n_alone, "{n} of {n_alone} products: {params:?}"),
            }
        }
    }
}

#[test]
fn rows_come_back_in_the_order_of_the_queries() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = session(&convert_golden("llada-tiny", folder.path()));
    // Some ask for nothing, some are too short or too long to join, one has as many rows as slots.
    let lengths = [20, 9, 3, 40, 100, 100, 9, 10, 11, 150, 8];
    let canvases: Vec<Canvas> = lengths
        .iter()
        .map(|&n| canvas(&session, n / 2, n - n / 2))
        .collect();
    let rows: Vec<Vec<u32>> = canvases
        .iter()
        .enumerate()
        .map(|(i, c)| match i % 4 {
            0 => vec![0, 5.min(c.len() as u32 - 1), c.len() as u32 - 1],
            1 => (0..c.len() as u32).collect(),
            2 => vec![2],
            _ => vec![],
        })
        .collect();
    let query = |i: usize| Query {
        sequence: i,
        branch: remask::denoise::Branch::Conditional,
        tokens: canvases[i].tokens(),
        rows: &rows[i],
        cache: CacheUse::Off,
    };
    let queries: Vec<Query<'_>> = (0..canvases.len()).map(query).collect();
    let mut expected = Vec::new();
    let mut alone = Vec::new();
    for query in &queries {
        session.predict(&[*query], &mut alone).unwrap();
        expected.extend_from_slice(&alone);
    }
    let mut together = Vec::new();
    session.predict(&queries, &mut together).unwrap();
    assert_eq!(expected.len(), together.len());
    assert!(expected == together);
}
