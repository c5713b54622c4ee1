//! The mask predictor of a session: graphs built once per shape, reused for every step.
#![forbid(unsafe_code)]

mod ahead;
mod group;
mod peaks;
mod shapes;
mod tensors;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::canvas::Token;
use crate::denoise::{Branch, CacheType, CacheUse, Predictor, Query, Reduction, RowPeak};
use crate::error::{ErrorKind, Result};
use crate::ggml::{DType, Executor, GraphId, Input, Node, Output};
use crate::graph::{CacheShape, GraphShape, HeadShape, Inputs, KvCache, Peaks, SquareSums};
use crate::model::Model;

use super::{Flash, SessionOptions};
use group::{Limits, MAX_PARTS, Part};
use shapes::{bucket, common_rows};

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
    /// Which parts of canvases are computed together.
    limits: Limits,
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
    Peaks(&'a Reduced<'a>, &'a mut Vec<RowPeak>),
}

/// What rows of logits are reduced to.
struct Reduced<'a> {
    reduction: &'a Reduction,
    /// Where tokens are drawn, the numbers of all rows of all queries; else nothing.
    uniform: &'a [[f64; 2]],
}

impl Rows<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Logits(logits) => logits.len(),
            Self::Peaks(_, peaks) => peaks.len(),
        }
    }

    fn truncate(&mut self, n: usize) {
        match self {
            Self::Logits(logits) => logits.truncate(n),
            Self::Peaks(_, peaks) => peaks.truncate(n),
        }
    }
}

struct Built {
    shape: GraphShape,
    id: GraphId,
    inputs: Inputs,
    logits: Node,
    last: Node,
    peaks: Option<Peaks>,
    hidden: Vec<Node>,
    squares: Vec<SquareSums>,
}

/// Hears of what goes into a weight: its name, the rows that were added up, the sums of squares of each
/// column.
pub(super) type Observe<'a> = dyn FnMut(&str, usize, &[f32]) + 'a;

