//! Rows of logits that are reduced in the graph: a few bytes a slot come back.
#![forbid(unsafe_code)]

use super::{NetworkPredictor, Part, Reduced, n_read, require_finite};
use crate::denoise::{BLOCK, Cut, Kept, Reduction, RowPeak, largest};
use crate::error::Result;
use crate::ggml::{GraphId, Output};
use crate::graph::{DrawShape, HeadShape, Leading};

/// Logits that come back of each row for top-p. Where they do not hold enough of the probability, the row's
/// other logits follow.
const NUCLEUS: usize = 256;

/// What comes back of each row, reused.
#[derive(Default)]
pub(super) struct Scratch {
    tokens: Vec<i32>,
    probabilities: Vec<f32>,
    top: Vec<f32>,
    negative_entropies: Vec<f32>,
    state_sums: Vec<f32>,
    blocks: Vec<i32>,
    columns: Vec<i32>,
    differences: Vec<f32>,
    /// The largest logits, their columns, and the sums of all weights.
    leading: Vec<f32>,
    leading_columns: Vec<i32>,
    totals: Vec<f32>,
    kept: Kept,
    /// All logits of a row.
    row: Vec<f32>,
}

/// How a graph ends that gives what `reduction` asks for.
/// - n_vocab: columns of the logits
pub(super) fn head(reduction: &Reduction, n_vocab: usize) -> HeadShape {
    let draw = match reduction.cut() {
        _ if reduction.temperature == 0.0 => None,
        None => Some(DrawShape::Blocks { n: BLOCK }),
        Some(Cut { top_k: 0, .. }) => Some(DrawShape::Leading {
            n: NUCLEUS.min(n_vocab),
            total: Some(BLOCK),
        }),
        // A few more, so that graphs serve more than one number.
        Some(cut) => Some(DrawShape::Leading {
            n: cut.top_k.next_power_of_two().min(n_vocab),
            total: None,
        }),
    };
    HeadShape::Peaks {
        top: reduction.gap,
        entropy: reduction.entropy,
        biased: !reduction.excluded.is_empty(),
        draw,
    }
}

impl NetworkPredictor {
    /// Whether rows are reduced where they are computed. The CPU needs no copy of the logits; there the
    /// denoiser looks at them itself.
    pub(in crate::session) fn reduces(&self, reduction: &Reduction) -> bool {
        let reduces = self.reduces.unwrap_or(self.model.placement().head.is_some());
        let draws_here = reduction.temperature > 0.0 && reduction.cut().is_none();
        reduces && (!draws_here || self.can_draw())
    }

