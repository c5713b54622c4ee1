//! Products with AVX-512 VNNI: `vpdpbusd` adds four products of unsigned and signed bytes to 32 bits.
//! Codes are unsigned; what their zero adds is taken off by the sums of the activations.

use std::arch::x86_64::*;

use super::super::format::Format;
use super::super::pack::{FACT_BYTES, HALF_SUMS, SCALE, SCALED_SUM, SUM};
use super::super::panel::{Piece, Rows};
use super::lanes::here;

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

/// The products of `N` rows and 32 columns. One body without calls or closures: what is not inlined
/// passes vectors through memory.
///
/// # Safety
/// See `super::multiply`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn block<const KIND: u8, const N: usize>(piece: Piece, rows: Rows) {
    // Scales are for the quads of half a group, or of all of it.
    let (halves, n_quads) = if KIND == Q6K { (2, 4) } else { (1, 8) };
    for i in 0..piece.n_groups * halves {
        // SAFETY: group `i` below `n_groups` has 1024 bytes of codes, 32 or 64 scales and 32 minimums, and
        // 256 bytes of codes and `FACT_BYTES` of the rows, of which a half has half; sums are 32 apart.
        unsafe {
            let facts = rows.facts.add(i / halves * FACT_BYTES);
            let mut exact = [[_mm512_setzero_si512(); 2]; N];
            for r in 0..N {
                let field = if KIND == Q6K { HALF_SUMS + i % 2 } else { SUM };
                let sum = facts.add(field * 32 + r * 4).cast::<i32>().read_unaligned();
                let sum = _mm512_set1_epi32(sum);
                exact[r] = [match KIND {
                    Q8_0 => _mm512_slli_epi32::<7>(sum),
                    Q4_0 => _mm512_slli_epi32::<3>(sum),
                    Q6K => _mm512_slli_epi32::<5>(sum),
                    _ => _mm512_setzero_si512(),
                }; 2];
            }
            let codes = piece.codes.add(i * n_quads * 128);
            let x = rows.codes.add(i * n_quads * 32);
            for q in 0..n_quads {
                let w0 = _mm512_loadu_si512(codes.add(q * 128).cast());
                let w1 = _mm512_loadu_si512(codes.add(q * 128 + 64).cast());
                for r in 0..N {
                    let four = x.add(q * 32 + r * 4).cast::<i32>().read_unaligned();
                    let four = _mm512_set1_epi32(four);
                    exact[r][0] = _mm512_dpbusd_epi32(exact[r][0], w0, four);
                    exact[r][1] = _mm512_dpbusd_epi32(exact[r][1], w1, four);
                    here!(zmm_reg, exact[r][0], exact[r][1]);
                }
            }
            for j in 0..2 {
                let scales = _mm512_loadu_ps(piece.scales.add(i * 32 + j * 16));
                for r in 0..N {
                    let at = rows.sums.add(r * 32 + j * 16);
                    let exact = _mm512_cvtepi32_ps(exact[r][j]);
                    let scale = facts.add(SCALE * 32 + r * 4).cast::<f32>().read_unaligned();
                    let scaled = _mm512_mul_ps(exact, scales);
                    let mut sum = _mm512_fmadd_ps(scaled, _mm512_set1_ps(scale), _mm512_loadu_ps(at));
                    if KIND == Q4K {
                        let mins = _mm512_loadu_ps(piece.mins.add(i * 32 + j * 16));
                        let x = facts.add(SCALED_SUM * 32 + r * 4).cast::<f32>().read_unaligned();
                        sum = _mm512_fmadd_ps(mins, _mm512_set1_ps(x), sum);
                    }
                    _mm512_storeu_ps(at, sum);
                }
            }
        }
    }
}
