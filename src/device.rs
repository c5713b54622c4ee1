//! Devices, what fits on them, and which layers go where.
#![forbid(unsafe_code)]

use std::path::Path;

use crate::arch::{Arch, Sizes};
use crate::error::Result;
use crate::ggml::{self, Device};
pub use crate::ggml::{DeviceInfo, DeviceKind};
use crate::gguf::Gguf;
use crate::weights::{Placement, resolve};

mod plan;
mod tensors;
#[cfg(feature = "rpc")]
mod worker;

use plan::{Need, plan};
#[cfg(feature = "rpc")]
pub use worker::Worker;

/// Where a model's layers are to live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The GPU with the most free memory where it holds the model, else all GPUs, as many layers as fit;
    /// the CPU where there is none.
    #[default]
    Auto,
    /// The CPU alone.
    Cpu,
    /// The device of this name, as [`list`] gives it, or several with commas between them: the first
    /// that holds the model, else all of them in this order. `rpc://HOST:PORT` is what a worker on
    /// another machine lends (feature `rpc`).
    Named(String),
}

/// What several devices divide between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SplitMode {
    /// Layers: each device has some of them whole, and a step goes through one device after the other.
    #[default]
    Layers,
    /// Tensors: each device has a part of every layer's matrices and of the keys and values, and all compute at the
    /// same time. For two or more GPUs that one backend drives, which then take all layers.
    Tensors,
}

/// Where a model is to live, as [`LoadOptions`](crate::LoadOptions) has it.
pub(crate) struct Wanted<'a> {
    pub choice: &'a DeviceChoice,
    /// How many layers go to devices; `None` is as many as their free memory holds.
    pub gpu_layers: Option<usize>,
    /// Divides between devices; empty is by free memory.
    pub shares: &'a [f64],
    pub mode: SplitMode,
}

/// All devices of this build and machine.
///
/// # Errors
/// `Device`, when a driver throws while it is asked.
pub fn list() -> Result<Vec<DeviceInfo>> {
    ggml::devices()?.into_iter().map(Device::info).collect()
}

/// Loads backends from files `libggml-*.so` in `folder`: of each kind (CPU, CUDA, Vulkan) that is not loaded
/// yet the best for this machine. Returns how many were; the log says which, and why others were not.
///
/// A library built with the feature `dynamic-backends` searches by itself when it first needs a device: the
/// folders that the environment variable `REMASK_BACKENDS` names, then its own. What a call before that
/// loads goes first. See `docs/devices.md`.
///
/// # Errors
/// `Unsupported`, when backends are compiled into this build; `Io`, when the folder cannot be read.
#[cfg_attr(
    not(feature = "dynamic-backends"),
    allow(unused_variables, reason = "there is nothing to look for")
)]
pub fn load_backends(folder: &Path) -> Result<usize> {
    #[cfg(feature = "dynamic-backends")]
    return ggml::load_backends(folder);
    #[cfg(not(feature = "dynamic-backends"))]
    crate::bail!(
        Unsupported,
        "this build has its backends compiled in and loads none; see the feature `dynamic-backends`"
    )
}

/// What running a model takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// The weights, as the file stores them. Mapped, they are the page cache's and shared.
    pub weights: u64,
    /// What a session computes in, for a canvas of the length asked about.
    pub session: u64,
}