    /// What is left of the parts' rows, appended to `peaks`.
    pub(super) fn peaks_of(
        &mut self,
        parts: &[Part<'_>],
        &Reduced { reduction, uniform }: &Reduced<'_>,
        peaks: &mut Vec<RowPeak>,
    ) -> Result<()> {
        // Those of the rows before are used.
        let uniform = uniform.get(peaks.len()..).unwrap_or(&[]);
        let built = self.prepare_peaks(parts, &Reduced { reduction, uniform })?;
        let Some(nodes) = self.graphs[built].peaks else {
            crate::bail!(Internal, "a graph was built without its peaks");
        };
        let id = self.graphs[built].id;
        let mut s = std::mem::take(&mut self.scratch.peaks);
        s.resize(n_read(parts));
        // What was not asked for is read from a value that is there, into nothing.
        let mut outputs = [
            (nodes.tokens, Output::I32(&mut s.tokens)),
            (nodes.probabilities, Output::F32(&mut s.probabilities)),
            (nodes.state_sums, Output::F32(&mut s.state_sums)),
            (nodes.tokens, Output::I32(&mut [])),
            (nodes.tokens, Output::I32(&mut [])),
            (nodes.tokens, Output::I32(&mut [])),
            (nodes.tokens, Output::I32(&mut [])),
            (nodes.tokens, Output::I32(&mut [])),
        ];
        if let Some(node) = nodes.top {
            outputs[3] = (node, Output::F32(&mut s.top));
        }
        if let Some(node) = nodes.negative_entropies {
            outputs[4] = (node, Output::F32(&mut s.negative_entropies));
        }
        if let Some(drawn) = nodes.drawn {
            outputs[5] = (drawn.blocks, Output::I32(&mut s.blocks));
            outputs[6] = (drawn.columns, Output::I32(&mut s.columns));
            outputs[7] = (drawn.differences, Output::F32(&mut s.differences));
        }
        if let Some(leading) = nodes.leading {
            let n_rows = n_read(parts);
            s.leading.resize(leading.n * n_rows, 0.0);
            s.leading_columns.resize(leading.n * n_rows, 0);
            outputs[5] = (leading.columns, Output::I32(&mut s.leading_columns));
            outputs[6] = (leading.logits, Output::F32(&mut s.leading));
            if let Some(totals) = leading.totals {
                outputs[7] = (totals, Output::F32(&mut s.totals));
            }
        }
        let mut done = self.run(built, id, &mut outputs);
        if done.is_ok() {
            let begin = peaks.len();
            peaks.extend(wanted(parts).map(|i| match nodes.drawn {
                Some(_) => s.drawn_row(i),
                None => s.row(i),
            }));
            if let (Some(leading), Some(cut)) = (nodes.leading, reduction.cut()) {
                let draws = uniform.iter().zip(&mut peaks[begin..]);
                done = self.draw_leading((id, leading), parts, &cut, draws, &mut s);
            }
        }
        let finite = s.state_sums.iter().all(|x| x.is_finite());
        self.scratch.peaks = s;
        done?;
        require_finite(finite)
    }

    /// As [`prepare_parts`](Self::prepare_parts), for rows that are reduced.
    pub(super) fn prepare_peaks(
        &mut self,
        parts: &[Part<'_>],
        &Reduced { reduction, uniform }: &Reduced<'_>,
    ) -> Result<usize> {
        let n_vocab = self.model.sizes().n_vocab;
        let built = self.prepare_parts(parts, head(reduction, n_vocab))?;
        self.set_bias(reduction)?;
        if reduction.temperature > 0.0 {
            self.set_uniform(parts, uniform, reduction.scale())?;
        }
        Ok(built)
    }

    /// Draws the tokens of the parts' rows from their largest logits; from all, which then come from the
    /// graph's memory, where the largest are not enough.
    fn draw_leading<'a>(
        &mut self,
        (graph, leading): (GraphId, Leading),
        parts: &[Part<'_>],
        cut: &Cut,
        draws: impl Iterator<Item = (&'a [f64; 2], &'a mut RowPeak)>,
        s: &mut Scratch,
    ) -> Result<()> {
        let n_vocab = self.model.sizes().n_vocab;
        for (i, (&[u, _], peak)) in wanted(parts).zip(draws) {
            // A row that is no row of numbers is told by its probability.
            if !peak.probability.is_finite() {
                continue;
            }
            let own = i * leading.n..(i + 1) * leading.n;
            let logits = &s.leading[own.clone()];
            let highest = largest(logits);
            let columns = s.leading_columns[own].iter();
            let tokens = columns.map(|&c| u32::try_from(c).unwrap_or(0));
            let pairs = tokens.zip(logits.iter().copied());
            if !s.kept.cut_leading(pairs, highest, s.totals[i].into(), cut) {
                if s.row.len() != n_vocab {
                    s.row = crate::error::try_vec(n_vocab, 0.0, "the logits of a row")?;
                }
                self.executor.read(graph, leading.all, i * n_vocab, &mut s.row)?;
                s.kept.cut_row(&s.row, highest, cut)?;
            }
            if let Some((token, logit)) = s.kept.draw(highest, u, cut) {
                peak.token = token;
                peak.probability = peak.largest * (logit - highest).exp();
            }
        }
        Ok(())
    }

    /// The numbers that the parts' rows are drawn by, the next of `uniform`; rows that only fill the graph's
    /// shape have any.
    fn set_uniform(&mut self, parts: &[Part<'_>], mut uniform: &[[f64; 2]], scale: f32) -> Result<()> {
        // The largest f32 below 1: a larger number would round to 1.
        const BELOW_ONE: f32 = 1.0 - f32::EPSILON / 2.0;
        self.scratch.scale = scale;
        let lists = &mut self.scratch.uniform;
        lists.iter_mut().for_each(Vec::clear);
        for part in parts {
            let n = part.rows.len();
            let Some((of_part, rest)) = uniform.split_at_checked(n) else {
                crate::bail!(InvalidArgument, "there are no random numbers for {n} rows");
            };
            uniform = rest;
            for (i, list) in lists.iter_mut().enumerate() {
                let filled = list.len() + part.shape.n_rows;
                list.extend(of_part.iter().map(|u| (u[i] as f32).min(BELOW_ONE)));
                list.resize(filled, 0.5);
            }
        }
        Ok(())
    }

    /// What is added to each row: minus infinity for what is excluded, else nothing.
    fn set_bias(&mut self, reduction: &Reduction) -> Result<()> {
        let bias = &mut self.scratch.bias;
        bias.clear();
        if reduction.excluded.is_empty() {
            return Ok(());
        }
        let n_vocab = self.model.sizes().n_vocab;
        bias.try_reserve(n_vocab)
            .map_err(|_| crate::err!(Resource, "no memory for {n_vocab} numbers"))?;
        bias.resize(n_vocab, 0.0);
        for &token in &reduction.excluded {
            if let Some(x) = bias.get_mut(token as usize) {
                *x = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }
}

/// Where the parts' rows stand among those of their graph; between them stand those that only fill its shape.
fn wanted(parts: &[Part<'_>]) -> impl Iterator<Item = usize> {
    let mut first = 0;
    parts.iter().flat_map(move |part| {
        let begin = first;
        first += part.shape.n_rows;
        begin..begin + part.rows.len()
    })
}

impl Scratch {
    fn resize(&mut self, n: usize) {
        self.tokens.resize(n, 0);
        self.top.resize(2 * n, 0.0);
        for list in [
            &mut self.probabilities,
            &mut self.negative_entropies,
            &mut self.state_sums,
            &mut self.differences,
            &mut self.totals,
        ] {
            list.resize(n, 0.0);
        }
        self.blocks.resize(n, 0);
        self.columns.resize(n, 0);
    }

    fn row(&self, i: usize) -> RowPeak {
        RowPeak {
            token: u32::try_from(self.tokens[i]).unwrap_or(0),
            probability: self.probabilities[i],
            largest: self.probabilities[i],
            gap: (self.top[2 * i] - self.top[2 * i + 1]).abs(),
            negative_entropy: self.negative_entropies[i],
        }
    }

    /// As [`row`](Self::row), with the token that was drawn in place of the likeliest.
    fn drawn_row(&self, i: usize) -> RowPeak {
        let [block, column] = [self.blocks[i], self.columns[i]].map(|x| u32::try_from(x).unwrap_or(0));
        let peak = self.row(i);
        RowPeak {
            token: block.saturating_mul(BLOCK as u32).saturating_add(column),
            probability: peak.largest * self.differences[i].exp(),
            ..peak
        }
    }
}
