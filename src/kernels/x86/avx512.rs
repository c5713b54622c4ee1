//! Products with AVX-512 VNNI: `vpdpbusd` adds four products of unsigned and signed bytes to 32 bits.
//! Codes are unsigned; what their zero adds is taken off by the sums of the activations.

use std::arch::x86_64::*;

use super::super::format::Format;
use super::super::pack::{FACT_BYTES, HALF_SUMS, SCALE, SCALED_SUM, SUM};
use super::super::panel::{Piece, Rows};

const Q8_0: u8 = 0;
const Q4_0: u8 = 1;
const Q4K: u8 = 2;
const Q6K: u8 = 3;

/// # Safety
/// See `super::multiply`; the processor has AVX-512 F, BW and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn multiply(format: Format, piece: Piece, rows: Rows) {
    // SAFETY: by this function's contract.
    unsafe {
        match format {
            Format::Q8_0 => by_rows::<Q8_0>(piece, rows),
            Format::Q4_0 => by_rows::<Q4_0>(piece, rows),
            Format::Q4K => by_rows::<Q4K>(piece, rows),
            Format::Q6K => by_rows::<Q6K>(piece, rows),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn by_rows<const KIND: u8>(piece: Piece, rows: Rows) {
    // SAFETY: by the contract of `multiply`.
    unsafe {
        match rows.n_rows {
            1 => block::<KIND, 1>(piece, rows),
            2 => block::<KIND, 2>(piece, rows),
            3 => block::<KIND, 3>(piece, rows),
            4 => block::<KIND, 4>(piece, rows),
            5 => block::<KIND, 5>(piece, rows),
            6 => block::<KIND, 6>(piece, rows),
            7 => block::<KIND, 7>(piece, rows),
            _ => block::<KIND, 8>(piece, rows),
        }
    }
}

/// The products of `N` rows and 32 columns.
///
/// # Safety
/// See `super::multiply`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn block<const KIND: u8, const N: usize>(piece: Piece, rows: Rows) {
    // SAFETY: group `i` below `n_groups` has 1024 bytes of codes, 32 or 64 scales and 32 minimums, and 256
    // bytes of codes and `FACT_BYTES` of the rows; sums are 32 apart.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; N];
        for (r, sums) in sums.iter_mut().enumerate() {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_loadu_ps(rows.sums.add(r * 32 + j * 16));
            }
        }
        let fact = |i: usize, field: usize, r: usize| rows.facts.add(i * FACT_BYTES + field * 32 + r * 4);
        let float = |i, field, r| _mm512_set1_ps(fact(i, field, r).cast::<f32>().read_unaligned());
        let int = |i, field, r| _mm512_set1_epi32(fact(i, field, r).cast::<i32>().read_unaligned());
        for i in 0..piece.n_groups {
            if KIND == Q6K {
                let scales =
                    |half: usize, j: usize| _mm512_loadu_ps(piece.scales.add(i * 64 + half * 32 + j * 16));
                let zeros: [__m512i; N] =
                    std::array::from_fn(|r| _mm512_slli_epi32::<5>(int(i, HALF_SUMS, r)));
                let first = quads::<N, 4>(piece.codes.add(i * 1024), rows.codes.add(i * 256), zeros);
                let mut scaled = [[_mm512_setzero_ps(); 2]; N];
                for r in 0..N {
                    for j in 0..2 {
                        scaled[r][j] = _mm512_mul_ps(_mm512_cvtepi32_ps(first[r][j]), scales(0, j));
                    }
                }
                let zeros: [__m512i; N] =
                    std::array::from_fn(|r| _mm512_slli_epi32::<5>(int(i, HALF_SUMS + 1, r)));
                let second = quads::<N, 4>(
                    piece.codes.add(i * 1024 + 512),
                    rows.codes.add(i * 256 + 128),
                    zeros,
                );
                for r in 0..N {
                    for j in 0..2 {
                        let exact = _mm512_cvtepi32_ps(second[r][j]);
                        let scaled = _mm512_fmadd_ps(exact, scales(1, j), scaled[r][j]);
                        sums[r][j] = _mm512_fmadd_ps(scaled, float(i, SCALE, r), sums[r][j]);
                    }
                }
                continue;
            }
            let zeros: [__m512i; N] = std::array::from_fn(|r| match KIND {
                Q8_0 => _mm512_slli_epi32::<7>(int(i, SUM, r)),
                Q4_0 => _mm512_slli_epi32::<3>(int(i, SUM, r)),
                _ => _mm512_setzero_si512(),
            });
            let exact = quads::<N, 8>(piece.codes.add(i * 1024), rows.codes.add(i * 256), zeros);
            for r in 0..N {
                for j in 0..2 {
                    let scales = _mm512_loadu_ps(piece.scales.add(i * 32 + j * 16));
                    let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(exact[r][j]), scales);
                    sums[r][j] = _mm512_fmadd_ps(scaled, float(i, SCALE, r), sums[r][j]);
                    if KIND == Q4K {
                        let mins = _mm512_loadu_ps(piece.mins.add(i * 32 + j * 16));
                        sums[r][j] = _mm512_fmadd_ps(mins, float(i, SCALED_SUM, r), sums[r][j]);
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                _mm512_storeu_ps(rows.sums.add(r * 32 + j * 16), *sum);
            }
        }
    }
}

/// Exact sums over `QUADS` times 4 codes, added to `zeros`.
///
/// # Safety
/// `QUADS` x 128 bytes of weights and `QUADS` x 32 bytes of rows are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn quads<const N: usize, const QUADS: usize>(
    codes: *const u8,
    rows: *const u8,
    zeros: [__m512i; N],
) -> [[__m512i; 2]; N] {
    let mut exact = zeros.map(|zero| [zero; 2]);
    for q in 0..QUADS {
        // SAFETY: by this function's contract.
        let w = unsafe {
            [
                _mm512_loadu_si512(codes.add(q * 128).cast()),
                _mm512_loadu_si512(codes.add(q * 128 + 64).cast()),
            ]
        };
        for r in 0..N {
            // SAFETY: by this function's contract.
            let four = unsafe { rows.add(q * 32 + r * 4).cast::<i32>().read_unaligned() };
            let four = _mm512_set1_epi32(four);
            for j in 0..2 {
                exact[r][j] = _mm512_dpbusd_epi32(exact[r][j], w[j], four);
            }
        }
    }
    exact
}
