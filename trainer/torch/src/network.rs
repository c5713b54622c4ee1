//! The forward pass (modeling_llada.py: `LLaDALlamaBlock`), over rows `[n_sequences * length, width]`.

use remask_trainer::objective::{Attention, Batch};
use remask_trainer::shape::{Shape, place};
use tch::{Device, Kind, TchError, Tensor};

pub(crate) type Tensors = std::result::Result<Tensor, TchError>;

/// What all blocks of a pass share.
pub(crate) struct Network<'a> {
    pub shape: &'a Shape,
    /// In the order of [`Shape::parameters`], f32.
    pub weights: &'a [Tensor],
    /// What products are computed in.
    pub kind: Kind,
    pub n_sequences: i64,
    pub length: i64,
    cos: Tensor,
    sin: Tensor,
    seen: Seen,
}

/// What may look at what.
enum Seen {
    All,
    Before,
    Table(Tensor),
}

impl<'a> Network<'a> {
    pub fn new(
        shape: &'a Shape,
        weights: &'a [Tensor],
        kind: Kind,
        device: Device,
        batch: &Batch,
    ) -> Result<Self, TchError> {
        let half = shape.head_dim() / 2;
        let frequency = |i: usize| shape.rope_theta.powf(-2.0 * i as f64 / shape.head_dim() as f64);
        // Angles in f32, as the reference has them with rope_full_precision.
        let angle = |at: usize| (at / half) as f32 * frequency(at % half) as f32;
        let table = |f: &dyn Fn(f32) -> f32| -> Tensors {
            let values: Vec<f32> = (0..batch.length * half).map(|at| f(angle(at))).collect();
            let table = Tensor::f_from_slice(&values)?.f_view([1, batch.length as i64, 1, half as i64])?;
            table.f_to_device(device)
        };
        Ok(Self {
            shape,
            weights,
            kind,
            n_sequences: batch.n_sequences as i64,
            length: batch.length as i64,
            cos: table(&f32::cos)?,
            sin: table(&f32::sin)?,
            seen: seen(batch, device)?,
        })
    }

    fn of_block(&self, layer: usize, place: usize) -> &Tensor {
        &self.weights[1 + layer * place::N + place]
    }

    pub fn embed(&self, tokens: &Tensor) -> Tensors {
        Tensor::f_embedding(&self.weights[0], tokens, -1, false, false)
    }

    fn norm(&self, x: &Tensor, weight: &Tensor) -> Tensors {
        let width = self.shape.d_model as i64;
        x.f_rms_norm([width], Some(weight), self.shape.rms_norm_eps)
    }

    fn linear(&self, x: &Tensor, weight: &Tensor) -> Tensors {
        let (x, weight) = (x.f_to_kind(self.kind)?, weight.f_to_kind(self.kind)?);
        x.f_matmul(&weight.f_transpose(0, 1)?)
    }

    /// The first half of a head is turned against the second.
    fn rotate(&self, x: &Tensor) -> Tensors {
        let half = (self.shape.head_dim() / 2) as i64;
        let kind = x.kind();
        let x = x.f_to_kind(Kind::Float)?;
        let (a, b) = (x.f_narrow(3, 0, half)?, x.f_narrow(3, half, half)?);
        let first = a.f_mul(&self.cos)?.f_sub(&b.f_mul(&self.sin)?)?;
        let second = b.f_mul(&self.cos)?.f_add(&a.f_mul(&self.sin)?)?;
        Tensor::f_cat(&[first, second], 3)?.f_to_kind(kind)
    }

    /// One block. With `last` the result has these rows alone: nothing reads the others.
    pub fn block(&self, layer: usize, x: &Tensor, last: Option<&Tensor>) -> Tensors {
        let heads = [self.shape.n_heads as i64, self.shape.kv_heads() as i64];
        let (n, length, size) = (self.n_sequences, self.length, self.shape.head_dim() as i64);
        let h = self.norm(x, self.of_block(layer, place::ATTN_NORM))?;
        let project = |at: usize, heads: i64| {
            let y = self.linear(&h, self.of_block(layer, at))?;
            y.f_view([n, length, heads, size])
        };
        let q = self.rotate(&project(place::Q, heads[0])?)?.f_transpose(1, 2)?;
        let k = self.rotate(&project(place::K, heads[1])?)?.f_transpose(1, 2)?;
        let v = project(place::V, heads[1])?.f_transpose(1, 2)?;
        let (table, causal) = match &self.seen {
            Seen::All => (None, false),
            Seen::Before => (None, true),
            Seen::Table(table) => (Some(table), false),
        };
        let grouped = heads[0] != heads[1];
        let mixed = Tensor::f_scaled_dot_product_attention(&q, &k, &v, table, 0.0, causal, None, grouped)?;
        let mut mixed = mixed
            .f_transpose(1, 2)?
            .f_reshape([n * length, heads[0] * size])?;
        let mut x = x.shallow_clone();
        if let Some(rows) = last {
            mixed = mixed.f_index_select(0, rows)?;
            x = x.f_index_select(0, rows)?;
        }
        let out = self.linear(&mixed, self.of_block(layer, place::ATTN_OUT))?;
        let x = x.f_add(&out)?;
        let h = self.norm(&x, self.of_block(layer, place::FF_NORM))?;
        let gate = self.linear(&h, self.of_block(layer, place::GATE))?.f_silu()?;
        let up = self.linear(&h, self.of_block(layer, place::UP))?;
        let out = self.linear(&gate.f_mul(&up)?, self.of_block(layer, place::FF_OUT))?;
        x.f_add(&out)
    }

    /// The state before the last norm, of `slots` alone.
    pub fn states(&self, tokens: &Tensor, slots: &Tensor) -> Tensors {
        let layers = self.shape.n_layers;
        let mut x = self.embed(tokens)?;
        for i in 0..layers {
            x = self.block(i, &x, (i + 1 == layers).then_some(slots))?;
        }
        Ok(x)
    }

    /// Logits, f32.
    pub fn logits(&self, x: &Tensor) -> Tensors {
        let norm = 1 + self.shape.n_layers * place::N;
        let head = match self.shape.weight_tying {
            true => 0,
            false => norm + 1,
        };
        let x = self.norm(x, &self.weights[norm])?;
        self.linear(&x, &self.weights[head])?.f_to_kind(Kind::Float)
    }
}

fn seen(batch: &Batch, device: Device) -> Result<Seen, TchError> {
    let n = batch.length;
    let (n_tables, table): (usize, Vec<bool>) = match &batch.attention {
        Attention::Full => return Ok(Seen::All),
        Attention::Causal => return Ok(Seen::Before),
        Attention::Table(seen) => (1, seen.clone()),
        Attention::Documents(numbers) => {
            let tables = numbers.chunks_exact(n).flat_map(|own| {
                let pairs = own.iter().flat_map(|a| own.iter().map(move |b| a == b));
                pairs.collect::<Vec<bool>>()
            });
            (batch.n_sequences, tables.collect())
        }
    };
    let table = Tensor::f_from_slice(&table)?;
    let table = table.f_view([n_tables as i64, 1, n as i64, n as i64])?;
    Ok(Seen::Table(table.f_to_device(device)?))
}
