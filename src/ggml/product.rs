//! Products of quantized weights by `crate::kernels`, as custom operations of a graph.
//!
//! A product is two operations: one packs the activations, shared by all products of them, one goes
//! through the weights. Between them is ggml's barrier. Both run on the CPU only, so that a set of weights
//! of which any lies elsewhere is left to ggml.

use ggml_sys as sys;
use std::os::raw::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::DType;
use super::attend::AttendOp;
use super::graph::{GraphBuilder, Node};
use crate::error::Result;
use crate::kernels::{self, Format, Level, Output, Product, Scratch, TILE};

/// GGML_N_TASKS_MAX of ggml.h, a macro that the bindings leave out: all threads.
const ALL_THREADS: c_int = -1;

/// Below these many columns a panel would be mostly empty.
const MIN_COLUMNS: usize = 32;

/// Rows from which the kernels are faster than ggml's, see `docs/products.md`.
fn rows_from(level: Level, format: Format) -> usize {
    match (level, format) {
        (Level::Avx512Vnni, Format::Q6K) => 3,
        (Level::Avx512Vnni, _) => 2,
        (Level::AvxVnni, _) => 3,
        (Level::Avx2, Format::Q8_0) => 8,
        (Level::Avx2, _) => 3,
        // Not timed on a machine: where it pays on x86-64 with the fewest instructions.
        (Level::Neon | Level::NeonDot | Level::NeonI8mm, _) => 8,
    }
}

/// Work memory of each thread of an executor.
pub(super) type Scratches = Arc<Vec<Mutex<Scratch>>>;

/// The custom operations of one graph, which point here.
#[derive(Default)]
pub(super) struct Products {
    shared: Arc<Shared>,
    packs: Vec<Arc<PackOp>>,
    products: Vec<Arc<ProductOp>>,
    attentions: Vec<Arc<AttendOp>>,
    /// Values and where they are packed.
    packed: Vec<(Node, Node)>,
    /// The values that operations make, and their clocks.
    clocks: Vec<(*const sys::ggml_tensor, Arc<Clock>)>,
}

/// Time that all threads together were at work in one operation, while that is asked for.
#[derive(Default)]
pub(super) struct Clock(AtomicU64);

/// Pieces of an operation's work, each of which one thread takes.
#[derive(Default)]
pub(super) struct Queue {
    next: AtomicUsize,
    /// Threads that found no more.
    n_done: AtomicUsize,
}

impl Queue {
    /// The pieces below `n` that the other threads leave to this one.
    pub fn of(&self, n: usize) -> impl Iterator<Item = usize> {
        std::iter::from_fn(move || Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < n))
    }

    /// One of `n_threads` is done. The last one makes the queue new: ggml's barrier stands before its next use.
    pub fn leave(&self, n_threads: c_int) {
        if self.n_done.fetch_add(1, Ordering::AcqRel) + 1 == usize::try_from(n_threads).unwrap_or(1) {
            self.next.store(0, Ordering::Relaxed);
            self.n_done.store(0, Ordering::Relaxed);
        }
    }
}

/// What all operations of a graph share.
#[derive(Default)]
pub(super) struct Shared {
    scratch: OnceLock<Scratches>,
    failed: AtomicBool,
    timed: AtomicBool,
}

struct PackOp {
    clock: Arc<Clock>,
    level: Level,
    n_k: usize,
    n_rows: usize,
    shared: Arc<Shared>,
}

struct ProductOp {
    clock: Arc<Clock>,
    level: Level,
    format: Format,
    n_k: usize,
    n_out: usize,
    n_rows: usize,
    panels: Queue,
    shared: Arc<Shared>,
}

impl Products {
    /// Whether anything here needs work memory.
    pub fn is_empty(&self) -> bool {
        self.products.is_empty() && self.attentions.is_empty()
    }

    /// What all operations of the graph share.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Keeps an operation as long as the graph.
    pub fn keep(&mut self, attention: Arc<AttendOp>) {
        self.attentions.push(attention);
    }

    /// Has the time of `value` noted.
    pub fn time(&mut self, value: *const sys::ggml_tensor, clock: Arc<Clock>) {
        self.clocks.push((value, clock));
    }

    /// Gives the operations their work memory, one for each thread.
    pub fn set_scratch(&self, scratch: &Scratches) {
        let _ = self.shared.scratch.set(scratch.clone());
    }

