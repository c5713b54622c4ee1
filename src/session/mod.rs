//! Compute state: one session runs one thing at a time on a model that any number of them share.
//!
//! A session is made once and used often: its graphs and buffers are kept from run to run.
#![forbid(unsafe_code)]

mod embed;
mod generation;
mod predictor;
mod stats;
mod stop;

pub use embed::Pooling;
pub use generation::{GenerateParams, Generation, Summary};
pub use stats::SessionStats;

use std::time::Instant;

use crate::canvas::Token;
use crate::denoise::{CacheUse, CancelToken, Predictor, Query, Reduction, RowPeak};
use crate::error::Result;
use crate::ggml::Part;
use crate::model::Model;
use predictor::{NetworkPredictor, Observe};

/// Whether attention runs in one pass without its score matrix. GPUs round keys and values to f16 for it. On the CPU it does
/// in any case, in f32, where kernels of our own can (`docs/products.md`); this is for where they cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flash {
    /// For canvases of 1024 slots or more, where the score matrix gets large.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never: logits are then the reference's to within f32 rounding.
    Off,
}

/// How a session computes.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Threads on the CPU; 0 is one per physical core, per fast one where there are two kinds.
    /// More than the machine has are not made.
    pub n_threads: usize,
    /// Which attention is used.
    pub flash: Flash,
    /// Longest canvas; 0 is the length the model was trained for. Longer ones are refused.
    pub max_canvas: usize,
}

/// Runs canvases through a model.
pub struct Session {
    model: Model,
    predictor: NetworkPredictor,
    max_canvas: usize,
    stats: SessionStats,
    cancel: Option<CancelToken>,
}

