//! Bidirectional attention: every slot sees every slot, nothing is masked.
#![forbid(unsafe_code)]

use crate::error::Result;
use crate::ggml::{DType, GraphBuilder, Node};

/// How attention is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttentionKind {
    /// With its score matrix, everything in f32: the reference's arithmetic.
    Exact,
    /// In one pass without the score matrix, everything in f32. CPUs take it.
    Flash,
    /// In one pass, keys and values rounded to f16, as GPUs want them.
    FlashF16,
}

/// The slots `first .. first + n` of all heads, as a view.
/// - x: `[n_rot, n_head, n_slots]`, contiguous
pub fn slots_of(g: &mut GraphBuilder, x: Node, first: usize, n: usize) -> Result<Node> {
    let [n_rot, n_head, n_slots, _] = g.dims(x)?;
    if (first, n) == (0, n_slots) {
        return Ok(x);
    }
    let rows = g.reshape(x, [n_rot * n_head, n_slots, 1])?;
    let part = g.row_range(rows, first, n)?;
    g.reshape(part, [n_rot, n_head, n])
}

/// `softmax(q k^T / sqrt(n_rot)) v` for all heads.
/// - q: `[n_rot, n_head, n_q]` f32, after RoPE
/// - k: `[n_rot, n_head_kv, n_kv]` f32 or f16, after RoPE; v: the same shape and type
/// - result: `[n_rot * n_head, n_q]` f32
pub fn attention(g: &mut GraphBuilder, q: Node, k: Node, v: Node, kind: AttentionKind) -> Result<Node> {
    let [n_rot, n_head, n_q, _] = g.dims(q)?;
    let scale = 1.0 / (n_rot as f32).sqrt();
    if kind != AttentionKind::FlashF16
        && let Some(merged) = g.own_attention(q, k, v, scale)?
    {
        return Ok(merged);
    }
    let q = g.permute(q, [0, 2, 1, 3])?;
    let k = g.permute(k, [0, 2, 1, 3])?;
    let merged = if kind != AttentionKind::Exact {
        let mut k = k;
        let mut v = g.permute(v, [0, 2, 1, 3])?;
        if kind == AttentionKind::FlashF16 && g.dtype(k)? != DType::F16 {
            k = g.cast(k, DType::F16)?;
            v = g.cast(v, DType::F16)?;
        }
        g.flash_attention(q, k, v, scale)?
    } else {
        // Scores `[n_kv, n_q, n_head]`, in f32 as the reference has them.
        let scores = g.mul_mat_f32(k, q)?;
        let weights = g.softmax(scores, scale)?;
        // v as `[n_kv, n_rot, n_head_kv]`, so that the product runs along n_kv.
        let v = g.permute(v, [1, 2, 0, 3])?;
        let v = g.contiguous(v)?;
        let mixed = g.mul_mat(v, weights)?;
        let heads_first = g.permute(mixed, [0, 2, 1, 3])?;
        g.contiguous(heads_first)?
    };
    g.reshape(merged, [n_rot * n_head, n_q, 1])
}