/// Estimates the memory for a canvas of `n_tokens` with `n_rows` masked slots.
///
/// The session's part counts the widest moment of a layer: hidden states, the feed-forward network's
/// two products, and the score matrix where attention is not flash; then the logits.
pub fn estimate(gguf: &Gguf, sizes: &Sizes, n_tokens: usize, n_rows: usize, flash: bool) -> MemoryEstimate {
    let [n, rows, d, f, v] = [n_tokens, n_rows, sizes.n_embd, sizes.n_ff, sizes.n_vocab].map(|n| n as u64);
    // Any number may be asked about: what is too large stays the largest.
    let kv = (sizes.n_rot as u64).saturating_mul(sizes.n_head_kv as u64);
    let rows_of = |width: u64| n.saturating_mul(width);
    let scores = match flash {
        true => 0,
        false => rows_of(n).saturating_mul(2 * sizes.n_head as u64),
    };
    let attention = rows_of(3 * d + kv.saturating_mul(3)).saturating_add(scores);
    let ffn = rows_of(2 * d + 3 * f);
    let logits = rows.saturating_mul(2 * v);
    let floats = rows_of(d)
        .saturating_add(attention.max(ffn))
        .saturating_add(logits);
    MemoryEstimate {
        weights: gguf.tensors.iter().map(|t| t.n_bytes).sum(),
        session: floats.saturating_mul(4),
    }
}

/// The least that is kept free on a device for what a session computes in.
const DEVICE_RESERVE: u64 = 256 << 20;

/// How Mesa describes its software driver for Vulkan. It follows pointers to buffers that are gone, where Vulkan
/// allows that they are named: `docs/devices.md`.
const SOFTWARE: &str = "llvmpipe";

/// The longest canvas that the reserve is made for; longer ones may need fewer layers on the device.
const RESERVE_CANVAS: usize = 1024;

/// Decides where each layer lives.
///
/// # Errors
/// `Device`, when no device has the name asked for, with the names there are; `Resource`, when what was
/// asked for does not fit; `InvalidArgument`, for shares that are none; `Unsupported`, for tensors that cannot be split.
pub(crate) fn place(gguf: &Gguf, arch: &dyn Arch, wanted: &Wanted<'_>) -> Result<Placement> {
    let sizes = arch.sizes();
    let &Wanted {
        choice,
        gpu_layers,
        shares,
        mode,
    } = wanted;
    let mut placement = Placement {
        layers: vec![None; sizes.n_layer],
        head: None,
        parts: None,
    };
    let devices = choose(choice)?;
    check_shares(shares, devices.len())?;
    if mode == SplitMode::Tensors {
        tensors::check(&devices, sizes, wanted)?;
    }
    if devices.is_empty() {
        if gpu_layers.unwrap_or(0) > 0 && *choice != DeviceChoice::Cpu {
            crate::log!(
                Warn,
                "{} layers were asked for on a GPU; this build and machine have none",
                gpu_layers.unwrap_or(0)
            );
        }
        return Ok(placement);
    }
    for (_, info) in devices
        .iter()
        .filter(|(_, i)| i.description.starts_with(SOFTWARE))
    {
        crate::log!(
            Warn,
            "{} ({}) is a driver that computes on the CPU, slowly, and that can end the process: for tests only",
            info.name,
            info.description
        );
    }
    let tied = gguf.tensor("output.weight").is_none();
    let after = |name: &str| name.starts_with("output") || (tied && name == "token_embd.weight");
    let head = gguf.tensors.iter().filter(|t| after(&t.name));
    let need = Need {
        layers: layer_bytes(gguf, sizes.n_layer),
        head: head.map(|t| t.n_bytes).sum(),
    };
    let n = sizes.n_ctx.min(RESERVE_CANVAS);
    let reserve = estimate(gguf, sizes, n, n / 4, true).session.max(DEVICE_RESERVE);
    // A driver that does not say how much is free is taken at its word that there is enough.
    let free = |info: &DeviceInfo| match info.memory_free {
        0 => u64::MAX,
        free => free.saturating_sub(reserve),
    };
    let free: Vec<u64> = devices.iter().map(|(_, info)| free(info)).collect();
    if mode == SplitMode::Tensors {
        let found = resolve(gguf, &arch.tensors())?;
        return tensors::place(found, sizes, &devices, (&free, reserve), shares);
    }
    let plan = plan(&need, &free, gpu_layers, shares)?;
    for (to, from) in placement.layers.iter_mut().zip(&plan.layers) {
        *to = from.map(|i| devices[i].0);
    }
    placement.head = plan.head.map(|i| devices[i].0);
    for (i, (_, info)) in devices.iter().enumerate() {
        let here = plan
            .layers
            .iter()
            .zip(&need.layers)
            .filter(|(d, _)| **d == Some(i));
        let (mut placed, mut bytes) = (0, 0u64);
        here.for_each(|(_, b)| (placed, bytes) = (placed + 1, bytes + b));
        let (and_head, bytes) = match plan.head == Some(i) {
            true => (" and the head", bytes + need.head),
            false => ("", bytes),
        };
        crate::log!(
            Info,
            "{placed} of {} layers{and_head} on {} ({}): {} MiB of weights; {} MiB are free, {} of them kept to compute in",
            sizes.n_layer,
            info.name,
            info.description,
            bytes >> 20,
            info.memory_free >> 20,
            reserve >> 20
        );
    }
    Ok(placement)
}

