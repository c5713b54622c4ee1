//! The one place that calls the shim.

use std::ffi::{CStr, c_char};

use remask::{Error, ErrorKind, Result};
use tch::Tensor;

/// tch's handle of a tensor, an `at::Tensor *`.
type Handle = *const std::ffi::c_void;

unsafe extern "C" {
    fn remask_torch_free(message: *mut c_char);
    fn remask_torch_adamw(
        weights: Handle,
        gradient: Handle,
        first: Handle,
        second: Handle,
        step: f64,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
    ) -> *mut c_char;
}

fn handle(tensor: &Tensor) -> Handle {
    tensor.as_ptr().cast()
}

fn outcome(message: *mut c_char, what: &str) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: the shim gives null or a string that ends with a zero.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: it is the shim's, and not used after this.
    unsafe { remask_torch_free(message) };
    let first = text.lines().next().unwrap_or_default();
    Err(Error::new(ErrorKind::Device, format!("{what}: {first}")))
}

/// Numbers of one AdamW update.
pub(crate) struct AdamW {
    pub step: f64,
    pub lr: f64,
    pub betas: [f64; 2],
    pub weight_decay: f64,
    pub eps: f64,
}

/// Updates `weights` in place. All tensors are f32, contiguous and of one size.
///
/// # Errors
/// `Device`.
pub(crate) fn adamw(
    weights: &Tensor,
    gradient: &Tensor,
    first: &Tensor,
    second: &Tensor,
    u: &AdamW,
) -> Result<()> {
    // SAFETY: the handles are of tensors that live until the call ends.
    let message = unsafe {
        remask_torch_adamw(
            handle(weights),
            handle(gradient),
            handle(first),
            handle(second),
            u.step,
            u.lr,
            u.betas[0],
            u.betas[1],
            u.weight_decay,
            u.eps,
        )
    };
    outcome(message, "AdamW")
}

#[cfg(feature = "gloo")]
pub(crate) use group::Group;

#[cfg(feature = "gloo")]
mod group {
    use std::ffi::{CString, c_int};

    use super::*;

    #[repr(C)]
    struct Opaque {
        _private: [u8; 0],
    }

    unsafe extern "C" {
        fn remask_torch_group_open(
            host: *const c_char,
            port: u16,
            rank: c_int,
            world: c_int,
            serve: c_int,
            nccl: c_int,
            timeout_s: c_int,
            out: *mut *mut Opaque,
        ) -> *mut c_char;
        fn remask_torch_group_close(group: *mut Opaque);
        fn remask_torch_all_reduce(group: *mut Opaque, tensor: Handle) -> *mut c_char;
        fn remask_torch_reduce_scatter(group: *mut Opaque, shard: Handle, whole: Handle) -> *mut c_char;
        fn remask_torch_all_gather(group: *mut Opaque, whole: Handle, shard: Handle) -> *mut c_char;
        fn remask_torch_broadcast(group: *mut Opaque, tensor: Handle) -> *mut c_char;
    }

    /// A process group of PyTorch's.
    pub(crate) struct Group {
        raw: *mut Opaque,
    }

    /// Seconds after which a process that does not come is given up.
    const TIMEOUT_S: c_int = 600;

    impl Group {
        /// Meets the other processes at `host:port`.
        ///
        /// - serve: whether this process holds the store where they meet
        ///
        /// # Errors
        /// `Device`.
        pub fn open(host: &str, port: u16, rank: usize, n: usize, serve: bool, nccl: bool) -> Result<Self> {
            let name = CString::new(host)
                .map_err(|_| Error::new(ErrorKind::InvalidArgument, "MASTER_ADDR holds a zero byte"))?;
            let mut raw = std::ptr::null_mut();
            // SAFETY: the string lives until the call ends; `raw` is a place for the result.
            let message = unsafe {
                remask_torch_group_open(
                    name.as_ptr(),
                    port,
                    rank as c_int,
                    n as c_int,
                    c_int::from(serve),
                    c_int::from(nccl),
                    TIMEOUT_S,
                    &mut raw,
                )
            };
            outcome(message, &format!("process {rank} of {n} at {host}:{port}"))?;
            Ok(Self { raw })
        }

        pub fn all_reduce(&self, tensor: &Tensor) -> Result<()> {
            // SAFETY: group and tensor are alive.
            let message = unsafe { remask_torch_all_reduce(self.raw, handle(tensor)) };
            outcome(message, "adding up over processes")
        }

        pub fn reduce_scatter(&self, shard: &Tensor, whole: &Tensor) -> Result<()> {
            // SAFETY: group and tensors are alive.
            let message = unsafe { remask_torch_reduce_scatter(self.raw, handle(shard), handle(whole)) };
            outcome(message, "adding up over processes")
        }

        pub fn all_gather(&self, whole: &Tensor, shard: &Tensor) -> Result<()> {
            // SAFETY: group and tensors are alive.
            let message = unsafe { remask_torch_all_gather(self.raw, handle(whole), handle(shard)) };
            outcome(message, "gathering from processes")
        }

        pub fn broadcast(&self, tensor: &Tensor) -> Result<()> {
            // SAFETY: group and tensor are alive.
            let message = unsafe { remask_torch_broadcast(self.raw, handle(tensor)) };
            outcome(message, "giving weights to processes")
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            // SAFETY: opened by `open` and closed once.
            unsafe { remask_torch_group_close(self.raw) };
        }
    }
}
