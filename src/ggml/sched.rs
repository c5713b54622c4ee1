//! Runs graphs: on the CPU directly, over several devices through ggml's scheduler.

use ggml_sys as sys;
use std::os::raw::{c_int, c_void};
use std::ptr::NonNull;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::abort::install_hooks;
use super::ahead::Ahead;
use super::backend::Device;
use super::finished::{Graph, bytes_of};
use super::graph::{GraphBuilder, Node};
use super::pace::{Pace, thread_time};
use super::product::{Scratches, scratches};
use super::profile::{Part, Profile, Watch};
use super::rpc::Links;
use super::split::{Backend, SplitEngine};
use super::threads::ThreadPool;
use super::{DType, shim};
use crate::error::{ErrorKind, Result};

/// Owns graphs and the memory they compute in, and runs them. One run at a time.
///
/// A graph's values live in memory that all graphs of the executor share, so that everything that
/// touches them goes through [`run`](Self::run).
pub struct Executor {
    threads: ThreadPool,
    pub(super) engine: Engine,
    pub(super) graphs: Vec<Graph>,
    pub(super) placed: Option<GraphId>,
    pub(super) ahead: Ahead,
    /// For products by kernels of our own, once a graph has some.
    scratch: Option<Scratches>,
    profile: Option<Profile>,
}

/// A graph of one [`Executor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphId(usize);

/// What an input is set to before a run: as many elements as the input has.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// For an i32 input.
    I32(&'a [i32]),
    /// For an f32 input.
    F32(&'a [f32]),
}

/// Where an output goes after a run: as many elements, from the start, as the slice has.
#[derive(Debug)]
pub enum Output<'a> {
    /// Of an f32 value.
    F32(&'a mut [f32]),
    /// Of an i32 value.
    I32(&'a mut [i32]),
}

impl GraphId {
    pub(super) fn index(self) -> usize {
        self.0
    }
}

impl Input<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::I32(data) => bytes_of(data),
            Self::F32(data) => bytes_of(data),
        }
    }

    fn dtype(&self) -> DType {
        match self {
            Self::I32(_) => DType::I32,
            Self::F32(_) => DType::F32,
        }
    }
}

pub(super) enum Engine {
    Cpu(CpuEngine),
    Split(SplitEngine),
}

pub(super) struct CpuEngine {
    allocator: NonNull<sys::ggml_gallocr>,
    work: Vec<u128>,
    pace: Pace,
}

// SAFETY: an executor's memory, graphs and backends are reached through `&mut self` only, and ggml
// keeps no thread-local state for them.
unsafe impl Send for Executor {}

impl Executor {
    /// An executor on the CPU. `n_threads` 0 is the default, see [`default_threads`](super::default_threads).
    ///
    /// # Errors
    /// `Resource`, when memory or threads cannot be had.
    pub fn on_cpu(n_threads: usize) -> Result<Self> {
        install_hooks();
        let threads = ThreadPool::new(n_threads)?;
        let engine = Engine::Cpu(CpuEngine {
            allocator: allocator()?,
            work: Vec::new(),
            pace: Pace::new(threads.n_threads()),
        });
        Ok(Self {
            threads,
            engine,
            graphs: Vec::new(),
            placed: None,
            ahead: Ahead::default(),
            scratch: None,
            profile: None,
        })
    }

    /// An executor over `devices`, the CPU not among them, and the CPU: every operation runs where its
    /// weights lie.
    ///
    /// # Errors
    /// `Resource`, `Device`.
    pub fn on_devices(devices: &[Device], n_threads: usize) -> Result<Self> {
        install_hooks();
        let threads = ThreadPool::new(n_threads)?;
        let links = Links::of(devices);
        let engine = links.settle(SplitEngine::new(devices, &threads, &links))?;
        Ok(Self {
            threads,
            engine: Engine::Split(engine),
            graphs: Vec::new(),
            placed: None,
            ahead: Ahead::default(),
            scratch: None,
            profile: None,
        })
    }

    /// The number of threads on the CPU.
    pub fn n_threads(&self) -> usize {
        self.threads.n_threads()
    }

    /// Starts to note where the time of runs goes, on the CPU only; or stops and forgets.
    pub fn set_profiling(&mut self, on: bool) {
        self.profile = on.then(Profile::default);
    }

