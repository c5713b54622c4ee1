//! What the processor's integer instructions alone give: the measure of a product.

use std::time::Instant;

use super::Level;

/// The peak of one kind of instruction, measured now.
#[derive(Clone, Debug)]
pub struct Peak {
    /// The instructions.
    pub name: &'static str,
    /// Multiply-adds of bytes, summed exactly in 32 bits, on all threads together; 10^9 per second.
    pub gmacs: f64,
}

/// Peaks on `n_threads`, the slowest kind first; empty where no kernel is written for the processor. The
/// best of five short runs each, since machines have other work too.
pub fn int8_peaks(n_threads: usize) -> Vec<Peak> {
    let mut peaks = Vec::new();
    for level in Level::available() {
        let best = (0..5).map(|_| on_all(n_threads, level)).fold(0.0, f64::max);
        peaks.push(Peak {
            name: match level {
                Level::Avx2 => "vpmaddubsw + vpmaddwd",
                Level::AvxVnni => "vpdpbusd, 256 bits",
                Level::Avx512Vnni => "vpdpbusd, 512 bits",
                Level::Neon => "smull + sadalp",
                Level::NeonDot => "sdot",
                Level::NeonI8mm => "smmla",
            },
            gmacs: best,
        });
    }
    peaks
}

fn on_all(n_threads: usize, level: Level) -> f64 {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..n_threads)
            .filter_map(|_| {
                std::thread::Builder::new()
                    .spawn_scoped(scope, move || one(level))
                    .ok()
            })
            .collect();
        all.into_iter().filter_map(|t| t.join().ok()).sum()
    })
}

fn one(level: Level) -> f64 {
    let began = Instant::now();
    #[cfg(target_arch = "x86_64")]
    let n = x86::run(level);
    #[cfg(target_arch = "aarch64")]
    let n = arm::run(level);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let n = {
        let _ = level;
        0
    };
    n as f64 / began.elapsed().as_secs_f64() / 1e9
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::super::Level;
    use super::super::x86::has_vnni_vex;

    const ROUNDS: usize = 1_000_000;

    /// Multiply-adds made, with the instructions of an available level.
    #[allow(clippy::multiple_unsafe_ops_per_block)] // one of them, for one reason
    pub fn run(level: Level) -> usize {
        // SAFETY: the level is one that this processor has.
        unsafe {
            match level {
                Level::Avx512Vnni => vnni_512(),
                Level::AvxVnni if has_vnni_vex() => vnni_vex(),
                Level::AvxVnni => vnni_evex(),
                _ => avx2(),
            }
        }
    }

    #[target_feature(enable = "avx2")]
    fn avx2() -> usize {
        let (a, ones) = (black_box(_mm256_set1_epi8(3)), black_box(_mm256_set1_epi16(1)));
        let b: [__m256i; 10] = std::array::from_fn(|i| _mm256_set1_epi8(i as i8));
        let (mut b, mut sums) = (black_box(b), [_mm256_setzero_si256(); 10]);
        for _ in 0..ROUNDS {
            for i in 0..10 {
                // The operand passes through a register that the compiler cannot see into, or the
                // products would leave the loop.
                // SAFETY: no instruction stands there.
                unsafe { std::arch::asm!("/* {0} */", inout(ymm_reg) b[i], options(nomem, nostack)) };
                let pairs = _mm256_maddubs_epi16(a, b[i]);
                sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(pairs, ones));
            }
        }
        black_box(sums);
        ROUNDS * 10 * 32
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn vnni_512() -> usize {
        let (a, b) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(5)));
        let mut sums = [_mm512_setzero_si512(); 16];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
        ROUNDS * 16 * 64
    }

    macro_rules! vnni_256 {
        ($name:ident, $features:literal, $dot:ident) => {
            #[target_feature(enable = $features)]
            fn $name() -> usize {
                let (a, b) = (
                    black_box(_mm256_set1_epi8(3)),
                    black_box(_mm256_set1_epi8(5)),
                );
                let mut sums = [_mm256_setzero_si256(); 12];
                for _ in 0..ROUNDS {
                    for sum in &mut sums {
                        *sum = $dot(*sum, a, b);
                    }
                }
                black_box(sums);
                ROUNDS * 12 * 32
            }
        };
    }

    vnni_256!(vnni_vex, "avx2,avxvnni", _mm256_dpbusd_avx_epi32);
    vnni_256!(vnni_evex, "avx2,avx512f,avx512vl,avx512vnni", _mm256_dpbusd_epi32);
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;
    use std::arch::asm;
    use std::hint::black_box;

    use super::super::Level;

    const ROUNDS: usize = 1_000_000;

    /// Multiply-adds made, with the instructions of an available level.
    #[allow(clippy::multiple_unsafe_ops_per_block)] // one of them, for one reason
    pub fn run(level: Level) -> usize {
        // SAFETY: the level is one that this processor has.
        unsafe {
            match level {
                Level::NeonI8mm => smmla(),
                Level::NeonDot => sdot(),
                _ => neon(),
            }
        }
    }

    macro_rules! loop_of {
        ($name:ident, $feature:literal, $text:literal, $macs:literal) => {
            #[target_feature(enable = $feature)]
            unsafe fn $name() -> usize {
                let (a, mut sums) = (black_box(vdupq_n_s8(3)), [vdupq_n_s32(0); 16]);
                for _ in 0..ROUNDS {
                    for sum in &mut sums {
                        // SAFETY: registers alone, of instructions that the processor has.
                        unsafe {
                            asm!($text, sum = inout(vreg) *sum, a = in(vreg) a, t = out(vreg) _,
                                options(pure, nomem, nostack, preserves_flags));
                        }
                    }
                }
                black_box(sums);
                ROUNDS * 16 * $macs
            }
        };
    }

    loop_of!(
        smmla,
        "i8mm",
        "smmla {sum:v}.4s, {a:v}.16b, {a:v}.16b // {t:v}",
        32
    );
    loop_of!(
        sdot,
        "dotprod",
        "sdot {sum:v}.4s, {a:v}.16b, {a:v}.4b[0] // {t:v}",
        16
    );
    loop_of!(
        neon,
        "neon",
        "smull {t:v}.8h, {a:v}.8b, {a:v}.8b\nsadalp {sum:v}.4s, {t:v}.8h",
        8
    );
}
