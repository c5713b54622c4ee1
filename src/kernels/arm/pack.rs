//! Packs activations, see `kernels/pack.rs`.

use std::arch::aarch64::*;

use super::super::format::GROUP;
use super::super::pack::{FACT_BYTES, TILE, plain, put_facts, scale};

/// Packs up to 8 rows of `n_k`, a multiple of 32; `out` is of `tile_bytes(n_k)`.
pub(super) fn tile(x: &[f32], n_k: usize, out: &mut [u8]) {
    let (codes, facts) = out.split_at_mut(n_k * TILE);
    // Rows that are not there are zeros.
    if x.len() < n_k * TILE {
        codes.fill(0);
        facts.fill(0);
    }
    for (r, row) in x.chunks_exact(n_k).enumerate() {
        for (i, group) in row.chunks_exact(GROUP).enumerate() {
            let codes = &mut codes[i * 256..][..256];
            let facts = &mut facts[i * FACT_BYTES..][..FACT_BYTES];
            // SAFETY: 32 numbers are read, and 8 times 4 bytes written at `q * 32 + r * 4`, below 256.
            let packed = unsafe { pack_group(group.as_ptr(), codes.as_mut_ptr().add(r * 4)) };
            let Some((scale, sums)) = packed else {
                // What is not finite, the plain version knows how to keep.
                return plain(x, n_k, out);
            };
            put_facts(facts, r, scale, sums);
        }
    }
}

/// Packs 32 numbers, their codes by four 32 bytes apart; their scale, and minus the sums of the halves.
/// `None` when one is not finite.
///
/// # Safety
/// 32 numbers are readable at `x`, and 4 bytes writable at each of 8 places from `codes` on.
unsafe fn pack_group(x: *const f32, codes: *mut u8) -> Option<(f32, [i32; 2])> {
    // SAFETY: by this function's contract.
    unsafe {
        let x: [float32x4_t; 8] = std::array::from_fn(|q| vld1q_f32(x.add(q * 4)));
        // As integers magnitudes are ordered as numbers are, with NaN above all.
        let mut most = vdupq_n_u32(0);
        for x in x {
            most = vmaxq_u32(most, vreinterpretq_u32_f32(vabsq_f32(x)));
        }
        let largest = f32::from_bits(vmaxvq_u32(most));
        if !largest.is_finite() {
            return None;
        }
        let (scale, inverse) = scale(largest);
        let mut sums = [0i32; 2];
        for half in 0..2 {
            let round = |q: usize| vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(x[half * 4 + q], inverse)));
            let low = vqmovn_s16(vcombine_s16(round(0), round(1)));
            let high = vqmovn_s16(vcombine_s16(round(2), round(3)));
            let all = vcombine_s8(low, high);
            sums[half] = -i32::from(vaddlvq_s8(all));
            let four = vreinterpretq_u32_s8(all);
            let to = codes.add(half * 128);
            vst1q_lane_u32::<0>(to.cast(), four);
            vst1q_lane_u32::<1>(to.add(32).cast(), four);
            vst1q_lane_u32::<2>(to.add(64).cast(), four);
            vst1q_lane_u32::<3>(to.add(96).cast(), four);
        }
        Some((scale, sums))
    }
}
