//! Devices, what fits on them, and which layers go where.
#![forbid(unsafe_code)]

use crate::arch::Sizes;
use crate::error::Result;
use crate::ggml::{self, Device};
pub use crate::ggml::{DeviceInfo, DeviceKind};
use crate::gguf::Gguf;
use crate::weights::Placement;

/// Where a model's layers are to live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The GPU with the most free memory, as many layers as fit; the CPU where there is none.
    #[default]
    Auto,
    /// The CPU alone.
    Cpu,
    /// The device of this name, as [`list`] gives it.
    Named(String),
}

/// All devices of this build and machine.
///
/// # Errors
/// `Device`, when a driver throws while it is asked.
pub fn list() -> Result<Vec<DeviceInfo>> {
    ggml::devices()?.into_iter().map(Device::info).collect()
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
    let kv = (sizes.n_rot * sizes.n_head_kv) as u64;
    let scores = if flash { 0 } else { 2 * n * n * sizes.n_head as u64 };
    let attention = n * (3 * d + 3 * kv) + scores;
    let ffn = n * (2 * d + 3 * f);
    let floats = (n * d + attention.max(ffn)).saturating_add(2 * rows * v);
    MemoryEstimate {
        weights: gguf.tensors.iter().map(|t| t.n_bytes).sum(),
        session: floats.saturating_mul(4),
    }
}

/// Kept free on a device for what a session computes in.
const DEVICE_RESERVE: u64 = 512 << 20;

/// Decides where each layer lives. `gpu_layers` bounds how many go to the device; `None` is as many as
/// its free memory holds.
///
/// # Errors
/// `Device`, when no device has the name asked for, with the names there are.
pub(crate) fn place(
    gguf: &Gguf,
    sizes: &Sizes,
    choice: &DeviceChoice,
    gpu_layers: Option<usize>,
) -> Result<Placement> {
    let mut placement = Placement {
        layers: vec![None; sizes.n_layer],
        head: None,
    };
    let Some((device, info)) = choose(choice)? else {
        if gpu_layers.unwrap_or(0) > 0 && *choice != DeviceChoice::Cpu {
            crate::log!(
                Warn,
                "{} layers were asked for on a GPU; this build and machine have none",
                gpu_layers.unwrap_or(0)
            );
        }
        return Ok(placement);
    };
    let layer_bytes = layer_bytes(gguf, sizes.n_layer);
    let head_bytes: u64 = gguf
        .tensors
        .iter()
        .filter(|t| t.name.starts_with("output"))
        .map(|t| t.n_bytes)
        .sum();
    // A driver that does not say how much is free is taken at its word that there is enough.
    let mut free = match info.memory_free {
        0 => u64::MAX,
        free => free.saturating_sub(DEVICE_RESERVE),
    };
    let wanted = gpu_layers.unwrap_or(sizes.n_layer).min(sizes.n_layer);
    let mut placed = 0;
    // From the last layer backwards, so that the head's input is already on the device.
    for i in (0..sizes.n_layer).rev().take(wanted) {
        let bytes = layer_bytes.get(i).copied().unwrap_or(0);
        if gpu_layers.is_none() && bytes > free {
            break;
        }
        free = free.saturating_sub(bytes);
        placement.layers[i] = Some(device);
        placed += 1;
    }
    if placed == sizes.n_layer && head_bytes <= free {
        placement.head = Some(device);
    }
    crate::log!(
        Info,
        "{placed} of {} layers on {} ({})",
        sizes.n_layer,
        info.name,
        info.description
    );
    Ok(placement)
}

/// The device of the choice; `None` is the CPU.
fn choose(choice: &DeviceChoice) -> Result<Option<(Device, DeviceInfo)>> {
    let mut all = Vec::new();
    for device in ggml::devices()? {
        all.push((device, device.info()?));
    }
    match choice {
        DeviceChoice::Cpu => Ok(None),
        DeviceChoice::Auto => Ok(all
            .into_iter()
            .filter(|(_, i)| matches!(i.kind, DeviceKind::Gpu | DeviceKind::IntegratedGpu))
            .max_by_key(|(_, i)| (i.kind == DeviceKind::Gpu, i.memory_free))),
        DeviceChoice::Named(name) => {
            let names: Vec<String> = all.iter().map(|(_, i)| i.name.clone()).collect();
            match all.into_iter().find(|(_, i)| i.name.eq_ignore_ascii_case(name)) {
                Some((_, info)) if info.kind == DeviceKind::Cpu => Ok(None),
                Some(found) => Ok(Some(found)),
                None => crate::bail!(
                    Device,
                    "there is no device `{name}`; there are: {}",
                    names.join(", ")
                ),
            }
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
