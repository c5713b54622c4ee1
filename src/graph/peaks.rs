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
        /// How a token is drawn, if one is.
        draw: Option<DrawShape>,
    },
}

/// What a token is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DrawShape {
    /// All columns, here: a block of columns first, then one of the block's.
    Blocks {
        /// Columns of a block.
        n: usize,
    },
    /// The columns with the largest logits, by whoever gets these.
    Leading {
        /// How many.
        n: usize,
        /// Whether the sum of all weights is wanted, by blocks of how many columns.
        total: Option<usize>,
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
    /// `[1]` f32, an input: 1 / temperature, where weights are computed.
    pub scale: Option<Node>,
    /// The token that is drawn, if one is.
    pub drawn: Option<DrawnColumn>,
    /// What another draws a token from, if one does.
    pub leading: Option<Leading>,
    /// `[1, n_rows]` f32: sums over the states that went into the head. One that is not finite shows
    /// here also where the head's rounding loses it.
    pub state_sums: Node,
}

/// A column of each row, drawn from softmax(logits * scale).
#[derive(Clone, Copy, Debug)]
pub struct DrawnColumn {
    /// `[1, n_rows]` f32 each, inputs from 0 to below 1: they choose the block, and the column in it.
    pub uniform: [Node; 2],
    /// `[n_rows]` i32: the block.
    pub blocks: Node,
    /// `[n_rows]` i32: the column in the block.
    pub columns: Node,
    /// `[1, n_rows]` f32: its logit less the largest of the row.
    pub differences: Node,
}

/// The largest logits of each row.
#[derive(Clone, Copy, Debug)]
pub struct Leading {
    /// How many.
    pub n: usize,
    /// `[n, n_rows]` i32: their columns, in no order.
    pub columns: Node,
    /// `[n, n_rows]` f32: the logits.
    pub logits: Node,
    /// `[1, n_rows]` f32: of the whole row the sum of exp((logit - largest) * scale).
    pub totals: Option<Node>,
    /// `[n_vocab, n_rows]` f32: all logits, to be read where the largest are not enough.
    pub all: Node,
}

/// Marks what `head` wants as outputs.
/// - x: `[n_embd, n_rows]` f32, what goes into the head
/// - logits: `[n_vocab, n_rows]` f32
pub fn finish(g: &mut GraphBuilder, head: HeadShape, x: Node, logits: Node) -> Result<Option<Peaks>> {
    let HeadShape::Peaks {
        top,
        entropy,
        biased,
        draw,
    } = head
    else {
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
            let two = g.top(logits, 2)?;
            Some(g.pick_columns(logits, two, 2)?)
        }
        false => None,
    };
    let p = g.softmax(logits, 1.0)?;
    let mut peaks = Peaks {
        bias,
        tokens,
        probabilities: g.pick_columns(p, tokens, 1)?,
        top,
        negative_entropies: match entropy {
            true => Some(g.negative_entropy(p)?),
            false => None,
        },
        scale: None,
        drawn: None,
        leading: None,
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
    // After the others, so that the softmax's memory is free again.
    match draw {
        Some(DrawShape::Blocks { n }) => {
            let scale = g.input(DType::F32, [1, 1, 1, 1])?;
            peaks.scale = Some(scale);
            peaks.drawn = Some(draw_blocks(g, logits, tokens, scale, n)?);
        }
        Some(DrawShape::Leading { n, total }) => {
            if total.is_some() {
                peaks.scale = Some(g.input(DType::F32, [1, 1, 1, 1])?);
            }
            peaks.leading = Some(lead(g, logits, tokens, n, peaks.scale.zip(total))?);
        }
        None => {}
    }
    Ok(Some(peaks))
}

/// What a row's logits are below its largest, and the weights exp(that * scale).
fn weights(g: &mut GraphBuilder, logits: Node, tokens: Node, scale: Node) -> Result<[Node; 2]> {
    let largest = g.pick_columns(logits, tokens, 1)?;
    // The difference first: with a low temperature a product of the logits would lose its digits.
    let below = g.sub(logits, largest)?;
    let weights = g.mul(below, scale)?;
    Ok([below, g.exp(weights)?])
}

