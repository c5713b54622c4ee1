//! The network against a plain forward pass in f64, written from the format's description: for what the
//! golden checkpoints do not have (biases, fused projections, rotary scaling, odd sizes).

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use common::convert_golden;
use remask::evaluate::{ImatrixParams, Sample, collect_imatrix};
use remask::gguf::{Gguf, Metadata, TensorSpec, TensorType, Writer};
use remask::{Flash, LoadOptions, Model, Session, SessionOptions};

/// Sizes and switches of a random model.
#[derive(Clone)]
struct Shape {
    d: usize,
    n_head: usize,
    n_head_kv: usize,
    size: usize,
    f: usize,
    v: usize,
    n_layer: usize,
    tied: bool,
    biases: bool,
    fused: bool,
    factors: bool,
    linear: Option<f32>,
}

const PLAIN: Shape = Shape {
    d: 24,
    n_head: 6,
    n_head_kv: 2,
    size: 4,
    f: 40,
    v: 999,
    n_layer: 2,
    tied: true,
    biases: false,
    fused: false,
    factors: false,
    linear: None,
};

type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

fn random(seed: &mut u64) -> f32 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 40) as f32 / (1 << 23) as f32 - 1.0
}

fn tensors(s: &Shape) -> Tensors {
    let mut seed = 7;
    let mut all: Tensors = Vec::new();
    let mut add = |name: String, dims: Vec<usize>, scale: f32, offset: f32| {
        let n = dims.iter().product();
        let values = (0..n).map(|_| random(&mut seed) * scale + offset).collect();
        all.push((name, dims, values));
    };
    let (q, kv) = (s.size * s.n_head, s.size * s.n_head_kv);
    add("token_embd.weight".into(), vec![s.d, s.v], 1.0, 0.0);
    add("output_norm.weight".into(), vec![s.d], 0.2, 1.0);
    if !s.tied {
        add("output.weight".into(), vec![s.d, s.v], 0.5, 0.0);
    }
    if s.factors {
        add("rope_freqs.weight".into(), vec![s.size / 2], 0.4, 1.5);
    }
    for i in 0..s.n_layer {
        add(format!("blk.{i}.attn_norm.weight"), vec![s.d], 0.2, 1.0);
        add(format!("blk.{i}.ffn_norm.weight"), vec![s.d], 0.2, 1.0);
        for (name, n_in, n_out) in [
            ("attn_q", s.d, q),
            ("attn_k", s.d, kv),
            ("attn_v", s.d, kv),
            ("attn_output", q, s.d),
            ("ffn_gate", s.d, s.f),
            ("ffn_up", s.d, s.f),
            ("ffn_down", s.f, s.d),
        ] {
            add(format!("blk.{i}.{name}.weight"), vec![n_in, n_out], 0.5, 0.0);
            if s.biases {
                add(format!("blk.{i}.{name}.bias"), vec![n_out], 0.5, 0.0);
            }
        }
    }
    all
}

/// Puts q, k and v of every layer into one tensor, as `--fuse-qkv` of llama.cpp's converter does.
fn fuse(tensors: Tensors) -> Tensors {
    let mut out: Tensors = Vec::new();
    for (name, dims, values) in tensors {
        let part = ["attn_q.", "attn_k.", "attn_v."]
            .iter()
            .find(|p| name.contains(**p));
        match part {
            None => out.push((name, dims, values)),
            Some(part) => {
                let fused = name.replace(part, "attn_qkv.");
                match out.iter_mut().find(|(n, ..)| *n == fused) {
                    None => out.push((fused, dims, values)),
                    Some((_, d, v)) => {
                        *d.last_mut().unwrap() += dims.last().unwrap();
                        v.extend(values);
                    }
                }
            }
        }
    }
    out
}

