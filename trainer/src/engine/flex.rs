//! The default engine: burn's tensors, on the CPU in Rust alone, or on a GPU through Vulkan or Metal.

use burn_tensor::activation::{log_softmax, silu, softmax};
use burn_tensor::{Bool, Device as BurnDevice, Gradients, Int, Tensor, TensorData, s};
use rayon::prelude::*;
use remask::{Error, ErrorKind, Result};

use super::{Engine, Pass, Precision, Updated};
use crate::config::Config;
use crate::objective::{Attention, Batch};
use crate::optim::{State, Update, clip, norm};
use crate::shape::{Parameter, Shape, invalid, place};

/// Where tensors live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    #[default]
    Cpu,
    /// The first GPU that speaks Vulkan.
    #[cfg(feature = "vulkan")]
    Vulkan,
    /// The GPU of a Mac.
    #[cfg(feature = "metal")]
    Metal,
}

/// [`super::open`] for this engine.
pub(super) fn open(config: &Config) -> Result<Box<dyn Engine>> {
    let device = match config.run.device.as_str() {
        "cpu" => Device::Cpu,
        #[cfg(feature = "vulkan")]
        "vulkan" => Device::Vulkan,
        #[cfg(feature = "metal")]
        "metal" => Device::Metal,
        other => {
            let built_in = [
                ("vulkan", cfg!(feature = "vulkan")),
                ("metal", cfg!(feature = "metal")),
            ];
            let built_in = built_in.iter().filter(|b| b.1).map(|b| format!(", {}", b.0));
            return Err(invalid(format!(
                "run.device is `{other}`; the engine flex has cpu{}",
                built_in.collect::<String>()
            )));
        }
    };
    if config.run.precision != Precision::F32 {
        return Err(invalid(
            "run.precision is not f32; the engine flex has no other".to_owned(),
        ));
    }
    Ok(Box::new(Flex::new(&config.model, device, config.seed)?))
}

/// The engine.
pub struct Flex {
    shape: Shape,
    parameters: Vec<Parameter>,
    device: BurnDevice,
    state: Vec<State>,
    weights: Vec<Tensor<2>>,
    gradients: Vec<Vec<f32>>,
    exponents: Vec<f32>,
    recompute: bool,
}

impl Flex {
    /// An engine with the first weights of `seed`.
    ///
    /// # Errors
    /// As [`Shape::check`].
    pub fn new(shape: &Shape, device: Device, seed: u64) -> Result<Self> {
        shape.check()?;
        let states = shape.initial(seed).into_iter().map(|values| State {
            values,
            ..State::default()
        });
        let device = match device {
            Device::Cpu => BurnDevice::flex(),
            #[cfg(feature = "vulkan")]
            Device::Vulkan => BurnDevice::vulkan(burn_tensor::DeviceKind::DefaultDevice),
            #[cfg(feature = "metal")]
            Device::Metal => BurnDevice::metal(burn_tensor::DeviceKind::DefaultDevice),
        };
        let mut engine = Self {
            shape: shape.clone(),
            parameters: shape.parameters(),
            device,
            state: states.collect(),
            weights: Vec::new(),
            gradients: Vec::new(),
            exponents: Vec::new(),
            recompute: false,
        };
        engine.upload();
        Ok(engine)
    }

    fn upload(&mut self) {
        let device = &self.device;
        let tensor = |(p, s): (&Parameter, &State)| {
            let dims = match p.dims.as_slice() {
                [n] => [1, *n],
                dims => [dims[0], dims[1]],
            };
            Tensor::from_data(TensorData::new(s.values.clone(), dims), device)
        };
        self.weights = self.parameters.iter().zip(&self.state).map(tensor).collect();
    }

