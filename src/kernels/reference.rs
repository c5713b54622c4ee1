//! The product, plainly: what every fast path must equal to the bit.
#![forbid(unsafe_code)]

use super::format::{Format, GROUP};
use super::pack::{FACT_BYTES, SCALE, SCALED_SUM, TILE, tile_bytes};

/// The product of one row of weights and one packed row: exact integer sums of 16 or 32 codes, the rest
/// in f32 in this order.
pub fn dot(format: Format, row: &[u8], packed: &[u8], n_k: usize, i_row: usize) -> f32 {
    let tile = &packed[i_row / TILE * tile_bytes(n_k)..][..tile_bytes(n_k)];
    let (codes, facts) = tile.split_at(n_k * TILE);
    let r = i_row % TILE;
    let mut sum = 0f32;
    for i in 0..n_k / GROUP {
        let group = format.group(row, i);
        let mut exact = [0i32; 2];
        for (l, &code) in group.codes.iter().enumerate() {
            let x = codes[(i * GROUP + l) / 4 * (4 * TILE) + r * 4 + l % 4].cast_signed();
            exact[l / 16] += (i32::from(code) - i32::from(format.zero())) * i32::from(x);
        }
        let fact = |field: usize| {
            let at = i * FACT_BYTES + (field * TILE + r) * 4;
            f32::from_ne_bytes([facts[at], facts[at + 1], facts[at + 2], facts[at + 3]])
        };
        if format == Format::Q6K {
            for (exact, scale) in exact.into_iter().zip(group.scales) {
                sum = (exact as f32 * scale).mul_add(fact(SCALE), sum);
            }
        } else {
            sum = ((exact[0] + exact[1]) as f32 * group.scales[0]).mul_add(fact(SCALE), sum);
        }
        if format == Format::Q4K {
            sum = group.min.mul_add(fact(SCALED_SUM), sum);
        }
    }
    sum
}
