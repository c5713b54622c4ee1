//! Several devices as one, each of which holds a part of every matrix and computes with it: ggml's meta device.
//!
//! How a tensor is cut is said before its memory is taken. ggml then derives from a graph how each of its values is
//! cut, and ends the process where it finds no way. What stands in for the assertions of ggml-backend-meta.cpp:
//!
//! - of weights and caches (847 to 854, 1266): [`WeightSetBuilder::cut`]; of their uploads (1498 to 1513): whole
//!   pieces, see [`WeightSetBuilder::upload_step`];
//! - of the number of devices, their backends and alignments (203 to 301, 1848, 1856): [`Device::joined`] and the planner,
//!   which takes devices of one backend;
//! - of operations (541 to 609, 650 to 716, 758 to 793, 866, 1066 to 1108, 1159 to 1237): matrices are cut by whole rows or
//!   whole blocks of columns, keys and values by whole heads with all of their queries, all else is whole. Graphs of
//!   `arch` then have a way for each operation, but for grouped heads without flash attention (601) and for the search
//!   for changed slots (547), which the session refuses, and for draws (541), which it leaves to the host; and an
//!   operation that a device lacks would go to the CPU ([`SplitEngine::reserve`](super::split::SplitEngine::reserve));
//! - of inputs and outputs (1463 to 1524, 1880 to 1885): they are whole on each device, and so is what the sum over
//!   devices is made of contiguous (2366, 2367);
//! - of memory (1714, 1771): `remask_shim_parts_alloc`, and a graph is measured first.
//!
//! The others are of ggml's own bookkeeping, or of operations that no graph has. One that does not hold all the same
//! becomes an error in `shim.cpp`: the calls that lead here are guarded and stay on their thread.

use ggml_sys as sys;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard};

use super::backend::Device;
use super::shim;
use super::state::StateSetBuilder;
use super::tensor::WeightSetBuilder;
use crate::error::Result;

/// The most devices that work as one: as many as a tensor's header has room to say the parts of, see `shim.cpp`.
pub const MOST_PARTS: usize = 15;

/// A device made of several, and what it was made of.
struct Joined {
    device: Device,
    parts: Vec<Device>,
    /// See [`take_turn`].
    turn: &'static Mutex<()>,
}

/// All that were made. ggml keeps them for ever and finds them in tables that it does not lock; this does.
static JOINED: Mutex<Vec<Joined>> = Mutex::new(Vec::new());

fn joined() -> MutexGuard<'static, Vec<Joined>> {
    JOINED.lock().unwrap_or_else(|e| e.into_inner())
}

/// Held while ggml looks into its tables of joined devices.
pub(super) fn tables() -> impl Drop {
    joined()
}

/// Held while a graph is placed or run on `device`, where it is a joined one: its buffers, those of weights too, keep
/// tables that every graph changes.
pub(super) fn take_turn(device: Device) -> Option<MutexGuard<'static, ()>> {
    let turn = joined().iter().find(|j| j.device == device).map(|j| j.turn)?;
    Some(turn.lock().unwrap_or_else(|e| e.into_inner()))
}

impl Device {
    /// One device made of `parts`, 2 to [`MOST_PARTS`] that one backend drives. The same parts give the same device.
    ///
    /// # Errors
    /// `Internal`, for another number of them; `Device`.
    pub fn joined(parts: &[Device]) -> Result<Self> {
        // ggml-backend-meta.cpp asserts 16 at most.
        if !(2..=MOST_PARTS).contains(&parts.len()) {
            crate::bail!(Internal, "{} devices are to work as one", parts.len());
        }
        let mut all = joined();
        if let Some(found) = all.iter().find(|j| j.parts == parts) {
            return Ok(found.device);
        }
        let mut raw: Vec<sys::ggml_backend_dev_t> = parts.iter().map(|d| d.raw()).collect();
        let mut device = std::ptr::null_mut();
        // SAFETY: the array holds live devices, as many as stated; `device` is writable.
        let code = unsafe { shim::remask_shim_joined_device(raw.as_mut_ptr(), raw.len(), &mut device) };
        shim::check(code, "join devices")?;
        let device =
            NonNull::new(device).ok_or_else(|| crate::err!(Resource, "no memory to join devices"))?;
        let device = Device::from_raw(device);
        all.push(Joined {
            device,
            parts: parts.to_vec(),
            turn: Box::leak(Box::default()),
        });
        Ok(device)
    }

    /// The devices that it was made of; none for one of its own.
    pub fn parts(self) -> Vec<Device> {
        let all = joined();
        let found = all.iter().find(|j| j.device == self);
        found.map_or_else(Vec::new, |j| j.parts.clone())
    }

    /// Whether one backend drives both.
    pub fn has_backend_of(self, other: Device) -> bool {
        // SAFETY: the device is live; the call returns a field of it.
        let mine = unsafe { sys::ggml_backend_dev_backend_reg(self.raw()) };
        // SAFETY: as above.
        mine == unsafe { sys::ggml_backend_dev_backend_reg(other.raw()) }
    }
}

