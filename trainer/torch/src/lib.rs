//! The trainer's engine on PyTorch's library: CUDA, bf16, fused attention and AdamW, and many processes.
//!
//! All weights lie in one tensor, and so do their gradients: an update is one fused AdamW, the sum over
//! processes one all-reduce; and where processes share the optimiser's state (ZeRO-1, arXiv 1910.02054,
//! section 5.1), each updates its part: reduce-scatter, AdamW, all-gather.
//!
//! Several processes are started as `torchrun` starts them: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
//! MASTER_PORT tell each who it is.

mod ffi;
mod network;

use remask::{Error, ErrorKind, Result};
use remask_trainer::config::Config;
use remask_trainer::engine::{Engine, Pass, Precision, Ranks, Updated};
use remask_trainer::objective::Batch;
use remask_trainer::optim::{State, Update, average_decay, clip};
use remask_trainer::shape::{Parameter, Shape};
use tch::{Device, Kind, TchError, Tensor};

use network::{Network, Tensors};

/// Makes `run.engine = "torch"` known.
pub fn register() {
    remask_trainer::engine::register("torch", |config| Ok(Box::new(Torch::open(config)?)));
}

/// The engine.
pub struct Torch {
    shape: Shape,
    parameters: Vec<Parameter>,
    device: Device,
    kind: Kind,
    /// All weights one behind the other, filled up to a multiple of the processes.
    flat: Tensor,
    /// What `flat` holds, by parameter: leaves of the graph over the same memory.
    weights: Vec<Tensor>,
    gradient: Tensor,
    /// Averages of gradients and their squares, from the first update on: of this process's part where
    /// processes share them.
    moments: Option<[Tensor; 2]>,
    average: Option<Tensor>,
    exponents: Vec<f32>,
    recompute: bool,
    world: World,
}

/// Values that a head computes logits of at once where memory is short.
const HEAD_ROWS: i64 = 1024;

