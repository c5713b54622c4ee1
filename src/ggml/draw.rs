//! Operations that draw a column of each row. Each proves what ggml would assert.

use ggml_sys as sys;
use std::os::raw::c_int;

use super::DType;
use super::graph::{GraphBuilder, Node};
use crate::error::Result;

/// Integers up to here are f32s.
const MAX_COLUMNS: usize = 1 << 22;

impl GraphBuilder {
    /// Difference, `b` repeated over `a`; both f32.
    pub fn sub(&mut self, a: Node, b: Node) -> Result<Node> {
        self.require_repeat(a, b)?;
        self.binary(a, b, sys::ggml_sub)
    }

    /// `e^x` by element; x f32, contiguous.
    pub fn exp(&mut self, x: Node) -> Result<Node> {
        self.require_matrix(x, 1)?;
        self.unary(x, sys::ggml_exp)
    }

    /// The same columns, and zeros behind them up to a multiple of `m`.
    /// - x: `[n, k]` f32, contiguous
    /// - result: `[n rounded up, k]` f32
    pub fn pad_columns(&mut self, x: Node, m: usize) -> Result<Node> {
        self.require_matrix(x, 1)?;
        let n = self.dims(x)?[0];
        let more = n.next_multiple_of(m.max(1)) - n;
        if more == 0 {
            return Ok(x);
        }
        let Ok(more) = c_int::try_from(more) else {
            crate::bail!(Internal, "{more} columns are too many");
        };
        self.room()?;
        let x = self.get(x)?;
        // SAFETY: the value is live f32, the count is above 0, and there is room.
        let raw = unsafe { sys::ggml_pad(self.context.raw(), x.as_ptr(), more, 0, 0, 0) };
        self.push(raw)
    }

    /// Sums of blocks of `m` columns.
    /// - x: `[n, k]` f32, contiguous, n a multiple of m
    /// - result: `[n / m, k]` f32
    pub fn block_sums(&mut self, x: Node, m: usize) -> Result<Node> {
        let [n, k] = self.blocks_of(x, m)?;
        let blocks = self.reshape(x, [m, n / m * k, 1])?;
        let sums = self.row_sums(blocks)?;
        self.reshape(sums, [n / m, k, 1])
    }

    /// A block of `m` columns of each row by number.
    /// - x: `[n, k]` f32, contiguous, n a multiple of m
    /// - ids: `[k]` i32, contiguous, each below n / m: they come from [`draw_column`](Self::draw_column)
    /// - result: `[m, k]` f32
    pub fn pick_block(&mut self, x: Node, ids: Node, m: usize) -> Result<Node> {
        let [n, k] = self.blocks_of(x, m)?;
        if self.dtype(ids)? != DType::I32 {
            crate::bail!(Internal, "block numbers must be i32");
        }
        // ggml.c:3967: as many lists of numbers as there are tables; here each row is a table of its own.
        let blocks = self.reshape(x, [m, n / m, k])?;
        let ids = self.reshape(ids, [1, k, 1])?;
        let picked = self.binary(blocks, ids, sys::ggml_get_rows)?;
        self.reshape(picked, [m, k, 1])
    }

    /// Draws a column of each row by the inverse of the cumulative distribution: the first up to which the
    /// sum is above `uniform` times that of all.
    ///
    /// Backends add in orders of their own, so that a running sum need not rise with every column. What is
    /// drawn has a weight above 0 all the same, where the row has one: columns are scored, those above the
    /// number the higher the further they are to the left, the others below them and the higher the further
    /// to the right, those without a weight 0; the largest score is one column's alone.
    /// - weights: `[n, k]` f32, contiguous, 0 or more
    /// - uniform: `[1, k]` f32, from 0 to below 1
    /// - result: `[k]` i32, each below n
    pub fn draw_column(&mut self, weights: Node, uniform: Node) -> Result<Node> {
        self.require_matrix(weights, 1)?;
        let [n, k, ..] = self.dims(weights)?;
        if n > MAX_COLUMNS || self.dims(uniform)? != [1, k, 1, 1] {
            crate::bail!(Internal, "a column of {n} is to be drawn in {k} rows");
        }
        // ggml.c:2520: f32.
        let sums = self.unary(weights, sys::ggml_cumsum)?;
        let total = self.row_sums(weights)?;
        let target = self.mul(total, uniform)?;
        let above = self.sub(sums, target)?;
        let above = self.unary(above, sys::ggml_step)?;
        // 1 .. n where the sum is not above the number, else 2n .. n + 1.
        let number = self.count_up(n)?;
        let turn = self.affine(number, -2.0, (2 * n + 1) as f32)?;
        let turned = self.mul(above, turn)?;
        let score = self.add(turned, number)?;
        let some = self.unary(weights, sys::ggml_step)?;
        let score = self.mul(score, some)?;
        self.argmax(score)
    }

