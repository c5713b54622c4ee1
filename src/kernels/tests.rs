//! The fast paths and the plain ones give the same bits.

use proptest::prelude::*;

use super::pack::plain;
use super::testing::{activations, noise, pack, weights};
use super::{Attention, AttentionSizes, Format, Level, Output, Product, Scratch, dot, lay_out, tile_bytes};

/// Row-major `[n_rows, n_out]`, panels in an order that is not theirs.
fn product(level: Level, format: Format, w: &[u8], packed: &[u8], sizes: [usize; 3]) -> Vec<f32> {
    let product = Product::new(level, format, w, packed, sizes).unwrap();
    let mut out = vec![f32::NAN; sizes[1] * sizes[2]];
    let mut scratch = Scratch::new().unwrap();
    let places = Output::new(&mut out);
    for i in (0..product.n_panels()).rev() {
        // SAFETY: one thread.
        unsafe { product.panel(i, &places, &mut scratch) };
    }
    out
}

fn bits(x: &[f32]) -> Vec<u32> {
    // What is not finite may be infinite or NaN.
    x.iter()
        .map(|x| if x.is_finite() { x.to_bits() } else { u32::MAX })
        .collect()
}

fn agree(format: Format, [n_k, n_out, n_rows]: [usize; 3], w: &[u8], x: &[f32]) {
    let packed = pack(None, x, n_k);
    let row_bytes = format.row_bytes(n_k);
    let mut expected = Vec::new();
    for row in 0..n_rows {
        let columns = w.chunks_exact(row_bytes);
        expected.extend(columns.map(|w| dot(format, w, &packed, n_k, row)));
    }
    for level in Level::available() {
        assert_eq!(packed, pack(Some(level), x, n_k), "packing with {level:?}");
        let found = product(level, format, w, &packed, [n_k, n_out, n_rows]);
        assert_eq!(
            bits(&found),
            bits(&expected),
            "{format:?} {level:?} {n_k} {n_out} {n_rows}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn all_levels_give_the_bits_of_the_plain_version(
        format in prop::sample::select(&Format::ALL[..]),
        blocks in 1usize..5,
        n_out in 1usize..80,
        n_rows in 1usize..20,
        seed in 0u64..1000,
    ) {
        let n_k = blocks * format.block_len();
        let w = weights(format, n_k, n_out, seed);
        agree(format, [n_k, n_out, n_rows], &w, &activations(n_k, n_rows, seed + 9));
    }
}

#[test]
fn rows_longer_than_a_piece_and_more_rows_than_a_span() {
    for format in Format::ALL {
        let w = weights(format, 1280, 33, 1);
        agree(format, [1280, 33, 9], &w, &activations(1280, 9, 2));
        let w = weights(format, 256, 1, 3);
        agree(format, [256, 1, 521], &w, &activations(256, 521, 4));
    }
}

#[test]
fn the_largest_codes_do_not_overflow() {
    for format in Format::ALL {
        for fill in [0u8, 0x7f, 0x80, 0xff] {
            let mut w = weights(format, 256, 2, 5);
            let scales = w.clone();
            w.fill(fill);
            for (to, from) in w
                .chunks_exact_mut(format.block_bytes())
                .zip(scales.chunks_exact(format.block_bytes()))
            {
                let places: &[usize] = if format == Format::Q6K { &[208] } else { &[0, 2] };
                let places = if format.block_len() == 32 { &[0] } else { places };
                for &at in places {
                    to[at..at + 2].copy_from_slice(&from[at..at + 2]);
                }
            }
            for sign in [1.0, -1.0] {
                agree(format, [256, 2, 3], &w, &[sign; 768]);
            }
        }
    }
}

#[test]
fn what_is_not_finite_is_not_lost() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
        let mut x = activations(256, 3, 6);
        x[256 + 40] = bad;
        for format in Format::ALL {
            let w = weights(format, 256, 5, 7);
            agree(format, [256, 5, 3], &w, &x);
            let packed = pack(None, &x, 256);
            let found = dot(format, &w[..format.row_bytes(256)], &packed, 256, 1);
            assert_eq!(found.is_finite(), bad == 1e30, "{format:?} {bad}: {found}");
        }
    }
}

#[test]
fn tiny_and_absent_rows_pack_to_zeros() {
    let x = [1e-37f32; 32];
    let mut tile = vec![1; tile_bytes(32)];
    plain(&x, 32, &mut tile);
    assert!(tile.iter().all(|b| *b == 0));
}

#[test]
fn sizes_that_do_not_fit_make_no_product() {
    let Some(level) = Level::best() else { return };
    let (w, x) = (weights(Format::Q8_0, 64, 3, 1), activations(64, 9, 2));
    let packed = pack(Some(level), &x, 64);
    let new = |sizes| Product::new(level, Format::Q8_0, &w, &packed, sizes);
    assert!(new([64, 3, 9]).is_some());
    for sizes in [
        [32, 3, 9],
        [64, 2, 9],
        [64, 3, 8],
        [65, 3, 9],
        [0, 3, 9],
        [64, usize::MAX, 9],
    ] {
        assert!(new(sizes).is_none(), "{sizes:?}");
    }
}

