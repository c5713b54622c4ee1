//! Low-rank adapters (LoRA, arXiv 2106.09685): instead of a matrix W, two thin ones are learned, and
//! W + alpha / rank * B A is what runs.
//!
//! It works over any engine: the engine computes the gradient of the whole matrix, of which those of A
//! and B follow. What is saved is the optimiser's memory, and what is learned is small; the gradients of
//! whole matrices are still there.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use remask::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Pass, Ranks, Updated};
use crate::objective::Batch;
use crate::optim::{State, Update, clip, norm};
use crate::shape::{Parameter, Role, Shape, invalid};

/// Settings of adapters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rows of A and columns of B; 0 learns the whole network.
    pub rank: usize,
    /// B A counts alpha / rank.
    pub alpha: f64,
    /// Matrices that get adapters, by the end of their names.
    pub targets: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        let all = [
            "q_proj", "k_proj", "v_proj", "attn_out", "ff_proj", "up_proj", "ff_out",
        ];
        Self {
            rank: 0,
            alpha: 16.0,
            targets: all.map(str::to_owned).to_vec(),
        }
    }
}

/// The matrices of `shape` that get adapters, by their numbers, and of each the parameters A and B.
///
/// # Errors
/// `InvalidArgument`, when a target fits no matrix.
pub fn adapters(shape: &Shape, config: &LoraConfig) -> Result<(Vec<usize>, Vec<Parameter>)> {
    let network = shape.parameters();
    let fits = |p: &Parameter, t: &String| {
        matches!(p.role, Role::In | Role::Out) && p.name.ends_with(&format!(".{t}.weight"))
    };
    let mut targets = config.targets.iter();
    if let Some(t) = targets.find(|t| !network.iter().any(|p| fits(p, t))) {
        return Err(invalid(format!(
            "lora.targets has `{t}`, which is the end of no matrix's name"
        )));
    }
    let (mut targets, mut parameters) = (Vec::new(), Vec::new());
    for (i, p) in network.iter().enumerate() {
        if !config.targets.iter().any(|t| fits(p, t)) {
            continue;
        }
        let stem = p.name.trim_end_matches(".weight");
        for (name, dims) in [
            ("lora_A", vec![config.rank, p.dims[1]]),
            ("lora_B", vec![p.dims[0], config.rank]),
        ] {
            parameters.push(Parameter {
                name: format!("{stem}.{name}.weight"),
                dims,
                role: p.role,
                layer: p.layer,
            });
        }
        targets.push(i);
    }
    Ok((targets, parameters))
}

/// An engine whose network is fixed but for adapters.
pub struct Lora {
    inner: Box<dyn Engine>,
    rank: usize,
    scale: f32,
    base: Vec<Vec<f32>>,
    /// For each adapted matrix its number in the network; its A and B follow each other in `state`.
    targets: Vec<usize>,
    parameters: Vec<Parameter>,
    state: Vec<State>,
}

impl Lora {
    /// Adapters for `inner`, A random and B zero: at first nothing changes.
    ///
    /// # Errors
    /// `InvalidArgument`, when the rank is 0 or a target fits no matrix.
    pub fn new(inner: Box<dyn Engine>, config: &LoraConfig, seed: u64) -> Result<Self> {
        if config.rank == 0 || !config.alpha.is_finite() {
            return Err(invalid(
                "lora.rank must be 1 or more, and lora.alpha a number".to_owned(),
            ));
        }
        let (targets, parameters) = adapters(inner.shape(), config)?;
        let each = parameters.iter().enumerate().map(|(at, p)| {
            if at % 2 == 1 {
                return vec![0.0; p.len()];
            }
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(targets[at / 2] as u64 + (1 << 40));
            let scale = 1.0 / (p.dims[1] as f64).sqrt();
            let draw = || {
                let z: f64 = StandardNormal.sample(&mut rng);
                (z * scale) as f32
            };
            std::iter::repeat_with(draw).take(p.len()).collect()
        });
        let state = each.map(|values| State {
            values,
            ..State::default()
        });
        let state = state.collect();
        Ok(Self {
            base: inner.weights(),
            inner,
            rank: config.rank,
            scale: (config.alpha / config.rank as f64) as f32,
            targets,
            parameters,
            state,
        })
    }