    fn network<'a>(&'a self, weights: &'a [Tensor<2>], device: &'a BurnDevice, batch: &Batch) -> Network<'a> {
        let s = &self.shape;
        let half = s.head_dim() / 2;
        let frequency = |i: usize| s.rope_theta.powf(-2.0 * i as f64 / s.head_dim() as f64);
        // Angles in f32, as the reference has them with rope_full_precision.
        let angle = |at: usize| (at / half) as f32 * frequency(at % half) as f32;
        let table = |f: &dyn Fn(f32) -> f32| {
            let values: Vec<f32> = (0..batch.length * half).map(|at| f(angle(at))).collect();
            Tensor::from_data(TensorData::new(values, [1, batch.length, 1, half]), device)
        };
        Network {
            shape: s,
            weights,
            n_sequences: batch.n_sequences,
            length: batch.length,
            cos: table(&f32::cos),
            sin: table(&f32::sin),
            unseen: unseen(batch, device),
        }
    }

    fn indices(&self, values: &[u32], device: &BurnDevice) -> Tensor<1, Int> {
        let values: Vec<i32> = values.iter().map(|&v| v as i32).collect();
        let n = values.len();
        Tensor::from_data(TensorData::new(values, [n]), device)
    }

    fn floats<const D: usize>(values: &[f32], dims: [usize; D], device: &BurnDevice) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values.to_vec(), dims), device)
    }

    /// Log-probabilities of targets and mean exponents from the state before the last norm, of the
    /// slots alone.
    fn head(&self, network: &Network<'_>, rows: Tensor<2>, batch: &Batch, device: &BurnDevice) -> Head {
        let n = batch.targets.len();
        let log_probs = log_softmax(network.logits(rows), 1);
        let targets = self.indices(&batch.targets, device).reshape([n, 1]);
        let rates = (!batch.rate_weights.is_empty()).then(|| {
            let exponents = Self::floats(&self.exponents, [self.exponents.len(), 1], device);
            log_probs.clone().exp().matmul(exponents)
        });
        Head {
            log_probs: log_probs.gather(1, targets),
            rates,
        }
    }

    fn add(&mut self, gradients: &mut Gradients, weights: &[Tensor<2>]) -> Result<()> {
        if self.gradients.is_empty() {
            self.gradients = self.parameters.iter().map(|p| vec![0.0; p.len()]).collect();
        }
        for (sum, weight) in self.gradients.iter_mut().zip(weights) {
            let Some(gradient) = weight.grad_remove(gradients) else {
                continue;
            };
            let values = floats_of(gradient)?;
            let pairs = sum.par_chunks_mut(1 << 16).zip(values.par_chunks(1 << 16));
            pairs.for_each(|(sum, x)| sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x));
        }
        Ok(())
    }

    /// The pass that keeps everything until the gradients are there.
    fn plain(&mut self, batch: &Batch) -> Result<Pass> {
        let device = self.device.clone().autodiff();
        let weights: Vec<Tensor<2>> = self.leaves();
        let network = self.network(&weights, &device, batch);
        let slots = self.indices(&batch.slots, &device);
        let x = network.states(self.indices(&batch.tokens, &device), slots);
        let head = self.head(&network, x, batch, &device);
        let (pass, loss) = head.loss(batch, &device)?;
        let mut gradients = loss.backward();
        self.add(&mut gradients, &weights)?;
        Ok(pass)
    }

    /// The pass that keeps the input of each block, and computes a block again for its gradients.
    fn recomputed(&mut self, batch: &Batch) -> Result<Pass> {
        let device = self.device.clone().autodiff();
        let n = self.shape.n_layers;
        let mut inputs = Vec::with_capacity(n + 1);
        {
            let network = self.network(&self.weights, &self.device, batch);
            let slots = self.indices(&batch.slots, &self.device);
            inputs.push(network.embed(self.indices(&batch.tokens, &self.device)));
            for i in 0..n {
                let last = (i + 1 == n).then(|| slots.clone());
                let next = network.block(i, inputs[i].clone(), last);
                inputs.push(next);
            }
        }
        let weights = self.leaves();
        let leaf = |x: Tensor<2>| -> Result<Tensor<2>> {
            let dims = x.dims();
            Ok(Self::floats(&floats_of(x)?, dims, &device).require_grad())
        };
        let Some(top) = inputs.pop() else {
            return Err(invalid("a network has layers".to_owned()));
        };
        let x = leaf(top)?;
        let network = self.network(&weights, &device, batch);
        let (pass, loss) = self
            .head(&network, x.clone(), batch, &device)
            .loss(batch, &device)?;
        let mut gradients = loss.backward();
        let missing = || invalid("a block got no gradient".to_owned());
        let mut above = x.grad_remove(&mut gradients).ok_or_else(missing)?;
        let mut all = vec![gradients];
        for i in (0..n).rev() {
            let Some(input) = inputs.pop() else {
                break;
            };
            let x = leaf(input)?;
            let slots = self.indices(&batch.slots, &device);
            let y = network.block(i, x.clone(), (i + 1 == n).then_some(slots));
            let dims = above.dims();
            let fixed = Self::floats(&floats_of(above)?, dims, &device);
            let mut gradients = (y * fixed).sum().backward();
            above = x.grad_remove(&mut gradients).ok_or_else(missing)?;
            all.push(gradients);
        }
        let dims = above.dims();
        let fixed = Self::floats(&floats_of(above)?, dims, &device);
        let x = network.embed(self.indices(&batch.tokens, &device));
        all.push((x * fixed).sum().backward());
        drop(network);
        for gradients in &mut all {
            self.add(gradients, &weights)?;
        }
        Ok(pass)
    }

    fn leaves(&self) -> Vec<Tensor<2>> {
        let each = self.weights.iter().map(|w| w.clone().autodiff().require_grad());
        each.collect()
    }
}

