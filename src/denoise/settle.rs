//! Early commit: a block whose answer has settled is filled at once.
#![forbid(unsafe_code)]

/// Fills all masked slots of the block when the model's lead is large everywhere (Prophet, arXiv
/// 2508.19982): the mean over those slots of the largest logit less the second is at least the limit
/// for how far the block is. The paper looks at the whole answer; so does this with one block.
///
/// [`EarlyCommit::default`] has the published limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyCommit {
    /// Limit in the first third of the block's tokens.
    pub early: f64,
    /// In the second.
    pub middle: f64,
    /// In the last.
    pub late: f64,
}

impl Default for EarlyCommit {
    fn default() -> Self {
        Self {
            early: 7.5,
            middle: 5.0,
            late: 2.5,
        }
    }
}

impl EarlyCommit {
    /// Whether slots with these `gaps` are settled, `filled` of `all` tokens of the block being there.
    pub fn is_settled(&self, gaps: impl ExactSizeIterator<Item = f32>, filled: usize, all: usize) -> bool {
        let n = gaps.len();
        let progress = filled as f64 / all.max(1) as f64;
        let limit = match progress {
            p if p < 1.0 / 3.0 => self.early,
            p if p < 2.0 / 3.0 => self.middle,
            _ => self.late,
        };
        n > 0 && gaps.map(f64::from).sum::<f64>() / n as f64 >= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_falls_as_the_block_fills() {
        let rule = EarlyCommit::default();
        let settled = |gap: f32, filled| rule.is_settled([gap, gap + 1.0, gap - 1.0].into_iter(), filled, 9);
        assert!(settled(7.5, 0) && !settled(7.4, 2));
        assert!(settled(5.0, 3) && !settled(4.9, 5));
        assert!(settled(2.5, 6) && !settled(2.4, 8));
        assert!(!rule.is_settled(std::iter::empty(), 9, 9));
    }
}
