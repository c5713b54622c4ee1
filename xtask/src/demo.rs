//! `cargo xtask demo`: a model writes, step by step.

use crate::Outcome;

/// The model that the demo runs. `models/` holds its card.
const MODEL: &str = "models/random-tiny.gguf";

pub fn run() -> Outcome {
    let cargo = crate::cargo();
    crate::run(&cargo, &["build", "--release", "--package", "remask-cli"])?;
    let program = crate::root().join(target()).join("release/remask");
    let program = program.to_string_lossy();
    println!("\n-- a text, all slots at once, the surest first --");
    let prompt = "Once upon a time";
    crate::run(
        &program,
        &[
            "generate",
            "-m",
            MODEL,
            "-p",
            prompt,
            "-n",
            "32",
            "--block-length",
            "16",
            "--raw",
            "--visual",
            "--delay",
            "80",
            "--seed",
            "1",
        ],
    )?;
    println!("\n-- holes in the middle of a sentence --");
    crate::run(
        &program,
        &[
            "infill",
            "-m",
            MODEL,
            "The [[4]] sat on the [[3]].",
            "--visual",
            "--delay",
            "250",
        ],
    )
}

/// Cargo's target folder, relative to the root or absolute.
pub fn target() -> String {
    std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned())
}
