//! The fast paths on AArch64: safe doors, behind which the processor's instructions are known to exist.
#![allow(clippy::multiple_unsafe_ops_per_block)] // a load and what is done with it have one reason
#![allow(clippy::needless_range_loop)] // loops over registers, unrolled

mod dot;
mod i8mm;
mod lanes;
mod pack;
mod unpack;

use std::arch::is_aarch64_feature_detected;

use super::Level;
use super::format::Format;
use super::panel::{Panel, Piece, Rows};

/// `sdot`, of most processors since 2018.
pub(super) fn has_dot() -> bool {
    is_aarch64_feature_detected!("dotprod")
}

/// `smmla`, of most processors since 2021.
pub(super) fn has_i8mm() -> bool {
    has_dot() && is_aarch64_feature_detected!("i8mm")
}

/// Packs up to 8 rows of `n_k`, a multiple of 32, into a tile.
pub(super) fn pack_tile(x: &[f32], n_k: usize, out: &mut [u8]) {
    pack::tile(x, n_k, out);
}

/// Unpacks a piece of a panel: codes `[n / 4][32 rows][4]`, scales by group or half group, minimums.
pub(super) fn unpack(
    level: Level,
    format: Format,
    panel: Panel<'_>,
    codes: &mut [u8],
    scales: &mut [f32],
    mins: &mut [f32],
) {
    assert!(level.is_available());
    panel.check(format, codes, scales, mins);
    let places = (codes.as_mut_ptr(), scales.as_mut_ptr(), mins.as_mut_ptr());
    // SAFETY: `check` has compared the sizes.
    unsafe { unpack::panel(format, panel, places) };
}

/// Adds the products of a piece and up to 8 rows to their sums.
///
/// # Safety
/// The piece holds `n_groups` groups, the rows as many; sums are `[8][32]`; the level is available.
pub(super) unsafe fn multiply(level: Level, format: Format, piece: Piece, rows: Rows) {
    // SAFETY: by this function's contract.
    unsafe {
        match level {
            Level::NeonI8mm => i8mm::multiply(format, piece, rows),
            Level::NeonDot => dot::multiply::<true>(format, piece, rows),
            _ => dot::multiply::<false>(format, piece, rows),
        }
    }
}
