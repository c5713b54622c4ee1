//! Operations on graph values. Each proves what ggml would assert.

use ggml_sys as sys;
use std::os::raw::c_int;

use super::DType;
use super::graph::{GraphBuilder, Node};
use crate::error::Result;

/// Rotary position embedding, as ggml parameterises it (YaRN, arXiv 2309.00071, included).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Leading dimensions of a head that rotate; even, at most the head's size.
    pub n_dims: usize,
    /// Whether dimension i pairs with i + n_dims/2 (NEOX) and not with its neighbour.
    pub half_split: bool,
    /// Base of the angles' geometric series, above 0.
    pub freq_base: f32,
    /// Positions are multiplied by this: 1 / scaling factor.
    pub freq_scale: f32,
    /// Context length the model was trained with before YaRN; 0 without.
    pub n_ctx_orig: usize,
    /// YaRN's extrapolation mix: 0 = off, 1 = full.
    pub ext_factor: f32,
    /// Magnitude factor: 1 = none.
    pub attn_factor: f32,
    /// YaRN's correction range, fast end.
    pub beta_fast: f32,
    /// YaRN's correction range, slow end.
    pub beta_slow: f32,
}

/// Macros of ggml.h that the bindings leave out.
const ROPE_TYPE_NORMAL: c_int = 0;
const ROPE_TYPE_NEOX: c_int = 2;

fn int(n: usize) -> Result<i64> {
    i64::try_from(n).map_err(|_| crate::err!(Internal, "a graph dimension of {n} is too large"))
}

macro_rules! require {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            crate::bail!(Internal, $($message)*);
        }
    };
}

impl GraphBuilder {
    /// Rows of `table` by number.
    /// - table: `[n, n_rows]`, any matrix type
    /// - ids: `[k]` i32, each below n_rows: the caller checks the values (ops.cpp:5363)
    /// - result: `[n, k]` f32
    pub fn rows(&mut self, table: Node, ids: Node) -> Result<Node> {
        let (t, i) = (self.dims(table)?, self.dims(ids)?);
        require!(self.dtype(ids)? == DType::I32, "row numbers must be i32");
        require!(
            t[2] == 1 && t[3] == 1 && i[1] * i[2] * i[3] == 1,
            "rows of {t:?} by {i:?}"
        );
        self.binary(table, ids, sys::ggml_get_rows)
    }

    /// Matrix product `b` times the transpose of `a`: the way a linear layer applies its weight.
    /// - a: `[n, m, h, ..]`
    /// - b: `[n, k, g*h, ..]` f32; the outer dimensions of a are repeated over those of b
    /// - result: `[m, k, g*h, ..]` f32
    pub fn mul_mat(&mut self, a: Node, b: Node) -> Result<Node> {
        self.product(a, b, true)
    }

    /// `own`: by kernels of our own, where they are faster.
    pub(super) fn product(&mut self, a: Node, b: Node, own: bool) -> Result<Node> {
        let (p, q) = (self.dims(a)?, self.dims(b)?);
        // ggml.c:3354 (can_mul_mat), and that `a` is not transposed.
        require!(
            p[0] == q[0] && q[2].is_multiple_of(p[2]) && q[3].is_multiple_of(p[3]),
            "matrix product of {p:?} and {q:?}"
        );
        require!(
            self.dtype(b)? == DType::F32,
            "the right side of a matrix product must be f32"
        );
        require!(
            self.header(a)?.nb[0] <= self.header(a)?.nb[1],
            "the left side must not be transposed"
        );
        self.note_product(a, b);
        if own && let Some(node) = self.own_product(a, b)? {
            return Ok(node);
        }
        self.binary(a, b, sys::ggml_mul_mat)
    }

    /// As [`mul_mat`](Self::mul_mat), accumulating in f32 on every backend.
    pub fn mul_mat_f32(&mut self, a: Node, b: Node) -> Result<Node> {
        let node = self.product(a, b, false)?;
        // SAFETY: the node is a live MUL_MAT, which the function asserts.
        unsafe { sys::ggml_mul_mat_set_prec(self.get(node)?.as_ptr(), sys::GGML_PREC_F32) };
        Ok(node)
    }

