//! Which of several continuations a model holds for the likeliest.
#![forbid(unsafe_code)]

use super::{Likelihood, LikelihoodParams, likelihood, pseudo_likelihood};
use crate::canvas::Token;
use crate::denoise::Predictor;
use crate::error::Result;

/// How continuations are scored.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// The likelihood bound, with the same draws for all.
    Bound(LikelihoodParams),
    /// The pseudo-likelihood.
    Pseudo,
}

/// What is said of each continuation.
#[derive(Clone, Debug, PartialEq)]
pub struct Choices {
    /// Their scores, in order.
    pub scores: Vec<Likelihood>,
    /// The softmax of their log-likelihoods.
    pub probabilities: Vec<f64>,
    /// The likeliest; the first of those alike.
    pub best: usize,
}

/// Scores each of `choices` as the continuation of `prompt`.
///
/// # Errors
/// `InvalidArgument`, when there is no choice or one is empty; what the predictor reports.
pub fn choose(
    predictor: &mut dyn Predictor,
    prompt: &[Token],
    choices: &[&[Token]],
    mask: Token,
    method: &Method,
) -> Result<Choices> {
    if choices.is_empty() {
        crate::bail!(InvalidArgument, "there is nothing to choose from");
    }
    let mut scores = Vec::new();
    for (i, choice) in choices.iter().enumerate() {
        let tokens = [prompt, choice].concat();
        let answer = prompt.len()..tokens.len();
        let score = match method {
            Method::Bound(params) => likelihood(predictor, &tokens, answer, mask, params),
            Method::Pseudo => pseudo_likelihood(predictor, &tokens, answer, mask),
        };
        scores.push(score.map_err(|e| e.context(format_args!("choice {i}")))?);
    }
    let largest = scores.iter().map(|s| s.log_likelihood).fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores
        .iter()
        .map(|s| (s.log_likelihood - largest).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    let best = scores.iter().position(|s| s.log_likelihood >= largest);
    Ok(Choices {
        probabilities: weights.iter().map(|w| w / sum).collect(),
        best: best.unwrap_or(0),
        scores,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoise::Query;

    /// Says of every slot that token 1 is three times as likely as tokens 0 and 2.
    struct Constant;

    impl Predictor for Constant {
        fn n_vocab(&self) -> usize {
            3
        }

        fn predict(&mut self, queries: &[Query<'_>], logits: &mut Vec<f32>) -> Result<()> {
            logits.clear();
            for query in queries {
                for _ in query.rows {
                    logits.extend([0.0, 3f32.ln(), 0.0]);
                }
            }
            Ok(())
        }
    }

    #[test]
    fn where_slots_do_not_depend_on_each_other_every_method_is_the_product() {
        let choices: [&[Token]; 3] = [&[0, 0], &[1, 1], &[1, 2]];
        let log = |p: f64| p.ln();
        let expected = [2.0 * log(0.2), 2.0 * log(0.6), log(0.6) + log(0.2)];
        for method in [Method::Pseudo, Method::Bound(LikelihoodParams::default())] {
            let chosen = choose(&mut Constant, &[2, 0], &choices, 9, &method).unwrap();
            assert_eq!(chosen.best, 1);
            let total: f64 = expected.iter().map(|x: &f64| x.exp()).sum();
            for (i, (score, x)) in chosen.scores.iter().zip(expected).enumerate() {
                // The bound weighs random masks: exact only where both slots look alike.
                let tolerance = if method == Method::Pseudo || i < 2 {
                    1e-6
                } else {
                    0.3
                };
                assert!(
                    (score.log_likelihood - x).abs() < tolerance,
                    "{method:?} {i}: {score:?} {x}"
                );
                if method == Method::Pseudo {
                    assert!((chosen.probabilities[i] - x.exp() / total).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn an_empty_choice_is_named() {
        let error = choose(&mut Constant, &[1], &[&[1], &[]], 9, &Method::Pseudo).unwrap_err();
        assert!(error.message().contains("choice 1"), "{error}");
        assert!(choose(&mut Constant, &[1], &[], 9, &Method::Pseudo).is_err());
    }
}
