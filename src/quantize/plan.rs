//! What each tensor of a file is going to be.
#![forbid(unsafe_code)]

use std::sync::Arc;

use regex::Regex;

use super::imatrix::Imatrix;
use super::mix::{self, Kind, Mix, Situation};
use crate::error::Result;
use crate::ggml::DType;
use crate::gguf::{Metadata, TensorSpec, TensorType};

/// Which types tensors get.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The mix; its type is the default of all matrices.
    pub mix: Mix,
    /// Types by name, before the mix is asked. The first that fits counts.
    pub overrides: Vec<TypeOverride>,
    /// Leave the mix's rules out: its base type for all.
    pub pure: bool,
    /// How much each column of a matrix matters.
    pub importance: Option<Arc<Imatrix>>,
}

/// A type for all matrices whose name fits a pattern.
#[derive(Clone, Debug)]
pub struct TypeOverride {
    pattern: Regex,
    ty: TensorType,
}

impl TypeOverride {
    /// `pattern` is a regular expression (syntax of the `regex` crate) looked for anywhere in the name.
    ///
    /// # Errors
    /// `InvalidArgument`, when the expression is none, or nothing can be packed as `ty`.
    pub fn new(pattern: &str, ty: TensorType) -> Result<Self> {
        packable(ty)?;
        let compiled = regex::RegexBuilder::new(pattern).size_limit(1 << 20).build();
        match compiled {
            Ok(pattern) => Ok(Self { pattern, ty }),
            Err(e) => crate::bail!(InvalidArgument, "`{pattern}` is no regular expression: {e}"),
        }
    }

    /// From `PATTERN=TYPE`, such as `ffn_down=q6_k`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn parse(text: &str) -> Result<Self> {
        let Some((pattern, name)) = text.rsplit_once('=') else {
            crate::bail!(InvalidArgument, "`{text}` is not of the form PATTERN=TYPE");
        };
        match TensorType::from_name(name.trim()) {
            Some(ty) => Self::new(pattern.trim(), ty),
            None => crate::bail!(InvalidArgument, "`{name}` is no tensor type; q4_k is one"),
        }
    }
}

/// Why a tensor gets its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The mix says so.
    Mix,
    /// An override says so.
    Override,
    /// It is a norm or bias, and stays as it is.
    Vector,
    /// It was to be of another type, whose blocks do not divide its rows.
    Fallback(TensorType),
}

/// What one tensor is going to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Name, dimensions and type in the output.
    pub spec: TensorSpec,
    /// Type in the input.
    pub from: TensorType,
    /// Why.
    pub reason: Reason,
}

/// What a file is going to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// All tensors in order.
    pub tensors: Vec<PlannedTensor>,
}

impl Plan {
    /// Bytes of tensor data before.
    pub fn bytes_before(&self) -> u64 {
        let size = |t: &PlannedTensor| t.from.tensor_bytes(&t.spec.dims).unwrap_or(0);
        self.tensors.iter().map(size).sum()
    }

    /// Bytes of tensor data after.
    pub fn bytes_after(&self) -> u64 {
        self.tensors.iter().map(|t| t.spec.n_bytes().unwrap_or(0)).sum()
    }

    /// Weights in all.
    pub fn n_weights(&self) -> u64 {
        let count = |t: &PlannedTensor| t.spec.dims.iter().product::<u64>();
        self.tensors.iter().map(count).sum()
    }

    /// Tensors that got another type than the one that was meant.
    pub fn fallbacks(&self) -> impl Iterator<Item = &PlannedTensor> {
        let fell = |t: &&PlannedTensor| matches!(t.reason, Reason::Fallback(_));
        self.tensors.iter().filter(fell)
    }
}

/// Decides for `tensors` (name, dimensions and present type) of a model with `metadata`.
///
/// # Errors
/// `InvalidArgument`, when an importance matrix does not fit a tensor, or an override fits none.
pub(crate) fn plan(metadata: &Metadata, tensors: &[TensorSpec], policy: &Policy) -> Result<Plan> {
    packable(policy.mix.base())?;
    let mut used = vec![false; policy.overrides.len()];
    let n_value = tensors
        .iter()
        .filter(|t| Kind::of(&t.name) == Kind::Value)
        .count();
    let mut s = Situation {
        i: 0,
        n_value,
        n_layer: n_layers(metadata, tensors),
        n_gqa: queries_per_key(metadata),
        importance: policy.importance.is_some(),
        tied: !tensors.iter().any(|t| t.name == "output.weight"),
        n_per_row: 0,
    };
    let mut planned = Vec::new();
    for t in tensors {
        let (wanted, mut reason) = if !is_matrix(t) {
            (t.ty, Reason::Vector)
        } else if let Some(at) = policy.overrides.iter().position(|o| o.pattern.is_match(&t.name)) {
            used[at] = true;
            (policy.overrides[at].ty, Reason::Override)
        } else if policy.pure {
            (policy.mix.base(), Reason::Mix)
        } else {
            let kind = Kind::of(&t.name);
            s.i = rank(tensors, t, kind);
            s.n_per_row = t.dims.first().copied().unwrap_or(0);
            (mix::choose(policy.mix, kind, &s), Reason::Mix)
        };
        let ty = match reason {
            Reason::Vector => wanted,
            _ => mix::fallback(wanted, t.dims.first().copied().unwrap_or(0)),
        };
        if ty != wanted {
            reason = Reason::Fallback(wanted);
        }
        let spec = TensorSpec { ty, ..t.clone() };
        planned.push(PlannedTensor {
            spec,
            from: t.ty,
            reason,
        });
    }
    if let Some(at) = used.iter().position(|used| !used) {
        crate::bail!(
            InvalidArgument,
            "no matrix has a name that fits `{}`",
            policy.overrides[at].pattern
        );
    }
    if let Some(importance) = &policy.importance {
        importance.check(&planned)?;
    }
    Ok(Plan { tensors: planned })
}

