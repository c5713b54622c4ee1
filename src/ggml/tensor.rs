//! Weights as tensors in some device's memory.

use ggml_sys as sys;
use std::ptr::NonNull;
use std::sync::Arc;

use super::backend::Device;
use super::context::Context;
use super::rpc::Links;
use super::stage::Stage;
use super::{DType, shim};
use crate::error::Result;

/// Host memory that stays where it is: a mapped file or an owned, aligned buffer.
///
/// # Safety
/// [`bytes`](Self::bytes) returns the same readable memory, with the same address and length, for the
/// life of the value.
pub unsafe trait StableBytes: Send + Sync {
    /// The memory.
    fn bytes(&self) -> &[u8];
}

/// ggml-backend.cpp asserts this alignment of buffers made from a pointer.
pub const HOST_ALIGNMENT: usize = 32;

/// Zeroed memory aligned for tensors.
pub struct AlignedBytes {
    blocks: Vec<Block>,
    n_bytes: usize,
}

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Block([u8; 64]);

impl AlignedBytes {
    /// `n_bytes` zeros.
    ///
    /// # Errors
    /// `Resource`, naming `what`.
    pub fn new(n_bytes: usize, what: &str) -> Result<Self> {
        Ok(Self {
            blocks: crate::error::try_vec(n_bytes.div_ceil(64), Block([0; 64]), what)?,
            n_bytes,
        })
    }

    /// The memory, to fill it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the blocks are plain bytes, at least `n_bytes` of them, and borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.blocks.as_mut_ptr().cast(), self.n_bytes) }
    }
}

// SAFETY: the blocks are on the heap and never reallocated: only `new` sizes them.
unsafe impl StableBytes for AlignedBytes {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the blocks are plain bytes, at least `n_bytes` of them.
        unsafe { std::slice::from_raw_parts(self.blocks.as_ptr().cast(), self.n_bytes) }
    }
}

/// A set of weights, being put together: declare all, then bind or upload each.
pub struct WeightSetBuilder {
    // Dropped first: what is under way goes to the buffers.
    stage: Option<Stage>,
    context: Context,
    tensors: Vec<NonNull<sys::ggml_tensor>>,
    pub(super) placed: Vec<bool>,
    buffers: Vec<Buffer>,
    keep: Vec<Arc<dyn StableBytes>>,
    usage: sys::ggml_backend_buffer_usage,
    /// What memory was taken on last.
    device: Option<Device>,
    links: Links,
}

/// Weights in place, shared and immutable.
pub struct WeightSet {
    _context: Context,
    tensors: Vec<NonNull<sys::ggml_tensor>>,
    is_host: bool,
    // Dropped before `_keep`: buffers may point into it.
    _buffers: Vec<Buffer>,
    _keep: Vec<Arc<dyn StableBytes>>,
}

// SAFETY: after `finish` nothing writes to the headers or the data; ggml only reads weights.
unsafe impl Send for WeightSet {}
// SAFETY: as for Send.
unsafe impl Sync for WeightSet {}

/// Logs what goes wrong where nobody can be told.
pub(super) fn report(code: std::os::raw::c_int, what: &str) {
    if let Err(error) = shim::check(code, what) {
        crate::log!(Warn, "{error}");
    }
}

pub(super) struct Buffer(NonNull<sys::ggml_backend_buffer>);

impl Buffer {
    /// Takes a buffer that is nobody's yet; `None` for NULL.
    pub fn from_raw(raw: sys::ggml_backend_buffer_t) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: made by ggml, owned here, freed once.
        let code = unsafe { shim::remask_shim_buffer_free(self.0.as_ptr()) };
        report(code, "free memory");
    }
}

/// One weight of a shared set.
#[derive(Clone)]
pub struct Weight {
    pub(super) set: Arc<WeightSet>,
    pub(super) index: usize,
}

impl WeightSetBuilder {
    /// A set of up to `n` tensors.
    ///
    /// # Errors
    /// `Resource`.
    pub fn new(n: usize) -> Result<Self> {
        Self::for_usage(n, sys::GGML_BACKEND_BUFFER_USAGE_WEIGHTS)
    }

