//! Several devices at once, through ggml's scheduler.

use ggml_sys as sys;
use std::os::raw::{c_int, c_void};
use std::ptr::NonNull;
use std::sync::MutexGuard;

use super::backend::{self, Device};
use super::cpu::SetAbortCallback;
use super::rpc::Links;
use super::tensor::report;
use super::threads::ThreadPool;
use super::{joined, shim};
use crate::error::{ErrorKind, Result};

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
    joined: Option<Joined>,
    /// A driver gave up in a call: what the backends hold is not known any more.
    pub broken: bool,
}

/// What is known of the device that several others work as.
struct Joined {
    device: Device,
    parts: Vec<Device>,
    /// Bytes to compute in that were there on each part.
    n_bytes: usize,
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
        let joined = devices.iter().map(|&device| Joined {
            device,
            parts: device.parts(),
            n_bytes: 0,
        });
        let joined = joined.into_iter().find(|j| !j.parts.is_empty());
        Ok(Self {
            joined,
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
        if let Some(joined) = &mut self.joined {
            joined.n_bytes = 0;
        }
        Ok(())
    }

    /// Held while a graph is placed or run, see [`joined::take_turn`].
    pub fn turn(&self) -> Option<MutexGuard<'static, ()>> {
        joined::take_turn(self.joined.as_ref()?.device)
    }

    /// How many devices a backend's memory is taken on.
    pub fn n_parts(&self) -> usize {
        self.joined.as_ref().map_or(1, |j| j.parts.len())
    }

    /// Whether it computes on a device that several others work as.
    pub fn is_joined(&self) -> bool {
        self.joined.is_some()
    }

    /// Takes the memory that `graph` computes in on each part of a joined device, which asserts that it got it
    /// (ggml-backend-meta.cpp:1714). The graph's edges are changed; `restore` undoes that.
    ///
    /// # Errors
    /// `Resource`; `Unsupported`, where an operation would be left to the CPU.
    pub fn reserve(&mut self, graph: NonNull<sys::ggml_cgraph>, restore: &dyn Fn()) -> Result<()> {
        let wanted = self.measure(graph);
        restore();
        let wanted = wanted?;
        let Some(joined) = self.joined.as_ref().filter(|j| j.n_bytes < wanted) else {
            return Ok(());
        };
        let parts = joined.parts.clone();
        // What it has would be given back for what it wants.
        self.renew()?;
        let mut done = true;
        for part in parts {
            let mut is_there = false;
            // SAFETY: the buffer type is live, `is_there` writable.
            let code =
                unsafe { shim::remask_shim_memory_is_there(part.buffer_type()?, wanted, &mut is_there) };
            shim::check(code, "look for memory to compute in")?;
            done &= is_there;
        }
        if done {
            // SAFETY: scheduler and graph are live; its edges are the original ones.
            let code =
                unsafe { shim::remask_shim_sched_reserve(self.sched.as_ptr(), graph.as_ptr(), &mut done) };
            restore();
            let taken = shim::check(code, "take memory to compute in");
            if taken.is_err() {
                self.abandon();
            }
            match taken {
                // Somebody else took it meanwhile.
                Err(error) if error.kind() == ErrorKind::Resource => done = false,
                Err(error) => {
                    self.broken = true;
                    return Err(error);
                }
                Ok(()) => (),
            }
        }
        if !done {
            self.renew()?;
            crate::bail!(Resource, "no memory to compute in; a shorter canvas needs less");
        }
        if let Some(joined) = &mut self.joined {
            joined.n_bytes = wanted;
        }
        Ok(())
    }

    /// Bytes that `graph` computes in on each part of a joined device.
    fn measure(&self, graph: NonNull<sys::ggml_cgraph>) -> Result<usize> {
        let trial = Scheduler::new(&self.backends)?;
        let mut sizes = vec![0usize; self.backends.len()];
        let mut n_pieces = 0;
        // SAFETY: scheduler and graph are live; there is room for the size of each backend.
        let code = unsafe {
            shim::remask_shim_sched_measure(trial.as_ptr(), graph.as_ptr(), sizes.as_mut_ptr(), &mut n_pieces)
        };
        shim::check(code, "measure a graph")?;
        // The rows of the embedding table come from the CPU. What else it did would be of a value that is cut.
        if n_pieces > 2 {
            crate::bail!(
                Unsupported,
                "these devices lack an operation that is needed to cut tensors between them; split layers"
            );
        }
        Ok(sizes.first().copied().unwrap_or(0))
    }

    /// After an error in placing a graph on a joined device the scheduler may hold what was freed.
    pub fn abandon(&mut self) {
        self.sched.is_lost = self.joined.is_some();
    }

    pub fn set_cancel(&self, callback: sys::ggml_abort_callback, data: *mut c_void) {
        if let Some(cpu) = self.backends.last() {
            // SAFETY: the backend is a live CPU backend; the flag outlives the run and is unset after it.
            unsafe { (self.set_abort_callback)(cpu.as_ptr(), callback, data) };
        }
    }
}

impl SplitEngine {
    /// Waits until a joined device is done with what it was given; `false` where a part of it does not answer any more.
    /// Its backend is then not freed (see `shim.cpp`), and nothing ends what other parts may still be at: what they work
    /// in has to stay.
    pub fn come_to_rest(&mut self) -> bool {
        if self.joined.is_some()
            && let Some(backend) = self.backends.first()
        {
            // SAFETY: the backend is live.
            let code = unsafe { shim::remask_shim_backend_wait(backend.as_ptr()) };
            self.sched.is_lost |= code != 0 || self.broken;
        }
        !self.sched.is_lost
    }
}

impl Drop for SplitEngine {
    fn drop(&mut self) {
        self.come_to_rest();
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
pub struct Scheduler {
    raw: NonNull<sys::ggml_backend_sched>,
    /// It is left as it is.
    is_lost: bool,
}

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
        let _tables = joined::tables();
        // SAFETY: the array holds live backends, the CPU last.
        let code = unsafe {
            shim::remask_shim_sched_new(raw.as_mut_ptr(), n_backends, SPLIT_GRAPH_SIZE, &mut sched)
        };
        shim::check(code, "make a scheduler")?;
        let raw = NonNull::new(sched).ok_or_else(|| crate::err!(Resource, "no memory for a scheduler"))?;
        Ok(Self { raw, is_lost: false })
    }

    pub fn as_ptr(&self) -> sys::ggml_backend_sched_t {
        self.raw.as_ptr()
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        if self.is_lost {
            return;
        }
        // SAFETY: made by ggml_backend_sched_new, freed once.
        let code = unsafe { shim::remask_shim_sched_free(self.as_ptr()) };
        report(code, "free a scheduler");
    }
}
