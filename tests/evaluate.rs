//! Likelihoods with the reference's masks, comparisons, and what both refuse.

mod common;

use std::ops::{ControlFlow, Range};
use std::path::Path;

use common::synthetic::Shape;
use common::{Arrays, convert_golden, json, vectors_dir};
use remask::denoise::{Branch, Predictor, Query};
use remask::evaluate::{CompareParams, Dataset, ImatrixParams, Sample, collect_imatrix, compare, samples};
use remask::quantize::{Imatrix, Mix, Policy, QuantizeOptions, quantize};
use remask::score::{LikelihoodParams, Noised, likelihood, mask_counts, minibatch_loss};
use remask::{ErrorKind, LoadOptions, Model, Result, Session, SessionOptions, Token};
use serde_json::Value;

fn open(path: &Path) -> Session {
    let model = Model::load(path, &LoadOptions::default()).unwrap();
    // Tests run beside each other; more threads than cores would wait for each other.
    let options = SessionOptions {
        n_threads: 1,
        ..SessionOptions::default()
    };
    Session::new(&model, &options).unwrap()
}

fn ids(value: &Value) -> Vec<Token> {
    let list = value.as_array().unwrap().iter();
    list.map(|v| v.as_u64().unwrap() as Token).collect()
}

#[test]
fn masks_are_counted_as_the_reference_counts_them() {
    let cases = json(&vectors_dir().join("likelihood/mask_counts.json"));
    let cases = cases.as_array().unwrap();
    assert!(cases.len() > 50);
    for case in cases {
        let number = |key: &str| case[key].as_u64().unwrap() as usize;
        let found = mask_counts(number("target_len"), number("batch"), number("k"));
        let expected: Vec<usize> = ids(&case["masked_per_row"]).iter().map(|&n| n as usize).collect();
        assert_eq!(found, expected, "{case}");
    }
}

/// With the reference's masks, minibatch by minibatch. Single-token answers and guidance included.
#[test]
fn likelihoods_are_the_references() {
    let dir = vectors_dir().join("likelihood");
    let arrays = Arrays::open(&dir.join("likelihood.safetensors"));
    let cases = json(&dir.join("likelihood.json"));
    let folder = tempfile::tempdir().unwrap();
    let mut worst = 0f64;
    for model in ["llada-tiny", "llada-gqa-tiny"] {
        let mut session = open(&convert_golden(model, folder.path()));
        let cases = cases.as_array().unwrap().iter().filter(|c| c["model"] == model);
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let (prompt, answer) = (ids(&case["prompt_ids"]), ids(&case["answer_ids"]));
            let mask = case["mask_id"].as_u64().unwrap() as Token;
            let perturbed = arrays.i32(&format!("{name}.perturbed"));
            let p_mask = arrays.f32(&format!("{name}.p_mask"));
            let losses = case["minibatch_losses"].as_array().unwrap();
            let (batch, len) = (perturbed.shape[1], perturbed.shape[2]);
            assert_eq!(len, prompt.len() + answer.len(), "{name}");
            let whole: Vec<Token> = prompt.iter().chain(&answer).copied().collect();
            for (i, expected) in losses.iter().enumerate() {
                let row = |j: usize| {
                    let tokens = perturbed.row(i)[j * len..(j + 1) * len].iter();
                    let tokens: Vec<Token> = tokens.map(|&t| t as Token).collect();
                    let masked: Vec<u32> = (0..len as u32).filter(|&k| tokens[k as usize] == mask).collect();
                    Noised {
                        targets: masked.iter().map(|&k| whole[k as usize]).collect(),
                        masked,
                        tokens,
                        p_mask: f64::from(p_mask.row(i)[j]),
                    }
                };
                let rows: Vec<_> = (0..batch).map(row).collect();
                let guidance = case["cfg_scale"].as_f64().unwrap();
                let found = minibatch_loss(&mut session, &rows, 0..prompt.len(), mask, guidance).unwrap();
                let expected = expected.as_f64().unwrap();
                worst = worst.max((found - expected).abs() / expected.abs());
                assert!(
                    (found - expected).abs() < 1e-5 * expected.abs(),
                    "{name}: {found} for {expected}"
                );
            }
        }
    }
    println!("likelihoods: largest relative error of a minibatch {worst:.1e}");
}

/// A predictor whose logits do not depend on the canvas.
struct Table(Vec<f32>);

impl Predictor for Table {
    fn n_vocab(&self) -> usize {
        self.0.len()
    }

