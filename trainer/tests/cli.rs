//! The command as a user calls it, killed at any moment.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn train(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_remask-train"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Texts, tokenizer, shards and a configuration.
fn prepare(folder: &Path, steps: u32) -> PathBuf {
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

fn newest(run: &Path) -> Option<PathBuf> {
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

#[test]
fn killed_at_any_moment_it_loses_the_steps_since_the_last_checkpoint_alone() {
    let folder = tempfile::tempdir().unwrap();
    let config = prepare(folder.path(), 120);
    let config = config.to_str().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let out = train(&["run", config, "-o", whole.to_str().unwrap()]);
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).contains("all updates are done") && said(&out).contains("held out"));

    let began = Instant::now();
    let mut deaths = 0;
    for i in 0.. {
        let mut child = Command::new(env!("CARGO_BIN_EXE_remask-train"))
            .args(["run", config, "-q", "-o", killed.to_str().unwrap()])
            .spawn()
            .unwrap();
        // Later each time, so that it ends; at places that fall anywhere in a step or a write.
        let patience = Duration::from_millis(150 + 83 * i);
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if start.elapsed() > patience {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(3));
        };
        match status {
            Some(status) => {
                assert!(status.success());
                break;
            }
            None => deaths += 1,
        }
        assert!(began.elapsed() < Duration::from_secs(120), "it does not get on");
    }
    assert!(deaths > 0);
    let state = |run: &Path| std::fs::read(newest(run).unwrap().join("trainer.safetensors")).unwrap();
    assert!(newest(&whole).unwrap().ends_with("step-00000120"));
    assert_eq!(state(&whole), state(&killed), "after {deaths} deaths");
    let lines = |run: &Path| {
        let text = std::fs::read_to_string(run.join("metrics.csv")).unwrap();
        text.lines()
            .filter(|l| l.split(',').nth(1).is_some_and(|x| !x.is_empty()))
            .count()
    };
    assert_eq!(lines(&killed), lines(&whole));
    // Nothing half written is left.
    let left = std::fs::read_dir(&killed).unwrap().flatten();
    let left: Vec<_> = left
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!left.iter().any(|n| n.starts_with('.')), "{left:?}");
}

/// A limit on the size of files stands in for a full disk: writes fail in the middle of a checkpoint.
#[cfg(unix)]
#[test]
fn a_checkpoint_that_does_not_fit_is_one_line_and_the_one_before_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let config = prepare(folder.path(), 20);
    let (config, run) = (config.to_str().unwrap(), folder.path().join("run"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_remask-train"))
        .args([
            "run",
            config,
            "-q",
            "-o",
            run.to_str().unwrap(),
            "--set",
            "run.prompts=['The']",
        ])
        .spawn()
        .unwrap();
    while newest(&run).is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = newest(&run).unwrap();
    assert!(!before.ends_with("step-00000020"), "it was too fast to be killed");
    // In units of 512 or 1024 bytes: less than the optimiser's state, more than the weights.
    let script = format!(
        "trap '' XFSZ; ulimit -f 300; exec {} run {config} -o {} --plain",
        env!("CARGO_BIN_EXE_remask-train"),
        run.display()
    );
    let out = Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = said(&out);
    assert_eq!(out.status.code(), Some(3), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("remask-train: ") && last.contains(".safetensors"),
        "{text}"
    );
    assert_eq!(newest(&run).unwrap(), before, "{text}");
    let names = std::fs::read_dir(&run).unwrap().flatten();
    let names: Vec<_> = names
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!names.iter().any(|n| n.starts_with('.')), "{names:?}");
    let out = train(&["run", config, "-q", "-o", run.to_str().unwrap()]);
    assert!(out.status.success(), "{}", said(&out));
    assert!(newest(&run).unwrap().ends_with("step-00000020"));
}

#[test]
fn mistakes_are_one_line_with_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let config = prepare(folder.path(), 3);
    let config = config.to_str().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (args, code, word) in [
        (vec!["run", "nowhere.toml", "-o", &at("a")], 3, "demo-cpu"),
        (
            vec!["run", config, "-o", &at("a"), "--set", "run.bach=3"],
            2,
            "bach",
        ),
        (
            vec!["run", config, "-o", &at("a"), "--set", "run"],
            2,
            "section.key=value",
        ),
        (
            vec!["run", config, "-o", &at("a"), "--set", "run.init_from=/nowhere"],
            3,
            "/nowhere",
        ),
        (vec!["export", &at("nowhere"), "-o", &at("m.gguf")], 3, "nowhere"),
        (vec!["export", &at("data"), "-o", &at("m.gguf")], 3, "checkpoint"),
        (vec!["config", "nothing"], 2, "llada-8b-pretrain"),
        (
            vec!["run", config, "-o", &at("a"), "--set", "run.device=cuda"],
            2,
            "the engine flex has cpu",
        ),
        (
            vec!["export", "--adapter", &at("nowhere"), "-o", &at("m.gguf")],
            3,
            "nowhere",
        ),
        (
            vec!["tokenizer", "--from", &at("data"), "-o", &at("t3")],
            3,
            "checkpoint",
        ),
        (
            vec!["tokenizer", "-o", &at("tok"), &at("texts.jsonl")],
            2,
            "already",
        ),
        (
            vec![
                "tokenizer",
                "--vocab-size",
                "5",
                "-o",
                &at("t2"),
                &at("texts.jsonl"),
            ],
            2,
            "262",
        ),
        (
            vec![
                "prepare",
                "--tokenizer",
                &at("tok"),
                "-o",
                &at("d2"),
                "/nowhere.jsonl",
            ],
            3,
            "/nowhere.jsonl",
        ),
        (
            vec![
                "prepare",
                "--tokenizer",
                &at("data"),
                "-o",
                &at("d2"),
                &at("texts.jsonl"),
            ],
            3,
            "tokenizer.json",
        ),
        (
            vec!["plot", &at("nowhere"), "-o", &at("x.svg")],
            3,
            "metrics.jsonl",
        ),
    ] {
        let out = train(&args);
        let text = said(&out);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {text}");
        assert!(
            text.contains(word) && text.lines().count() <= 8,
            "{args:?}: {text}"
        );
        assert!(!text.contains("panicked"), "{args:?}: {text}");
    }
    assert!(!folder.path().join("d2/manifest.json").exists());
    let out = train(&["run", config, "-q", "-o", &at("run")]);
    assert!(out.status.success(), "{}", said(&out));
    for ty in ["f32", "q8_0"] {
        let out = train(&["export", &at("run"), "-o", &at("m.gguf"), "--type", ty, "--force"]);
        assert!(out.status.success(), "{}", said(&out));
    }
    let out = train(&["export", &at("run"), "-o", &at("m.gguf")]);
    assert_eq!(out.status.code(), Some(2), "{}", said(&out));
    let out = train(&["plot", &at("run"), "-o", &at("curve.svg")]);
    assert!(out.status.success(), "{}", said(&out));
    let svg = std::fs::read_to_string(at("curve.svg")).unwrap();
    assert!(svg.contains("<polyline") && svg.trim_end().ends_with("</svg>"));
}