    /// Whether the operations note how long they were at work.
    pub fn set_timed(&self, on: bool) {
        self.shared.timed.store(on, Ordering::Relaxed);
    }

    /// How long all threads together were at work on `value` since this was last asked; `None` when it is
    /// not made here.
    pub fn take_time(&self, value: *const sys::ggml_tensor) -> Option<Duration> {
        let (_, clock) = self.clocks.iter().find(|(made, _)| *made == value)?;
        Some(Duration::from_nanos(clock.0.swap(0, Ordering::Relaxed)))
    }

    /// Whether an operation could not be computed since it was last asked.
    pub fn take_failure(&self) -> bool {
        self.shared.failed.swap(false, Ordering::Relaxed)
    }
}

/// Work memory for `n_threads`.
pub(super) fn scratches(n_threads: usize) -> Result<Scratches> {
    let all: Result<Vec<_>> = (0..n_threads).map(|_| Ok(Mutex::new(Scratch::new()?))).collect();
    Ok(Arc::new(all?))
}

impl GraphBuilder {
    /// The product of weight `a` and `b` by the kernels, where they can and are faster.
    pub(super) fn own_product(&mut self, a: Node, b: Node) -> Result<Option<Node>> {
        let (p, q) = (self.dims(a)?, self.dims(b)?);
        let (Some(format), Some(level)) = (Format::from_id(self.dtype(a)?.id()), Level::best()) else {
            return Ok(None);
        };
        let [n_k, n_out, ..] = p;
        let n_rows = q[1];
        // SAFETY: the header is live.
        let contiguous = unsafe { sys::ggml_is_contiguous(self.header(b)?) };
        let suits = self.is_host_weight(a)
            && p[0] == q[0]
            && p[2] * p[3] * q[2] * q[3] == 1
            && contiguous
            && self.dtype(b)? == DType::F32
            && n_k.is_multiple_of(format.block_len())
            && n_out >= MIN_COLUMNS
            && n_rows >= rows_from(level, format);
        if !suits {
            return Ok(None);
        }
        let packed = match self.own.packed.iter().find(|(of, _)| *of == b) {
            Some((_, packed)) => *packed,
            None => self.pack(level, b, n_k, n_rows)?,
        };
        let shared = self.own.shared.clone();
        let clock = Arc::<Clock>::default();
        let op = Arc::new(ProductOp {
            clock: clock.clone(),
            level,
            format,
            n_k,
            n_out,
            n_rows,
            panels: Queue::default(),
            shared,
        });
        let data = Arc::as_ptr(&op).cast_mut().cast();
        self.own.products.push(op);
        let dims = [n_out, n_rows];
        let node = self.custom(sys::GGML_TYPE_F32, dims, &[a, packed], compute_product, data)?;
        let value = self.get(node)?.as_ptr().cast_const();
        self.own.clocks.push((value, clock));
        Ok(Some(node))
    }

    fn pack(&mut self, level: Level, x: Node, n_k: usize, n_rows: usize) -> Result<Node> {
        let n_bytes = kernels::packed_bytes(n_k, n_rows)
            .ok_or_else(|| crate::err!(Limit, "{n_rows} rows of {n_k} are too large to pack"))?;
        let clock = Arc::<Clock>::default();
        let op = Arc::new(PackOp {
            clock: clock.clone(),
            level,
            n_k,
            n_rows,
            shared: self.own.shared.clone(),
        });
        let data = Arc::as_ptr(&op).cast_mut().cast();
        self.own.packs.push(op);
        let node = self.custom(sys::GGML_TYPE_I8, [n_bytes, 1], &[x], compute_pack, data)?;
        self.own.packed.push((x, node));
        let value = self.get(node)?.as_ptr().cast_const();
        self.own.clocks.push((value, clock));
        Ok(node)
    }