fn write(folder: &Path, s: &Shape, tensors: &Tensors) -> std::path::PathBuf {
    // The vocabulary is a golden checkpoint's, cut to the size wanted.
    let donor = std::fs::read(convert_golden("llada-gqa-tiny", folder)).unwrap();
    let mut m: Metadata = Gguf::parse(&donor).unwrap().metadata;
    for (key, n) in [
        ("embedding_length", s.d),
        ("feed_forward_length", s.f),
        ("block_count", s.n_layer),
        ("attention.head_count", s.n_head),
        ("attention.head_count_kv", s.n_head_kv),
        ("rope.dimension_count", s.size),
        ("attention.key_length", s.size),
        ("attention.value_length", s.size),
        ("vocab_size", s.v),
    ] {
        m.insert(format!("llada.{key}"), n as u32);
    }
    m.insert("llada.rope.freq_base", 1000f32);
    if let Some(factor) = s.linear {
        m.insert("llada.rope.scaling.type", "linear");
        m.insert("llada.rope.scaling.factor", factor);
    }
    let tokens: remask::gguf::StringArray = m
        .strings("tokenizer.ggml.tokens")
        .unwrap()
        .unwrap()
        .iter()
        .take(s.v)
        .collect();
    let types = m.i32s("tokenizer.ggml.token_type").unwrap().unwrap()[..s.v].to_vec();
    m.insert("tokenizer.ggml.tokens", tokens);
    m.insert("tokenizer.ggml.token_type", remask::gguf::Array::I32(types));
    let specs = tensors.iter().map(|(name, dims, _)| TensorSpec {
        name: name.clone(),
        dims: dims.iter().map(|&d| d as u64).collect(),
        ty: TensorType::F32,
    });
    let path = folder.join("forward.gguf");
    let mut writer = Writer::create(&path, &m, specs.collect(), true).unwrap();
    for (name, _, values) in tensors {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        writer.write_tensor(name, &bytes).unwrap();
    }
    writer.finish().unwrap();
    path
}

/// The forward pass, position by position, from `docs` of the format: no library, no cleverness.
struct Plain<'a> {
    s: &'a Shape,
    tensors: &'a Tensors,
    /// Per matrix and position, the squares of what it was multiplied with.
    squares: RefCell<BTreeMap<String, Vec<Vec<f64>>>>,
}

impl<'a> Plain<'a> {
    fn new(s: &'a Shape, tensors: &'a Tensors) -> Self {
        Self {
            s,
            tensors,
            squares: RefCell::default(),
        }
    }

    fn get(&self, name: &str) -> Option<&[f32]> {
        self.tensors
            .iter()
            .find(|(n, ..)| n == name)
            .map(|(.., v)| v.as_slice())
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let w = self.get(&format!("{name}.weight")).unwrap();
        let bias = self.get(&format!("{name}.bias"));
        let mut squares = self.squares.borrow_mut();
        let positions = squares.entry(format!("{name}.weight")).or_default();
        positions.push(x.iter().map(|x| x * x).collect());
        w.chunks_exact(x.len())
            .enumerate()
            .map(|(i, row)| {
                let dot: f64 = row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum();
                dot + bias.map_or(0.0, |b| f64::from(b[i]))
            })
            .collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let w = self.get(name).unwrap();
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (mean + f64::from(1e-5f32)).sqrt();
        x.iter().zip(w).map(|(x, &w)| x * scale * f64::from(w)).collect()
    }

    fn rope(&self, x: &mut [f64], position: usize) {
        let factors = self.get("rope_freqs.weight");
        for head in x.chunks_exact_mut(self.s.size) {
            for i in 0..self.s.size / 2 {
                let frequency = 1000f64.powf(-2.0 * i as f64 / self.s.size as f64);
                let factor = factors.map_or(1.0, |f| f64::from(f[i]));
                let scale = self.s.linear.map_or(1.0, |f| 1.0 / f64::from(f));
                let (sin, cos) = (position as f64 * frequency * scale / factor).sin_cos();
                let (a, b) = (head[2 * i], head[2 * i + 1]);
                head[2 * i] = a * cos - b * sin;
                head[2 * i + 1] = a * sin + b * cos;
            }
        }
    }

    fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let s = self.s;
        let table = self.get("token_embd.weight").unwrap();
        let mut x: Vec<Vec<f64>> = tokens
            .iter()
            .map(|&t| {
                table[t as usize * s.d..(t as usize + 1) * s.d]
                    .iter()
                    .map(|&x| f64::from(x))
                    .collect()
            })
            .collect();
        for l in 0..s.n_layer {
            let name = |n: &str| format!("blk.{l}.{n}");
            let h: Vec<_> = x
                .iter()
                .map(|x| self.norm(&name("attn_norm.weight"), x))
                .collect();
            let rotated = |n: &str| -> Vec<Vec<f64>> {
                let each = h.iter().enumerate();
                each.map(|(p, h)| {
                    let mut y = self.linear(&name(n), h);
                    self.rope(&mut y, p);
                    y
                })
                .collect()
            };
            let (q, k) = (rotated("attn_q"), rotated("attn_k"));
            let v: Vec<_> = h.iter().map(|h| self.linear(&name("attn_v"), h)).collect();
            for p in 0..tokens.len() {
                let mut mixed = vec![0.0; s.size * s.n_head];
                for head in 0..s.n_head {
                    let kv = head / (s.n_head / s.n_head_kv) * s.size;
                    let q = &q[p][head * s.size..(head + 1) * s.size];
                    let score = |k: &Vec<f64>| {
                        q.iter().zip(&k[kv..]).map(|(a, b)| a * b).sum::<f64>() / (s.size as f64).sqrt()
                    };
                    let weights: Vec<f64> = k.iter().map(|k| score(k).exp()).collect();
                    let total: f64 = weights.iter().sum();
                    for (w, v) in weights.iter().zip(&v) {
                        for i in 0..s.size {
                            mixed[head * s.size + i] += w / total * v[kv + i];
                        }
                    }
                }
                let out = self.linear(&name("attn_output"), &mixed);
                x[p].iter_mut().zip(out).for_each(|(x, y)| *x += y);
            }
            for x in &mut x {
                let h = self.norm(&name("ffn_norm.weight"), x);
                let (gate, up) = (
                    self.linear(&name("ffn_gate"), &h),
                    self.linear(&name("ffn_up"), &h),
                );
                let h: Vec<f64> = gate
                    .iter()
                    .zip(up)
                    .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                    .collect();
                let out = self.linear(&name("ffn_down"), &h);
                x.iter_mut().zip(out).for_each(|(x, y)| *x += y);
            }
        }
        let head = if s.tied { "token_embd" } else { "output" };
        x.iter()
            .map(|x| self.linear(head, &self.norm("output_norm.weight", x)))
            .collect()
    }
}