    pub(super) fn for_usage(n: usize, usage: sys::ggml_backend_buffer_usage) -> Result<Self> {
        Ok(Self {
            stage: None,
            context: Context::new(n, 0, "a table of tensors")?,
            tensors: Vec::new(),
            placed: Vec::new(),
            buffers: Vec::new(),
            keep: Vec::new(),
            usage,
            device: None,
            links: Links::default(),
        })
    }

    /// Declares a tensor of `dims` (ggml order, fastest first) and returns its index.
    ///
    /// # Errors
    /// `Model`, when a dimension is 0 or blocks do not divide a row; `Limit`, when the size overflows.
    pub fn declare(&mut self, dtype: DType, dims: [u64; 4]) -> Result<usize> {
        let bytes = n_bytes(dtype, dims)?;
        if bytes > isize::MAX as u64 {
            crate::bail!(Limit, "a tensor of {bytes} bytes does not fit the address space");
        }
        let dims = dims.map(|d| i64::try_from(d).unwrap_or(i64::MAX));
        self.tensors.push(self.context.tensor(dtype, dims)?);
        self.placed.push(false);
        Ok(self.tensors.len() - 1)
    }

    /// Uses host memory as the tensors' data, without a copy: `(index, offset)` pairs of tensors and
    /// where each begins in `memory`. Offsets must keep tensors aligned to [`HOST_ALIGNMENT`].
    ///
    /// # Errors
    /// `Internal`, when an offset is misaligned or a tensor does not fit: callers check the file first.
    pub fn bind_host(&mut self, memory: Arc<dyn StableBytes>, places: &[(usize, usize)]) -> Result<()> {
        let bytes = memory.bytes();
        if !(bytes.as_ptr() as usize).is_multiple_of(HOST_ALIGNMENT) {
            crate::bail!(
                Internal,
                "host memory for weights is not aligned to {HOST_ALIGNMENT} bytes"
            );
        }
        let mut raw = std::ptr::null_mut();
        // The buffer is never written: its usage is weights.
        // SAFETY: the memory is readable for its length and kept alive by `keep`; it is aligned
        // (ggml-backend.cpp:2671).
        let code = unsafe {
            shim::remask_shim_buffer_from_ptr(bytes.as_ptr().cast_mut().cast(), bytes.len(), &mut raw)
        };
        shim::check(code, "use host memory for weights")?;
        let buffer = self.own(raw)?;
        for &(index, offset) in places {
            let fits = offset
                .checked_add(self.size(index)?)
                .is_some_and(|end| end <= bytes.len());
            if !fits || !offset.is_multiple_of(HOST_ALIGNMENT) {
                crate::bail!(Internal, "weight {index} does not fit its place in host memory");
            }
            // SAFETY: the offset lies inside the memory: checked above.
            let address = unsafe { bytes.as_ptr().add(offset) };
            self.attach(index, buffer, address.cast_mut().cast())?;
        }
        self.keep.push(memory);
        Ok(())
    }

    /// Takes memory on `device` for the tensors of `indices`; fill each with [`upload`](Self::upload).
    ///
    /// # Errors
    /// `Resource`, when the device has not enough memory.
    pub fn allocate(&mut self, device: Device, indices: &[usize]) -> Result<()> {
        self.settle_uploads()?;
        self.device = Some(device);
        self.links = Links::of(&[device]);
        let done = self.allocate_on(device, indices);
        self.links.settle(done)
    }

