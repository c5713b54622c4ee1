//! The objective, the network's gradients and AdamW against the authors' PyTorch code, for any engine: the
//! file that includes this one has `fn open(&Shape) -> Box<dyn Engine>`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use remask::Token;
use remask_trainer::engine::{Engine, Pass};
use remask_trainer::noise::{Times, p_mask};
use remask_trainer::objective::{Batch, Diffusion, Example, pretrain, sft};
use remask_trainer::optim::{AdamW, State, Update};
use remask_trainer::shape::Shape;
use serde_json::Value;

use super::open;
use super::vectors::{Arrays, json, vectors_dir};

fn checkpoint(name: &str) -> (Shape, BTreeMap<String, Vec<f32>>) {
    let folder: PathBuf = vectors_dir().join("checkpoints").join(name);
    remask_trainer::import::read_folder(&folder).unwrap()
}

fn engine(name: &str) -> Box<dyn Engine> {
    let (shape, mut weights) = checkpoint(name);
    let mut engine = open(&shape);
    let states = shape.parameters().into_iter().map(|p| State {
        values: weights
            .remove(&p.name)
            .unwrap_or_else(|| panic!("{} is absent", p.name)),
        ..State::default()
    });
    engine.set_state(states.collect()).unwrap();
    assert!(weights.is_empty(), "{:?}", weights.keys());
    engine
}

fn tokens(values: &[i32]) -> Vec<Token> {
    values.iter().map(|&t| t as Token).collect()
}

/// The batch of a case of `loss.json`, with the reference's times and uniforms.
fn batch(case: &Value, arrays: &Arrays) -> Batch {
    let name = case["name"].as_str().unwrap();
    let d = Diffusion {
        mask: case["mask_id"].as_u64().unwrap() as Token,
        eps: 1e-3,
        times: Times::Uniform,
    };
    let ids = arrays.i32(&format!("{name}.input_ids"));
    let t = arrays.f32(&format!("{name}.t"));
    let u = arrays.f32(&format!("{name}.u"));
    let (n, length) = (u.shape[0], u.shape[1]);
    if case["kind"] == "sft" {
        let prompts = arrays.i32(&format!("{name}.prompt_lengths"));
        let example = |i: usize| Example {
            tokens: tokens(ids.row(i)),
            n_prompt: prompts.values[i] as usize,
        };
        let examples: Vec<_> = (0..n).map(example).collect();
        return sft(&examples, &d, &t.values, &u.values);
    }
    // The 1 % of batches that are cut keep the front of each sequence.
    let cut: Vec<Token> = (0..n).flat_map(|i| tokens(&ids.row(i)[..length])).collect();
    pretrain(&cut, length, &d, &t.values, &u.values)
}

fn relative(a: f64, b: f64) -> f64 {
    (a - b).abs() / b.abs().max(1e-30)
}

#[test]
fn losses_and_gradients_are_the_references() {
    let folder = vectors_dir().join("loss");
    let arrays = Arrays::open(&folder.join("loss.safetensors"));
    let cases = json(&folder.join("loss.json"));
    let mut worst = [0f64; 2];
    let mut engines: BTreeMap<String, Box<dyn Engine>> = BTreeMap::new();
    for case in cases.as_array().unwrap() {
        let (name, model) = (case["name"].as_str().unwrap(), case["model"].as_str().unwrap());
        let batch = batch(case, &arrays);
        let noisy = arrays.i32(&format!("{name}.noisy"));
        assert_eq!(batch.tokens, tokens(&noisy.values), "{name}");
        assert_eq!(
            batch.slots.len() as u64,
            case["n_masked"].as_u64().unwrap(),
            "{name}"
        );
        let p = arrays.f32(&format!("{name}.p_mask"));
        let t = arrays.f32(&format!("{name}.t"));
        for (&p, &t) in p.values.iter().zip(&t.values) {
            assert!((p - p_mask(t, 1e-3)).abs() < 1e-7, "{name}");
        }
        let engine = engines.entry(model.to_owned()).or_insert_with(|| engine(model));
        for recompute in [false, true] {
            engine.set_recompute(recompute);
            let pass = engine.accumulate(&batch).unwrap();
            let expected = case["loss"].as_f64().unwrap();
            let loss = batch.loss(&pass.log_probs, &pass.rates);
            worst[0] = worst[0].max(relative(loss, expected));
            assert!(relative(loss, expected) < 1e-5, "{name}: {loss} for {expected}");
            assert_eq!(
                engine.evaluate(&batch).unwrap().log_probs.len(),
                batch.slots.len()
            );
            check_gradients(engine.as_ref(), case, &arrays, &mut worst[1]);
            // Forgets the gradients and changes nothing.
            let nothing = Update {
                adamw: AdamW {
                    weight_decay: 0.0,
                    ..AdamW::default()
                },
                lr: 0.0,
                step: 1,
                ema: 0.0,
            };
            engine.update(&nothing).unwrap();
        }
    }
    println!(
        "largest relative error: losses {:.1e}, gradients {:.1e}",
        worst[0], worst[1]
    );
}

