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
use super::lanes::load;

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

/// The products of `N` rows and 16 columns.
///
/// # Safety
/// See `super::multiply`.
#[target_feature(enable = "avx2,fma")]
unsafe fn block<const KIND: u8, const N: usize>(piece: Piece, rows: Rows) {
    // SAFETY: group `i` below `n_groups` has 1024 bytes of codes and 32 or 64 scales and 32 minimums, of
    // which 16 columns are used, and 256 bytes of codes and `FACT_BYTES` of the rows; sums are 32 apart.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); 2]; N];
        for (r, sums) in sums.iter_mut().enumerate() {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = _mm256_loadu_ps(rows.sums.add(r * 32 + j * 8));
            }
        }
        let fact = |i: usize, field: usize, r: usize| rows.facts.add(i * FACT_BYTES + field * 32 + r * 4);
        let float = |i, field, r| _mm256_broadcast_ss(&*fact(i, field, r).cast());
        let int = |i, field, r| _mm256_set1_epi32(fact(i, field, r).cast::<i32>().read_unaligned());
        for i in 0..piece.n_groups {
            if KIND == Q6K {
                let scales =
                    |half: usize, j: usize| _mm256_loadu_ps(piece.scales.add(i * 64 + half * 32 + j * 8));
                let first = half_group::<KIND, N, 4>(piece.codes.add(i * 1024), rows.codes.add(i * 256));
                let mut scaled = [[_mm256_setzero_ps(); 2]; N];
                for r in 0..N {
                    let zero = _mm256_slli_epi32::<5>(int(i, HALF_SUMS, r));
                    for j in 0..2 {
                        let exact = _mm256_cvtepi32_ps(_mm256_add_epi32(first[r][j], zero));
                        scaled[r][j] = _mm256_mul_ps(exact, scales(0, j));
                    }
                }
                let second =
                    half_group::<KIND, N, 4>(piece.codes.add(i * 1024 + 512), rows.codes.add(i * 256 + 128));
                for r in 0..N {
                    let zero = _mm256_slli_epi32::<5>(int(i, HALF_SUMS + 1, r));
                    for j in 0..2 {
                        let exact = _mm256_cvtepi32_ps(_mm256_add_epi32(second[r][j], zero));
                        let scaled = _mm256_fmadd_ps(exact, scales(1, j), scaled[r][j]);
                        sums[r][j] = _mm256_fmadd_ps(scaled, float(i, SCALE, r), sums[r][j]);
                    }
                }
                continue;
            }
            let exact = half_group::<KIND, N, 8>(piece.codes.add(i * 1024), rows.codes.add(i * 256));
            for r in 0..N {
                for j in 0..2 {
                    let mut exact = exact[r][j];
                    if KIND == Q4_0 {
                        exact = _mm256_add_epi32(exact, _mm256_slli_epi32::<3>(int(i, SUM, r)));
                    }
                    let scales = _mm256_loadu_ps(piece.scales.add(i * 32 + j * 8));
                    let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(exact), scales);
                    sums[r][j] = _mm256_fmadd_ps(scaled, float(i, SCALE, r), sums[r][j]);
                    if KIND == Q4K {
                        let mins = _mm256_loadu_ps(piece.mins.add(i * 32 + j * 8));
                        sums[r][j] = _mm256_fmadd_ps(mins, float(i, SCALED_SUM, r), sums[r][j]);
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                _mm256_storeu_ps(rows.sums.add(r * 32 + j * 8), *sum);
            }
        }
    }
}

/// Exact sums over `QUADS` times 4 codes.
///
/// # Safety
/// `QUADS` x 128 bytes of weights, less the columns before, and `QUADS` x 32 bytes of rows are readable.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn half_group<const KIND: u8, const N: usize, const QUADS: usize>(
    codes: *const u8,
    rows: *const u8,
) -> [[__m256i; 2]; N] {
    let ones = _mm256_set1_epi16(1);
    // Sums of 16 bits that are widened after `run` quads.
    let run = match KIND {
        Q8_0 => 1,
        Q6K => 2,
        _ => 8,
    };
    let mut exact = [[_mm256_setzero_si256(); 2]; N];
    let mut narrow = [[_mm256_setzero_si256(); 2]; N];
    for q in 0..QUADS {
        // SAFETY: by this function's contract.
        let w = unsafe { [load(codes.add(q * 128)), load(codes.add(q * 128 + 32))] };
        let magnitudes = w.map(|w| if KIND == Q8_0 { _mm256_abs_epi8(w) } else { w });
        for r in 0..N {
            // SAFETY: by this function's contract.
            let four = unsafe { rows.add(q * 32 + r * 4).cast::<i32>().read_unaligned() };
            let four = _mm256_set1_epi32(four);
            for j in 0..2 {
                let x = if KIND == Q8_0 {
                    _mm256_sign_epi8(four, w[j])
                } else {
                    four
                };
                let products = _mm256_maddubs_epi16(magnitudes[j], x);
                narrow[r][j] = if q % run == 0 {
                    products
                } else {
                    _mm256_add_epi16(narrow[r][j], products)
                };
                if q % run == run - 1 {
                    let wide = _mm256_madd_epi16(narrow[r][j], ones);
                    exact[r][j] = if q < run {
                        wide
                    } else {
                        _mm256_add_epi32(exact[r][j], wide)
                    };
                }
            }
        }
    }
    exact
}
