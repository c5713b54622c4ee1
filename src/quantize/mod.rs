//! From tensors as they are to a file of another type: smaller, or just as exact.
//!
//! A [`Policy`] says which type each tensor gets: a [`Mix`] with its rules, overrides by name, an
//! [`Imatrix`] where one was made. Kernels are ggml's; with the same policy the packed bytes are those
//! of llama.cpp's `llama-quantize`. Memory does not grow with the model: tensors go through in slabs.
#![forbid(unsafe_code)]

mod encode;
mod imatrix;
mod memory;
mod mix;
mod plan;
mod q8_0;

pub use imatrix::{Imatrix, ImatrixEntry};
pub use memory::{MemoryTensor, write_gguf};
pub use mix::Mix;
pub use plan::{Plan, PlannedTensor, Policy, Reason, TypeOverride};

pub(crate) use encode::{Encoder, Rows};
pub(crate) use plan::plan;

use std::ops::ControlFlow;
use std::path::Path;

use crate::error::Result;
use crate::gguf::{Metadata, TensorInfo, TensorSpec, TensorType, Writer};
use crate::weights::{GgufFiles, Residence};

/// How to quantize.
#[derive(Clone, Debug, Default)]
pub struct QuantizeOptions {
    /// Which types tensors get.
    pub policy: Policy,
    /// Take tensors that are quantized already, losing twice.
    pub requantize: bool,
    /// Threads; 0 is one per physical core.
    pub n_threads: usize,
    /// Replace an existing output.
    pub overwrite: bool,
}

/// How far the work is.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// The tensor at work; empty at the end.
    pub tensor: &'a str,
    /// Bytes written.
    pub done: u64,
    /// Bytes to write.
    pub total: u64,
}

/// What happens to the tensors of `input`, without doing it.
///
/// # Errors
/// As [`quantize`], as far as the header shows it.
pub fn plan_file(input: &Path, options: &QuantizeOptions) -> Result<Plan> {
    let files = GgufFiles::open(input, Residence::Map)?;
    plan_files(&files, options).map_err(|e| e.context(input.display()))
}

/// Writes the model in `input` (of a split one the first part) to `output`, as the policy says.
///
/// The output appears whole or not at all; one that exists is replaced only where the options allow it.
///
/// # Errors
/// `Io`; `Format`; `Unsupported`, for tensor types without a kernel; `Numeric`, naming the tensor and
/// the element that is not finite or does not fit; `InvalidArgument`, when the output exists, a tensor
/// is quantized already, or the policy does not fit the model; `Cancelled`, when `progress` breaks.
pub fn quantize(
    input: &Path,
    output: &Path,
    options: &QuantizeOptions,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Plan> {
    let files = GgufFiles::open(input, Residence::Map)?;
    let named = |e: crate::error::Error| e.context(input.display());
    let plan = plan_files(&files, options).map_err(named)?;
    refuse_same(input, output)?;
    let mut metadata = files.gguf.metadata.clone();
    for key in ["split.no", "split.count", "split.tensors.count"] {
        metadata.remove(key);
    }
    mark(&mut metadata, &options.policy);
    let rows: Vec<_> = files
        .gguf
        .tensors
        .iter()
        .map(|info| FileRows { files: &files, info })
        .collect();
    let rows: Vec<&dyn Rows> = rows.iter().map(|r| r as &dyn Rows).collect();
    let job = Job {
        policy: &options.policy,
        n_threads: options.n_threads,
        overwrite: options.overwrite,
    };
    job.write(output, &metadata, &plan, &rows, progress)?;
    Ok(plan)
}

fn plan_files(files: &GgufFiles, options: &QuantizeOptions) -> Result<Plan> {
    if files.gguf.metadata.str("general.type")? == Some("imatrix") {
        crate::bail!(
            InvalidArgument,
            "this is an importance matrix; give it with the model that it is of"
        );
    }
    let spec = |t: &TensorInfo| TensorSpec {
        name: t.name.clone(),
        dims: t.dims().to_vec(),
        ty: t.ty,
    };
    let specs: Vec<_> = files.gguf.tensors.iter().map(spec).collect();
    let plan = plan(&files.gguf.metadata, &specs, &options.policy)?;
    let twice = plan
        .tensors
        .iter()
        .find(|t| t.from != t.spec.ty && t.from.block_len() > 1);
    if let Some(t) = twice.filter(|_| !options.requantize) {
        crate::bail!(
            InvalidArgument,
            "tensor {} is {} already and would lose a second time; start from the F16 or F32 file, or allow \
             requantizing",
            t.spec.name,
            t.from.name()
        );
    }
    Ok(plan)
}

/// Writing over the input would read what was just written.
fn refuse_same(input: &Path, output: &Path) -> Result<()> {
    if let (Ok(a), Ok(b)) = (std::fs::canonicalize(input), std::fs::canonicalize(output))
        && a == b
    {
        crate::bail!(InvalidArgument, "{} is input and output at once", input.display());
    }
    Ok(())
}

/// Says in the metadata what was done, in llama.cpp's keys.
pub(crate) fn mark(metadata: &mut Metadata, policy: &Policy) {
    metadata.insert("general.file_type", policy.mix.file_type());
    metadata.insert("general.quantization_version", 2u32);
    if let Some(importance) = &policy.importance {
        if let Some(dataset) = importance.datasets.first() {
            metadata.insert("quantize.imatrix.dataset", dataset.as_str());
        }
        let n = u32::try_from(importance.entries.len()).unwrap_or(u32::MAX);
        metadata.insert("quantize.imatrix.entries_count", n);
        metadata.insert("quantize.imatrix.chunks_count", importance.n_chunks);
    }
}

/// A file to be written by plan.
pub(crate) struct Job<'a> {
    pub policy: &'a Policy,
    pub n_threads: usize,
    pub overwrite: bool,
}

