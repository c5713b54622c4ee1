//! Matrix products of quantized weights: ours and ggml's as this project builds it, beside the peak of
//! the machine's integer instructions, all in one run and taken in turn.
//!
//! `cargo bench --bench products [-- n_k n_out n_threads...]`. GMAC/s, the best of several rounds, since
//! machines are shared; one thread's by its CPU time.
#![allow(clippy::multiple_unsafe_ops_per_block, clippy::undocumented_unsafe_blocks)] // a foreign API
#![cfg_attr(feature = "dynamic-backends", allow(dead_code, unused_imports))]

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ggml_sys as sys;
use remask::kernels::{
    Format, Level, Output, Product, Scratch, TILE, int8_peaks, pack_tile, packed_bytes, tile_bytes,
};

const ROWS: [usize; 10] = [1, 2, 3, 4, 8, 16, 32, 64, 128, 512];

#[cfg(feature = "dynamic-backends")]
fn main() {
    println!("this calls ggml's CPU backend by name: build it without the feature dynamic-backends");
}

#[cfg(not(feature = "dynamic-backends"))]
fn main() {
    let args: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let n_k = args.first().copied().unwrap_or(4096);
    let n_out = args.get(1).copied().unwrap_or(4096);
    let threads = if args.len() > 2 { &args[2..] } else { &[1, 2] };
    println!("weights {n_k} x {n_out}; best of rounds taken in turn, GMAC/s");
    for &n in threads {
        let peaks = int8_peaks(n);
        println!("\n{n} threads; peaks of int8 sums in 32 bits:");
        for peak in &peaks {
            println!("  {:24} {:7.1}", peak.name, peak.gmacs);
        }
        let first = peaks.first().map_or(f64::NAN, |p| p.gmacs);
        let levels = Level::available().into_iter().map(|l| format!("  {l:>16?}"));
        let levels: String = levels.collect();
        println!("in brackets: of the first peak");
        println!("type  rows    ggml{levels}   best / ggml");
        for format in Format::ALL {
            for n_rows in ROWS {
                line(format, [n_k, n_out, n_rows], n, first);
            }
        }
    }
}

fn line(format: Format, sizes: [usize; 3], n_threads: usize, peak: f64) {
    let [n_k, n_out, n_rows] = sizes;
    let macs = (n_k * n_out * n_rows) as f64 / 1e9;
    let values: Vec<f32> = (0..n_k * n_out)
        .map(|i| ((i * 7919 % 10_007) as f32 - 5000.0) * 1e-4)
        .collect();
    let x: Vec<f32> = (0..n_k * n_rows)
        .map(|i| ((i * 6131 % 9973) as f32 - 5000.0) * 1e-4)
        .collect();
    let mut w = vec![0u8; format.row_bytes(n_k) * n_out];
    unsafe {
        sys::ggml_quantize_chunk(
            format.id(),
            values.as_ptr(),
            w.as_mut_ptr().cast(),
            0,
            n_out as i64,
            n_k as i64,
            std::ptr::null(),
        )
    };
    let mut theirs = Theirs::new(format, &mut w, &x, sizes, n_threads);
    let levels = Level::available();
    let mut best = vec![f64::INFINITY; levels.len() + 1];
    let began = Instant::now();
    let mut rounds = 0;
    while rounds < 3 || (began.elapsed().as_secs_f64() < 0.5 && rounds < 40) {
        best[0] = best[0].min(theirs.run());
        for (i, &level) in levels.iter().enumerate() {
            best[i + 1] = best[i + 1].min(ours(level, format, &w, &x, sizes, n_threads));
        }
        rounds += 1;
    }
    let speed: Vec<f64> = best.iter().map(|s| macs / s).collect();
    print!("{:5} {n_rows:4} {:7.1}", format!("{format:?}"), speed[0]);
    for speed in &speed[1..] {
        print!("  {speed:7.1} ({:4.0} %)", speed / peak * 100.0);
    }
    println!("   {:5.2}", speed.last().unwrap_or(&0.0) / speed[0]);
}

/// What one thread computed for, where there is but one: others on the machine do not count. Else what
/// went by.
struct Clock {
    cpu: Option<f64>,
    wall: Instant,
}

impl Clock {
    fn start(n_threads: usize) -> Self {
        Self {
            cpu: (n_threads == 1).then(cpu_seconds).flatten(),
            wall: Instant::now(),
        }
    }

    fn seconds(&self) -> f64 {
        match (self.cpu, self.cpu.and_then(|_| cpu_seconds())) {
            (Some(began), Some(now)) => now - began,
            _ => self.wall.elapsed().as_secs_f64(),
        }
    }
}

