//! Preferences and rewards: their gradients on networks small enough to enumerate, and small runs that
//! learn what they are asked to.

use std::ops::ControlFlow;
use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use remask::Token;
use remask_trainer::config::Config;
use remask_trainer::data::{PrepareOptions, prepare, train_tokenizer};
use remask_trainer::engine::{Device, Engine, Flex};
use remask_trainer::noise::Times;
use remask_trainer::objective::{Batch, Diffusion, Example};
use remask_trainer::optim::State;
use remask_trainer::policy::{self, PolicyConfig};
use remask_trainer::preference::{self, PreferenceConfig};
use remask_trainer::run::{Event, Run};
use remask_trainer::shape::Shape;

const MASK: Token = 5;
const D: Diffusion = Diffusion {
    mask: MASK,
    eps: 1e-4,
    times: Times::Stratified,
};

/// A network of six tokens.
fn tiny(seed: u64) -> Flex {
    let shape = Shape {
        d_model: 8,
        n_layers: 1,
        n_heads: 2,
        mlp_hidden_size: 12,
        vocab_size: 6,
        max_sequence_length: 16,
        init_std: 0.5,
        ..Shape::default()
    };
    Flex::new(&shape, Device::Cpu, seed).unwrap()
}

fn moved(base: &[State], p: usize, i: usize, by: f32) -> Vec<State> {
    let mut state = base.to_vec();
    state[p].values[i] += by;
    state
}

/// Compares the largest component of each parameter's gradient with the slope of `loss`.
fn check_slopes(
    engine: &mut Flex,
    gradients: &[Vec<f32>],
    tolerance: f64,
    loss: &mut dyn FnMut(&mut Flex) -> f64,
) {
    let base = engine.state();
    let all = gradients.iter().flatten().fold(0f32, |a, x| a.max(x.abs()));
    assert!(all > 0.0);
    for (p, gradient) in gradients.iter().enumerate() {
        let largest = gradient.iter().fold(0f32, |a, x| a.max(x.abs()));
        let i = gradient.iter().position(|x| x.abs() == largest).unwrap();
        let step = 4e-3f32;
        let mut at = |by: f32| {
            engine.set_state(moved(&base, p, i, by)).unwrap();
            loss(engine)
        };
        let slope = (at(step) - at(-step)) / f64::from(2.0 * step);
        let error = (slope - f64::from(gradient[i])).abs();
        assert!(
            error < tolerance * slope.abs() + 2e-3 * f64::from(all),
            "parameter {p}: {} for {slope}",
            gradient[i]
        );
    }
    engine.set_state(base).unwrap();
}

fn log_probs(engine: &mut Flex, batch: &Batch) -> Vec<f32> {
    engine.evaluate(batch).unwrap().log_probs
}

/// The bound of an answer of two slots, exactly: each subset of masks has its share of the times. With m
/// slots masked of two that is the integral of p^(m-1) (1-p)^(2-m), a half for each.
fn exact_bound(engine: &mut Flex, e: &Example) -> f64 {
    let n = e.n_prompt;
    let mut sum = 0.0;
    for masked in [vec![n], vec![n + 1], vec![n, n + 1]] {
        let mut tokens = e.tokens.clone();
        masked.iter().for_each(|&s| tokens[s] = MASK);
        let mut batch = Batch::look(tokens.len(), tokens, masked.iter().map(|&s| s as u32).collect());
        batch.targets = masked.iter().map(|&s| e.tokens[s]).collect();
        let all = log_probs(engine, &batch);
        sum += 0.5 * all.iter().map(|&x| f64::from(x)).sum::<f64>();
    }
    sum
}

fn pair() -> [Example; 2] {
    [[3, 1], [0, 4]].map(|answer| Example {
        tokens: [vec![2, 0, 1], answer.to_vec()].concat(),
        n_prompt: 3,
    })
}