    fn predict(&mut self, queries: &[Query<'_>], logits: &mut Vec<f32>) -> Result<()> {
        logits.clear();
        for query in queries {
            assert!(query.branch == Branch::Conditional);
            query.rows.iter().for_each(|_| logits.extend(&self.0));
        }
        Ok(())
    }
}

#[test]
fn the_bound_of_independent_tokens_is_their_probability() {
    let mut table = Table(vec![0.5, -1.0, 2.0, 0.0]);
    let z: f64 = table.0.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
    let tokens = [0, 1, 2, 1, 0, 2, 2, 1, 0, 0, 1];
    let answer: Range<usize> = 3..11;
    let exact: f64 = tokens[answer.clone()]
        .iter()
        .map(|&t| f64::from(table.0[t as usize]) - z)
        .sum();
    let params = LikelihoodParams {
        samples: 4096,
        ..LikelihoodParams::default()
    };
    let found = likelihood(&mut table, &tokens, answer, 3, &params).unwrap();
    assert!(found.standard_error > 0.0 && found.standard_error < 0.1 * exact.abs());
    let off = (found.log_likelihood - exact).abs();
    assert!(off < 4.0 * found.standard_error, "{found:?} for {exact}");
    assert_eq!((found.n_tokens, found.nfe), (8, 4096));
    // A single token is exact with one evaluation.
    let found = likelihood(&mut table, &tokens, 3..4, 3, &params).unwrap();
    assert!((found.log_likelihood - (f64::from(table.0[1]) - z)).abs() < 1e-6);
    assert_eq!(found.nfe, 1);
    for (answer, samples) in [(4..4, 16), (5..12, 16), (3..5, 0)] {
        let params = LikelihoodParams {
            samples,
            ..LikelihoodParams::default()
        };
        let error = likelihood(&mut table, &tokens, answer, 3, &params).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

fn canvases(n: usize, length: usize) -> Vec<Sample> {
    let token = |i: usize, j: usize| ((i * 7919 + j * 104_729) % 900) as Token;
    let sample = |i| Sample {
        tokens: (0..length).map(|j| token(i, j)).collect(),
        answer: 0..length,
    };
    (0..n).map(sample).collect()
}

fn go_on(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn a_file_costs_nothing_beside_itself_and_more_with_fewer_bits() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape {
        n_embd: 256,
        n_ff: 512,
        n_layer: 2,
        n_head: 4,
        n_head_kv: 4,
        tied: false,
    };
    let [f32_, q8, q4] = [Mix::F32, Mix::Q8_0, Mix::Q4_0].map(|mix| shape.write(folder.path(), mix));
    let texts = canvases(6, 48);
    let params = CompareParams {
        ratios: 3,
        generations: 2,
        ..CompareParams::default()
    };
    let run = |b: &Path| compare(&mut open(&f32_), &mut open(b), &texts, &params, &mut go_on).unwrap();
    let same = run(&f32_);
    assert_eq!((same.kl.mean, same.kl_max, same.agreement.mean), (0.0, 0.0, 1.0));
    assert_eq!((same.bound_change.mean, same.bound[0]), (0.0, same.bound[1]));
    assert_eq!(
        (same.same_generations, same.n_generations, same.same_tokens),
        (2, 2, 1.0)
    );
    assert_eq!(same.n_samples, 6);
    assert_eq!(same.by_ratio.iter().map(|r| r.n).sum::<usize>(), same.n_slots);
    assert!(same.by_ratio.len() >= 3, "{:?}", same.by_ratio);
    let [q8, q4] = [run(&q8), run(&q4)];
    assert!(
        q8.kl.mean > 0.0 && q4.kl.mean > 4.0 * q8.kl.mean,
        "{} {}",
        q8.kl.mean,
        q4.kl.mean
    );
    assert!(q8.agreement.mean > q4.agreement.mean);
    assert!(q4.kl_p99 <= q4.kl_max && q4.kl.error > 0.0);

    // The masks do not depend on the order or on the models.
    let mut reversed = run(&f32_);
    reversed.bound_change.mean = 0.0;
    assert_eq!(reversed, same);
    let cancelled = compare(
        &mut open(&f32_),
        &mut open(&f32_),
        &texts,
        &params,
        &mut |done, total| {
            assert_eq!((done, total), (1, 8));
            ControlFlow::Break(())
        },
    );
    assert_eq!(cancelled.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn files_of_two_models_are_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let mut a = open(&convert_golden("llada-tiny", folder.path()));
    let mut b = open(&convert_golden("illada-tiny", folder.path()));
    let error = compare(
        &mut a,
        &mut b,
        &canvases(1, 16),
        &CompareParams::default(),
        &mut go_on,
    );
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    assert!(error.message().contains("not of one model"), "{error}");
}

/// From texts to a matrix to a better file: on a model whose columns differ much in what they carry.
#[test]
fn an_importance_matrix_helps_where_columns_differ() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape {
        n_embd: 256,
        n_ff: 512,
        n_layer: 2,
        n_head: 4,
        n_head_kv: 4,
        tied: false,
    };
    let whole = shape.write(folder.path(), Mix::F32);
    let params = ImatrixParams {
        head: true,
        ..ImatrixParams::default()
    };
    let collected =
        collect_imatrix(&mut open(&whole), &canvases(8, 64), "texts", &params, &mut go_on).unwrap();
    let path = folder.path().join("imatrix.gguf");
    collected.write(&path, false).unwrap();
    let back = Imatrix::read(&path).unwrap();
    assert_eq!(back, collected);
    // 4 ratios and 4 steps of denoising, 64 slots each; the last layer ends with the masked slots.
    let all = 8.0 * 8.0 * 64.0;
    assert_eq!(back.entries["blk.0.ffn_down.weight"].counts, [all]);
    assert_eq!(back.entries["blk.1.attn_k.weight"].counts, [all]);
    let masked = back.entries["output.weight"].counts[0];
    assert_eq!(back.entries["blk.1.ffn_down.weight"].counts, [masked]);
    assert!(masked < all / 2.0);
    assert_eq!(back.n_chunks, 8);

    let kl = |importance: Option<Imatrix>| {
        let output = folder.path().join("small.gguf");
        let options = QuantizeOptions {
            policy: Policy {
                mix: Mix::Iq4Nl,
                importance: importance.map(std::sync::Arc::new),
                ..Policy::default()
            },
            overwrite: true,
            ..QuantizeOptions::default()
        };
        quantize(&whole, &output, &options, &mut |_| ControlFlow::Continue(())).unwrap();
        let params = CompareParams {
            generations: 0,
            ..CompareParams::default()
        };
        // Other canvases than those that it was collected on.
        let other = canvases(24, 40);
        compare(
            &mut open(&whole),
            &mut open(&output),
            &other[8..],
            &params,
            &mut go_on,
        )
        .unwrap()
        .kl
        .mean
    };
    let (without, with) = (kl(None), kl(Some(back)));
    println!("KL of iq4_nl: {without:.4} without a matrix, {with:.4} with it");
    assert!(with < without, "{with} for {without}");
}

#[test]
fn texts_and_pairs_become_canvases() {
    let folder = tempfile::tempdir().unwrap();
    let session = open(&convert_golden("llada-tiny", folder.path()));
    let model = session.model();
    let file = folder.path().join("data.jsonl");
    let long = "The quick brown fox. ".repeat(40);
    let lines = format!(
        "{{\"text\": {long:?}}}\n{{\"prompt\": \"Why?\", \"response\": \"Because.\"}}\n{{\"prompt\": {long:?}, \"response\": \"x\"}}\n{{\"text\": \"ab\"}}\n"
    );
    std::fs::write(&file, lines).unwrap();
    let all = samples(model, Dataset::open(&file).unwrap(), 64, 100).unwrap();
    let n_long = model
        .tokenizer()
        .encode(&long, remask::text::Special::AsText)
        .unwrap()
        .len();
    // The long text in parts, the short pair; what is too long or too short is passed over.
    let parts = n_long / 64 + usize::from(n_long % 64 >= 16);
    assert_eq!(all.len(), parts + 1);
    let pair = &all[parts];
    let answer = model.tokenizer().decode(&pair.tokens[pair.answer.clone()], true);
    assert_eq!(answer, "Because.<|endoftext|>");
    assert!(pair.answer.start > 4, "the chat template is missing: {pair:?}");
    assert_eq!(
        samples(model, Dataset::open(&file).unwrap(), 64, 2)
            .unwrap()
            .len(),
        2
    );
    for length in [0, 1, 1 << 20] {
        let error = samples(model, Dataset::open(&file).unwrap(), length, 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    std::fs::write(&file, "{\"text\": \"ab\"}\n").unwrap();
    let error = samples(model, Dataset::open(&file).unwrap(), 64, 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
}