    /// Puts W + scale B A into the engine.
    fn merge(&mut self) -> Result<()> {
        let mut weights = self.base.clone();
        let (rank, scale) = (self.rank, self.scale);
        for (k, &i) in self.targets.iter().enumerate() {
            let (a, b) = (&self.state[2 * k].values, &self.state[2 * k + 1].values);
            let n_in = a.len() / rank;
            let rows = weights[i].par_chunks_mut(n_in).zip(b.par_chunks(rank));
            rows.for_each(|(row, b)| {
                for (b, a) in b.iter().zip(a.chunks_exact(n_in)) {
                    let b = b * scale;
                    row.iter_mut().zip(a).for_each(|(w, a)| *w += b * a);
                }
            });
        }
        self.inner.set_weights(weights)
    }

    /// Gradients of the A and B of target `k` from that of its matrix: s Bt G and s G At.
    fn project(&self, k: usize, gradient: &[f32]) -> [Vec<f32>; 2] {
        let (a, b) = (&self.state[2 * k].values, &self.state[2 * k + 1].values);
        let (r, n_in, scale) = (self.rank, a.len() / self.rank, self.scale);
        let mut of_a = vec![0.0; a.len()];
        let rows = || gradient.chunks_exact(n_in).zip(b.chunks_exact(r));
        of_a.par_chunks_mut(n_in).enumerate().for_each(|(j, sum)| {
            for (g, b) in rows() {
                let b = b[j] * scale;
                sum.iter_mut().zip(g).for_each(|(sum, g)| *sum += b * g);
            }
        });
        let mut of_b = vec![0.0; b.len()];
        let pairs = of_b.par_chunks_mut(r).zip(gradient.par_chunks(n_in));
        pairs.for_each(|(sum, g)| {
            for (sum, a) in sum.iter_mut().zip(a.chunks_exact(n_in)) {
                let dot: f32 = g.iter().zip(a).map(|(g, a)| g * a).sum();
                *sum = dot * scale;
            }
        });
        [of_a, of_b]
    }
}

impl Engine for Lora {
    fn shape(&self) -> &Shape {
        self.inner.shape()
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.parameters.clone()
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<Pass> {
        self.inner.evaluate(batch)
    }

    fn accumulate(&mut self, batch: &Batch) -> Result<Pass> {
        self.inner.accumulate(batch)
    }

    fn update(&mut self, update: &Update) -> Result<Updated> {
        let gradients = self.gradients();
        let grad_norm = norm(&gradients);
        if !grad_norm.is_finite() {
            return Err(Error::new(
                ErrorKind::Numeric,
                "the gradient of an adapter is no finite number",
            ));
        }
        let scale = clip(grad_norm, update.adamw.grad_clip);
        for (state, gradient) in self.state.iter_mut().zip(&gradients) {
            state.update(gradient, scale, update);
        }
        self.merge()?;
        Ok(Updated { grad_norm })
    }

    fn gradients(&self) -> Vec<Vec<f32>> {
        let whole = self.inner.gradients();
        let each = self
            .targets
            .iter()
            .enumerate()
            .flat_map(|(k, &i)| match whole.get(i) {
                Some(gradient) => self.project(k, gradient),
                None => [0, 1].map(|j| vec![0.0; self.state[2 * k + j].values.len()]),
            });
        each.collect()
    }

    fn state(&self) -> Vec<State> {
        self.state.clone()
    }

    fn set_state(&mut self, state: Vec<State>) -> Result<()> {
        let fits = |(p, s): (&Parameter, &State)| s.values.len() == p.len();
        if state.len() != self.state.len() || !self.parameters.iter().zip(&state).all(fits) {
            return Err(invalid("the state is of other adapters".to_owned()));
        }
        self.state = state;
        self.merge()
    }

    fn weights(&self) -> Vec<Vec<f32>> {
        self.inner.weights()
    }

    fn set_weights(&mut self, weights: Vec<Vec<f32>>) -> Result<()> {
        self.inner.set_weights(weights)?;
        self.base = self.inner.weights();
        self.merge()
    }

    fn logits(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        self.inner.logits(batch)
    }

    fn set_exponents(&mut self, exponents: Vec<f32>) {
        self.inner.set_exponents(exponents);
    }

    fn set_recompute(&mut self, recompute: bool) {
        self.inner.set_recompute(recompute);
    }

    fn peak_flops(&mut self) -> f64 {
        self.inner.peak_flops()
    }

    fn ranks(&self) -> Ranks {
        self.inner.ranks()
    }

    fn sum(&mut self, values: &mut [f64]) -> Result<()> {
        self.inner.sum(values)
    }
}
