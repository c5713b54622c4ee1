//! The mask predictor of a session: graphs built once per shape, reused for every step.
#![forbid(unsafe_code)]

mod peaks;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::canvas::Token;
use crate::denoise::{Branch, CacheType, CacheUse, PassShape, Predictor, Query, Reduction, RowPeak};
use crate::error::Result;
use crate::ggml::{DType, Executor, GraphId, Input, Output};
use crate::graph::{AttentionKind, CacheShape, GraphShape, HeadShape, Inputs, KvCache, Peaks, SquareSums};
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
    cache: Option<KvCache>,
    /// Whether the run keeps features too.
    features: bool,
    regions: Vec<Region>,
    scratch: Scratch,
    /// Whether rows of logits are reduced where they are computed; `None`: where that is not the CPU.
    pub reduces: Option<bool>,
    /// What ends a computation between two nodes of the graph.
    pub cancel: Option<Arc<AtomicBool>>,
}

/// Rows of the cache that belong to one canvas and branch.
struct Region {
    first: usize,
    len: usize,
    /// Slots whose keys and values are there.
    filled: usize,
}

/// What is wanted of a query's rows, and where it goes.
enum Rows<'a> {
    Logits(&'a mut Vec<f32>),
    Peaks(&'a Reduction, &'a mut Vec<RowPeak>),
}

/// A stretch of a canvas that one graph computes.
struct Part<'a> {
    /// The tokens that are computed.
    tokens: &'a [Token],
    /// Position of the first.
    begin: usize,
    /// Slots whose logits are wanted, by position.
    rows: &'a [u32],
}