    /// Sum, `b` repeated over `a`; both f32.
    pub fn add(&mut self, a: Node, b: Node) -> Result<Node> {
        self.require_repeat(a, b)?;
        self.binary(a, b, sys::ggml_add)
    }

    /// Product by element, `b` repeated over `a`; both f32.
    pub fn mul(&mut self, a: Node, b: Node) -> Result<Node> {
        self.require_repeat(a, b)?;
        self.binary(a, b, sys::ggml_mul)
    }

    /// `x / sqrt(mean(x^2) + eps)` over the first dimension; x f32 with contiguous rows.
    pub fn rms_norm(&mut self, x: Node, eps: f32) -> Result<Node> {
        // ops.cpp:4132 asserts eps >= 0; NaN compares false there.
        require!(eps.is_finite() && eps > 0.0, "rms norm with epsilon {eps}");
        require!(self.dtype(x)? == DType::F32, "rms norm of a type other than f32");
        self.room()?;
        let x = self.get(x)?;
        // SAFETY: the value is live, f32, and there is room.
        let raw = unsafe { sys::ggml_rms_norm(self.context.raw(), x.as_ptr(), eps) };
        self.push(raw)
    }

    /// SiLU(gate) * up; both f32 of one shape.
    pub fn swiglu(&mut self, gate: Node, up: Node) -> Result<Node> {
        let (g, u) = (self.dims(gate)?, self.dims(up)?);
        require!(g == u, "swiglu of {g:?} and {u:?}");
        require!(
            self.dtype(gate)? == DType::F32 && self.dtype(up)? == DType::F32,
            "swiglu of other than f32"
        );
        self.binary(gate, up, sys::ggml_swiglu_split)
    }

    /// Rotary embedding.
    /// - x: `[n_head_dim, n_head, n_tokens]` f32
    /// - positions: `[n_tokens]` i32
    /// - factors: `[n_dims / 2]` f32, or none
    pub fn rope(&mut self, x: Node, positions: Node, factors: Option<Node>, rope: &Rope) -> Result<Node> {
        let (d, p) = (self.dims(x)?, self.dims(positions)?);
        require!(
            self.dtype(x)? == DType::F32 && self.dtype(positions)? == DType::I32,
            "rope of other types"
        );
        require!(
            p[0] == d[2] && p[1] * p[2] * p[3] == 1 && d[3] == 1,
            "rope of {d:?} at {p:?}"
        );
        // ops.cpp:6355 asserts an even count; above the head's size it reads past the row.
        require!(
            rope.n_dims.is_multiple_of(2) && (2..=d[0]).contains(&rope.n_dims),
            "rope of {} dims",
            rope.n_dims
        );
        require!(
            rope.freq_base.is_finite() && rope.freq_base > 0.0,
            "rope base {}",
            rope.freq_base
        );
        require!(
            rope.freq_scale.is_finite() && rope.freq_scale > 0.0,
            "rope scale {}",
            rope.freq_scale
        );
        let factors = match factors {
            None => std::ptr::null_mut(),
            Some(node) => {
                require!(
                    self.dtype(node)? == DType::F32,
                    "rope factors of a type other than f32"
                );
                require!(self.dims(node)?[0] >= rope.n_dims / 2, "too few rope factors");
                self.get(node)?.as_ptr()
            }
        };
        let mode = if rope.half_split {
            ROPE_TYPE_NEOX
        } else {
            ROPE_TYPE_NORMAL
        };
        self.room()?;
        let (x, positions) = (self.get(x)?, self.get(positions)?);
        // SAFETY: all values are live, of the types and shapes that ggml.c asserts, and there is room.
        let raw = unsafe {
            sys::ggml_rope_ext(
                self.context.raw(),
                x.as_ptr(),
                positions.as_ptr(),
                factors,
                c_int::try_from(rope.n_dims).unwrap_or(c_int::MAX),
                mode,
                c_int::try_from(rope.n_ctx_orig).unwrap_or(c_int::MAX),
                rope.freq_base,
                rope.freq_scale,
                rope.ext_factor,
                rope.attn_factor,
                rope.beta_fast,
                rope.beta_slow,
            )
        };
        self.push(raw)
    }

