//! A ggml context over memory that Rust allocated, so that running out of it is an error.

use ggml_sys as sys;
use std::ptr::NonNull;

use super::abort::install_hooks;
use crate::error::Result;

/// A ggml context that holds tensor headers and graphs, never data. Freed on drop.
pub(super) struct Context {
    raw: NonNull<sys::ggml_context>,
    _memory: Vec<u128>,
}

// SAFETY: a context is plain memory without thread affinity; every use goes through `&mut` of its
// owner or reads headers that no longer change.
unsafe impl Send for Context {}
// SAFETY: as for Send: shared use only reads.
unsafe impl Sync for Context {}

impl Context {
    /// Room for `n_tensors` tensor headers and, where `n_nodes` is not 0, one graph of that many nodes.
    pub fn new(n_tensors: usize, n_nodes: usize, what: &str) -> Result<Self> {
        install_hooks();
        // SAFETY: a constant of the library.
        let header = unsafe { sys::ggml_tensor_overhead() };
        let graph = if n_nodes == 0 {
            0
        } else {
            // SAFETY: pure arithmetic on its arguments.
            unsafe { sys::ggml_graph_overhead_custom(n_nodes, false) }
        };
        let n_bytes = n_tensors
            .checked_add(1)
            .and_then(|n| n.checked_mul(header))
            .and_then(|n| n.checked_add(graph))
            .ok_or_else(|| crate::err!(Limit, "{what} needs too many tensors: {n_tensors}"))?;
        // ggml.c asserts an aligned pool (GGML_MEM_ALIGN is 16) and that malloc gave one.
        let mut memory: Vec<u128> = crate::error::try_vec(n_bytes.div_ceil(16), 0, what)?;
        let params = sys::ggml_init_params {
            mem_size: memory.len() * 16,
            mem_buffer: memory.as_mut_ptr().cast(),
            no_alloc: true,
        };
        // SAFETY: the pool is aligned, of the stated size, and lives in the returned value.
        let raw = unsafe { sys::ggml_init(params) };
        let raw = NonNull::new(raw).ok_or_else(|| crate::err!(Resource, "no memory for {what}"))?;
        Ok(Self { raw, _memory: memory })
    }

    pub fn raw(&self) -> *mut sys::ggml_context {
        self.raw.as_ptr()
    }

    /// Forgets where the values of this context lie, so that an allocator places them anew. ggml takes a
    /// value with an address for one that somebody else placed, and would keep a stale one.
    pub fn forget_places(&mut self) {
        // SAFETY: the context is live.
        let mut next = unsafe { sys::ggml_get_first_tensor(self.raw()) };
        while let Some(mut tensor) = NonNull::new(next) {
            // SAFETY: headers live with the context, and `&mut self` is the only access.
            let header = unsafe { tensor.as_mut() };
            header.data = std::ptr::null_mut();
            header.buffer = std::ptr::null_mut();
            // SAFETY: context and tensor are live.
            next = unsafe { sys::ggml_get_next_tensor(self.raw(), tensor.as_ptr()) };
        }
    }

    /// A tensor header without data. The caller has checked that dims are at least 1 and that the size
    /// in bytes does not overflow (ggml checks neither in release builds).
    pub fn tensor(&mut self, dtype: super::DType, dims: [i64; 4]) -> Result<NonNull<sys::ggml_tensor>> {
        // ggml.c:1774 asserts room in the pool; `new` made it for the number of headers asked for.
        // SAFETY: the context is live, the array has 4 entries.
        let tensor = unsafe { sys::ggml_new_tensor(self.raw(), dtype.raw(), 4, dims.as_ptr()) };
        NonNull::new(tensor).ok_or_else(|| crate::err!(Resource, "no memory for a tensor header"))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by ggml_init and not freed before; the pool is freed by Rust afterwards.
        unsafe { sys::ggml_free(self.raw()) };
    }
}
