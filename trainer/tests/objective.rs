//! The losses as mathematics: bounds that are bounds, estimates without bias, gradients by differences.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use remask::Token;
use remask_trainer::engine::{Device, Engine, Flex};
use remask_trainer::lora::{Lora, LoraConfig};
use remask_trainer::noise::{Keywords, Times};
use remask_trainer::objective::{
    Attention, Batch, Diffusion, Example, causal, pretrain, pretrain_keywords, sft, uniforms,
};
use remask_trainer::optim::{AdamW, Schedule, Update};
use remask_trainer::shape::Shape;

const D: Diffusion = Diffusion {
    mask: 9,
    eps: 1e-3,
    times: Times::Uniform,
};

fn small() -> Flex {
    let shape = Shape {
        d_model: 16,
        n_layers: 2,
        n_heads: 2,
        n_kv_heads: 1,
        mlp_hidden_size: 24,
        vocab_size: 10,
        max_sequence_length: 32,
        init_std: 0.3,
        ..Shape::default()
    };
    Flex::new(&shape, Device::Cpu, 1).unwrap()
}

/// With every prediction worth one nat, each token costs one nat on average, however times are drawn.
#[test]
fn the_loss_has_no_bias_and_stratified_times_vary_less() {
    let tokens: Vec<Token> = (0..8 * 64).map(|i| i % 9).collect();
    let mut spread = Vec::new();
    for times in [Times::Uniform, Times::Stratified, Times::Antithetic] {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let losses: Vec<f64> = (0..4000)
            .map(|_| {
                let t = times.draw(8, &mut rng);
                assert!(t.iter().all(|t| (0.0..1.0).contains(t)));
                let batch = pretrain(&tokens, 64, &D, &t, &uniforms(tokens.len(), &mut rng));
                batch.loss(&vec![-1.0; batch.slots.len()], &[])
            })
            .collect();
        let mean = losses.iter().sum::<f64>() / 4000.0;
        let variance = losses.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4000.0;
        assert!(
            (mean - 1.0).abs() < 5.0 * (variance / 4000.0).sqrt(),
            "{times:?}: {mean}"
        );
        spread.push(variance);
    }
    assert!(spread[1] < spread[0], "{spread:?}");
}

#[test]
fn answers_count_alike_whatever_their_lengths() {
    let examples = [3usize, 20].map(|n_prompt| Example {
        tokens: (0..24).map(|i| i % 9).collect(),
        n_prompt,
    });
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut sums = [0f64; 2];
    for _ in 0..4000 {
        let t = Times::Uniform.draw(2, &mut rng);
        let batch = sft(&examples, &D, &t, &uniforms(48, &mut rng));
        for (&slot, &w) in batch.slots.iter().zip(&batch.weights) {
            assert!(slot as usize % 24 >= examples[slot as usize / 24].n_prompt);
            sums[slot as usize / 24] += f64::from(w) / 4000.0;
        }
    }
    assert!(sums.iter().all(|s| (s - 0.5).abs() < 0.03), "{sums:?}");
}

/// One slot, three tokens: the loss integrated over time is -log m + (sum of g m) / g - 1, and what the
/// reverse process then writes has the probability g m / (sum of g m), whose -log is never above it.
#[test]
fn keyword_aware_masking_keeps_the_bound() {
    let keywords = Keywords {
        exponents: vec![0.5, 1.0, 2.5],
    };
    let m = [0.2f64, 0.5, 0.3];
    let total: f64 = m
        .iter()
        .zip(&keywords.exponents)
        .map(|(m, &g)| m * f64::from(g))
        .sum();
    let d = Diffusion { eps: 1e-9, ..D };
    for token in 0..3u32 {
        let g = f64::from(keywords.exponent(token));
        let n = 400_000;
        let mut mean = 0.0;
        for i in 0..n {
            let t = (f64::from(i) + 0.5) / f64::from(n);
            // The slot is masked with probability t^g: weigh the masked case by it.
            let batch = pretrain_keywords(&[token], 1, &d, &keywords, &[t as f32], &[0.0]);
            let loss = batch.loss(&[m[token as usize].ln() as f32], &[total as f32]);
            mean += t.powf(g) * loss / f64::from(n);
        }
        let expected = -m[token as usize].ln() + total / g - 1.0;
        assert!((mean - expected).abs() < 5e-3, "{token}: {mean} for {expected}");
        let nll = -(g * m[token as usize] / total).ln();
        assert!(nll <= expected + 1e-12, "{token}: {nll} above {expected}");
    }
    // Equal exponents are the usual loss.
    let plain = Keywords {
        exponents: vec![1.0; 9],
    };
    let tokens: Vec<Token> = (0..32).map(|i| i % 9).collect();
    let (t, u) = ([0.3, 0.8], uniforms(32, &mut ChaCha8Rng::seed_from_u64(3)));
    let (a, b) = (
        pretrain(&tokens, 16, &D, &t, &u),
        pretrain_keywords(&tokens, 16, &D, &plain, &t, &u),
    );
    assert_eq!(
        (&a.tokens, &a.slots, &a.targets),
        (&b.tokens, &b.slots, &b.targets)
    );
    let n = a.slots.len();
    let (x, y) = (a.loss(&vec![-2.0; n], &[]), b.loss(&vec![-2.0; n], &vec![1.0; n]));
    assert!((x - y).abs() < 1e-6, "{x} {y}");
}

