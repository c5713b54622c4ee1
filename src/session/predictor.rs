//! The mask predictor of a session: graphs built once per shape, reused for every step.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::canvas::Token;
use crate::denoise::{Predictor, Query};
use crate::error::Result;
use crate::ggml::{Executor, GraphId, Input};
use crate::graph::{AttentionKind, GraphShape, Inputs, SquareSums};
use crate::model::Model;

use super::{Flash, SessionOptions};

/// Canvases from this length on use flash attention under [`Flash::Auto`]: below it the exact path is
/// as fast and its score matrix small.
pub(super) const FLASH_FROM: usize = 1024;

/// Graphs kept at a time. Each is a table of headers, about 400 bytes a value.
const MAX_GRAPHS: usize = 64;

/// Runs the network for one session.
pub(super) struct NetworkPredictor {
    model: Model,
    executor: Executor,
    flash: Flash,
    on_gpu: bool,
    graphs: Vec<Built>,
    scratch: Scratch,
    /// What ends a computation between two nodes of the graph.
    pub cancel: Option<Arc<AtomicBool>>,
}

struct Built {
    shape: GraphShape,
    id: GraphId,
    inputs: Inputs,
    logits: crate::ggml::Node,
    last: crate::ggml::Node,
    hidden: Vec<crate::ggml::Node>,
    squares: Vec<SquareSums>,
}

/// Hears of what goes into a weight: its name, the rows that were added up, the sums of squares of each
/// column.
pub(super) type Observe<'a> = dyn FnMut(&str, usize, &[f32]) + 'a;

/// Input buffers, reused.
#[derive(Default)]
struct Scratch {
    tokens: Vec<i32>,
    positions: Vec<i32>,
    rows: Vec<i32>,
    row_positions: Vec<i32>,
    last: Vec<f32>,
}

impl NetworkPredictor {
    pub fn new(model: &Model, options: &SessionOptions) -> Result<Self> {
        let devices = model.placement().devices();
        let executor = if devices.is_empty() {
            Executor::on_cpu(options.n_threads)?
        } else {
            Executor::on_devices(&devices, options.n_threads)?
        };
        Ok(Self {
            model: model.clone(),
            executor,
            flash: options.flash,
            on_gpu: !devices.is_empty(),
            graphs: Vec::new(),
            scratch: Scratch::default(),
            cancel: None,
        })
    }

    pub fn n_threads(&self) -> usize {
        self.executor.n_threads()
    }

    /// Bytes of memory that graphs compute in.
    pub fn n_bytes(&self) -> u64 {
        self.executor.n_bytes()
    }

    /// Builds the graphs for canvases of `n_tokens` with up to `n_rows` rows, largest first, so that the
    /// steps of a run find them.
    pub fn reserve(&mut self, n_tokens: usize, n_rows: usize) -> Result<()> {
        let mut rows = bucket(n_rows.max(1), n_tokens);
        loop {
            self.graph(self.shape(n_tokens, rows))?;
            if rows <= SMALLEST_BUCKET.min(n_tokens) || self.executor.capacity() == 1 {
                return Ok(());
            }
            rows = bucket_below(rows, n_tokens);
        }
    }

    /// Logits of `rows` of the canvas `tokens`, appended to `logits`, row-major `[rows, n_vocab]`.
    pub fn logits(&mut self, tokens: &[Token], rows: &[u32], logits: &mut Vec<f32>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let n = rows.len().checked_mul(self.n_vocab());
        let n = n.ok_or_else(|| crate::err!(Limit, "logits of {} rows are too large", rows.len()))?;
        logits
            .try_reserve(n)
            .map_err(|_| crate::err!(Resource, "no memory for {n} logits"))?;
        let begin = logits.len();
        logits.resize(begin + n, 0.0);
        let n_rows = if self.executor.capacity() == 1 {
            tokens.len()
        } else {
            bucket(rows.len(), tokens.len())
        };
        let built = self.prepare(tokens, rows, self.shape(tokens.len(), n_rows))?;
        let Built {
            id,
            logits: node,
            last,
            ..
        } = self.graphs[built];
        let mut states = std::mem::take(&mut self.scratch.last);
        states.resize(rows.len() * self.model.sizes().n_embd, 0.0);
        let done = self.run(
            built,
            id,
            &mut [(node, &mut logits[begin..]), (last, &mut states)],
        );
        let finite = states.iter().all(|x| x.is_finite());
        self.scratch.last = states;
        done?;
        if !finite {
            // Rounding activations to 8 bits drops a NaN: it need not show in the logits.
            crate::bail!(
                Numeric,
                "the network's state is not finite; the weights may hold NaN or Inf (check with verify)"
            );
        }
        Ok(())
    }

