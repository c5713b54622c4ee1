//! What the machine can do, measured: the yardsticks of `remask bench`.

use std::hint::black_box;
use std::time::Instant;

use remask::kernels::{Peak, int8_peaks};

/// Peaks on some threads together.
pub struct Peaks {
    /// Multiply-adds of f32, 10^9 per second.
    pub f32_gmacs: f64,
    /// Of bytes, by kind of instruction; empty where none is measured.
    pub int8: Vec<Peak>,
    /// Bytes read from memory per second, 10^9.
    pub read_gb: f64,
}

impl Peaks {
    pub fn measure(n_threads: usize) -> Self {
        Self {
            f32_gmacs: f32_gmacs(n_threads),
            int8: int8_peaks(n_threads),
            read_gb: read_gb(n_threads),
        }
    }

    /// The peak that fractions are given of: that of the instructions all such processors have.
    pub fn int8_gmacs(&self) -> Option<f64> {
        self.int8.first().map(|p| p.gmacs)
    }
}

fn on_all(n_threads: usize, work: impl Fn() -> f64 + Sync) -> f64 {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..n_threads).map(|_| scope.spawn(&work)).collect();
        all.into_iter().filter_map(|t| t.join().ok()).sum()
    })
}

/// Multiply-adds per second of dependent-free f32 arithmetic.
fn f32_gmacs(n_threads: usize) -> f64 {
    const LANES: usize = 96;
    const ROUNDS: usize = 400_000;
    on_all(n_threads, || {
        let mut sums = [1.0f32; LANES];
        let (a, b) = (black_box(0.999_999f32), black_box(1e-7f32));
        let began = Instant::now();
        for _ in 0..ROUNDS {
            for x in &mut sums {
                *x = x.mul_add(a, b);
            }
        }
        black_box(sums);
        (LANES * ROUNDS) as f64 / began.elapsed().as_secs_f64() / 1e9
    })
}

/// Reading of memory that no cache holds: the best of three passes over 128 MiB for each thread.
fn read_gb(n_threads: usize) -> f64 {
    const WORDS: usize = (128 << 20) / 8;
    let mut blocks = Vec::new();
    for _ in 0..n_threads {
        let mut block: Vec<u64> = Vec::new();
        if block.try_reserve_exact(WORDS).is_err() {
            return f64::NAN;
        }
        block.resize(WORDS, 1);
        blocks.push(block);
    }
    let once = || {
        let began = Instant::now();
        std::thread::scope(|scope| {
            for block in &blocks {
                scope.spawn(move || {
                    let mut sums = [0u64; 32];
                    for words in block.chunks_exact(32) {
                        for (sum, word) in sums.iter_mut().zip(words) {
                            *sum = sum.wrapping_add(*word);
                        }
                    }
                    black_box(sums);
                });
            }
        });
        (n_threads * WORDS * 8) as f64 / began.elapsed().as_secs_f64() / 1e9
    };
    (0..3).map(|_| once()).fold(0.0, f64::max)
}

/// Memory of this process that lies in RAM, in bytes.
#[derive(Clone, Copy)]
pub struct Resident {
    /// Pages of its own.
    pub anonymous: u64,
    /// Pages of files, such as the mapped model.
    pub file: u64,
    /// The most that both were.
    pub peak: u64,
}

impl Resident {
    /// Now; `None` where the system does not tell (it is read from `/proc`).
    pub fn now() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let value = |key: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(key))?;
            Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
        };
        Some(Self {
            anonymous: value("RssAnon:")?,
            file: value("RssFile:")?,
            peak: value("VmHWM:")?,
        })
    }
}