    fn allocate_on(&mut self, device: Device, indices: &[usize]) -> Result<()> {
        let kind = device.buffer_type()?;
        if kind.is_null() {
            crate::bail!(Device, "the device has no memory for weights");
        }
        if !device.parts().is_empty() {
            // It takes no uploads that go on by themselves.
            self.device = None;
            return self.allocate_parts(kind, indices);
        }
        // SAFETY: the buffer type is live.
        let alignment = unsafe { sys::ggml_backend_buft_get_alignment(kind) }.max(1);
        let mut most = usize::MAX;
        // SAFETY: the buffer type is live, `most` writable.
        let code = unsafe { shim::remask_shim_max_size(kind, &mut most) };
        shim::check(code, "size memory for weights")?;
        let (mut piece, mut total) = (Vec::new(), 0usize);
        for &index in indices {
            let tensor = self.tensor(index)?;
            let mut size = 0;
            // SAFETY: both are live; the call reads the header.
            let code = unsafe { shim::remask_shim_alloc_size(kind, tensor.as_ptr(), &mut size) };
            shim::check(code, "size a weight")?;
            let end = total.checked_add(size.next_multiple_of(alignment));
            let end = end.ok_or_else(|| crate::err!(Limit, "the weights do not fit the address space"))?;
            // Drivers bound what is taken at once: Vulkan's mostly to 1 to 4 GiB.
            if end > most && !piece.is_empty() {
                self.allocate_piece(kind, total, &piece)?;
                (piece, total) = (Vec::new(), 0);
            }
            piece.push((index, total));
            total += size.next_multiple_of(alignment);
        }
        self.allocate_piece(kind, total, &piece)
    }

    /// One buffer of `total` bytes for tensors, each at its offset.
    fn allocate_piece(
        &mut self,
        kind: sys::ggml_backend_buffer_type_t,
        total: usize,
        places: &[(usize, usize)],
    ) -> Result<()> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the buffer type is live, `raw` writable.
        let code = unsafe { shim::remask_shim_buffer_alloc(kind, total.max(1), &mut raw) };
        shim::check(code, "allocate memory for weights")?;
        if raw.is_null() {
            crate::bail!(
                Resource,
                "the device has no {total} bytes for weights; place fewer layers on it"
            );
        }
        let buffer = self.own(raw)?;
        let mut base = std::ptr::null_mut();
        // SAFETY: the buffer is live, `base` writable.
        let code = unsafe { shim::remask_shim_buffer_base(buffer, &mut base) };
        shim::check(code, "find memory for weights")?;
        for &(index, offset) in places {
            // Device addresses are opaque to the host: computed, not dereferenced.
            self.attach(index, buffer, base.wrapping_byte_add(offset))?;
        }
        Ok(())
    }

    /// Copies `bytes` to `offset` of tensor `index`, which the last [`allocate`](Self::allocate) placed. The copy
    /// may go on after the call.
    ///
    /// # Errors
    /// `Internal`, when the range is outside the tensor or it has no memory yet; `Device`, also of an earlier
    /// copy.
    pub fn upload(&mut self, index: usize, offset: usize, bytes: &[u8]) -> Result<()> {
        let fits = offset
            .checked_add(bytes.len())
            .is_some_and(|end| Ok(end) <= self.size(index).map_err(|_| ()));
        // ggml-backend-meta.cpp:1498 and 1499 assert whole pieces of a tensor that is cut.
        let step = self.upload_step(index)?;
        let whole = offset.is_multiple_of(step) && bytes.len().is_multiple_of(step);
        if !fits || !whole || !self.placed.get(index).copied().unwrap_or(false) {
            crate::bail!(
                Internal,
                "upload of {} bytes at {offset} is outside weight {index}",
                bytes.len()
            );
        }
        let tensor = self.tensor(index)?;
        if let Some(device) = self.device.take() {
            self.stage = Stage::new(device);
        }
        if let Some(stage) = &mut self.stage {
            return stage.put(tensor, offset, bytes);
        }
        // ggml-backend.cpp asserts an allocated tensor and a range inside it: checked above.
        // SAFETY: the slice is readable, the tensor has memory of its size.
        let code = unsafe {
            shim::remask_shim_tensor_set(tensor.as_ptr(), bytes.as_ptr().cast(), offset, bytes.len())
        };
        self.links.settle(shim::check(code, "upload weights"))
    }

    /// The finished set.
    ///
    /// # Errors
    /// `Internal`, when a tensor has no memory.
    pub fn finish(mut self) -> Result<Arc<WeightSet>> {
        self.check_placed()?;
        self.settle_uploads()?;
        let is_host = self.buffers.iter().all(|buffer| {
            // SAFETY: the buffer is live.
            unsafe { sys::ggml_backend_buffer_is_host(buffer.0.as_ptr()) }
        });
        Ok(Arc::new(WeightSet {
            _context: self.context,
            tensors: self.tensors,
            is_host,
            _buffers: self.buffers,
            _keep: self.keep,
        }))
    }

    /// Waits for the copies that are under way.
    fn settle_uploads(&mut self) -> Result<()> {
        self.device = None;
        match self.stage.take() {
            Some(mut stage) => stage.wait(),
            None => Ok(()),
        }
    }

    fn check_placed(&self) -> Result<()> {
        match self.placed.iter().position(|placed| !placed) {
            Some(index) => crate::bail!(Internal, "tensor {index} was declared and never placed"),
            None => Ok(()),
        }
    }

    /// What a finished set consists of.
    pub(super) fn into_parts(mut self) -> Result<(Context, Vec<NonNull<sys::ggml_tensor>>, Vec<Buffer>)> {
        self.check_placed()?;
        self.settle_uploads()?;
        Ok((self.context, self.tensors, self.buffers))
    }

    pub(super) fn own(&mut self, raw: sys::ggml_backend_buffer_t) -> Result<sys::ggml_backend_buffer_t> {
        let buffer = Buffer::from_raw(raw).ok_or_else(|| crate::err!(Resource, "no memory for a buffer"))?;
        self.buffers.push(buffer);
        // SAFETY: the buffer is live.
        unsafe { sys::ggml_backend_buffer_set_usage(raw, self.usage) };
        Ok(raw)
    }

    fn attach(
        &mut self,
        index: usize,
        buffer: sys::ggml_backend_buffer_t,
        address: *mut std::os::raw::c_void,
    ) -> Result<()> {
        let tensor = self.tensor(index)?;
        if std::mem::replace(&mut self.placed[index], true) {
            crate::bail!(Internal, "weight {index} is placed twice");
        }
        let mut status = 0;
        // ggml-backend.cpp asserts that the tensor has no buffer yet and the range lies in the buffer.
        // SAFETY: both are live; the callers computed the address inside the buffer.
        let code = unsafe { shim::remask_shim_tensor_alloc(buffer, tensor.as_ptr(), address, &mut status) };
        shim::check(code, "place a weight")?;
        if status != sys::GGML_STATUS_SUCCESS {
            crate::bail!(Device, "the device refused weight {index} (status {status})");
        }
        Ok(())
    }

    pub(super) fn tensor(&self, index: usize) -> Result<NonNull<sys::ggml_tensor>> {
        self.tensors
            .get(index)
            .copied()
            .ok_or_else(|| crate::err!(Internal, "no weight {index}"))
    }

    fn size(&self, index: usize) -> Result<usize> {
        let tensor = self.tensor(index)?;
        // SAFETY: the header is live.
        Ok(unsafe { sys::ggml_nbytes(tensor.as_ptr()) })
    }
}

