//! Products with the 256-bit `vpdpbusd` of AVX-VNNI, which desktop processors have without AVX-512; as in
//! `avx512.rs`, codes are unsigned. The same body serves AVX-512's own encoding of that instruction, by
//! which it can be tested on processors that have only that.

use std::arch::x86_64::*;

use super::super::format::Format;
use super::super::pack::{FACT_BYTES, HALF_SUMS, SCALE, SCALED_SUM, SUM};
use super::super::panel::{Piece, Rows};
use super::lanes::{here, load};

const Q8_0: u8 = 0;
const Q4_0: u8 = 1;
const Q4K: u8 = 2;
const Q6K: u8 = 3;

/// # Safety
/// See `super::multiply`; the processor has AVX2, FMA, and AVX-VNNI or AVX-512 VL and VNNI.
pub(super) unsafe fn multiply(format: Format, piece: Piece, rows: Rows) {
    let run = match (super::has_vnni_vex(), format) {
        (true, Format::Q8_0) => vex::split::<Q8_0>,
        (true, Format::Q4_0) => vex::split::<Q4_0>,
        (true, Format::Q4K) => vex::split::<Q4K>,
        (true, Format::Q6K) => vex::split::<Q6K>,
        (false, Format::Q8_0) => evex::split::<Q8_0>,
        (false, Format::Q4_0) => evex::split::<Q4_0>,
        (false, Format::Q4K) => evex::split::<Q4K>,
        (false, Format::Q6K) => evex::split::<Q6K>,
    };
    // SAFETY: by this function's contract.
    unsafe { run(piece, rows) }
}

macro_rules! encoding {
    ($name:ident, $features:literal, $dot:ident) => {
        mod $name {
            use super::*;

            /// Up to 4 rows times 16 columns at a time: as much as 16 registers hold.
            #[target_feature(enable = $features)]
            unsafe fn split_inner<const KIND: u8>(piece: Piece, rows: Rows) {
                for first in (0..rows.n_rows).step_by(4) {
                    for half in 0..2 {
                        // SAFETY: rows and columns inside those of `multiply`.
                        unsafe {
                            let part = Rows {
                                codes: rows.codes.add(first * 4),
                                facts: rows.facts.add(first * 4),
                                sums: rows.sums.add(first * 32 + half * 16),
                                n_rows: rows.n_rows - first,
                            };
                            let columns = Piece {
                                codes: piece.codes.add(half * 64),
                                scales: piece.scales.add(half * 16),
                                mins: piece.mins.add(half * 16),
                                ..piece
                            };
                            match part.n_rows {
                                1 => block::<KIND, 1>(columns, part),
                                2 => block::<KIND, 2>(columns, part),
                                3 => block::<KIND, 3>(columns, part),
                                _ => block::<KIND, 4>(columns, part),
                            }
                        }
                    }
                }
            }

            /// # Safety
            /// See `super::multiply`; the processor has this encoding.
            pub unsafe fn split<const KIND: u8>(piece: Piece, rows: Rows) {
                // SAFETY: by this function's contract.
                unsafe { split_inner::<KIND>(piece, rows) }
            }

            /// The products of `N` rows and 16 columns.
            ///
            /// # Safety
            /// See `super::multiply`.
            #[target_feature(enable = $features)]
            unsafe fn block<const KIND: u8, const N: usize>(piece: Piece, rows: Rows) {
                // Scales are for the quads of half a group, or of all of it.
                let (halves, n_quads) = if KIND == Q6K { (2, 4) } else { (1, 8) };
                for i in 0..piece.n_groups * halves {
                    // SAFETY: group `i` below `n_groups` has 1024 bytes of codes, 32 or 64 scales and 32
                    // minimums, of which 16 columns are used, and 256 bytes of codes and `FACT_BYTES` of
                    // the rows, of which a half has half; sums are 32 apart.
                    unsafe {
                        let facts = rows.facts.add(i / halves * FACT_BYTES);
                        let mut exact = [[_mm256_setzero_si256(); 2]; N];
                        for r in 0..N {
                            let field = if KIND == Q6K { HALF_SUMS + i % 2 } else { SUM };
                            let sum = facts.add(field * 32 + r * 4).cast::<i32>().read_unaligned();
                            let sum = _mm256_set1_epi32(sum);
                            exact[r] = [match KIND {
                                Q8_0 => _mm256_slli_epi32::<7>(sum),
                                Q4_0 => _mm256_slli_epi32::<3>(sum),
                                Q6K => _mm256_slli_epi32::<5>(sum),
                                _ => _mm256_setzero_si256(),
                            }; 2];
                        }
                        let codes = piece.codes.add(i * n_quads * 128);
                        let x = rows.codes.add(i * n_quads * 32);
                        for q in 0..n_quads {
                            let w = [load(codes.add(q * 128)), load(codes.add(q * 128 + 32))];
                            for r in 0..N {
                                let four = x.add(q * 32 + r * 4).cast::<i32>().read_unaligned();
                                let four = _mm256_set1_epi32(four);
                                exact[r][0] = $dot(exact[r][0], w[0], four);
                                exact[r][1] = $dot(exact[r][1], w[1], four);
                                here!(ymm_reg, exact[r][0], exact[r][1]);
                            }
                        }
                        for r in 0..N {
                            let scale = facts.add(SCALE * 32 + r * 4).cast::<f32>().read_unaligned();
                            for j in 0..2 {
                                let at = rows.sums.add(r * 32 + j * 8);
                                let scales = _mm256_loadu_ps(piece.scales.add(i * 32 + j * 8));
                                let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(exact[r][j]), scales);
                                let sum = _mm256_loadu_ps(at);
                                let mut sum = _mm256_fmadd_ps(scaled, _mm256_set1_ps(scale), sum);
                                if KIND == Q4K {
                                    let mins = _mm256_loadu_ps(piece.mins.add(i * 32 + j * 8));
                                    let x = facts.add(SCALED_SUM * 32 + r * 4).cast::<f32>();
                                    let x = _mm256_set1_ps(x.read_unaligned());
                                    sum = _mm256_fmadd_ps(mins, x, sum);
                                }
                                _mm256_storeu_ps(at, sum);
                            }
                        }
                    }
                }
            }
        }
    };
}

encoding!(vex, "avx2,fma,avxvnni", _mm256_dpbusd_avx_epi32);
encoding!(evex, "avx2,fma,avx512f,avx512vl,avx512vnni", _mm256_dpbusd_epi32);
