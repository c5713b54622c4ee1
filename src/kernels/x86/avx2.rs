//! Products with AVX2.
//!
//! `vpmaddubsw` adds two products of an unsigned and a signed byte in 16 bits. Codes of 4 bits leave room
//! for 8 such sums (8 x 2 x 15 x 128 < 2^15), codes of 6 bits for 2 (2 x 2 x 63 x 128 < 2^15); then
//! `vpmaddwd` widens them. Signed codes of 8 bits go as magnitudes, their sign moved to the activation:
//! 2 x 128 x 127 < 2^15 leaves room for one.

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
/// See `super::multiply`; the processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn multiply(format: Format, piece: Piece, rows: Rows) {
    // SAFETY: by this function's contract.
    unsafe {
        match format {
            Format::Q8_0 => split::<Q8_0>(piece, rows),
            Format::Q4_0 => split::<Q4_0>(piece, rows),
            Format::Q4K => split::<Q4K>(piece, rows),
            Format::Q6K => split::<Q6K>(piece, rows),
        }
    }
}

/// Up to 4 rows times 16 columns at a time: as much as 16 registers hold.
#[target_feature(enable = "avx2,fma")]
unsafe fn split<const KIND: u8>(piece: Piece, rows: Rows) {
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

/// The products of `N` rows and 16 columns. One body without calls or closures: what is not inlined
/// passes vectors through memory.
///
/// # Safety
/// See `super::multiply`.
#[target_feature(enable = "avx2,fma")]
unsafe fn block<const KIND: u8, const N: usize>(piece: Piece, rows: Rows) {
    // Scales are for the quads of half a group, or of all of it.
    let (halves, n_quads) = if KIND == Q6K { (2, 4) } else { (1, 8) };
    let ones = _mm256_set1_epi16(1);
    for i in 0..piece.n_groups * halves {
        // SAFETY: group `i` below `n_groups` has 1024 bytes of codes, 32 or 64 scales and 32 minimums, of
        // which 16 columns are used, and 256 bytes of codes and `FACT_BYTES` of the rows, of which a half
        // has half; sums are 32 apart.
        unsafe {
            let facts = rows.facts.add(i / halves * FACT_BYTES);
            let codes = piece.codes.add(i * n_quads * 128);
            let x = rows.codes.add(i * n_quads * 32);
            let mut exact = [[_mm256_setzero_si256(); 2]; N];
            match KIND {
                Q8_0 => {
                    for q in 0..n_quads {
                        let w = [load(codes.add(q * 128)), load(codes.add(q * 128 + 32))];
                        let magnitudes = [_mm256_abs_epi8(w[0]), _mm256_abs_epi8(w[1])];
                        for r in 0..N {
                            let four = x.add(q * 32 + r * 4).cast::<i32>().read_unaligned();
                            let four = _mm256_set1_epi32(four);
                            for j in 0..2 {
                                let x = _mm256_sign_epi8(four, w[j]);
                                let pairs = _mm256_maddubs_epi16(magnitudes[j], x);
                                exact[r][j] = _mm256_add_epi32(exact[r][j], _mm256_madd_epi16(pairs, ones));
                            }
                            here!(ymm_reg, exact[r][0], exact[r][1]);
                        }
                    }
                }
                Q6K => {
                    for q in [0, 2] {
                        let w = [load(codes.add(q * 128)), load(codes.add(q * 128 + 32))];
                        let v = [load(codes.add(q * 128 + 128)), load(codes.add(q * 128 + 160))];
                        for r in 0..N {
                            let four = x.add(q * 32 + r * 4).cast::<i32>().read_unaligned();
                            let next = x.add(q * 32 + 32 + r * 4).cast::<i32>().read_unaligned();
                            let (four, next) = (_mm256_set1_epi32(four), _mm256_set1_epi32(next));
                            for j in 0..2 {
                                let first = _mm256_maddubs_epi16(w[j], four);
                                let pairs = _mm256_add_epi16(first, _mm256_maddubs_epi16(v[j], next));
                                exact[r][j] = _mm256_add_epi32(exact[r][j], _mm256_madd_epi16(pairs, ones));
                            }
                            here!(ymm_reg, exact[r][0], exact[r][1]);
                        }
                    }
                }
                // All quads of a group fit 16 bits.
                _ => {
                    for q in 0..n_quads {
                        let w = [load(codes.add(q * 128)), load(codes.add(q * 128 + 32))];
                        for r in 0..N {
                            let four = x.add(q * 32 + r * 4).cast::<i32>().read_unaligned();
                            let four = _mm256_set1_epi32(four);
                            for j in 0..2 {
                                let pairs = _mm256_maddubs_epi16(w[j], four);
                                exact[r][j] = _mm256_add_epi16(exact[r][j], pairs);
                            }
                            here!(ymm_reg, exact[r][0], exact[r][1]);
                        }
                    }
                    for exact in &mut exact {
                        exact[0] = _mm256_madd_epi16(exact[0], ones);
                        exact[1] = _mm256_madd_epi16(exact[1], ones);
                    }
                }
            }
            for r in 0..N {
                let field = if KIND == Q6K { HALF_SUMS + i % 2 } else { SUM };
                let sum = facts.add(field * 32 + r * 4).cast::<i32>().read_unaligned();
                let sum = _mm256_set1_epi32(sum);
                let zero = match KIND {
                    Q4_0 => _mm256_slli_epi32::<3>(sum),
                    Q6K => _mm256_slli_epi32::<5>(sum),
                    _ => _mm256_setzero_si256(),
                };
                for j in 0..2 {
                    let at = rows.sums.add(r * 32 + j * 8);
                    let scales = _mm256_loadu_ps(piece.scales.add(i * 32 + j * 8));
                    let exact = _mm256_cvtepi32_ps(_mm256_add_epi32(exact[r][j], zero));
                    let scale = facts.add(SCALE * 32 + r * 4).cast::<f32>().read_unaligned();
                    let scaled = _mm256_mul_ps(exact, scales);
                    let mut sum = _mm256_fmadd_ps(scaled, _mm256_set1_ps(scale), _mm256_loadu_ps(at));
                    if KIND == Q4K {
                        let mins = _mm256_loadu_ps(piece.mins.add(i * 32 + j * 8));
                        let x = facts.add(SCALED_SUM * 32 + r * 4).cast::<f32>().read_unaligned();
                        sum = _mm256_fmadd_ps(mins, _mm256_set1_ps(x), sum);
                    }
                    _mm256_storeu_ps(at, sum);
                }
            }
        }
    }
}