impl Session {
    /// A session on `model`, which it keeps alive. Memory to compute in is taken at the first run.
    ///
    /// # Errors
    /// `Resource`, when threads cannot be made; `Device`; `InvalidArgument`.
    pub fn new(model: &Model, options: &SessionOptions) -> Result<Self> {
        let trained = model.sizes().n_ctx;
        let max_canvas = match options.max_canvas {
            0 => trained,
            n if n <= trained => n,
            n => crate::bail!(
                InvalidArgument,
                "max_canvas is {n}; the model was trained for {trained} tokens"
            ),
        };
        let predictor = NetworkPredictor::new(model, options)?;
        Ok(Self {
            model: model.clone(),
            predictor,
            max_canvas,
            stats: SessionStats::default(),
            cancel: None,
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Threads in use on the CPU.
    pub fn n_threads(&self) -> usize {
        self.predictor.n_threads()
    }

    /// Bytes of memory that this session computes in; 0 before its first run.
    pub fn n_bytes(&self) -> u64 {
        self.predictor.n_bytes()
    }

    /// What this session has done since it was made.
    pub fn stats(&self) -> &SessionStats {
        &self.stats
    }

    /// Starts to note where the time of passes goes, or stops and forgets. It costs a look at the clock for
    /// every operation. On devices other than the CPU nothing is noted.
    pub fn set_profiling(&mut self, on: bool) {
        self.predictor.set_profiling(on);
    }

    /// Where the time of passes went since it was last asked, the longest part first; empty without
    /// [`set_profiling`](Self::set_profiling).
    pub fn take_profile(&mut self) -> Vec<Part> {
        self.predictor.take_profile()
    }

    /// Whether runs that need no more reduce rows of logits in the graph, so that of each slot only the best
    /// token and what is known of it come back. `None`, the default: where the head is not on the CPU. For
    /// tests and measurements; candidates are the same but for ties and the last digits of confidences.
    pub fn set_reduction(&mut self, on: Option<bool>) {
        self.predictor.reduces = on;
    }

    /// Whether canvases of a run are computed together where that pays; they are by default. On a CPU that is where
    /// few slots of each are computed, and changes no bit of the result; on other devices it is up to 1024 slots
    /// in all, and last digits may depend on what is computed beside a canvas. For tests and measurements.
    pub fn set_together(&mut self, on: bool) {
        self.predictor.set_together(on);
    }

    /// Computations that were begun before they were asked for, see [`Generation::begin`]. For tests and
    /// measurements.
    pub fn n_begun(&self) -> u64 {
        self.predictor.n_begun()
    }

    /// Lets `cancel` stop what is no run: logits, hidden states, scores. A run has a token of its own.
    pub fn set_cancel(&mut self, cancel: Option<CancelToken>) {
        self.cancel = cancel;
    }

    /// Runs the network once on `tokens`, mask tokens included, and sets `logits` to the raw logits of
    /// `rows`, row-major `[rows.len(), n_vocab]`.
    ///
    /// # Errors
    /// `InvalidArgument`, for an empty or too long canvas, or ids or rows outside; `Io`, when the mapped
    /// file was changed; `Resource`; `Device`.
    pub fn logits(&mut self, tokens: &[Token], rows: &[u32], logits: &mut Vec<f32>) -> Result<()> {
        self.check_length(tokens.len())?;
        logits.clear();
        self.watched(1, |predictor| predictor.logits(tokens, rows, logits))
    }

    /// Runs the network once on `tokens` and returns the hidden states: the input of every layer, then
    /// the state after the final norm; each row-major `[n_tokens, n_embd]`.
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub fn hidden_states(&mut self, tokens: &[Token]) -> Result<Vec<Vec<f32>>> {
        self.check_length(tokens.len())?;
        self.watched(1, |predictor| predictor.hidden_states(tokens))
    }

    /// Does `work`, which passes through the network `nfe` times, under the session's cancel token and
    /// clock.
    fn watched<T>(&mut self, nfe: u64, work: impl FnOnce(&mut NetworkPredictor) -> Result<T>) -> Result<T> {
        if self.cancel.as_ref().is_some_and(CancelToken::is_set) {
            crate::bail!(Cancelled, "cancelled");
        }
        self.predictor.cancel = self.cancel.as_ref().map(|c| c.flag().clone());
        let began = Instant::now();
        let done = work(&mut self.predictor)?;
        self.stats.add(nfe, began.elapsed());
        Ok(done)
    }

    /// A mask predictor on this session that tells `observe` what goes into each weight: the weight's
    /// name, how many rows were added up, and the sums of squares of their columns.
    pub(crate) fn observer<'s>(&'s mut self, observe: Box<Observe<'s>>) -> Observer<'s> {
        self.predictor.cancel = None;
        Observer {
            session: self,
            observe,
        }
    }

    fn check_length(&self, n: usize) -> Result<()> {
        if n == 0 {
            crate::bail!(InvalidArgument, "the canvas is empty");
        }
        if n > self.max_canvas {
            crate::bail!(
                InvalidArgument,
                "the canvas has {n} slots; this model takes {} (prompt and response together)",
                self.max_canvas
            );
        }
        Ok(())
    }
}

/// See [`Session::observer`].
pub(crate) struct Observer<'s> {
    session: &'s mut Session,
    observe: Box<Observe<'s>>,
}

impl Predictor for Observer<'_> {
    fn n_vocab(&self) -> usize {
        self.session.predictor.n_vocab()
    }

    fn predict(&mut self, queries: &[Query<'_>], logits: &mut Vec<f32>) -> Result<()> {
        logits.clear();
        let mut part = Vec::new();
        for query in queries {
            self.session.check_length(query.tokens.len())?;
            part.clear();
            let predictor = &mut self.session.predictor;
            predictor.observed_logits(query.tokens, query.rows, &mut part, &mut *self.observe)?;
            logits.extend_from_slice(&part);
        }
        Ok(())
    }
}

impl Session {
    fn check_queries(&self, queries: &[Query<'_>]) -> Result<()> {
        for query in queries {
            self.check_length(query.tokens.len())?;
            if query.cache != CacheUse::Off {
                crate::bail!(
                    Unsupported,
                    "a query asks for a cache; only runs of Session::start have one"
                );
            }
        }
        Ok(())
    }
}

/// A session predicts for whoever scores.
impl Predictor for Session {
    fn n_vocab(&self) -> usize {
        self.predictor.n_vocab()
    }

    fn predict(&mut self, queries: &[Query<'_>], logits: &mut Vec<f32>) -> Result<()> {
        self.check_queries(queries)?;
        let nfe = queries.len() as u64;
        self.watched(nfe, |predictor| predictor.predict(queries, logits))
    }

    fn predict_reduced(
        &mut self,
        queries: &[Query<'_>],
        reduction: &Reduction,
        uniform: &[[f64; 2]],
        peaks: &mut Vec<RowPeak>,
    ) -> Result<bool> {
        self.check_queries(queries)?;
        if !self.predictor.reduces(reduction) {
            return Ok(false);
        }
        let nfe = queries.len() as u64;
        self.watched(nfe, |predictor| {
            predictor.predict_reduced(queries, reduction, uniform, peaks)
        })
    }
}
