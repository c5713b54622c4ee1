//! The trainer with calls of the system that fail: checkpoints and exports are whole or not there, and the
//! next run goes on as if nothing had been.
#![cfg(unix)]

#[path = "common/command.rs"]
mod command;
#[path = "../../tests/common/preload.rs"]
mod preload;

use std::path::Path;
use std::process::{Command, Output};

use command::{newest, prepare, said, train};
use preload::{Mount, Preload, names};

/// Kinds of calls; all of them where the long form is asked for.
fn kinds() -> &'static [&'static str] {
    match std::env::var_os("REMASK_TEST_LONG") {
        Some(_) => &["write", "short", "sync", "rename", "thread"],
        None => &["write", "rename"],
    }
}

fn state(run: &Path) -> Vec<u8> {
    std::fs::read(newest(run).unwrap().join("trainer.safetensors")).unwrap()
}

#[test]
fn a_run_whose_calls_fail_ends_with_a_line_and_goes_on_later() {
    let Some(preload) = Preload::build() else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = prepare(folder.path(), 10);
    let config = config.to_str().unwrap();
    let at = |name: &str| folder.path().join(name);
    let out = train(&["run", config, "-q", "-o", at("whole").to_str().unwrap()]);
    assert!(out.status.success(), "{}", said(&out));
    let expected = state(&at("whole"));
    let run = at("run");
    let args = ["run", config, "-q", "-o", run.to_str().unwrap()];
    for &kind in kinds() {
        for again in [false, true] {
            let n = preload.sweep(
                kind,
                again,
                || {
                    let mut command = Command::new(env!("CARGO_BIN_EXE_remask-train"));
                    command.args(args);
                    command
                },
                |out| {
                    if !out.status.success() {
                        assert!(said(out).contains("remask-train: "), "{}", said(out));
                        let out = train(&args);
                        assert!(out.status.success(), "{}", said(&out));
                    }
                    assert_eq!(state(&run), expected, "{kind}");
                    let left: Vec<_> = names(&run).into_iter().filter(|n| n.starts_with('.')).collect();
                    assert!(left.is_empty(), "{left:?}");
                    std::fs::remove_dir_all(&run).unwrap();
                },
            );
            println!(
                "trainer, {kind}{}: {n} points, 0 fell",
                if again { " from then on" } else { "" }
            );
            assert!(n > 0 || kind == "thread", "no {kind}");
        }
    }
}

#[test]
fn an_export_whose_calls_fail_replaces_nothing() {
    let Some(preload) = Preload::build() else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = prepare(folder.path(), 3);
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let run = at("run");
    let out = train(&["run", config.to_str().unwrap(), "-q", "-o", &run]);
    assert!(out.status.success(), "{}", said(&out));
    let target = folder.path().join("out");
    std::fs::create_dir(&target).unwrap();
    let output = target.join("model.gguf");
    let args = ["export", &run, "-o", output.to_str().unwrap(), "--force", "-q"];
    assert!(train(&args).status.success());
    let expected = std::fs::read(&output).unwrap();
    let check = |out: &Output| {
        let now = std::fs::read(&output).unwrap();
        assert_eq!(now == expected, out.status.success(), "{}", said(out));
        assert!(out.status.success() || now == b"old", "{}", said(out));
        assert_eq!(names(&target), ["model.gguf"], "{}", said(out));
        std::fs::write(&output, "old").unwrap();
    };
    std::fs::write(&output, "old").unwrap();
    for &kind in kinds() {
        let n = preload.sweep(
            kind,
            false,
            || {
                let mut command = Command::new(env!("CARGO_BIN_EXE_remask-train"));
                command.args(args);
                command
            },
            check,
        );
        println!("trainer's export, {kind}: {n} points, 0 fell");
        assert!(n > 0 || kind == "thread", "no {kind}");
    }
    // A disk that is full, and one that is read-only.
    let Some(small) = Mount::new(16 << 10) else { return };
    let inside = small.path().join("model.gguf");
    let args = ["export", &run, "-o", inside.to_str().unwrap(), "-q"];
    for closed in [false, true] {
        if closed {
            small.close();
        }
        let out = train(&args);
        assert_eq!(out.status.code(), Some(3), "{}", said(&out));
        assert!(names(small.path()).is_empty(), "{:?}", names(small.path()));
    }
}

/// Minutes that end a run are those of the monotonic clock.
#[test]
fn jumps_of_the_wall_clock_neither_end_a_run_nor_change_it() {
    let Some(preload) = Preload::build() else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = prepare(folder.path(), 10);
    let config = config.to_str().unwrap();
    let at = |name: &str| folder.path().join(name);
    let out = train(&["run", config, "-q", "-o", at("still").to_str().unwrap()]);
    assert!(out.status.success(), "{}", said(&out));
    for (i, seconds) in [3600i64, 86_400 * 365].into_iter().enumerate() {
        let run = at(&format!("jumps-{i}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_remask-train"));
        command.args([
            "run",
            config,
            "-q",
            "-o",
            run.to_str().unwrap(),
            "--set",
            "run.max_minutes=10",
        ]);
        preload.jump(&mut command, seconds);
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
        assert!(newest(&run).unwrap().ends_with("step-00000010"), "{}", said(&out));
    }
}