fn packable(ty: TensorType) -> Result<()> {
    if DType::packable(ty.id()).is_none() {
        crate::bail!(InvalidArgument, "nothing can be packed as {}", ty.name());
    }
    Ok(())
}

/// Whether a tensor is one that changes its type: a matrix that is neither a norm nor an expert router,
/// which are small and sensitive.
fn is_matrix(t: &TensorSpec) -> bool {
    let n_dims = t.dims.iter().rposition(|&d| d != 1).map_or(1, |i| i + 1);
    let kept = ["_norm.weight", "ffn_gate_inp.weight"];
    n_dims >= 2 && t.name.ends_with("weight") && !kept.iter().any(|k| t.name.contains(k))
}

/// The tensor's number among those of its kind, in the order of their layers.
fn rank(tensors: &[TensorSpec], t: &TensorSpec, kind: Kind) -> usize {
    let this = layer(&t.name);
    let before = |o: &&TensorSpec| Kind::of(&o.name) == kind && is_matrix(o) && layer(&o.name) < this;
    tensors.iter().filter(before).count()
}

fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

fn of_family<T>(metadata: &Metadata, read: impl Fn(&str) -> Result<Option<T>>, key: &str) -> Option<T> {
    let family = metadata.str("general.architecture").ok()??;
    read(&format!("{family}.{key}")).ok()?
}

fn n_layers(metadata: &Metadata, tensors: &[TensorSpec]) -> usize {
    let stated = of_family(metadata, |k| metadata.u32(k), "block_count");
    let counted = || {
        tensors
            .iter()
            .filter_map(|t| layer(&t.name))
            .max()
            .map_or(0, |i| i + 1)
    };
    stated.map_or_else(counted, |n| n as usize)
}

fn queries_per_key(metadata: &Metadata) -> usize {
    let read = |key: &str| of_family(metadata, |k| metadata.u32(k), key);
    let heads = read("attention.head_count").unwrap_or(1);
    let keys = read("attention.head_count_kv").unwrap_or(heads);
    (heads / keys.max(1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dims: &[u64]) -> TensorSpec {
        TensorSpec {
            name: name.into(),
            dims: dims.into(),
            ty: TensorType::F32,
        }
    }

    fn model() -> Vec<TensorSpec> {
        let mut tensors = vec![spec("token_embd.weight", &[256, 40])];
        for i in 0..8 {
            tensors.push(spec(&format!("blk.{i}.attn_norm.weight"), &[256]));
            tensors.push(spec(&format!("blk.{i}.attn_v.weight"), &[256, 256]));
            tensors.push(spec(&format!("blk.{i}.ffn_down.weight"), &[352, 256]));
        }
        tensors
    }

    fn of(plan: &Plan, name: &str) -> (TensorType, Reason) {
        let t = plan.tensors.iter().find(|t| t.spec.name == name).unwrap();
        (t.spec.ty, t.reason.clone())
    }

    #[test]
    fn overrides_come_before_the_mix_and_fallbacks_are_named() {
        let policy = Policy {
            mix: Mix::Q4KM,
            overrides: vec![TypeOverride::parse(r"blk\.[12]\.attn_v=q8_0").unwrap()],
            ..Policy::default()
        };
        let plan = plan(&Metadata::new(), &model(), &policy).unwrap();
        assert_eq!(
            of(&plan, "blk.0.attn_norm.weight"),
            (TensorType::F32, Reason::Vector)
        );
        assert_eq!(
            of(&plan, "blk.1.attn_v.weight"),
            (TensorType::Q8_0, Reason::Override)
        );
        assert_eq!(of(&plan, "blk.0.attn_v.weight"), (TensorType::Q6K, Reason::Mix));
        assert_eq!(of(&plan, "blk.4.attn_v.weight"), (TensorType::Q4K, Reason::Mix));
        // 352 does not divide by 256; layer 0 wants Q6_K, layer 1 Q4_K.
        let down = of(&plan, "blk.0.ffn_down.weight");
        assert_eq!(down, (TensorType::Q8_0, Reason::Fallback(TensorType::Q6K)));
        let down = of(&plan, "blk.1.ffn_down.weight");
        assert_eq!(down, (TensorType::Q5_0, Reason::Fallback(TensorType::Q4K)));
        // Without an output.weight the embedding is the head.
        assert_eq!(of(&plan, "token_embd.weight"), (TensorType::Q6K, Reason::Mix));
        assert_eq!(plan.fallbacks().count(), 8);
    }

    #[test]
    fn an_override_that_fits_nothing_is_a_mistake() {
        let policy = Policy {
            overrides: vec![TypeOverride::parse("attn_w=q8_0").unwrap()],
            ..Policy::default()
        };
        let error = plan(&Metadata::new(), &model(), &policy).unwrap_err();
        assert!(error.message().contains("attn_w"), "{error}");
        for bad in ["attn_v", "attn_v=q9", "(=q8_0", "attn_v=iq2_xxs"] {
            assert!(TypeOverride::parse(bad).is_err(), "{bad}");
        }
    }
}