/// Attention of made-up numbers by pieces, at a level or by the plain code.
fn attention(sizes: AttentionSizes, spread: f32, spoil: Option<usize>, level: Option<Level>) -> Vec<f32> {
    let number = |seed: u64, i: usize| noise(seed, i as u64) as f32 / u32::MAX as f32 * 2.0 - 1.0;
    let numbers = |seed: u64, n: Option<usize>, by: f32| -> Vec<f32> {
        (0..n.unwrap()).map(|i| number(seed, i) * by).collect()
    };
    let q = numbers(1, sizes.q_len(), spread);
    let mut k = numbers(2, sizes.kv_len(), 1.0);
    let v = numbers(3, sizes.kv_len(), 1.0);
    if let Some(at) = spoil {
        k[at] = f32::INFINITY;
    }
    let mut tiles = vec![f32::NAN; sizes.n_tiles() * sizes.tile_len()];
    for (i, tile) in tiles.chunks_exact_mut(sizes.tile_len()).enumerate() {
        lay_out(sizes, &k, &v, i, tile);
    }
    let of = Attention {
        sizes,
        q: &q,
        tiles: &tiles,
        scale: 1.0 / (sizes.n_rot as f32).sqrt(),
    };
    let mut found = vec![f32::NAN; q.len()];
    match level {
        Some(level) => {
            let out = Output::new(&mut found);
            let mut scratch = Scratch::new().unwrap();
            for i in 0..sizes.n_pieces() {
                // SAFETY: there is one thread.
                unsafe { of.attend(level, i, &out, &mut scratch) };
            }
        }
        None => {
            let per_kv = sizes.n_head / sizes.n_head_kv;
            for (i, out) in found.chunks_exact_mut(sizes.n_rot).enumerate() {
                let head_kv = i % sizes.n_head / per_kv;
                let at = |j: usize| (j * sizes.n_head_kv + head_kv) * sizes.n_rot;
                let query = &q[i * sizes.n_rot..][..sizes.n_rot];
                let score = |j: usize| -> f64 {
                    let pairs = query.iter().zip(&k[at(j)..]);
                    pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() * f64::from(of.scale)
                };
                let scores: Vec<f64> = (0..sizes.n_kv).map(score).collect();
                let most = scores.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = scores.iter().map(|s| (s - most).exp()).sum();
                for (d, out) in out.iter_mut().enumerate() {
                    let mixed = scores.iter().enumerate();
                    let mixed = mixed.map(|(j, s)| (s - most).exp() / total * f64::from(v[at(j) + d]));
                    *out = mixed.sum::<f64>() as f32;
                }
            }
        }
    }
    found
}

#[test]
fn attention_is_that_of_the_formula_at_all_levels_with_the_same_bits() {
    for (n_rot, n_head, n_head_kv, n_q, n_kv) in [
        (64, 4, 4, 33, 97),
        (16, 6, 2, 1, 1),
        (128, 2, 1, 70, 32),
        (80, 3, 3, 5, 257),
        (256, 1, 1, 9, 31),
    ] {
        let sizes = AttentionSizes {
            n_rot,
            n_head,
            n_head_kv,
            n_q,
            n_kv,
        };
        for spread in [1.0, 40.0] {
            let right = attention(sizes, spread, None, None);
            let mut first: Option<Vec<f32>> = None;
            for level in Level::available() {
                let found = attention(sizes, spread, None, Some(level));
                for (a, b) in found.iter().zip(&right) {
                    assert!((a - b).abs() < 2e-5, "{sizes:?} {level:?}: {a} {b}");
                }
                let first = first.get_or_insert_with(|| found.clone());
                assert!(
                    found
                        .iter()
                        .zip(first.iter())
                        .all(|(a, b)| a.to_bits() == b.to_bits())
                );
            }
        }
    }
}

#[test]
fn a_score_that_is_not_finite_is_not_lost_in_attention() {
    let sizes = AttentionSizes {
        n_rot: 32,
        n_head: 2,
        n_head_kv: 2,
        n_q: 5,
        n_kv: 40,
    };
    for level in Level::available() {
        // Of the first head the 36th key.
        let found = attention(sizes, 1.0, Some(35 * 64), Some(level));
        for (i, row) in found.chunks_exact(32).enumerate() {
            assert_eq!(row.iter().all(|x| x.is_nan()), i % 2 == 0, "{level:?} {i}");
            assert_eq!(row.iter().any(|x| x.is_nan()), i % 2 == 0, "{level:?} {i}");
        }
    }
}