fn cpu_seconds() -> Option<f64> {
    #[cfg(unix)]
    {
        let mut time: libc::timespec = unsafe { std::mem::zeroed() };
        let code = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
        (code == 0).then_some(time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9)
    }
    #[cfg(not(unix))]
    None
}

/// Seconds of one product with the packing of its rows.
fn ours(level: Level, format: Format, w: &[u8], x: &[f32], sizes: [usize; 3], n_threads: usize) -> f64 {
    let [n_k, n_out, n_rows] = sizes;
    let mut packed = vec![0u8; packed_bytes(n_k, n_rows).unwrap()];
    let mut out = vec![0f32; n_out * n_rows];
    let mut scratches: Vec<_> = (0..n_threads).map(|_| Scratch::new().unwrap()).collect();
    packed.fill(1);
    let (next_tile, next_panel, gate) = (AtomicUsize::new(0), AtomicUsize::new(0), Barrier::new(n_threads));
    let n_tiles = n_rows.div_ceil(TILE);
    let places = Places(packed.as_mut_ptr());
    let output = Output::new(&mut out);
    let work = |scratch: &mut Scratch| {
        gate.wait();
        let began = Clock::start(n_threads);
        loop {
            let i = next_tile.fetch_add(1, Ordering::Relaxed);
            if i >= n_tiles {
                break;
            }
            let rows = &x[i * TILE * n_k..((i + 1) * TILE * n_k).min(x.len())];
            let n = tile_bytes(n_k);
            let tile = unsafe { std::slice::from_raw_parts_mut(places.at(i * n), n) };
            pack_tile(Some(level), rows, n_k, tile);
        }
        gate.wait();
        let packed = unsafe { std::slice::from_raw_parts(places.at(0), n_tiles * tile_bytes(n_k)) };
        let product = Product::new(level, format, w, packed, sizes).unwrap();
        loop {
            let i = next_panel.fetch_add(1, Ordering::Relaxed);
            if i >= product.n_panels() {
                break;
            }
            unsafe { product.panel(i, &output, scratch) };
        }
        gate.wait();
        began.seconds()
    };
    let (first, rest) = scratches.split_first_mut().unwrap();
    let seconds = std::thread::scope(|scope| {
        for scratch in rest {
            scope.spawn(|| work(scratch));
        }
        work(first)
    });
    black_box(&out);
    seconds
}

struct Places(*mut u8);
unsafe impl Sync for Places {}
impl Places {
    fn at(&self, offset: usize) -> *mut u8 {
        self.0.wrapping_add(offset)
    }
}

/// ggml's product of the same.
struct Theirs {
    context: *mut sys::ggml_context,
    graph: *mut sys::ggml_cgraph,
    plan: sys::ggml_cplan,
    pool: *mut sys::ggml_threadpool,
    n_threads: usize,
    _work: Vec<u8>,
    _x: Vec<f32>,
    _out: Vec<f32>,
}

impl Theirs {
    fn new(format: Format, w: &mut [u8], x: &[f32], [n_k, n_out, n_rows]: [usize; 3], n: usize) -> Self {
        unsafe {
            let context = sys::ggml_init(sys::ggml_init_params {
                mem_size: 1 << 20,
                mem_buffer: std::ptr::null_mut(),
                no_alloc: true,
            });
            let (mut x, mut out) = (x.to_vec(), vec![0f32; n_out * n_rows]);
            let a = sys::ggml_new_tensor_2d(context, format.id(), n_k as i64, n_out as i64);
            let b = sys::ggml_new_tensor_2d(context, sys::GGML_TYPE_F32, n_k as i64, n_rows as i64);
            let y = sys::ggml_mul_mat(context, a, b);
            (*a).data = w.as_mut_ptr().cast();
            (*b).data = x.as_mut_ptr().cast();
            (*y).data = out.as_mut_ptr().cast();
            let graph = sys::ggml_new_graph(context);
            sys::ggml_build_forward_expand(graph, y);
            let mut params = sys::ggml_threadpool_params_default(n as i32);
            let pool = sys::ggml_threadpool_new(&mut params);
            let mut plan = sys::ggml_graph_plan(graph, n as i32, pool);
            let mut work = vec![0u8; plan.work_size.max(1)];
            plan.work_data = work.as_mut_ptr();
            Self {
                context,
                graph,
                plan,
                pool,
                n_threads: n,
                _work: work,
                _x: x,
                _out: out,
            }
        }
    }

    fn run(&mut self) -> f64 {
        let began = Clock::start(self.n_threads);
        unsafe { sys::ggml_graph_compute(self.graph, &mut self.plan) };
        began.seconds()
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        unsafe {
            sys::ggml_threadpool_free(self.pool);
            sys::ggml_free(self.context);
        }
    }
}