struct Built {
    shape: GraphShape,
    id: GraphId,
    inputs: Inputs,
    logits: crate::ggml::Node,
    last: crate::ggml::Node,
    peaks: Option<Peaks>,
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
    slots: Vec<i32>,
    last: Vec<f32>,
    bias: Vec<f32>,
    peaks: peaks::Scratch,
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
            cache: None,
            features: false,
            regions: Vec::new(),
            scratch: Scratch::default(),
            reduces: None,
            cancel: None,
        })
    }

    pub fn set_profiling(&mut self, on: bool) {
        self.executor.set_profiling(on);
    }

    pub fn take_profile(&mut self) -> Vec<crate::ggml::Part> {
        self.executor.take_profile()
    }

    pub fn n_threads(&self) -> usize {
        self.executor.n_threads()
    }

    /// Bytes of memory that graphs compute in and that caches take.
    pub fn n_bytes(&self) -> u64 {
        self.executor.n_bytes() + self.cache.as_ref().map_or(0, KvCache::n_bytes)
    }

    /// Makes room to keep keys and values of canvases of these lengths, twice with guidance. What was
    /// kept is forgotten.
    pub fn prepare_cache(
        &mut self,
        lengths: impl Iterator<Item = usize>,
        guided: bool,
        ty: CacheType,
        features: bool,
    ) -> Result<()> {
        self.features = features;
        self.regions.clear();
        let mut first = 0;
        for len in lengths {
            for used in [true, guided] {
                let len = if used { len } else { 0 };
                self.regions.push(Region {
                    first,
                    len,
                    filled: 0,
                });
                first += len;
            }
        }
        let dtype = match ty {
            CacheType::F32 => DType::F32,
            CacheType::F16 => DType::F16,
            CacheType::Q8_0 => DType::Q8_0,
        };
        // ggml counts rows as i32.
        if i32::try_from(first).is_err() {
            crate::bail!(
                Limit,
                "a cache of {first} slots is too large; run fewer canvases at once"
            );
        }
        let fits = |c: &KvCache| c.dtype() == dtype && c.n_rows() >= first && (c.has_features() || !features);
        if !self.cache.as_ref().is_some_and(fits) {
            // Graphs hold on to the cache that they were built for.
            self.forget_graphs();
            self.cache = None;
            let sizes = self.model.sizes();
            let devices = &self.model.placement().layers;
            let n = sizes.n_rot * sizes.n_head_kv;
            let n_embd = features.then_some(sizes.n_embd);
            self.cache = Some(KvCache::new(devices, n, n_embd, first, dtype)?);
        }
        Ok(())
    }

    /// Builds the graphs for queries of these kinds, so that the steps of a run find them: as many as are
    /// kept at a time. With `reduction` their rows are reduced, where this predictor does that.
    pub fn reserve(
        &mut self,
        passes: impl Iterator<Item = PassShape>,
        cached: bool,
        reduction: Option<&Reduction>,
    ) -> Result<()> {
        let mut shapes = Vec::new();
        for pass in passes {
            self.shapes_of(&pass, cached, &mut shapes)?;
        }
        let head = match reduction.filter(|_| self.reduces()) {
            Some(reduction) => peaks::head(reduction),
            None => HeadShape::Logits,
        };
        shapes.iter_mut().for_each(|s| s.head = head);
        let known = |shape: &GraphShape| self.graphs.iter().any(|g| g.shape == *shape);
        let n_new = shapes.iter().filter(|s| !known(s)).count();
        if self.graphs.len() + n_new > MAX_GRAPHS {
            self.forget_graphs();
        }
        let largest = shapes.iter().map(|s| s.n_tokens).max().unwrap_or(0);
        for shape in shapes.into_iter().take(MAX_GRAPHS) {
            self.graph(shape)?;
        }
        let s = &mut self.scratch;
        for list in [
            &mut s.tokens,
            &mut s.positions,
            &mut s.rows,
            &mut s.row_positions,
            &mut s.slots,
        ] {
            list.clear();
            list.reserve(largest);
        }
        Ok(())
    }

    /// Adds the shapes of the graphs that one kind of query needs, the largest first.
    fn shapes_of(&self, pass: &PassShape, cached: bool, shapes: &mut Vec<GraphShape>) -> Result<()> {
        let n_tokens = pass.window.unwrap_or(pass.n_slots);
        let features = self.features;
        let mut uses = [Some(CacheShape::Off), None];
        if cached {
            for (used, branch) in uses.iter_mut().zip([Branch::Conditional, Branch::Unconditional]) {
                let region = self.region(pass.sequence, branch)?;
                let (first, n_kv) = (region.first, pass.n_slots);
                *used = (region.len > 0).then_some(match pass.window {
                    None => CacheShape::Fill { first, features },
                    Some(_) => match pass.n_update {
                        Some(n_update) => CacheShape::Partial {
                            first,
                            n_kv,
                            n_update,
                        },
                        None => CacheShape::Window {
                            first,
                            n_kv,
                            features,
                        },
                    },
                });
            }
        }
        for cache in uses.into_iter().flatten() {
            let mut rows = bucket(pass.n_rows.max(1), n_tokens, cached);
            loop {
                let shape = self.shape(n_tokens, rows, cache);
                if !shapes.contains(&shape) {
                    shapes.push(shape);
                }
                if rows <= SMALLEST_BUCKET.min(n_tokens) {
                    break;
                }
                rows = bucket_below(rows, n_tokens, cached);
            }
        }
        Ok(())
    }

    fn region(&self, sequence: usize, branch: Branch) -> Result<&Region> {
        let index = 2 * sequence + usize::from(branch == Branch::Unconditional);
        self.regions
            .get(index)
            .ok_or_else(|| crate::err!(Unsupported, "no cache was made for canvas {sequence}"))
    }

    /// Has a query's rows computed, by what its use of the cache says, and appended to `rows`.
    fn answer(&mut self, query: &Query<'_>, rows: &mut Rows<'_>) -> Result<()> {
        if query.rows.is_empty() {
            return Ok(());
        }
        let n = query.tokens.len();
        let whole = Part {
            tokens: query.tokens,
            begin: 0,
            rows: query.rows,
        };
        if query.cache == CacheUse::Off {
            return self.part(&whole, CacheShape::Off, rows);
        }
        let index = 2 * query.sequence + usize::from(query.branch == Branch::Unconditional);
        let region = self.region(query.sequence, query.branch)?;
        let (first, len, filled) = (region.first, region.len, region.filled);
        let features = self.features;
        let (window, n_update) = match query.cache {
            CacheUse::Window { begin, end } => (Some((begin, end)), None),
            CacheUse::Partial { begin, n_update } => (Some((begin, n)), Some(n_update)),
            CacheUse::Fill | CacheUse::Off => (None, None),
        };
        match window {
            Some((begin, end)) => {
                // The logits of a slot may be found one to the left.
                let begin = begin.saturating_sub(usize::from(self.model.sizes().shift_logits));
                let Some(tokens) = query.tokens.get(begin..end).filter(|t| !t.is_empty()) else {
                    crate::bail!(
                        InvalidArgument,
                        "window {begin}..{end} is not in a canvas of {n} slots"
                    );
                };
                if n > filled {
                    crate::bail!(
                        InvalidArgument,
                        "{n} slots are looked at; {filled} have kept keys and values"
                    );
                }
                let part = Part {
                    tokens,
                    begin,
                    rows: query.rows,
                };
                let shape = match n_update {
                    None => CacheShape::Window {
                        first,
                        n_kv: n,
                        features,
                    },
                    Some(n_update) if features && (1..=tokens.len()).contains(&n_update) => {
                        CacheShape::Partial {
                            first,
                            n_kv: n,
                            n_update,
                        }
                    }
                    Some(n_update) => crate::bail!(
                        InvalidArgument,
                        "{n_update} of {} slots cannot be updated from this cache",
                        tokens.len()
                    ),
                };
                self.part(&part, shape, rows)
            }
            None if n > len => {
                crate::bail!(InvalidArgument, "{n} slots do not fit a cache of {len}")
            }
            None => {
                // Until it is done, nothing there is of use.
                self.regions[index].filled = 0;
                self.part(&whole, CacheShape::Fill { first, features }, rows)?;
                self.regions[index].filled = n;
                Ok(())
            }
        }
    }

    /// Logits of `rows` of the canvas `tokens`, appended to `logits`, row-major `[rows, n_vocab]`.
    pub fn logits(&mut self, tokens: &[Token], rows: &[u32], logits: &mut Vec<f32>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let whole = Part {
            tokens,
            begin: 0,
            rows,
        };
        self.part_logits(&whole, CacheShape::Off, logits)
    }

    fn part(&mut self, part: &Part<'_>, cache: CacheShape, rows: &mut Rows<'_>) -> Result<()> {
        match rows {
            Rows::Logits(logits) => self.part_logits(part, cache, logits),
            Rows::Peaks(reduction, peaks) => self.part_peaks(part, cache, reduction, peaks),
        }
    }

    fn part_logits(&mut self, part: &Part<'_>, cache: CacheShape, logits: &mut Vec<f32>) -> Result<()> {
        let (n_tokens, rows) = (part.tokens.len(), part.rows);
        let n = rows.len().checked_mul(self.n_vocab());
        let n = n.ok_or_else(|| crate::err!(Limit, "logits of {} rows are too large", rows.len()))?;
        logits
            .try_reserve(n)
            .map_err(|_| crate::err!(Resource, "no memory for {n} logits"))?;
        let begin = logits.len();
        logits.resize(begin + n, 0.0);
        let n_rows = bucket(rows.len(), n_tokens, cache != CacheShape::Off);
        let built = self.prepare(part, self.shape(n_tokens, n_rows, cache))?;
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
            &mut [
                (node, Output::F32(&mut logits[begin..])),
                (last, Output::F32(&mut states)),
            ],
        );
        let finite = states.iter().all(|x| x.is_finite());
        self.scratch.last = states;
        done?;
        // Rounding activations to 8 bits drops a NaN: it need not show in the logits.
        require_finite(finite)
    }

    /// The state after the final norm of `rows` of the canvas, row-major `[rows, n_embd]`.
    ///
    /// # Errors
    /// `Numeric`, when one is not finite; else as for logits.
    pub fn last_states(&mut self, tokens: &[Token], rows: &[u32]) -> Result<Vec<f32>> {
        let whole = Part {
            tokens,
            begin: 0,
            rows,
        };
        let n_rows = bucket(rows.len(), tokens.len(), false);
        let built = self.prepare(&whole, self.shape(tokens.len(), n_rows, CacheShape::Off))?;
        let Built { id, last, .. } = self.graphs[built];
        let n = rows.len() * self.model.sizes().n_embd;
        let mut states = crate::error::try_vec(n, 0f32, "hidden states")?;
        self.run(built, id, &mut [(last, Output::F32(&mut states))])?;
        require_finite(states.iter().all(|x| x.is_finite()))?;
        Ok(states)
    }

    /// Hidden states of the whole canvas: the input of every layer, then the state after the final norm,
    /// each row-major `[n_tokens, n_embd]`.
    pub fn hidden_states(&mut self, tokens: &[Token]) -> Result<Vec<Vec<f32>>> {
        let rows: Vec<u32> = (0..tokens.len()).map(|i| i as u32).collect();
        let shape = GraphShape {
            hidden: true,
            ..self.shape(tokens.len(), rows.len(), CacheShape::Off)
        };
        let whole = Part {
            tokens,
            begin: 0,
            rows: &rows,
        };
        let built = self.prepare(&whole, shape)?;
        let n = tokens.len() * self.model.sizes().n_embd;
        let mut states = Vec::new();
        for _ in &self.graphs[built].hidden {
            states.push(crate::error::try_vec(n, 0f32, "hidden states")?);
        }
        let nodes = self.graphs[built].hidden.clone();
        let id = self.graphs[built].id;
        let mut outputs: Vec<_> = nodes
            .into_iter()
            .zip(states.iter_mut().map(|s| Output::F32(s)))
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
            ..self.shape(tokens.len(), rows.len(), CacheShape::Off)
        };
        let whole = Part {
            tokens,
            begin: 0,
            rows,
        };
        let built = self.prepare(&whole, shape)?;
        logits.resize(rows.len() * self.n_vocab(), 0.0);
        let (id, node) = (self.graphs[built].id, self.graphs[built].logits);
        let squares = self.graphs[built].squares.clone();
        let mut sums = Vec::new();
        for s in &squares {
            sums.push(crate::error::try_vec(s.n_columns, 0f32, "sums of squares")?);
        }
        let mut outputs = vec![(node, Output::F32(logits))];
        let each = squares.iter().zip(sums.iter_mut());
        outputs.extend(each.map(|(s, sums)| (s.sums, Output::F32(sums))));
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

    fn shape(&self, n_tokens: usize, n_rows: usize, cache: CacheShape) -> GraphShape {
        let n_kv = match cache {
            CacheShape::Window { n_kv, .. } | CacheShape::Partial { n_kv, .. } => n_kv,
            _ => n_tokens,
        };
        let flash = match self.flash {
            Flash::On => true,
            Flash::Off => false,
            Flash::Auto => n_kv >= FLASH_FROM,
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
            cache,
            head: HeadShape::Logits,
            hidden: false,
            squares: false,
        }
    }

    /// Checks the canvas, fills the input buffers and finds the graph.
    fn prepare(&mut self, part: &Part<'_>, shape: GraphShape) -> Result<usize> {
        let &Part { tokens, begin, rows } = part;
        let end = begin + tokens.len();
        self.model.check_unchanged()?;
        self.model.verify_once(self.executor.n_threads())?;
        let sizes = self.model.sizes();
        let (n_vocab, shift) = (sizes.n_vocab, sizes.shift_logits);
        // ggml's get_rows aborts on a row that does not exist (ops.cpp:5363): ids and rows are checked.
        if let Some(i) = tokens.iter().position(|&t| t as usize >= n_vocab) {
            crate::bail!(
                InvalidArgument,
                "token {} at slot {} is outside the vocabulary of {n_vocab}",
                tokens[i],
                begin + i
            );
        }
        // The logits of a slot may be found one to the left (Dream); slot 0 then has its own.
        let at = |r: u32| if shift { r.saturating_sub(1) } else { r } as usize;
        if let Some(row) = rows.iter().find(|&&r| r as usize >= end || at(r) < begin) {
            crate::bail!(
                InvalidArgument,
                "row {row} is outside the canvas of {end} slots, of which those from {begin} on are computed"
            );
        }
        let built = self.graph(shape)?;
        let scratch = &mut self.scratch;
        scratch.tokens.clear();
        scratch.tokens.extend(tokens.iter().map(|&t| t as i32));
        scratch.positions.clear();
        scratch.positions.extend((begin..end).map(|i| i as i32));
        scratch.slots.clear();
        if let CacheShape::Fill { first, .. }
        | CacheShape::Window { first, .. }
        | CacheShape::Partial { first, .. } = shape.cache
        {
            scratch.slots.extend((begin..end).map(|i| (first + i) as i32));
        }
        scratch.rows.clear();
        scratch.rows.extend(rows.iter().map(|&r| (at(r) - begin) as i32));
        // Rows that only fill the graph's shape repeat the first.
        let filler = scratch.rows.first().copied().unwrap_or(0);
        scratch.rows.resize(shape.n_rows, filler);
        scratch.row_positions.clear();
        let positions = scratch.rows.iter().map(|&r| begin as i32 + r);
        scratch.row_positions.extend(positions);
        Ok(built)
    }

    fn run(
        &mut self,
        built: usize,
        id: GraphId,
        outputs: &mut [(crate::ggml::Node, Output<'_>)],
    ) -> Result<()> {
        let graph = &self.graphs[built];
        let (inputs, s) = (&graph.inputs, &self.scratch);
        let mut values = [(inputs.tokens, Input::I32(&s.tokens)); 6];
        values[1] = (inputs.positions, Input::I32(&s.positions));
        values[2] = (inputs.rows, Input::I32(&s.rows));
        // With features all slots leave the last layer, so that rows need no positions.
        let row_positions = (!graph.shape.cache.has_features()).then_some(inputs.row_positions);
        let more = [
            row_positions.map(|node| (node, Input::I32(&s.row_positions))),
            inputs.slots.map(|node| (node, Input::I32(&s.slots))),
            graph.peaks.and_then(|p| Some((p.bias?, Input::F32(&s.bias)))),
        ];
        let mut n = 3;
        for value in more.into_iter().flatten() {
            values[n] = value;
            n += 1;
        }
        let used = &values[..n];
        self.executor.run(id, used, outputs, self.cancel.as_deref())
    }

    fn forget_graphs(&mut self) {
        self.graphs.clear();
        self.executor.clear();
    }

    /// The graph of `shape`, built if it is new.
    fn graph(&mut self, shape: GraphShape) -> Result<usize> {
        if let Some(i) = self.graphs.iter().position(|g| g.shape == shape) {
            return Ok(i);
        }
        if self.graphs.len() >= MAX_GRAPHS {
            self.forget_graphs();
        }
        let arch = self.model.arch();
        let graph = arch.build(self.model.weights(), &shape, self.cache.as_ref())?;
        let id = self.executor.add(graph.builder)?;
        let (inputs, logits, last, hidden) = (graph.inputs, graph.logits, graph.last, graph.hidden);
        let peaks = graph.peaks;
        let squares = graph.squares;
        self.graphs.push(Built {
            shape,
            id,
            inputs,
            logits,
            last,
            peaks,
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
            self.answer(query, &mut Rows::Logits(logits))?;
        }
        Ok(())
    }

    fn predict_reduced(
        &mut self,
        queries: &[Query<'_>],
        reduction: &Reduction,
        peaks: &mut Vec<RowPeak>,
    ) -> Result<bool> {
        if !self.reduces() {
            return Ok(false);
        }
        peaks.clear();
        for query in queries {
            self.answer(query, &mut Rows::Peaks(reduction, peaks))?;
        }
        Ok(true)
    }
}

fn require_finite(finite: bool) -> Result<()> {
    if finite {
        return Ok(());
    }
    crate::bail!(
        Numeric,
        "the network's state is not finite; the weights may hold NaN or Inf (check with verify)"
    )
}

const SMALLEST_BUCKET: usize = 8;

/// The number of rows that a graph for `n_rows` of `n_tokens` computes: two sizes an octave (8, 12, 16,
/// 24, 32, ...), so that a run needs few graphs while rows are filled; one an octave where `coarse`, for
/// runs with a cache, which need graphs for windows too.
fn bucket(n_rows: usize, n_tokens: usize, coarse: bool) -> usize {
    let mut size = SMALLEST_BUCKET;
    while size < n_rows {
        size = next_bucket(size, coarse);
    }
    size.min(n_tokens)
}

fn next_bucket(size: usize, coarse: bool) -> usize {
    match size.is_power_of_two() {
        true if coarse => size * 2,
        true => size / 2 * 3,
        false => size / 3 * 4,
    }
}

/// The next smaller size.
fn bucket_below(size: usize, n_tokens: usize, coarse: bool) -> usize {
    let mut below = SMALLEST_BUCKET;
    loop {
        let next = next_bucket(below, coarse);
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
                let size = bucket(n, n_tokens, false);
                assert!(size >= n && size <= n_tokens);
                assert!(size <= SMALLEST_BUCKET || size <= n + n / 2, "{n} -> {size}");
                let coarse = bucket(n, n_tokens, true);
                assert!(coarse >= size && coarse <= n_tokens);
            }
        }
    }

    #[test]
    fn going_down_visits_every_bucket() {
        let mut size = bucket(96, 100, false);
        let mut seen = vec![size];
        while size > SMALLEST_BUCKET {
            size = bucket_below(size, 100, false);
            seen.push(size);
        }
        assert_eq!(seen, [96, 64, 48, 32, 24, 16, 12, 8]);
    }
}
