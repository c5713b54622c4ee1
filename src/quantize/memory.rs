//! A file from tensors in memory: for trainers.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use super::encode::Rows;
use super::plan::{Plan, Policy, plan};
use super::{Job, Progress, mark};
use crate::error::Result;
use crate::gguf::{Metadata, TensorSpec, TensorType};

/// A tensor in memory, under the name that it gets in the file.
#[derive(Clone, Copy, Debug)]
pub struct MemoryTensor<'a> {
    /// Name in the file, such as `blk.0.attn_q.weight`.
    pub name: &'a str,
    /// Dimensions in ggml order, fastest first: a linear layer's `[n_in, n_out]`.
    pub dims: &'a [u64],
    /// Values, rows of the first dimension one after the other.
    pub values: &'a [f32],
}

/// Writes `tensors` and `metadata` to `output`, with the types that `policy` gives them. The order of
/// the file is the order of `tensors`. `general.file_type` is set.
///
/// The names, the shapes and the order of rows (queries and keys with the rotary pairs side by side)
/// are those of the file format; loading the file checks them.
///
/// # Errors
/// `InvalidArgument`, when values and dimensions differ, a name is there twice, or the output exists;
/// else as [`quantize`](super::quantize).
pub fn write_gguf(
    output: &Path,
    metadata: &Metadata,
    tensors: &[MemoryTensor<'_>],
    policy: &Policy,
    n_threads: usize,
    overwrite: bool,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Plan> {
    let mut names = HashMap::new();
    let mut specs = Vec::new();
    for (i, t) in tensors.iter().enumerate() {
        let n = t.dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        if n != Some(t.values.len() as u64) || t.dims.is_empty() {
            crate::bail!(
                InvalidArgument,
                "tensor {} has {} values; its dimensions are {:?}",
                t.name,
                t.values.len(),
                t.dims
            );
        }
        if names.insert(t.name, i).is_some() {
            crate::bail!(InvalidArgument, "tensor {} is given twice", t.name);
        }
        specs.push(TensorSpec {
            name: t.name.to_owned(),
            dims: t.dims.to_vec(),
            ty: TensorType::F32,
        });
    }
    let mut metadata = metadata.clone();
    mark(&mut metadata, policy);
    let plan = plan(&metadata, &specs, policy)?;
    let rows: Vec<&dyn Rows> = tensors.iter().map(|t| t as &dyn Rows).collect();
    let job = Job {
        policy,
        n_threads,
        overwrite,
    };
    job.write(output, &metadata, &plan, &rows, progress)?;
    Ok(plan)
}

impl Rows for MemoryTensor<'_> {
    fn ty(&self) -> TensorType {
        TensorType::F32
    }

    fn read(&self, first: u64, bytes: &mut [u8]) -> Result<()> {
        let n_per_row = self.dims.first().copied().unwrap_or(0);
        let begin = usize::try_from(first * n_per_row).unwrap_or(usize::MAX);
        let values = self.values.get(begin..).unwrap_or_default();
        if values.len() * 4 < bytes.len() {
            crate::bail!(Internal, "tensor {} ends before its last row", self.name);
        }
        for (to, value) in bytes.chunks_exact_mut(4).zip(values) {
            to.copy_from_slice(&value.to_le_bytes());
        }
        Ok(())
    }

    fn source_name(&self) -> &str {
        self.name
    }
}
