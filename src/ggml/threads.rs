//! Threads that ggml computes with.

use ggml_sys as sys;
use std::os::raw::c_int;
use std::ptr::NonNull;
use std::sync::Mutex;

use super::cpu::{self, Cpu};
use super::shim;
use crate::error::{Result, probe_memory};

/// GGML_MAX_N_THREADS of ggml.h, a macro that the bindings leave out.
const MAX_N_THREADS: usize = 512;

/// The number of threads used where a caller asks for 0: physical cores, the fast ones where the system
/// tells them apart, as far as this process may use them.
pub fn default_threads() -> usize {
    super::cores::fast_cores()
        .unwrap_or_else(num_cpus::get_physical)
        .clamp(1, max_threads())
}

/// The most threads a session gets: the processors this process may use. More only spin.
pub fn max_threads() -> usize {
    std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(MAX_N_THREADS)
}

/// Threads that wait asleep between graphs.
pub(super) struct ThreadPool {
    raw: Option<NonNull<sys::ggml_threadpool>>,
    n_threads: usize,
    cpu: &'static Cpu,
}

// SAFETY: the pool is used by one executor at a time, through `&mut`.
unsafe impl Send for ThreadPool {}

impl ThreadPool {
    /// `n_threads` threads, the calling one counted; 0 asks for the default; more than the machine has
    /// are not made. Where the system makes fewer, fewer are used, and the log says so: results do not
    /// depend on their number.
    pub fn new(n_threads: usize) -> Result<Self> {
        let cpu = cpu::functions()?;
        let wanted = match n_threads {
            0 => default_threads(),
            n => n.min(max_threads()),
        };
        let n_threads = 1 + try_out(wanted - 1);
        if n_threads < wanted {
            crate::log!(Warn, "the system makes only {n_threads} of {wanted} threads");
        }
        if n_threads == 1 {
            return Ok(Self {
                raw: None,
                n_threads,
                cpu,
            });
        }
        // ggml-cpu.c:3340 writes to memory for each thread without asking whether there is any.
        probe_memory(n_threads * THREAD_MEMORY, "threads")?;
        let count = c_int::try_from(n_threads).unwrap_or(1);
        // SAFETY: the count is between 1 and GGML_MAX_N_THREADS.
        let mut params = unsafe { sys::ggml_threadpool_params_default(count) };
        // No polling: idle threads sleep, the host's processors are the host's.
        params.poll = 0;
        let mut raw = std::ptr::null_mut();
        // ggml-cpu.c:3370 aborts when a thread cannot be made: `try_out` has just made as many, and where
        // that has changed since, the shim makes an error of it.
        // SAFETY: `params` is initialised, `raw` writable.
        let code = unsafe { shim::remask_shim_threadpool_new(cpu.threadpool_new, &mut params, &mut raw) };
        if let Err(error) = shim::check(code, "make threads") {
            crate::log!(Warn, "one thread is used: {error}");
            return Ok(Self {
                raw: None,
                n_threads: 1,
                cpu,
            });
        }
        let raw =
            NonNull::new(raw).ok_or_else(|| crate::err!(Resource, "no memory for {n_threads} threads"))?;
        Ok(Self {
            raw: Some(raw),
            n_threads,
            cpu,
        })
    }

    pub fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// The backend that the threads are of.
    pub fn cpu(&self) -> &'static Cpu {
        self.cpu
    }

    pub fn raw(&self) -> *mut sys::ggml_threadpool {
        self.raw.map_or(std::ptr::null_mut(), NonNull::as_ptr)
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        if let Some(raw) = self.raw {
            // SAFETY: made by ggml_threadpool_new, freed once, and no graph is running: runs borrow
            // the executor.
            unsafe { (self.cpu.threadpool_free)(raw.as_ptr()) };
        }
    }
}

/// Stack of the threads that ggml makes: the system's default, which is larger than Rust's.
const STACK: usize = 8 << 20;

/// More than ggml keeps of a thread.
const THREAD_MEMORY: usize = 4096;

/// Makes up to `n` threads that live at the same time, ends them, and says how many there were.
fn try_out(n: usize) -> usize {
    let gate = Mutex::new(());
    std::thread::scope(|scope| {
        // Held until all are made, so that all live at once.
        let _closed = gate.lock();
        let make = |_: &usize| {
            let thread = std::thread::Builder::new().stack_size(STACK);
            thread.spawn_scoped(scope, || drop(gate.lock())).is_ok()
        };
        (0..n).take_while(make).count()
    })
}
