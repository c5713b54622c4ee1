//! `remask bench --against`: this build and another take the same measurement in turn.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::args::BenchArgs;
use crate::output::{Bar, Failure, Outcome, invalid};

/// Seconds by case, a value for each round.
type Times = BTreeMap<String, [Vec<f64>; 2]>;

pub fn run(args: &BenchArgs, model: &Path, command: &str, quiet: bool) -> Outcome {
    let mut words = command.split_whitespace();
    let Some(program) = words.next() else {
        return Err(invalid(
            "--against: name a program, such as another build of remask",
        ));
    };
    let this = std::env::current_exe()?;
    let options = options(args, model);
    let mut times = Times::new();
    let mut bar = Bar::new(quiet);
    let rounds = args.lengths.rounds;
    for round in 0..rounds {
        let mut ours = Command::new(&this);
        ours.arg("bench");
        if let Some(kernels) = &args.kernels {
            ours.args(["--kernels", kernels]);
        }
        let mut theirs = Command::new(program);
        theirs.args(words.clone());
        // Who comes second finds the file in memory and the processor warm: they change places.
        let mut both = [(0, &mut ours), (1, &mut theirs)];
        if round % 2 == 1 {
            both.reverse();
        }
        for (which, command) in both {
            measure(command.args(&options), which, &mut times)?;
        }
        bar.show(round as u64 + 1, rounds as u64, "measuring");
    }
    bar.clear();
    print(args, command, &times)
}

/// The options that both are called with: the measurement's, and JSON to read.
fn options(args: &BenchArgs, model: &Path) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec!["-m".into(), model.into(), "--json".into()];
    let mut add = |name: &str, value: String| all.extend([name.into(), value.into()]);
    if args.model.threads > 0 {
        add("-t", args.model.threads.to_string());
    }
    add("--device", args.model.device.clone());
    let list = |values: &[usize]| {
        values
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    if args.lengths.answers.is_empty() {
        add("--canvas", args.canvas.to_string());
        add("--rows", args.rows.to_string());
        add("--steps", args.steps.to_string());
    } else {
        add("--answers", list(&args.lengths.answers));
        add("--prompts", list(&args.lengths.prompts));
        add("--block-length", args.answers.block_length.to_string());
        add("--rounds", "1".into());
        if let Some(seconds) = args.lengths.seconds {
            add("--seconds", seconds.to_string());
        }
        for policy in &args.answers.policy {
            add("--policy", policy.clone());
        }
    }
    all
}

/// Runs `command` and takes the times out of what it prints: one object, or one for each case.
fn measure(command: &mut Command, which: usize, times: &mut Times) -> Result<(), Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|e| invalid(format!("{name} does not start: {e}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        return Err(invalid(format!("{name} failed ({}): {last}", output.status)));
    }
    let mut found = false;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let whole = line["seconds"].as_f64();
        let Some(seconds) = whole.or(line["step_s"].as_f64()) else {
            continue;
        };
        let case = match (whole, line["policy"].as_str()) {
            (Some(_), Some(policy)) => format!("{} + {} {policy}", line["prompt"], line["answer"]),
            _ => "step".to_owned(),
        };
        times.entry(case).or_default()[which].push(seconds);
        found = true;
    }
    if !found {
        return Err(invalid(format!(
            "{name} printed no object with `step_s` or `seconds`; it is called with the options of remask bench"
        )));
    }
    Ok(())
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(args: &BenchArgs, command: &str, times: &Times) -> Outcome {
    let mut out = std::io::stdout().lock();
    if !args.json {
        writeln!(
            out,
            "medians of {} rounds; against: {command}\n\n{:>10}  {:>10}  {:>6}  what",
            args.lengths.rounds, "this, s", "against, s", "ratio"
        )?;
    }
    for (case, [ours, theirs]) in times {
        let (ours, theirs) = (median(ours), median(theirs));
        let ratio = theirs / ours;
        if args.json {
            let line = json!({"case": case, "seconds": ours, "against_seconds": theirs, "ratio": ratio});
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{ours:>10.4}  {theirs:>10.4}  {ratio:>6.2}  {case}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_by_case_and_a_program_without_any_is_refused() {
        let mut times = Times::new();
        let mut echo = |text: &str, which| measure(Command::new("echo").arg(text), which, &mut times);
        echo(r#"{"step_s": 0.5, "rows": 3}"#, 0).unwrap();
        echo(r#"{"step_s": 1.5}"#, 1).unwrap();
        echo(
            r#"{"prompt": 32, "answer": 96, "policy": "exact", "seconds": 3}"#,
            1,
        )
        .unwrap();
        let Err(Failure::Error(error)) = echo("nothing", 0) else {
            panic!("accepted");
        };
        assert!(error.message().contains("step_s"), "{error}");
        assert_eq!(times["step"], [vec![0.5], vec![1.5]]);
        assert_eq!(times["32 + 96 exact"], [vec![], vec![3.0]]);
        assert!(measure(&mut Command::new("no-such-program-here"), 0, &mut times).is_err());
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }
}
