//! An adapter as a file of its own, in llama.cpp's format: beside a base model it is what the merged
//! model is.

use std::ops::ControlFlow;
use std::path::Path;

use remask::gguf::Metadata;
use remask::quantize::{MemoryTensor, Mix, Policy, write_gguf};
use remask::{Error, ErrorKind, Result};

use crate::checkpoint;
use crate::config::Config;
use crate::import::{name_of, neighbours};
use crate::lora;
use crate::shape::invalid;

/// Writes the adapters of the checkpoint in `folder` to `output`: for each adapted matrix `<name>.lora_a`
/// and `<name>.lora_b`; the base has W, the merged model W + alpha / rank * B A. Of a run that keeps an
/// average it is the average. Returns the number of matrices.
///
/// # Errors
/// `InvalidArgument`, when the run has no adapters or the output exists; what the files report.
pub fn export_adapter(folder: &Path, output: &Path, overwrite: bool) -> Result<usize> {
    let progress = checkpoint::load_progress(folder)?;
    let config = Config::parse(&progress.config, &[]).map_err(|e| e.context(folder.display()))?;
    if config.lora.rank == 0 {
        return Err(invalid(format!(
            "{}: has no adapters; its run had lora.rank = 0",
            folder.display()
        )));
    }
    let (shape, rank) = (&config.model, config.lora.rank);
    let (targets, parameters) = lora::adapters(shape, &config.lora)?;
    let states = checkpoint::load_state(folder, &parameters)?;
    let network = shape.parameters();
    let mut tensors: Vec<(String, Vec<u64>, Vec<f32>)> = Vec::new();
    for (k, &i) in targets.iter().enumerate() {
        let p = &network[i];
        let name = name_of(&p.name);
        let values = |j: usize| {
            let s = &states[2 * k + j];
            match s.average.len() == s.values.len() {
                true => s.average.clone(),
                false => s.values.clone(),
            }
        };
        let (a, b) = (values(0), values(1));
        // The rows of B are those of W, in the file's order.
        let b = match name.rsplit('.').nth(1) {
            Some("attn_q") => neighbours(&b, rank, shape.n_heads),
            Some("attn_k") => neighbours(&b, rank, shape.kv_heads()),
            _ => b,
        };
        let [n_out, n_in, r] = [p.dims[0], p.dims[1], rank].map(|n| n as u64);
        tensors.push((format!("{name}.lora_a"), vec![n_in, r], a));
        tensors.push((format!("{name}.lora_b"), vec![r, n_out], b));
    }
    if let Some((name, ..)) = tensors.iter().find(|t| t.2.iter().any(|x| !x.is_finite())) {
        let message = format!(
            "{}: {name} has values that are no finite numbers",
            folder.display()
        );
        return Err(Error::new(ErrorKind::Numeric, message));
    }
    let mut m = Metadata::new();
    m.insert("general.architecture", "llada");
    m.insert("general.type", "adapter");
    m.insert("adapter.type", "lora");
    m.insert("adapter.lora.alpha", config.lora.alpha as f32);
    let views: Vec<MemoryTensor<'_>> = tensors
        .iter()
        .map(|(name, dims, values)| MemoryTensor { name, dims, values })
        .collect();
    let policy = Policy {
        mix: Mix::F32,
        ..Policy::default()
    };
    write_gguf(output, &m, &views, &policy, 0, overwrite, &mut |_| {
        ControlFlow::Continue(())
    })?;
    Ok(targets.len())
}