impl WeightSet {
    /// The weight declared as number `index`.
    pub fn get(self: &Arc<Self>, index: usize) -> Option<Weight> {
        (index < self.tensors.len()).then(|| Weight {
            set: self.clone(),
            index,
        })
    }

    /// Whether all of it lies in memory that the CPU reads.
    pub(super) fn is_host(&self) -> bool {
        self.is_host
    }

    pub(super) fn raw(&self, index: usize) -> NonNull<sys::ggml_tensor> {
        self.tensors[index]
    }
}

/// Bytes of a tensor, checked.
fn n_bytes(dtype: DType, dims: [u64; 4]) -> Result<u64> {
    let row = usize::try_from(dims[0])
        .ok()
        .filter(|&n| n > 0)
        .and_then(|n| dtype.row_bytes(n));
    let Some(row) = row else {
        crate::bail!(
            Model,
            "a row of {} elements does not divide into blocks of {}",
            dims[0],
            dtype.block_len()
        );
    };
    let mut total = row as u64;
    for d in &dims[1..] {
        // ggml.c asserts positive dimensions only in debug builds.
        if *d == 0 {
            crate::bail!(Model, "a tensor has an empty dimension: {dims:?}");
        }
        total = total
            .checked_mul(*d)
            .ok_or_else(|| crate::err!(Limit, "the size of a tensor of {dims:?} elements overflows"))?;
    }
    Ok(total)
}