    /// The state after the final norm of `rows` of the canvas, row-major `[rows, n_embd]`.
    ///
    /// # Errors
    /// `Numeric`, when one is not finite; else as for logits.
    pub fn last_states(&mut self, tokens: &[Token], rows: &[u32]) -> Result<Vec<f32>> {
        let n_rows = match self.executor.capacity() {
            1 => tokens.len(),
            _ => bucket(rows.len(), tokens.len()),
        };
        let built = self.prepare(tokens, rows, self.shape(tokens.len(), n_rows))?;
        let Built { id, last, .. } = self.graphs[built];
        let n = rows.len() * self.model.sizes().n_embd;
        let mut states = crate::error::try_vec(n, 0f32, "hidden states")?;
        self.run(built, id, &mut [(last, &mut states)])?;
        if states.iter().any(|x| !x.is_finite()) {
            crate::bail!(
                Numeric,
                "the network's state is not finite; the weights may hold NaN or Inf (check with verify)"
            );
        }
        Ok(states)
    }

    /// Hidden states of the whole canvas: the input of every layer, then the state after the final norm,
    /// each row-major `[n_tokens, n_embd]`.
    pub fn hidden_states(&mut self, tokens: &[Token]) -> Result<Vec<Vec<f32>>> {
        let rows: Vec<u32> = (0..tokens.len()).map(|i| i as u32).collect();
        let shape = GraphShape {
            hidden: true,
            ..self.shape(tokens.len(), rows.len())
        };
        let built = self.prepare(tokens, &rows, shape)?;
        let n = tokens.len() * self.model.sizes().n_embd;
        let mut states = Vec::new();
        for _ in &self.graphs[built].hidden {
            states.push(crate::error::try_vec(n, 0f32, "hidden states")?);
        }
        let nodes = self.graphs[built].hidden.clone();
        let id = self.graphs[built].id;
        let mut outputs: Vec<_> = nodes
            .into_iter()
            .zip(states.iter_mut().map(Vec::as_mut_slice))
            .collect();
        self.run(built, id, &mut outputs)?;
        Ok(states)
    }

    /// As [`logits`](Self::logits) for an empty vector, and tells `observe` what goes into each weight.
    pub fn observed_logits(
        &mut self,
        tokens: &[Token],
        rows: &[u32],
        logits: &mut Vec<f32>,
        observe: &mut Observe<'_>,
    ) -> Result<()> {
        // Filler rows would be added up too: a graph for just these.
        let shape = GraphShape {
            squares: true,
            ..self.shape(tokens.len(), rows.len())
        };
        let built = self.prepare(tokens, rows, shape)?;
        logits.resize(rows.len() * self.n_vocab(), 0.0);
        let (id, node) = (self.graphs[built].id, self.graphs[built].logits);
        let squares = self.graphs[built].squares.clone();
        let mut sums = Vec::new();
        for s in &squares {
            sums.push(crate::error::try_vec(s.n_columns, 0f32, "sums of squares")?);
        }
        let mut outputs = vec![(node, logits.as_mut_slice())];
        let each = squares.iter().zip(sums.iter_mut());
        outputs.extend(each.map(|(s, sums)| (s.sums, sums.as_mut_slice())));
        self.run(built, id, &mut outputs)?;
        for (s, sums) in squares.iter().zip(&sums) {
            for &weight in &s.weights {
                if let Some(name) = self.model.weights().name(weight) {
                    observe(name, s.n_rows, sums);
                }
            }
        }
        Ok(())
    }

    fn shape(&self, n_tokens: usize, n_rows: usize) -> GraphShape {
        let flash = match self.flash {
            Flash::On => true,
            Flash::Off => false,
            Flash::Auto => n_tokens >= FLASH_FROM,
        };
        let attention = match (flash, self.on_gpu) {
            (false, _) => AttentionKind::Exact,
            (true, false) => AttentionKind::Flash,
            (true, true) => AttentionKind::FlashF16,
        };
        GraphShape {
            n_tokens,
            n_rows,
            attention,
            hidden: false,
            squares: false,
        }
    }

