//! The command as a user calls it, killed at any moment.

#[path = "common/command.rs"]
mod command;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use command::{newest, prepare, said, train};

#[test]
fn killed_at_any_moment_it_loses_the_steps_since_the_last_checkpoint_alone() {
    let folder = tempfile::tempdir().unwrap();
    // REMASK_KILLS=200 for so many, of shorter runs.
    let wanted = std::env::var("REMASK_KILLS").ok().and_then(|n| n.parse().ok());
    let wanted: u64 = wanted.unwrap_or(1);
    let steps = if wanted > 1 { 40 } else { 120 };
    let config = prepare(folder.path(), steps);
    let config = config.to_str().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let began = Instant::now();
    let out = train(&["run", config, "-o", whole.to_str().unwrap()]);
    let alone = began.elapsed();
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).contains("all updates are done") && said(&out).contains("held out"));

    let began = Instant::now();
    let (mut deaths, mut scale) = (0, 1.0);
    while deaths < wanted {
        let _ = std::fs::remove_dir_all(&killed);
        let before = deaths;
        for i in 0.. {
            let command = ["run", config, "-q", "-o", killed.to_str().unwrap()];
            // At places that fall anywhere in a step or a write, and late enough that it gets on.
            let share = 0.25 + (deaths as f64 * 0.618_034).fract();
            let patience = alone.mul_f64(share * scale);
            match killed_after(&command, patience) {
                Some(status) => {
                    assert!(status.success());
                    break;
                }
                None => deaths += 1,
            }
            // As a kill leaves it that comes while metrics are written.
            let _ = std::fs::write(killed.join(".remask-half"), "half");
            assert!(i < 300, "it does not get on");
        }
        if deaths == before {
            // The machine has become faster.
            scale *= 0.5;
            assert!(scale > 0.01, "it was never killed");
        }
        check_killed(&whole, &killed, steps, deaths);
    }
    println!(
        "trainer: {deaths} kills, 0 lost, {:.0} s",
        began.elapsed().as_secs_f64()
    );
}

/// The run that was killed has come to what the other one did.
fn check_killed(whole: &Path, killed: &Path, steps: u32, deaths: u64) {
    let state = |run: &Path| std::fs::read(newest(run).unwrap().join("trainer.safetensors")).unwrap();
    assert!(newest(whole).unwrap().ends_with(format!("step-{steps:08}")));
    assert_eq!(state(whole), state(killed), "after {deaths} deaths");
    let lines = |run: &Path| {
        let text = std::fs::read_to_string(run.join("metrics.csv")).unwrap();
        text.lines()
            .filter(|l| l.split(',').nth(1).is_some_and(|x| !x.is_empty()))
            .count()
    };
    assert_eq!(lines(killed), lines(whole));
    // Nothing half written is left.
    let left = std::fs::read_dir(killed).unwrap().flatten();
    let left: Vec<_> = left
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!left.iter().any(|n| n.starts_with('.')), "{left:?}");
}

/// Runs the command; its status, or `None` when it had to be killed.
fn killed_after(args: &[&str], patience: Duration) -> Option<std::process::ExitStatus> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_remask-train"))
        .args(args)
        .spawn()
        .unwrap();
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if start.elapsed() > patience {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_export_that_is_killed_leaves_the_old_file_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = prepare(folder.path(), 3);
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let run = at("run");
    let out = train(&["run", config.to_str().unwrap(), "-q", "-o", &run]);
    assert!(out.status.success(), "{}", said(&out));
    let types = ["f32", "q8_0"];
    let references = types.map(|ty| {
        let file = at(&format!("{ty}.gguf"));
        let out = train(&["export", &run, "-o", &file, "--type", ty, "-q"]);
        assert!(out.status.success(), "{}", said(&out));
        std::fs::read(file).unwrap()
    });
    let wanted = std::env::var("REMASK_KILLS").ok().and_then(|n| n.parse().ok());
    let wanted: u64 = wanted.unwrap_or(4);
    let output = at("out/model.gguf");
    std::fs::create_dir(at("out")).unwrap();
    std::fs::write(&output, &references[0]).unwrap();
    let (mut deaths, mut news) = (0, 0);
    for i in 0.. {
        if deaths >= wanted && news > 0 {
            break;
        }
        let ty = types[i as usize % 2];
        let args = ["export", &run, "-o", &output, "--type", ty, "--force", "-q"];
        let patience = match i % 9 {
            8 => Duration::from_secs(60),
            _ => Duration::from_millis(5 + (37 * i) % 160),
        };
        match killed_after(&args, patience) {
            Some(status) => {
                assert!(status.success());
                news += 1;
            }
            None => deaths += 1,
        }
        let now = std::fs::read(&output).unwrap();
        assert!(
            references.contains(&now),
            "after {deaths} deaths the file is another"
        );
        assert!(i < 3000, "it is never killed");
    }
    println!("trainer's export: {deaths} kills, 0 lost");
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
