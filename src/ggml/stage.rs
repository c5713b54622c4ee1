//! Uploads through host memory that a device reads by itself ("pinned"): while it takes one half, the next
//! bytes of the file are copied into the other.

use ggml_sys as sys;
use std::os::raw::c_void;
use std::ptr::NonNull;

use super::backend::Device;
use super::shim;
use super::split::{Backend, init};
use super::tensor::Buffer;
use crate::error::Result;

/// Bytes of a half.
const HALF: usize = 16 << 20;

/// Two halves, and what carries them to the device. What is under way ends before the halves are freed.
pub(super) struct Stage {
    backend: Backend,
    halves: [Half; 2],
    /// The half that is not under way.
    free: usize,
}

struct Half {
    _buffer: Buffer,
    data: NonNull<u8>,
}

// SAFETY: the memory is reached through `&mut self` only, and ggml keeps no thread-local state for it.
unsafe impl Send for Half {}
// SAFETY: a backend is used through `&mut self` only.
unsafe impl Send for Stage {}

impl Stage {
    /// One for `device`; `None` where it does not copy by itself, or there is no memory for it: uploads then
    /// wait, each for its end.
    pub fn new(device: Device) -> Option<Self> {
        let kind = device.staging_memory().ok().flatten()?;
        Some(Self {
            halves: [Half::new(kind)?, Half::new(kind)?],
            backend: init(device).ok()?,
            free: 0,
        })
    }

    /// Starts to copy `bytes` to `offset` of `tensor`, which lies in the device's memory and has room for
    /// them.
    ///
    /// # Errors
    /// `Device`, also for what is under way.
    pub fn put(&mut self, tensor: NonNull<sys::ggml_tensor>, offset: usize, bytes: &[u8]) -> Result<()> {
        for (n, piece) in bytes.chunks(HALF).enumerate() {
            let data = self.halves[self.free].data.as_ptr();
            // SAFETY: a half is of HALF bytes, and what is under way is the other one.
            unsafe { std::ptr::copy_nonoverlapping(piece.as_ptr(), data, piece.len()) };
            self.wait()?;
            let at = offset + n * HALF;
            // ggml-backend.cpp asserts an allocated tensor and a range inside it: the caller checked.
            // SAFETY: the half is readable and not written before the next wait.
            let code = unsafe {
                shim::remask_shim_tensor_set_async(
                    self.backend.as_ptr(),
                    tensor.as_ptr(),
                    data.cast_const().cast::<c_void>(),
                    at,
                    piece.len(),
                )
            };
            shim::check(code, "upload weights")?;
            self.free ^= 1;
        }
        Ok(())
    }

    /// Waits until all is there.
    ///
    /// # Errors
    /// `Device`.
    pub fn wait(&mut self) -> Result<()> {
        // SAFETY: the backend is live.
        let code = unsafe { shim::remask_shim_backend_wait(self.backend.as_ptr()) };
        shim::check(code, "upload weights")
    }
}

impl Half {
    fn new(kind: sys::ggml_backend_buffer_type_t) -> Option<Self> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the buffer type is live, `raw` writable.
        let code = unsafe { shim::remask_shim_buffer_alloc(kind, HALF, &mut raw) };
        shim::check(code, "make a staging buffer").ok()?;
        let buffer = Buffer::from_raw(raw)?;
        let mut base = std::ptr::null_mut();
        // SAFETY: the buffer is live, `base` writable.
        let code = unsafe { shim::remask_shim_buffer_base(raw, &mut base) };
        shim::check(code, "make a staging buffer").ok()?;
        // SAFETY: the buffer is live.
        let on_host = unsafe { sys::ggml_backend_buffer_is_host(raw) };
        Some(Self {
            data: NonNull::new(base.cast()).filter(|_| on_host)?,
            _buffer: buffer,
        })
    }
}
