//! `cargo xtask torture`: the long forms of the tests that look for a way to take the host down. Each part that
//! passed is noted in target/torture, so that a run that was stopped goes on where it was; the figures are printed
//! at the end. docs/reliability.md has those that were reached.

use std::path::PathBuf;
use std::process::Command;

use crate::Outcome;

struct Part {
    name: &'static str,
    args: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
}

const PARTS: &[Part] = &[
    Part {
        name: "hostile",
        args: &["--test", "hostile"],
        env: &[],
    },
    Part {
        name: "aborts",
        args: &["--test", "aborts"],
        env: &[],
    },
    Part {
        name: "fuzz",
        args: &["--test", "fuzz"],
        env: &[("REMASK_FUZZ_SECONDS", "300"), ("REMASK_FUZZ_SEED", "99")],
    },
    Part {
        name: "faults",
        args: &["--test", "capi", "every_fault"],
        env: &[("REMASK_TEST_LONG", "long")],
    },
    Part {
        name: "faults, programs",
        args: &["--test", "faults"],
        env: &[("REMASK_TEST_LONG", "long")],
    },
    Part {
        name: "files",
        args: &["--test", "files"],
        env: &[],
    },
    Part {
        name: "threads",
        args: &["--test", "capi", "sessions_each_agree"],
        env: &[],
    },
    Part {
        name: "open and close",
        args: &["--test", "capi", "opened_and_closed"],
        env: &[],
    },
    Part {
        name: "cancel",
        args: &["--test", "cancel"],
        env: &[("REMASK_CANCELS", "200")],
    },
    Part {
        name: "soak",
        args: &["--test", "soak"],
        env: &[("REMASK_SOAK", "10000")],
    },
    Part {
        name: "killed",
        args: &["--test", "cli", "killed"],
        env: &[("REMASK_KILLS", "200")],
    },
];

pub fn run(again: bool) -> Outcome {
    let folder = notes();
    if again {
        let _ = std::fs::remove_dir_all(&folder);
    }
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut failed = Vec::new();
    for part in PARTS {
        let note = folder.join(part.name);
        if note.exists() {
            println!("{}: passed before", part.name);
            continue;
        }
        match figures(part) {
            Ok(lines) => std::fs::write(&note, lines).map_err(|e| format!("{}: {e}", note.display()))?,
            Err(message) => {
                eprintln!("{message}");
                failed.push(part.name);
            }
        }
    }
    println!();
    for part in PARTS {
        let lines = std::fs::read_to_string(folder.join(part.name)).unwrap_or("FAILED\n".to_owned());
        lines.lines().for_each(|line| println!("{:<18}{line}", part.name));
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("not passed: {}", failed.join(", "))),
    }
}

fn notes() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from);
    target.join("torture")
}

/// Runs a part; the lines of its output that are figures.
fn figures(part: &Part) -> Result<String, String> {
    println!("{} ...", part.name);
    let output = Command::new(crate::cargo())
        // All packages, so that what was built for the tests is what runs.
        .args(["test", "--workspace"])
        .args(part.args)
        .args(
            (part.name != "hostile")
                .then_some(["--", "--include-ignored", "--nocapture"])
                .into_iter()
                .flatten(),
        )
        .envs(part.env.iter().copied())
        .current_dir(crate::root())
        .output()
        .map_err(|e| format!("cargo does not start: {e}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}\n{said}{errors}", part.name, output.status));
    }
    let wanted = [
        " inputs, ",
        " points, ",
        " rounds: ",
        " kills, ",
        " differ",
        "test result: ",
    ];
    let lines = said.lines().filter(|l| wanted.iter().any(|w| l.contains(w)));
    Ok(lines.map(|l| format!("{l}\n")).collect())
}
