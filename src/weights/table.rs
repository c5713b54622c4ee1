//! What tensors a family needs, and the check of a file against it.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use crate::error::Result;
use crate::ggml::DType;
use crate::gguf::{Gguf, TensorInfo, TensorType};

/// What a tensor is used for, which bounds the types it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A matrix or embedding table: any type with a kernel.
    Matrix,
    /// A norm's weight, a bias, a table of factors: F32 in memory, F16 and BF16 are converted.
    Vector,
}

/// One line of a family's tensor table.
#[derive(Clone, Debug)]
pub struct TensorRule {
    /// Name in the file.
    pub name: String,
    /// Dimensions in ggml order, without trailing ones.
    pub dims: Vec<u64>,
    /// What it is used for.
    pub role: Role,
    /// Whether the file may lack it.
    pub optional: bool,
    /// The layer it belongs to; `None` for the tables before and after the layers.
    pub layer: Option<usize>,
    /// Another tensor that holds this one's rows, and the first of them: for projections that some
    /// converters fuse.
    pub part_of: Option<(String, u64)>,
}

/// Where a rule's tensor lies.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub name: String,
    pub dims: [u64; 4],
    pub dtype: DType,
    /// Whether the data must be converted from 16 to 32 bits.
    pub widen: Option<TensorType>,
    pub layer: Option<usize>,
    pub file: usize,
    pub offset: u64,
    pub n_bytes: u64,
    pub source: TensorType,
}

/// Checks that `gguf` holds what `rules` ask for, and nothing else.
pub(super) fn resolve(gguf: &Gguf, rules: &[TensorRule]) -> Result<Vec<Found>> {
    let mut used: HashMap<&str, ()> = HashMap::new();
    let mut found = Vec::new();
    for rule in rules {
        if let Some(info) = gguf.tensor(&rule.name) {
            used.insert(&info.name, ());
            found.push(check(rule, info, 0)?);
        } else if let Some((name, first)) = &rule.part_of
            && let Some(info) = gguf.tensor(name)
        {
            used.insert(&info.name, ());
            found.push(check(rule, info, *first)?);
        } else if !rule.optional {
            crate::bail!(Model, "tensor {} is absent", rule.name);
        }
    }
    if let Some(extra) = gguf.tensors.iter().find(|t| !used.contains_key(t.name.as_str())) {
        crate::bail!(
            Model,
            "tensor {} is not part of this architecture; results would be wrong without it",
            extra.name
        );
    }
    Ok(found)
}

/// Checks one tensor: its shape, or for a part of a fused one the rows from `first` on.
fn check(rule: &TensorRule, info: &TensorInfo, first: u64) -> Result<Found> {
    let mut dims = [1u64; 4];
    for (to, from) in dims.iter_mut().zip(&rule.dims) {
        *to = *from;
    }
    let whole = rule.part_of.is_none() || info.name == rule.name;
    let last_axis = rule.dims.len().saturating_sub(1);
    let shape_fits = if whole {
        trimmed(info.dims()) == trimmed(&rule.dims)
    } else {
        let rows = info.dims().get(last_axis).copied().unwrap_or(1);
        info.dims().get(..last_axis) == rule.dims.get(..last_axis)
            && rule
                .dims
                .get(last_axis)
                .and_then(|n| n.checked_add(first))
                .is_some_and(|end| end <= rows)
    };
    if !shape_fits {
        crate::bail!(
            Model,
            "tensor {} is {:?}; it must be {:?}",
            info.name,
            info.dims(),
            rule.dims
        );
    }
    let (dtype, widen) = dtype(rule, info)?;
    let bad_row = || crate::err!(Model, "tensor {}: blocks do not divide its rows", info.name);
    let row_bytes = if last_axis == 0 {
        info.ty.row_bytes(1)
    } else {
        info.ty.row_bytes(dims[0])
    };
    let row_bytes = row_bytes.ok_or_else(bad_row)?;
    let rows: u64 = if last_axis == 0 {
        dims[0]
    } else {
        dims[1..].iter().product()
    };
    let overflow = || crate::err!(Limit, "tensor {}: its size overflows", info.name);
    let skip = row_bytes.checked_mul(first).ok_or_else(overflow)?;
    Ok(Found {
        name: rule.name.clone(),
        dims,
        dtype,
        widen,
        layer: rule.layer,
        file: usize::from(info.file),
        offset: info.offset.checked_add(skip).ok_or_else(overflow)?,
        n_bytes: row_bytes.checked_mul(rows).ok_or_else(overflow)?,
        source: info.ty,
    })
}

/// The type in memory. A type without a kernel for its role would end in a call through NULL or an
/// assertion (ggml-cpu `mul_mat`, binary-ops.cpp:135).
fn dtype(rule: &TensorRule, info: &TensorInfo) -> Result<(DType, Option<TensorType>)> {
    match (rule.role, info.ty) {
        (Role::Vector, TensorType::F32) => Ok((DType::F32, None)),
        (Role::Vector, TensorType::F16 | TensorType::Bf16) => Ok((DType::F32, Some(info.ty))),
        (Role::Vector, other) => crate::bail!(
            Model,
            "tensor {} is of type {}; norms and biases must be F32, F16 or BF16",
            info.name,
            other.name()
        ),
        (Role::Matrix, ty) => match DType::matrix(ty.id()) {
            Some(dtype) => Ok((dtype, None)),
            None => crate::bail!(
                Model,
                "tensor {} is of type {}, for which there is no matrix product",
                info.name,
                ty.name()
            ),
        },
    }
}

fn trimmed(dims: &[u64]) -> &[u64] {
    let n = dims.iter().rposition(|&d| d != 1).map_or(1, |i| i + 1);
    &dims[..n.min(dims.len())]
}