    /// A value of `dims` that `compute` fills from `args`; `data` lives as long as the graph.
    pub(super) fn custom(
        &mut self,
        dtype: sys::ggml_type,
        dims: [usize; 2],
        args: &[Node],
        compute: unsafe extern "C" fn(*mut sys::ggml_tensor, c_int, c_int, *mut c_void),
        data: *mut c_void,
    ) -> Result<Node> {
        self.room()?;
        let mut raw = Vec::new();
        for &arg in args {
            raw.push(self.get(arg)?.as_ptr());
        }
        let [n, m] = dims.map(|d| i64::try_from(d).unwrap_or(i64::MAX));
        // ggml.c asserts fewer than 10 arguments: there are up to three.
        let n_args = c_int::try_from(raw.len()).unwrap_or(c_int::MAX);
        // SAFETY: the arguments are live values of this graph, and there is room.
        let node = unsafe {
            sys::ggml_custom_4d(
                self.context.raw(),
                dtype,
                n,
                m,
                1,
                1,
                raw.as_mut_ptr(),
                n_args,
                Some(compute),
                ALL_THREADS,
                data,
            )
        };
        self.push(node)
    }
}

/// The data of argument `i`, of `n_bytes`.
///
/// # Safety
/// `dst` is a live value whose argument `i` has data that nobody writes while the result lives.
unsafe fn argument<'a>(dst: *const sys::ggml_tensor, i: usize) -> &'a [u8] {
    // SAFETY: by this function's contract.
    let src = unsafe { (*dst).src[i] };
    // SAFETY: a live header.
    let n_bytes = unsafe { sys::ggml_nbytes(src) };
    // SAFETY: as above.
    let data = unsafe { (*src).data };
    // SAFETY: ggml placed the value: it has data of its size.
    unsafe { std::slice::from_raw_parts(data.cast(), n_bytes) }
}

/// The numbers of argument `i`.
///
/// # Safety
/// As of [`argument`].
pub(super) unsafe fn numbers<'a>(dst: *const sys::ggml_tensor, i: usize) -> Option<&'a [f32]> {
    // SAFETY: by this function's contract.
    let bytes = unsafe { argument(dst, i) };
    // SAFETY: every bit pattern is a float.
    let (head, numbers, tail) = unsafe { bytes.align_to::<f32>() };
    (head.is_empty() && tail.is_empty()).then_some(numbers)
}

/// Runs `compute`; what goes wrong in it must not unwind into C and fails the graph instead.
pub(super) fn guarded(shared: &Shared, clock: &Clock, compute: impl FnOnce() -> Option<()>) {
    let began = shared.timed.load(Ordering::Relaxed).then(Instant::now);
    // What a panic leaves half done is not looked at: the graph's result is discarded.
    if !matches!(catch_unwind(AssertUnwindSafe(compute)), Ok(Some(()))) {
        shared.failed.store(true, Ordering::Relaxed);
    }
    if let Some(began) = began {
        let ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        clock.0.fetch_add(ns, Ordering::Relaxed);
    }
}

/// Runs `compute` with thread `ith`'s work memory.
pub(super) fn with_scratch(shared: &Shared, ith: c_int, compute: impl FnOnce(&mut Scratch)) -> Option<()> {
    let scratches = shared.scratch.get()?;
    match scratches.get(usize::try_from(ith).ok()?).map(Mutex::try_lock) {
        Some(Ok(mut scratch)) => compute(&mut scratch),
        // A second backend may have more threads than the executor's pool.
        _ => compute(&mut Scratch::new().ok()?),
    }
    Some(())
}

unsafe extern "C" fn compute_pack(dst: *mut sys::ggml_tensor, ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: `pack` passed a `PackOp` that lives with the graph.
    let op = unsafe { &*data.cast::<PackOp>() };
    guarded(&op.shared, &op.clock, || {
        let (ith, nth) = (usize::try_from(ith).ok()?, usize::try_from(nth).ok()?);
        // SAFETY: ggml passes a placed value with placed arguments, which are not written meanwhile.
        let x = unsafe { numbers(dst, 0) }?;
        let tile_bytes = kernels::tile_bytes(op.n_k);
        if x.len() != op.n_k * op.n_rows {
            return None;
        }
        // SAFETY: the value is live.
        let out = unsafe { (*dst).data.cast::<u8>() };
        // SAFETY: the value is live.
        let out_bytes = unsafe { sys::ggml_nbytes(dst) };
        for (i, rows) in x.chunks(TILE * op.n_k).enumerate().skip(ith).step_by(nth) {
            if (i + 1) * tile_bytes > out_bytes {
                return None;
            }
            // SAFETY: inside the value: checked above.
            let tile = unsafe { out.add(i * tile_bytes) };
            // SAFETY: as above, and every tile is one thread's.
            let tile = unsafe { std::slice::from_raw_parts_mut(tile, tile_bytes) };
            kernels::pack_tile(Some(op.level), rows, op.n_k, tile);
        }
        Some(())
    });
}

