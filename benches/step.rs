//! Criterion benchmarks: one pass of the network, and one step of the denoiser over a large vocabulary.
//!
//! `cargo bench`; a model of your own: `REMASK_BENCH_MODEL=model.gguf cargo bench`.

use std::path::PathBuf;

use criterion::{Criterion, criterion_group, criterion_main};
use remask::denoise::{CounterNoise, Predictor, Query, Run};
use remask::{Canvas, LoadOptions, Model, Params, Session, SessionOptions};

fn model() -> PathBuf {
    let shipped = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/little-world.gguf");
    std::env::var_os("REMASK_BENCH_MODEL").map_or_else(shipped, PathBuf::from)
}

fn network(c: &mut Criterion) {
    let model = Model::load(model(), &LoadOptions::default()).unwrap();
    let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
    let mut tokens = vec![1; 96];
    tokens.resize(128, model.mask_token());
    let mut logits = Vec::new();
    for n_rows in [1, 8, 32] {
        let rows: Vec<u32> = (128 - n_rows..128).collect();
        c.bench_function(&format!("pass of 128 slots, {n_rows} rows"), |b| {
            b.iter(|| session.logits(&tokens, &rows, &mut logits).unwrap());
        });
    }
}

/// Logits out of thin air: what is left is the denoiser's own time.
struct Fixed(Vec<f32>);

impl Predictor for Fixed {
    fn n_vocab(&self) -> usize {
        self.0.len()
    }

    fn predict(&mut self, queries: &[Query<'_>], logits: &mut Vec<f32>) -> remask::Result<()> {
        logits.clear();
        for _ in queries.iter().flat_map(|q| q.rows) {
            logits.extend_from_slice(&self.0);
        }
        Ok(())
    }
}

fn denoiser(c: &mut Criterion) {
    const N_VOCAB: usize = 126_464;
    let mut fixed = Fixed(
        (0..N_VOCAB)
            .map(|i| ((i * 7919) % 10_007) as f32 * 1e-3)
            .collect(),
    );
    let mut canvas = Canvas::new(0);
    canvas.push_masked(1).unwrap();
    let warm = Params {
        temperature: 0.7,
        ..Params::default()
    };
    let nucleus = Params {
        top_p: 0.9,
        ..warm.clone()
    };
    let top_k = Params {
        top_k: 40,
        ..warm.clone()
    };
    let entropy = Params {
        order: remask::Order::Entropy,
        ..Params::default()
    };
    let noise = CounterNoise::new(vec![1], N_VOCAB);
    let gumbel = noise.clone().gumbel_max();
    for (name, params, noise) in [
        ("greedy", &Params::default(), &noise),
        ("temperature 0.7", &warm, &noise),
        ("temperature 0.7, Gumbel-max", &warm, &gumbel),
        ("temperature 0.7, top-p 0.9", &nucleus, &noise),
        ("temperature 0.7, top-p 0.9, Gumbel-max", &nucleus, &gumbel),
        ("temperature 0.7, top-k 40", &top_k, &noise),
        ("entropy", &entropy, &noise),
    ] {
        c.bench_function(&format!("one slot of {N_VOCAB} columns, {name}"), |b| {
            b.iter(|| {
                let mut run = Run::new(vec![canvas.clone()], params, N_VOCAB).unwrap();
                run.step(&mut fixed, noise, None).unwrap();
            });
        });
    }
}

criterion_group!(benches, network, denoiser);
criterion_main!(benches);
