//! Which part of each layer goes to which device, where devices share every layer: from sizes alone.
#![forbid(unsafe_code)]

use super::{DeviceInfo, DeviceKind, WORKER, Wanted};
use crate::arch::Sizes;
use crate::error::Result;
use crate::ggml::{Axis, Device, MOST_PARTS};
use crate::weights::{Cut, Found, Parts, Placement};

/// Whether tensors can be split between `devices`.
pub(super) fn check(devices: &[(Device, DeviceInfo)], sizes: &Sizes, wanted: &Wanted<'_>) -> Result<()> {
    let [(first, one), rest @ ..] = devices else {
        crate::bail!(
            InvalidArgument,
            "split mode `tensors` needs two or more GPUs, and there is none among the devices"
        );
    };
    let is_gpu = |i: &DeviceInfo| matches!(i.kind, DeviceKind::Gpu | DeviceKind::IntegratedGpu);
    if rest.is_empty() || devices.len() > MOST_PARTS {
        crate::bail!(
            InvalidArgument,
            "split mode `tensors` needs 2 to {MOST_PARTS} GPUs; the devices are {}",
            names(devices)
        );
    }
    if let Some((_, far)) = devices.iter().find(|(_, i)| i.name.starts_with(WORKER)) {
        crate::bail!(
            Unsupported,
            "split mode `tensors` is for GPUs of this machine, which {} is not; split layers",
            far.name
        );
    }
    let other = rest.iter().find(|(d, _)| !d.has_backend_of(*first));
    if other.is_some() || !devices.iter().all(|(_, i)| is_gpu(i)) {
        crate::bail!(
            InvalidArgument,
            "split mode `tensors` needs GPUs of one backend, as {} is; the devices are {}",
            one.name,
            names(devices)
        );
    }
    if let Some(n) = wanted.gpu_layers.filter(|&n| n < sizes.n_layer) {
        crate::bail!(
            InvalidArgument,
            "gpu_layers is {n}; in split mode `tensors` all {} layers go to the GPUs",
            sizes.n_layer
        );
    }
    if wanted.shares.contains(&0.0) {
        crate::bail!(
            InvalidArgument,
            "split is {:?}; in split mode `tensors` each device has a share above 0",
            wanted.shares
        );
    }
    Ok(())
}

fn names(devices: &[(Device, DeviceInfo)]) -> String {
    let names: Vec<&str> = devices.iter().map(|(_, i)| i.name.as_str()).collect();
    names.join(", ")
}

/// A part of every layer on each of `devices`.
pub(super) fn place(
    mut found: Vec<Found>,
    sizes: &Sizes,
    devices: &[(Device, DeviceInfo)],
    (free, reserve): (&[u64], u64),
    shares: &[f64],
) -> Result<Placement> {
    // The table stays with the CPU, unless it is the head too.
    let tied = !found.iter().any(|f| f.name.starts_with("output.weight"));
    found.retain(|f| tied || f.name != "token_embd.weight");
    let room = |((_, info), &free): (&(Device, DeviceInfo), &u64)| Room {
        name: info.name.clone(),
        free,
    };
    let rooms: Vec<_> = devices.iter().zip(free).map(room).collect();
    let parts = cut(&found, sizes, &rooms, shares)?;
    for (i, (_, info)) in devices.iter().enumerate() {
        let of = |list: &[usize], n: usize| match list.get(i) {
            Some(part) => format!("{part} of {n}"),
            None => format!("all {n}"),
        };
        crate::log!(
            Info,
            "{} key heads, {} of the hidden state and the head on {} ({}): {} MiB of weights; {} MiB are free, {} of them kept to compute in",
            of(&parts.heads, sizes.n_head_kv),
            of(&parts.hidden, sizes.n_ff),
            info.name,
            info.description,
            n_bytes(&found, &parts, i) >> 20,
            info.memory_free >> 20,
            reserve >> 20
        );
    }
    let list: Vec<Device> = devices.iter().map(|(device, _)| *device).collect();
    let joined = Device::joined(&list)?;
    Ok(Placement {
        layers: vec![Some(joined); sizes.n_layer],
        head: Some(joined),
        parts: Some(parts),
    })
}

/// A device's name and bytes that weights may take there.
struct Room {
    name: String,
    free: u64,
}

/// Parts that fit, by `shares`; without them equal ones, or by free memory where those do not fit.
///
/// # Errors
/// `Unsupported`, for a model of which nothing can be cut for so many devices; `Resource`, when it does not fit.
fn cut(found: &[Found], sizes: &Sizes, rooms: &[Room], shares: &[f64]) -> Result<Parts> {
    let equal = vec![1.0; rooms.len()];
    if !shares.is_empty() {
        return fitting(found, by(found, sizes, shares)?, rooms);
    }
    let first = fitting(found, by(found, sizes, &equal)?, rooms);
    let free: Vec<f64> = rooms.iter().map(|r| r.free as f64).collect();
    if first.is_ok() || free.iter().sum::<f64>() <= 0.0 {
        return first;
    }
    fitting(found, by(found, sizes, &free)?, rooms).or(first)
}

