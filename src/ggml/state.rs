//! Values that stay from one graph to the next: caches of keys and values.

use ggml_sys as sys;
use std::ptr::NonNull;
use std::sync::Arc;

use super::DType;
use super::backend::{self, Device};
use super::context::Context;
use super::graph::{GraphBuilder, Node};
use super::tensor::{Buffer, WeightSetBuilder};
use crate::error::Result;

/// Tensors that graphs write and later graphs read. Their contents are undefined until written.
pub struct StateSet {
    _context: Context,
    tensors: Vec<NonNull<sys::ggml_tensor>>,
    _buffers: Vec<Buffer>,
    n_bytes: u64,
}

// SAFETY: the headers do not change after `finish`; the data is reached only while a graph runs, and
// the session that made the set runs its graphs through one executor, behind `&mut`.
unsafe impl Send for StateSet {}
// SAFETY: as for Send: shared use reads headers only.
unsafe impl Sync for StateSet {}

/// One tensor of a [`StateSet`].
#[derive(Clone)]
pub struct State {
    set: Arc<StateSet>,
    index: usize,
}

/// A set being put together: declare all, then finish.
pub struct StateSetBuilder {
    pub(super) inner: WeightSetBuilder,
    places: Vec<(Option<Device>, usize)>,
    n_bytes: u64,
}

impl StateSetBuilder {
    /// A set of up to `n` tensors.
    ///
    /// # Errors
    /// `Resource`.
    pub fn new(n: usize) -> Result<Self> {
        Ok(Self {
            inner: WeightSetBuilder::for_usage(n, sys::GGML_BACKEND_BUFFER_USAGE_ANY)?,
            places: Vec::new(),
            n_bytes: 0,
        })
    }

    /// Declares a table of `n_rows` rows of `n` elements on `device` (`None`: the CPU) and returns its
    /// index.
    ///
    /// # Errors
    /// `Model`, when blocks of the type do not divide a row; `Limit`.
    pub fn declare(
        &mut self,
        dtype: DType,
        n: usize,
        n_rows: usize,
        device: Option<Device>,
    ) -> Result<usize> {
        let index = self.inner.declare(dtype, [n as u64, n_rows as u64, 1, 1])?;
        self.places.push((device, index));
        let row = dtype.row_bytes(n).unwrap_or(0) as u64;
        self.n_bytes = self.n_bytes.saturating_add(row.saturating_mul(n_rows as u64));
        Ok(index)
    }

    /// Takes the memory.
    ///
    /// # Errors
    /// `Resource`, when there is not enough; `Device`.
    pub fn finish(mut self) -> Result<Arc<StateSet>> {
        let mut devices: Vec<Option<Device>> = Vec::new();
        for (device, _) in &self.places {
            if !devices.contains(device) {
                devices.push(*device);
            }
        }
        for device in devices {
            let here = self.places.iter().filter(|(d, _)| *d == device);
            let indices: Vec<usize> = here.map(|(_, index)| *index).collect();
            let device = match device {
                Some(device) => device,
                None => backend::cpu()?,
            };
            self.inner.allocate(device, &indices)?;
        }
        let (context, tensors, buffers) = self.inner.into_parts()?;
        Ok(Arc::new(StateSet {
            _context: context,
            tensors,
            _buffers: buffers,
            n_bytes: self.n_bytes,
        }))
    }
}

impl StateSet {
    /// The tensor declared as number `index`.
    pub fn get(self: &Arc<Self>, index: usize) -> Option<State> {
        (index < self.tensors.len()).then(|| State {
            set: self.clone(),
            index,
        })
    }

    /// Bytes of all tensors.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }
}

impl GraphBuilder {
    /// A state as a value of this graph; its memory lives as long as the graph.
    ///
    /// # Errors
    /// `Internal`, when the graph is full.
    pub fn state(&mut self, state: &State) -> Result<Node> {
        if !self.states.iter().any(|set| Arc::ptr_eq(set, &state.set)) {
            self.states.push(state.set.clone());
        }
        let tensor = state.set.tensors.get(state.index).copied();
        let tensor = tensor.ok_or_else(|| crate::err!(Internal, "no state {}", state.index))?;
        self.push(tensor.as_ptr())
    }

