//! The command `remask-train`, and what it works on.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub fn train(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_remask-train"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

pub fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Texts, tokenizer, shards and a configuration.
pub fn prepare(folder: &Path, steps: u32) -> PathBuf {
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let texts: String = (0..100)
        .map(|i| format!("{{\"text\": \"The {i}th hen sat on the pen, and the pen was old.\"}}\n"))
        .collect();
    std::fs::write(at("texts.jsonl"), texts).unwrap();
    let out = train(&[
        "tokenizer",
        "--vocab-size",
        "300",
        "-o",
        &at("tok"),
        &at("texts.jsonl"),
    ]);
    assert!(out.status.success(), "{}", said(&out));
    let out = train(&[
        "prepare",
        "--tokenizer",
        &at("tok"),
        "-o",
        &at("data"),
        &at("texts.jsonl"),
    ]);
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).contains("100 documents"), "{}", said(&out));
    let config = folder.join("run.toml");
    let text = format!(
        "[model]\nd_model = 32\nn_layers = 2\nn_heads = 2\nmlp_hidden_size = 64\n\
         [data]\ntrain = ['{}']\neval = '{}'\nlength = 32\n\
         [run]\ntokenizer = '{}'\nsteps = {steps}\nbatch = 4\neval_every = 20\ncheckpoint_every = 5\nema = 0.9\n",
        at("data"),
        at("data"),
        at("tok")
    );
    std::fs::write(&config, text).unwrap();
    config
}

pub fn newest(run: &Path) -> Option<PathBuf> {
    let names = std::fs::read_dir(run)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path());
    let mut all: Vec<_> = names
        .filter(|p| {
            p.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("step-"))
        })
        .collect();
    all.sort();
    all.pop()
}