/// Where a tensor is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Between its columns: each device holds a piece of each row.
    Columns = 0,
    /// Between its rows.
    Rows = 1,
}

impl WeightSetBuilder {
    /// Has tensor `index` cut along `axis` where a joined device allocates it: `parts` says how many columns or rows
    /// each of the devices gets.
    ///
    /// # Errors
    /// `Internal`, for parts that are not the tensor's, are empty, or cut through a block.
    pub fn cut(&mut self, index: usize, axis: Axis, parts: &[u64]) -> Result<()> {
        let mut tensor = self.tensor(index)?;
        // SAFETY: the header is live and this builder's own.
        let header = unsafe { tensor.as_mut() };
        let block = match axis {
            Axis::Columns => super::DType::of(header).block_len() as u64,
            Axis::Rows => 1,
        };
        // ggml-backend-meta.cpp:847 and 851 assert whole blocks and the sum.
        let whole = parts.iter().all(|&n| n > 0 && n.is_multiple_of(block));
        let sum = parts.iter().try_fold(0u64, |sum, &n| sum.checked_add(n));
        let fits = sum.and_then(|n| i32::try_from(n).ok()).map(i64::from) == Some(header.ne[axis as usize]);
        if !whole || !fits || parts.len() > MOST_PARTS {
            crate::bail!(Internal, "tensor {index} of {:?} cut into {parts:?}", header.ne);
        }
        header.op_params[MOST_PARTS] = axis as i32 + 1;
        for (to, &n) in header.op_params.iter_mut().zip(parts) {
            *to = n as i32;
        }
        Ok(())
    }

    /// Bytes of which a multiple is uploaded at a time: 1 but for a tensor that is cut.
    pub fn upload_step(&self, index: usize) -> Result<usize> {
        let tensor = self.tensor(index)?;
        // SAFETY: the header is live.
        let header = unsafe { tensor.as_ref() };
        Ok(match header.op_params[MOST_PARTS] {
            0 => 1,
            axis => header.nb[axis as usize].max(1),
        })
    }

    /// Takes memory for a part of each tensor of `indices` on each device that `kind` is of.
    pub(super) fn allocate_parts(
        &mut self,
        kind: sys::ggml_backend_buffer_type_t,
        indices: &[usize],
    ) -> Result<()> {
        let mut tensors = Vec::new();
        for &index in indices {
            tensors.push(self.tensor(index)?.as_ptr());
            if std::mem::replace(&mut self.placed[index], true) {
                crate::bail!(Internal, "weight {index} is placed twice");
            }
        }
        let mut raw = std::ptr::null_mut();
        // ggml takes the number as an int; a table of tensors is far smaller.
        // SAFETY: the buffer type is live, the array holds live headers without memory, `raw` is writable.
        let code =
            unsafe { shim::remask_shim_parts_alloc(kind, tensors.as_mut_ptr(), tensors.len(), &mut raw) };
        shim::check(code, "allocate memory for weights")?;
        self.own(raw)?;
        Ok(())
    }
}

impl StateSetBuilder {
    /// Has the rows of state `index` cut, see [`WeightSetBuilder::cut`].
    ///
    /// # Errors
    /// As there.
    pub fn cut(&mut self, index: usize, parts: &[u64]) -> Result<()> {
        self.inner.cut(index, Axis::Columns, parts)
    }
}

#[cfg(test)]
mod tests {
    use super::super::DType;
    use super::*;

    #[test]
    fn tensors_are_cut_into_whole_blocks_that_add_up() {
        let mut builder = WeightSetBuilder::new(3).unwrap();
        let floats = builder.declare(DType::F32, [64, 8, 1, 1]).unwrap();
        let blocks = builder.declare(DType::Q8_0, [64, 8, 1, 1]).unwrap();
        let whole = builder.declare(DType::F32, [64, 1, 1, 1]).unwrap();
        for (axis, parts) in [
            (Axis::Rows, &[4, 3][..]),
            (Axis::Rows, &[8, 0]),
            (Axis::Rows, &[u64::MAX, 9]),
            (Axis::Columns, &[48, 48]),
            (Axis::Rows, &[1; 16]),
        ] {
            assert!(builder.cut(floats, axis, parts).is_err(), "{axis:?} {parts:?}");
        }
        assert!(builder.cut(blocks, Axis::Columns, &[48, 16]).is_err());
        assert_eq!(builder.upload_step(floats).unwrap(), 1);
        builder.cut(floats, Axis::Rows, &[5, 3]).unwrap();
        builder.cut(blocks, Axis::Columns, &[32, 32]).unwrap();
        // The whole of a tensor that is cut between rows, a row of one between columns.
        assert_eq!(builder.upload_step(floats).unwrap(), 4 * 64 * 8);
        assert_eq!(builder.upload_step(blocks).unwrap(), 2 * 34);
        assert_eq!(builder.upload_step(whole).unwrap(), 1);
    }

    #[test]
    fn one_device_is_not_joined() {
        let cpu = super::super::backend::cpu().unwrap();
        assert!(Device::joined(&[cpu]).is_err() && cpu.parts().is_empty());
        assert!(cpu.has_backend_of(cpu));
    }
}