/// The `n` largest logits of each row.
/// - logits: `[n_vocab, n_rows]` f32
/// - tokens: `[n_rows]` i32, columns of the largest
/// - total: 1 / temperature, and the columns of a block, where weights are summed
fn lead(
    g: &mut GraphBuilder,
    logits: Node,
    tokens: Node,
    n: usize,
    total: Option<(Node, usize)>,
) -> Result<Leading> {
    let columns = g.top(logits, n)?;
    let picked = g.pick_columns(logits, columns, n)?;
    let totals = match total {
        Some((scale, block)) => {
            let [_, weights] = weights(g, logits, tokens, scale)?;
            let weights = g.pad_columns(weights, block)?;
            let sums = g.block_sums(weights, block)?;
            Some(g.row_sums(sums)?)
        }
        None => None,
    };
    for node in [Some(columns), Some(picked), totals, Some(logits)]
        .into_iter()
        .flatten()
    {
        g.output(node)?;
    }
    Ok(Leading {
        n,
        columns,
        logits: picked,
        totals,
        all: logits,
    })
}

/// Draws a column of each row: a block of columns by the sums of all, then one of the block. Probabilities
/// in f32 are so compared with sums of hundreds of terms and not of a hundred thousand.
/// - logits: `[n_vocab, n_rows]` f32
/// - tokens: `[n_rows]` i32, columns of the largest
fn draw_blocks(
    g: &mut GraphBuilder,
    logits: Node,
    tokens: Node,
    scale: Node,
    block: usize,
) -> Result<DrawnColumn> {
    let n_rows = g.dims(logits)?[1];
    let mut input = || g.input(DType::F32, [1, n_rows, 1, 1]);
    let uniform = [input()?, input()?];
    let [below, weights] = weights(g, logits, tokens, scale)?;
    // Behind the last column there are weights of 0.
    let weights = g.pad_columns(weights, block)?;
    let below = g.pad_columns(below, block)?;
    let sums = g.block_sums(weights, block)?;
    let blocks = g.draw_column(sums, uniform[0])?;
    let weights = g.pick_block(weights, blocks, block)?;
    let below = g.pick_block(below, blocks, block)?;
    let columns = g.draw_column(weights, uniform[1])?;
    let differences = g.pick_columns(below, columns, 1)?;
    for node in [blocks, columns, differences] {
        g.output(node)?;
    }
    Ok(DrawnColumn {
        uniform,
        blocks,
        columns,
        differences,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ggml::{Executor, Input, Output};

    const BLOCK: usize = 512;

    /// Uniform numbers that are f32s.
    struct Uniform(u64);

    impl Uniform {
        fn next(&mut self) -> f32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 40) as f32 / (1u32 << 24) as f32
        }
    }

    /// The first up to which the sum is above `u` times that of all, in f64.
    fn invert(weights: &[f64], u: f32) -> usize {
        let target = f64::from(u) * weights.iter().sum::<f64>();
        let mut sum = 0.0;
        let above = |&w: &f64| {
            sum += w;
            sum > target
        };
        weights.iter().position(above).unwrap()
    }

    /// What is drawn of `row`, once for every pair of numbers, and how far its logit is below the largest.
    fn drawn(row: &[f32], temperature: f64, uniform: &[[f32; 2]]) -> Vec<(usize, f32)> {
        let (n, k) = (row.len(), uniform.len());
        let mut g = GraphBuilder::new(128).unwrap();
        let logits = g.input(DType::F32, [n, k, 1, 1]).unwrap();
        let tokens = g.argmax(logits).unwrap();
        let scale = g.input(DType::F32, [1, 1, 1, 1]).unwrap();
        let d = draw_blocks(&mut g, logits, tokens, scale, BLOCK).unwrap();
        let mut executor = Executor::on_cpu(1).unwrap();
        let id = executor.add(g).unwrap();
        let rows = row.repeat(k);
        let [first, second] = [0, 1].map(|i| uniform.iter().map(|u| u[i]).collect::<Vec<_>>());
        let inputs = [
            (logits, Input::F32(&rows)),
            (scale, Input::F32(&[(1.0 / temperature) as f32])),
            (d.uniform[0], Input::F32(&first)),
            (d.uniform[1], Input::F32(&second)),
        ];
        let (mut blocks, mut columns) = (vec![0; k], vec![0; k]);
        let mut below = vec![0.0; k];
        let outputs = &mut [
            (d.blocks, Output::I32(&mut blocks)),
            (d.columns, Output::I32(&mut columns)),
            (d.differences, Output::F32(&mut below)),
        ];
        executor.run(id, &inputs, outputs, None).unwrap();
        let token = |i: usize| blocks[i] as usize * BLOCK + columns[i] as usize;
        (0..k).map(|i| (token(i), below[i])).collect()
    }

    #[test]
    fn drawn_columns_are_those_of_plain_loops() {
        let mut numbers = Uniform(1);
        let (mut n_draws, mut n_other) = (0, 0);
        for (n, spread) in [
            (1, 1.0),
            (300, 4.0),
            (512, 4.0),
            (1300, 8.0),
            (126_464, 0.5),
            (126_464, 20.0),
        ] {
            for temperature in [0.2, 1.0, 3.0] {
                let mut row: Vec<f32> = (0..n).map(|_| numbers.next() * spread).collect();
                row[n / 2] = spread;
                if n > 1 {
                    row[n - 1] = f32::NEG_INFINITY;
                }
                let uniform: Vec<[f32; 2]> = (0..32).map(|_| [numbers.next(), numbers.next()]).collect();
                let weight = |&x: &f32| (f64::from(x - spread) / temperature).exp();
                let weights: Vec<f64> = row.iter().map(weight).collect();
                let sums: Vec<f64> = weights.chunks(BLOCK).map(|b| b.iter().sum()).collect();
                for ((token, below), u) in drawn(&row, temperature, &uniform).into_iter().zip(&uniform) {
                    let begin = BLOCK * invert(&sums, u[0]);
                    let expected = begin + invert(&weights[begin..(begin + BLOCK).min(n)], u[1]);
                    assert_eq!(below, row[token] - spread);
                    assert!(below > f32::NEG_INFINITY);
                    n_draws += 1;
                    n_other += usize::from(token != expected);
                }
            }
        }
        println!("{n_other} of {n_draws} draws differ from f64");
        assert_eq!(n_other, 0);
    }

    #[test]
    fn the_largest_logits_come_with_the_sum_of_all_weights() {
        const N: usize = 1300;
        let mut numbers = Uniform(5);
        let rows: Vec<f32> = (0..3 * N).map(|_| numbers.next() * 9.0).collect();
        let mut g = GraphBuilder::new(64).unwrap();
        let logits = g.input(DType::F32, [N, 3, 1, 1]).unwrap();
        let scale = g.input(DType::F32, [1, 1, 1, 1]).unwrap();
        let tokens = g.argmax(logits).unwrap();
        let l = lead(&mut g, logits, tokens, 16, Some((scale, BLOCK))).unwrap();
        let mut executor = Executor::on_cpu(1).unwrap();
        let id = executor.add(g).unwrap();
        let inputs = [(logits, Input::F32(&rows)), (scale, Input::F32(&[2.0]))];
        let (mut columns, mut picked, mut totals) = (vec![0; 48], vec![0.0; 48], vec![0.0; 3]);
        let outputs = &mut [
            (l.columns, Output::I32(&mut columns)),
            (l.logits, Output::F32(&mut picked)),
            (l.totals.unwrap(), Output::F32(&mut totals)),
        ];
        executor.run(id, &inputs, outputs, None).unwrap();
        for (i, row) in rows.chunks_exact(N).enumerate() {
            let mut sorted = row.to_vec();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let own = 16 * i..16 * (i + 1);
            let at = columns[own.clone()].iter().map(|&c| row[c as usize]);
            assert!(at.eq(picked[own.clone()].iter().copied()));
            picked[own.clone()].sort_by(|a, b| b.total_cmp(a));
            assert_eq!(picked[own], sorted[..16]);
            let weight = |&x: &f32| (f64::from(x - sorted[0]) * 2.0).exp();
            let total: f64 = row.iter().map(weight).sum();
            assert!((f64::from(totals[i]) / total - 1.0).abs() < 1e-6);
            // What was not copied can still be read, a row at a time.
            let mut whole = vec![0.0; N];
            executor.read(id, l.all, i * N, &mut whole).unwrap();
            assert_eq!(whole, row);
        }
    }
}
