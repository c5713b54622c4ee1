//! The end of a graph: logits, or what a step needs of them.
#![forbid(unsafe_code)]

use crate::error::Result;
use crate::ggml::{DType, GraphBuilder, Node};

/// What comes out behind the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HeadShape {
    /// The logits.
    #[default]
    Logits,
    /// Of each row the best token, with what is known of it.
    Peaks {
        /// Whether the two best logits are wanted.
        top: bool,
        /// Whether the entropy is wanted.
        entropy: bool,
        /// Whether something is added to all logits first: minus infinity for what is excluded.
        biased: bool,
    },
}

/// Of each row of logits the best token, with what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Peaks {
    /// `[n_vocab]` f32, an input that is added to every row.
    pub bias: Option<Node>,
    /// `[n_rows]` i32: columns of the largest logits.
    pub tokens: Node,
    /// `[1, n_rows]` f32: their softmax probabilities.
    pub probabilities: Node,
    /// `[2, n_rows]` f32: the two largest logits, in no order.
    pub top: Option<Node>,
    /// `[1, n_rows]` f32: `sum p ln(p + 1e-10)`.
    pub negative_entropies: Option<Node>,
    /// `[1, n_rows]` f32: sums over the states that went into the head. One that is not finite shows
    /// here also where the head's rounding loses it.
    pub state_sums: Node,
}

/// Marks what `head` wants as outputs.
/// - x: `[n_embd, n_rows]` f32, what goes into the head
/// - logits: `[n_vocab, n_rows]` f32
pub fn finish(g: &mut GraphBuilder, head: HeadShape, x: Node, logits: Node) -> Result<Option<Peaks>> {
    let HeadShape::Peaks { top, entropy, biased } = head else {
        g.output(x)?;
        g.output(logits)?;
        return Ok(None);
    };
    let n_vocab = g.dims(logits)?[0];
    let bias = match biased {
        true => Some(g.input(DType::F32, [n_vocab, 1, 1, 1])?),
        false => None,
    };
    let logits = match bias {
        Some(bias) => g.add(logits, bias)?,
        None => logits,
    };
    let tokens = g.argmax(logits)?;
    let top = match top {
        true => {
            let two = g.top_two(logits)?;
            Some(g.pick_columns(logits, two, 2)?)
        }
        false => None,
    };
    let p = g.softmax(logits, 1.0)?;
    let peaks = Peaks {
        bias,
        tokens,
        probabilities: g.pick_columns(p, tokens, 1)?,
        top,
        negative_entropies: match entropy {
            true => Some(g.negative_entropy(p)?),
            false => None,
        },
        state_sums: g.row_sums(x)?,
    };
    let wanted = [
        Some(tokens),
        top,
        Some(peaks.probabilities),
        peaks.negative_entropies,
    ];
    for node in wanted.into_iter().chain([Some(peaks.state_sums)]).flatten() {
        g.output(node)?;
    }
    Ok(Some(peaks))
}
