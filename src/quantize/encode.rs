//! One tensor from where it is to the file, a slab of rows at a time: read, unpacked, packed on all
//! threads, written while the next slab is at work.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::q8_0::pack_q8_0;
use crate::error::Result;
use crate::ggml::{DType, pack, unpack};
use crate::gguf::{TensorSpec, TensorType, Writer};
use crate::weights::first_not_finite;

/// Where a tensor's rows come from. Threads read from it at once.
pub(crate) trait Rows: Sync {
    /// The type they are stored as.
    fn ty(&self) -> TensorType;

    /// Reads the stored bytes of whole rows from `first` on; `bytes` says how many.
    fn read(&self, first: u64, bytes: &mut [u8]) -> Result<()>;

    /// The name to complain about: of the tensor in its source.
    fn source_name(&self) -> &str;
}

/// Floats that a thread works on at a time: its buffers stay in the cache.
const CHUNK: usize = 1 << 16;
/// The largest finite half.
const MAX_F16: f32 = 65504.0;
/// Chunks between two writes, at most: they and the ones before them are in memory.
const MAX_CHUNKS: usize = 64;

/// The threads that pack, and what they are told.
pub(crate) struct Encoder {
    pool: rayon::ThreadPool,
}

/// A tensor's shape, as the loop needs it.
struct Shape {
    n_per_row: usize,
    n_rows: u64,
    rows_per_matrix: u64,
    source: DType,
    source_row: usize,
    target: DType,
    target_row: usize,
}

