//! Products with `sdot`, which adds four products of signed bytes to 32 bits; or, on processors of before
//! 2018, with `smull` and `sadalp`, which add two.
//!
//! `sdot` is written as the instruction itself: its intrinsic is not stable in the compilers supported.

use std::arch::aarch64::*;
use std::arch::asm;

use super::super::format::Format;
use super::super::panel::{Piece, Rows};
use super::lanes::{Q4_0, Q4K, Q6K, Q8_0, finish, kind, steps};

/// # Safety
/// See `super::multiply`; with `DOT` the processor has `sdot`.
pub(super) unsafe fn multiply<const DOT: bool>(format: Format, piece: Piece, rows: Rows) {
    // SAFETY: by this function's contract.
    unsafe {
        match kind(format) {
            Q8_0 => split::<Q8_0, DOT>(piece, rows),
            Q4_0 => split::<Q4_0, DOT>(piece, rows),
            Q4K => split::<Q4K, DOT>(piece, rows),
            _ => split::<Q6K, DOT>(piece, rows),
        }
    }
}

/// Up to 4 rows times 16 columns at a time: 16 sums of 32 registers.
unsafe fn split<const KIND: u8, const DOT: bool>(piece: Piece, rows: Rows) {
    for first in (0..rows.n_rows).step_by(4) {
        // SAFETY: rows inside those of `multiply`.
        unsafe {
            let part = Rows {
                codes: rows.codes.add(first * 4),
                facts: rows.facts.add(first * 4),
                sums: rows.sums.add(first * 32),
                n_rows: rows.n_rows - first,
            };
            for column in [0, 16] {
                match (DOT, part.n_rows) {
                    (true, 1) => dot::<KIND, 1>(piece, part, column),
                    (true, 2) => dot::<KIND, 2>(piece, part, column),
                    (true, 3) => dot::<KIND, 3>(piece, part, column),
                    (true, _) => dot::<KIND, 4>(piece, part, column),
                    (false, 1) => wide::<KIND, 1>(piece, part, column),
                    (false, 2) => wide::<KIND, 2>(piece, part, column),
                    (false, 3) => wide::<KIND, 3>(piece, part, column),
                    (false, _) => wide::<KIND, 4>(piece, part, column),
                }
            }
        }
    }
}

/// Adds to `$sum` the products of the four bytes of each column of `$w` and bytes of row `$lane` of `$x`.
macro_rules! sdot {
    ($sum:expr, $w:expr, $x:expr, $lane:literal) => {
        asm!(
            concat!("sdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[", $lane, "]"),
            sum = inout(vreg) $sum,
            w = in(vreg) $w,
            x = in(vreg) $x,
            options(pure, nomem, nostack, preserves_flags)
        )
    };
}

/// # Safety
/// See `super::multiply`; 16 columns from `column`; the processor has `sdot`.
#[target_feature(enable = "dotprod")]
unsafe fn dot<const KIND: u8, const N: usize>(piece: Piece, rows: Rows, column: usize) {
    let (n_steps, n_quads) = steps::<KIND>(piece);
    for i in 0..n_steps {
        // SAFETY: a group has 1024 bytes of codes and 256 of the rows, of which a half has half. Where fewer
        // than 4 rows are left, those read beside them are of the tile, which has 8 (`n_rows` of 5 to 8
        // begin at 0 or 4).
        unsafe {
            let codes = piece.codes.add(i * n_quads * 128 + column * 4);
            let x = rows.codes.add(i * n_quads * 32);
            let mut exact = [[vdupq_n_s32(0); 4]; N];
            for q in 0..n_quads {
                let w: [int8x16_t; 4] = std::array::from_fn(|c| vld1q_s8(codes.add(q * 128 + c * 16).cast()));
                let x = vld1q_s8(x.add(q * 32).cast());
                for c in 0..4 {
                    sdot!(exact[0][c], w[c], x, 0);
                    if N > 1 {
                        sdot!(exact[1 % N][c], w[c], x, 1);
                    }
                    if N > 2 {
                        sdot!(exact[2 % N][c], w[c], x, 2);
                    }
                    if N > 3 {
                        sdot!(exact[3 % N][c], w[c], x, 3);
                    }
                }
            }
            for r in 0..N {
                for c in 0..4 {
                    finish::<KIND>(piece, rows, i, [r, column + c * 4], exact[r][c]);
                }
            }
        }
    }
}

/// # Safety
/// See `super::multiply`; 16 columns from `column`.
unsafe fn wide<const KIND: u8, const N: usize>(piece: Piece, rows: Rows, column: usize) {
    let (n_steps, n_quads) = steps::<KIND>(piece);
    for i in 0..n_steps {
        for column in [column, column + 8] {
            // SAFETY: as in `dot`.
            unsafe {
                let codes = piece.codes.add(i * n_quads * 128 + column * 4);
                let x = rows.codes.add(i * n_quads * 32);
                // Of each column two sums, side by side.
                let mut pairs = [[vdupq_n_s32(0); 4]; N];
                for q in 0..n_quads {
                    let w: [int8x16_t; 2] =
                        std::array::from_fn(|c| vld1q_s8(codes.add(q * 128 + c * 16).cast()));
                    for r in 0..N {
                        let four = x.add(q * 32 + r * 4).cast::<i32>().read_unaligned();
                        let four = vreinterpret_s8_s32(vdup_n_s32(four));
                        for c in 0..2 {
                            let low = vmull_s8(vget_low_s8(w[c]), four);
                            let high = vmull_s8(vget_high_s8(w[c]), four);
                            pairs[r][c * 2] = vpadalq_s16(pairs[r][c * 2], low);
                            pairs[r][c * 2 + 1] = vpadalq_s16(pairs[r][c * 2 + 1], high);
                        }
                    }
                }
                for r in 0..N {
                    for c in 0..2 {
                        let exact = vpaddq_s32(pairs[r][c * 2], pairs[r][c * 2 + 1]);
                        finish::<KIND>(piece, rows, i, [r, column + c * 4], exact);
                    }
                }
            }
        }
    }
}
