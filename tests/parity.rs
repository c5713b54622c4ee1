//! Parity with the authors' PyTorch code: logits, hidden states, and `generate` step by step.
//!
//! `cargo test --test parity -- --nocapture` prints the table of `docs/parity.md`.

mod common;

use std::path::Path;

use common::{Arrays, convert_golden, convert_with_mask, json, vectors_dir};
use remask::denoise::Noise;
use remask::{
    Canvas, Flash, GenerateParams, LoadOptions, Model, Order, Params, Session, SessionOptions, Token,
};
use serde_json::Value;

/// Bounds on the absolute error of a logit; logits have a standard deviation of 3 to 4, the reference's
/// own f32 noise is 5e-5. Flash attention on the CPU stays in f32 and measures the same.
const EXACT_BOUND: f32 = 5e-4;
const FLASH_BOUND: f32 = 5e-4;

/// Checkpoint and where its vectors are. The shards hold the same weights as `llada-gqa-tiny`.
const CHECKPOINTS: &[(&str, &str)] = &[
    ("llada-tiny", "llada-tiny"),
    ("llada-gqa-tiny", "llada-gqa-tiny"),
    ("llada-gqa-tiny-sharded", "llada-gqa-tiny"),
    ("illada-tiny", "illada-tiny"),
];

fn session(path: &Path, flash: Flash, n_threads: usize) -> Session {
    let model = Model::load(path, &LoadOptions::default()).unwrap();
    Session::new(
        &model,
        &SessionOptions {
            flash,
            n_threads,
            max_canvas: 0,
        },
    )
    .unwrap()
}

/// The tokens of one row without its left padding, and how many pads there were.
fn unpadded(ids: &[i32], mask: Option<&[bool]>) -> (Vec<Token>, usize) {
    let pads = mask.map_or(0, |m| m.iter().position(|&x| x).unwrap());
    (ids[pads..].iter().map(|&t| t as Token).collect(), pads)
}

/// Largest error of the logits of one case.
fn logits_error(session: &mut Session, arrays: &Arrays, case: &str) -> f32 {
    let ids = arrays.i32(&format!("{case}.input_ids"));
    let mask_name = format!("{case}.attention_mask");
    let mask = arrays.contains(&mask_name).then(|| arrays.flags(&mask_name));
    let positions = arrays.i32(&format!("{case}.positions"));
    let expected = arrays.f32(&format!("{case}.logits"));
    let n_vocab = expected.shape[2];
    let mut worst = 0f32;
    for b in 0..ids.shape[0] {
        let (tokens, pads) = unpadded(ids.row(b), mask.as_ref().map(|m| m.row(b)));
        // Positions inside the padding have no meaning.
        let kept: Vec<usize> = (0..positions.values.len())
            .filter(|&k| positions.values[k] as usize >= pads)
            .collect();
        let rows: Vec<u32> = kept
            .iter()
            .map(|&k| positions.values[k] as u32 - pads as u32)
            .collect();
        let mut logits = Vec::new();
        session.logits(&tokens, &rows, &mut logits).unwrap();
        for (i, &k) in kept.iter().enumerate() {
            let reference = &expected.row(b)[k * n_vocab..(k + 1) * n_vocab];
            let ours = &logits[i * n_vocab..(i + 1) * n_vocab];
            let error = ours
                .iter()
                .zip(reference)
                .map(|(a, b)| (a - b).abs())
                .fold(0f32, f32::max);
            worst = worst.max(error);
        }
    }
    worst
}

#[test]
fn logits_are_the_references() {
    let folder = tempfile::tempdir().unwrap();
    println!("| checkpoint | case | max error | flash |");
    println!("|---|---|---|---|");
    for (checkpoint, vectors) in CHECKPOINTS {
        let path = convert_golden(checkpoint, folder.path());
        let arrays = Arrays::open(&vectors_dir().join(format!("logits/{vectors}.safetensors")));
        let mut exact = session(&path, Flash::Off, 1);
        let mut flash = session(&path, Flash::On, 1);
        for case in ["short", "chat", "batch", "infill"] {
            let a = logits_error(&mut exact, &arrays, case);
            let b = logits_error(&mut flash, &arrays, case);
            println!("| {checkpoint} | {case} | {a:.1e} | {b:.1e} |");
            assert!(a <= EXACT_BOUND, "{checkpoint} {case}: {a}");
            assert!(b <= FLASH_BOUND, "{checkpoint} {case} flash: {b}");
        }
    }
}