#[test]
fn preferences_estimate_the_bound_and_their_gradient_is_a_slope() {
    let (mut engine, mut other) = (tiny(1), tiny(2));
    let examples = pair();
    // Many times: the estimates are the bounds, and the gradient that of DPO on the exact bounds.
    let config = PreferenceConfig {
        beta: 0.7,
        samples: 40_000,
        sft: 0.3,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let noised = preference::noise(&examples, &D, config.samples, &mut rng);
    let ours = log_probs(&mut engine, &noised);
    let theirs = log_probs(&mut other, &noised);
    let estimates = preference::bounds(&noised, config.samples, &ours);
    for (e, estimate) in examples.iter().zip(estimates) {
        let exact = exact_bound(&mut engine, e);
        assert!(
            (estimate - exact).abs() < 0.05 * exact.abs(),
            "{estimate} for {exact}"
        );
    }
    let mut weighted = noised.clone();
    let (loss, z) = preference::weigh(&mut weighted, 2, &config, &ours, &theirs, 1);
    let reference: Vec<f64> = examples.iter().map(|e| exact_bound(&mut other, e)).collect();
    let exact_loss = |engine: &mut Flex| {
        let b: Vec<f64> = examples.iter().map(|e| exact_bound(engine, e)).collect();
        let z = config.beta * ((b[0] - reference[0]) - (b[1] - reference[1]));
        (1.0 + (-z).exp()).ln() - config.sft / 2.0 * b[0]
    };
    let exact = exact_loss(&mut engine);
    assert!((loss - exact).abs() < 0.05 * exact, "{loss} for {exact}, z {z}");
    engine.accumulate(&weighted).unwrap();
    let gradients = engine.gradients();
    check_slopes(&mut engine, &gradients, 0.08, &mut |e| exact_loss(e));
    // Few times: the gradient is that of the loss with the same noise, closely.
    let few = PreferenceConfig { samples: 4, ..config };
    let noised = preference::noise(&examples, &D, 4, &mut rng);
    let theirs = log_probs(&mut other, &noised);
    let mut engine = tiny(1);
    let ours = log_probs(&mut engine, &noised);
    let mut weighted = noised.clone();
    preference::weigh(&mut weighted, 2, &few, &ours, &theirs, 1);
    engine.accumulate(&weighted).unwrap();
    let gradients = engine.gradients();
    check_slopes(&mut engine, &gradients, 0.01, &mut |e| {
        let ours = log_probs(e, &noised);
        preference::weigh(&mut noised.clone(), 2, &few, &ours, &theirs, 1).0
    });
}

/// Answers of one slot, where one pass gives their exact probability. Over all pairs of answers, each as
/// likely as the network makes it, the mean gradient is that of the expected reward, times one half: of two
/// answers the mean that is taken off holds each one's own reward.
#[test]
fn rewards_have_the_gradient_of_their_expectation() {
    let mut engine = tiny(3);
    let prompt = [2, 0, 4];
    let reward = |token: Token| [0.0, 1.0, 0.3, 0.0, 0.8, 0.1][token as usize];
    let config = PolicyConfig {
        group: 2,
        kl: 0.0,
        ..PolicyConfig::default()
    };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut batch_of = |answers: &[Vec<Token>]| policy::batch(&prompt, answers, 1, MASK, 0.0, &mut rng);
    let every = batch_of(&(0..6).map(|t| vec![t]).collect::<Vec<_>>());
    let p: Vec<f64> = log_probs(&mut engine, &every)
        .iter()
        .map(|&x| f64::from(x).exp())
        .collect();
    assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-5);
    for a in 0..6u32 {
        for b in 0..6u32 {
            let mut batch = batch_of(&[vec![a], vec![b]]);
            let now = log_probs(&mut engine, &batch);
            let advantages = policy::advantages(&[reward(a), reward(b)]);
            policy::weigh(&mut batch, &config, &advantages, [&now, &now, &[]], 2);
            let chance = p[a as usize] * p[b as usize];
            batch.weights.iter_mut().for_each(|w| *w *= chance as f32);
            engine.accumulate(&batch).unwrap();
        }
    }
    let gradients = engine.gradients();
    check_slopes(&mut engine, &gradients, 0.01, &mut |e| {
        let all = log_probs(e, &every);
        let expected = all
            .iter()
            .enumerate()
            .map(|(t, &x)| f64::from(x).exp() * reward(t as Token));
        -0.5 * expected.sum::<f64>()
    });
}

/// The loss as a function of log-probabilities: clipped where it should be, and its slopes are the weights.
#[test]
fn ratios_are_clipped_and_leaving_the_reference_costs() {
    let config = PolicyConfig {
        epsilon: 0.2,
        kl: 0.1,
        ..PolicyConfig::default()
    };
    let plain = Batch {
        n_sequences: 2,
        length: 3,
        slots: vec![1, 2, 4, 5],
        weights: vec![0.0; 4],
        ..Batch::default()
    };
    let old = [-1.0f32; 4];
    let reference = [-1.5f32, -0.2, -1.0, -1.1];
    // Ratios 1.65, 0.61, 1.11, 0.61 with advantages 1, 1, -1, -1.
    let now = [-0.5f32, -1.5, -0.9, -1.5];
    let loss = |now: &[f32], config: &PolicyConfig| {
        let mut batch = plain.clone();
        let loss = policy::weigh(&mut batch, config, &[1.0, -1.0], [now, &old, &reference], 2);
        (loss, batch.weights)
    };
    let (_, weights) = loss(&now, &config);
    for i in 0..4 {
        let at = |by: f32| {
            let mut moved = now;
            moved[i] += by;
            loss(&moved, &config).0
        };
        let slope = (at(1e-2) - at(-1e-2)) / 2e-2;
        assert!(
            (slope + f64::from(weights[i])).abs() < 1e-3,
            "{i}: {} for {slope}",
            weights[i]
        );
    }
    let free = PolicyConfig { kl: 0.0, ..config };
    let (_, weights) = loss(&now, &free);
    assert_eq!((weights[0], weights[3]), (0.0, 0.0), "{weights:?}");
    assert!(weights[1] > 0.0 && weights[2] < 0.0, "{weights:?}");
}

const WORDS: [&str; 8] = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"];

