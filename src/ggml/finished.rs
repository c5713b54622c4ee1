//! Finished graphs: what an executor keeps of a builder.

use ggml_sys as sys;
use std::ptr::NonNull;
use std::sync::Arc;

use super::context::Context;
use super::graph::{GraphBuilder, Node};
use super::product::Products;
use super::state::StateSet;
use super::tensor::WeightSet;
use super::{DType, shim};
use crate::error::Result;

/// A finished graph: its headers and the weights that they point to.
pub struct Graph {
    pub raw: NonNull<sys::ggml_cgraph>,
    /// The operations, and what each works on. ggml's scheduler puts copies of its own in place of
    /// arguments from other devices and frees them when it is handed another graph.
    edges: Vec<(NonNull<sys::ggml_tensor>, Sources)>,
    nodes: Vec<NonNull<sys::ggml_tensor>>,
    pub context: Context,
    pub own: Products,
    _weights: Vec<Arc<WeightSet>>,
    _states: Vec<Arc<StateSet>>,
}

type Sources = [*mut sys::ggml_tensor; 10];

/// The operations of a graph and their arguments.
fn edges(graph: NonNull<sys::ggml_cgraph>) -> Vec<(NonNull<sys::ggml_tensor>, Sources)> {
    // SAFETY: the graph is live.
    let n = unsafe { sys::ggml_graph_n_nodes(graph.as_ptr()) };
    let node = |i| {
        // SAFETY: the index is below the count, which ggml.c asserts.
        let node = NonNull::new(unsafe { sys::ggml_graph_node(graph.as_ptr(), i) })?;
        // SAFETY: a live header of the graph.
        let sources = unsafe { (*node.as_ptr()).src };
        Some((node, sources))
    };
    (0..n).filter_map(node).collect()
}

/// Numbers without padding, of which every pattern of bits is one.
pub trait Plain: Copy {}
impl Plain for i32 {}
impl Plain for f32 {}

/// The bytes of numbers.
pub fn bytes_of<T: Plain>(data: &[T]) -> &[u8] {
    // SAFETY: plain numbers have no padding; the bytes are readable for the slice's size.
    unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), size_of_val(data)) }
}

impl Graph {
    /// - scheduled: whether ggml's scheduler will run it
    pub fn new(builder: GraphBuilder, scheduled: bool) -> Self {
        Self {
            edges: if scheduled {
                edges(builder.graph)
            } else {
                Vec::new()
            },
            raw: builder.graph,
            nodes: builder.nodes,
            context: builder.context,
            own: builder.own,
            _weights: builder.weights,
            _states: builder.states,
        }
    }

    /// Gives the operations the arguments that they were built with.
    pub fn restore_edges(&self) {
        for (node, sources) in &self.edges {
            // SAFETY: the context holds the header, and nothing else uses it: runs borrow the executor.
            unsafe { (*node.as_ptr()).src = *sources };
        }
    }

    fn tensor(
        &self,
        node: Node,
        dtype: DType,
        n_bytes: usize,
        whole: bool,
    ) -> Result<NonNull<sys::ggml_tensor>> {
        let found = self.nodes.get(node.index()).copied();
        let tensor = found.ok_or_else(|| crate::err!(Internal, "no such value in the graph"))?;
        // SAFETY: the context or the kept weights hold the header.
        let header = unsafe { tensor.as_ref() };
        // SAFETY: the header is live.
        let size = unsafe { sys::ggml_nbytes(header) };
        if DType::of(header) != dtype || size < n_bytes || (whole && size != n_bytes) {
            crate::bail!(Internal, "{n_bytes} bytes do not fit a graph value of {size}");
        }
        // ggml-backend.cpp asserts an allocated tensor.
        if header.buffer.is_null() && header.view_src.is_null() {
            crate::bail!(Internal, "a graph value that nothing uses was set or read");
        }
        Ok(tensor)
    }

    /// Sets an input.
    pub fn set(&self, node: Node, dtype: DType, bytes: &[u8]) -> Result<()> {
        let tensor = self.tensor(node, dtype, bytes.len(), true)?;
        // SAFETY: the tensor is allocated and at least as large as the slice: checked in `tensor`.
        let code =
            unsafe { shim::remask_shim_tensor_set(tensor.as_ptr(), bytes.as_ptr().cast(), 0, bytes.len()) };
        shim::check(code, "set a graph input")
    }

    /// Copies an output.
    /// - first: elements before those that are read
    pub fn read<T: Plain>(&self, node: Node, dtype: DType, first: usize, data: &mut [T]) -> Result<()> {
        let n_bytes = size_of_val(data);
        let offset = first.saturating_mul(size_of::<T>());
        let tensor = self.tensor(node, dtype, offset.saturating_add(n_bytes), false)?;
        // SAFETY: the tensor is allocated and reaches as far as what is read: checked in `tensor`; the slice is
        // of plain numbers.
        let code = unsafe {
            shim::remask_shim_tensor_get(tensor.as_ptr(), data.as_mut_ptr().cast(), offset, n_bytes)
        };
        shim::check(code, "read a graph output")
    }
}