#[test]
fn every_variant_of_the_family_is_computed_as_described() {
    let variants = [
        ("plain", PLAIN),
        ("untied", Shape { tied: false, ..PLAIN }),
        (
            "biases",
            Shape {
                biases: true,
                ..PLAIN
            },
        ),
        ("fused", Shape { fused: true, ..PLAIN }),
        (
            "fused with biases",
            Shape {
                fused: true,
                biases: true,
                ..PLAIN
            },
        ),
        ("head size not width / heads", Shape { size: 8, ..PLAIN }),
        (
            "rotary factors",
            Shape {
                factors: true,
                ..PLAIN
            },
        ),
        (
            "linear rotary scaling",
            Shape {
                linear: Some(4.0),
                ..PLAIN
            },
        ),
        (
            "all heads have keys",
            Shape {
                n_head_kv: 6,
                ..PLAIN
            },
        ),
        (
            "one key head",
            Shape {
                n_head_kv: 1,
                ..PLAIN
            },
        ),
    ];
    for (name, shape) in variants {
        let folder = tempfile::tempdir().unwrap();
        let all = tensors(&shape);
        let stored = if shape.fused {
            fuse(all.clone())
        } else {
            all.clone()
        };
        let path = write(folder.path(), &shape, &stored);
        let model = Model::load(&path, &LoadOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let tokens: Vec<u32> = (0..13).map(|i| i * 71 % 990).collect();
        let expected = Plain::new(&shape, &all).logits(&tokens);
        for flash in [Flash::Off, Flash::On] {
            let options = SessionOptions {
                flash,
                n_threads: 1,
                max_canvas: 0,
            };
            let mut session = Session::new(&model, &options).unwrap();
            let mut logits = Vec::new();
            let rows: Vec<u32> = (0..13).collect();
            session.logits(&tokens, &rows, &mut logits).unwrap();
            for (ours, theirs) in logits.chunks_exact(shape.v).zip(&expected) {
                for (a, b) in ours.iter().zip(theirs) {
                    assert!(
                        (f64::from(*a) - b).abs() < 1e-4 * b.abs().max(1.0),
                        "{name} {flash:?}: {a} for {b}"
                    );
                }
            }
        }
    }
}

#[test]
fn an_importance_matrix_holds_what_the_matrices_are_multiplied_with() {
    for (fused, tied) in [(false, true), (false, false), (true, false)] {
        let shape = Shape { fused, tied, ..PLAIN };
        let folder = tempfile::tempdir().unwrap();
        let all = tensors(&shape);
        let stored = if fused { fuse(all.clone()) } else { all.clone() };
        let path = write(folder.path(), &shape, &stored);
        let model = Model::load(&path, &LoadOptions::default()).unwrap();
        let mut session = Session::new(&model, &SessionOptions::default()).unwrap();
        // One slot can be masked, so that it is known which will be.
        let tokens: Vec<u32> = (0..13).map(|i| i * 71 % 990).collect();
        let sample = Sample {
            tokens: tokens.clone(),
            answer: 9..10,
        };
        let params = ImatrixParams {
            ratios: 3,
            denoise_steps: 0,
            head: true,
            seed: 1,
        };
        let found = collect_imatrix(&mut session, &[sample], "data", &params, &mut |_, _| {
            ControlFlow::Continue(())
        })
        .unwrap();

        let mut noised = tokens;
        noised[9] = model.mask_token();
        let plain = Plain::new(&shape, &all);
        plain.logits(&noised);
        let mut expected = plain.squares.into_inner();
        // The fused matrix is multiplied with what its first part would be.
        if fused {
            let parts = expected["blk.0.attn_q.weight"].clone();
            expected.insert("blk.0.attn_qkv.weight".into(), parts);
        }
        expected.retain(|name, _| found.entries.contains_key(name));
        assert_eq!(found.entries.contains_key("output.weight"), !tied);
        assert!(
            expected.len() >= if fused { 6 } else { 14 },
            "{:?}",
            expected.keys()
        );
        for (name, positions) in expected {
            // Nobody asks what the last layer has at other slots, but for its keys and values.
            let last = name.starts_with("blk.1.") || name == "output.weight";
            let whole = ["attn_k", "attn_v", "attn_qkv"].iter().any(|n| name.contains(n));
            let seen = match last && !whole {
                true => &positions[9..10],
                false => &positions[..],
            };
            let entry = &found.entries[&name];
            assert_eq!(entry.counts, [3.0 * seen.len() as f32], "{name}");
            let expected = |i: usize| 3.0 * seen.iter().map(|squares| squares[i]).sum::<f64>();
            let largest = (0..entry.sums.len()).map(expected).fold(0.0, f64::max);
            for (i, &sum) in entry.sums.iter().enumerate() {
                let error = (f64::from(sum) - expected(i)).abs();
                assert!(error < 1e-5 * largest, "{name}: {sum} for {}", expected(i));
            }
        }
    }
}
