//! What tensors a family needs, and the check of a file against it.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use crate::error::Result;
use crate::ggml::{Axis, DType};
use crate::gguf::{Gguf, TensorInfo, TensorType};

/// What a tensor is used for, which bounds the types it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A matrix or embedding table: any type with a kernel.
    Matrix,
    /// A norm's weight, a bias, a table of factors: F32 in memory, F16 and BF16 are converted.
    Vector,
}

/// Where a tensor is cut when each of several devices holds a part of every layer. What is not named here is whole on
/// each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Between rows, by whole key heads with their query heads.
    HeadRows,
    /// Between columns, by the same.
    HeadColumns,
    /// Between rows that make the feed-forward network's hidden state.
    HiddenRows,
    /// Between columns that meet it.
    HiddenColumns,
}

/// How layers are cut between devices: the parts of each, none of them 0, in the devices' order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Key heads; empty where attention is whole on each device.
    pub heads: Vec<usize>,
    /// Elements of the feed-forward network's hidden state; empty where the network is whole on each device.
    pub hidden: Vec<usize>,
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
    /// Where it is cut when devices share every layer; `None` is nowhere.
    pub cut: Option<Cut>,
}

/// Where a rule's tensor lies.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub name: String,
    pub dims: [u64; 4],
    pub cut: Option<Cut>,
    pub dtype: DType,
    /// Whether the data must be converted from 16 to 32 bits.
    pub widen: Option<TensorType>,
    pub layer: Option<usize>,
    pub file: usize,
    pub offset: u64,
    pub n_bytes: u64,
    pub source: TensorType,
}

impl Found {
    /// Which of `parts` it is cut by, and the axis; `None` where it is whole on each device.
    fn cut_by<'a>(&self, parts: &'a Parts) -> Option<(&'a [usize], Axis)> {
        let cut = self.cut?;
        let list = match cut {
            Cut::HeadRows | Cut::HeadColumns => &parts.heads,
            Cut::HiddenRows | Cut::HiddenColumns => &parts.hidden,
        };
        let axis = match cut {
            // A bias has an element for each row of its matrix.
            Cut::HeadRows | Cut::HiddenRows if self.dims[1] > 1 => Axis::Rows,
            _ => Axis::Columns,
        };
        (!list.is_empty()).then_some((list, axis))
    }

    /// The axis that it is cut along by `parts`, and how many of its columns or rows each device gets.
    pub fn pieces(&self, parts: &Parts) -> Option<(Axis, Vec<u64>)> {
        let (list, axis) = self.cut_by(parts)?;
        let total: usize = list.iter().sum();
        let n = self.dims[axis as usize];
        let piece = |&part: &usize| n / total as u64 * part as u64;
        Some((axis, list.iter().map(piece).collect()))
    }

    /// Bytes in the memory of the device with number `device`.
    pub fn n_bytes_on(&self, parts: &Parts, device: usize) -> u64 {
        let n_bytes = match self.widen {
            Some(_) => self.n_bytes.saturating_mul(2),
            None => self.n_bytes,
        };
        match self.cut_by(parts) {
            None => n_bytes,
            Some((list, _)) => {
                let total: usize = list.iter().sum();
                let part = list.get(device).copied().unwrap_or(0);
                n_bytes / total as u64 * part as u64
            }
        }
    }
}

/// Checks that `gguf` holds what `rules` ask for, and nothing else.
pub(crate) fn resolve(gguf: &Gguf, rules: &[TensorRule]) -> Result<Vec<Found>> {
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
        cut: rule.cut,
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