    /// `[n]` f32: 1, 2, ... n.
    fn count_up(&mut self, n: usize) -> Result<Node> {
        self.room()?;
        // ggml.c:5489: the stop is above the start. n is small enough for its f32 to count.
        // SAFETY: the context is live, 1 < n + 1, and there is room.
        let raw = unsafe { sys::ggml_arange(self.context.raw(), 1.0, n as f32 + 1.0, 1.0) };
        self.push(raw)
    }

    /// `a x + b` by element; x f32, contiguous.
    pub(super) fn affine(&mut self, x: Node, a: f32, b: f32) -> Result<Node> {
        self.require_matrix(x, 1)?;
        self.room()?;
        let x = self.get(x)?;
        // SAFETY: the value is live f32 and there is room.
        let raw = unsafe { sys::ggml_scale_bias(self.context.raw(), x.as_ptr(), a, b) };
        self.push(raw)
    }

    /// Columns and rows of `x`, whose columns are blocks of `m`.
    fn blocks_of(&self, x: Node, m: usize) -> Result<[usize; 2]> {
        self.require_matrix(x, 1)?;
        let [n, k, ..] = self.dims(x)?;
        if m == 0 || !n.is_multiple_of(m) {
            crate::bail!(Internal, "{n} columns are no blocks of {m}");
        }
        Ok([n, k])
    }
}

#[cfg(test)]
mod tests {
    use super::super::sched::{Executor, Input, Output};
    use super::*;

    /// What is drawn of rows of `n` weights by `uniform`.
    fn draw(weights: &[f32], n: usize, uniform: &[f32]) -> Vec<i32> {
        let k = uniform.len();
        let mut g = GraphBuilder::new(64).unwrap();
        let w = g.input(DType::F32, [n, k, 1, 1]).unwrap();
        let u = g.input(DType::F32, [1, k, 1, 1]).unwrap();
        let drawn = g.draw_column(w, u).unwrap();
        g.output(drawn).unwrap();
        let mut executor = Executor::on_cpu(1).unwrap();
        let id = executor.add(g).unwrap();
        let mut out = vec![0; k];
        let inputs = [(w, Input::F32(weights)), (u, Input::F32(uniform))];
        let outputs = &mut [(drawn, Output::I32(&mut out))];
        executor.run(id, &inputs, outputs, None).unwrap();
        out
    }

    #[test]
    fn a_number_falls_into_the_share_of_its_weight() {
        let weights = [0.0, 1.0, 0.0, 2.0, 1.0, 0.0];
        let uniform = [0.0, 0.249, 0.25, 0.749, 0.75, 0.999_999_94];
        let drawn = draw(&weights.repeat(uniform.len()), 6, &uniform);
        assert_eq!(drawn, [1, 1, 3, 3, 4, 4]);
        // Nothing is above the number: the last that has a weight.
        assert_eq!(draw(&weights, 6, &[1.0]), [4]);
        assert_eq!(draw(&[0.5], 1, &[0.5]), [0]);
        // Running sums that are no numbers, or no weights: a column that is there.
        for row in [[f32::NAN; 3], [f32::INFINITY; 3], [0.0; 3]] {
            assert!((0..3).contains(&draw(&row, 3, &[0.5])[0]));
        }
    }

    #[test]
    fn columns_without_a_weight_are_never_drawn() {
        let n = 700;
        let row: Vec<f32> = (0..n).map(|i| f32::from(u8::from(i % 3 == 1)) * 0.1).collect();
        let uniform: Vec<f32> = (0..997).map(|i| i as f32 / 997.0).collect();
        let drawn = draw(&row.repeat(uniform.len()), n, &uniform);
        assert!(drawn.is_sorted() && drawn.iter().all(|i| i % 3 == 1));
        let distinct: std::collections::HashSet<_> = drawn.iter().collect();
        assert_eq!(distinct.len(), row.iter().filter(|&&w| w > 0.0).count());
    }

