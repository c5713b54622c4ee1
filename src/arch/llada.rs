//! LLaDA (arXiv 2502.09992): a Llama-shaped transformer without a causal mask. The same file serves
//! LLaDA-8B, LLaDA-1.5 and iLLaDA, whose checkpoints differ in names and special ids only.
//!
//! Forward pass and tensor names follow llama.cpp's `src/models/llada.cpp`; biases that it loads and
//! leaves out (`attn_output.bias`, `ffn_*.bias`) and `rope_freqs.weight` are applied here.
#![forbid(unsafe_code)]

use super::keys::Keys;
use super::{Arch, Sizes};
use crate::error::Result;
use crate::ggml::{GraphBuilder, Node, Rope, Weight};
use crate::gguf::Gguf;
use crate::graph::{
    Added, CacheShape, GraphShape, Inputs, KvCache, PartShape, PredictorGraph, attention, finish, keep,
    keep_feature, linear, most_changed, norm, pick, renew_keys, seen, slots_of, swiglu_ffn, through_features,
};
use crate::weights::{Cut, Role, TensorRule, Weights};

const ARCH: &str = "llada";

/// Hyper-parameters.
struct Llada {
    sizes: Sizes,
    eps: f32,
    rope: Rope,
}

/// Reads and checks the hyper-parameters.
pub(super) fn open(gguf: &Gguf) -> Result<Box<dyn Arch>> {
    let keys = Keys::new(gguf, ARCH);
    let n_ctx = keys.count("context_length", 1..=1 << 20)?;
    let n_embd = keys.count("embedding_length", 1..=1 << 20)?;
    let n_layer = keys.count("block_count", 1..=1024)?;
    let n_ff = keys.count("feed_forward_length", 1..=1 << 20)?;
    let n_head = keys.count("attention.head_count", 1..=1 << 16)?;
    let n_head_kv = keys
        .optional_count("attention.head_count_kv", 1..=1 << 16)?
        .unwrap_or(n_head);
    // ggml.c:3354: key heads are repeated over query heads.
    if !n_head.is_multiple_of(n_head_kv) {
        crate::bail!(
            Model,
            "llada.attention.head_count is {n_head}, not a multiple of head_count_kv, {n_head_kv}"
        );
    }
    let n_rot = match keys.optional_count("attention.key_length", 1..=1 << 16)? {
        Some(n) => n,
        None if n_embd.is_multiple_of(n_head) => n_embd / n_head,
        None => crate::bail!(
            Model,
            "llada.attention.head_count is {n_head}; it must divide {n_embd}"
        ),
    };
    for name in ["attention.value_length", "rope.dimension_count"] {
        let n = keys.optional_count(name, 0..=1 << 16)?.unwrap_or(n_rot);
        if n != n_rot {
            crate::bail!(
                Model,
                "key llada.{name} is {n}; it must be the size of a head, {n_rot}"
            );
        }
    }
    if !n_rot.is_multiple_of(2) {
        crate::bail!(
            Model,
            "the size of a head is {n_rot}; rotary embedding needs an even one"
        );
    }
    if keys.flag("attention.causal")? {
        crate::bail!(
            Unsupported,
            "key llada.attention.causal is true; a mask predictor sees both ways"
        );
    }
    for name in ["expert_count", "expert_used_count"] {
        if keys.optional_count(name, 0..=u64::MAX)?.unwrap_or(0) > 0 {
            crate::bail!(Unsupported, "key llada.{name} is set; this family has no experts");
        }
    }
    let n_vocab = n_vocab(gguf)?;
    let sizes = Sizes {
        arch: ARCH,
        n_ctx,
        n_embd,
        n_layer,
        n_head,
        n_head_kv,
        n_rot,
        n_ff,
        n_vocab,
        shift_logits: gguf.metadata.bool("diffusion.shift_logits")?.unwrap_or(false),
    };
    let eps = keys.float("attention.layer_norm_rms_epsilon", None, |x| x > 0.0 && x < 1.0)?;
    Ok(Box::new(Llada {
        rope: keys.rope(n_rot, n_ctx)?,
        sizes,
        eps,
    }))
}