    /// Writes rows of a state in place and returns it as it is afterwards: what reads the result sees
    /// the new rows.
    /// - state: `[n, n_rows]`, any type that rows can be packed to
    /// - values: `[n, k]` f32, contiguous
    /// - rows: `[k]` i32, each below n_rows: the caller checks the values (ops.cpp:5488). Rows named
    ///   twice must get equal values
    pub fn set_rows(&mut self, state: Node, values: Node, rows: Node) -> Result<Node> {
        let (s, v, r) = (self.dims(state)?, self.dims(values)?, self.dims(rows)?);
        let shapes = s[0] == v[0] && v[1] == r[0] && [s[2], s[3], v[2], v[3], r[1], r[2], r[3]] == [1; 7];
        let types = self.dtype(values)? == DType::F32 && self.dtype(rows)? == DType::I32;
        // ggml.c:4014 to 4025.
        // SAFETY: the header is live.
        let contiguous = unsafe { sys::ggml_is_contiguous(self.header(values)?) };
        if !shapes || !types || !contiguous {
            crate::bail!(Internal, "rows {r:?} of {s:?} set to {v:?}");
        }
        self.room()?;
        let (s, v, r) = (self.get(state)?, self.get(values)?, self.get(rows)?);
        // SAFETY: all values are live, of the types and shapes that ggml.c asserts, and there is room.
        let raw = unsafe { sys::ggml_set_rows(self.context.raw(), s.as_ptr(), v.as_ptr(), r.as_ptr()) };
        self.push(raw)
    }

    /// Rows `first..first + n` of a contiguous `[k, n_rows]`, as a view.
    pub fn row_range(&mut self, x: Node, first: usize, n: usize) -> Result<Node> {
        let d = self.dims(x)?;
        let end = first.checked_add(n);
        let header = self.header(x)?;
        // SAFETY: the header is live.
        let contiguous = unsafe { sys::ggml_is_contiguous(header) };
        // ggml.c asserts that a view lies inside its source.
        if !contiguous || n == 0 || d[2] * d[3] != 1 || end.is_none_or(|end| end > d[1]) {
            crate::bail!(Internal, "rows {first} to {first} + {n} of {d:?}");
        }
        let stride = header.nb[1];
        self.room()?;
        let raw = self.get(x)?.as_ptr();
        let size = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        // SAFETY: the view lies inside the value: checked above; there is room.
        let raw = unsafe {
            sys::ggml_view_2d(
                self.context.raw(),
                raw,
                size(d[0]),
                size(n),
                stride,
                stride * first,
            )
        };
        self.push(raw)
    }

    /// The numbers of the `n` rows in which `a` and `b` are least alike, by the cosine of their angle.
    /// - a, b: `[n_columns, n_rows]` f32, contiguous
    /// - result: `[n]` i32, all different
    pub fn least_alike(&mut self, a: Node, b: Node, n: usize) -> Result<Node> {
        let n_rows = self.dims(a)?[1];
        // Rows of unit length, but for a factor that all have.
        let (a, b) = (self.rms_norm(a, 1e-12)?, self.rms_norm(b, 1e-12)?);
        let product = self.mul(a, b)?;
        self.room()?;
        let raw = self.get(product)?;
        // SAFETY: the value is live and f32, and there is room.
        let raw = unsafe { sys::ggml_sum_rows(self.context.raw(), raw.as_ptr()) };
        let sums = self.push(raw)?;
        let sums = self.reshape(sums, [n_rows, 1, 1])?;
        self.room()?;
        let raw = self.get(sums)?;
        // ggml.c:5436: as many rows as an i32 counts, which positions bound.
        // SAFETY: the value is live, f32 and contiguous, and there is room.
        let raw = unsafe { sys::ggml_argsort(self.context.raw(), raw.as_ptr(), sys::GGML_SORT_ORDER_ASC) };
        let order = self.push(raw)?;
        let order = self.reshape(order, [1, n_rows, 1])?;
        let first = self.row_range(order, 0, n)?;
        self.reshape(first, [n, 1, 1])
    }

    /// Has `node` computed, for what it writes; its value is not kept.
    ///
    /// # Errors
    /// `Internal`, when the handle is not of this graph.
    pub fn compute(&mut self, node: Node) -> Result<()> {
        let tensor = self.get(node)?;
        // SAFETY: graph and tensor are live and of one context; `room` bounds the number of values.
        unsafe { sys::ggml_build_forward_expand(self.graph.as_ptr(), tensor.as_ptr()) };
        Ok(())
    }
}
