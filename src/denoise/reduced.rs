//! Rows of logits reduced to what a step needs of them, by whoever computes them: a device then sends
//! back a few bytes a slot and not a number for each token.
#![forbid(unsafe_code)]

use super::inverse::reciprocal;
use super::kept::Cut;
use super::params::{Commit, Order, Params};
use crate::canvas::Token;
use crate::error::Result;

/// Top-k for which rows are reduced: of more tokens little is saved.
const MAX_TOP_K: usize = 1024;

/// What is asked of each row of logits in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduction {
    /// Tokens that count as if their logits were minus infinity, ascending.
    pub excluded: Vec<Token>,
    /// Above 0 a token is drawn from softmax(logits / temperature); 0 takes the likeliest.
    pub temperature: f64,
    /// Above temperature 0 only the likeliest tokens may be drawn: as many as this, 0 for all.
    pub top_k: usize,
    /// Above temperature 0 only the likeliest tokens may be drawn: of those that `top_k` leaves, as few as have
    /// this share of their probability. 1 or more: all.
    pub top_p: f64,
    /// Whether [`RowPeak::gap`] is wanted.
    pub gap: bool,
    /// Whether [`RowPeak::negative_entropy`] is wanted.
    pub entropy: bool,
}

/// What is left of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowPeak {
    /// The token that was drawn, or the one with the largest logit; which one among equals is open.
    pub token: Token,
    /// Its softmax probability, without temperature; NaN where a logit of the row was NaN or +Inf, or all
    /// were excluded.
    pub probability: f32,
    /// The softmax probability of the largest logit.
    pub largest: f32,
    /// The largest logit less the second; 0 where it was not asked for.
    pub gap: f32,
    /// `sum p ln(p + 1e-10)`; 0 where it was not asked for.
    pub negative_entropy: f32,
}

impl Reduction {
    /// What a run with `params` needs; `None` where it needs the logits themselves: for guidance, for a
    /// repetition penalty, where end tokens leave the confidence, and for top-k of more than a thousand.
    pub fn of(params: &Params, n_vocab: usize) -> Option<Self> {
        let needs_logits = (params.temperature != 0.0 && params.top_k > MAX_TOP_K)
            || params.guidance != 0.0
            || params.repetition_penalty != 1.0
            || params.confidence_eos_eot_inf;
        if needs_logits || n_vocab < 2 {
            return None;
        }
        let end = params.eos.filter(|_| params.logits_eos_inf);
        let mut excluded: Vec<Token> = params.suppress.iter().copied().chain(end).collect();
        excluded.sort_unstable();
        excluded.dedup();
        Some(Self {
            excluded,
            temperature: params.temperature,
            top_k: params.top_k,
            top_p: params.top_p,
            gap: params.order == Order::Margin || params.early_commit.is_some(),
            entropy: params.order == Order::Entropy || matches!(params.commit, Commit::EntropyBound(_)),
        })
    }
}

impl Reduction {
    /// 1 / temperature, finite.
    pub fn scale(&self) -> f32 {
        reciprocal(self.temperature)
    }

    /// How rows are cut before a token is drawn; `None` where none is drawn, or of all.
    pub(crate) fn cut(&self) -> Option<Cut> {
        Cut::of(self.top_k, self.top_p, self.temperature)
    }
}

impl Default for Reduction {
    /// The likeliest token alone.
    fn default() -> Self {
        Self {
            excluded: Vec::new(),
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            gap: false,
            entropy: false,
        }
    }
}

impl RowPeak {
    /// The rank of the token by an order that looks at logits; larger is committed sooner.
    pub(super) fn rank(&self, order: Order) -> f32 {
        match order {
            // p1 - p2 = p1 (1 - e^(l2 - l1)).
            Order::Margin => self.largest * (1.0 - (-self.gap).exp()),
            Order::Entropy => self.negative_entropy,
            _ => self.probability,
        }
    }

    /// # Errors
    /// `Numeric`, naming the slot.
    pub(super) fn check(&self, slot: usize, n_excluded: usize) -> Result<()> {
        if self.probability.is_finite() && !self.negative_entropy.is_nan() {
            return Ok(());
        }
        let or = match n_excluded {
            0 => "",
            _ => ", or all its tokens are excluded",
        };
        crate::bail!(
            Numeric,
            "a logit at slot {slot} is not finite{or}; the weights may hold NaN or Inf (check with verify)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoise::EarlyCommit;

    #[test]
    fn what_needs_logits_is_not_reduced() {
        let reduced = |params: Params| Reduction::of(&params, 10);
        let of = |change: fn(&mut Params)| {
            let mut params = Params::default();
            change(&mut params);
            reduced(params)
        };
        assert!(of(|_| ()).is_some_and(|r| !r.gap && !r.entropy && r.excluded.is_empty()));
        assert!(of(|p| p.temperature = 0.1).is_some_and(|r| r.temperature == 0.1));
        let cut = |change| of(change).unwrap().cut();
        assert!(cut(|p| p.temperature = 0.1).is_none());
        assert!(cut(|p| (p.temperature, p.top_k) = (0.1, 5)).is_some());
        assert!(cut(|p| (p.temperature, p.top_p) = (0.1, 0.9)).is_some());
        assert!(cut(|p| p.top_k = 5).is_none());
        assert!(of(|p| (p.temperature, p.top_k) = (0.1, 5000)).is_none());
        assert!(of(|p| p.guidance = 1.0).is_none());
        assert!(of(|p| p.repetition_penalty = 1.1).is_none());
        assert!(of(|p| p.confidence_eos_eot_inf = true).is_none());
        assert!(of(|p| p.order = Order::Margin).is_some_and(|r| r.gap));
        assert!(of(|p| p.early_commit = Some(EarlyCommit::default())).is_some_and(|r| r.gap));
        assert!(of(|p| p.commit = Commit::EntropyBound(0.1)).is_some_and(|r| r.entropy));
        let ends = of(|p| (p.suppress, p.eos, p.logits_eos_inf) = (vec![7, 3, 7], Some(5), true));
        assert_eq!(ends.unwrap().excluded, [3, 5, 7]);
        assert!(Reduction::of(&Params::default(), 1).is_none());
    }

    #[test]
    fn ranks_are_those_of_the_probabilities() {
        // The third was drawn.
        let (p1, p2, p3) = (0.6f32, 0.25f32, 0.15f32);
        let peak = RowPeak {
            token: 2,
            probability: p3,
            largest: p1,
            gap: p1.ln() - p2.ln(),
            negative_entropy: -0.5,
        };
        assert_eq!(peak.rank(Order::LowConfidence), p3);
        assert!((peak.rank(Order::Margin) - (p1 - p2)).abs() < 1e-6);
        assert_eq!(peak.rank(Order::Entropy), -0.5);
    }
}