    /// The law of a draw, by bisection: of the numbers that 24 bits make, the share that gives each column.
    fn law(weights: &[f32]) -> Vec<f64> {
        const BITS: u32 = 24;
        let n = weights.len();
        let rows = weights.repeat(n);
        // For each column the least number that gives one behind it.
        let mut ends = vec![0u32; n];
        for bit in (0..BITS).rev() {
            let tried: Vec<u32> = ends.iter().map(|end| end | 1 << bit).collect();
            let uniform: Vec<f32> = tried
                .iter()
                .map(|&t| (t - 1) as f32 / (1u32 << BITS) as f32)
                .collect();
            let drawn = draw(&rows, n, &uniform);
            for (i, end) in ends.iter_mut().enumerate() {
                if drawn[i] as usize <= i {
                    *end = tried[i];
                }
            }
        }
        // The bisection ends one short of all.
        ends[n - 1] = 1 << BITS;
        let begins = std::iter::once(0).chain(ends.iter().copied());
        let shares = ends.iter().zip(begins).map(|(end, begin)| f64::from(end - begin));
        shares.map(|share| share / f64::from(1u32 << BITS)).collect()
    }

    #[test]
    fn the_law_in_f32_is_near_that_of_the_weights() {
        for (n, slope) in [(247, 0.0), (512, 0.0), (512, 0.1)] {
            let noise = |i: usize| (i * 7919 % 1009) as f32 / 1009.0;
            let weight = |i: usize| ((i * 31 % n) as f32 * -slope - noise(i)).exp();
            let weights: Vec<f32> = (0..n).map(weight).collect();
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            let found = law(&weights);
            let off = found
                .iter()
                .zip(&weights)
                .map(|(p, &w)| (p - f64::from(w) / total).abs());
            let distance = off.sum::<f64>() / 2.0;
            println!("{n} weights, slope {slope}: total variation {distance:.1e}");
            assert!(distance < 1e-5, "{n} {slope}: {distance}");
        }
    }

    #[test]
    fn blocks_are_summed_and_picked() {
        let (n, k, m) = (10, 2, 4);
        let x: Vec<f32> = (0..n * k).map(|i| i as f32).collect();
        let mut g = GraphBuilder::new(64).unwrap();
        let node = g.input(DType::F32, [n, k, 1, 1]).unwrap();
        let ids = g.input(DType::I32, [k, 1, 1, 1]).unwrap();
        let padded = g.pad_columns(node, m).unwrap();
        assert_eq!(g.pad_columns(padded, m).unwrap(), padded);
        let sums = g.block_sums(padded, m).unwrap();
        let picked = g.pick_block(padded, ids, m).unwrap();
        g.output(sums).unwrap();
        g.output(picked).unwrap();
        let mut executor = Executor::on_cpu(1).unwrap();
        let id = executor.add(g).unwrap();
        let (mut s, mut p) = ([0.0; 6], [0.0; 8]);
        let inputs = [(node, Input::F32(&x)), (ids, Input::I32(&[2, 1]))];
        let outputs = &mut [(sums, Output::F32(&mut s)), (picked, Output::F32(&mut p))];
        executor.run(id, &inputs, outputs, None).unwrap();
        assert_eq!(s, [6.0, 22.0, 17.0, 46.0, 62.0, 37.0]);
        assert_eq!(p, [8.0, 9.0, 0.0, 0.0, 14.0, 15.0, 16.0, 17.0]);
    }

    #[test]
    fn shapes_that_ggml_would_abort_on_are_errors() {
        let mut g = GraphBuilder::new(32).unwrap();
        let x = g.input(DType::F32, [10, 3, 1, 1]).unwrap();
        let one = g.input(DType::F32, [1, 2, 1, 1]).unwrap();
        let ids = g.input(DType::I32, [2, 1, 1, 1]).unwrap();
        assert!(g.draw_column(x, one).is_err() && g.draw_column(ids, one).is_err());
        assert!(g.block_sums(x, 4).is_err() && g.block_sums(x, 0).is_err());
        assert!(g.pick_block(x, ids, 5).is_err() && g.pick_block(x, one, 5).is_err());
        assert!(g.sub(x, one).is_err() && g.exp(ids).is_err() && g.pad_columns(ids, 4).is_err());
        let wide = g.input(DType::F32, [MAX_COLUMNS + 1, 1, 1, 1]).unwrap();
        let u = g.input(DType::F32, [1, 1, 1, 1]).unwrap();
        assert!(g.draw_column(wide, u).is_err());
    }
}