fn failed(e: TchError) -> Error {
    let text = e.to_string();
    let first = text.lines().next().unwrap_or_default().to_owned();
    let kind = match text.contains("out of memory") {
        true => ErrorKind::Resource,
        false => ErrorKind::Device,
    };
    Error::new(kind, first)
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

impl Torch {
    /// The engine that a configuration asks for, with the first weights of its seed.
    ///
    /// # Errors
    /// `InvalidArgument`, for a device that is not there; `Device`, when processes do not find each other.
    pub fn open(config: &Config) -> Result<Self> {
        let shape = &config.model;
        shape.check()?;
        let world = World::from_environment(config)?;
        let device = device(&config.run.device, world.local)?;
        let threads = i32::try_from(config.n_threads()).unwrap_or(1);
        tch::set_num_threads(threads);
        let n = shape.n_parameters().next_multiple_of(world.ranks.n);
        let zeros = || Tensor::f_zeros([n as i64], (Kind::Float, device)).map_err(failed);
        let mut engine = Self {
            shape: shape.clone(),
            parameters: shape.parameters(),
            device,
            kind: match config.run.precision {
                Precision::F32 => Kind::Float,
                Precision::Bf16 => Kind::BFloat16,
            },
            flat: zeros()?,
            weights: Vec::new(),
            gradient: zeros()?,
            moments: None,
            average: None,
            exponents: Vec::new(),
            recompute: false,
            world,
        };
        engine.divide().map_err(failed)?;
        engine.set_weights(shape.initial(config.seed))?;
        Ok(engine)
    }

    /// Lays the leaves over `flat`.
    fn divide(&mut self) -> std::result::Result<(), TchError> {
        self.weights.clear();
        let mut at = 0;
        for p in &self.parameters {
            let n = p.len() as i64;
            let dims: Vec<i64> = p.dims.iter().map(|&d| d as i64).collect();
            let view = self.flat.f_narrow(0, at, n)?.f_view(dims.as_slice())?;
            self.weights.push(view.f_detach()?.f_set_requires_grad(true)?);
            at += n;
        }
        Ok(())
    }

    /// Adds gradients of parameters to the sums; those that a part of the network does not touch are absent.
    fn add(&self, gradients: &[(usize, Tensor)]) -> std::result::Result<(), TchError> {
        let mut starts = vec![0i64];
        for p in &self.parameters {
            starts.push(starts[starts.len() - 1] + p.len() as i64);
        }
        for (i, gradient) in gradients {
            let n = self.parameters[*i].len() as i64;
            let mut sum = self.gradient.f_narrow(0, starts[*i], n)?;
            let _ = sum.f_add_(&gradient.f_reshape([n])?)?;
        }
        Ok(())
    }

    fn indices(&self, values: &[u32]) -> Tensors {
        let values: Vec<i64> = values.iter().map(|&v| i64::from(v)).collect();
        Tensor::f_from_slice(&values)?.f_to_device(self.device)
    }

    fn floats(&self, values: &[f32]) -> Tensors {
        Tensor::f_from_slice(values)?.f_to_device(self.device)
    }

    fn network(&self, batch: &Batch) -> std::result::Result<Network<'_>, TchError> {
        Network::new(&self.shape, &self.weights, self.kind, self.device, batch)
    }

    /// Log-probabilities of the targets of rows `from..from + n`, their mean exponents, and their part of
    /// the loss.
    fn head(
        &self,
        network: &Network<'_>,
        x: &Tensor,
        batch: &Batch,
        rows: std::ops::Range<usize>,
        pass: &mut Pass,
    ) -> Tensors {
        let n = rows.len() as i64;
        let log_probs = network.logits(x)?.f_log_softmax(-1, Kind::Float)?;
        let targets = self.indices(&batch.targets[rows.clone()])?.f_view([n, 1])?;
        let own = log_probs.f_gather(1, &targets, false)?.f_view([n])?;
        let weights = self.floats(&batch.weights[rows.clone()])?;
        let mut loss = own.f_mul(&weights)?.f_sum(Kind::Float)?.f_neg()?;
        pass.log_probs.extend(values(&own)?);
        if !batch.rate_weights.is_empty() {
            let exponents = self.floats(&self.exponents)?.f_view([-1, 1])?;
            let rates = log_probs.f_exp()?.f_matmul(&exponents)?.f_view([n])?;
            let weights = self.floats(&batch.rate_weights[rows])?;
            loss = loss.f_add(&rates.f_mul(&weights)?.f_sum(Kind::Float)?)?;
            pass.rates.extend(values(&rates)?);
        }
        Ok(loss)
    }

    /// The pass that keeps everything until the gradients are there.
    fn plain(&self, batch: &Batch) -> std::result::Result<Pass, TchError> {
        let network = self.network(batch)?;
        let x = network.states(&self.indices(&batch.tokens)?, &self.indices(&batch.slots)?)?;
        let mut pass = Pass::default();
        let loss = self.head(&network, &x, batch, 0..batch.slots.len(), &mut pass)?;
        let gradients = Tensor::f_run_backward(&[loss], &self.weights, false, false)?;
        self.add(&gradients.into_iter().enumerate().collect::<Vec<_>>())?;
        Ok(pass)
    }

    /// The pass that keeps the input of each block, computes a block again for its gradients, and the head
    /// in parts.
    fn recomputed(&self, batch: &Batch) -> std::result::Result<Pass, TchError> {
        let n = self.shape.n_layers;
        let network = self.network(batch)?;
        let (tokens, slots) = (self.indices(&batch.tokens)?, self.indices(&batch.slots)?);
        let mut inputs = tch::no_grad(|| -> std::result::Result<Vec<Tensor>, TchError> {
            let mut inputs = vec![network.embed(&tokens)?];
            for i in 0..n {
                inputs.push(network.block(i, &inputs[i], (i + 1 == n).then_some(&slots))?);
            }
            Ok(inputs)
        })?;
        let missing = || TchError::Torch("a block got no gradient".to_owned());
        let top = inputs.pop().ok_or_else(missing)?;
        let mut pass = Pass::default();
        // The parameters of the head: the last norm and the table that logits are made with.
        let norm = 1 + n * remask_trainer::shape::place::N;
        let of_head = [norm, if self.shape.weight_tying { 0 } else { norm + 1 }];
        let mut above = Vec::new();
        let rows = batch.slots.len();
        for begin in (0..rows).step_by(HEAD_ROWS as usize) {
            let end = (begin + HEAD_ROWS as usize).min(rows);
            let part = top.f_narrow(0, begin as i64, (end - begin) as i64)?;
            let x = part.f_detach()?.f_set_requires_grad(true)?;
            let loss = self.head(&network, &x, batch, begin..end, &mut pass)?;
            let wanted = [&self.weights[of_head[0]], &self.weights[of_head[1]], &x];
            let mut found = Tensor::f_run_backward(&[&loss], &wanted, false, false)?;
            above.push(found.pop().ok_or_else(missing)?);
            self.add(&of_head.into_iter().zip(found).collect::<Vec<_>>())?;
        }
        let mut above = Tensor::f_cat(&above, 0)?;
        for i in (0..n).rev() {
            let x = inputs
                .pop()
                .ok_or_else(missing)?
                .f_detach()?
                .f_set_requires_grad(true)?;
            let y = network.block(i, &x, (i + 1 == n).then_some(&slots))?;
            let product = y.f_mul(&above)?.f_sum(Kind::Float)?;
            let first = 1 + i * remask_trainer::shape::place::N;
            let own = first..first + remask_trainer::shape::place::N;
            let mut wanted: Vec<&Tensor> = self.weights[own.clone()].iter().collect();
            wanted.push(&x);
            let mut found = Tensor::f_run_backward(&[&product], &wanted, false, false)?;
            above = found.pop().ok_or_else(missing)?;
            self.add(&own.zip(found).collect::<Vec<_>>())?;
        }
        let product = network.embed(&tokens)?.f_mul(&above)?.f_sum(Kind::Float)?;
        let mut found = Tensor::f_run_backward(&[&product], &[&self.weights[0]], false, false)?;
        self.add(&[(0, found.pop().ok_or_else(missing)?)])?;
        Ok(pass)
    }

    /// Values by parameter.
    fn split(&self, flat: &Tensor) -> Result<Vec<Vec<f32>>> {
        let all = values(flat).map_err(failed)?;
        let mut at = 0;
        let each = self.parameters.iter().map(|p| {
            at += p.len();
            all[at - p.len()..at].to_vec()
        });
        Ok(each.collect())
    }

    /// One tensor from values by parameter, filled up with zeros.
    fn join<'a>(&self, each: impl Iterator<Item = &'a [f32]>) -> Tensors {
        let n = self.flat.size1()? as usize;
        let mut all = Vec::with_capacity(n);
        each.for_each(|values| all.extend_from_slice(values));
        all.resize(n, 0.0);
        self.floats(&all)
    }

    /// This process's part of a tensor over all parameters; all of it where nothing is shared.
    fn own(&self, whole: &Tensor) -> Tensors {
        match self.world.shares {
            false => Ok(whole.shallow_clone()),
            true => {
                let n = whole.size1()? / self.world.ranks.n as i64;
                whole.f_narrow(0, self.world.ranks.rank as i64 * n, n)
            }
        }
    }

    /// The parts of all processes.
    fn whole(&self, part: &Tensor) -> Result<Tensor> {
        match self.world.shares {
            false => Ok(part.shallow_clone()),
            true => {
                let whole = self.flat.f_empty_like().map_err(failed)?;
                self.world.all_gather(&whole, part)?;
                Ok(whole)
            }
        }
    }

    fn norm(&self, own: &Tensor) -> Result<f64> {
        let squares = own.f_square().and_then(|s| s.f_sum(Kind::Double));
        let squares = squares.and_then(|s| s.f_double_value(&[])).map_err(failed)?;
        match self.world.shares {
            false => Ok(squares.sqrt()),
            true => {
                let mut sum = [squares];
                self.world.sum(&mut sum, self.device)?;
                Ok(sum[0].sqrt())
            }
        }
    }

    fn step(&mut self, update: &Update) -> Result<f64> {
        if self.moments.is_none() {
            let own = self.own(&self.flat).map_err(failed)?;
            let zeros = || own.f_zeros_like().map_err(failed);
            self.moments = Some([zeros()?, zeros()?]);
        }
        let gradient = match self.world.shares {
            true => {
                let own = self
                    .own(&self.gradient)
                    .and_then(|g| g.f_empty_like())
                    .map_err(failed)?;
                self.world.reduce_scatter(&own, &self.gradient)?;
                own
            }
            false => {
                self.world.all_reduce(&self.gradient)?;
                self.gradient.shallow_clone()
            }
        };
        let norm = self.norm(&gradient)?;
        if !norm.is_finite() {
            return Ok(norm);
        }
        let scale = f64::from(clip(norm, update.adamw.grad_clip));
        let mut gradient = gradient;
        if scale != 1.0 {
            let _ = gradient.f_mul_scalar_(scale).map_err(failed)?;
        }
        let own = self.own(&self.flat).map_err(failed)?;
        if let Some([first, second]) = &self.moments {
            ffi::adamw(
                &own,
                &gradient,
                first,
                second,
                &ffi::AdamW {
                    step: update.step as f64,
                    lr: update.lr,
                    betas: update.adamw.betas,
                    weight_decay: update.adamw.weight_decay,
                    eps: update.adamw.eps,
                },
            )?;
        }
        if self.world.shares {
            let part = copied(&own).map_err(failed)?;
            self.world.all_gather(&self.flat, &part)?;
        }
        if update.ema > 0.0 {
            let decay = average_decay(update.ema, update.step);
            match &mut self.average {
                Some(average) => {
                    let _ = average.f_lerp_(&self.flat, 1.0 - decay).map_err(failed)?;
                }
                None => self.average = Some(copied(&self.flat).map_err(failed)?),
            }
        }
        Ok(norm)
    }
}