impl Job<'_> {
    /// Writes all tensors of `plan`, each from the `rows` of its number.
    pub fn write(
        &self,
        output: &Path,
        metadata: &Metadata,
        plan: &Plan,
        rows: &[&dyn Rows],
        progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let encoder = Encoder::new(self.n_threads)?;
        let total = plan.bytes_after();
        let specs = plan.tensors.iter().map(|t| t.spec.clone()).collect();
        let mut writer = Writer::create(output, metadata, specs, self.overwrite)?;
        let mut done = 0;
        let mut tell = |tensor: &str, n: u64| {
            done += n;
            match progress(Progress { tensor, done, total }) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => {
                    crate::bail!(Cancelled, "the work was cancelled; nothing was written")
                }
            }
        };
        for (t, rows) in plan.tensors.iter().zip(rows) {
            let importance = self.importance(t);
            let mut tick = |n| tell(&t.spec.name, n);
            encoder.write(&mut writer, &t.spec, *rows, importance.as_deref(), &mut tick)?;
        }
        writer.finish()?;
        let _ = tell("", 0);
        Ok(())
    }

    fn importance(&self, t: &PlannedTensor) -> Option<Vec<f32>> {
        if t.from == t.spec.ty || t.spec.ty.block_len() == 1 {
            return None;
        }
        let importance = self.policy.importance.as_ref()?;
        let entry = importance.entries.get(&t.spec.name);
        if entry.is_none() && t.spec.name.starts_with("blk.") {
            crate::log!(Warn, "the importance matrix says nothing of {}", t.spec.name);
        }
        entry.map(ImatrixEntry::means)
    }
}

/// A tensor of an open file.
struct FileRows<'a> {
    files: &'a GgufFiles,
    info: &'a TensorInfo,
}

impl Rows for FileRows<'_> {
    fn ty(&self) -> TensorType {
        self.info.ty
    }

    fn read(&self, first: u64, bytes: &mut [u8]) -> Result<()> {
        let n_per_row = self.info.dims().first().copied().unwrap_or(0);
        let row = self.info.ty.row_bytes(n_per_row).unwrap_or(0);
        self.files.read(self.info, first * row, bytes)
    }

    fn source_name(&self) -> &str {
        &self.info.name
    }
}
