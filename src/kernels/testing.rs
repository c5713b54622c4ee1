//! Weights and activations for tests, made without ggml's packers where extremes are wanted.
#![forbid(unsafe_code)]

use super::{Format, Level, TILE, pack_tile, packed_bytes, tile_bytes};

/// Numbers that look random, in 0 .. 2^32.
pub fn noise(seed: u64, i: u64) -> u32 {
    // SplitMix64 (Steele, Lea, Flood 2014).
    let mut z = seed
        .wrapping_mul(0xD129_0E93)
        .wrapping_add(i)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z >> 32) as u32
}

/// Rows of blocks with all bits at random and scales of ordinary size.
pub fn weights(format: Format, n_k: usize, n_out: usize, seed: u64) -> Vec<u8> {
    let n = format.row_bytes(n_k) * n_out;
    let mut bytes: Vec<u8> = (0..n as u64).map(|i| noise(seed, i) as u8).collect();
    let scales: &[usize] = match format {
        Format::Q8_0 | Format::Q4_0 => &[0],
        Format::Q4K => &[0, 2],
        Format::Q6K => &[208],
    };
    for (b, block) in bytes.chunks_exact_mut(format.block_bytes()).enumerate() {
        for &at in scales {
            let x = (noise(seed + 1, b as u64) % 2001) as f32 * 1e-5 - 0.01;
            block[at..at + 2].copy_from_slice(&half::f16::from_f32(x).to_le_bytes());
        }
    }
    bytes
}

/// Rows of f32, with some of size 0 and some large.
pub fn activations(n_k: usize, n_rows: usize, seed: u64) -> Vec<f32> {
    let n = (n_k * n_rows) as u64;
    let unit = |i| noise(seed, i) as f32 / u32::MAX as f32 * 2.0 - 1.0;
    (0..n)
        .map(|i| match noise(seed + 1, i / 32) % 16 {
            0 => 0.0,
            1 => unit(i) * 1e4,
            2 => unit(i) * 1e-30,
            _ => unit(i),
        })
        .collect()
}

/// All rows packed.
pub fn pack(level: Option<Level>, x: &[f32], n_k: usize) -> Vec<u8> {
    let mut packed = vec![0xaa; packed_bytes(n_k, x.len() / n_k).unwrap()];
    let tiles = packed.chunks_exact_mut(tile_bytes(n_k));
    for (tile, rows) in tiles.zip(x.chunks(TILE * n_k)) {
        pack_tile(level, rows, n_k, tile);
    }
    packed
}
