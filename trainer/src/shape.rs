//! Sizes of a network, its parameters by name, and how they begin.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use remask::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// Sizes of a dense LLaDA. The keys are those of the authors' `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shape {
    /// Width.
    pub d_model: usize,
    /// Layers.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; 0 is as many as query heads.
    pub n_kv_heads: usize,
    /// Width inside the feed-forward network.
    pub mlp_hidden_size: usize,
    /// Columns of the logits; 0 is as many as the tokenizer has tokens, rounded up to a multiple of 64.
    pub vocab_size: usize,
    /// Longest sequence that the model says it takes.
    pub max_sequence_length: usize,
    /// Whether the head is the embedding table.
    pub weight_tying: bool,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square in the norms.
    pub rms_norm_eps: f64,
    /// How weights begin.
    pub init: Init,
    /// Standard deviation of `normal`.
    pub init_std: f64,
}

/// How weights begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// 1/sqrt(inputs), and 1/sqrt(2 (layer + 1)) of it for what is added to the residual stream, cut at
    /// 3 deviations: what LLaDA-8B's `config.json` names (`init_fn`).
    Mitchell,
    /// `init_std`, and 1/sqrt(2 layers) of it for what is added to the residual stream, cut at 3
    /// deviations.
    Normal,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            d_model: 256,
            n_layers: 8,
            n_heads: 4,
            n_kv_heads: 0,
            mlp_hidden_size: 768,
            vocab_size: 0,
            max_sequence_length: 512,
            weight_tying: false,
            rope_theta: 10000.0,
            rms_norm_eps: 1e-5,
            init: Init::Normal,
            init_std: 0.02,
        }
    }
}

/// What a parameter is in its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The embedding table.
    Embedding,
    /// A vector of a norm.
    Norm,
    /// A matrix that reads the residual stream.
    In,
    /// A matrix that is added to the residual stream.
    Out,
    /// The head.
    Head,
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Name in the authors' checkpoints.
    pub name: String,
    /// `[n_out, n_in]`, row-major, or `[n]`.
    pub dims: Vec<usize>,
    /// What it is.
    pub role: Role,
    /// Its layer; 0 where it has none.
    pub layer: usize,
}

impl Parameter {
    /// Values.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Parameters of a block, in their order.
pub mod place {
    /// Norm before the attention.
    pub const ATTN_NORM: usize = 0;
    /// Queries.
    pub const Q: usize = 1;
    /// Keys.
    pub const K: usize = 2;
    /// Values.
    pub const V: usize = 3;
    /// What goes back from the attention.
    pub const ATTN_OUT: usize = 4;
    /// Norm before the feed-forward part.
    pub const FF_NORM: usize = 5;
    /// Its gate.
    pub const GATE: usize = 6;
    /// Its first matrix.
    pub const UP: usize = 7;
    /// What goes back from it.
    pub const FF_OUT: usize = 8;
    /// Parameters of a block.
    pub const N: usize = 9;
}

impl Shape {
    /// Key and value heads.
    pub fn kv_heads(&self) -> usize {
        match self.n_kv_heads {
            0 => self.n_heads,
            n => n,
        }
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.d_model / self.n_heads.max(1)
    }

    /// # Errors
    /// `InvalidArgument`, naming the key.
    pub fn check(&self) -> Result<()> {
        let positive = [
            ("d_model", self.d_model),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("mlp_hidden_size", self.mlp_hidden_size),
            ("vocab_size", self.vocab_size),
            ("max_sequence_length", self.max_sequence_length),
        ];
        for (key, value) in positive {
            if value == 0 || value > 1 << 24 {
                return Err(invalid(format!(
                    "model.{key} is {value}; it must be 1 to 16777216"
                )));
            }
        }
        if !self.d_model.is_multiple_of(self.n_heads) || !self.head_dim().is_multiple_of(2) {
            return Err(invalid(format!(
                "model.d_model is {} and model.n_heads {}; the width of a head must be whole and even",
                self.d_model, self.n_heads
            )));
        }
        if !self.n_heads.is_multiple_of(self.kv_heads()) {
            return Err(invalid(format!(
                "model.n_heads is {} and model.n_kv_heads {}; it must be a multiple",
                self.n_heads,
                self.kv_heads()
            )));
        }
        if self.n_layers > 1024 {
            return Err(invalid(format!(
                "model.n_layers is {}; it must be at most 1024",
                self.n_layers
            )));
        }
        let fine = |x: f64| x.is_finite() && x > 0.0;
        if !fine(self.rope_theta) || !fine(self.rms_norm_eps) || !fine(self.init_std) {
            return Err(invalid(
                "model.rope_theta, rms_norm_eps and init_std must be above 0".to_owned(),
            ));
        }
        Ok(())
    }

