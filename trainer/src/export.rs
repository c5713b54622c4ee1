//! From a checkpoint to the one file that the runtime maps, checked before it is called done.

use std::ops::ControlFlow;
use std::path::Path;

use remask::convert::{ConvertOptions, convert};
use remask::quantize::{Mix, Plan, Policy};
use remask::{Error, ErrorKind, LoadOptions, Model, Result, Session, SessionOptions, Token};

use crate::engine::Engine;
use crate::objective::Batch;

/// How far the runtime's logits are from the engine's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The largest, absolute.
    pub largest: f32,
    /// Its root mean square as a share of the logits' own deviation.
    pub relative: f64,
    /// Share of slots whose likeliest token is the same.
    pub agreement: f64,
}

/// Loads the file at `path` in the runtime and compares its logits with the engine's, on canvases of
/// several lengths with few and many masks.
///
/// # Errors
/// What the runtime and the engine report.
pub fn check_against(engine: &mut dyn Engine, path: &Path) -> Result<Difference> {
    let model = Model::load(path, &LoadOptions::default())?;
    let options = SessionOptions {
        n_threads: 1,
        ..SessionOptions::default()
    };
    let mut session = Session::new(&model, &options)?;
    let (mask, n_vocab) = (model.mask_token(), engine.shape().vocab_size);
    let mut logits = Vec::new();
    let (mut largest, mut squares, mut own, mut same, mut n) = (0f32, 0f64, 0f64, 0usize, 0usize);
    for (i, &length) in [1usize, 7, 32, 48].iter().enumerate() {
        let token = |j: usize| match (j * 7 + i) % 5 {
            0..=1 => mask,
            _ => ((j * 7919 + i * 104_729) % model.sizes().n_vocab) as Token,
        };
        let tokens: Vec<Token> = (0..length.min(model.sizes().n_ctx)).map(token).collect();
        let rows: Vec<u32> = (0..tokens.len() as u32).collect();
        session.logits(&tokens, &rows, &mut logits)?;
        let mut batch = Batch::look(tokens.len(), tokens, rows);
        if model.sizes().shift_logits {
            batch.shift();
        }
        let ours = engine.logits(&batch)?;
        if ours.len() != logits.len() {
            return Err(Error::new(
                ErrorKind::Model,
                format!(
                    "the file gives {} logits, the engine {}",
                    logits.len(),
                    ours.len()
                ),
            ));
        }
        for (a, b) in ours.chunks_exact(n_vocab).zip(logits.chunks_exact(n_vocab)) {
            let mean = a.iter().map(|&x| f64::from(x)).sum::<f64>() / n_vocab as f64;
            for (&x, &y) in a.iter().zip(b) {
                largest = largest.max((x - y).abs());
                squares += f64::from(x - y).powi(2);
                own += (f64::from(x) - mean).powi(2);
            }
            same += usize::from(best(a) == best(b));
            n += 1;
        }
    }
    Ok(Difference {
        largest,
        relative: (squares / own.max(1e-30)).sqrt(),
        agreement: same as f64 / n.max(1) as f64,
    })
}

fn best(row: &[f32]) -> Option<usize> {
    let first = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1).then(b.0.cmp(&a.0));
    row.iter().enumerate().max_by(first).map(|(i, _)| i)
}

/// How far a file of `mix` may be from the engine, as a share of the logits' deviation: from what the
/// quantizers lose on random networks, several times over. More means that something else is wrong.
fn allowed(mix: Mix) -> f64 {
    match mix {
        Mix::F32 => 1e-3,
        Mix::F16 => 1e-2,
        Mix::Bf16 | Mix::Q8_0 => 0.1,
        _ => 1.0,
    }
}

/// Writes the checkpoint in `folder` to `output` as `mix`, loads it in the runtime and compares.
///
/// # Errors
/// What the conversion reports; `Numeric`, when the logits differ by more than the type explains: the
/// file is removed then.
pub fn export(
    folder: &Path,
    output: &Path,
    mix: Mix,
    overwrite: bool,
    engine: &mut dyn Engine,
) -> Result<(Plan, Difference)> {
    let options = ConvertOptions {
        policy: Policy {
            mix,
            ..Policy::default()
        },
        overwrite,
        ..ConvertOptions::default()
    };
    // Beside it first: a file that fails the comparison replaces nothing.
    let directory = output
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if output.exists() && !overwrite {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("{} exists; it is only replaced when asked for", output.display()),
        ));
    }
    let scratch = tempfile::tempdir_in(directory).map_err(|e| Error::from(e).context(directory.display()))?;
    let candidate = scratch.path().join("model.gguf");
    let plan = convert(folder, &candidate, &options, &mut |_| ControlFlow::Continue(()))?;
    let difference = check_against(engine, &candidate)?;
    if difference.relative.is_nan() || difference.relative > allowed(mix) {
        return Err(Error::new(
            ErrorKind::Numeric,
            format!(
                "the exported file's logits are {:.3} deviations from the trainer's ({} allows {}); nothing was kept",
                difference.relative,
                mix.name(),
                allowed(mix)
            ),
        ));
    }
    std::fs::rename(&candidate, output).map_err(|e| Error::from(e).context(output.display()))?;
    Ok((plan, difference))
}