#[test]
fn rare_tokens_are_masked_less_than_frequent_ones() {
    let k = Keywords::from_counts(&[400, 300, 200, 100], 0.5);
    assert!(k.exponents.is_sorted_by(|a, b| a < b), "{:?}", k.exponents);
    assert!(k.exponents[0] < 1.0 && k.exponents[3] > 1.0);
    let k = Keywords::from_counts(&[1000, 100, 1], 0.0);
    assert!(k.exponents.iter().all(|&g| g == 1.0));
}

/// Gradients by central differences, for all that a batch can ask for.
#[test]
fn gradients_are_slopes() {
    let tokens: Vec<Token> = (0..24).map(|i| (i * 5 + 1) % 9).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let (t, u) = ([0.6, 0.4], uniforms(24, &mut rng));
    let keywords = Keywords {
        exponents: (0..10).map(|i| 0.5 + 0.2 * i as f32).collect(),
    };
    let plain = pretrain(&tokens, 12, &D, &t, &u);
    let with = |attention: Attention| Batch {
        attention,
        ..plain.clone()
    };
    let mut shifted = plain.clone();
    shifted.shift();
    let examples = [Example {
        tokens: tokens[..12].to_vec(),
        n_prompt: 3,
    }];
    let table = (0..144).map(|i| i / 12 == i % 12 || i % 3 == 0).collect();
    for (name, batch) in [
        ("keywords", pretrain_keywords(&tokens, 12, &D, &keywords, &t, &u)),
        ("causal", causal(&examples)),
        ("table", with(Attention::Table(table))),
        (
            "documents",
            with(Attention::Documents((0..24).map(|i| i / 5).collect())),
        ),
        ("shifted", shifted),
        ("negative weights", {
            let mut b = plain.clone();
            b.weights.iter_mut().step_by(2).for_each(|w| *w *= -0.7);
            b
        }),
    ] {
        for recompute in [false, true] {
            let mut engine = small();
            engine.set_exponents(keywords.exponents.clone());
            engine.set_recompute(recompute);
            engine.accumulate(&batch).unwrap();
            let gradients = engine.gradients();
            let base = engine.state();
            let mut loss_at = |p: usize, i: usize, step: f32| {
                let mut state = base.clone();
                state[p].values[i] += step;
                engine.set_state(state).unwrap();
                let pass = engine.evaluate(&batch).unwrap();
                batch.loss(&pass.log_probs, &pass.rates)
            };
            for (p, gradient) in gradients.iter().enumerate() {
                let largest = gradient.iter().fold(0f32, |a, x| a.max(x.abs()));
                let i = gradient.iter().position(|x| x.abs() == largest).unwrap();
                let step = 4e-3;
                let slope = (loss_at(p, i, step) - loss_at(p, i, -step)) / f64::from(2.0 * step);
                let error = (slope - f64::from(gradient[i])).abs();
                assert!(
                    error < 0.02 * slope.abs() + 1e-4,
                    "{name}, {p}: {} for {slope}",
                    gradient[i]
                );
            }
        }
    }
}

