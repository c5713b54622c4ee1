//! Draws from softmax(logits / temperature) by the inverse of its cumulative distribution (inverse transform
//! sampling: Devroye, Non-Uniform Random Variate Generation, 1986, II.2 and III.2.1).
//!
//! One number chooses a block of columns by the blocks' sums, another a column of the block: the product of
//! the two probabilities is that of the token. Everything a number is compared with is then a sum of
//! hundreds of terms and not of a hundred thousand, so that a device can do the same in f32.
#![forbid(unsafe_code)]

use super::exp::{sum_weights, weight};

/// Columns of a block; the last of a row has fewer where they do not divide.
pub(crate) const BLOCK: usize = 512;

/// 1 / temperature as f32, finite.
pub(crate) fn reciprocal(temperature: f64) -> f32 {
    (1.0 / temperature).min(f64::from(f32::MAX)) as f32
}

/// A column of `row`, whose largest element is `largest`; `sums` is for the blocks' sums. Columns of minus
/// infinity are never drawn.
pub(super) fn column(
    row: &[f32],
    largest: f32,
    temperature: f64,
    [first, second]: [f64; 2],
    sums: &mut Vec<f64>,
) -> usize {
    let scale = reciprocal(temperature);
    sums.clear();
    sums.extend(row.chunks(BLOCK).map(|block| sum_weights(block, largest, scale)));
    let begin = BLOCK * invert(sums.iter().copied(), first);
    let end = (begin + BLOCK).min(row.len());
    let mut weights = [0f32; BLOCK];
    let weights = &mut weights[..end - begin];
    for (w, &x) in weights.iter_mut().zip(&row[begin..end]) {
        *w = weight(x, largest, scale);
    }
    begin + invert(weights.iter().map(|&w| f64::from(w)), second)
}

/// The first weight up to which the sum is above `u` times that of all: a draw by the weights, for `u`
/// uniform in [0, 1). A weight of 0 is never it, whatever rounding makes of the sums.
pub(super) fn invert(weights: impl Iterator<Item = f64> + Clone, u: f64) -> usize {
    let target = u * weights.clone().sum::<f64>();
    let (mut sum, mut last) = (0.0, 0);
    for (i, w) in weights.enumerate().filter(|(_, w)| *w > 0.0) {
        (sum, last) = (sum + w, i);
        if sum > target {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_falls_into_the_share_of_its_weight() {
        let weights = [0.0, 1.0, 0.0, 2.0, 1.0, 0.0];
        let at = |u| invert(weights.into_iter(), u);
        assert_eq!([0.0, 0.249, 0.25, 0.749, 0.75].map(at), [1, 1, 3, 3, 4]);
        // Where rounding leaves nothing above the number, the last that has a weight.
        assert_eq!([1.0 - f64::EPSILON / 2.0, 1.0].map(at), [4, 4]);
    }

    #[test]
    fn excluded_columns_are_never_drawn_at_the_ends_of_the_range() {
        for n in [1, 2, 511, 512, 513, 1500] {
            let mut row = vec![f32::NEG_INFINITY; n];
            row[n / 2] = 3.0;
            for temperature in [1e-320, 1e-3, 1.0, 1e6] {
                for u in [0.0, 0.5, 1.0 - f64::EPSILON / 2.0] {
                    for v in [0.0, 0.5, 1.0 - f64::EPSILON / 2.0] {
                        let drawn = column(&row, 3.0, temperature, [u, v], &mut Vec::new());
                        assert_eq!(drawn, n / 2, "{n} {temperature} {u} {v}");
                    }
                }
            }
        }
    }
}