fn values(tensor: &Tensor) -> std::result::Result<Vec<f32>, TchError> {
    let tensor = tensor
        .f_detach()?
        .f_to_device(Device::Cpu)?
        .f_to_kind(Kind::Float)?;
    Vec::<f32>::try_from(&tensor.f_contiguous()?.f_reshape([-1])?)
}

fn copied(tensor: &Tensor) -> Tensors {
    let mut copy = tensor.f_empty_like()?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}

fn device(name: &str, local: usize) -> Result<Device> {
    let (kind, number) = name.split_once(':').unwrap_or((name, ""));
    let number = match number {
        "" => local,
        n => n.parse().map_err(|_| {
            invalid(format!(
                "run.device is `{name}`; a GPU has a number, as in cuda:1"
            ))
        })?,
    };
    match kind {
        "cpu" => Ok(Device::Cpu),
        "mps" if tch::utils::has_mps() => Ok(Device::Mps),
        "cuda" if (number as i64) < tch::Cuda::device_count() => Ok(Device::Cuda(number)),
        "cuda" => Err(invalid(format!(
            "run.device is `{name}`; PyTorch sees {} GPUs here",
            tch::Cuda::device_count()
        ))),
        _ => Err(invalid(format!(
            "run.device is `{name}`; the engine torch has cpu, cuda, cuda:1 and so on, and mps on a Mac"
        ))),
    }
}