struct Head {
    log_probs: Tensor<2>,
    rates: Option<Tensor<2>>,
}

impl Head {
    fn loss(self, batch: &Batch, device: &BurnDevice) -> Result<(Pass, Tensor<1>)> {
        let n = batch.targets.len();
        let weights = Flex::floats(&batch.weights, [n, 1], device);
        let mut loss = -(self.log_probs.clone() * weights).sum();
        let mut pass = Pass {
            log_probs: floats_of(self.log_probs)?,
            rates: Vec::new(),
        };
        if let Some(rates) = self.rates {
            let weights = Flex::floats(&batch.rate_weights, [n, 1], device);
            loss = loss + (rates.clone() * weights).sum();
            pass.rates = floats_of(rates)?;
        }
        Ok((pass, loss))
    }
}

fn floats_of<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let values = tensor.try_into_vec_as::<f32>();
    values.map_err(|e| Error::new(ErrorKind::Device, format!("a tensor was not readable: {e}")))
}

/// Which slots must not be seen from which, `[n_sequences or 1, 1, length, length]`; `None` where all is
/// seen.
fn unseen(batch: &Batch, device: &BurnDevice) -> Option<Tensor<4, Bool>> {
    let n = batch.length;
    let (n_tables, table): (usize, Vec<bool>) = match &batch.attention {
        Attention::Full => return None,
        Attention::Causal => (1, (0..n * n).map(|at| at % n > at / n).collect()),
        Attention::Table(seen) => (1, seen.iter().map(|seen| !seen).collect()),
        Attention::Documents(numbers) => {
            let tables = numbers.chunks_exact(n).flat_map(|own| {
                let pairs = own.iter().flat_map(|a| own.iter().map(move |b| a != b));
                pairs.collect::<Vec<bool>>()
            });
            (batch.n_sequences, tables.collect())
        }
    };
    Some(Tensor::from_data(
        TensorData::new(table, [n_tables, 1, n, n]),
        device,
    ))
}

/// The forward pass (modeling_llada.py: `LLaDALlamaBlock`), over rows `[n_sequences * length, width]`.
struct Network<'a> {
    shape: &'a Shape,
    weights: &'a [Tensor<2>],
    n_sequences: usize,
    length: usize,
    cos: Tensor<4>,
    sin: Tensor<4>,
    unseen: Option<Tensor<4, Bool>>,
}

