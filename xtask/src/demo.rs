//! `cargo xtask demo`: a model writes, step by step.

use crate::Outcome;

/// The models that the demo runs. `models/` holds their cards.
const MODEL: &str = "models/little-world.gguf";
const BOOKS: &str = "models/storybook.gguf";

pub fn run() -> Outcome {
    let cargo = crate::cargo();
    crate::run(&cargo, &["build", "--release", "--package", "remask-cli"])?;
    let program = crate::root().join(target()).join("release/remask");
    let program = program.to_string_lossy();
    println!("\n-- a question, all slots of the answer at once, the surest first --");
    let prompt = "Once upon a time Lucy met a brown owl near the bridge. The owl said hoot. Who was there?";
    let common = ["--visual", "--delay"];
    let generate = [
        "generate", "-m", MODEL, "-p", prompt, "-n", "16", common[0], common[1], "120",
    ];
    crate::run(&program, &generate)?;
    println!("\n-- a story that goes on, left to right by blocks of 16 --");
    let prompt = "Once upon a time Mary met a";
    let generate = [
        "generate",
        "-m",
        MODEL,
        "-p",
        prompt,
        "-n",
        "48",
        "--block-length",
        "16",
        "--raw",
        "--temperature",
        "0.6",
        "--seed",
        "3",
        common[0],
        common[1],
        "60",
    ];
    crate::run(&program, &generate)?;
    println!("\n-- holes in the middle of a sentence --");
    let text = "Once upon a time Tom met a[[1]] duck near the river. The duck said[[1]]. Tom gave it bread, and they were[[1]].";
    crate::run(
        &program,
        &["infill", "-m", MODEL, text, common[0], common[1], "250"],
    )?;
    println!("\n-- holes in real prose, by a model that has read children's books --");
    for text in [
        "The old man sat[[6]] and looked at the[[2]]. He was very[[1]].",
        "Once upon a time there was a[[2]] who lived in a[[2]].",
    ] {
        crate::run(
            &program,
            &["infill", "-m", BOOKS, text, common[0], common[1], "150"],
        )?;
    }
    Ok(())
}

/// Cargo's target folder, relative to the root or absolute.
pub fn target() -> String {
    std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned())
}
