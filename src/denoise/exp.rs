//! Exponentials and logarithms of whole rows, in a form that compilers turn into vector instructions.
#![forbid(unsafe_code)]

use crate::math::exp;

const LANES: usize = 16;

/// Sum of `exp(x - largest)` over `row`, `largest` being its largest element: exponentials in f32 as the
/// reference's softmax, to 2 units in the last place.
pub(super) fn sum_exp(row: &[f32], largest: f32) -> f64 {
    sum(row, |x| exp(x - largest))
}

/// Sum of `p ln(p + 1e-10)` over `row`, `p` being `exp(x - largest) / total`: probabilities and logarithms
/// in f32, as Dream's own.
pub(super) fn sum_p_ln_p(row: &[f32], largest: f32, total: f64) -> f64 {
    let share = (1.0 / total) as f32;
    sum(row, |x| {
        let p = exp(x - largest) * share;
        p * ln(p + 1e-10)
    })
}

/// Weight of logit `x` in softmax(x / temperature), `scale` being 1 / temperature and `largest` the row's
/// largest: 0 below e^-87, where f32 ends.
#[inline]
pub(super) fn weight(x: f32, largest: f32, scale: f32) -> f32 {
    let y = (x - largest) * scale;
    if y > -87.0 { exp(y) } else { 0.0 }
}

/// Sum of [`weight`] over `row`.
pub(super) fn sum_weights(row: &[f32], largest: f32, scale: f32) -> f64 {
    sum(row, |x| weight(x, largest, scale))
}

/// Sum of `term` over `row`: of 16 terms in f32, the rest in f64.
#[inline]
fn sum(row: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0.0;
    for block in row.chunks(16 * LANES) {
        let mut sums = [0f32; LANES];
        let lanes = block.chunks_exact(LANES);
        let rest = lanes.remainder();
        for chunk in lanes {
            for i in 0..LANES {
                sums[i] += term(chunk[i]);
            }
        }
        for (sum, &x) in sums.iter_mut().zip(rest) {
            *sum += term(x);
        }
        total += sums.iter().map(|&x| f64::from(x)).sum::<f64>();
    }
    total
}

/// `ln x` for normal x above 0: x = 2^n m with m around 1, and a polynomial for ln m (Cephes' `logf`,
/// Moshier).
#[inline]
fn ln(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // The bits of the root of one half: m is between it and twice that.
    const HALF_ROOT: u32 = 0x3f35_04f3;
    let above = x.to_bits().wrapping_sub(HALF_ROOT).cast_signed() >> 23;
    let m = f32::from_bits(x.to_bits().wrapping_sub((above << 23).cast_unsigned())) - 1.0;
    let n = above as f32;
    let mut p = 7.037_683_6e-2;
    for c in [
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ] {
        p = p * m + c;
    }
    let square = m * m;
    m * square * p + n * LN2_LOW - 0.5 * square + m + n * LN2_HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_right_to_two_units_in_the_last_place() {
        for i in 0..1_000_000u32 {
            // From 1e-10 to 1, evenly in the exponent.
            let x = 10f64.powf(f64::from(i) * -1e-5) as f32;
            let right = f64::from(x).ln();
            let error = (f64::from(ln(x)) - right).abs();
            assert!(
                error <= 2.4e-7 * right.abs().max(f64::from(f32::EPSILON)),
                "{x}: {error}"
            );
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn entropies_of_rows_of_any_length_are_right() {
        for n in [1, 15, 17, 257, 126_464] {
            for slope in [0.0, 2e-3, 0.5] {
                let row: Vec<f32> = (0..n).map(|i| -((i * 7919 % 10_007) as f32) * slope).collect();
                let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let total: f64 = row.iter().map(|&x| f64::from(x - largest).exp()).sum();
                let right: f64 = row
                    .iter()
                    .map(|&x| {
                        let p = f64::from(x - largest).exp() / total;
                        p * (p + 1e-10).ln()
                    })
                    .sum();
                let found = sum_p_ln_p(&row, largest, total);
                let error = (found - right).abs();
                assert!(error <= 1e-6 * right.abs() + 1e-6, "{n} {slope}: {found} {right}");
            }
        }
    }

    #[test]
    fn weights_are_those_of_the_softmax_and_excluded_logits_have_none() {
        let row = [1.0f32, -2.0, f32::NEG_INFINITY, 0.5];
        for temperature in [0.05, 0.7, 1.0, 30.0] {
            let right = row.map(|x| (f64::from(x - 1.0) / temperature).exp());
            let scale = (1.0 / temperature) as f32;
            for (&x, right) in row.iter().zip(right) {
                let w = f64::from(weight(x, 1.0, scale));
                assert!((w - right).abs() <= 1e-5 * right, "{temperature}: {w} {right}");
            }
            let error = (sum_weights(&row, 1.0, scale) - right.iter().sum::<f64>()).abs();
            assert!(error < 1e-6, "{temperature}: {error}");
        }
        assert_eq!(weight(f32::NEG_INFINITY, 1.0, f32::MAX), 0.0);
        assert_eq!(weight(1.0, 1.0, f32::MAX), 1.0);
    }

    #[test]
    fn sums_of_rows_of_any_length_are_right() {
        for n in [1, 15, 16, 17, 255, 256, 257, 126_464] {
            let row: Vec<f32> = (0..n).map(|i| -((i * 7919 % 10_007) as f32) * 2e-3).collect();
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let right: f64 = row.iter().map(|&x| f64::from(x - largest).exp()).sum();
            let found = sum_exp(&row, largest);
            assert!((found - right).abs() / right < 2e-7, "{n}: {found} {right}");
        }
    }
}