/// Rows of the embedding table: they, not `vocab_size`, bound the ids (ops.cpp:5363).
fn n_vocab(gguf: &Gguf) -> Result<usize> {
    let Some(info) = gguf.tensor("token_embd.weight") else {
        crate::bail!(Model, "tensor token_embd.weight is absent");
    };
    let n = info.dims().get(1).copied().unwrap_or(1);
    if !(2..=1 << 22).contains(&n) {
        crate::bail!(
            Model,
            "tensor token_embd.weight has {n} rows; there must be 2 to {}",
            1 << 22
        );
    }
    if let Some(stated) = gguf.metadata.u64("llada.vocab_size")?
        && stated != n
    {
        crate::bail!(
            Model,
            "key llada.vocab_size is {stated}, but token_embd.weight has {n} rows"
        );
    }
    usize::try_from(n).map_err(|_| crate::err!(Limit, "token_embd.weight has too many rows"))
}

impl Arch for Llada {
    fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    fn tensors(&self) -> Vec<TensorRule> {
        let s = &self.sizes;
        let [d, v, f] = [s.n_embd, s.n_vocab, s.n_ff].map(|n| n as u64);
        let q = (s.n_rot * s.n_head) as u64;
        let kv = (s.n_rot * s.n_head_kv) as u64;
        let rule = |name: &str, dims: &[u64], role, optional| TensorRule {
            name: name.to_owned(),
            dims: dims.to_vec(),
            role,
            optional,
            layer: None,
            part_of: None,
            cut: None,
        };
        let mut rules = vec![
            rule("token_embd.weight", &[d, v], Role::Matrix, false),
            rule("output_norm.weight", &[d], Role::Vector, false),
            rule("output.weight", &[d, v], Role::Matrix, true),
            rule("rope_freqs.weight", &[s.n_rot as u64 / 2], Role::Vector, true),
        ];
        for i in 0..s.n_layer {
            let mut add = |name: &str, dims: &[u64], role, optional, cut| {
                let mut rule = rule(&format!("blk.{i}.{name}"), dims, role, optional);
                rule.layer = Some(i);
                rule.cut = cut;
                // Some converters store the three projections as one tensor: q rows, k rows, v rows.
                let first = match name.split('.').next() {
                    Some("attn_q") => Some(0),
                    Some("attn_k") => Some(q),
                    Some("attn_v") => Some(q + kv),
                    _ => None,
                };
                let suffix = name.rsplit('.').next().unwrap_or_default();
                rule.part_of = first.map(|first| (format!("blk.{i}.attn_qkv.{suffix}"), first));
                rules.push(rule);
            };
            add("attn_norm.weight", &[d], Role::Vector, false, None);
            add("ffn_norm.weight", &[d], Role::Vector, false, None);
            for (name, n_in, n_out, cut) in [
                ("attn_q", d, q, Cut::HeadRows),
                ("attn_k", d, kv, Cut::HeadRows),
                ("attn_v", d, kv, Cut::HeadRows),
                ("attn_output", q, d, Cut::HeadColumns),
                ("ffn_gate", d, f, Cut::HiddenRows),
                ("ffn_up", d, f, Cut::HiddenRows),
                ("ffn_down", f, d, Cut::HiddenColumns),
            ] {
                let weight = format!("{name}.weight");
                add(&weight, &[n_in, n_out], Role::Matrix, false, Some(cut));
                // What is added to a sum over devices is added once.
                let by_rows = matches!(cut, Cut::HeadRows | Cut::HiddenRows);
                let cut = by_rows.then_some(cut);
                add(&format!("{name}.bias"), &[n_out], Role::Vector, true, cut);
            }
        }
        rules
    }

    fn build(
        &self,
        weights: &Weights,
        shape: &GraphShape,
        cache: Option<&KvCache>,
    ) -> Result<PredictorGraph> {
        // About 80 values a layer, weights and views counted, and 28 to observe it; 30 for each further part;
        // 70 of the head, where a token is drawn; the rest is room.
        let n_values = 128 + 32 * (shape.parts.len().max(1) - 1);
        let mut g = GraphBuilder::new(128 + n_values * self.sizes.n_layer)?;
        let inputs = Inputs::new(&mut g, shape)?;
        let table = weights.require("token_embd.weight")?;
        let table = g.weight(&table)?;
        let mut x = g.rows(table, inputs.tokens)?;
        let mut hidden = Vec::new();
        for i in 0..self.sizes.n_layer {
            if shape.hidden {
                hidden.push(x);
            }
            let layer = Layer {
                weights,
                shape,
                inputs: &inputs,
                cache,
                i,
            };
            x = match shape.parts[..] {
                [part] if matches!(part.cache, CacheShape::Partial { .. }) => {
                    self.partial_layer(&mut g, &layer, part, x)?
                }
                _ => self.layer(&mut g, &layer, x)?,
            };
        }
        if shape.has_features() {
            x = g.rows(x, inputs.rows)?;
        }
        let x = norm(&mut g, x, &weights.require("output_norm.weight")?, self.eps)?;
        if shape.hidden {
            hidden.push(x);
        }
        let head = match weights.get("output.weight") {
            Some(head) => g.weight(&head)?,
            None => table,
        };
        let logits = g.mul_mat(head, x)?;
        for node in hidden.iter().copied() {
            g.output(node)?;
        }
        let peaks = finish(&mut g, shape.head, x, logits)?;
        let mut graph = PredictorGraph {
            builder: g,
            inputs,
            logits,
            peaks,
            last: x,
            hidden,
            squares: Vec::new(),
        };
        if shape.squares {
            graph.observe()?;
        }
        Ok(graph)
    }
}

