//! The denoiser's parts against the authors' values.

mod common;

use common::{Arrays, json, vectors_dir};
use remask::denoise::{gumbel_score, num_transfer_tokens};

#[test]
fn transfer_tables_are_the_references() {
    let file = json(&vectors_dir().join("num_transfer_tokens.json"));
    let numbers = |v: &serde_json::Value| -> Vec<usize> {
        v.as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_u64().unwrap() as usize)
            .collect()
    };
    let single = file["single"].as_array().unwrap();
    assert!(single.len() > 10);
    for case in single {
        let (n, steps) = (
            case["mask_count"].as_u64().unwrap(),
            case["steps"].as_u64().unwrap(),
        );
        assert_eq!(
            num_transfer_tokens(n as usize, steps as usize),
            numbers(&case["table"]),
            "{n} in {steps}"
        );
    }
}

#[test]
fn gumbel_scores_are_the_references() {
    let arrays = Arrays::open(&vectors_dir().join("gumbel.safetensors"));
    let (logits, uniform) = (arrays.f32("logits"), arrays.f64("uniform"));
    for (name, temperature) in [
        ("T0.2", 0.2),
        ("T0.5", 0.5),
        ("T1", 1.0),
        ("T1.5", 1.5),
        ("T2", 2.0),
    ] {
        let key = format!("scores_{name}");
        let expected = arrays.f64(&key);
        let ours: Vec<f64> = logits
            .values
            .iter()
            .zip(&uniform.values)
            .map(|(&l, &u)| gumbel_score(l, temperature, u))
            .collect();
        for (o, e) in ours.iter().zip(&expected.values) {
            let error = (o.exp() - e).abs() / e.abs().max(f64::MIN_POSITIVE);
            // The one uniform of exactly 0 scores exactly 0; the rest differ by rounding only.
            assert!(
                error < 1e-12 || (o.exp() == 0.0 && *e == 0.0),
                "{name}: {} for {e}",
                o.exp()
            );
        }
        // The order, and with it the choice, is the same.
        let argmax = arrays.i32(&format!("argmax_{name}"));
        let n = logits.shape[1];
        for (row, &best) in ours.chunks(n).zip(&argmax.values) {
            let found = (0..n)
                .max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)))
                .unwrap();
            assert_eq!(found as i32, best, "{name}");
        }
    }
}

/// The law of a draw is softmax(logits / T): frequencies of ours against the authors' exact values.
#[test]
fn draws_have_the_references_law() {
    use remask::denoise::{CounterNoise, Noise};
    let arrays = Arrays::open(&vectors_dir().join("gumbel.safetensors"));
    let logits = arrays.f32("hist_logits").values;
    let n_draws = 50_000;
    let noise = CounterNoise::new(vec![42], logits.len());
    for (name, temperature) in [("T0.5", 0.5), ("T1", 1.0), ("T1.5", 1.5)] {
        let expected = arrays.f64(&format!("hist_prob_{name}")).values;
        let mut counts = vec![0f64; logits.len()];
        for draw in 0..n_draws {
            let score = |t: usize| gumbel_score(logits[t], temperature, noise.gumbel(draw, 0, 3, t));
            let best = (0..logits.len())
                .max_by(|&a, &b| score(a).total_cmp(&score(b)))
                .unwrap();
            counts[best] += 1.0;
        }
        for (count, p) in counts.iter().zip(&expected) {
            let deviation = (n_draws as f64 * p * (1.0 - p)).sqrt().max(1.0);
            let z = (count - n_draws as f64 * p) / deviation;
            assert!(
                z.abs() < 4.5,
                "{name}: {count} draws of {n_draws} at p = {p}: {z:.1} deviations"
            );
        }
    }
}
