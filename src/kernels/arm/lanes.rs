//! What several paths do with vectors. NEON is part of every AArch64 processor.

use std::arch::aarch64::*;

use super::super::format::Format;
use super::super::pack::{FACT_BYTES, HALF_SUMS, SCALE, SCALED_SUM, SUM};
use super::super::panel::{Piece, Rows};

pub const Q8_0: u8 = 0;
pub const Q4_0: u8 = 1;
pub const Q4K: u8 = 2;
pub const Q6K: u8 = 3;

/// Rows of four 4-byte elements become columns.
#[inline(always)]
pub fn transpose(r: [uint32x4_t; 4]) -> [uint32x4_t; 4] {
    // SAFETY: NEON is there.
    unsafe {
        let (a, b) = (vtrnq_u32(r[0], r[1]), vtrnq_u32(r[2], r[3]));
        let low = |a, b| vcombine_u32(vget_low_u32(a), vget_low_u32(b));
        let high = |a, b| vcombine_u32(vget_high_u32(a), vget_high_u32(b));
        [low(a.0, b.0), low(a.1, b.1), high(a.0, b.0), high(a.1, b.1)]
    }
}

/// Adds the exact sums of row `r` over group (Q6_K: half group) `i`, columns `column ..` of four, to the
/// product.
///
/// # Safety
/// See `super::multiply`; `i` below the number of groups, `r` below 8, `column` below 29.
#[inline(always)]
pub unsafe fn finish<const KIND: u8>(
    piece: Piece,
    rows: Rows,
    i: usize,
    [r, column]: [usize; 2],
    exact: int32x4_t,
) {
    // SAFETY: a group has `FACT_BYTES`, 32 or 64 scales and 32 minimums, and sums are 32 apart.
    unsafe {
        let halves = if KIND == Q6K { 2 } else { 1 };
        let facts = rows.facts.add(i / halves * FACT_BYTES + r * 4);
        let field = if KIND == Q6K { HALF_SUMS + i % 2 } else { SUM };
        let sum = vdupq_n_s32(facts.add(field * 32).cast::<i32>().read_unaligned());
        let exact = match KIND {
            Q4_0 => vaddq_s32(exact, vshlq_n_s32::<3>(sum)),
            Q6K => vaddq_s32(exact, vshlq_n_s32::<5>(sum)),
            _ => exact,
        };
        let at = rows.sums.add(r * 32 + column);
        let scales = vld1q_f32(piece.scales.add(i * 32 + column));
        let scale = facts.add(SCALE * 32).cast::<f32>().read_unaligned();
        let scaled = vmulq_f32(vcvtq_f32_s32(exact), scales);
        let mut sum = vfmaq_f32(vld1q_f32(at), scaled, vdupq_n_f32(scale));
        if KIND == Q4K {
            let mins = vld1q_f32(piece.mins.add(i * 32 + column));
            let x = facts.add(SCALED_SUM * 32).cast::<f32>().read_unaligned();
            sum = vfmaq_f32(sum, mins, vdupq_n_f32(x));
        }
        vst1q_f32(at, sum);
    }
}

/// Groups whose sums go out together, and quads of codes in each.
#[inline(always)]
pub fn steps<const KIND: u8>(piece: Piece) -> (usize, usize) {
    if KIND == Q6K {
        (piece.n_groups * 2, 4)
    } else {
        (piece.n_groups, 8)
    }
}

/// The number that the kernels know a format by.
pub fn kind(format: Format) -> u8 {
    match format {
        Format::Q8_0 => Q8_0,
        Format::Q4_0 => Q4_0,
        Format::Q4K => Q4K,
        Format::Q6K => Q6K,
    }
}
