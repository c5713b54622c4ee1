//! The denoiser's parts against the authors' values.

mod common;

use common::{Arrays, json, vectors_dir};
use remask::denoise::{CounterNoise, Predictor, Query, Run, gumbel_score, num_transfer_tokens};
use remask::{Canvas, Params, Token};

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

/// The same logits for every slot.
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

/// How often each token comes in `n_draws` slots that are filled by `params`.
fn counts(logits: &[f32], params: &Params, noise: &CounterNoise, n_draws: usize) -> Vec<f64> {
    let n_vocab = logits.len();
    // One token more, the mask, that is never drawn.
    let mut fixed = Fixed(logits.iter().copied().chain([f32::NEG_INFINITY]).collect());
    let mut canvas = Canvas::new(n_vocab as Token);
    canvas.push_masked(n_draws).unwrap();
    let params = Params {
        steps: 1,
        ..params.clone()
    };
    let mut run = Run::new(vec![canvas], &params, n_vocab + 1).unwrap();
    run.step(&mut fixed, noise, None).unwrap();
    let mut counts = vec![0f64; n_vocab];
    for &token in run.canvases().next().unwrap().tokens() {
        counts[token as usize] += 1.0;
    }
    counts
}

/// Both ways to draw: the default, and the reference's.
fn noises() -> [(&'static str, CounterNoise); 2] {
    let noise = CounterNoise::new(vec![42], 1 << 17);
    [("inverse", noise.clone()), ("gumbel-max", noise.gumbel_max())]
}

/// Pearson's sum over the tokens that are expected at least five times, the rest as one.
fn chi_square(counts: &[f64], law: &[f64]) -> (f64, usize) {
    let n: f64 = counts.iter().sum();
    let (mut sum, mut cells, mut rest) = (0.0, 0, (0.0, 0.0));
    for (count, p) in counts.iter().zip(law) {
        let expected = n * p;
        if expected < 5.0 {
            rest = (rest.0 + count, rest.1 + expected);
            continue;
        }
        sum += (count - expected).powi(2) / expected;
        cells += 1;
    }
    if rest.1 > 0.0 {
        sum += (rest.0 - rest.1).powi(2) / rest.1.max(1.0);
        cells += 1;
    }
    (sum, cells - 1)
}

/// Asserts that `counts` are likely by `law`: Pearson's sum is at most four deviations above its mean.
fn assert_law(counts: &[f64], law: &[f64], what: &str) {
    let (sum, freedom) = chi_square(counts, law);
    let limit = freedom as f64 + 4.0 * (2.0 * freedom as f64).sqrt();
    println!("{what}: {sum:.1} with {freedom} degrees of freedom");
    assert!(
        sum <= limit.max(12.0),
        "{what}: {sum} with {freedom} degrees of freedom"
    );
    for (count, &p) in counts.iter().zip(law) {
        assert!(
            p > 0.0 || *count == 0.0,
            "{what}: a token without probability was drawn"
        );
    }
}

/// The law of a draw is softmax(logits / T): frequencies of ours against the authors' exact values.
#[test]
fn draws_have_the_references_law() {
    let arrays = Arrays::open(&vectors_dir().join("gumbel.safetensors"));
    let logits = arrays.f32("hist_logits").values;
    for (name, temperature) in [("T0.5", 0.5), ("T1", 1.0), ("T1.5", 1.5)] {
        let expected = arrays.f64(&format!("hist_prob_{name}")).values;
        for (way, noise) in noises() {
            let params = Params {
                temperature,
                ..Params::default()
            };
            let counts = counts(&logits, &params, &noise, 50_000);
            assert_law(&counts, &expected, &format!("{way}, {name}"));
        }
    }
}

/// Over several blocks of columns, with excluded tokens, and with top-k and top-p, which leave the
/// likeliest of what is not excluded.
#[test]
fn draws_have_the_law_of_what_the_options_leave() {
    let n = 1300;
    let suppress: Vec<Token> = (0..n as Token).filter(|t| t % 5 == 2).collect();
    let logits: Vec<f32> = (0..n).map(|i| (i * 7919 % 1009) as f32 * 4e-3).collect();
    for (top_k, top_p) in [(0, 1.0), (17, 1.0), (0, 0.6), (200, 0.3)] {
        let temperature = 0.8;
        let mut law: Vec<f64> = logits
            .iter()
            .map(|&x| (f64::from(x) / temperature).exp())
            .collect();
        suppress.iter().for_each(|&t| law[t as usize] = 0.0);
        keep(&mut law, top_k, top_p);
        for (way, noise) in noises() {
            let params = Params {
                temperature,
                top_k,
                top_p,
                suppress: suppress.clone(),
                ..Params::default()
            };
            let counts = counts(&logits, &params, &noise, 20_000);
            assert_law(&counts, &law, &format!("{way}, top-k {top_k}, top-p {top_p}"));
        }
    }
}

/// Leaves the likeliest `k` tokens, then the fewest with the share `p` of what they have, and makes a law
/// of them. Of equal tokens the first.
fn keep(law: &mut [f64], k: usize, p: f64) {
    let mut order: Vec<usize> = (0..law.len()).collect();
    order.sort_by(|&a, &b| law[b].total_cmp(&law[a]).then(a.cmp(&b)));
    let mut n = if k > 0 { k } else { law.len() };
    let total: f64 = order[..n].iter().map(|&t| law[t]).sum();
    if p < 1.0 {
        let mut sum = 0.0;
        let enough = order.iter().position(|&t| {
            sum += law[t];
            sum >= p * total
        });
        n = n.min(enough.unwrap() + 1);
    }
    order[n..].iter().for_each(|&t| law[t] = 0.0);
    let total: f64 = law.iter().sum();
    law.iter_mut().for_each(|w| *w /= total);
}