    /// What was noted since it was last asked.
    pub fn take_profile(&mut self) -> Vec<Part> {
        self.profile.as_mut().map(Profile::take).unwrap_or_default()
    }

    /// Bytes of memory that graphs compute in.
    pub fn n_bytes(&self) -> u64 {
        match &self.engine {
            Engine::Cpu(engine) => {
                // SAFETY: the allocator is live and has one buffer type.
                let n = unsafe { sys::ggml_gallocr_get_buffer_size(engine.allocator.as_ptr(), 0) };
                (n + engine.work.len() * 16) as u64
            }
            Engine::Split(engine) => {
                let size = |b: &Backend| {
                    // SAFETY: scheduler and backend are live, and the backend is one of the scheduler's.
                    unsafe { sys::ggml_backend_sched_get_buffer_size(engine.sched.as_ptr(), b.as_ptr()) }
                };
                (engine.backends.iter().map(size).sum::<usize>() * engine.n_parts()) as u64
            }
        }
    }

    /// Takes a finished description and reserves the memory to run it. Add the largest graph first:
    /// smaller ones of the same structure then fit the same memory.
    ///
    /// # Errors
    /// `Resource`, when memory is short; the executor then still runs what it held.
    pub fn add(&mut self, builder: GraphBuilder) -> Result<GraphId> {
        self.forget_ahead();
        let graph = Graph::new(builder, matches!(self.engine, Engine::Split(_)));
        if !graph.own.is_empty() {
            if self.scratch.is_none() {
                self.scratch = Some(scratches(self.threads.n_threads())?);
            }
            if let Some(scratch) = &self.scratch {
                graph.own.set_scratch(scratch);
            }
        }
        self.placed = None;
        let _turn = self.engine.turn();
        let placed = self.engine.reserve(&graph);
        let placed = self.engine.settle(placed)?;
        if let Engine::Cpu(engine) = &mut self.engine {
            let n_threads = self.threads.n_threads();
            engine.grow_work(plan(&graph, &self.threads, n_threads).work_size)?;
        }
        self.graphs.push(graph);
        let id = GraphId(self.graphs.len() - 1);
        self.placed = placed.then_some(id);
        Ok(id)
    }

    /// Forgets all graphs; their memory is kept for the next.
    pub fn clear(&mut self) {
        self.let_go();
        self.placed = None;
    }

