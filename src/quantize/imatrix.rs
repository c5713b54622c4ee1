//! Importance matrices: how large the inputs of each matrix are, column by column.
//!
//! Files are llama.cpp's (tools/imatrix): a GGUF with, for each matrix, `NAME.in_sum2`, the sums of
//! squares of what came in, and `NAME.counts`, how many rows that were.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use super::plan::PlannedTensor;
use crate::error::Result;
use crate::gguf::{Array, Metadata, StringArray, TensorSpec, TensorType, Value, Writer};
use crate::weights::{GgufFiles, Residence};

/// Sums of squared activations, by the name of the matrix that they go into.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// Names of the texts that went through the model.
    pub datasets: Vec<String>,
    /// How many canvases that were.
    pub n_chunks: u32,
    /// Slots of a canvas.
    pub chunk_size: u32,
    /// Sums, by tensor name.
    pub entries: BTreeMap<String, ImatrixEntry>,
}

/// The sums of one tensor: one matrix, or several stacked (experts).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImatrixEntry {
    /// Sums of squares, `[n_matrices, n_columns]` row-major.
    pub sums: Vec<f32>,
    /// Rows that were added up, one count per matrix.
    pub counts: Vec<f32>,
}

impl ImatrixEntry {
    /// Mean squares, the weights that kernels take; 1 where nothing came in, as llama.cpp has it.
    pub fn means(&self) -> Vec<f32> {
        let n_columns = self.sums.len() / self.counts.len().max(1);
        let mean = |(i, &sum): (usize, &f32)| match self.counts.get(i / n_columns.max(1)) {
            Some(&n) if n > 0.0 => sum / n,
            _ => 1.0,
        };
        self.sums.iter().enumerate().map(mean).collect()
    }
}

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

impl Imatrix {
    /// Reads a file.
    ///
    /// # Errors
    /// `Io`, `Format`, `Limit`, `Unsupported`; `Numeric`, when a sum is negative or not finite. Messages
    /// begin with the path.
    pub fn read(path: &Path) -> Result<Self> {
        let files = GgufFiles::open(path, Residence::Map)?;
        Self::from_files(&files).map_err(|e| e.context(path.display()))
    }

    fn from_files(files: &GgufFiles) -> Result<Self> {
        let m = &files.gguf.metadata;
        if m.str("general.type")? != Some("imatrix") {
            crate::bail!(
                Format,
                "key general.type is not `imatrix`: this is no importance matrix"
            );
        }
        let mut entries: BTreeMap<String, ImatrixEntry> = BTreeMap::new();
        for t in &files.gguf.tensors {
            let (name, is_sums) = match (t.name.strip_suffix(SUMS), t.name.strip_suffix(COUNTS)) {
                (Some(name), _) => (name, true),
                (_, Some(name)) => (name, false),
                // Newer files may hold more than this version uses.
                _ => continue,
            };
            if t.ty != TensorType::F32 {
                crate::bail!(Format, "tensor {} is {}; it must be F32", t.name, t.ty.name());
            }
            let n = usize::try_from(t.n_bytes).unwrap_or(usize::MAX);
            let mut bytes = crate::error::try_vec(n, 0u8, "an importance matrix")?;
            files.read(t, 0, &mut bytes)?;
            let values = bytes.chunks_exact(4);
            let values: Vec<f32> = values
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            if let Some(i) = values.iter().position(|x| !x.is_finite() || *x < 0.0) {
                crate::bail!(
                    Numeric,
                    "tensor {}: element {i} is {}; sums of squares are finite and not negative",
                    t.name,
                    values[i]
                );
            }
            let entry = entries.entry(name.to_owned()).or_default();
            *(if is_sums {
                &mut entry.sums
            } else {
                &mut entry.counts
            }) = values;
        }
        for (name, entry) in &entries {
            let n = entry.counts.len();
            if n == 0 || entry.sums.is_empty() || !entry.sums.len().is_multiple_of(n) {
                crate::bail!(
                    Format,
                    "{name}: {} sums and {n} counts do not belong together",
                    entry.sums.len()
                );
            }
        }
        if entries.is_empty() {
            crate::bail!(Format, "it holds no sums");
        }
        let datasets = m.strings("imatrix.datasets")?;
        let text = |s: &[u8]| String::from_utf8_lossy(s).into_owned();
        Ok(Self {
            datasets: datasets.map(|d| d.iter().map(text).collect()).unwrap_or_default(),
            n_chunks: m.u32("imatrix.chunk_count")?.unwrap_or(0),
            chunk_size: m.u32("imatrix.chunk_size")?.unwrap_or(0),
            entries,
        })
    }