unsafe extern "C" fn compute_product(dst: *mut sys::ggml_tensor, ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: `own_product` passed a `ProductOp` that lives with the graph.
    let op = unsafe { &*data.cast::<ProductOp>() };
    guarded(&op.shared, &op.clock, || {
        // SAFETY: ggml passes a placed value with placed arguments, which are not written meanwhile.
        let weights = unsafe { argument(dst, 0) };
        // SAFETY: as above.
        let packed = unsafe { argument(dst, 1) };
        let sizes = [op.n_k, op.n_out, op.n_rows];
        let product = Product::new(op.level, op.format, weights, packed, sizes)?;
        // SAFETY: the value is live.
        let out = unsafe { (*dst).data.cast::<f32>() };
        // SAFETY: the value is f32 of these sizes: `own_product` made it. It is written through this
        // only, and threads have panels of their own.
        let out = unsafe { Output::from_raw(out, op.n_out * op.n_rows) };
        with_scratch(&op.shared, ith, |scratch| {
            for i in op.panels.of(product.n_panels()) {
                // SAFETY: the queue gives every panel to one thread.
                unsafe { product.panel(i, &out, scratch) };
            }
        })
    });
    op.panels.leave(nth);
}

#[cfg(test)]
mod tests {
    use super::super::tensor::{AlignedBytes, StableBytes, WeightSet, WeightSetBuilder};
    use super::super::{Executor, Input, Output, pack, unpack};
    use super::*;
    use crate::kernels::{GROUP, testing::noise};

    /// A table of f32 rows to look up, which makes activations, and one matrix.
    fn set(format: Format, table: &[f32], w: &[u8], n_k: usize, n_out: usize) -> Arc<WeightSet> {
        let mut builder = WeightSetBuilder::new(2).unwrap();
        let dims = |n: usize| [n_k as u64, n as u64, 1, 1];
        builder.declare(DType::F32, dims(table.len() / n_k)).unwrap();
        builder
            .declare(DType::matrix(format.id()).unwrap(), dims(n_out))
            .unwrap();
        let mut memory = AlignedBytes::new(table.len() * 4 + w.len(), "a test").unwrap();
        let (a, b) = memory.bytes_mut().split_at_mut(table.len() * 4);
        for (to, x) in a.chunks_exact_mut(4).zip(table) {
            to.copy_from_slice(&x.to_ne_bytes());
        }
        b.copy_from_slice(w);
        let memory: Arc<dyn StableBytes> = Arc::new(memory);
        builder
            .bind_host(memory, &[(0, 0), (1, table.len() * 4)])
            .unwrap();
        builder.finish().unwrap()
    }

    /// The product of the matrix and `n_rows` rows of the table.
    fn run(executor: &mut Executor, set: &Arc<WeightSet>, n_rows: usize, own: bool) -> Vec<f32> {
        let mut g = GraphBuilder::new(16).unwrap();
        let ids = g.input(DType::I32, [n_rows, 1, 1, 1]).unwrap();
        let table = g.weight(&set.get(0).unwrap()).unwrap();
        let w = g.weight(&set.get(1).unwrap()).unwrap();
        let x = g.rows(table, ids).unwrap();
        let y = g.product(w, x, own).unwrap();
        assert_eq!(g.own.is_empty(), !own || Level::best().is_none());
        g.output(y).unwrap();
        let n_out = g.dims(y).unwrap()[0];
        let id = executor.add(g).unwrap();
        let ids_in: Vec<i32> = (0..n_rows as i32).collect();
        let mut out = vec![f32::NAN; n_out * n_rows];
        for _ in 0..2 {
            executor
                .run(
                    id,
                    &[(ids, Input::I32(&ids_in))],
                    &mut [(y, Output::F32(&mut out))],
                    None,
                )
                .unwrap();
        }
        out
    }

    fn numbers(seed: u64, n: usize) -> impl Iterator<Item = f32> {
        (0..n as u64).map(move |i| noise(seed, i) as f32 / u32::MAX as f32 * 2.0 - 1.0)
    }

    fn packed(format: Format, n_k: usize, n_out: usize) -> Vec<u8> {
        let values: Vec<f32> = numbers(11, n_k * n_out).collect();
        let mut w = vec![0u8; format.row_bytes(n_k) * n_out];
        pack(DType::matrix(format.id()).unwrap(), n_k, &values, None, &mut w).unwrap();
        w
    }

