//! A computation being described: nodes by handle, every handle checked, weights kept alive.

use ggml_sys as sys;
use std::ptr::NonNull;
use std::sync::Arc;

use super::DType;
use super::context::Context;
use super::product::Products;
use super::state::StateSet;
use super::tensor::{Weight, WeightSet};
use crate::error::Result;

/// A value inside one [`GraphBuilder`]. A handle from another builder names another value or none; it
/// is never a dangling pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node(u32);

impl Node {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Describes a computation. Operations are methods (see `ops.rs`); [`output`](Self::output) marks what
/// is wanted.
pub struct GraphBuilder {
    pub(super) context: Context,
    pub(super) graph: NonNull<sys::ggml_cgraph>,
    pub(super) nodes: Vec<NonNull<sys::ggml_tensor>>,
    pub(super) weights: Vec<Arc<WeightSet>>,
    pub(super) states: Vec<Arc<StateSet>>,
    /// Which values are weights, and which.
    weight_nodes: Vec<(Node, usize)>,
    /// Weights and what they are multiplied with.
    pub(super) products: Vec<(usize, Node)>,
    /// Products by kernels of our own.
    pub(super) own: Products,
    max_nodes: usize,
}

impl GraphBuilder {
    /// A computation of up to `max_nodes` values, weights and inputs included.
    ///
    /// # Errors
    /// `Resource`.
    pub fn new(max_nodes: usize) -> Result<Self> {
        let context = Context::new(max_nodes, max_nodes, "a graph")?;
        // SAFETY: the context has room for a graph of this size: `Context::new` counted it.
        let graph = unsafe { sys::ggml_new_graph_custom(context.raw(), max_nodes, false) };
        let graph = NonNull::new(graph).ok_or_else(|| crate::err!(Resource, "no memory for a graph"))?;
        Ok(Self {
            context,
            graph,
            nodes: Vec::new(),
            weights: Vec::new(),
            states: Vec::new(),
            weight_nodes: Vec::new(),
            products: Vec::new(),
            own: Products::default(),
            max_nodes,
        })
    }

    /// A weight as a value of this graph; its memory lives as long as the graph.
    ///
    /// # Errors
    /// `Internal`, when the graph is full.
    pub fn weight(&mut self, weight: &Weight) -> Result<Node> {
        if !self.weights.iter().any(|set| Arc::ptr_eq(set, &weight.set)) {
            self.weights.push(weight.set.clone());
        }
        let node = self.push(weight.set.raw(weight.index).as_ptr())?;
        self.weight_nodes.push((node, weight.index));
        Ok(node)
    }

    /// Every matrix product with a weight so far: the weight's number in its set, and the value that it
    /// is multiplied with.
    pub fn products(&self) -> &[(usize, Node)] {
        &self.products
    }

    /// Notes a product of `a` and `b`, if `a` is a weight.
    pub(super) fn note_product(&mut self, a: Node, b: Node) {
        if let Some((_, index)) = self.weight_nodes.iter().find(|(node, _)| *node == a) {
            self.products.push((*index, b));
        }
    }

    /// Whether `a` is a weight, and it and all of its set lie in host memory.
    pub(super) fn is_host_weight(&self, a: Node) -> bool {
        let known = self.weight_nodes.iter().any(|(node, _)| *node == a);
        known && self.all_on_host()
    }

    /// Whether all weights so far lie in host memory, and there are some.
    pub(super) fn all_on_host(&self) -> bool {
        !self.weights.is_empty() && self.weights.iter().all(|set| set.is_host())
    }

    /// An input of `dims`, to be set before every run.
    ///
    /// # Errors
    /// `Internal`, when a dimension is 0 or the graph is full.
    pub fn input(&mut self, dtype: DType, dims: [usize; 4]) -> Result<Node> {
        if dims.contains(&0) {
            crate::bail!(Internal, "a graph input has an empty dimension: {dims:?}");
        }
        self.room()?;
        let dims = dims.map(|d| i64::try_from(d).unwrap_or(i64::MAX));
        let tensor = self.context.tensor(dtype, dims)?;
        // SAFETY: the header is live.
        unsafe { sys::ggml_set_input(tensor.as_ptr()) };
        self.push(tensor.as_ptr())
    }

    /// Marks `node` as wanted: it is computed, and its memory is not reused by others.
    ///
    /// # Errors
    /// `Internal`, when the handle is not of this graph.
    pub fn output(&mut self, node: Node) -> Result<()> {
        let tensor = self.get(node)?;
        // SAFETY: the header is live.
        unsafe { sys::ggml_set_output(tensor.as_ptr()) };
        // ggml.c asserts that the graph's tables have room: `room` bounds the number of values.
        // SAFETY: graph and tensor are live and of one context (or shared weights).
        unsafe { sys::ggml_build_forward_expand(self.graph.as_ptr(), tensor.as_ptr()) };
        Ok(())
    }

    /// Dimensions of `node` in ggml order, fastest first.
    ///
    /// # Errors
    /// `Internal`, when the handle is not of this graph.
    pub fn dims(&self, node: Node) -> Result<[usize; 4]> {
        Ok(self.header(node)?.ne.map(|d| usize::try_from(d).unwrap_or(0)))
    }

    /// Element type of `node`.
    ///
    /// # Errors
    /// `Internal`, when the handle is not of this graph.
    pub fn dtype(&self, node: Node) -> Result<DType> {
        Ok(DType::of(self.header(node)?))
    }

    pub(super) fn header(&self, node: Node) -> Result<&sys::ggml_tensor> {
        let tensor = self.get(node)?;
        // SAFETY: the context or the kept weights hold the header; nothing changes it while borrowed.
        Ok(unsafe { &*tensor.as_ptr() })
    }

    pub(super) fn get(&self, node: Node) -> Result<NonNull<sys::ggml_tensor>> {
        let found = self.nodes.get(node.index()).copied();
        found.ok_or_else(|| crate::err!(Internal, "graph value {} does not exist", node.0))
    }

    /// Checks that one more operation (with the view ggml may add) fits the context.
    pub(super) fn room(&self) -> Result<()> {
        // SAFETY: the context is live.
        let used = unsafe { sys::ggml_used_mem(self.context.raw()) };
        // SAFETY: the context is live.
        let all = unsafe { sys::ggml_get_mem_size(self.context.raw()) };
        // SAFETY: a constant of the library.
        let header = unsafe { sys::ggml_tensor_overhead() };
        // ggml.c:1644 and the asserts of ggml_build_forward_expand: pool and tables must not overflow.
        if used + 4 * header > all || self.nodes.len() + 2 > self.max_nodes {
            crate::bail!(
                Internal,
                "a graph of {} values is too small for this model",
                self.max_nodes
            );
        }
        Ok(())
    }

    pub(super) fn push(&mut self, tensor: *mut sys::ggml_tensor) -> Result<Node> {
        self.room()?;
        let tensor = NonNull::new(tensor).ok_or_else(|| crate::err!(Resource, "no memory in a graph"))?;
        let index = u32::try_from(self.nodes.len())
            .map_err(|_| crate::err!(Internal, "a graph holds too many values"))?;
        self.nodes.push(tensor);
        Ok(Node(index))
    }
}
