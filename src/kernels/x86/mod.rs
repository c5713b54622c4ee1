//! The fast paths on x86-64: safe doors, behind which the processor's instructions are known to exist.
#![allow(clippy::multiple_unsafe_ops_per_block)] // a load and what is done with it have one reason
#![allow(clippy::needless_range_loop)] // loops over registers, unrolled

mod attend;
mod avx2;
mod avx512;
mod lanes;
mod pack;
mod unpack;
mod vnni;

use super::Level;
use super::attention::Group;
use super::format::Format;
use super::panel::{Panel, Piece, Rows};

/// AVX2, FMA and F16C.
pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// AVX-VNNI: VNNI without AVX-512.
pub(super) fn has_vnni_vex() -> bool {
    is_x86_feature_detected!("avxvnni")
}

/// VNNI on 256 bits, in either encoding.
pub(super) fn has_vnni() -> bool {
    let evex = is_x86_feature_detected!("avx512vl") && has_avx512_vnni();
    has_avx2() && (has_vnni_vex() || evex)
}

/// AVX-512 F, BW and VNNI.
pub(super) fn has_avx512_vnni() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
}

/// Packs up to 8 rows of `n_k`, a multiple of 32, into a tile.
pub(super) fn pack_tile(x: &[f32], n_k: usize, out: &mut [u8]) {
    if !has_avx2() {
        return super::pack::plain(x, n_k, out);
    }
    assert!(out.len() == super::pack::tile_bytes(n_k));
    // SAFETY: the processor has the instructions, and `out` holds a tile.
    unsafe { pack::tile(x, n_k, out) };
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
    // Only VNNI takes all codes as unsigned; for AVX2 those of Q8_0 stay signed.
    let signed = level == Level::Avx2;
    // SAFETY: the processor has the instructions; `check` has compared the sizes.
    unsafe {
        unpack::panel(
            format,
            panel,
            signed,
            codes.as_mut_ptr(),
            scales.as_mut_ptr(),
            mins.as_mut_ptr(),
        );
    }
}

/// A group of 4 queries, by the plain code compiled for AVX2.
pub(super) fn attend_256(group: Group<'_>) {
    assert!(has_avx2());
    // SAFETY: the processor has the instructions.
    unsafe { attend::four(group) }
}

/// A group of 8 queries with AVX-512.
pub(super) fn attend_512(group: Group<'_>) {
    assert!(has_avx2() && has_avx512_vnni());
    // SAFETY: the processor has the instructions.
    unsafe { attend::eight(group) }
}

/// Adds the products of a piece and up to 8 rows to their sums.
///
/// # Safety
/// The piece holds `n_groups` groups, the rows as many; sums are `[8][32]`; the level is available.
pub(super) unsafe fn multiply(level: Level, format: Format, piece: Piece, rows: Rows) {
    // SAFETY: by this function's contract.
    unsafe {
        match level {
            Level::Avx512Vnni => avx512::multiply(format, piece, rows),
            Level::AvxVnni => vnni::multiply(format, piece, rows),
            _ => avx2::multiply(format, piece, rows),
        }
    }
}