impl Engine for Torch {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.parameters.clone()
    }

    fn weights(&self) -> Vec<Vec<f32>> {
        self.split(&self.flat).unwrap_or_default()
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
        let run = || -> std::result::Result<Pass, TchError> {
            let network = self.network(batch)?;
            let x = network.states(&self.indices(&batch.tokens)?, &self.indices(&batch.slots)?)?;
            let (mut pass, n) = (Pass::default(), batch.slots.len());
            for begin in (0..n).step_by(HEAD_ROWS as usize) {
                let rows = begin..(begin + HEAD_ROWS as usize).min(n);
                let part = x.f_narrow(0, begin as i64, rows.len() as i64)?;
                let _ = self.head(&network, &part, batch, rows, &mut pass)?;
            }
            Ok(pass)
        };
        tch::no_grad(run).map_err(failed)
    }

    fn accumulate(&mut self, batch: &Batch) -> Result<Pass> {
        batch.check(self.shape.vocab_size)?;
        if batch.slots.is_empty() {
            return Ok(Pass::default());
        }
        let pass = match self.recompute {
            true => self.recomputed(batch),
            false => self.plain(batch),
        };
        pass.map_err(failed)
    }

    fn update(&mut self, update: &Update) -> Result<Updated> {
        let grad_norm = tch::no_grad(|| self.step(update))?;
        if !grad_norm.is_finite() {
            let broken = |g: &Vec<f32>| g.iter().any(|x| !x.is_finite());
            let gradients = self.split(&self.gradient)?;
            let i = gradients.iter().position(broken).unwrap_or(0);
            let _ = self.gradient.f_zero_().map_err(failed)?;
            return Err(Error::new(
                ErrorKind::Numeric,
                format!("the gradient of {} is no finite number", self.parameters[i].name),
            ));
        }
        let _ = self.gradient.f_zero_().map_err(failed)?;
        Ok(Updated { grad_norm })
    }

    fn gradients(&self) -> Vec<Vec<f32>> {
        self.split(&self.gradient).unwrap_or_default()
    }

    fn state(&self) -> Vec<State> {
        let whole = |t: &Tensor| self.whole(t).and_then(|t| self.split(&t)).unwrap_or_default();
        let moments = self.moments.as_ref().map(|[a, b]| [whole(a), whole(b)]);
        let average = self.average.as_ref().map(|a| self.split(a).unwrap_or_default());
        let of = |all: Option<&Vec<Vec<f32>>>, i: usize| -> Vec<f32> {
            all.and_then(|all| all.get(i)).cloned().unwrap_or_default()
        };
        let states = self.weights().into_iter().enumerate().map(|(i, values)| State {
            values,
            first: of(moments.as_ref().map(|m| &m[0]), i),
            second: of(moments.as_ref().map(|m| &m[1]), i),
            average: of(average.as_ref(), i),
        });
        states.collect()
    }

    fn set_state(&mut self, state: Vec<State>) -> Result<()> {
        State::check(&state, &self.parameters)?;
        let join = |f: &dyn Fn(&State) -> &[f32]| self.join(state.iter().map(f)).map_err(failed);
        let all = |f: &dyn Fn(&State) -> &[f32]| state.iter().all(|s| !f(s).is_empty());
        let values = join(&|s| &s.values)?;
        let moments = match all(&|s| &s.first) && all(&|s| &s.second) {
            false => None,
            true => {
                let part = |whole: Tensor| self.own(&whole).and_then(|t| copied(&t)).map_err(failed);
                Some([part(join(&|s| &s.first)?)?, part(join(&|s| &s.second)?)?])
            }
        };
        let average = all(&|s| &s.average).then(|| join(&|s| &s.average)).transpose()?;
        self.moments = moments;
        self.average = average;
        tch::no_grad(|| self.flat.f_copy_(&values)).map_err(failed)?;
        self.world.broadcast(&self.flat)?;
        let _ = self.gradient.f_zero_().map_err(failed)?;
        Ok(())
    }

    fn logits(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        batch.check(self.shape.vocab_size)?;
        let run = || -> std::result::Result<Vec<f32>, TchError> {
            let network = self.network(batch)?;
            let x = network.states(&self.indices(&batch.tokens)?, &self.indices(&batch.slots)?)?;
            values(&network.logits(&x)?)
        };
        tch::no_grad(run).map_err(failed)
    }

    fn set_exponents(&mut self, mut exponents: Vec<f32>) {
        exponents.resize(self.shape.vocab_size, 1.0);
        self.exponents = exponents;
    }

    fn set_recompute(&mut self, recompute: bool) {
        self.recompute = recompute;
    }

    fn peak_flops(&mut self) -> f64 {
        let n: i64 = if self.device == Device::Cpu { 1024 } else { 8192 };
        let once = || -> std::result::Result<f64, TchError> {
            let matrix = || Tensor::f_rand([n, n], (Kind::Float, self.device))?.f_to_kind(self.kind);
            let (a, b) = (matrix()?, matrix()?);
            let wait = |x: Tensor| x.f_narrow(0, 0, 1)?.f_sum(Kind::Float)?.f_double_value(&[]);
            wait(a.f_matmul(&b)?)?;
            let clock = std::time::Instant::now();
            let times = 4;
            let mut c = a.f_matmul(&b)?;
            for _ in 1..times {
                c = a.f_matmul(&b)?;
            }
            wait(c)?;
            Ok(f64::from(times) * 2.0 * (n as f64).powi(3) / clock.elapsed().as_secs_f64())
        };
        (0..3).filter_map(|_| once().ok()).fold(0.0, f64::max)
    }

    fn ranks(&self) -> Ranks {
        self.world.ranks
    }

    fn sum(&mut self, values: &mut [f64]) -> Result<()> {
        self.world.sum(values, self.device)
    }
}