    /// Root of the mean square of the difference to the product in f64, over that of the product.
    fn error(found: &[f32], w: &[f32], x: &[f32], n_k: usize) -> f64 {
        let n_out = w.len() / n_k;
        let (mut error, mut all) = (0.0, 0.0);
        for (i, found) in found.iter().enumerate() {
            let (w, x) = (&w[i % n_out * n_k..][..n_k], &x[i / n_out * n_k..][..n_k]);
            let exact: f64 = w.iter().zip(x).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            error += (f64::from(*found) - exact).powi(2);
            all += exact.powi(2);
        }
        (error / all).sqrt()
    }

    #[test]
    fn products_are_as_near_to_f32_as_ggmls() {
        let (n_k, n_out, n_rows) = (1024, 70, 24);
        // As in a network, few are large.
        let x: Vec<f32> = numbers(12, n_k * n_rows).map(|x| x.powi(5) * 3.0).collect();
        for format in Format::ALL {
            let w = packed(format, n_k, n_out);
            let set = set(format, &x, &w, n_k, n_out);
            let mut plain = vec![0f32; n_k * n_out];
            unpack(DType::matrix(format.id()).unwrap(), &w, &mut plain).unwrap();
            for n_threads in [1, 2] {
                let mut executor = Executor::on_cpu(n_threads).unwrap();
                let theirs = error(&run(&mut executor, &set, n_rows, false), &plain, &x, n_k);
                let ours = error(&run(&mut executor, &set, n_rows, true), &plain, &x, n_k);
                println!("{format:?}: relative error {ours:.5}, ggml's {theirs:.5}");
                assert!(ours <= theirs * 1.02, "{format:?}: {ours} against {theirs}");
            }
        }
    }

    #[test]
    fn threads_and_the_scheduler_give_the_same_bits() {
        let (n_k, n_out, n_rows) = (512, 300, 33);
        let x: Vec<f32> = numbers(1, n_k * n_rows).collect();
        let w = packed(Format::Q4K, n_k, n_out);
        let set = set(Format::Q4K, &x, &w, n_k, n_out);
        let one = run(&mut Executor::on_cpu(1).unwrap(), &set, n_rows, true);
        let cpu = super::super::backend::cpu().unwrap();
        assert_eq!(one, run(&mut Executor::on_cpu(2).unwrap(), &set, n_rows, true));
        assert_eq!(
            one,
            run(&mut Executor::on_devices(&[cpu], 2).unwrap(), &set, n_rows, true)
        );
    }

    #[test]
    fn a_profile_tells_work_from_waiting() {
        if Level::best().is_none() {
            return;
        }
        let (n_k, n_out, n_rows) = (512, 300, 33);
        let x: Vec<f32> = numbers(1, n_k * n_rows).collect();
        let w = packed(Format::Q8_0, n_k, n_out);
        let set = set(Format::Q8_0, &x, &w, n_k, n_out);
        let mut executor = Executor::on_cpu(2).unwrap();
        executor.set_profiling(true);
        run(&mut executor, &set, n_rows, true);
        let parts = executor.take_profile();
        let count = |name: &str| parts.iter().find(|p| p.name == name).map(|p| p.n);
        // Two passes of one packing and one product.
        assert_eq!(count("head q8_0"), Some(2), "{parts:?}");
        assert_eq!(count("packing"), Some(2), "{parts:?}");
        assert_eq!(count("waiting"), Some(4), "{parts:?}");
    }

    #[test]
    fn a_group_is_what_ggml_unpacks() {
        for format in Format::ALL {
            let row = crate::kernels::testing::weights(format, 512, 1, 7);
            let mut expected = vec![0f32; 512];
            unpack(DType::matrix(format.id()).unwrap(), &row, &mut expected).unwrap();
            for (i, expected) in expected.chunks_exact(GROUP).enumerate() {
                let group = format.group(&row, i);
                for (l, x) in expected.iter().enumerate() {
                    let code = f32::from(group.codes[l]) - f32::from(format.zero());
                    let found = group.scales[l / 16] * code - group.min;
                    assert!((found - x).abs() <= 1e-6, "{format:?} {i} {l}: {found} {x}");
                }
            }
        }
    }
}