impl Network<'_> {
    fn of_block(&self, layer: usize, place: usize) -> Tensor<2> {
        self.weights[1 + layer * place::N + place].clone()
    }

    fn embed(&self, tokens: Tensor<1, Int>) -> Tensor<2> {
        self.weights[0].clone().select(0, tokens)
    }

    fn norm(&self, x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
        let squares = (x.clone() * x.clone()).mean_dim(1);
        let scale = (squares + self.shape.rms_norm_eps).sqrt().recip();
        x * scale * weight
    }

    fn linear(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
        x.matmul(weight.transpose())
    }

    /// The first half of a head is turned against the second.
    fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let half = self.shape.head_dim() / 2;
        let a = x.clone().slice(s![.., .., .., 0..half]);
        let b = x.slice(s![.., .., .., half..]);
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let first = a.clone() * cos.clone() - b.clone() * sin.clone();
        let second = b * cos + a * sin;
        Tensor::cat(vec![first, second], 3)
    }

    /// One block. With `last` the result has these rows alone: nothing reads the others.
    fn block(&self, layer: usize, x: Tensor<2>, last: Option<Tensor<1, Int>>) -> Tensor<2> {
        let (heads, kv_heads) = (self.shape.n_heads, self.shape.kv_heads());
        let (n, length, size) = (self.n_sequences, self.length, self.shape.head_dim());
        let h = self.norm(x.clone(), self.of_block(layer, place::ATTN_NORM));
        let project = |at: usize, heads: usize| {
            let y = Self::linear(h.clone(), self.of_block(layer, at));
            y.reshape([n, length, heads, size])
        };
        let q = self.rotate(project(place::Q, heads)).swap_dims(1, 2);
        let k = self.rotate(project(place::K, kv_heads)).swap_dims(1, 2);
        let v = project(place::V, kv_heads).swap_dims(1, 2);
        let repeated = |x: Tensor<4>| match heads / kv_heads {
            1 => x,
            times => {
                let wide: Tensor<5> = x.reshape([n, kv_heads, 1, length, size]);
                wide.expand([n, kv_heads, times, length, size])
                    .reshape([n, heads, length, size])
            }
        };
        let (k, v) = (repeated(k), repeated(v));
        let mut scores = (q / (size as f64).sqrt()).matmul(k.swap_dims(2, 3));
        if let Some(unseen) = &self.unseen {
            scores = scores.mask_fill(
                unseen.clone().expand([n, heads, length, length]),
                f32::NEG_INFINITY,
            );
        }
        let mixed = softmax(scores, 3).matmul(v).swap_dims(1, 2);
        let mut mixed = mixed.reshape([n * length, heads * size]);
        let mut x = x;
        if let Some(rows) = last {
            mixed = mixed.select(0, rows.clone());
            x = x.select(0, rows);
        }
        let x = x + Self::linear(mixed, self.of_block(layer, place::ATTN_OUT));
        let h = self.norm(x.clone(), self.of_block(layer, place::FF_NORM));
        let gate = silu(Self::linear(h.clone(), self.of_block(layer, place::GATE)));
        let up = Self::linear(h, self.of_block(layer, place::UP));
        x + Self::linear(gate * up, self.of_block(layer, place::FF_OUT))
    }

    /// The state before the last norm, of `slots` alone.
    fn states(&self, tokens: Tensor<1, Int>, slots: Tensor<1, Int>) -> Tensor<2> {
        let layers = self.shape.n_layers;
        (0..layers).fold(self.embed(tokens), |x, i| {
            self.block(i, x, (i + 1 == layers).then(|| slots.clone()))
        })
    }

    fn logits(&self, x: Tensor<2>) -> Tensor<2> {
        let norm = 1 + self.shape.n_layers * place::N;
        let head = match self.shape.weight_tying {
            true => 0,
            false => norm + 1,
        };
        Self::linear(
            self.norm(x, self.weights[norm].clone()),
            self.weights[head].clone(),
        )
    }
}

