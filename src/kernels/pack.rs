//! Activations as products want them: 8 bits, 8 rows side by side.
//!
//! Rows are cut into groups of 32, each with its own f32 scale `largest / 127` (ggml's Q8_0 with a finer
//! scale; its Q8_K has one for 256). Eight rows make a *tile*, so that a kernel finds what it needs of
//! them side by side:
//!
//! ```text
//! codes   [n_k / 4][8 rows][4]            i8
//! facts   [n_k / 32][FIELDS][8 rows]      4 bytes each, see the fields
//! ```
//!
//! A row that is not finite gets a scale that is not, so that its products are not.
#![forbid(unsafe_code)]

use super::Level;
use super::format::GROUP;

/// Rows side by side.
pub const TILE: usize = 8;

/// Facts about 32 codes: their scale (f32); minus their sum (i32); that times the scale (f32); minus the
/// sums of their halves (i32).
pub(super) const FIELDS: usize = 5;
pub(super) const SCALE: usize = 0;
pub(super) const SUM: usize = 1;
pub(super) const SCALED_SUM: usize = 2;
pub(super) const HALF_SUMS: usize = 3;

/// Bytes of facts about a group of a tile.
pub(super) const FACT_BYTES: usize = FIELDS * TILE * 4;

/// A group whose largest magnitude is at most this becomes 0: 127 over it must be finite.
pub(super) const TINY: f32 = 1e-36;

/// Bytes of one tile of rows of `n_k`, a multiple of 32.
pub const fn tile_bytes(n_k: usize) -> usize {
    n_k * TILE + n_k / GROUP * FACT_BYTES
}

/// Bytes of `n_rows` packed rows; `None` where that overflows.
pub fn packed_bytes(n_k: usize, n_rows: usize) -> Option<usize> {
    let per_tile = n_k.checked_mul(TILE + FACT_BYTES / GROUP)?;
    n_rows.div_ceil(TILE).checked_mul(per_tile)
}

/// Packs one tile: up to 8 rows of `n_k`, row-major in `x`; missing rows are zeros.
///
/// # Panics
/// When `x` has other than 1 to 8 rows, or `out` is not of [`tile_bytes`].
pub fn pack_tile(level: Option<Level>, x: &[f32], n_k: usize, out: &mut [u8]) {
    assert!(n_k > 0 && n_k.is_multiple_of(GROUP) && x.len().is_multiple_of(n_k));
    assert!((1..=TILE).contains(&(x.len() / n_k)) && out.len() == tile_bytes(n_k));
    match level {
        #[cfg(target_arch = "x86_64")]
        Some(_) => super::x86::pack_tile(x, n_k, out),
        #[cfg(target_arch = "aarch64")]
        Some(_) => super::arm::pack_tile(x, n_k, out),
        _ => plain(x, n_k, out),
    }
}

/// The scale of numbers up to `largest`, and what to multiply them with.
pub(super) fn scale(largest: f32) -> (f32, f32) {
    if largest <= TINY {
        (0.0, 0.0)
    } else {
        (largest / 127.0, 127.0 / largest)
    }
}

/// Rounds as the hardware does: to even, and what is no number to -128.
fn round(x: f32) -> i8 {
    if x.is_nan() {
        -128
    } else {
        x.round_ties_even() as i8
    }
}

/// Writes the facts about a group of row `r`: its scale, and minus the sums of its halves.
pub(super) fn put_facts(facts: &mut [u8], r: usize, scale: f32, sums: [i32; 2]) {
    let sum = sums[0] + sums[1];
    let mut put = |field: usize, bytes: [u8; 4]| {
        facts[(field * TILE + r) * 4..][..4].copy_from_slice(&bytes);
    };
    put(SCALE, scale.to_ne_bytes());
    put(SUM, sum.to_ne_bytes());
    put(SCALED_SUM, (scale * sum as f32).to_ne_bytes());
    put(HALF_SUMS, sums[0].to_ne_bytes());
    put(HALF_SUMS + 1, sums[1].to_ne_bytes());
}

/// [`pack_tile`] without intrinsics.
pub(super) fn plain(x: &[f32], n_k: usize, out: &mut [u8]) {
    let (codes, facts) = out.split_at_mut(n_k * TILE);
    for i in 0..n_k / GROUP {
        let facts = &mut facts[i * FACT_BYTES..][..FACT_BYTES];
        for r in 0..TILE {
            let mut group = [0f32; GROUP];
            if let Some(row) = x.get(r * n_k..(r + 1) * n_k) {
                group.copy_from_slice(&row[i * GROUP..][..GROUP]);
            }
            // As integers magnitudes are ordered as numbers are, with NaN above all.
            let largest = group.iter().map(|x| x.abs().to_bits()).fold(0, u32::max);
            let (scale, inverse) = scale(f32::from_bits(largest));
            let mut sums = [0i32; 2];
            for (l, x) in group.iter().enumerate() {
                let code = round(x * inverse);
                codes[(i * GROUP + l) / 4 * (4 * TILE) + r * 4 + l % 4] = code.cast_unsigned();
                sums[l / 16] -= i32::from(code);
            }
            put_facts(facts, r, scale, sums);
        }
    }
}
