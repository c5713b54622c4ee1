//! What top-k and top-p leave of a row, and draws from it.
#![forbid(unsafe_code)]

use super::exp::sum_weights;
use super::inverse::{invert, reciprocal};
use super::sample::largest;
use crate::canvas::Token;
use crate::error::Result;

/// Logits of a block whose largest stands for it, see [`Kept::bound_of`].
const BLOCK: usize = 64;

/// How a row is cut before a token is drawn from it, at a temperature above 0: to the `top_k` likeliest
/// tokens (0: all), and of these to as few as hold `top_p` of their probability.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub top_k: usize,
    pub top_p: f64,
    pub temperature: f64,
}

/// Tokens that may be drawn, with their logits. Its memory is reused.
#[derive(Default)]
pub(crate) struct Kept {
    tokens: Vec<(Token, f32)>,
    /// Largest logits of blocks.
    peaks: Vec<f32>,
}

/// The likeliest first; of equal ones the first of the row.
fn greater(a: &(Token, f32), b: &(Token, f32)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

impl Cut {
    /// `None` where no token is drawn, or one of all.
    pub fn of(top_k: usize, top_p: f64, temperature: f64) -> Option<Self> {
        let cuts = temperature > 0.0 && (top_k > 0 || top_p < 1.0);
        cuts.then_some(Self {
            top_k,
            top_p,
            temperature,
        })
    }

    fn weight(&self, logit: f32, largest: f32) -> f64 {
        (f64::from(logit - largest) / self.temperature).exp()
    }
}

impl Kept {
    /// Keeps what `cut` leaves of `row`, whose largest logit is `peak`, in the row's order.
    ///
    /// # Errors
    /// `Resource`.
    pub fn cut_row(&mut self, row: &[f32], peak: f32, cut: &Cut) -> Result<()> {
        let total = (cut.top_k == 0).then(|| sum_weights(row, peak, reciprocal(cut.temperature)));
        let bound = match total {
            Some(total) => bound_of_nucleus(row.len(), peak, total, cut),
            None => self.bound_of(row, cut.top_k),
        };
        let kept = |logit: f32| f64::from(logit) >= bound && logit > f32::NEG_INFINITY;
        let n = row.iter().filter(|x| kept(**x)).count();
        self.tokens.clear();
        self.tokens
            .try_reserve(n)
            .map_err(|_| crate::err!(Resource, "no memory for {n} tokens to draw from"))?;
        let all = (0..).zip(row.iter().copied());
        self.tokens.extend(all.filter(|(_, logit)| kept(*logit)));
        self.cut(peak, total, cut);
        Ok(())
    }

    /// As [`cut_row`](Self::cut_row), of the largest logits of a row alone, in any order; `false` where
    /// more of the row are needed.
    /// - total: the sum of exp((logit - peak) / temperature) over the row, where `top_k` is 0
    pub fn cut_leading(
        &mut self,
        leading: impl Iterator<Item = (Token, f32)>,
        peak: f32,
        total: f64,
        cut: &Cut,
    ) -> bool {
        self.tokens.clear();
        self.tokens
            .extend(leading.filter(|(_, logit)| *logit > f32::NEG_INFINITY));
        self.cut(peak, (cut.top_k == 0).then_some(total), cut)
    }

    /// - total: of the row, where that is not what is left by top-k
    /// - result: whether what was there holds all that is to be kept
    fn cut(&mut self, peak: f32, total: Option<f64>, cut: &Cut) -> bool {
        if cut.top_k > 0 && cut.top_k < self.tokens.len() {
            self.tokens.select_nth_unstable_by(cut.top_k - 1, greater);
            self.tokens.truncate(cut.top_k);
        }
        let mut whole = true;
        if cut.top_p < 1.0 {
            let weight = |logit| cut.weight(logit, peak);
            let total = total.unwrap_or_else(|| self.tokens.iter().map(|&(_, logit)| weight(logit)).sum());
            let n = self.nucleus(cut.top_p * total, weight);
            whole = n.is_some();
            self.tokens.truncate(n.unwrap_or(self.tokens.len()));
        }
        self.tokens.sort_unstable_by_key(|&(token, _)| token);
        whole
    }

    /// Sorts just enough of the front to hold `mass`, and returns how many that takes; `None` where all do
    /// not.
    fn nucleus(&mut self, mass: f64, weight: impl Fn(f32) -> f64) -> Option<usize> {
        let (mut sorted, mut sum) = (0, 0.0);
        let mut chunk = 64;
        while sorted < self.tokens.len() {
            let rest = &mut self.tokens[sorted..];
            let n = chunk.min(rest.len());
            if n < rest.len() {
                rest.select_nth_unstable_by(n - 1, greater);
            }
            rest[..n].sort_unstable_by(greater);
            for (i, &(_, logit)) in rest[..n].iter().enumerate() {
                sum += weight(logit);
                if sum >= mass {
                    return Some(sorted + i + 1);
                }
            }
            sorted += n;
            chunk *= 4;
        }
        None
    }

    /// What is kept, in the row's order.
    pub fn tokens(&self) -> impl Iterator<Item = (Token, f32)> {
        self.tokens.iter().copied()
    }

    /// Draws by the inverse of the cumulative distribution; `None` where nothing is kept.
    pub fn draw(&self, peak: f32, u: f64, cut: &Cut) -> Option<(Token, f32)> {
        let weights = self.tokens.iter().map(|&(_, logit)| cut.weight(logit, peak));
        self.tokens.get(invert(weights, u)).copied()
    }

    /// A number that at least `k` logits of `row` reach: the k-th of the largest logits of its blocks.
    fn bound_of(&mut self, row: &[f32], k: usize) -> f64 {
        if k == 0 || k > row.len() / BLOCK {
            return f64::NEG_INFINITY;
        }
        self.peaks.clear();
        self.peaks.extend(row.chunks_exact(BLOCK).map(largest));
        let (_, bound, _) = self.peaks.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
        f64::from(*bound)
    }
}

/// A number that all logits reach that top-p keeps. Those below it have together less probability than it leaves out:
/// each has less than an n-th of that. By half, for what rounding makes of the sums.
fn bound_of_nucleus(n: usize, peak: f32, total: f64, cut: &Cut) -> f64 {
    let left_out = 0.5 * (1.0 - cut.top_p) * total / n as f64;
    f64::from(peak) + cut.temperature * left_out.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Cut = Cut {
        top_k: 0,
        top_p: 1.0,
        temperature: 1.0,
    };

    fn peak(row: &[f32]) -> f32 {
        largest(row)
    }

    fn kept(row: &[f32], cut: &Cut) -> Vec<Token> {
        let mut kept = Kept::default();
        kept.cut_row(row, peak(row), cut).unwrap();
        kept.tokens().map(|(token, _)| token).collect()
    }

    #[test]
    fn top_k_and_top_p_keep_the_likeliest() {
        let row = [0.5f32, 0.25, 0.125, 0.0625, 0.0625].map(f32::ln);
        let of = |top_k, top_p| kept(&row, &Cut { top_k, top_p, ..ALL });
        assert_eq!(of(2, 1.0), [0, 1]);
        assert_eq!(of(0, 0.7), [0, 1]);
        assert_eq!(of(0, 0.76), [0, 1, 2]);
        assert_eq!(of(3, 0.9), [0, 1, 2]);
        assert_eq!(of(0, 0.0), [0]);
        // Of equal ones the first.
        assert_eq!(of(4, 1.0), [0, 1, 2, 3]);
        assert_eq!(of(100, 1.0), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_large_nucleus_is_found_in_pieces() {
        let row: Vec<f32> = (0..5000).map(|i| ((i * 7919) % 5000) as f32 * 1e-4).collect();
        let cut = Cut { top_p: 0.5, ..ALL };
        let kept = kept(&row, &cut);
        let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        let mass: f64 = kept.iter().map(|&t| f64::from(row[t as usize]).exp()).sum();
        let least = kept.iter().map(|&t| row[t as usize]);
        let least = least.fold(f32::INFINITY, f32::min);
        assert!(mass >= 0.5 * total && mass - f64::from(least).exp() < 0.5 * total);
        assert!(row.iter().filter(|&&x| x > least).count() < kept.len());
    }

    /// What is kept, by sorting all.
    fn plainly(row: &[f32], cut: &Cut) -> Vec<Token> {
        let mut all: Vec<(Token, f32)> = (0..).zip(row.iter().copied()).collect();
        all.retain(|(_, logit)| *logit > f32::NEG_INFINITY);
        all.sort_by(greater);
        if cut.top_k > 0 {
            all.truncate(cut.top_k);
        }
        let weight = |&(_, logit): &(Token, f32)| cut.weight(logit, peak(row));
        let mass = cut.top_p * all.iter().map(weight).sum::<f64>();
        let mut sum = 0.0;
        let n = all.iter().position(|one| {
            sum += weight(one);
            sum >= mass
        });
        if cut.top_p < 1.0 {
            all.truncate(n.map_or(all.len(), |n| n + 1));
        }
        let mut tokens: Vec<Token> = all.into_iter().map(|(token, _)| token).collect();
        tokens.sort_unstable();
        tokens
    }

    /// Rows of several shapes: flat, steep, with equal logits, with excluded tokens.
    fn rows() -> Vec<Vec<f32>> {
        let mut rows = Vec::new();
        for (n, spread) in [(1, 1.0), (63, 3.0), (700, 0.01), (5000, 8.0), (5000, 30.0)] {
            let noise = |i: usize| ((i * 7919 + 13) % 4999) as f32 / 4999.0;
            rows.push((0..n).map(|i| noise(i) * spread).collect::<Vec<f32>>());
            rows.push((0..n).map(|i| (noise(i) * spread).round()).collect());
            let gaps = |i: usize| {
                if i % 5 == 1 {
                    f32::NEG_INFINITY
                } else {
                    noise(i) * -spread
                }
            };
            rows.push((0..n).map(gaps).collect());
        }
        rows
    }

    const CUTS: [(usize, f64); 9] = [
        (0, 0.1),
        (0, 0.5),
        (0, 0.9),
        (0, 0.999),
        (1, 1.0),
        (5, 0.8),
        (40, 1.0),
        (60, 0.95),
        (5000, 0.9),
    ];

    #[test]
    fn bounds_lose_nothing() {
        for row in rows() {
            for (top_k, top_p) in CUTS {
                for temperature in [0.05, 0.7, 4.0] {
                    let cut = Cut {
                        top_k,
                        top_p,
                        temperature,
                    };
                    assert_eq!(kept(&row, &cut), plainly(&row, &cut), "{} {cut:?}", row.len());
                }
            }
        }
    }

    #[test]
    fn the_largest_alone_give_the_same_where_they_are_enough() {
        const N: usize = 64;
        let mut n_short = 0;
        for row in rows() {
            let mut all: Vec<(Token, f32)> = (0..).zip(row.iter().copied()).collect();
            all.sort_by(greater);
            all.truncate(N);
            all.reverse();
            for (top_k, top_p) in CUTS.into_iter().filter(|(k, _)| *k <= N) {
                let cut = Cut { top_k, top_p, ..ALL };
                let total = row.iter().map(|&x| cut.weight(x, peak(&row))).sum();
                let mut leading = Kept::default();
                if leading.cut_leading(all.iter().copied(), peak(&row), total, &cut) {
                    let tokens: Vec<Token> = leading.tokens().map(|(token, _)| token).collect();
                    assert_eq!(tokens, plainly(&row, &cut), "{} {cut:?}", row.len());
                } else {
                    n_short += 1;
                    assert!(top_k == 0 && plainly(&row, &cut).len() > N);
                }
            }
        }
        assert!(n_short > 5, "{n_short}");
    }

    #[test]
    fn draws_fall_into_the_shares_of_what_is_kept() {
        let row = [0.1f32, 0.4, 0.2, 0.3].map(f32::ln);
        let cut = Cut { top_k: 2, ..ALL };
        let mut kept = Kept::default();
        kept.cut_row(&row, peak(&row), &cut).unwrap();
        let at = |u| kept.draw(peak(&row), u, &cut).unwrap();
        assert_eq!([0.0, 0.57, 0.58, 0.99].map(|u| at(u).0), [1, 1, 3, 3]);
        assert_eq!(at(0.9), (3, row[3]));
        assert_eq!(Kept::default().draw(0.0, 0.5, &cut), None);
    }
}
