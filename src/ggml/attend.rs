//! Attention by `crate::kernels`, as custom operations of a graph: one lays keys and values out, one goes
//! through the queries. For models that lie on the CPU alone.

use ggml_sys as sys;
use std::os::raw::{c_int, c_void};
use std::sync::Arc;

use super::DType;
use super::graph::{GraphBuilder, Node};
use super::product::{Clock, Queue, Shared, guarded, numbers, with_scratch};
use crate::error::Result;
use crate::kernels::{Attention, AttentionSizes, Level, Output, lay_out};

/// Both operations' facts.
pub(super) struct AttendOp {
    clocks: [Arc<Clock>; 2],
    level: Level,
    sizes: AttentionSizes,
    scale: f32,
    pieces: Queue,
    shared: Arc<Shared>,
}

impl GraphBuilder {
    /// `softmax(q k^T scale) v` by the kernels, `[n_rot, n_head, n_q]`; `None` where they cannot.
    /// - q: `[n_rot, n_head, n_q]`; k, v: `[n_rot, n_head_kv, n_kv]`
    pub fn own_attention(&mut self, q: Node, k: Node, v: Node, scale: f32) -> Result<Option<Node>> {
        let (a, b, c) = (self.dims(q)?, self.dims(k)?, self.dims(v)?);
        let Some(level) = Level::best() else {
            return Ok(None);
        };
        let sizes = AttentionSizes {
            n_rot: a[0],
            n_head: a[1],
            n_head_kv: b[1],
            n_q: a[2],
            n_kv: b[2],
        };
        let mut plain = true;
        for x in [q, k, v] {
            // SAFETY: the header is live.
            plain &= unsafe { sys::ggml_is_contiguous(self.header(x)?) } && self.dtype(x)? == DType::F32;
        }
        let tiles = sizes.n_tiles().checked_mul(sizes.tile_len());
        let fits = a[0] == b[0] && b == c && a[3] == 1 && b[3] == 1 && sizes.suit();
        if !(plain && fits && tiles.is_some() && self.all_on_host()) {
            return Ok(None);
        }
        let op = Arc::new(AttendOp {
            clocks: Default::default(),
            level,
            sizes,
            scale,
            pieces: Queue::default(),
            shared: self.own.shared(),
        });
        let data: *mut c_void = Arc::as_ptr(&op).cast_mut().cast();
        let clocks = op.clocks.clone();
        self.own.keep(op);
        let dims = [sizes.tile_len(), sizes.n_tiles()];
        let laid = self.custom(sys::GGML_TYPE_F32, dims, &[k, v], compute_layout, data)?;
        let dims = [sizes.n_rot * sizes.n_head, sizes.n_q];
        // The keys are for the profile, which counts by them.
        let node = self.custom(sys::GGML_TYPE_F32, dims, &[q, laid, k], compute_attention, data)?;
        for (node, clock) in [laid, node].into_iter().zip(clocks) {
            let value = self.get(node)?.as_ptr().cast_const();
            self.own.time(value, clock);
        }
        Ok(Some(node))
    }
}

unsafe extern "C" fn compute_layout(dst: *mut sys::ggml_tensor, ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: `own_attention` passed an `AttendOp` that lives with the graph.
    let op = unsafe { &*data.cast::<AttendOp>() };
    guarded(&op.shared, &op.clocks[0], || {
        let (ith, nth) = (usize::try_from(ith).ok()?, usize::try_from(nth).ok()?);
        // SAFETY: ggml passes a placed value with placed arguments, which are not written meanwhile.
        let k = unsafe { numbers(dst, 0) }?;
        // SAFETY: as above.
        let v = unsafe { numbers(dst, 1) }?;
        // SAFETY: the value is live.
        let out = unsafe { (*dst).data.cast::<f32>() };
        let len = op.sizes.tile_len();
        for i in (ith..op.sizes.n_tiles()).step_by(nth) {
            // SAFETY: the value is f32 of all tiles: `own_attention` made it.
            let tile = unsafe { out.add(i * len) };
            // SAFETY: as above, and every tile is one thread's.
            let tile = unsafe { std::slice::from_raw_parts_mut(tile, len) };
            lay_out(op.sizes, k, v, i, tile);
        }
        Some(())
    });
}

unsafe extern "C" fn compute_attention(
    dst: *mut sys::ggml_tensor,
    ith: c_int,
    nth: c_int,
    data: *mut c_void,
) {
    // SAFETY: `own_attention` passed an `AttendOp` that lives with the graph.
    let op = unsafe { &*data.cast::<AttendOp>() };
    guarded(&op.shared, &op.clocks[1], || {
        // SAFETY: ggml passes a placed value with placed arguments, which are not written meanwhile.
        let q = unsafe { numbers(dst, 0) }?;
        // SAFETY: as above.
        let tiles = unsafe { numbers(dst, 1) }?;
        let attention = Attention {
            sizes: op.sizes,
            q,
            tiles,
            scale: op.scale,
        };
        if !attention.fits() {
            return None;
        }
        // SAFETY: the value is live.
        let out = unsafe { (*dst).data.cast::<f32>() };
        // SAFETY: the value is f32 of the queries' sizes: `own_attention` made it. It is written through
        // this only, and threads have pieces of their own.
        let out = unsafe { Output::from_raw(out, q.len()) };
        with_scratch(&op.shared, ith, |scratch| {
            for i in op.pieces.of(op.sizes.n_pieces()) {
                // SAFETY: the queue gives every piece to one thread.
                unsafe { attention.attend(op.level, i, &out, scratch) };
            }
        })
    });
    op.pieces.leave(nth);
}