/// A network that was fine-tuned to answer with any of two words.
fn undecided(folder: &Path) -> Config {
    let line = |i: usize, next: usize| {
        let (word, answer) = (WORDS[i], WORDS[(i + next) % 8]);
        format!("{{\"prompt\": \"After {word}?\", \"response\": \"{answer}\"}}\n")
    };
    let both: String = (0..8).flat_map(|i| [line(i, 1), line(i, 2)]).collect();
    let right: String = (0..8).map(|i| line(i, 1)).collect();
    let pairs: String = (0..8)
        .map(|i| {
            let (word, chosen, rejected) = (WORDS[i], WORDS[(i + 1) % 8], WORDS[(i + 2) % 8]);
            format!(
                "{{\"prompt\": \"After {word}?\", \"chosen\": \"{chosen}\", \"rejected\": \"{rejected}\"}}\n"
            )
        })
        .collect();
    for (name, text) in [("both", &both), ("right", &right), ("pairs", &pairs)] {
        std::fs::write(folder.join(format!("{name}.jsonl")), text.repeat(4)).unwrap();
    }
    train_tokenizer(&[folder.join("both.jsonl")], 320, &folder.join("tok")).unwrap();
    for name in ["both", "right", "pairs"] {
        let file = folder.join(format!("{name}.jsonl"));
        prepare(
            &[file],
            &folder.join("tok"),
            &folder.join(name),
            &PrepareOptions::default(),
            &mut |_| (),
        )
        .unwrap();
    }
    let text = format!(
        "seed = 1
        [model]
        d_model = 32
        n_layers = 2
        n_heads = 2
        mlp_hidden_size = 64
        max_sequence_length = 64
        [data]
        train = ['{0}/both']
        length = 40
        [objective]
        kind = 'sft'
        [optimizer]
        lr = 1e-2
        warmup = 5
        [run]
        tokenizer = '{0}/tok'
        steps = 160
        batch = 16
        eval_every = 0
        checkpoint_every = 1000",
        folder.display()
    );
    Config::parse(&text, &[]).unwrap()
}

fn scores(config: &Config, folder: &Path) -> Vec<f64> {
    let mut scores = Vec::new();
    let mut run = Run::open(config, folder).unwrap();
    run.train(&mut |event| {
        if let Event::Step(step) = event {
            scores.extend(step.score);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    scores
}

#[test]
fn preferences_and_rewards_are_learned_and_a_run_of_them_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let base = undecided(scratch.path());
    scores(&base, &at("base"));
    let mut later = base.clone();
    later.run.init_from = at("base");
    later.optimizer.lr = 3e-3;
    later.optimizer.warmup = 2;
    later.run.batch = 8;
    later.run.steps = 24;

    let changes = [
        "objective.kind='preference'".to_owned(),
        "preference.samples=8".to_owned(),
    ];
    let mut preferring = Config::parse(&later.to_text(), &changes).unwrap();
    preferring.data.train = vec![at("pairs")];
    preferring.run.steps = 60;
    let found = scores(&preferring, &at("preferring"));
    let mean = |s: &[f64]| s.iter().sum::<f64>() / s.len() as f64;
    assert!(mean(&found[40..]) > 0.75, "{found:?}");

    let changes = [
        "objective.kind='policy'".to_owned(),
        "policy.tokens=6".to_owned(),
        "policy.group=8".to_owned(),
        "policy.iterations=2".to_owned(),
    ];
    let mut rewarded = Config::parse(&later.to_text(), &changes).unwrap();
    rewarded.data.train = vec![at("right")];
    rewarded.run.steps = 60;
    rewarded.optimizer.lr = 3e-3;
    let found = scores(&rewarded, &at("rewarded"));
    let (before, after) = (mean(&found[..6]), mean(&found[44..]));
    assert!(
        before < 0.75 && after > before + 0.05,
        "{before} to {after}: {found:?}"
    );

    // Halves are the whole, to the bit.
    for (config, name, last) in [(&preferring, "preferring", 60), (&rewarded, "rewarded", 60)] {
        let mut config = config.clone();
        config.run.checkpoint_every = 12;
        let half = at(&format!("{name}-half"));
        let mut run = Run::open(&config, &half).unwrap();
        run.train(&mut |event| match event {
            Event::Saved(_) => ControlFlow::Break(()),
            Event::Step(step) if step.step == 12 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
        .unwrap();
        drop(run);
        scores(&config, &half);
        let bytes =
            |folder: &Path| std::fs::read(folder.join(format!("step-{last:08}/model.safetensors"))).unwrap();
        assert!(bytes(&half) == bytes(&at(name)), "{name}");
    }
    // Data of the wrong kind is named.
    let mut wrong = preferring.clone();
    wrong.data.train = vec![at("right")];
    let error = Run::open(&wrong, &at("wrong")).err().unwrap().to_string();
    assert!(error.contains("has no pairs"), "{error}");
    let mut wrong = rewarded.clone();
    wrong.data.train = vec![at("pairs")];
    let error = Run::open(&wrong, &at("wrong")).err().unwrap().to_string();
    assert!(error.contains("pairs of chosen and rejected"), "{error}");
}
