//! What a checkpoint writes, in the runtime.

use std::ops::ControlFlow;
use std::path::Path;

use remask::convert::{ConvertOptions, convert};
use remask::quantize::{Mix, Policy};
use remask::text::Special;
use remask::{Canvas, GenerateParams, LoadOptions, Model, Params, Result, Session, SessionOptions};

/// Goes on from `prompt` with `n_tokens`, with the checkpoint in `folder` as a file of its own kind.
///
/// # Errors
/// What conversion and runtime report.
pub fn write(folder: &Path, prompt: &str, n_tokens: usize) -> Result<String> {
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("sample.gguf");
    let options = ConvertOptions {
        policy: Policy {
            mix: Mix::F32,
            ..Policy::default()
        },
        ..ConvertOptions::default()
    };
    convert(folder, &file, &options, &mut |_| ControlFlow::Continue(()))?;
    let model = Model::load(&file, &LoadOptions::default())?;
    let mut session = Session::new(&model, &SessionOptions::default())?;
    let mut canvas = Canvas::new(model.mask_token());
    canvas.push_fixed(&model.tokenizer().encode(prompt, Special::AsText)?);
    canvas.push_masked(n_tokens)?;
    let params = GenerateParams {
        denoise: Params {
            temperature: 0.5,
            block_length: 16,
            ..Params::default()
        },
        ..GenerateParams::default()
    };
    session.generate(&mut canvas, &params, |_, _| ControlFlow::Continue(()))?;
    Ok(model.tokenizer().decode(canvas.tokens(), false))
}