    /// Softmax of `scale * x` over the first dimension; x f32, contiguous.
    pub fn softmax(&mut self, x: Node, scale: f32) -> Result<Node> {
        require!(
            self.dtype(x)? == DType::F32 && scale.is_finite(),
            "softmax of other than f32"
        );
        self.require_contiguous(x)?;
        self.room()?;
        let x = self.get(x)?;
        // SAFETY: the value is live, contiguous f32, there is no mask, and there is room.
        let raw = unsafe {
            sys::ggml_soft_max_ext(self.context.raw(), x.as_ptr(), std::ptr::null_mut(), scale, 0.0)
        };
        self.push(raw)
    }

    /// Softmax attention in one pass, nothing masked.
    /// - q: `[n, n_q, n_head]` f32; k, v: `[n, n_kv, n_head_kv]` f16 or f32
    /// - result: `[n, n_head, n_q]` f32
    pub fn flash_attention(&mut self, q: Node, k: Node, v: Node, scale: f32) -> Result<Node> {
        let (a, b, c) = (self.dims(q)?, self.dims(k)?, self.dims(v)?);
        require!(
            a[0] == b[0] && b == c && a[2].is_multiple_of(b[2]) && a[3] == 1 && b[3] == 1,
            "attention of {a:?} over {b:?} and {c:?}"
        );
        require!(self.dtype(q)? == DType::F32, "attention queries must be f32");
        self.room()?;
        let (q, k, v) = (self.get(q)?, self.get(k)?, self.get(v)?);
        // SAFETY: all values are live, with the shapes that ggml.c:5515 asserts, and there is room.
        let raw = unsafe {
            sys::ggml_flash_attn_ext(
                self.context.raw(),
                q.as_ptr(),
                k.as_ptr(),
                v.as_ptr(),
                std::ptr::null_mut(),
                scale,
                0.0,
                0.0,
            )
        };
        let node = self.push(raw)?;
        // SAFETY: the node is a live FLASH_ATTN_EXT, which the function asserts.
        unsafe { sys::ggml_flash_attn_ext_set_prec(raw, sys::GGML_PREC_F32) };
        Ok(node)
    }

    /// The same elements under other dimensions; x contiguous.
    pub fn reshape(&mut self, x: Node, dims: [usize; 3]) -> Result<Node> {
        let d = self.dims(x)?;
        let n = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        require!(n == Some(d.iter().product()), "reshape of {d:?} to {dims:?}");
        self.require_contiguous(x)?;
        self.room()?;
        let (x, [a, b, c]) = (self.get(x)?, dims);
        let (a, b, c) = (int(a)?, int(b)?, int(c)?);
        // SAFETY: the value is live, contiguous, of as many elements, and there is room.
        let raw = unsafe { sys::ggml_reshape_3d(self.context.raw(), x.as_ptr(), a, b, c) };
        self.push(raw)
    }

    /// The rows of `a`, then those of `b`.
    /// - a: `[n, k]`, b: `[n, m]`, both f32
    /// - result: `[n, k + m]` f32
    pub fn append(&mut self, a: Node, b: Node) -> Result<Node> {
        let (p, q) = (self.dims(a)?, self.dims(b)?);
        // ggml.c:2637, 2645: the types are equal, and all dimensions but one.
        require!(
            p[0] == q[0] && p[2..] == [1, 1] && q[2..] == [1, 1],
            "{q:?} behind {p:?}"
        );
        require!(
            self.dtype(a)? == DType::F32 && self.dtype(b)? == DType::F32,
            "what is appended must be f32"
        );
        self.room()?;
        let (a, b) = (self.get(a)?, self.get(b)?);
        // SAFETY: the values are live matrices of f32 with rows of one length, and there is room.
        let raw = unsafe { sys::ggml_concat(self.context.raw(), a.as_ptr(), b.as_ptr(), 1) };
        self.push(raw)
    }