impl Encoder {
    /// Packs on `n_threads`; 0 is one per physical core.
    ///
    /// # Errors
    /// `Resource`, when the system gives no threads.
    pub fn new(n_threads: usize) -> Result<Self> {
        let n = match n_threads {
            0 => crate::ggml::default_threads(),
            n => n.min(crate::ggml::max_threads()),
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(n)
            .thread_name(|i| format!("remask-pack-{i}"))
            .build();
        match pool {
            Ok(pool) => Ok(Self { pool }),
            Err(e) => crate::bail!(Resource, "{n} threads cannot be started: {e}"),
        }
    }

    /// Writes tensor `spec`, the writer's next, from `rows`. `tick` hears of the bytes written and may
    /// end it. `importance` has a weight per column, for each matrix of a stack.
    ///
    /// # Errors
    /// `Numeric`, naming the tensor and the element, for values that are not finite or do not fit the
    /// type; `Io`; what `tick` returns.
    pub fn write(
        &self,
        writer: &mut Writer,
        spec: &TensorSpec,
        rows: &dyn Rows,
        importance: Option<&[f32]>,
        tick: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let shape = Shape::new(spec, rows)?;
        let row = shape.target_row;
        let per_chunk = (CHUNK / shape.n_per_row).max(1);
        let n_threads = self.pool.current_num_threads();
        let per_slab = per_chunk * (8 * n_threads).min(MAX_CHUNKS);
        let size = |first: u64| {
            let n = (shape.n_rows - first).min(per_slab as u64);
            usize::try_from(n).unwrap_or(0) * row
        };
        let name = || format!("tensor {}", spec.name);
        let mut ready = Vec::new();
        let mut next = crate::error::try_vec(size(0), 0u8, &name())?;
        let encode = |first: u64, out: &mut [u8]| {
            out.par_chunks_mut(per_chunk * row).enumerate().try_for_each_init(
                Scratch::default,
                |scratch, (i, out)| {
                    let first = first + (i * per_chunk) as u64;
                    scratch.rows(&shape, rows, first, importance, out)
                },
            )
        };
        let mut first = 0;
        while first < shape.n_rows {
            crate::error::try_resize(&mut next, size(first), 0, "packed rows")?;
            let (written, encoded) = self.pool.install(|| {
                rayon::join(
                    || match ready.is_empty() {
                        true => Ok(()),
                        false => writer.write_chunk(&ready),
                    },
                    || encode(first, &mut next),
                )
            });
            written?;
            encoded?;
            tick(ready.len() as u64)?;
            first += (next.len() / row) as u64;
            std::mem::swap(&mut ready, &mut next);
            if next.capacity() == 0 {
                next = crate::error::try_vec(ready.len(), 0u8, &name())?;
            }
        }
        writer.write_chunk(&ready)?;
        tick(ready.len() as u64)
    }
}

impl Shape {
    fn new(spec: &TensorSpec, rows: &dyn Rows) -> Result<Self> {
        let n_per_row = spec.dims.first().copied().unwrap_or(0);
        let n_rows: u64 = spec.dims.iter().skip(1).product();
        let dtype = |ty: TensorType| match DType::matrix(ty.id()) {
            Some(dtype) => Ok(dtype),
            None => crate::bail!(
                Unsupported,
                "tensor {}: {} cannot be converted",
                rows.source_name(),
                ty.name()
            ),
        };
        let size = |ty: TensorType| {
            let bytes = ty.row_bytes(n_per_row).and_then(|n| usize::try_from(n).ok());
            bytes.filter(|&n| n > 0).ok_or_else(|| {
                crate::err!(
                    Internal,
                    "tensor {}: rows of {n_per_row} as {}",
                    spec.name,
                    ty.name()
                )
            })
        };
        Ok(Self {
            n_per_row: usize::try_from(n_per_row).unwrap_or(usize::MAX),
            n_rows,
            rows_per_matrix: spec.dims.get(1).copied().unwrap_or(1).max(1),
            source: dtype(rows.ty())?,
            source_row: size(rows.ty())?,
            target: dtype(spec.ty)?,
            target_row: size(spec.ty)?,
        })
    }
}

/// One thread's buffers.
#[derive(Default)]
struct Scratch {
    stored: Vec<u8>,
    values: Vec<f32>,
}

impl Scratch {
    /// Fills `out` with the packed rows from `first` on.
    fn rows(
        &mut self,
        shape: &Shape,
        rows: &dyn Rows,
        first: u64,
        importance: Option<&[f32]>,
        out: &mut [u8],
    ) -> Result<()> {
        let n_rows = out.len() / shape.target_row;
        if shape.source == shape.target {
            rows.read(first, out)?;
            return check_finite(rows, rows.ty(), first, shape.n_per_row, out);
        }
        crate::error::try_resize(
            &mut self.stored,
            n_rows * shape.source_row,
            0,
            "rows as they are stored",
        )?;
        crate::error::try_resize(&mut self.values, n_rows * shape.n_per_row, 0.0, "rows as numbers")?;
        rows.read(first, &mut self.stored)?;
        unpack(shape.source, &self.stored, &mut self.values)?;
        check_finite(rows, rows.ty(), first, shape.n_per_row, &self.stored)?;
        self.check_range(shape, rows, first)?;
        // Each matrix of a stack has its own weights.
        let mut done = 0;
        while done < n_rows {
            let at = first + done as u64;
            let matrix = usize::try_from(at / shape.rows_per_matrix).unwrap_or(usize::MAX);
            let left = shape.rows_per_matrix - at % shape.rows_per_matrix;
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(n_rows - done);
            let weights = importance.and_then(|w| w.chunks_exact(shape.n_per_row).nth(matrix));
            let values = &self.values[done * shape.n_per_row..(done + n) * shape.n_per_row];
            let packed = &mut out[done * shape.target_row..(done + n) * shape.target_row];
            match shape.target.id() == TensorType::Q8_0.id() {
                true => pack_q8_0(values, packed),
                false => pack(shape.target, shape.n_per_row, values, weights, packed)?,
            }
            done += n;
        }
        Ok(())
    }

    /// Large values have no place in 16 bits, where blocks keep their scales; some kernels make zeros
    /// of them.
    fn check_range(&self, shape: &Shape, rows: &dyn Rows, first: u64) -> Result<()> {
        let wide = [TensorType::F32, TensorType::Bf16];
        if wide.iter().any(|ty| ty.id() == shape.target.id()) {
            return Ok(());
        }
        // Without an early exit it takes wide instructions.
        if !self.values.iter().fold(false, |bad, x| bad | (x.abs() > MAX_F16)) {
            return Ok(());
        }
        let at = self.values.iter().position(|x| x.abs() > MAX_F16).unwrap_or(0);
        crate::bail!(
            Numeric,
            "tensor {}: {:e} at element {} does not fit {}; BF16 and F32 hold it",
            rows.source_name(),
            self.values[at],
            first * shape.n_per_row as u64 + at as u64,
            TensorType::from_id(shape.target.id()).map_or("its type", TensorType::name)
        )
    }
}

fn check_finite(rows: &dyn Rows, ty: TensorType, first: u64, n_per_row: usize, bytes: &[u8]) -> Result<()> {
    match first_not_finite(ty, bytes) {
        None => Ok(()),
        Some(block) => crate::bail!(
            Numeric,
            "tensor {}: element {} is not a finite number",
            rows.source_name(),
            first * n_per_row as u64 + block as u64 * ty.block_len()
        ),
    }
}