    /// Sets `inputs`, computes graph `id` and copies `outputs`. Between two nodes of the graph (on the CPU) a set `cancel` ends the run.
    ///
    /// # Errors
    /// `Cancelled`; `Resource`; `Device`; `Internal`, when an input or output does not fit its value.
    pub fn run(
        &mut self,
        id: GraphId,
        inputs: &[(Node, Input<'_>)],
        outputs: &mut [(Node, Output<'_>)],
        cancel: Option<&AtomicBool>,
    ) -> Result<()> {
        let _turn = self.engine.turn();
        let computed = match self.finish_ahead(id, inputs) {
            Some(done) => done,
            None => self.load(id, inputs).and_then(|()| self.compute(id, cancel)),
        };
        let done = computed.and_then(|()| self.fetch(id, outputs));
        self.engine.settle(done)
    }

    /// Copies more of an output of graph `id`, whose run was the last: as many elements as `data` has, from
    /// element `first` on.
    ///
    /// # Errors
    /// `Device`; `Internal`, when another graph was placed since, or what is asked for is not there.
    pub fn read(&mut self, id: GraphId, node: Node, first: usize, data: &mut [f32]) -> Result<()> {
        self.forget_ahead();
        let graph = self.graphs.get(id.0).filter(|_| self.placed == Some(id));
        let Some(graph) = graph else {
            crate::bail!(Internal, "graph {} was not the last to run", id.0);
        };
        let _turn = self.engine.turn();
        self.engine.check_whole()?;
        let done = graph.read(node, DType::F32, first, data);
        let done = self.engine.heed(done);
        self.engine.settle(done)
    }

    /// Gives graph `id` its place and sets its inputs.
    pub(super) fn load(&mut self, id: GraphId, inputs: &[(Node, Input<'_>)]) -> Result<()> {
        let graph = self
            .graphs
            .get_mut(id.0)
            .ok_or_else(|| crate::err!(Internal, "no graph {}", id.0))?;
        if self.placed != Some(id) {
            self.placed = None;
            graph.context.forget_places();
            graph.restore_edges();
            self.engine.place(graph)?;
            self.placed = Some(id);
        }
        for (node, input) in inputs {
            let done = graph.set(*node, input.dtype(), input.bytes());
            self.engine.heed(done)?;
        }
        Ok(())
    }

    fn compute(&mut self, id: GraphId, cancel: Option<&AtomicBool>) -> Result<()> {
        let graph = &self.graphs[id.0];
        self.engine
            .compute(graph, &self.threads, cancel, self.profile.as_mut())
    }

    /// Copies what graph `id` came to.
    fn fetch(&mut self, id: GraphId, outputs: &mut [(Node, Output<'_>)]) -> Result<()> {
        let graph = &self.graphs[id.0];
        if graph.own.take_failure() {
            crate::bail!(Internal, "an operation of a graph was not computed");
        }
        for (node, output) in outputs {
            let done = match output {
                Output::F32(data) => graph.read(*node, DType::F32, 0, data),
                Output::I32(data) => graph.read(*node, DType::I32, 0, data),
            };
            self.engine.heed(done)?;
        }
        Ok(())
    }
}

impl Executor {
    /// Lets go of all graphs. What devices compute works in memory that is about to be given back: where they cannot be
    /// waited for, graphs stay, and with them the weights and caches that they hold.
    fn let_go(&mut self) {
        self.forget_ahead();
        let graphs = std::mem::take(&mut self.graphs);
        let rests = match &mut self.engine {
            Engine::Cpu(_) => true,
            Engine::Split(engine) => engine.come_to_rest(),
        };
        if !rests {
            std::mem::forget(graphs);
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Engine {
    /// What a call came to, or that a worker was lost in it.
    fn settle<T>(&self, done: Result<T>) -> Result<T> {
        match self {
            Self::Cpu(_) => done,
            Self::Split(engine) => engine.links.settle(done),
        }
    }

    /// Remembers that a call of a driver went wrong.
    pub(super) fn heed<T>(&mut self, done: Result<T>) -> Result<T> {
        if let (Self::Split(engine), Err(error)) = (self, &done) {
            engine.broken |= matches!(error.kind(), ErrorKind::Device | ErrorKind::Resource);
        }
        done
    }

    /// Held while a graph is placed or run, where devices work as one.
    fn turn(&self) -> Option<MutexGuard<'static, ()>> {
        match self {
            Self::Cpu(_) => None,
            Self::Split(engine) => engine.turn(),
        }
    }

    /// Takes the memory that `graph` computes in, and says whether the graph is placed there. On a joined device it
    /// is not before it runs: of a state ggml has room for the views of a few graphs until one of them is computed
    /// (`compute_headroom`, ggml-backend-meta.cpp:1725).
    fn reserve(&mut self, graph: &Graph) -> Result<bool> {
        match self {
            Self::Split(engine) if engine.is_joined() => {
                engine.reserve(graph.raw, &|| graph.restore_edges())?;
                Ok(false)
            }
            _ => self.place(graph).map(|()| true),
        }
    }

    /// That no driver gave up in a call.
    fn check_whole(&self) -> Result<()> {
        if matches!(self, Self::Split(engine) if engine.broken) {
            crate::bail!(
                Device,
                "the device's driver gave up in an earlier call; a new session may work"
            );
        }
        Ok(())
    }

    /// Gives every value of `graph` its place in the shared memory.
    fn place(&mut self, graph: &Graph) -> Result<()> {
        self.check_whole()?;
        let mut done = false;
        let code = match self {
            // SAFETY: allocator and graph are live.
            Self::Cpu(e) => unsafe {
                shim::remask_shim_gallocr_alloc(e.allocator.as_ptr(), graph.raw.as_ptr(), &mut done)
            },
            // SAFETY: scheduler and graph are live; its edges are the original ones.
            Self::Split(e) => unsafe {
                shim::remask_shim_sched_alloc(e.sched.as_ptr(), graph.raw.as_ptr(), &mut done)
            },
        };
        if let (Self::Split(engine), true) = (&mut *self, code != 0) {
            engine.abandon();
        }
        self.heed(shim::check(code, "place a graph"))?;
        if !done {
            // ggml's allocator would take it that it has the memory, and hand out addresses in none.
            let renewed = match self {
                Self::Cpu(engine) => engine.renew(),
                Self::Split(engine) => engine.renew(),
            };
            self.heed(renewed)?;
            crate::bail!(Resource, "no memory to compute in; a shorter canvas needs less");
        }
        Ok(())
    }

    fn compute(
        &mut self,
        graph: &Graph,
        threads: &ThreadPool,
        cancel: Option<&AtomicBool>,
        profile: Option<&mut Profile>,
    ) -> Result<()> {
        let data = cancel.map_or(std::ptr::null_mut(), |flag| {
            std::ptr::from_ref(flag).cast_mut().cast()
        });
        // What a joined device made of a graph may be half done.
        if matches!(self, Self::Split(engine) if engine.is_joined()) {
            self.check_whole()?;
        }
        let mut status = sys::GGML_STATUS_SUCCESS;
        let code = match self {
            Self::Cpu(engine) => {
                let began = Instant::now();
                let before = thread_time();
                let mut plan = plan(graph, threads, engine.pace.threads(began));
                engine.grow_work(plan.work_size)?;
                plan.work_data = engine.work.as_mut_ptr().cast();
                plan.abort_callback = cancel.map(|_| is_cancelled as _);
                plan.abort_callback_data = data;
                let mut watch = match &profile {
                    Some(_) => Some(Watch::new(graph.raw, cancel)?),
                    None => None,
                };
                graph.own.set_timed(watch.is_some());
                if let Some(watch) = &mut watch {
                    plan.abort_callback = Some(Watch::node_done);
                    plan.abort_callback_data = std::ptr::from_mut(watch).cast();
                }
                // SAFETY: the graph is placed, the plan is its own with memory of the size it asks for;
                // the flag outlives the call.
                let code = unsafe {
                    shim::remask_shim_cpu_compute(
                        threads.cpu().graph_compute,
                        graph.raw.as_ptr(),
                        &mut plan,
                        &mut status,
                    )
                };
                if let (Some(before), Some(after)) = (before, thread_time()) {
                    let busy = after.saturating_sub(before);
                    engine.pace.ran(Instant::now(), began.elapsed(), busy);
                }
                if let (Some(profile), Some(watch)) = (profile, watch) {
                    let n_threads = u32::try_from(plan.n_threads).unwrap_or(1);
                    profile.add(graph.raw, &watch, &graph.own, n_threads);
                }
                code
            }
            Self::Split(engine) => {
                // A graph that was placed on a joined device is computed, see `reserve`. The CPU only looks rows up for it.
                let stops = cancel.filter(|_| !engine.is_joined());
                engine.set_cancel(stops.map(|_| is_cancelled as _), data);
                // SAFETY: the graph is placed and live.
                let code = unsafe {
                    shim::remask_shim_sched_compute(engine.sched.as_ptr(), graph.raw.as_ptr(), &mut status)
                };
                engine.set_cancel(None, std::ptr::null_mut());
                code
            }
        };
        self.computed(code, status)
    }

    /// What a call to compute a graph came to.
    pub(super) fn computed(&mut self, code: c_int, status: sys::ggml_status) -> Result<()> {
        let done = shim::check(code, "compute a graph").and_then(|()| match status {
            sys::GGML_STATUS_SUCCESS => Ok(()),
            sys::GGML_STATUS_ABORTED => crate::bail!(Cancelled, "cancelled"),
            sys::GGML_STATUS_ALLOC_FAILED => crate::bail!(Resource, "no memory to compute in"),
            _ => crate::bail!(Device, "the device could not compute the graph (status {status})"),
        });
        self.heed(done)
    }
}

/// - n_threads: at most those of the pool
fn plan(graph: &Graph, threads: &ThreadPool, n_threads: usize) -> sys::ggml_cplan {
    // A single thread needs no pool, and the others are left asleep.
    let pool = match n_threads {
        1 => std::ptr::null_mut(),
        _ => threads.raw(),
    };
    let n_threads = c_int::try_from(n_threads).unwrap_or(1);
    // SAFETY: graph and pool are live; the count is at least 1 and no more than the pool's.
    unsafe { (threads.cpu().graph_plan)(graph.raw.as_ptr(), n_threads, pool) }
}

unsafe extern "C" fn is_cancelled(data: *mut c_void) -> bool {
    // SAFETY: `data` is the flag that `compute` borrows through the call.
    unsafe { &*data.cast::<AtomicBool>() }.load(Ordering::Relaxed)
}

/// What finds places for values on the CPU; the owner frees it.
fn allocator() -> Result<NonNull<sys::ggml_gallocr>> {
    // SAFETY: returns a static of ggml.
    let kind = unsafe { sys::ggml_backend_cpu_buffer_type() };
    // SAFETY: the buffer type is live.
    let allocator = unsafe { sys::ggml_gallocr_new(kind) };
    NonNull::new(allocator).ok_or_else(|| crate::err!(Resource, "no memory for an allocator"))
}

impl CpuEngine {
    /// Another allocator in place of one that could not get memory.
    fn renew(&mut self) -> Result<()> {
        let old = std::mem::replace(&mut self.allocator, allocator()?);
        // SAFETY: made by ggml_gallocr_new, freed once: nothing points to it any more.
        unsafe { sys::ggml_gallocr_free(old.as_ptr()) };
        Ok(())
    }

    /// Work memory is ours: ggml's own would be a `new` that throws.
    fn grow_work(&mut self, n_bytes: usize) -> Result<()> {
        let n = n_bytes.div_ceil(16);
        if n > self.work.len() {
            self.work = Vec::new();
            self.work = crate::error::try_vec(n, 0, "work memory")?;
        }
        Ok(())
    }
}

impl Drop for CpuEngine {
    fn drop(&mut self) {
        // SAFETY: made by ggml_gallocr_new, freed once.
        unsafe { sys::ggml_gallocr_free(self.allocator.as_ptr()) };
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::backend;
    use std::sync::Arc;

    use super::super::tensor::{AlignedBytes, StableBytes, WeightSet, WeightSetBuilder};
    use super::*;

    /// `y = W x` for W of 3 x 32 and x of 32 x n.
    pub fn product(set: &Arc<WeightSet>, n: usize) -> (GraphBuilder, Node, Node, Node) {
        let mut g = GraphBuilder::new(64).unwrap();
        let ids = g.input(DType::I32, [n, 1, 1, 1]).unwrap();
        let table = g.weight(&set.get(0).unwrap()).unwrap();
        let w = g.weight(&set.get(1).unwrap()).unwrap();
        let x = g.rows(table, ids).unwrap();
        let x = g.rms_norm(x, 1e-5).unwrap();
        let y = g.mul_mat(w, x).unwrap();
        g.output(y).unwrap();
        (g, ids, x, y)
    }

    pub fn weights() -> Arc<WeightSet> {
        let mut builder = WeightSetBuilder::new(2).unwrap();
        builder.declare(DType::F32, [32, 8, 1, 1]).unwrap();
        builder.declare(DType::F32, [32, 3, 1, 1]).unwrap();
        let mut memory = AlignedBytes::new(4 * 32 * 11, "a test").unwrap();
        for (i, bytes) in memory.bytes_mut().chunks_exact_mut(4).enumerate() {
            bytes.copy_from_slice(&((i * 37 % 101) as f32 * 0.1 - 5.0).to_ne_bytes());
        }
        let memory: Arc<dyn StableBytes> = Arc::new(memory);
        builder.bind_host(memory, &[(0, 0), (1, 4 * 32 * 8)]).unwrap();
        builder.finish().unwrap()
    }

    fn run(executor: &mut Executor, set: &Arc<WeightSet>, ids: &[i32]) -> Vec<f32> {
        let (g, input, _, y) = product(set, ids.len());
        let id = executor.add(g).unwrap();
        let mut out = vec![0.0; 3 * ids.len()];
        executor
            .run(
                id,
                &[(input, Input::I32(ids))],
                &mut [(y, Output::F32(&mut out))],
                None,
            )
            .unwrap();
        out
    }

    #[test]
    fn the_scheduler_over_several_backends_computes_what_the_cpu_does() {
        let set = weights();
        let mut direct = Executor::on_cpu(2).unwrap();
        // The CPU's device stands for a second one: the scheduler sees two backends.
        let mut split = Executor::on_devices(&[backend::cpu().unwrap()], 2).unwrap();
        for ids in [vec![1, 2, 3], vec![7], vec![0, 0, 5, 6, 7, 1]] {
            assert_eq!(run(&mut direct, &set, &ids), run(&mut split, &set, &ids));
        }
    }

    #[test]
    fn graphs_keep_their_values_apart() {
        keeps_apart(Executor::on_cpu(1).unwrap());
    }

    #[test]
    fn graphs_over_several_backends_keep_their_values_apart() {
        keeps_apart(Executor::on_devices(&[backend::cpu().unwrap()], 1).unwrap());
    }

    fn keeps_apart(mut executor: Executor) {
        let set = weights();
        let (big, big_in, _, big_y) = product(&set, 6);
        let (small, small_in, _, small_y) = product(&set, 2);
        let big = executor.add(big).unwrap();
        let small = executor.add(small).unwrap();
        let mut first = vec![0.0; 18];
        let ids = [0, 1, 2, 3, 4, 5];
        executor
            .run(
                big,
                &[(big_in, Input::I32(&ids))],
                &mut [(big_y, Output::F32(&mut first))],
                None,
            )
            .unwrap();
        let mut other = vec![0.0; 6];
        executor
            .run(
                small,
                &[(small_in, Input::I32(&[5, 1]))],
                &mut [(small_y, Output::F32(&mut other))],
                None,
            )
            .unwrap();
        let mut again = vec![0.0; 18];
        executor
            .run(
                big,
                &[(big_in, Input::I32(&ids))],
                &mut [(big_y, Output::F32(&mut again))],
                None,
            )
            .unwrap();
        assert_eq!(first, again);
        assert_eq!(other, [&first[15..18], &first[3..6]].concat());
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_not_an_abort() {
        let set = weights();
        let mut executor = Executor::on_cpu(1).unwrap();
        let (g, input, _, y) = product(&set, 2);
        let id = executor.add(g).unwrap();
        let mut out = vec![0.0; 6];
        let wrong = executor.run(
            id,
            &[(input, Input::I32(&[1]))],
            &mut [(y, Output::F32(&mut out))],
            None,
        );
        assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Internal);
        let mut long = vec![0.0; 7];
        let wrong = executor.run(
            id,
            &[(input, Input::I32(&[1, 2]))],
            &mut [(y, Output::F32(&mut long))],
            None,
        );
        assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Internal);
        let mut g = GraphBuilder::new(16).unwrap();
        let a = g.weight(&set.get(0).unwrap()).unwrap();
        let b = g.input(DType::F32, [31, 2, 1, 1]).unwrap();
        assert!(g.mul_mat(a, b).is_err());
        assert!(g.rms_norm(a, f32::NAN).is_err());
        assert!(g.reshape(a, [5, 5, 5]).is_err());
        assert!(g.input(DType::F32, [0, 1, 1, 1]).is_err());
    }

    #[test]
    fn an_executor_that_got_no_memory_runs_what_it_held() {
        // Over devices: tests/device_loss.rs. The CPU cannot stand for one here: where two backends have one kind of
        // memory, ggml's allocator frees it twice after this.
        let mut executor = Executor::on_cpu(1).unwrap();
        let set = weights();
        let first = run(&mut executor, &set, &[1, 2]);
        for _ in 0..2 {
            // More than a process can address.
            let mut g = GraphBuilder::new(16).unwrap();
            let x = g.input(DType::F32, [1 << 23, 1 << 23, 1, 1]).unwrap();
            let y = g.rms_norm(x, 1e-5).unwrap();
            g.output(y).unwrap();
            let error = executor.add(g).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Resource, "{error}");
        }
        assert_eq!(run(&mut executor, &set, &[1, 2]), first);
        let (g, input, _, y) = product(&set, 2);
        let id = executor.add(g).unwrap();
        let mut out = vec![0.0; 6];
        executor
            .run(
                id,
                &[(input, Input::I32(&[1, 2]))],
                &mut [(y, Output::F32(&mut out))],
                None,
            )
            .unwrap();
        assert_eq!(out, first);
    }

    #[test]
    fn a_set_flag_cancels() {
        let set = weights();
        let mut executor = Executor::on_cpu(1).unwrap();
        let (g, input, _, y) = product(&set, 2);
        let id = executor.add(g).unwrap();
        let mut out = vec![0.0; 6];
        let flag = AtomicBool::new(true);
        let error = executor
            .run(
                id,
                &[(input, Input::I32(&[1, 2]))],
                &mut [(y, Output::F32(&mut out))],
                Some(&flag),
            )
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        flag.store(false, Ordering::Relaxed);
        executor
            .run(
                id,
                &[(input, Input::I32(&[1, 2]))],
                &mut [(y, Output::F32(&mut out))],
                Some(&flag),
            )
            .unwrap();
    }
}