/// The processes that train together.
struct World {
    ranks: Ranks,
    /// Which of its machine's this process is.
    local: usize,
    /// Whether the optimiser's state is shared out.
    shares: bool,
    #[cfg(feature = "gloo")]
    group: Option<ffi::Group>,
}

fn number(name: &str) -> Result<Option<usize>> {
    match std::env::var(name) {
        Err(_) => Ok(None),
        Ok(text) => match text.parse() {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(invalid(format!("{name} is `{text}`; it must be a number"))),
        },
    }
}

impl World {
    fn from_environment(config: &Config) -> Result<Self> {
        let n = number("WORLD_SIZE")?.unwrap_or(1);
        let rank = number("RANK")?.unwrap_or(0);
        if n == 0 || rank >= n {
            return Err(invalid(format!("RANK is {rank} of WORLD_SIZE {n}")));
        }
        let ranks = Ranks { rank, n };
        let local = number("LOCAL_RANK")?.unwrap_or(0);
        let shares = n > 1 && config.run.zero;
        if n > 1 && cfg!(not(feature = "gloo")) {
            return Err(invalid(format!(
                "WORLD_SIZE is {n}; this build trains in one process (--features gloo or nccl for more)"
            )));
        }
        #[cfg(feature = "gloo")]
        let group = match n {
            1 => None,
            _ => {
                let host = std::env::var("MASTER_ADDR").unwrap_or_else(|_| "127.0.0.1".to_owned());
                let port = number("MASTER_PORT")?.unwrap_or(29500);
                let port = u16::try_from(port).map_err(|_| invalid(format!("MASTER_PORT is {port}")))?;
                // torchrun holds the store itself and says so.
                let held = std::env::var("TORCHELASTIC_USE_AGENT_STORE").is_ok_and(|v| v == "True");
                let nccl = config.run.device.starts_with("cuda");
                if nccl && cfg!(not(feature = "nccl")) {
                    return Err(invalid(
                        "several processes on GPUs need a build with --features nccl".to_owned(),
                    ));
                }
                if nccl {
                    device(&config.run.device, local)?;
                }
                Some(ffi::Group::open(&host, port, rank, n, rank == 0 && !held, nccl)?)
            }
        };
        Ok(Self {
            ranks,
            local,
            shares,
            #[cfg(feature = "gloo")]
            group,
        })
    }

