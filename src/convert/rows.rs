//! One tensor's rows as they lie in the checkpoint, in the order of the file.
#![forbid(unsafe_code)]

use super::names::Job;
use super::safetensors::Checkpoint;
use crate::error::Result;
use crate::gguf::TensorType;
use crate::quantize::Rows;

/// A tensor to convert.
pub(super) struct CheckpointRows<'a> {
    pub checkpoint: &'a Checkpoint,
    pub job: &'a Job,
    pub ty: TensorType,
}

impl Rows for CheckpointRows<'_> {
    fn ty(&self) -> TensorType {
        self.ty
    }

    fn read(&self, first: u64, bytes: &mut [u8]) -> Result<()> {
        let job = self.job;
        let n_per_row = job.dims.first().copied().unwrap_or(0);
        let row = n_per_row * self.ty.block_bytes();
        if job.permute_heads == 0 {
            return self.checkpoint.read(&job.source, first * row, bytes);
        }
        // A bias permutes its single entries.
        let (unit, n_units) = if job.vector {
            (self.ty.block_bytes(), n_per_row)
        } else {
            (row, job.dims.get(1).copied().unwrap_or(0))
        };
        let unit_bytes = usize::try_from(unit).unwrap_or(usize::MAX).max(1);
        for (i, bytes) in (first..).zip(bytes.chunks_exact_mut(unit_bytes)) {
            let from = source_row(i, n_units, job.permute_heads);
            self.checkpoint.read(&job.source, from * unit, bytes)?;
        }
        Ok(())
    }

    fn source_name(&self) -> &str {
        &self.job.source
    }
}

/// The checkpoint's row that becomes row `i`. Checkpoints rotate the first half of a head against the
/// second, ggml's NORM rotates neighbours: row 2k + j of a head comes from row j * half + k.
fn source_row(i: u64, n_rows: u64, n_heads: u64) -> u64 {
    let size = n_rows / n_heads;
    let (head, r) = (i / size, i % size);
    head * size + (r % 2) * (size / 2) + r / 2
}

/// The other way: the file's row that becomes row `i` of a checkpoint.
pub(super) fn file_row(i: u64, n_rows: u64, n_heads: u64) -> u64 {
    let size = n_rows / n_heads;
    let (head, r) = (i / size, i % size);
    let half = size / 2;
    head * size + 2 * (r % half) + r / half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permuted_rows_are_neighbours() {
        // One head of 6: halves (0 1 2) and (3 4 5) interleave.
        let order: Vec<u64> = (0..6).map(|i| source_row(i, 6, 1)).collect();
        assert_eq!(order, [0, 3, 1, 4, 2, 5]);
        let order: Vec<u64> = (0..8).map(|i| source_row(i, 8, 2)).collect();
        assert_eq!(order, [0, 2, 1, 3, 4, 6, 5, 7]);
    }

    #[test]
    fn the_way_back_is_the_inverse() {
        for (n_rows, n_heads) in [(6, 1), (64, 4), (24, 2)] {
            for i in 0..n_rows {
                assert_eq!(file_row(source_row(i, n_rows, n_heads), n_rows, n_heads), i);
            }
        }
    }
}