impl Engine for Flex {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.parameters.clone()
    }

    fn weights(&self) -> Vec<Vec<f32>> {
        self.state.iter().map(|s| s.values.clone()).collect()
    }

    fn set_weights(&mut self, weights: Vec<Vec<f32>>) -> Result<()> {
        let states = weights.into_iter().map(|values| State {
            values,
            ..State::default()
        });
        self.set_state(states.collect())
    }

    fn evaluate(&mut self, batch: &Batch) -> Result<Pass> {
        batch.check(self.shape.vocab_size)?;
        if batch.slots.is_empty() {
            return Ok(Pass::default());
        }
        let network = self.network(&self.weights, &self.device, batch);
        let slots = self.indices(&batch.slots, &self.device);
        let x = network.states(self.indices(&batch.tokens, &self.device), slots);
        let head = self.head(&network, x, batch, &self.device);
        Ok(Pass {
            log_probs: floats_of(head.log_probs)?,
            rates: head.rates.map(floats_of).transpose()?.unwrap_or_default(),
        })
    }

    fn accumulate(&mut self, batch: &Batch) -> Result<Pass> {
        batch.check(self.shape.vocab_size)?;
        if batch.slots.is_empty() {
            return Ok(Pass::default());
        }
        match self.recompute {
            true => self.recomputed(batch),
            false => self.plain(batch),
        }
    }

    fn update(&mut self, update: &Update) -> Result<Updated> {
        let gradients = std::mem::take(&mut self.gradients);
        let grad_norm = norm(&gradients);
        if !grad_norm.is_finite() {
            let broken = |g: &Vec<f32>| g.iter().any(|x| !x.is_finite());
            let i = gradients.iter().position(broken).unwrap_or(0);
            return Err(Error::new(
                ErrorKind::Numeric,
                format!("the gradient of {} is no finite number", self.parameters[i].name),
            ));
        }
        let scale = clip(grad_norm, update.adamw.grad_clip);
        for (i, state) in self.state.iter_mut().enumerate() {
            let zeros;
            let gradient = match gradients.get(i) {
                Some(gradient) => gradient,
                None => {
                    zeros = vec![0.0; state.values.len()];
                    &zeros
                }
            };
            state.update(gradient, scale, update);
        }
        self.upload();
        Ok(Updated { grad_norm })
    }

    fn gradients(&self) -> Vec<Vec<f32>> {
        self.gradients.clone()
    }

    fn state(&self) -> Vec<State> {
        self.state.clone()
    }

    fn set_state(&mut self, state: Vec<State>) -> Result<()> {
        State::check(&state, &self.parameters)?;
        self.state = state;
        self.gradients.clear();
        self.upload();
        Ok(())
    }

    fn logits(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        batch.check(self.shape.vocab_size)?;
        let network = self.network(&self.weights, &self.device, batch);
        let slots = self.indices(&batch.slots, &self.device);
        let x = network.states(self.indices(&batch.tokens, &self.device), slots);
        floats_of(network.logits(x))
    }

    fn set_exponents(&mut self, mut exponents: Vec<f32>) {
        exponents.resize(self.shape.vocab_size, 1.0);
        self.exponents = exponents;
    }

    fn set_recompute(&mut self, recompute: bool) {
        self.recompute = recompute;
    }

    fn peak_flops(&mut self) -> f64 {
        peak_flops(&self.device)
    }
}

/// Floating-point operations a second of a large matrix product: the best of three.
fn peak_flops(device: &BurnDevice) -> f64 {
    const N: usize = 1024;
    let values =
        |seed: usize| -> Vec<f32> { (0..N * N).map(|i| ((i * 31 + seed) % 17) as f32 / 17.0).collect() };
    let tensor = |seed| Tensor::<2>::from_data(TensorData::new(values(seed), [N, N]), device);
    let (a, b) = (tensor(1), tensor(2));
    let once = |_| {
        let clock = std::time::Instant::now();
        let c = a.clone().matmul(b.clone());
        std::hint::black_box(c.into_data());
        2.0 * (N as f64).powi(3) / clock.elapsed().as_secs_f64()
    };
    (0..4).map(once).fold(0.0, f64::max)
}