    fn sum(&self, values: &mut [f64], device: Device) -> Result<()> {
        if self.ranks.n == 1 {
            return Ok(());
        }
        let tensor = Tensor::f_from_slice(&*values)
            .and_then(|t| t.f_to_device(device))
            .map_err(failed)?;
        self.all_reduce(&tensor)?;
        let back = tensor.f_to_device(Device::Cpu).map_err(failed)?;
        back.f_copy_data(values, values.len()).map_err(failed)
    }
}

#[cfg(feature = "gloo")]
impl World {
    fn with(&self, f: impl FnOnce(&ffi::Group) -> Result<()>) -> Result<()> {
        self.group.as_ref().map_or(Ok(()), f)
    }

    fn all_reduce(&self, tensor: &Tensor) -> Result<()> {
        self.with(|g| g.all_reduce(tensor))
    }

    fn reduce_scatter(&self, shard: &Tensor, whole: &Tensor) -> Result<()> {
        self.with(|g| g.reduce_scatter(shard, whole))
    }

    fn all_gather(&self, whole: &Tensor, shard: &Tensor) -> Result<()> {
        self.with(|g| g.all_gather(whole, shard))
    }

    fn broadcast(&self, tensor: &Tensor) -> Result<()> {
        self.with(|g| g.broadcast(tensor))
    }
}

/// Of one process nothing has to be brought together.
#[cfg(not(feature = "gloo"))]
impl World {
    fn all_reduce(&self, _: &Tensor) -> Result<()> {
        Ok(())
    }

    fn reduce_scatter(&self, _: &Tensor, _: &Tensor) -> Result<()> {
        Ok(())
    }

    fn all_gather(&self, _: &Tensor, _: &Tensor) -> Result<()> {
        Ok(())
    }

    fn broadcast(&self, _: &Tensor) -> Result<()> {
        Ok(())
    }
}