    /// Checks the canvas, fills the input buffers and finds the graph.
    fn prepare(&mut self, tokens: &[Token], rows: &[u32], shape: GraphShape) -> Result<usize> {
        self.model.check_unchanged()?;
        self.model.verify_once(self.executor.n_threads())?;
        let sizes = self.model.sizes();
        let (n_vocab, shift) = (sizes.n_vocab, sizes.shift_logits);
        // ggml's get_rows aborts on a row that does not exist (ops.cpp:5363): ids and rows are checked.
        if let Some(i) = tokens.iter().position(|&t| t as usize >= n_vocab) {
            crate::bail!(
                InvalidArgument,
                "token {} at slot {i} is outside the vocabulary of {n_vocab}",
                tokens[i]
            );
        }
        if let Some(row) = rows.iter().find(|&&r| r as usize >= tokens.len()) {
            crate::bail!(
                InvalidArgument,
                "row {row} is outside the canvas of {} slots",
                tokens.len()
            );
        }
        let built = self.graph(shape)?;
        let scratch = &mut self.scratch;
        scratch.tokens.clear();
        scratch.tokens.extend(tokens.iter().map(|&t| t as i32));
        scratch.positions.clear();
        scratch.positions.extend((0..tokens.len()).map(|i| i as i32));
        scratch.rows.clear();
        // The logits of a slot may be found one to the left (Dream); slot 0 then has its own.
        scratch.rows.extend(
            rows.iter()
                .map(|&r| if shift { r.saturating_sub(1) } else { r } as i32),
        );
        // Rows that only fill the graph's shape repeat the first.
        let filler = scratch.rows.first().copied().unwrap_or(0);
        scratch.rows.resize(shape.n_rows, filler);
        scratch.row_positions.clear();
        scratch.row_positions.extend_from_slice(&scratch.rows);
        Ok(built)
    }

    fn run(
        &mut self,
        built: usize,
        id: GraphId,
        outputs: &mut [(crate::ggml::Node, &mut [f32])],
    ) -> Result<()> {
        let inputs = &self.graphs[built].inputs;
        let s = &self.scratch;
        let values = [
            (inputs.tokens, Input::I32(&s.tokens)),
            (inputs.positions, Input::I32(&s.positions)),
            (inputs.rows, Input::I32(&s.rows)),
            (inputs.row_positions, Input::I32(&s.row_positions)),
        ];
        self.executor.run(id, &values, outputs, self.cancel.as_deref())
    }

    /// The graph of `shape`, built if it is new.
    fn graph(&mut self, shape: GraphShape) -> Result<usize> {
        if let Some(i) = self.graphs.iter().position(|g| g.shape == shape) {
            return Ok(i);
        }
        if self.graphs.len() >= MAX_GRAPHS.min(self.executor.capacity()) {
            self.graphs.clear();
            self.executor.clear();
        }
        let graph = self.model.arch().build(self.model.weights(), &shape)?;
        let id = self.executor.add(graph.builder)?;
        let (inputs, logits, last, hidden) = (graph.inputs, graph.logits, graph.last, graph.hidden);
        let squares = graph.squares;
        self.graphs.push(Built {
            shape,
            id,
            inputs,
            logits,
            last,
            hidden,
            squares,
        });
        Ok(self.graphs.len() - 1)
    }
}

impl Predictor for NetworkPredictor {
    fn n_vocab(&self) -> usize {
        self.model.sizes().n_vocab
    }

    /// One canvas after the other: above a handful of rows a step is bound by arithmetic, so that a
    /// larger product gains nothing on a CPU, and the result of a canvas cannot depend on its neighbours.
    fn predict(&mut self, queries: &[Query<'_>], logits: &mut Vec<f32>) -> Result<()> {
        logits.clear();
        for query in queries {
            self.logits(query.tokens, query.rows, logits)?;
        }
        Ok(())
    }
}

const SMALLEST_BUCKET: usize = 8;

/// The number of rows that a graph for `n_rows` of `n_tokens` computes: two sizes an octave (8, 12, 16,
/// 24, 32, ...), so that a run needs few graphs while rows are filled.
fn bucket(n_rows: usize, n_tokens: usize) -> usize {
    let mut size = SMALLEST_BUCKET;
    while size < n_rows {
        size = if size.is_power_of_two() {
            size / 2 * 3
        } else {
            size / 3 * 4
        };
    }
    size.min(n_tokens)
}

/// The next smaller size.
fn bucket_below(size: usize, n_tokens: usize) -> usize {
    let mut below = SMALLEST_BUCKET;
    loop {
        let next = if below.is_power_of_two() {
            below / 2 * 3
        } else {
            below / 3 * 4
        };
        if next.min(n_tokens) >= size {
            return below.min(n_tokens);
        }
        below = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_is_asked_and_little_more() {
        for n_tokens in [1, 7, 40, 300, 1000] {
            for n in 1..=n_tokens {
                let size = bucket(n, n_tokens);
                assert!(size >= n && size <= n_tokens);
                assert!(size <= SMALLEST_BUCKET || size <= n + n / 2, "{n} -> {size}");
            }
        }
    }

    #[test]
    fn going_down_visits_every_bucket() {
        let mut size = bucket(96, 100);
        let mut seen = vec![size];
        while size > SMALLEST_BUCKET {
            size = bucket_below(size, 100);
            seen.push(size);
        }
        assert_eq!(seen, [96, 64, 48, 32, 24, 16, 12, 8]);
    }
}
