//! One tensor's data: read, permuted, converted, checked.
#![forbid(unsafe_code)]

use half::{bf16, f16};

use super::OutputType;
use super::names::Job;
use super::safetensors::{Checkpoint, Dtype};
use crate::error::Result;

/// The bytes of `job`'s tensor as they go into the file.
pub(super) fn read(checkpoint: &mut Checkpoint, job: &Job, ty: OutputType) -> Result<Vec<u8>> {
    let (dtype, raw) = checkpoint.read(&job.source)?;
    let row = match job.dims.as_slice() {
        [n] => *n as usize,
        [n, ..] => *n as usize,
        [] => 0,
    };
    // A bias permutes its single entries.
    let row_len = if job.vector { 1 } else { row };
    let n_rows = raw.len() / dtype.n_bytes() / row_len.max(1);
    let target = if job.vector { OutputType::F32 } else { ty };
    let size = match target {
        OutputType::F32 => 4,
        OutputType::F16 | OutputType::Bf16 => 2,
    };
    let mut out: Vec<u8> = Vec::new();
    out.try_reserve_exact(n_rows * row_len * size)
        .map_err(|_| crate::err!(Resource, "no memory for tensor {}", job.name))?;
    for i in 0..n_rows {
        let from = source_row(i, n_rows, job.permute_heads as usize);
        for j in 0..row_len {
            let at = from * row_len + j;
            let x = value(dtype, &raw, at);
            if !x.is_finite() {
                crate::bail!(
                    Numeric,
                    "tensor {}: element {at} is not a finite number",
                    job.source
                );
            }
            match target {
                OutputType::F32 => out.extend_from_slice(&x.to_le_bytes()),
                OutputType::Bf16 => out.extend_from_slice(&bf16::from_f32(x).to_le_bytes()),
                OutputType::F16 => {
                    let y = f16::from_f32(x);
                    if !y.is_finite() {
                        crate::bail!(
                            Numeric,
                            "tensor {}: {x} at {at} does not fit F16; convert to BF16 or F32",
                            job.source
                        );
                    }
                    out.extend_from_slice(&y.to_le_bytes());
                }
            }
        }
    }
    Ok(out)
}

/// The checkpoint's row that becomes row `i`. Checkpoints rotate the first half of a head against the
/// second, ggml's NORM rotates neighbours: row 2k + j of a head comes from row j * half + k.
fn source_row(i: usize, n_rows: usize, n_heads: usize) -> usize {
    if n_heads == 0 {
        return i;
    }
    let size = n_rows / n_heads;
    let (head, r) = (i / size, i % size);
    head * size + (r % 2) * (size / 2) + r / 2
}

fn value(dtype: Dtype, raw: &[u8], at: usize) -> f32 {
    let n = dtype.n_bytes();
    let Some(b) = raw.get(at * n..(at + 1) * n) else {
        return f32::NAN;
    };
    match dtype {
        Dtype::F32 => f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        Dtype::F16 => f16::from_le_bytes([b[0], b[1]]).to_f32(),
        Dtype::Bf16 => bf16::from_le_bytes([b[0], b[1]]).to_f32(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permuted_rows_are_neighbours() {
        // One head of 6: halves (0 1 2) and (3 4 5) interleave.
        let order: Vec<usize> = (0..6).map(|i| source_row(i, 6, 1)).collect();
        assert_eq!(order, [0, 3, 1, 4, 2, 5]);
        let order: Vec<usize> = (0..8).map(|i| source_row(i, 8, 2)).collect();
        assert_eq!(order, [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(source_row(5, 8, 0), 5);
    }
}