#[test]
fn hidden_states_are_the_references() {
    let folder = tempfile::tempdir().unwrap();
    for (checkpoint, vectors) in CHECKPOINTS {
        let path = convert_golden(checkpoint, folder.path());
        let arrays = Arrays::open(&vectors_dir().join(format!("logits/{vectors}.safetensors")));
        let mut session = session(&path, Flash::Off, 1);
        let ids = arrays.i32("chat.input_ids");
        let states = session.hidden_states(&unpadded(ids.row(0), None).0).unwrap();
        for (i, ours) in states.iter().enumerate() {
            let expected = arrays.f32(&format!("chat.hidden.{i}"));
            let error = ours
                .iter()
                .zip(expected.row(0))
                .map(|(a, b)| (a - b).abs())
                .fold(0f32, f32::max);
            assert!(error <= EXACT_BOUND, "{checkpoint}: state {i} differs by {error}");
        }
        assert!(!arrays.contains(&format!("chat.hidden.{}", states.len())));
    }
}

/// The vectors' recorded random numbers: a counter over the whole padded batch.
struct Recorded {
    seed: u64,
    /// Rows of the batch, padded length, columns.
    n_slots: usize,
    n_vocab: usize,
    /// Left padding of each row.
    pads: Vec<usize>,
}

impl Recorded {
    fn unit(&self, stream: u64, j: usize) -> f64 {
        let mut z = self
            .seed
            .wrapping_add(stream)
            .wrapping_add((j as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Noise for Recorded {
    fn gumbel(&self, step: usize, sequence: usize, slot: usize, token: usize) -> f64 {
        let position = sequence * self.n_slots + slot + self.pads[sequence];
        self.unit((step as u64) << 40, position * self.n_vocab + token)
    }

    fn order(&self, step: usize, sequence: usize, slot: usize) -> f32 {
        let position = sequence * self.n_slots + slot + self.pads[sequence];
        self.unit((1 << 60) + ((step as u64) << 40), position) as f32
    }
}

/// What a case of `generate` is.
struct Case<'a> {
    json: &'a Value,
    name: String,
    states: common::Array<i32>,
    pads: Vec<usize>,
    prompt_length: usize,
}

fn params(case: &Value) -> Params {
    let flag = |key: &str| case[key].as_bool().unwrap_or(false);
    let token = |key: &str| case[key].as_u64().map(|t| t as Token);
    Params {
        steps: case["steps"].as_u64().unwrap() as usize,
        block_length: case["block_length"].as_u64().unwrap() as usize,
        order: if case["remasking"] == "random" {
            Order::Random
        } else {
            Order::LowConfidence
        },
        temperature: case["temperature"].as_f64().unwrap(),
        guidance: case["cfg_scale"].as_f64().unwrap(),
        logits_eos_inf: flag("logits_eos_inf"),
        confidence_eos_eot_inf: flag("confidence_eos_eot_inf"),
        eos: token("eos_id"),
        eot: token("eot_id"),
        ..Params::default()
    }
}

/// Steps of a row that another correct implementation may take differently.
fn free_steps(case: &Value, row: usize) -> Vec<usize> {
    let listed = ["tie_steps", "fragile_steps"]
        .into_iter()
        .flat_map(|key| case[key].as_array().unwrap().clone());
    let of_row = listed.filter(|pair| pair[1].as_u64() == Some(row as u64));
    of_row.map(|pair| pair[0].as_u64().unwrap() as usize).collect()
}

/// Runs one case row by row, each as a batch of one would be, or all rows as one batch. Returns how many
/// steps were compared.
fn replay(session: &mut Session, case: &Case<'_>, teacher: bool) -> usize {
    let mask = session.model().mask_token();
    let (n_steps, n_rows, n_slots) = (
        case.states.shape[0] - 1,
        case.states.shape[1],
        case.states.shape[2],
    );
    let state = |i: usize, b: usize| -> Vec<Token> {
        let all = &case.states.row(i)[b * n_slots..(b + 1) * n_slots];
        all[case.pads[b]..].iter().map(|&t| t as Token).collect()
    };
    let mut compared = 0;
    // Canvases of a batch have starts of their own here, so that each row runs alone, with the noise of
    // its place in the batch.
    for b in 0..n_rows {
        let start = case.prompt_length - case.pads[b];
        let denoise = Params {
            response_start: Some(start),
            idle_steps: true,
            ..params(case.json)
        };
        let noise = Recorded {
            seed: case.json["uniform_seed"].as_u64().unwrap_or(0),
            n_slots,
            n_vocab: session.model().sizes().n_vocab,
            pads: case.pads[b..].to_vec(),
        };
        let noise = Shifted {
            inner: noise,
            sequence: b,
        };
        let params = GenerateParams {
            denoise,
            ..GenerateParams::default()
        };
        let canvas = Canvas::from_tokens(&state(0, b), mask);
        let free = free_steps(case.json, b);
        let mut run = session
            .start_with_noise(vec![canvas], &params, Box::new(noise))
            .unwrap();
        for i in 0..n_steps {
            run.step().unwrap();
            let got = run.canvases().next().unwrap().tokens().to_vec();
            let expected = state(i + 1, b);
            if !free.contains(&i) {
                assert_eq!(got, expected, "{}, row {b}, step {i}", case.name);
                compared += 1;
            }
            if teacher || free.contains(&i) {
                run.run_mut().replace(0, &expected).unwrap();
            }
        }
        assert!(run.is_done(), "{}: {n_steps} steps", case.name);
    }
    compared
}

/// A row's noise in a run of its own.
struct Shifted {
    inner: Recorded,
    sequence: usize,
}

impl Noise for Shifted {
    fn gumbel(&self, step: usize, _: usize, slot: usize, token: usize) -> f64 {
        let slot = slot + self.inner.pads[0];
        let position = self.sequence * self.inner.n_slots + slot;
        self.inner
            .unit((step as u64) << 40, position * self.inner.n_vocab + token)
    }

    fn order(&self, step: usize, _: usize, slot: usize) -> f32 {
        let position = self.sequence * self.inner.n_slots + slot + self.inner.pads[0];
        self.inner.unit((1 << 60) + ((step as u64) << 40), position) as f32
    }
}

#[test]
fn generation_is_the_references_at_every_step() {
    let folder = tempfile::tempdir().unwrap();
    println!("| checkpoint | case | settings | steps compared | equal |");
    println!("|---|---|---|---|---|");
    for checkpoint in ["llada-tiny", "llada-gqa-tiny", "illada-tiny"] {
        let path = convert_golden(checkpoint, folder.path());
        let mut usual = session(&path, Flash::Off, 1);
        let base = vectors_dir().join("generate");
        let arrays = Arrays::open(&base.join(format!("{checkpoint}.safetensors")));
        let file = json(&base.join(format!("{checkpoint}.json")));
        let cases = file
            .as_array()
            .cloned()
            .or(file["cases"].as_array().cloned())
            .unwrap();
        assert!(cases.len() > 3);
        for case in &cases {
            let name = case["name"].as_str().unwrap().to_owned();
            let states = arrays.i32(&format!("{name}.x"));
            let prompt_length = states.shape[2] - case["gen_length"].as_u64().unwrap() as usize;
            let masked = case["attention_mask"] == "batch.attention_mask";
            let pads = match masked {
                true => {
                    let m = arrays.flags("batch.attention_mask");
                    (0..m.shape[0])
                        .map(|b| m.row(b).iter().position(|&x| x).unwrap())
                        .collect()
                }
                false => vec![0; states.shape[1]],
            };
            let one = Case {
                json: case,
                name: name.clone(),
                states,
                pads,
                prompt_length,
            };
            // Some cases name a frequent token as the mask, so that the model predicts it.
            let mask = case["mask_id"].as_u64().unwrap();
            let mut other = (mask != u64::from(usual.model().mask_token()))
                .then(|| session(&convert_with_mask(checkpoint, mask, folder.path()), Flash::Off, 1));
            let session = other.as_mut().unwrap_or(&mut usual);
            let free = replay(session, &one, false);
            let forced = replay(session, &one, true);
            assert_eq!(free, forced);
            let p = params(case);
            if p.temperature == 0.0 && p.guidance == 0.0 {
                // As a device computes it: of each row only its peak comes back.
                session.set_reduction(Some(true));
                assert_eq!(free, replay(session, &one, false));
                session.set_reduction(None);
            }
            println!(
                "| {checkpoint} | {name} | T={} cfg={} {:?} block={} | {free} | yes |",
                p.temperature, p.guidance, p.order, p.block_length
            );
        }
    }
}