fn check_gradients(engine: &dyn Engine, case: &Value, arrays: &Arrays, worst: &mut f64) {
    let name = case["name"].as_str().unwrap();
    let parameters = engine.shape().parameters();
    let gradients = engine.gradients();
    let norms = case["grad_norms"].as_object().unwrap();
    let total = case["total_grad_norm"].as_f64().unwrap();
    assert_eq!(norms.len(), parameters.len(), "{name}");
    for (p, g) in parameters.iter().zip(&gradients) {
        let norm = g.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let expected = norms[&p.name].as_f64().unwrap();
        // What is 0 but for rounding is so here, too.
        let error = (norm - expected).abs() / expected.max(1e-6 * total);
        assert!(
            error < 1e-4 || expected < 1e-6 * total,
            "{name}, {}: {norm} for {expected}",
            p.name
        );
        let stored = format!("{name}.grad.{}", p.name);
        if !arrays.contains(&stored) {
            continue;
        }
        let expected = arrays.f32(&stored).values;
        let largest = expected.iter().fold(0f32, |a, x| a.max(x.abs()));
        for (a, b) in g.iter().zip(&expected) {
            let error = f64::from((a - b).abs()) / f64::from(largest).max(1e-4 * total);
            *worst = worst.max(error);
            assert!(error < 1e-4, "{name}, {}: {a} for {b}", p.name);
        }
    }
}