/// Input buffers, reused.
#[derive(Default)]
struct Scratch {
    shape: GraphShape,
    tokens: Vec<i32>,
    positions: Vec<i32>,
    rows: Vec<i32>,
    row_positions: Vec<i32>,
    slots: Vec<i32>,
    last: Vec<f32>,
    bias: Vec<f32>,
    scale: f32,
    uniform: [Vec<f32>; 2],
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
        let made = Self {
            model: model.clone(),
            executor,
            flash: options.flash,
            on_gpu: !devices.is_empty(),
            graphs: Vec::new(),
            cache: None,
            features: false,
            regions: Vec::new(),
            scratch: Scratch::default(),
            limits: Limits::of(model.placement()),
            reduces: None,
            cancel: None,
        };
        made.check_flash()?;
        Ok(made)
    }

    /// Whether parts of several canvases are computed together.
    pub fn set_together(&mut self, on: bool) {
        self.limits = match on {
            true => Limits::of(self.model.placement()),
            false => Limits::NONE,
        };
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
        self.check_features(features)?;
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
            self.cache = Some(KvCache::new(
                devices,
                n,
                &self.key_pieces(),
                n_embd,
                first,
                dtype,
            )?);
        }
        Ok(())
    }

    fn region(&self, sequence: usize, branch: Branch) -> Result<&Region> {
        let index = 2 * sequence + usize::from(branch == Branch::Unconditional);
        self.regions
            .get(index)
            .ok_or_else(|| crate::err!(Unsupported, "no cache was made for canvas {sequence}"))
    }

    /// Has the rows of all queries computed, and appended to `rows`: those of several canvases together
    /// where that pays.
    fn answer(&mut self, queries: &[Query<'_>], rows: &mut Rows<'_>) -> Result<()> {
        let mut parts = [Part::NONE; MAX_PARTS];
        let mut n = 0;
        let mut queries = queries.iter().filter(|q| !q.rows.is_empty());
        loop {
            let k = self.next_group(&mut queries, &mut parts, &mut n)?;
            if k == 0 {
                return Ok(());
            }
            self.compute(&parts[..k], rows)?;
            parts.copy_within(k..n, 0);
            n -= k;
        }
    }

    /// Adds parts to the `n` that there are, and says how many of the first are computed together.
    fn next_group<'q>(
        &self,
        queries: &mut dyn Iterator<Item = &Query<'q>>,
        parts: &mut [Part<'q>; MAX_PARTS],
        n: &mut usize,
    ) -> Result<usize> {
        while *n < MAX_PARTS
            && let Some(query) = queries.next()
        {
            parts[*n] = self.part(query)?;
            *n += 1;
        }
        if *n == 0 {
            return Ok(0);
        }
        let k = self.limits.n_together(*n, |i| parts[i].shape);
        if k > 1 {
            let most = common_rows(parts[..k].iter().map(|p| p.rows.len()));
            for part in &mut parts[..k] {
                part.shape.n_rows = most.min(part.tokens.len());
            }
        }
        Ok(k)
    }

    /// What a query has computed, by what its use of the cache says.
    fn part<'q>(&self, query: &Query<'q>) -> Result<Part<'q>> {
        let n = query.tokens.len();
        if query.cache == CacheUse::Off {
            return Ok(self.whole(query.tokens, query.rows));
        }
        let index = 2 * query.sequence + usize::from(query.branch == Branch::Unconditional);
        let region = self.region(query.sequence, query.branch)?;
        let (first, len, filled) = (region.first, region.len, region.filled);
        let features = self.features;
        let (begin, end, n_update) = match query.cache {
            CacheUse::Window { begin, end } => (begin, end, None),
            CacheUse::Partial { begin, n_update } => (begin, n, Some(n_update)),
            CacheUse::Fill | CacheUse::Off => {
                if n > len {
                    crate::bail!(InvalidArgument, "{n} slots do not fit a cache of {len}");
                }
                let shape = CacheShape::Fill { first, features };
                return Ok(Part {
                    fills: Some(index),
                    ..self.stretch(query.tokens, 0, query.rows, shape)
                });
            }
        };
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
        let n_kv = n;
        let shape = match n_update {
            None => CacheShape::Window {
                first,
                n_kv,
                features,
            },
            Some(n_update) if features && (1..=tokens.len()).contains(&n_update) => CacheShape::Partial {
                first,
                n_kv,
                n_update,
            },
            Some(n_update) => crate::bail!(
                InvalidArgument,
                "{n_update} of {} slots cannot be updated from this cache",
                tokens.len()
            ),
        };
        Ok(self.stretch(tokens, begin, query.rows, shape))
    }

    /// Computes `parts` in one graph; where the memory for that cannot be had, one after the other, from
    /// now on.
    fn compute(&mut self, parts: &[Part<'_>], rows: &mut Rows<'_>) -> Result<()> {
        let regions = || parts.iter().filter_map(|p| Some((p.fills?, p.tokens.len())));
        for (index, _) in regions() {
            // Until it is done, nothing there is of use.
            self.regions[index].filled = 0;
        }
        let before = rows.len();
        let done = match rows {
            Rows::Logits(logits) => self.logits_of(parts, logits),
            Rows::Peaks(reduction, peaks) => self.peaks_of(parts, reduction, peaks),
        };
        match done {
            Err(e) if e.kind() == ErrorKind::Resource && parts.len() > 1 => {
                crate::log!(
                    Warn,
                    "canvases are computed one after the other from now on, for want of memory: {e}"
                );
                self.limits = Limits::NONE;
                rows.truncate(before);
                for part in parts {
                    self.compute(std::slice::from_ref(part), rows)?;
                }
                return Ok(());
            }
            done => done?,
        }
        for (index, n) in regions() {
            self.regions[index].filled = n;
        }
        Ok(())
    }

    /// Logits of `rows` of the canvas `tokens`, appended to `logits`, row-major `[rows, n_vocab]`.
    pub fn logits(&mut self, tokens: &[Token], rows: &[u32], logits: &mut Vec<f32>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.logits_of(&[self.whole(tokens, rows)], logits)
    }

    fn logits_of(&mut self, parts: &[Part<'_>], logits: &mut Vec<f32>) -> Result<()> {
        let (n_vocab, n_rows) = (self.n_vocab(), n_read(parts));
        let n = n_rows.checked_mul(n_vocab);
        let n = n.ok_or_else(|| crate::err!(Limit, "logits of {n_rows} rows are too large"))?;
        reserve(logits, n)?;
        let begin = logits.len();
        logits.resize(begin + n, 0.0);
        let built = self.prepare_parts(parts, HeadShape::Logits)?;
        let Built {
            id,
            logits: node,
            last,
            ..
        } = self.graphs[built];
        let mut states = std::mem::take(&mut self.scratch.last);
        states.resize(n_rows * self.model.sizes().n_embd, 0.0);
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
        require_finite(finite)?;
        let (mut from, mut to) = (begin, begin);
        for part in parts {
            let n = part.rows.len() * n_vocab;
            if from != to {
                logits.copy_within(from..from + n, to);
            }
            (from, to) = (from + part.shape.n_rows * n_vocab, to + n);
        }
        logits.truncate(to);
        Ok(())
    }

    /// The state after the final norm of `rows` of the canvas, row-major `[rows, n_embd]`.
    ///
    /// # Errors
    /// `Numeric`, when one is not finite; else as for logits.
    pub fn last_states(&mut self, tokens: &[Token], rows: &[u32]) -> Result<Vec<f32>> {
        let built = self.prepare_parts(&[self.whole(tokens, rows)], HeadShape::Logits)?;
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
        let whole = self.whole(tokens, &rows);
        let shape = GraphShape {
            parts: vec![whole.shape],
            hidden: true,
            ..GraphShape::default()
        };
        let built = self.prepare(&[whole], &shape)?;
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
        let mut whole = self.whole(tokens, rows);
        // Filler rows would be added up too: a graph for just these.
        whole.shape.n_rows = rows.len();
        let shape = GraphShape {
            parts: vec![whole.shape],
            squares: true,
            ..GraphShape::default()
        };
        let built = self.prepare(&[whole], &shape)?;
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

    /// All of a canvas, no cache used.
    fn whole<'q>(&self, tokens: &'q [Token], rows: &'q [u32]) -> Part<'q> {
        self.stretch(tokens, 0, rows, CacheShape::Off)
    }

    fn stretch<'q>(&self, tokens: &'q [Token], begin: usize, rows: &'q [u32], cache: CacheShape) -> Part<'q> {
        let n_rows = bucket(rows.len(), tokens.len(), cache != CacheShape::Off);
        Part {
            tokens,
            begin,
            rows,
            shape: self.part_shape(tokens.len(), n_rows, cache),
            fills: None,
        }
    }

    /// Checks the parts, fills the input buffers and finds the graph that ends with `head`.
    fn prepare_parts(&mut self, parts: &[Part<'_>], head: HeadShape) -> Result<usize> {
        let mut shape = std::mem::take(&mut self.scratch.shape);
        shape.parts.clear();
        shape.parts.extend(parts.iter().map(|p| p.shape));
        shape.head = head;
        let built = self.prepare(parts, &shape);
        self.scratch.shape = shape;
        built
    }

    /// As [`prepare_parts`](Self::prepare_parts), for the graph of `shape`.
    fn prepare(&mut self, parts: &[Part<'_>], shape: &GraphShape) -> Result<usize> {
        self.model.check_unchanged()?;
        self.model.verify_once(self.executor.n_threads())?;
        for part in parts {
            self.check(part)?;
        }
        let built = self.graph(shape)?;
        let shift = self.model.sizes().shift_logits;
        let scratch = &mut self.scratch;
        for list in [
            &mut scratch.tokens,
            &mut scratch.positions,
            &mut scratch.slots,
            &mut scratch.rows,
            &mut scratch.row_positions,
        ] {
            list.clear();
        }
        for part in parts {
            let &Part {
                tokens, begin, rows, ..
            } = part;
            let positions = begin..begin + tokens.len();
            // Where the part begins among all slots of the graph.
            let offset = scratch.tokens.len();
            scratch.tokens.extend(tokens.iter().map(|&t| t as i32));
            scratch.positions.extend(positions.clone().map(|i| i as i32));
            if let CacheShape::Fill { first, .. }
            | CacheShape::Window { first, .. }
            | CacheShape::Partial { first, .. } = part.shape.cache
            {
                scratch.slots.extend(positions.map(|i| (first + i) as i32));
            }
            let at = |r: u32| found_at(r, shift) - begin;
            // Rows that only fill the graph's shape repeat the first.
            let filler = rows.first().copied().unwrap_or(0);
            let fillers = std::iter::repeat_n(filler, part.shape.n_rows.saturating_sub(rows.len()));
            for r in rows.iter().copied().chain(fillers) {
                scratch.rows.push((offset + at(r)) as i32);
                scratch.row_positions.push((begin + at(r)) as i32);
            }
        }
        Ok(built)
    }

    /// ggml's get_rows aborts on a row that does not exist (ops.cpp:5363): ids and rows are checked.
    fn check(&self, part: &Part<'_>) -> Result<()> {
        let &Part {
            tokens, begin, rows, ..
        } = part;
        let (end, sizes) = (begin + tokens.len(), self.model.sizes());
        let n_vocab = sizes.n_vocab;
        if let Some(i) = tokens.iter().position(|&t| t as usize >= n_vocab) {
            crate::bail!(
                InvalidArgument,
                "token {} at slot {} is outside the vocabulary of {n_vocab}",
                tokens[i],
                begin + i
            );
        }
        let outside = |r: u32| r as usize >= end || found_at(r, sizes.shift_logits) < begin;
        if let Some(row) = rows.iter().find(|&&r| outside(r)) {
            crate::bail!(
                InvalidArgument,
                "row {row} is outside the canvas of {end} slots, of which those from {begin} on are computed"
            );
        }
        Ok(())
    }

    fn run(&mut self, built: usize, id: GraphId, outputs: &mut [(Node, Output<'_>)]) -> Result<()> {
        let (values, n) = self.graphs[built].values(&self.scratch);
        self.executor
            .run(id, &values[..n], outputs, self.cancel.as_deref())
    }

    fn forget_graphs(&mut self) {
        self.graphs.clear();
        self.executor.clear();
    }

    /// The graph of `shape`, built if it is new.
    fn graph(&mut self, shape: &GraphShape) -> Result<usize> {
        if let Some(i) = self.graphs.iter().position(|g| g.shape == *shape) {
            return Ok(i);
        }
        if self.graphs.len() >= MAX_GRAPHS {
            self.forget_graphs();
        }
        let arch = self.model.arch();
        let graph = arch.build(self.model.weights(), shape, self.cache.as_ref())?;
        let id = self.executor.add(graph.builder)?;
        let (inputs, logits, last, hidden) = (graph.inputs, graph.logits, graph.last, graph.hidden);
        let peaks = graph.peaks;
        let squares = graph.squares;
        self.graphs.push(Built {
            shape: shape.clone(),
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

impl Built {
    /// What its inputs are set to: the first so many.
    fn values<'s>(&self, s: &'s Scratch) -> ([(Node, Input<'s>); 9], usize) {
        let inputs = &self.inputs;
        let mut values = [(inputs.tokens, Input::I32(&s.tokens)); 9];
        values[1] = (inputs.positions, Input::I32(&s.positions));
        values[2] = (inputs.rows, Input::I32(&s.rows));
        // With features all slots leave the last layer, so that rows need no positions.
        let row_positions = (!self.shape.has_features()).then_some(inputs.row_positions);
        let drawn = self.peaks.and_then(|p| p.drawn);
        let uniform = |i: usize| drawn.map(|d| (d.uniform[i], Input::F32(&s.uniform[i])));
        let scale = Input::F32(std::slice::from_ref(&s.scale));
        let more = [
            row_positions.map(|node| (node, Input::I32(&s.row_positions))),
            inputs.slots.map(|node| (node, Input::I32(&s.slots))),
            self.peaks.and_then(|p| Some((p.bias?, Input::F32(&s.bias)))),
            self.peaks.and_then(|p| Some((p.scale?, scale))),
            uniform(0),
            uniform(1),
        ];
        let mut n = 3;
        for value in more.into_iter().flatten() {
            values[n] = value;
            n += 1;
        }
        (values, n)
    }
}

impl Predictor for NetworkPredictor {
    fn n_vocab(&self) -> usize {
        self.model.sizes().n_vocab
    }

    fn predict(&mut self, queries: &[Query<'_>], logits: &mut Vec<f32>) -> Result<()> {
        logits.clear();
        // With the rows that fill a graph's shape, so that no step needs more than the first.
        let rows = |q: &Query<'_>| common_rows([q.rows.len()].into_iter()).min(q.tokens.len());
        let n: usize = queries.iter().map(rows).sum();
        reserve(logits, n.saturating_mul(self.n_vocab()))?;
        self.answer(queries, &mut Rows::Logits(logits))
    }

    fn predict_reduced(
        &mut self,
        queries: &[Query<'_>],
        reduction: &Reduction,
        uniform: &[[f64; 2]],
        peaks: &mut Vec<RowPeak>,
    ) -> Result<bool> {
        if !self.reduces(reduction) {
            return Ok(false);
        }
        peaks.clear();
        let reduced = Reduced { reduction, uniform };
        self.answer(queries, &mut Rows::Peaks(&reduced, peaks))?;
        Ok(true)
    }

    fn begin(&mut self, queries: &[Query<'_>], reduction: Option<&Reduction>, uniform: &[[f64; 2]]) {
        let reduction = reduction.filter(|r| self.reduces(r));
        let reduced = reduction.map(|reduction| Reduced { reduction, uniform });
        // What went wrong goes wrong again when it is asked.
        drop(self.start(queries, reduced.as_ref()));
    }
}

fn reserve(logits: &mut Vec<f32>, n: usize) -> Result<()> {
    logits
        .try_reserve(n)
        .map_err(|_| crate::err!(Resource, "no memory for {n} logits"))
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

/// Where the logits of slot `r` come out: with `shift` (Dream) one to the left; slot 0 then has its own.
fn found_at(r: u32, shift: bool) -> usize {
    (if shift { r.saturating_sub(1) } else { r }) as usize
}

/// Rows of a graph's results that hold all that is wanted.
fn n_read(parts: &[Part<'_>]) -> usize {
    match parts {
        [] => 0,
        [before @ .., last] => before.iter().map(|p| p.shape.n_rows).sum::<usize>() + last.rows.len(),
    }
}
