//! How sure the model is of a candidate.
#![forbid(unsafe_code)]

use super::exp::{sum_exp, sum_p_ln_p};
use super::params::{Order, Params};
use super::sample::{Peak, largest};
use crate::canvas::Token;

/// The rank of `token`, drawn from `row`, by the parameters' order; larger is committed sooner. For
/// orders that do not look at logits, see `run.rs`.
pub(super) fn confidence(row: &[f32], peak: Peak, token: Token, params: &Params) -> f32 {
    match params.order {
        Order::Margin => margin(row, peak),
        Order::Entropy => negative_entropy(row, peak),
        _ => probability(row, peak, token, params),
    }
}

/// Softmax probability of `token`, without temperature and noise.
///
/// With `confidence_eos_eot_inf` the end tokens leave the softmax after the candidate was chosen: a
/// candidate among them has probability 0, the others share theirs. At temperature 0 the reference's
/// chained assignment hits both tokens, above it `eot` only (trap 19 of its code).
fn probability(row: &[f32], peak: Peak, token: Token, params: &Params) -> f32 {
    let mut total = sum_exp(row, peak.logit);
    if params.confidence_eos_eot_inf {
        let eos = params.eos.filter(|_| params.temperature == 0.0);
        // One token may be both; it leaves once.
        let eot = params.eot.filter(|t| eos != Some(*t));
        for end in [eos, eot].into_iter().flatten() {
            if end == token {
                return 0.0;
            }
            total -= row
                .get(end as usize)
                .map_or(0.0, |&x| f64::from((x - peak.logit).exp()));
        }
    }
    let weight = row
        .get(token as usize)
        .map_or(0.0, |&x| f64::from((x - peak.logit).exp()));
    (weight / total) as f32
}

/// The second largest logit; minus infinity where there is none.
fn second(row: &[f32], peak: Peak) -> f32 {
    let (before, after) = row.split_at(peak.token);
    largest(before).max(largest(after.get(1..).unwrap_or(&[])))
}

/// The largest logit less the second.
pub(super) fn gap(row: &[f32], peak: Peak) -> f32 {
    peak.logit - second(row, peak)
}

fn margin(row: &[f32], peak: Peak) -> f32 {
    let second = second(row, peak);
    let total = sum_exp(row, peak.logit);
    ((1.0 - f64::from((second - peak.logit).exp())) / total) as f32
}

/// `sum p ln(p + 1e-10)`, Dream's formula.
pub(super) fn negative_entropy(row: &[f32], peak: Peak) -> f32 {
    sum_p_ln_p(row, peak.logit, sum_exp(row, peak.logit)) as f32
}

#[cfg(test)]
mod tests {
    use super::super::sample::peak;
    use super::*;

    fn row(p: &[f32]) -> (Vec<f32>, Peak) {
        let row: Vec<f32> = p.iter().map(|p| p.ln()).collect();
        let peak = peak(&row, 0).unwrap();
        (row, peak)
    }

    fn of(p: &[f32], token: Token, params: Params) -> f32 {
        let (row, peak) = row(p);
        confidence(&row, peak, token, &params)
    }

    #[test]
    fn probability_is_that_of_the_candidate() {
        let p = [0.5, 0.3, 0.2];
        for (token, expected) in p.iter().enumerate() {
            assert!((of(&p, token as Token, Params::default()) - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn suppressed_ends_have_no_confidence_and_leave_the_rest_theirs() {
        let params = Params {
            confidence_eos_eot_inf: true,
            eos: Some(0),
            eot: Some(1),
            ..Params::default()
        };
        assert_eq!(of(&[0.5, 0.25, 0.25], 0, params.clone()), 0.0);
        assert_eq!(of(&[0.5, 0.25, 0.25], 1, params.clone()), 0.0);
        assert!((of(&[0.5, 0.25, 0.25], 2, params.clone()) - 1.0).abs() < 1e-6);
        // Above temperature 0 only eot is taken out.
        let warm = Params {
            temperature: 0.5,
            ..params
        };
        assert!((of(&[0.5, 0.25, 0.25], 0, warm.clone()) - 2.0 / 3.0).abs() < 1e-6);
        assert_eq!(of(&[0.5, 0.25, 0.25], 1, warm), 0.0);
    }

    #[test]
    fn margin_and_entropy_are_as_dream_has_them() {
        let margin = Params {
            order: Order::Margin,
            ..Params::default()
        };
        assert!((of(&[0.5, 0.3, 0.2], 0, margin) - 0.2).abs() < 1e-6);
        let entropy = Params {
            order: Order::Entropy,
            ..Params::default()
        };
        let expected: f64 = [0.5f64, 0.3, 0.2].iter().map(|p| p * p.ln()).sum();
        assert!((f64::from(of(&[0.5, 0.3, 0.2], 0, entropy)) - expected).abs() < 1e-6);
    }
}