#[test]
fn twenty_updates_end_at_the_references_weights() {
    let folder = vectors_dir().join("train");
    let arrays = Arrays::open(&folder.join("train.safetensors"));
    let about = json(&folder.join("train.json"));
    let d = Diffusion {
        mask: about["mask_id"].as_u64().unwrap() as Token,
        eps: 1e-3,
        times: Times::Uniform,
    };
    let (data, t, u) = (arrays.i32("data"), arrays.f32("t"), arrays.f32("u"));
    let (sft_ids, prompts) = (arrays.i32("sft_input_ids"), arrays.i32("sft_prompt_lengths"));
    let (sft_t, sft_u) = (arrays.f32("sft_t"), arrays.f32("sft_u"));
    let mut worst = [0f64; 2];
    for run in about["runs"].as_array().unwrap() {
        let name = run["name"].as_str().unwrap();
        let floats = |key: &str| -> Vec<f64> {
            let list = run[key].as_array().unwrap();
            list.iter().map(|v| v.as_f64().unwrap()).collect()
        };
        let (lrs, betas) = (floats("lr"), floats("betas"));
        let adamw = AdamW {
            betas: [betas[0], betas[1]],
            grad_clip: run["grad_clip"].as_f64().unwrap_or(0.0),
            eps: 1e-8,
            weight_decay: about["weight_decay"].as_f64().unwrap(),
            ..AdamW::default()
        };
        let batch_of = |k: usize| -> Batch {
            if run["kind"] == "sft" {
                let example = |i: usize| Example {
                    tokens: tokens(sft_ids.row(i)),
                    n_prompt: prompts.values[i] as usize,
                };
                let examples: Vec<_> = (0..sft_ids.shape[0]).map(example).collect();
                return sft(&examples, &d, sft_t.row(k), sft_u.row(k));
            }
            pretrain(&tokens(data.row(k)), data.shape[2], &d, t.row(k), u.row(k))
        };
        let mut engine = engine("llada-train-tiny");
        let n_parts = lrs.len() / (20 / (run["loss"].as_array().unwrap().len().min(20))).max(1);
        assert!(n_parts > 0);
        let accumulated = if name == "accum2" { 2 } else { 1 };
        for (i, &lr) in lrs.iter().enumerate() {
            for j in 0..accumulated {
                let k = i * accumulated + j;
                let mut batch = batch_of(k);
                let pass = engine
                    .accumulate(&scaled(&mut batch, 1.0 / accumulated as f32))
                    .unwrap();
                let loss = batch.loss(&pass.log_probs, &pass.rates);
                let expected = match accumulated {
                    1 => run["loss"][i].as_f64().unwrap(),
                    _ => run["loss"][i][j].as_f64().unwrap(),
                };
                worst[0] = worst[0].max(relative(loss, expected));
                assert!(
                    relative(loss, expected) < 1e-4,
                    "{name}, step {k}: {loss} for {expected}"
                );
            }
            let updated = engine
                .update(&Update {
                    adamw: adamw.clone(),
                    lr,
                    step: i as u64 + 1,
                    ema: 0.0,
                })
                .unwrap();
            if let Some(expected) = run["grad_norm_before_clip"][i].as_f64() {
                assert!(relative(updated.grad_norm, expected) < 1e-4, "{name}, update {i}");
            }
            let state = engine.state();
            for (p, s) in engine.shape().parameters().iter().zip(&state) {
                let stored = format!("{name}.after{}.{}", i + 1, p.name);
                if arrays.contains(&stored) {
                    let expected = arrays.f32(&stored).values;
                    let largest = expected.iter().fold(0f32, |a, x| a.max(x.abs()));
                    for (a, b) in s.values.iter().zip(&expected) {
                        let error = f64::from((a - b).abs() / largest);
                        worst[1] = worst[1].max(error);
                        assert!(error < 1e-4, "{name}, {} after {}: {a} for {b}", p.name, i + 1);
                    }
                }
            }
        }
        let norms = run["final_weight_norms"].as_object().unwrap();
        for (p, s) in engine.shape().parameters().iter().zip(&engine.state()) {
            let norm = s.values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            assert!(
                relative(norm, norms[&p.name].as_f64().unwrap()) < 1e-4,
                "{name}, {}",
                p.name
            );
        }
    }
    println!("trajectories: losses {:.1e}, weights {:.1e}", worst[0], worst[1]);
}

/// A copy with weights times `by`.
fn scaled(batch: &mut Batch, by: f32) -> Batch {
    let mut copy = batch.clone();
    copy.weights.iter_mut().for_each(|w| *w *= by);
    copy
}

/// The engine and the runtime, which share no code, agree on a model.
#[test]
fn logits_are_the_runtimes() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llada-tiny", "llada-gqa-tiny"] {
        let path = folder.path().join("model.gguf");
        let source: PathBuf = vectors_dir().join("checkpoints").join(name);
        let worst =
            remask_trainer::export::check_against(engine(name).as_mut(), &to_gguf(&source, &path)).unwrap();
        assert!(worst.largest < 2e-3, "{name}: {worst:?}");
    }
}

fn to_gguf(folder: &Path, output: &Path) -> PathBuf {
    use remask::convert::{ConvertOptions, convert};
    use remask::quantize::{Mix, Policy};
    let options = ConvertOptions {
        policy: Policy {
            mix: Mix::F32,
            ..Policy::default()
        },
        overwrite: true,
        ..ConvertOptions::default()
    };
    convert(folder, output, &options, &mut |_| {
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    output.to_owned()
}

/// What splits a batch must not change its loss or its gradients.
#[test]
fn parts_of_a_batch_add_up() {
    let folder = vectors_dir().join("loss");
    let arrays = Arrays::open(&folder.join("loss.safetensors"));
    let cases = json(&folder.join("loss.json"));
    let case = &cases.as_array().unwrap()[0];
    let batch = batch(case, &arrays);
    let mut engine = engine(case["model"].as_str().unwrap());
    let mut loss = 0.0;
    for part in batch.split(3) {
        let Pass { log_probs, rates } = engine.accumulate(&part).unwrap();
        loss += part.loss(&log_probs, &rates);
    }
    assert!(relative(loss, case["loss"].as_f64().unwrap()) < 1e-5);
    check_gradients(engine.as_ref(), case, &arrays, &mut 0.0);
}
