//! Operations that reduce rows to a few numbers. Each proves what ggml would assert.

use ggml_sys as sys;
use std::os::raw::c_int;

use super::DType;
use super::graph::{GraphBuilder, Node};
use crate::error::Result;

impl GraphBuilder {
    /// The number of the largest element of each row; which among equals, the backend decides.
    /// - x: `[n, k]` f32, contiguous
    /// - result: `[k]` i32
    pub fn argmax(&mut self, x: Node) -> Result<Node> {
        // ggml.c:2549: a matrix, whose rows an i32 counts.
        self.require_matrix(x, 1)?;
        self.room()?;
        let value = self.get(x)?;
        // A row of NaN or minus infinity alone has a largest element too: CUDA's kernel would say -1, and what picks
        // by it read outside the row. NaN becomes an end of the range.
        // SAFETY: the value is live f32 and there is room.
        let raw = unsafe { sys::ggml_clamp(self.context.raw(), value.as_ptr(), -1e38, 1e38) };
        let finite = self.push(raw)?;
        self.unary(finite, sys::ggml_argmax)
    }

    /// The numbers of the `m` largest elements of each row, in no order.
    /// - x: `[n, k]` f32, contiguous, n of m or more
    /// - result: `[m, k]` i32
    pub fn top(&mut self, x: Node, m: usize) -> Result<Node> {
        // ggml.c:5472 asserts that a row has as many elements.
        self.require_matrix(x, m.max(1))?;
        let Ok(m) = c_int::try_from(m.max(1)) else {
            crate::bail!(Internal, "the {m} largest of a row are too many");
        };
        self.room()?;
        let x = self.get(x)?;
        // SAFETY: the value is live, a matrix with rows of as many elements or more, and there is room.
        let raw = unsafe { sys::ggml_top_k(self.context.raw(), x.as_ptr(), m) };
        self.push(raw)
    }

    /// Elements of each row by number.
    /// - x: `[n, k]` f32, contiguous
    /// - ids: m numbers for each row, `[m, k]` i32 in all, contiguous, each below n: they come from
    ///   [`argmax`](Self::argmax) or [`top`](Self::top)
    /// - result: `[m, k]` f32
    pub fn pick_columns(&mut self, x: Node, ids: Node, m: usize) -> Result<Node> {
        self.require_matrix(x, 1)?;
        let [n, k, ..] = self.dims(x)?;
        if self.dtype(ids)? != DType::I32 {
            crate::bail!(Internal, "column numbers must be i32");
        }
        // ggml.c:3967: as many lists of numbers as there are tables; here each row is a table of its own.
        let x = self.reshape(x, [1, n, k])?;
        let ids = self.reshape(ids, [m, k, 1])?;
        let picked = self.binary(x, ids, sys::ggml_get_rows)?;
        self.reshape(picked, [m, k, 1])
    }

    /// Sums of rows.
    /// - x: `[n, k]` f32, contiguous
    /// - result: `[1, k]` f32
    pub fn row_sums(&mut self, x: Node) -> Result<Node> {
        self.require_matrix(x, 1)?;
        self.unary(x, sys::ggml_sum_rows)
    }

    /// `sum p ln(p + 1e-10)` over rows of probabilities.
    /// - p: `[n, k]` f32, contiguous
    /// - result: `[1, k]` f32
    pub fn negative_entropy(&mut self, p: Node) -> Result<Node> {
        self.require_matrix(p, 1)?;
        let above_zero = self.affine(p, 1.0, 1e-10)?;
        let logarithm = self.unary(above_zero, sys::ggml_log)?;
        let product = self.mul(logarithm, p)?;
        self.row_sums(product)
    }

