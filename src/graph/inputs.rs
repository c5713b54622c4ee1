//! What goes into a mask predictor's graph and what comes out of it.
#![forbid(unsafe_code)]

use super::{AttentionKind, CacheShape, HeadShape, Peaks};
use crate::error::Result;
use crate::ggml::{DType, GraphBuilder, Node};

/// What a graph computes of one canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartShape {
    /// Slots that are computed: the canvas, or a window of it.
    pub n_tokens: usize,
    /// Slots whose logits are wanted.
    pub n_rows: usize,
    /// How attention is computed.
    pub attention: AttentionKind,
    /// What is kept, and what comes from earlier passes.
    pub cache: CacheShape,
}

/// The shape a graph is built for. Graphs of one shape are built once and reused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GraphShape {
    /// What is computed together: slots of the parts follow one another in every value, and each part's
    /// attention sees its own canvas only.
    pub parts: Vec<PartShape>,
    /// What comes out behind the head.
    pub head: HeadShape,
    /// Whether the hidden states at each layer's input are wanted too.
    pub hidden: bool,
    /// Whether the sums of squares of what goes into each matrix are wanted too.
    pub squares: bool,
}

impl GraphShape {
    /// Slots that are computed.
    pub fn n_tokens(&self) -> usize {
        self.parts.iter().map(|p| p.n_tokens).sum()
    }

    /// Slots whose logits are wanted.
    pub fn n_rows(&self) -> usize {
        self.parts.iter().map(|p| p.n_rows).sum()
    }

    /// Whether keys and values of the slots are kept.
    pub fn is_cached(&self) -> bool {
        self.parts.iter().any(|p| p.cache != CacheShape::Off)
    }

    /// Whether what attention and feed-forward network add is kept.
    pub fn has_features(&self) -> bool {
        self.parts.iter().any(|p| p.cache.has_features())
    }
}

/// The inputs that every mask predictor has.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// `[n_tokens]` i32: the tokens that are computed.
    pub tokens: Node,
    /// `[n_tokens]` i32: positions in the part's canvas.
    pub positions: Node,
    /// `[n_rows]` i32: the slots whose logits are wanted, as numbers among those that are computed.
    pub rows: Node,
    /// `[n_rows]` i32: the positions of those slots.
    pub row_positions: Node,
    /// `[n_tokens]` i32, with a cache: its rows for the slots that are computed.
    pub slots: Option<Node>,
}

impl Inputs {
    /// Declares them on `g`.
    ///
    /// # Errors
    /// `Internal`, when a size is 0.
    pub fn new(g: &mut GraphBuilder, shape: &GraphShape) -> Result<Self> {
        let tokens = [shape.n_tokens(), 1, 1, 1];
        let rows = [shape.n_rows(), 1, 1, 1];
        Ok(Self {
            tokens: g.input(DType::I32, tokens)?,
            positions: g.input(DType::I32, tokens)?,
            rows: g.input(DType::I32, rows)?,
            row_positions: g.input(DType::I32, rows)?,
            slots: match shape.is_cached() {
                false => None,
                true => Some(g.input(DType::I32, tokens)?),
            },
        })
    }
}

/// A mask predictor as a graph of one shape.
pub struct PredictorGraph {
    /// The description, to be handed to an executor.
    pub builder: GraphBuilder,
    /// What to set before a run.
    pub inputs: Inputs,
    /// `[n_vocab, n_rows]` f32; an output where the shape asks for logits.
    pub logits: Node,
    /// Where the shape asks for them instead.
    pub peaks: Option<Peaks>,
    /// `[n_embd, n_rows]` f32: what goes into the head, after the final norm.
    pub last: Node,
    /// Where the shape asks for them: `[n_embd, n_tokens]` f32 at the input of each layer, then
    /// `[n_embd, n_rows]` after the final norm.
    pub hidden: Vec<Node>,
    /// Where the shape asks for them: `[1, n]` f32, the sums of squares of a value's columns, with the
    /// numbers of the weights that it is multiplied with.
    pub squares: Vec<SquareSums>,
}

/// Sums of squares of what goes into some weights.
#[derive(Clone, Debug)]
pub struct SquareSums {
    /// The weights, by number.
    pub weights: Vec<usize>,
    /// The sums.
    pub sums: Node,
    /// Columns of the value.
    pub n_columns: usize,
    /// Rows that are added up.
    pub n_rows: usize,
}

impl PredictorGraph {
    /// Adds the sums of squares of what goes into each weight. Called when all else is there.
    ///
    /// # Errors
    /// `Internal`, when the graph is full.
    pub fn observe(&mut self) -> Result<()> {
        let mut inputs: Vec<(Node, Vec<usize>)> = Vec::new();
        for &(weight, input) in self.builder.products() {
            match inputs.iter_mut().find(|(node, _)| *node == input) {
                Some((_, weights)) => weights.push(weight),
                None => inputs.push((input, vec![weight])),
            }
        }
        for (input, weights) in inputs {
            let [n_columns, n_rows, ..] = self.builder.dims(input)?;
            let sums = self.builder.column_square_sums(input)?;
            self.builder.output(sums)?;
            self.squares.push(SquareSums {
                weights,
                sums,
                n_columns,
                n_rows,
            });
        }
        Ok(())
    }
}