    /// Writes a file.
    ///
    /// # Errors
    /// As [`Writer::create`].
    pub fn write(&self, path: &Path, overwrite: bool) -> Result<()> {
        let mut m = Metadata::new();
        m.insert("general.type", "imatrix");
        let datasets: StringArray = self.datasets.iter().cloned().collect();
        m.insert("imatrix.datasets", Value::Array(Array::Strings(datasets)));
        m.insert("imatrix.chunk_count", self.n_chunks);
        m.insert("imatrix.chunk_size", self.chunk_size);
        let spec = |name: String, dims: [usize; 2]| TensorSpec {
            name,
            dims: dims.map(|d| d as u64).to_vec(),
            ty: TensorType::F32,
        };
        let mut specs = Vec::new();
        for (name, e) in &self.entries {
            let n = e.counts.len();
            specs.push(spec(format!("{name}{SUMS}"), [e.sums.len() / n.max(1), n]));
            specs.push(spec(format!("{name}{COUNTS}"), [1, n]));
        }
        let mut writer = Writer::create(path, &m, specs, overwrite)?;
        let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        for (name, e) in &self.entries {
            writer.write_tensor(&format!("{name}{SUMS}"), &bytes(&e.sums))?;
            writer.write_tensor(&format!("{name}{COUNTS}"), &bytes(&e.counts))?;
        }
        writer.finish()
    }

    /// Adds what `other` counted.
    ///
    /// # Errors
    /// `InvalidArgument`, when a tensor has another size there: it is of another model.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        for (name, theirs) in &other.entries {
            let ours = self.entries.entry(name.clone()).or_insert_with(|| ImatrixEntry {
                sums: vec![0.0; theirs.sums.len()],
                counts: vec![0.0; theirs.counts.len()],
            });
            if ours.sums.len() != theirs.sums.len() || ours.counts.len() != theirs.counts.len() {
                crate::bail!(
                    InvalidArgument,
                    "{name} has {} columns in one and {} in the other",
                    ours.sums.len(),
                    theirs.sums.len()
                );
            }
            ours.sums.iter_mut().zip(&theirs.sums).for_each(|(a, b)| *a += b);
            ours.counts
                .iter_mut()
                .zip(&theirs.counts)
                .for_each(|(a, b)| *a += b);
        }
        self.datasets.extend(other.datasets.iter().cloned());
        self.n_chunks = self.n_chunks.saturating_add(other.n_chunks);
        self.chunk_size = self.chunk_size.max(other.chunk_size);
        Ok(())
    }

    /// Checks it against the tensors that it is to be used for.
    pub(super) fn check(&self, tensors: &[PlannedTensor]) -> Result<()> {
        for t in tensors {
            let columns = t.spec.dims.first().copied().unwrap_or(0);
            let matrices = t.spec.dims.get(2).copied().unwrap_or(1);
            if let Some(entry) = self.entries.get(&t.spec.name)
                && entry.sums.len() as u64 != columns.saturating_mul(matrices)
            {
                crate::bail!(
                    InvalidArgument,
                    "the importance matrix has {} columns for {}, which has {columns}: it is of another model",
                    entry.sums.len(),
                    t.spec.name
                );
            }
        }
        Ok(())
    }
}