fn check_shares(shares: &[f64], n_devices: usize) -> Result<()> {
    if shares.is_empty() {
        return Ok(());
    }
    if shares.len() != n_devices {
        crate::bail!(
            InvalidArgument,
            "split has {} parts for {n_devices} devices; give one each",
            shares.len()
        );
    }
    let good = shares.iter().all(|s| s.is_finite() && *s >= 0.0) && shares.iter().any(|s| *s > 0.0);
    if !good {
        crate::bail!(
            InvalidArgument,
            "split is {shares:?}; its parts must be 0 or more, and one of them above 0"
        );
    }
    Ok(())
}

/// What the name of a device on another machine begins with.
const WORKER: &str = "rpc://";

fn add(chosen: &mut Vec<(Device, DeviceInfo)>, device: Device, info: DeviceInfo) {
    if !chosen.iter().any(|(d, _)| *d == device) {
        chosen.push((device, info));
    }
}

/// The devices of the choice, in the order in which layers go through them; none is the CPU.
fn choose(choice: &DeviceChoice) -> Result<Vec<(Device, DeviceInfo)>> {
    let mut all = Vec::new();
    for device in ggml::devices()? {
        all.push((device, device.info()?));
    }
    match choice {
        DeviceChoice::Cpu => Ok(Vec::new()),
        DeviceChoice::Auto => {
            all.retain(|(_, i)| matches!(i.kind, DeviceKind::Gpu | DeviceKind::IntegratedGpu));
            // One that shares the host's memory is of use where there is no other.
            if all.iter().any(|(_, i)| i.kind == DeviceKind::Gpu) {
                all.retain(|(_, i)| i.kind == DeviceKind::Gpu);
            }
            all.sort_by_key(|(_, i)| std::cmp::Reverse(i.memory_free));
            Ok(all)
        }
        DeviceChoice::Named(names) => {
            let mut chosen: Vec<(Device, DeviceInfo)> = Vec::new();
            for name in names.split(',').map(str::trim) {
                if let Some(worker) = name.strip_prefix(WORKER) {
                    for device in ggml::connect(worker)? {
                        add(&mut chosen, device, device.info()?);
                    }
                    continue;
                }
                let found = all.iter().find(|(_, i)| i.name.eq_ignore_ascii_case(name));
                let Some((device, info)) = found else {
                    let names: Vec<&str> = all.iter().map(|(_, i)| i.name.as_str()).collect();
                    crate::bail!(
                        Device,
                        "there is no device `{name}`; there are: {}",
                        names.join(", ")
                    );
                };
                if info.kind != DeviceKind::Cpu {
                    add(&mut chosen, *device, info.clone());
                }
            }
            Ok(chosen)
        }
    }
}

/// Bytes of each layer's tensors.
fn layer_bytes(gguf: &Gguf, n_layer: usize) -> Vec<u64> {
    let mut bytes = vec![0u64; n_layer];
    for tensor in &gguf.tensors {
        let layer = tensor
            .name
            .strip_prefix("blk.")
            .and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        if let Some(sum) = layer.and_then(|i| bytes.get_mut(i)) {
            *sum = sum.saturating_add(tensor.n_bytes);
        }
    }
    bytes
}
