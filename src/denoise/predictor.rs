//! The seam to the model.
#![forbid(unsafe_code)]

use super::cache::CacheUse;
use super::reduced::{Reduction, RowPeak};
use crate::canvas::Token;
use crate::error::Result;

/// Which of guidance's two canvases a query is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// The canvas itself.
    Conditional,
    /// The canvas with everything masked that was given at the start.
    Unconditional,
}

/// One canvas to look at and the slots whose logits are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Index of the canvas in the run.
    pub sequence: usize,
    /// Which of guidance's canvases it is.
    pub branch: Branch,
    /// Token of every slot that is shown: the canvas, or the beginning of it.
    pub tokens: &'a [Token],
    /// Slots whose logits are wanted, ascending.
    pub rows: &'a [u32],
    /// What is computed and kept. A predictor that keeps nothing may compute everything instead.
    pub cache: CacheUse,
}

/// A mask predictor: from a canvas to logits at its slots.
pub trait Predictor {
    /// Columns of the logits.
    fn n_vocab(&self) -> usize;

    /// Sets `logits` to the logits of all rows of all queries, in order, row-major
    /// `[rows of all queries, n_vocab]`. The caller reuses the vector.
    ///
    /// # Errors
    /// What the model reports; the run then leaves its canvases as they were.
    fn predict(&mut self, queries: &[Query<'_>], logits: &mut Vec<f32>) -> Result<()>;

    /// As [`predict`](Self::predict), with each row reduced where it was computed: sets `peaks` to one
    /// entry per row and returns `true`. `false`, the default, is for predictors that give logits only.
    /// - uniform: above the reduction's temperature 0 the numbers of each row that its token is drawn by,
    ///   see [`Noise::slot`](super::Noise::slot); else empty
    ///
    /// # Errors
    /// As [`predict`](Self::predict).
    fn predict_reduced(
        &mut self,
        _queries: &[Query<'_>],
        _reduction: &Reduction,
        _uniform: &[[f64; 2]],
        _peaks: &mut Vec<RowPeak>,
    ) -> Result<bool> {
        Ok(false)
    }

    /// Says what will be asked next, to [`predict_reduced`](Self::predict_reduced) with `reduction` where
    /// there is one, else to [`predict`](Self::predict): a predictor that computes elsewhere can start on it
    /// while the caller does something else. The default does nothing. What goes wrong is told when it
    /// is asked.
    fn begin(&mut self, _queries: &[Query<'_>], _reduction: Option<&Reduction>, _uniform: &[[f64; 2]]) {}
}
