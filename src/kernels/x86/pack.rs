//! Packs activations, see `kernels/pack.rs`.

use std::arch::x86_64::*;

use super::super::pack::{FACT_BYTES, HALF_SUMS, SCALE, SCALED_SUM, SUM, TILE, TINY};
use super::lanes::{store, transpose};

/// # Safety
/// `out` is of `tile_bytes(n_k)`, and `n_k` a multiple of 32.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn tile(x: &[f32], n_k: usize, out: &mut [u8]) {
    let (codes, facts) = out.split_at_mut(n_k * TILE);
    for i in 0..n_k / 32 {
        let codes = &mut codes[i * 256..][..256];
        let facts = &mut facts[i * FACT_BYTES..][..FACT_BYTES];
        let mut groups = [[_mm256_setzero_ps(); 4]; 8];
        let mut largest = [_mm256_setzero_si256(); 8];
        for (r, row) in x.chunks_exact(n_k).take(TILE).enumerate() {
            let row = &row[i * 32..][..32];
            for q in 0..4 {
                // SAFETY: 8 of the 32 floats of `row`.
                let x = unsafe { _mm256_loadu_ps(row.as_ptr().add(q * 8)) };
                groups[r][q] = x;
                let magnitude = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(i32::MAX));
                // As integers magnitudes are ordered as numbers are, with NaN above all.
                largest[r] = _mm256_max_epu32(largest[r], magnitude);
            }
        }
        let columns = transpose(largest);
        let mut most = columns[0];
        for column in &columns[1..] {
            most = _mm256_max_epu32(most, *column);
        }
        let most = _mm256_castsi256_ps(most);
        // False for NaN, whose scale then is NaN.
        let tiny = _mm256_cmp_ps::<_CMP_LE_OQ>(most, _mm256_set1_ps(TINY));
        let scale = _mm256_andnot_ps(tiny, _mm256_div_ps(most, _mm256_set1_ps(127.0)));
        let inverse = _mm256_andnot_ps(tiny, _mm256_div_ps(_mm256_set1_ps(127.0), most));
        let mut inverses = [0f32; 8];
        // SAFETY: 8 floats.
        unsafe { _mm256_storeu_ps(inverses.as_mut_ptr(), inverse) };
        let mut rows = [_mm256_setzero_si256(); 8];
        for r in 0..8 {
            let inverse = _mm256_set1_ps(inverses[r]);
            let rounded = groups[r].map(|x| _mm256_cvtps_epi32(_mm256_mul_ps(x, inverse)));
            let low = _mm256_packs_epi32(rounded[0], rounded[1]);
            let high = _mm256_packs_epi32(rounded[2], rounded[3]);
            let mixed = _mm256_packs_epi16(low, high);
            rows[r] = _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        }
        let ones = (_mm256_set1_epi8(1), _mm256_set1_epi16(1));
        let mut sums = [_mm256_setzero_si256(); 2];
        for (q, four) in transpose(rows).into_iter().enumerate() {
            // SAFETY: 32 of the 256 bytes of `codes`.
            unsafe { store(codes.as_mut_ptr().add(q * 32), four) };
            let sum = _mm256_madd_epi16(_mm256_maddubs_epi16(ones.0, four), ones.1);
            sums[q / 4] = _mm256_sub_epi32(sums[q / 4], sum);
        }
        let sum = _mm256_add_epi32(sums[0], sums[1]);
        let scaled = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(sum));
        for (field, x) in [
            (SCALE, _mm256_castps_si256(scale)),
            (SUM, sum),
            (SCALED_SUM, _mm256_castps_si256(scaled)),
            (HALF_SUMS, sums[0]),
            (HALF_SUMS + 1, sums[1]),
        ] {
            // SAFETY: each field is 32 bytes of the five.
            unsafe { store(facts.as_mut_ptr().add(field * TILE * 4), x) };
        }
    }
}