/// Adapters change nothing at first, their gradients are slopes, and what is learned is in the weights.
#[test]
fn adapters_learn_beside_a_network_that_stays() {
    let config = LoraConfig {
        rank: 2,
        alpha: 3.0,
        targets: vec!["q_proj".to_owned(), "ff_out".to_owned()],
    };
    let tokens: Vec<Token> = (0..24).map(|i| (i * 5 + 1) % 9).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let batch = pretrain(&tokens, 12, &D, &[0.6, 0.4], &uniforms(24, &mut rng));
    let mut plain = small();
    let mut lora = Lora::new(Box::new(small()), &config, 1).unwrap();
    assert_eq!(lora.parameters().len(), 2 * 2 * 2);
    let loss = |engine: &mut dyn Engine| {
        let pass = engine.evaluate(&batch).unwrap();
        batch.loss(&pass.log_probs, &pass.rates)
    };
    let first = loss(&mut plain);
    assert_eq!(first, loss(&mut lora));
    for step in 1..=20 {
        lora.accumulate(&batch).unwrap();
        let update = Update {
            adamw: AdamW::default(),
            lr: 1e-2,
            step,
            ema: 0.0,
        };
        lora.update(&update).unwrap();
    }
    assert!(loss(&mut lora) < 0.9 * first);
    // Only the targets have moved, and the merged network is what runs.
    let (before, after) = (plain.weights(), lora.weights());
    for (p, (a, b)) in plain.parameters().iter().zip(before.iter().zip(&after)) {
        let target = p.name.contains("q_proj") || (p.name.contains("blocks") && p.name.contains("ff_out"));
        assert_eq!(a != b, target, "{}", p.name);
    }
    plain.set_weights(after).unwrap();
    assert_eq!(loss(&mut plain), loss(&mut lora));

    lora.accumulate(&batch).unwrap();
    let (gradients, base) = (lora.gradients(), lora.state());
    for (p, gradient) in gradients.iter().enumerate() {
        let largest = gradient.iter().fold(0f32, |a, x| a.max(x.abs()));
        let i = gradient.iter().position(|x| x.abs() == largest).unwrap();
        let mut at = |step: f32| {
            let mut state = base.clone();
            state[p].values[i] += step;
            lora.set_state(state).unwrap();
            loss(&mut lora)
        };
        let slope = (at(4e-3) - at(-4e-3)) / 8e-3;
        let error = (slope - f64::from(gradient[i])).abs();
        assert!(
            error < 0.02 * slope.abs() + 1e-4,
            "{p}: {} for {slope}",
            gradient[i]
        );
    }
    for (rank, target) in [(0, "q_proj"), (2, "nothing"), (2, "wte")] {
        let config = LoraConfig {
            rank,
            targets: vec![target.to_owned()],
            ..config.clone()
        };
        assert!(
            Lora::new(Box::new(small()), &config, 1).is_err(),
            "{rank} {target}"
        );
    }
}

#[test]
fn what_must_not_be_seen_is_not() {
    let mut engine = small();
    let tokens: Vec<Token> = (0..12).map(|i| (i * 5 + 1) % 9).collect();
    let log_probs = |engine: &mut Flex, tokens: &[Token], attention: Attention| {
        let batch = Batch {
            n_sequences: 1,
            length: 12,
            tokens: tokens.to_vec(),
            slots: vec![0, 4],
            targets: vec![1, 2],
            weights: vec![1.0, 1.0],
            attention,
            ..Batch::default()
        };
        engine.evaluate(&batch).unwrap().log_probs
    };
    let mut other = tokens.clone();
    other[7] = 8;
    let documents = Attention::Documents((0..12).map(|i| i / 6).collect());
    for (attention, sees) in [
        (Attention::Full, true),
        (Attention::Causal, false),
        (documents, false),
    ] {
        let a = log_probs(&mut engine, &tokens, attention.clone());
        let b = log_probs(&mut engine, &other, attention.clone());
        assert_eq!(a != b, sees, "{attention:?}");
    }
}

#[test]
fn batches_that_do_not_fit_are_refused() {
    let mut engine = small();
    let good = pretrain(&[1, 2, 3, 4], 4, &D, &[0.9], &[0.0; 4]);
    engine.accumulate(&good).unwrap();
    let mut bad = good.clone();
    bad.targets[0] = 10;
    assert!(
        engine
            .accumulate(&bad)
            .unwrap_err()
            .message()
            .contains("another tokenizer")
    );
    let mut bad = good.clone();
    bad.slots[0] = 4;
    assert!(engine.accumulate(&bad).is_err());
    let mut bad = good.clone();
    bad.weights.pop();
    assert!(engine.accumulate(&bad).is_err());
    let bad = Batch {
        attention: Attention::Table(vec![true; 3]),
        ..good
    };
    assert!(engine.accumulate(&bad).is_err());
}

#[test]
fn rates_rise_stay_and_fall() {
    let at = |schedule, step| {
        let adamw = AdamW {
            lr: 1.0,
            warmup: 10,
            decay: 0.25,
            min_lr: 0.1,
            schedule,
            ..AdamW::default()
        };
        adamw.lr_at(step, 100)
    };
    for schedule in [Schedule::Wsd, Schedule::Cosine, Schedule::Constant] {
        assert!((at(schedule, 0) - 0.1).abs() < 1e-12);
        assert!((at(schedule, 9) - 1.0).abs() < 1e-12);
    }
    assert_eq!(at(Schedule::Wsd, 74), 1.0);
    assert!((at(Schedule::Wsd, 100) - 0.1).abs() < 1e-12 && at(Schedule::Wsd, 90) < 0.6);
    assert!((at(Schedule::Cosine, 55) - 0.55).abs() < 1e-9);
    assert_eq!(at(Schedule::Constant, 99), 1.0);
}