/// Bytes of all weights on the device with number `device`.
fn n_bytes(found: &[Found], parts: &Parts, device: usize) -> u64 {
    let each = found.iter().map(|f| f.n_bytes_on(parts, device));
    each.fold(0, u64::saturating_add)
}

/// Whether each device has room for its part.
fn fitting(found: &[Found], parts: Parts, rooms: &[Room]) -> Result<Parts> {
    for (i, room) in rooms.iter().enumerate() {
        let need = n_bytes(found, &parts, i);
        if need > room.free {
            crate::bail!(
                Resource,
                "a part of each layer takes {} MiB on {}, which has room for {} MiB; give it a smaller share, take more devices, or split layers",
                need >> 20,
                room.name,
                room.free >> 20
            );
        }
    }
    Ok(parts)
}

/// Parts by `shares`, whatever they take.
fn by(found: &[Found], sizes: &Sizes, shares: &[f64]) -> Result<Parts> {
    let parts = Parts {
        heads: divide(
            sizes.n_head_kv,
            step(found, Cut::HeadColumns, sizes.n_head_kv),
            shares,
        ),
        hidden: divide(sizes.n_ff, step(found, Cut::HiddenColumns, sizes.n_ff), shares),
    };
    if parts == Parts::default() {
        crate::bail!(
            Unsupported,
            "{} key heads and a feed-forward network of {} cannot be cut for {} devices between the blocks that weights are stored in; split layers",
            sizes.n_head_kv,
            sizes.n_ff,
            shares.len()
        );
    }
    Ok(parts)
}

/// Products of fewer rows than this leave lanes of a GPU idle.
const LANES: usize = 32;

/// Of how many of `n` units (key heads, elements of the hidden state) a multiple is cut off, so that columns are cut
/// between blocks.
fn step(found: &[Found], cut: Cut, n: usize) -> usize {
    let of_one = |f: &Found| {
        let width = usize::try_from(f.dims[Axis::Columns as usize]).unwrap_or(0) / n;
        let block = f.dtype.block_len();
        block / gcd(block, width.max(1))
    };
    // Blocks are of 1, 32 or 256: the longest is a multiple of the others.
    let blocks = found.iter().filter(|f| f.cut == Some(cut)).map(of_one).max();
    let blocks = blocks.unwrap_or(1);
    match cut == Cut::HiddenColumns && n.is_multiple_of(LANES) {
        true => blocks.max(LANES),
        false => blocks,
    }
}

fn gcd(a: usize, b: usize) -> usize {
    match b {
        0 => a,
        b => gcd(b, a % b),
    }
}

/// `n` in multiples of `step`, by shares, at least one for each; none where that cannot be.
fn divide(n: usize, step: usize, shares: &[f64]) -> Vec<usize> {
    let units = n / step;
    if !n.is_multiple_of(step) || units < shares.len() {
        return Vec::new();
    }
    let sum: f64 = shares.iter().sum();
    let (mut parts, mut begin, mut share) = (Vec::new(), 0, 0.0);
    for (i, s) in shares.iter().enumerate() {
        share += s / sum;
        let after = shares.len() - 1 - i;
        let end = match after {
            0 => units,
            _ => ((share * units as f64).round() as usize).clamp(begin + 1, units - after),
        };
        parts.push((end - begin) * step);
        begin = end;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_the_shares_and_none_is_empty() {
        assert_eq!(divide(32, 1, &[1.0, 1.0]), [16, 16]);
        assert_eq!(divide(8, 1, &[3.0, 1.0]), [6, 2]);
        assert_eq!(divide(4, 1, &[99.0, 1.0]), [3, 1]);
        assert_eq!(divide(4, 1, &[1.0, 99.0, 1.0]), [1, 2, 1]);
        assert_eq!(divide(12288, 256, &[2.0, 1.0]), [8192, 4096]);
        for shares in [vec![0.3, 0.3, 0.4], vec![1e-9, 1.0, 7.0, 0.1]] {
            let parts = divide(1024, 32, &shares);
            assert_eq!(parts.iter().sum::<usize>(), 1024);
            assert!(parts.iter().all(|p| *p >= 32 && p % 32 == 0));
        }
    }

    #[test]
    fn what_does_not_divide_stays_whole() {
        assert!(divide(1, 1, &[1.0, 1.0]).is_empty());
        assert!(divide(8, 3, &[1.0, 1.0]).is_empty());
        assert!(divide(512, 256, &[1.0, 1.0, 1.0]).is_empty());
    }
}