/// The weights of one linear layer.
struct Linear {
    weight: Weight,
    bias: Option<Weight>,
}

impl Linear {
    fn parts(&self) -> (&Weight, Option<&Weight>) {
        (&self.weight, self.bias.as_ref())
    }

    fn apply(&self, g: &mut GraphBuilder, x: Node) -> Result<Node> {
        linear(g, x, &self.weight, self.bias.as_ref())
    }
}

/// What a block is built from.
#[derive(Clone, Copy)]
struct Layer<'a> {
    weights: &'a Weights,
    shape: &'a GraphShape,
    inputs: &'a Inputs,
    cache: Option<&'a KvCache>,
    i: usize,
}

impl Layer<'_> {
    fn linear(&self, name: &str) -> Result<Linear> {
        let i = self.i;
        Ok(Linear {
            weight: self.weights.require(&format!("blk.{i}.{name}.weight"))?,
            bias: self.weights.get(&format!("blk.{i}.{name}.bias")),
        })
    }

    /// Keeps what the block adds to the states, where the shape asks for it.
    fn keep_feature(&self, g: &mut GraphBuilder, added: Added, x: Node) -> Result<()> {
        if !self.shape.has_features() {
            return Ok(());
        }
        let (cache, slots) = self.cache()?;
        let kept = keep_feature(g, cache, (self.i, added), x, slots)?;
        g.compute(kept)
    }

    /// The cache, and its rows for the slots that are computed.
    fn cache(&self) -> Result<(&KvCache, Node)> {
        match (self.cache, self.inputs.slots) {
            (Some(cache), Some(slots)) => Ok((cache, slots)),
            _ => crate::bail!(Internal, "a graph with a cache was built without one"),
        }
    }

    /// Attention of every part to its own canvas, one part after the other.
    /// - q: `[n_rot, n_head, rows]` after RoPE, of all slots or of the rows asked for (`last`)
    /// - k, v: `[n_rot, n_head_kv, n_tokens]`, k after RoPE
    /// - result: `[n_rot * n_head, rows]`
    fn attention(&self, g: &mut GraphBuilder, q: Node, (k, v): (Node, Node), last: bool) -> Result<Node> {
        let kept = match self.shape.is_cached() {
            true => {
                let (cache, slots) = self.cache()?;
                Some(keep(g, cache, self.i, (k, v), slots)?)
            }
            false => None,
        };
        let [n_rot, n_head_kv, ..] = g.dims(k)?;
        let (mut first_q, mut first_kv) = (0, 0);
        let mut all: Option<Node> = None;
        for part in &self.shape.parts {
            let n_q = if last { part.n_rows } else { part.n_tokens };
            let q = slots_of(g, q, first_q, n_q)?;
            let (k, v) = match (part.cache, kept) {
                (CacheShape::Window { first, n_kv, .. }, Some((keys, values))) => {
                    let dims = [n_rot, n_head_kv, n_kv];
                    (seen(g, keys, first, dims)?, seen(g, values, first, dims)?)
                }
                _ => {
                    let mine = |g: &mut GraphBuilder, x| slots_of(g, x, first_kv, part.n_tokens);
                    (mine(g, k)?, mine(g, v)?)
                }
            };
            let mixed = attention(g, q, k, v, part.attention)?;
            all = Some(match all {
                Some(before) => g.append(before, mixed)?,
                None => mixed,
            });
            (first_q, first_kv) = (first_q + n_q, first_kv + part.n_tokens);
        }
        all.ok_or_else(|| crate::err!(Internal, "a graph of no parts"))
    }
}

