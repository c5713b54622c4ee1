//! Models of any size with weights from a counter, for what golden checkpoints are too small for.
#![allow(dead_code)] // every test uses a part of it

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use remask::gguf::{Gguf, Metadata};
use remask::quantize::{MemoryTensor, Mix, Policy, write_gguf};

/// Sizes of a model; its vocabulary is the golden checkpoints'.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub n_embd: usize,
    pub n_ff: usize,
    pub n_layer: usize,
    pub n_head: usize,
    pub n_head_kv: usize,
    pub tied: bool,
}

/// Name, dimensions in ggml order, values.
pub type Tensors = Vec<(String, Vec<u64>, Vec<f32>)>;

const N_VOCAB: usize = 1024;

impl Shape {
    /// Every tensor, with values whose spread differs from row to row and a few far out, as trained
    /// weights have them.
    pub fn tensors(&self) -> Tensors {
        let mut all = Tensors::new();
        let mut add = |name: String, dims: &[usize]| {
            let seed = all.len() as u64;
            let values = match dims {
                [n] => (0..*n as u64).map(|i| 1.0 + 0.1 * normal(seed, i)).collect(),
                [n, rows] => {
                    let value = |i: u64| {
                        let scale = 0.5 + normal(seed + 1000, i / *n as u64).abs();
                        let far = if hash(seed, i).is_multiple_of(997) {
                            6.0
                        } else {
                            1.0
                        };
                        normal(seed, i) * scale * far / (*n as f32).sqrt()
                    };
                    (0..(n * rows) as u64).map(value).collect()
                }
                _ => unreachable!(),
            };
            all.push((name, dims.iter().map(|&d| d as u64).collect(), values));
        };
        let d = self.n_embd;
        let kv = d / self.n_head * self.n_head_kv;
        add("token_embd.weight".into(), &[d, N_VOCAB]);
        for i in 0..self.n_layer {
            add(format!("blk.{i}.attn_norm.weight"), &[d]);
            add(format!("blk.{i}.attn_q.weight"), &[d, d]);
            add(format!("blk.{i}.attn_k.weight"), &[d, kv]);
            add(format!("blk.{i}.attn_v.weight"), &[d, kv]);
            add(format!("blk.{i}.attn_output.weight"), &[d, d]);
            add(format!("blk.{i}.ffn_norm.weight"), &[d]);
            add(format!("blk.{i}.ffn_gate.weight"), &[d, self.n_ff]);
            add(format!("blk.{i}.ffn_up.weight"), &[d, self.n_ff]);
            add(format!("blk.{i}.ffn_down.weight"), &[self.n_ff, d]);
        }
        add("output_norm.weight".into(), &[d]);
        if !self.tied {
            add("output.weight".into(), &[d, N_VOCAB]);
        }
        all
    }

    /// The keys of such a model.
    pub fn metadata(&self, folder: &Path) -> Metadata {
        let donor = std::fs::read(super::convert_golden("llada-tiny", folder)).unwrap();
        let mut m = Gguf::parse(&donor).unwrap().metadata;
        m.remove("remask.huggingface.config.json");
        for (key, n) in [
            ("embedding_length", self.n_embd),
            ("feed_forward_length", self.n_ff),
            ("block_count", self.n_layer),
            ("attention.head_count", self.n_head),
            ("attention.head_count_kv", self.n_head_kv),
            ("rope.dimension_count", self.n_embd / self.n_head),
        ] {
            m.insert(format!("llada.{key}"), n as u32);
        }
        m
    }

    /// Writes the model as `mix`.
    pub fn write(&self, folder: &Path, mix: Mix) -> PathBuf {
        let path = folder.join(format!("synthetic-{}.gguf", mix.name()));
        let tensors = self.tensors();
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, dims, values)| MemoryTensor { name, dims, values })
            .collect();
        let policy = Policy {
            mix,
            ..Policy::default()
        };
        let metadata = self.metadata(folder);
        write_gguf(&path, &metadata, &tensors, &policy, 2, true, &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
        path
    }
}

/// splitmix64 of a pair.
pub fn hash(seed: u64, i: u64) -> u64 {
    let mut z = seed
        .wrapping_mul(0xD1B5_4A32_D192_ED03)
        .wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Nearly normal: a sum of four uniforms, scaled to deviation 1.
pub fn normal(seed: u64, i: u64) -> f32 {
    let bits = hash(seed, i);
    let part = |k: u32| ((bits >> (16 * k)) & 0xFFFF) as f32 / 65536.0 - 0.5;
    (part(0) + part(1) + part(2) + part(3)) * 3f32.sqrt()
}
