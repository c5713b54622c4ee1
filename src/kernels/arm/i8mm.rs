//! Products with `smmla`: two rows of eight signed bytes times two others, four sums in 32 bits.
//!
//! It is written as the instruction itself: its intrinsic is not stable in the compilers supported.

use std::arch::aarch64::*;
use std::arch::asm;

use super::super::format::Format;
use super::super::panel::{Piece, Rows};
use super::lanes::{Q4_0, Q4K, Q6K, Q8_0, finish, kind, steps};

/// # Safety
/// See `super::multiply`; the processor has `smmla`.
#[target_feature(enable = "i8mm")]
pub(super) unsafe fn multiply(format: Format, piece: Piece, rows: Rows) {
    // SAFETY: by this function's contract.
    unsafe {
        match kind(format) {
            Q8_0 => by_rows::<Q8_0>(piece, rows),
            Q4_0 => by_rows::<Q4_0>(piece, rows),
            Q4K => by_rows::<Q4K>(piece, rows),
            _ => by_rows::<Q6K>(piece, rows),
        }
    }
}

#[target_feature(enable = "i8mm")]
unsafe fn by_rows<const KIND: u8>(piece: Piece, rows: Rows) {
    for column in (0..32).step_by(8) {
        // SAFETY: by the contract of `multiply`.
        unsafe {
            match rows.n_rows {
                1 | 2 => block::<KIND, 1>(piece, rows, column),
                3 | 4 => block::<KIND, 2>(piece, rows, column),
                5 | 6 => block::<KIND, 3>(piece, rows, column),
                _ => block::<KIND, 4>(piece, rows, column),
            }
        }
    }
}

/// Two quads, of four rows each, become pairs of rows of eight bytes.
#[inline(always)]
fn pairs(a: int32x4_t, b: int32x4_t) -> [int8x16_t; 2] {
    // SAFETY: NEON is there.
    unsafe {
        [
            vreinterpretq_s8_s32(vzip1q_s32(a, b)),
            vreinterpretq_s8_s32(vzip2q_s32(a, b)),
        ]
    }
}

/// The products of `P` pairs of rows and 8 columns.
///
/// # Safety
/// See `super::multiply`; 8 columns from `column`; the processor has `smmla`.
#[target_feature(enable = "i8mm")]
unsafe fn block<const KIND: u8, const P: usize>(piece: Piece, rows: Rows, column: usize) {
    let (n_steps, n_quads) = steps::<KIND>(piece);
    for i in 0..n_steps {
        // SAFETY: a group has 1024 bytes of codes and 256 of the rows, of which a half has half; a tile has
        // 8 rows and sums for as many, so that the second of a last pair may be one that is not asked for.
        unsafe {
            let codes = piece.codes.add(i * n_quads * 128 + column * 4);
            let x = rows.codes.add(i * n_quads * 32);
            let load = |at: *const u8| vld1q_s32(at.cast());
            // [pair of rows][pair of columns]
            let mut exact = [[vdupq_n_s32(0); 4]; P];
            for q in (0..n_quads).step_by(2) {
                let (this, next) = (codes.add(q * 128), codes.add(q * 128 + 128));
                let w0 = pairs(load(this), load(next));
                let w1 = pairs(load(this.add(16)), load(next.add(16)));
                let w = [w0[0], w0[1], w1[0], w1[1]];
                let (this, next) = (x.add(q * 32), x.add(q * 32 + 32));
                let x0 = pairs(load(this), load(next));
                let x1 = pairs(load(this.add(16)), load(next.add(16)));
                let x = [x0[0], x0[1], x1[0], x1[1]];
                for p in 0..P {
                    for c in 0..4 {
                        asm!(
                            "smmla {sum:v}.4s, {w:v}.16b, {x:v}.16b",
                            sum = inout(vreg) exact[p][c],
                            w = in(vreg) w[c],
                            x = in(vreg) x[p],
                            options(pure, nomem, nostack, preserves_flags)
                        );
                    }
                }
            }
            for p in 0..P {
                for c in 0..2 {
                    // [column][row] of two columns each.
                    let (a, b) = (exact[p][c * 2], exact[p][c * 2 + 1]);
                    let at = column + c * 4;
                    finish::<KIND>(piece, rows, i, [p * 2, at], vuzp1q_s32(a, b));
                    finish::<KIND>(piece, rows, i, [p * 2 + 1, at], vuzp2q_s32(a, b));
                }
            }
        }
    }
}
