//! Several devices at once, through ggml's scheduler.

use ggml_sys as sys;
use std::os::raw::{c_int, c_void};
use std::ptr::NonNull;

use super::backend::{self, Device};
use super::cpu::SetAbortCallback;
use super::rpc::Links;
use super::shim;
use super::tensor::report;
use super::threads::ThreadPool;
use crate::error::Result;

/// Nodes that ggml's scheduler makes room for; graphs of all families here are far smaller.
const SPLIT_GRAPH_SIZE: usize = 65_536;

/// Several devices and the CPU, under ggml's scheduler.
pub struct SplitEngine {
    /// The CPU last. Dropped before the scheduler: each waits for what it was given, which works in the scheduler's
    /// memory. After an error in a call to a driver there may be such work.
    pub backends: Vec<Backend>,
    pub sched: Scheduler,
    set_abort_callback: SetAbortCallback,
    pub links: Links,
    /// A driver gave up in a call: what the backends hold is not known any more.
    pub broken: bool,
}

impl SplitEngine {
    pub fn new(devices: &[Device], threads: &ThreadPool, links: &Links) -> Result<Self> {
        let mut backends = Vec::new();
        for device in devices {
            backends.push(init(*device)?);
        }
        // ggml-backend.cpp asserts that the last backend is a CPU.
        let cpu = init(backend::cpu()?)?;
        let n_threads = c_int::try_from(threads.n_threads()).unwrap_or(1);
        // SAFETY: the backend is a live CPU backend, which the function asserts.
        unsafe { (threads.cpu().set_n_threads)(cpu.as_ptr(), n_threads) };
        // SAFETY: as above; the pool lives as long as the executor.
        unsafe { (threads.cpu().set_threadpool)(cpu.as_ptr(), threads.raw()) };
        backends.push(cpu);
        Ok(Self {
            sched: Scheduler::new(&backends)?,
            backends,
            set_abort_callback: threads.cpu().set_abort_callback,
            links: links.clone(),
            broken: false,
        })
    }

    /// Another scheduler in place of one that could not get memory.
    pub fn renew(&mut self) -> Result<()> {
        self.sched = Scheduler::new(&self.backends)?;
        Ok(())
    }

    pub fn set_cancel(&self, callback: sys::ggml_abort_callback, data: *mut c_void) {
        if let Some(cpu) = self.backends.last() {
            // SAFETY: the backend is a live CPU backend; the flag outlives the run and is unset after it.
            unsafe { (self.set_abort_callback)(cpu.as_ptr(), callback, data) };
        }
    }
}

/// What runs a device's part.
pub struct Backend(NonNull<sys::ggml_backend>);

impl Backend {
    pub fn as_ptr(&self) -> sys::ggml_backend_t {
        self.0.as_ptr()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // SAFETY: made by ggml_backend_dev_init, freed once; a scheduler's end does not touch it.
        let code = unsafe { shim::remask_shim_backend_free(self.as_ptr()) };
        report(code, "stop a device");
    }
}

pub(super) fn init(device: Device) -> Result<Backend> {
    let mut raw = std::ptr::null_mut();
    // SAFETY: the device is live, `raw` writable.
    let code = unsafe { shim::remask_shim_dev_init(device.raw(), &mut raw) };
    shim::check(code, "start a device")?;
    NonNull::new(raw).map(Backend).ok_or_else(|| match device.info() {
        Ok(info) => crate::err!(Device, "device {} does not start", info.name),
        Err(error) => error,
    })
}

/// ggml's scheduler and the memory that graphs compute in.
pub struct Scheduler(NonNull<sys::ggml_backend_sched>);

impl Scheduler {
    /// One over `backends`, the CPU last.
    fn new(backends: &[Backend]) -> Result<Self> {
        let mut raw: Vec<sys::ggml_backend_t> = backends.iter().map(Backend::as_ptr).collect();
        let mut sched = std::ptr::null_mut();
        let n_backends = c_int::try_from(raw.len()).unwrap_or(c_int::MAX);
        // ggml-backend.cpp asserts 1..=GGML_SCHED_MAX_BACKENDS (16) backends.
        if raw.len() > 16 {
            crate::bail!(
                Unsupported,
                "{} devices at once; ggml's scheduler takes 16",
                raw.len()
            );
        }
        // SAFETY: the array holds live backends, the CPU last.
        let code = unsafe {
            shim::remask_shim_sched_new(raw.as_mut_ptr(), n_backends, SPLIT_GRAPH_SIZE, &mut sched)
        };
        shim::check(code, "make a scheduler")?;
        let sched = NonNull::new(sched);
        Ok(Self(sched.ok_or_else(|| {
            crate::err!(Resource, "no memory for a scheduler")
        })?))
    }

    pub fn as_ptr(&self) -> sys::ggml_backend_sched_t {
        self.0.as_ptr()
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        // SAFETY: made by ggml_backend_sched_new, freed once.
        let code = unsafe { shim::remask_shim_sched_free(self.as_ptr()) };
        report(code, "free a scheduler");
    }
}