    /// Dimensions in another order, as a view: dimension i of `x` becomes dimension `axes[i]`.
    pub fn permute(&mut self, x: Node, axes: [u8; 4]) -> Result<Node> {
        let mut sorted = axes;
        sorted.sort_unstable();
        require!(sorted == [0, 1, 2, 3], "permute by {axes:?}");
        self.room()?;
        let (x, [a, b, c, d]) = (self.get(x)?, axes.map(c_int::from));
        // SAFETY: the value is live, the axes are a permutation, and there is room.
        let raw = unsafe { sys::ggml_permute(self.context.raw(), x.as_ptr(), a, b, c, d) };
        self.push(raw)
    }

    /// A contiguous copy.
    pub fn contiguous(&mut self, x: Node) -> Result<Node> {
        self.room()?;
        let x = self.get(x)?;
        // SAFETY: the value is live and there is room.
        let raw = unsafe { sys::ggml_cont(self.context.raw(), x.as_ptr()) };
        self.push(raw)
    }

    /// A copy in another float type.
    pub fn cast(&mut self, x: Node, dtype: DType) -> Result<Node> {
        require!(matches!(dtype, DType::F32 | DType::F16), "cast to {dtype:?}");
        self.room()?;
        let x = self.get(x)?;
        // SAFETY: the value is live, float types convert to each other, and there is room.
        let raw = unsafe { sys::ggml_cast(self.context.raw(), x.as_ptr(), dtype.raw()) };
        self.push(raw)
    }

    /// Sums of squares of each column.
    /// - x: `[n, k]` f32
    /// - result: `[1, n]` f32
    pub fn column_square_sums(&mut self, x: Node) -> Result<Node> {
        let d = self.dims(x)?;
        require!(
            d[2] == 1 && d[3] == 1 && self.dtype(x)? == DType::F32,
            "column sums of {d:?}"
        );
        let x = self.contiguous(x)?;
        let x = self.unary(x, sys::ggml_sqr)?;
        let x = self.permute(x, [1, 0, 2, 3])?;
        let x = self.contiguous(x)?;
        self.unary(x, sys::ggml_sum_rows)
    }

    pub(super) fn unary(
        &mut self,
        x: Node,
        op: unsafe extern "C" fn(*mut sys::ggml_context, *mut sys::ggml_tensor) -> *mut sys::ggml_tensor,
    ) -> Result<Node> {
        self.room()?;
        let x = self.get(x)?;
        // SAFETY: the value is live, there is room, and the caller has checked type and shape.
        let raw = unsafe { op(self.context.raw(), x.as_ptr()) };
        self.push(raw)
    }

    pub(super) fn binary(
        &mut self,
        a: Node,
        b: Node,
        op: unsafe extern "C" fn(
            *mut sys::ggml_context,
            *mut sys::ggml_tensor,
            *mut sys::ggml_tensor,
        ) -> *mut sys::ggml_tensor,
    ) -> Result<Node> {
        self.room()?;
        let (a, b) = (self.get(a)?, self.get(b)?);
        // SAFETY: both values are live, there is room, and the caller has checked types and shapes.
        let raw = unsafe { op(self.context.raw(), a.as_ptr(), b.as_ptr()) };
        self.push(raw)
    }

    /// ggml.c asserts that b can be repeated over a; binary-ops.cpp:135 wants both f32.
    pub(super) fn require_repeat(&self, a: Node, b: Node) -> Result<()> {
        let (p, q) = (self.dims(a)?, self.dims(b)?);
        let fits = p.iter().zip(q).all(|(&p, q)| q > 0 && p.is_multiple_of(q));
        require!(fits, "{q:?} does not repeat over {p:?}");
        require!(
            self.dtype(a)? == DType::F32 && self.dtype(b)? == DType::F32,
            "sum or product of other than f32"
        );
        Ok(())
    }

    pub(super) fn require_contiguous(&self, x: Node) -> Result<()> {
        let header = self.header(x)?;
        // SAFETY: the header is live.
        let contiguous = unsafe { sys::ggml_is_contiguous(header) };
        require!(contiguous, "a graph value is not contiguous");
        Ok(())
    }
}