impl Llada {
    /// One transformer block. In the last one only the rows asked for go past the keys and values:
    /// nothing after it looks at the others.
    fn layer(&self, g: &mut GraphBuilder, layer: &Layer<'_>, x: Node) -> Result<Node> {
        let s = &self.sizes;
        let Layer {
            weights,
            shape,
            inputs,
            i,
            ..
        } = *layer;
        let get = |name: &str| layer.linear(name);
        // Features are kept of all.
        let last = i + 1 == s.n_layer && !shape.has_features();
        let n_tokens = shape.n_tokens();
        let (n_q, positions_q) = if last {
            (shape.n_rows(), inputs.row_positions)
        } else {
            (n_tokens, inputs.positions)
        };

        let h = norm(g, x, &get("attn_norm")?.weight, self.eps)?;
        let h_q = if last { g.rows(h, inputs.rows)? } else { h };
        let q = get("attn_q")?.apply(g, h_q)?;
        let k = get("attn_k")?.apply(g, h)?;
        let v = get("attn_v")?.apply(g, h)?;
        let q = g.reshape(q, [s.n_rot, s.n_head, n_q])?;
        let k = g.reshape(k, [s.n_rot, s.n_head_kv, n_tokens])?;
        let v = g.reshape(v, [s.n_rot, s.n_head_kv, n_tokens])?;
        let factors = match weights.get("rope_freqs.weight") {
            Some(factors) => Some(g.weight(&factors)?),
            None => None,
        };
        let q = g.rope(q, positions_q, factors, &self.rope)?;
        let k = g.rope(k, inputs.positions, factors, &self.rope)?;
        let mixed = layer.attention(g, q, (k, v), last)?;
        let mixed = get("attn_output")?.apply(g, mixed)?;
        layer.keep_feature(g, Added::Attention, mixed)?;

        let x = if last { g.rows(x, inputs.rows)? } else { x };
        let x = g.add(x, mixed)?;
        let h = norm(g, x, &get("ffn_norm")?.weight, self.eps)?;
        let (gate, up, down) = (get("ffn_gate")?, get("ffn_up")?, get("ffn_down")?);
        let h = swiglu_ffn(g, h, gate.parts(), up.parts(), down.parts())?;
        layer.keep_feature(g, Added::FeedForward, h)?;
        g.add(x, h)
    }

    /// One transformer block of which only the slots whose values changed most are computed; the others
    /// add what they added last. x is of the canvas' last slots.
    fn partial_layer(
        &self,
        g: &mut GraphBuilder,
        layer: &Layer<'_>,
        part: PartShape,
        x: Node,
    ) -> Result<Node> {
        let s = &self.sizes;
        let Layer {
            weights, inputs, i, ..
        } = *layer;
        let (cache, slots) = layer.cache()?;
        let CacheShape::Partial {
            first,
            n_kv,
            n_update,
        } = part.cache
        else {
            crate::bail!(Internal, "a partial layer without a partial cache");
        };
        let get = |name: &str| layer.linear(name);
        let h = norm(g, x, &get("attn_norm")?.weight, self.eps)?;
        let v = get("attn_v")?.apply(g, h)?;
        let changed = most_changed(g, cache, part.cache, i, v, slots)?;
        let positions = pick(g, inputs.positions, changed.ids)?;
        let h = g.rows(h, changed.ids)?;
        let q = get("attn_q")?.apply(g, h)?;
        let k = get("attn_k")?.apply(g, h)?;
        let q = g.reshape(q, [s.n_rot, s.n_head, n_update])?;
        let k = g.reshape(k, [s.n_rot, s.n_head_kv, n_update])?;
        let factors = match weights.get("rope_freqs.weight") {
            Some(factors) => Some(g.weight(&factors)?),
            None => None,
        };
        let q = g.rope(q, positions, factors, &self.rope)?;
        let k = g.rope(k, positions, factors, &self.rope)?;
        let k = renew_keys(g, cache, part.cache, i, k, changed.slots)?;
        let v = g.reshape(changed.values, [s.n_rot, s.n_head_kv, n_kv])?;
        let mixed = attention(g, q, k, v, part.attention)?;
        let mixed = get("attn_output")?.apply(g, mixed)?;
        let mine = (first + n_kv - part.n_tokens, part.n_tokens);
        let all = through_features(g, cache, (i, Added::Attention), mixed, changed.slots, mine)?;
        let x = g.add(x, all)?;

        let h = g.rows(x, changed.ids)?;
        let h = norm(g, h, &get("ffn_norm")?.weight, self.eps)?;
        let (gate, up, down) = (get("ffn_gate")?, get("ffn_up")?, get("ffn_down")?);
        let h = swiglu_ffn(g, h, gate.parts(), up.parts(), down.parts())?;
        let all = through_features(g, cache, (i, Added::FeedForward), h, changed.slots, mine)?;
        g.add(x, all)
    }
}
