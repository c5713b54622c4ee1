//! Norms, linear layers and feed-forward networks.
#![forbid(unsafe_code)]

use crate::error::Result;
use crate::ggml::{GraphBuilder, Node, Weight};

/// RMSNorm times its weight.
/// - x: `[n_embd, n_tokens]` f32
/// - weight: `[n_embd]` f32
pub fn norm(g: &mut GraphBuilder, x: Node, weight: &Weight, eps: f32) -> Result<Node> {
    let x = g.rms_norm(x, eps)?;
    let weight = g.weight(weight)?;
    g.mul(x, weight)
}

/// Linear layer with an optional bias.
/// - x: `[n_in, n_tokens]` f32
/// - weight: `[n_in, n_out]`; bias: `[n_out]` f32
/// - result: `[n_out, n_tokens]` f32
pub fn linear(g: &mut GraphBuilder, x: Node, weight: &Weight, bias: Option<&Weight>) -> Result<Node> {
    let weight = g.weight(weight)?;
    let y = g.mul_mat(weight, x)?;
    match bias {
        None => Ok(y),
        Some(bias) => {
            let bias = g.weight(bias)?;
            g.add(y, bias)
        }
    }
}

/// Gated feed-forward network: `down(silu(gate(x)) * up(x))`.
/// - x, result: `[n_embd, n_tokens]` f32
/// - each layer: its weight and optional bias
pub fn swiglu_ffn(
    g: &mut GraphBuilder,
    x: Node,
    gate: (&Weight, Option<&Weight>),
    up: (&Weight, Option<&Weight>),
    down: (&Weight, Option<&Weight>),
) -> Result<Node> {
    let a = linear(g, x, gate.0, gate.1)?;
    let b = linear(g, x, up.0, up.1)?;
    let h = g.swiglu(a, b)?;
    linear(g, h, down.0, down.1)
}