    /// A contiguous f32 matrix with rows of `least` elements or more, as many as an i32 counts.
    pub(super) fn require_matrix(&self, x: Node, least: usize) -> Result<()> {
        let d = self.dims(x)?;
        let counted = i32::try_from(d[0]).is_ok();
        if d[0] < least || !counted || d[2] * d[3] != 1 || self.dtype(x)? != DType::F32 {
            crate::bail!(Internal, "rows of {d:?} are to be reduced");
        }
        self.require_contiguous(x)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sched::{Executor, Input, Output};
    use super::*;

    const N: usize = 37;

    fn rows() -> Vec<f32> {
        (0..3 * N).map(|i| ((i * 29 % 101) as f32) * 0.05 - 2.0).collect()
    }

    /// What the operations give on the CPU, per row.
    struct Reduced {
        best: Vec<i32>,
        /// Two each.
        top: Vec<f32>,
        chosen: Vec<f32>,
        entropy: Vec<f32>,
        sums: Vec<f32>,
    }

    fn reduce(x: &[f32]) -> Reduced {
        let k = x.len() / N;
        let mut g = GraphBuilder::new(64).unwrap();
        let logits = g.input(DType::F32, [N, k, 1, 1]).unwrap();
        let best = g.argmax(logits).unwrap();
        let two = g.top(logits, 2).unwrap();
        let top = g.pick_columns(logits, two, 2).unwrap();
        let p = g.softmax(logits, 1.0).unwrap();
        let chosen = g.pick_columns(p, best, 1).unwrap();
        let entropy = g.negative_entropy(p).unwrap();
        let sums = g.row_sums(logits).unwrap();
        for node in [best, top, chosen, entropy, sums] {
            g.output(node).unwrap();
        }
        let mut executor = Executor::on_cpu(2).unwrap();
        let id = executor.add(g).unwrap();
        let mut out = Reduced {
            best: vec![0; k],
            top: vec![0.0; 2 * k],
            chosen: vec![0.0; k],
            entropy: vec![0.0; k],
            sums: vec![0.0; k],
        };
        let outputs = &mut [
            (best, Output::I32(&mut out.best)),
            (top, Output::F32(&mut out.top)),
            (chosen, Output::F32(&mut out.chosen)),
            (entropy, Output::F32(&mut out.entropy)),
            (sums, Output::F32(&mut out.sums)),
        ];
        executor
            .run(id, &[(logits, Input::F32(x))], outputs, None)
            .unwrap();
        out
    }

    #[test]
    fn reduced_rows_are_what_plain_loops_give() {
        let x = rows();
        let out = reduce(&x);
        for (r, row) in x.chunks_exact(N).enumerate() {
            let mut sorted = row.to_vec();
            sorted.sort_by(|a, b| b.total_cmp(a));
            assert_eq!(row[out.best[r] as usize], sorted[0]);
            let mut two = [out.top[2 * r], out.top[2 * r + 1]];
            two.sort_by(|a, b| b.total_cmp(a));
            assert_eq!(two, [sorted[0], sorted[1]]);
            let z: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            let p = |x: f32| f64::from(x).exp() / z;
            assert!((f64::from(out.chosen[r]) - p(sorted[0])).abs() < 1e-6);
            let h: f64 = row.iter().map(|&x| p(x) * p(x).ln()).sum();
            assert!((f64::from(out.entropy[r]) - h).abs() < 1e-5, "{h}");
            let sum: f32 = row.iter().sum();
            assert!((out.sums[r] - sum).abs() < 1e-4);
        }
    }

    #[test]
    fn a_number_that_is_none_shows_in_its_row_alone() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = rows();
            x[N + 5] = bad;
            let out = reduce(&x);
            assert!(out.chosen[0].is_finite() && out.chosen[2].is_finite());
            assert!(!out.chosen[1].is_finite() && !out.sums[1].is_finite(), "{bad}");
        }
        let mut x = rows();
        x[..N].fill(f32::NEG_INFINITY);
        let out = reduce(&x);
        assert!(!out.chosen[0].is_finite());
        assert!(out.best.iter().all(|&i| (0..N as i32).contains(&i)));
    }

    #[test]
    fn shapes_that_ggml_would_abort_on_are_errors() {
        let mut g = GraphBuilder::new(32).unwrap();
        let one = g.input(DType::F32, [1, 3, 1, 1]).unwrap();
        assert!(g.top(one, 2).is_err());
        let cube = g.input(DType::F32, [4, 3, 2, 1]).unwrap();
        assert!(g.argmax(cube).is_err() && g.row_sums(cube).is_err());
        let ids = g.input(DType::I32, [3, 1, 1, 1]).unwrap();
        assert!(g.argmax(ids).is_err());
        let x = g.input(DType::F32, [4, 2, 1, 1]).unwrap();
        assert!(g.pick_columns(x, ids, 1).is_err());
        assert!(g.pick_columns(x, x, 4).is_err());
    }
}
