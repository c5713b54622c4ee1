//! What the integration tests share.
#![allow(dead_code, unused_imports)] // every test uses a part of it

pub mod native;
pub mod synthetic;
mod vectors;

use std::path::{Path, PathBuf};

pub use vectors::{Array, Arrays, json, lay_over};

/// As [`vectors::vectors_dir`], with the log on stderr.
pub fn vectors_dir() -> PathBuf {
    show_log();
    vectors::vectors_dir()
}

/// As [`vectors::hostile_dir`], with the log on stderr.
pub fn hostile_dir() -> PathBuf {
    show_log();
    vectors::hostile_dir()
}

/// Prints the library's warnings and errors: without a sink they would be lost.
pub fn show_log() {
    remask::log::set_log_sink(Some(Box::new(|level, text| {
        if level >= remask::log::Level::Warn {
            eprintln!("{level:?}: {text}");
        }
    })));
}

/// A prompt of `n_prompt` tokens and so many masked slots after it.
pub fn canvas(session: &remask::Session, n_prompt: usize, n_masked: usize) -> remask::Canvas {
    let mut canvas = remask::Canvas::new(session.model().mask_token());
    let prompt: Vec<u32> = (0..n_prompt as u32).map(|i| 20 + 7 * i % 300).collect();
    canvas.push_fixed(&prompt);
    canvas.push_masked(n_masked).unwrap();
    canvas
}

/// As [`convert_golden`], with another mask token.
pub fn convert_with_mask(name: &str, mask: u64, folder: &Path) -> PathBuf {
    let source = vectors_dir().join("checkpoints").join(name);
    let copy = folder.join(format!("{name}-{mask}"));
    std::fs::create_dir_all(&copy).unwrap();
    for file in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::write(copy.join(file), std::fs::read(source.join(file)).unwrap()).unwrap();
    }
    let mut config = json(&source.join("config.json"));
    config["mask_token_id"] = mask.into();
    std::fs::write(copy.join("config.json"), config.to_string()).unwrap();
    convert_folder(&copy, &folder.join(format!("{name}-{mask}.gguf")))
}

/// Converts golden checkpoint `name` to a file in `folder` with F32 matrices.
pub fn convert_golden(name: &str, folder: &Path) -> PathBuf {
    let dir = vectors_dir().join("checkpoints").join(name);
    convert_folder(&dir, &folder.join(format!("{name}.gguf")))
}

fn convert_folder(dir: &Path, output: &Path) -> PathBuf {
    use remask::convert::{ConvertOptions, convert};
    use remask::quantize::{Mix, Policy};
    let options = ConvertOptions {
        policy: Policy {
            mix: Mix::F32,
            ..Policy::default()
        },
        overwrite: true,
        ..ConvertOptions::default()
    };
    convert(
        dir,
        output,
        &options,
        &mut |_| std::ops::ControlFlow::Continue(()),
    )
    .unwrap();
    output.to_owned()
}