    /// Every parameter: the embedding table, 9 of each block, the last norm, the head unless tied.
    pub fn parameters(&self) -> Vec<Parameter> {
        let (d, ff) = (self.d_model, self.mlp_hidden_size);
        let kv = self.kv_heads() * self.head_dim();
        let mut all = Vec::new();
        let mut add = |name: String, dims: &[usize], role, layer| {
            all.push(Parameter {
                name: format!("model.transformer.{name}.weight"),
                dims: dims.to_vec(),
                role,
                layer,
            });
        };
        add("wte".into(), &[self.vocab_size, d], Role::Embedding, 0);
        for i in 0..self.n_layers {
            let name = |n: &str| format!("blocks.{i}.{n}");
            add(name("attn_norm"), &[d], Role::Norm, i);
            add(name("q_proj"), &[d, d], Role::In, i);
            add(name("k_proj"), &[kv, d], Role::In, i);
            add(name("v_proj"), &[kv, d], Role::In, i);
            add(name("attn_out"), &[d, d], Role::Out, i);
            add(name("ff_norm"), &[d], Role::Norm, i);
            add(name("ff_proj"), &[ff, d], Role::In, i);
            add(name("up_proj"), &[ff, d], Role::In, i);
            add(name("ff_out"), &[d, ff], Role::Out, i);
        }
        add("ln_f".into(), &[d], Role::Norm, 0);
        if !self.weight_tying {
            add("ff_out".into(), &[self.vocab_size, d], Role::Head, 0);
        }
        all
    }

    /// Values of all parameters together.
    pub fn n_parameters(&self) -> usize {
        self.parameters().iter().map(Parameter::len).sum()
    }

    /// Floating-point operations of a forward and backward pass over `batch` sequences of `length`
    /// with `rows` rows of logits: 6 per weight and row that is multiplied, 12 per pair of positions
    /// and width in the attention.
    pub fn flops(&self, batch: usize, length: usize, rows: usize) -> f64 {
        let (d, ff) = (self.d_model as f64, self.mlp_hidden_size as f64);
        let kv = (self.kv_heads() * self.head_dim()) as f64;
        let tokens = (batch * length) as f64;
        let block = 2.0 * d * d + 2.0 * d * kv + 3.0 * d * ff;
        let head = self.vocab_size as f64 * d;
        6.0 * (block * self.n_layers as f64 * tokens + head * rows as f64)
            + 12.0 * self.n_layers as f64 * tokens * length as f64 * d
    }

    /// First values of all parameters, the same for the same `seed` on every machine.
    pub fn initial(&self, seed: u64) -> Vec<Vec<f32>> {
        let all = self.parameters();
        let each = all.par_iter().enumerate().map(|(i, p)| {
            let d = p.dims.last().copied().unwrap_or(1) as f64;
            let std = match (self.init, p.role) {
                (_, Role::Norm) => return vec![1.0; p.len()],
                (Init::Mitchell, Role::Out) => 1.0 / (d * 2.0 * (p.layer + 1) as f64).sqrt(),
                (Init::Mitchell, _) => 1.0 / d.sqrt(),
                (Init::Normal, Role::Out) => self.init_std / (2.0 * self.n_layers as f64).sqrt(),
                (Init::Normal, _) => self.init_std,
            };
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(i as u64);
            let draw = || loop {
                let z: f64 = StandardNormal.sample(&mut rng);
                if z.abs() <= 3.0 {
                    return (z * std) as f32;
                }
            };
            std::iter::repeat_with(draw).take(p.len()).collect()
        });
        each.collect()
    }
}

pub(crate) fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}
