//! The fast paths and the plain ones give the same bits.

use proptest::prelude::*;

use super::pack::plain;
use super::testing::{activations, pack, weights};
use super::{Format, Level, Output, Product, Scratch, dot, tile_bytes};

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
