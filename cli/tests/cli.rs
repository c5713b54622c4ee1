//! The command as a user calls it: its output, its mistakes, its exit codes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn model() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let found = std::fs::read_dir(folder).unwrap().flatten().map(|e| e.path());
    let mut models: Vec<_> = found
        .filter(|p| p.extension().is_some_and(|e| e == "gguf"))
        .collect();
    models.sort();
    models.remove(0)
}

fn remask(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_remask"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn with_model(command: &str, args: &[&str]) -> Output {
    let model = model();
    let mut all = vec![command, "-m", model.to_str().unwrap()];
    all.extend(args);
    remask(&all)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn generate_is_the_same_every_time() {
    let args = [
        "-p",
        "hello",
        "-n",
        "16",
        "--raw",
        "--temperature",
        "0.9",
        "--seed",
        "5",
        "-q",
    ];
    let (a, b) = (with_model("generate", &args), with_model("generate", &args));
    assert!(a.status.success(), "{}", text(&a.stderr));
    assert_eq!(a.stdout, b.stdout);
    assert!(a.stderr.is_empty(), "{}", text(&a.stderr));
    assert!(!a.stdout.is_empty());
}

#[test]
fn json_events_come_line_by_line() {
    let out = with_model(
        "generate",
        &["-p", "hello", "-n", "8", "--full", "--raw", "--json"],
    );
    let events: Vec<serde_json::Value> = text(&out.stdout)
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(events.first().unwrap()["event"], "start");
    assert_eq!(events.last().unwrap()["event"], "end");
    let steps: Vec<_> = events.iter().filter(|e| e["event"] == "step").collect();
    assert_eq!(steps.len(), 8);
    assert_eq!(steps.last().unwrap()["masked"], 0);
    assert_eq!(events.last().unwrap()["nfe"], 8);
}

#[test]
fn visual_without_a_terminal_is_plain_text() {
    let out = with_model(
        "generate",
        &["-p", "hello", "-n", "8", "--full", "--raw", "--visual"],
    );
    let shown = text(&out.stdout);
    assert_eq!(shown.lines().filter(|l| l.starts_with("step ")).count(), 8);
    assert!(!shown.contains('\u{1b}'), "escape codes in a pipe");
}

#[test]
fn infill_keeps_the_text_around_its_holes() {
    for hole in ["[[4]]", "[[...]]"] {
        let out = with_model(
            "infill",
            &[&format!("The {hole} sat on the [[3]]."), "--max-hole", "4", "-q"],
        );
        assert!(out.status.success(), "{}", text(&out.stderr));
        let filled = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(
            filled.starts_with("The ") && filled.contains(" sat on the ") && filled.trim_end().ends_with('.')
        );
    }
}

#[test]
fn chat_reads_lines_and_knows_its_commands() {
    let model = model();
    let mut child = Command::new(env!("CARGO_BIN_EXE_remask"))
        .args(["chat", "-n", "8", "-q", "-m", model.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"/help\nhello\n/nonsense\n/length 4\nagain\n/quit\n")
        .unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    assert!(String::from_utf8_lossy(&out.stdout).contains("/reset"));
    assert!(text(&out.stderr).contains("/nonsense is no command"));
}

#[test]
fn inspect_shows_the_file_and_speaks_json() {
    let model = model();
    let out = remask(&["inspect", model.to_str().unwrap()]);
    let shown = text(&out.stdout);
    for word in [
        "family      llada",
        "token_embd.weight",
        "tokenizer.ggml.mask_token_id",
        "memory",
        "chat template",
    ] {
        assert!(shown.contains(word), "{word}");
    }
    let out = remask(&["inspect", "--json", model.to_str().unwrap()]);
    let value: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(value["family"]["name"], "llada");
    assert!(value["memory"]["session"].as_u64().unwrap() > 0);
}

#[test]
fn mistakes_name_the_thing_and_have_their_exit_codes() {
    let model = model();
    let model = model.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.gguf");
    let bytes = std::fs::read(model).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let cut = cut.to_str().unwrap();
    for (args, code, word) in [
        (
            vec!["generate", "-m", "nowhere.gguf", "-p", "x"],
            3,
            "nowhere.gguf",
        ),
        (vec!["generate", "-m", cut, "-p", "x"], 3, "cut short"),
        (
            vec!["generate", "-m", folder.path().to_str().unwrap(), "-p", "x"],
            3,
            "folder",
        ),
        (vec!["generate", "-m", model, "-p", ""], 2, "prompt is empty"),
        (
            vec!["generate", "-m", model, "-p", "x", "-n", "0"],
            2,
            "--gen-length",
        ),
        (
            vec!["generate", "-m", model, "-p", "x", "-n", "100000"],
            2,
            "slots",
        ),
        (
            vec!["generate", "-m", model, "-p", "x", "--temperature", "-1"],
            2,
            "temperature",
        ),
        (
            vec!["generate", "-m", model, "-p", "x", "--temperature", "NaN"],
            2,
            "temperature",
        ),
        (
            vec!["generate", "-m", model, "-p", "x", "--device", "CUDA7"],
            4,
            "CUDA7",
        ),
        (
            vec!["generate", "-m", model, "-p", "x", "--steps", "1", "-n", "64"],
            2,
            "steps",
        ),
        (vec!["generate", "-m", model, "-p", "x", "--bogus"], 2, "--bogus"),
        (vec!["generate", "-m", model], 2, "--prompt"),
        (
            vec!["generate", "-m", model, "-f", "/nowhere/prompt.txt"],
            3,
            "prompt.txt",
        ),
        (vec!["infill", "-m", model, "no hole"], 2, "no hole"),
        (vec!["convert", "/nowhere", "-o", "x.gguf"], 3, "/nowhere"),
        (vec!["inspect", cut], 3, "cut short"),
    ] {
        let out = remask(&args);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(word), "{args:?}: {said}");
        assert!(!said.contains("panicked"), "{args:?}: {said}");
    }
}

/// From a model to smaller ones, to what they cost, and back to a checkpoint.
#[test]
fn a_model_is_packed_compared_and_exported() {
    let model = model();
    let model = model.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let texts = at("texts.jsonl");
    let line =
        "{\"text\": \"the cat sat on the mat and then the dog sat on the log and all was well with them\"}\n";
    std::fs::write(&texts, line.repeat(3)).unwrap();
    let run = |args: &[&str]| {
        let out = remask(args);
        assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
        text(&out.stdout)
    };
    let (whole, small, matrix) = (at("whole.gguf"), at("small.gguf"), at("imatrix.gguf"));
    let plan = run(&["quantize", "--dry-run", model, "q8_0", "--requantize"]);
    assert!(
        plan.contains("blk.0.attn_q.weight") && plan.contains("nothing was written"),
        "{plan}"
    );
    run(&["quantize", model, &whole, "f16", "--requantize"]);
    run(&[
        "imatrix", "-m", &whole, "--data", &texts, "-o", &matrix, "--length", "32",
    ]);
    let again = remask(&["imatrix", "-m", &whole, "--data", &texts, "-o", &matrix]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("--force"));
    run(&["quantize", &whole, &small, "q4_0", "--imatrix", &matrix]);
    let compare = [
        "compare",
        &whole,
        &small,
        "--data",
        &texts,
        "--length",
        "32",
        "-t1",
        "--generations",
        "2",
    ];
    let table = run(&compare);
    assert!(
        table.contains("mask ratio") && table.contains("greedy"),
        "{table}"
    );
    let found: serde_json::Value = serde_json::from_str(&run(&[&compare[..], &["--json"]].concat())).unwrap();
    assert!(found["kl"]["mean"].as_f64().unwrap() > 0.0, "{found}");
    assert_eq!(found["samples"], 3);
    assert!(found["bytes_b"].as_u64() < found["bytes_a"].as_u64());

    let exported = at("hf");
    run(&["export", &whole, &exported]);
    let back = at("back.gguf");
    run(&["convert", &exported, "-o", &back, "--type", "f16"]);
    let same = run(&[
        "compare", &whole, &back, "--data", &texts, "--length", "32", "-t1", "--json",
    ]);
    let same: serde_json::Value = serde_json::from_str(&same).unwrap();
    assert_eq!(same["kl_max"], 0.0, "{same}");

    for (args, word) in [
        (vec!["quantize", &whole, &small, "q4_0"], "--force"),
        (vec!["quantize", &small, &at("x.gguf"), "q8_0"], "--requantize"),
        (vec!["quantize", &whole, &at("x.gguf"), "q9"], "q4_k_m"),
        (
            vec![
                "quantize",
                &whole,
                &at("x.gguf"),
                "q4_0",
                "--tensor-type",
                "nothing=q8_0",
            ],
            "nothing",
        ),
        (vec!["compare", &whole, &small, "--data", "/nowhere"], "/nowhere"),
        (vec!["compare", &whole, &texts, "--data", &texts], "texts.jsonl"),
        (vec!["export", &small, &at("y")], "only F32"),
    ] {
        let out = remask(&args);
        let said = text(&out.stderr);
        assert!(!out.status.success() && said.contains(word), "{args:?}: {said}");
        assert!(!folder.path().join("x.gguf").exists());
    }
}

#[test]
fn completions_are_there_for_shells() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            text(&remask(&["completions", shell]).stdout).contains("infill"),
            "{shell}"
        );
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_prints_what_is_there() {
    let model = model();
    // Many steps over the whole context take long enough to be interrupted.
    let child = Command::new(env!("CARGO_BIN_EXE_remask"))
        .args([
            "generate",
            "-m",
            model.to_str().unwrap(),
            "-p",
            "x",
            "--raw",
            "-n",
            "240",
            "--full",
            "-t",
            "1",
            "-b",
            "0",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(400));
    let done = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    let out = child.wait_with_output().unwrap();
    // On a very fast machine it may have finished before.
    if done.success() && !out.status.success() {
        assert_eq!(out.status.code(), Some(130), "{}", text(&out.stderr));
        assert!(!out.stdout.is_empty());
    }
}

#[test]
fn whole_answers_are_measured_per_policy() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("questions.jsonl");
    let lines = "{\"prompt\": \"What does a duck say?\", \"response\": \"A duck says quack.\"}\n";
    std::fs::write(&data, lines.repeat(3)).unwrap();
    let of = |more: &[&str]| {
        let mut args = vec!["--data", data.to_str().unwrap(), "-n", "16", "-b", "8", "-q"];
        args.extend(more);
        with_model("bench", &args)
    };
    let out = of(&["--policy", "--cache dual --threshold 0.9", "--json"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let rows: Vec<serde_json::Value> = text(&out.stdout)
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["policy"], "exact");
    assert_eq!(rows[0]["same_texts"], 1.0);
    assert_eq!(rows[0]["right"], 1.0);
    assert_eq!(rows[1]["policy"], "--cache dual --threshold 0.9");
    let number = |i: usize, key: &str| rows[i][key].as_f64().unwrap();
    assert!(number(1, "nfe") < number(0, "nfe"));
    assert!(number(1, "slots_computed") < number(0, "slots_computed"));
    let csv = text(&of(&["--policy", "--neighbours 0.9,0.7,2", "--csv"]).stdout);
    let lines: Vec<_> = csv.lines().collect();
    assert!(lines[0].starts_with("policy,answers,right"), "{csv}");
    assert!(lines[2].starts_with("\"--neighbours 0.9,0.7,2\",3,"), "{csv}");
    let wrong = of(&["--policy", "--threshold 0.9 --factor 1"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("policy `--threshold 0.9 --factor 1`"));
}

#[test]
fn a_made_up_model_is_measured_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let bench = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_remask"));
        command.args(["bench", "-q", "-t", "1"]).args(more);
        command.env("TMPDIR", folder.path()).env("TMP", folder.path());
        command.stdin(Stdio::null()).output().unwrap()
    };
    let shape = "layers=1,width=64,ff=128,heads=2,kv=2,vocab=200,context=128";
    let out = bench(&["--synthetic", shape, "--steps", "2", "--json"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let line: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let parts = line["parts"].as_array().unwrap();
    let of_parts: f64 = parts.iter().map(|p| p["s"].as_f64().unwrap()).sum();
    let step = line["step_max_s"].as_f64().unwrap();
    assert!(of_parts > 0.0 && of_parts < 50.0 * step, "{line}");
    // 31 slots of the one layer need keys and values only.
    let gmac = parts.iter().map(|p| p["gmac"].as_f64().unwrap()).sum::<f64>();
    assert!(
        (gmac - line["gmac"].as_f64().unwrap()).abs() < 0.1 * gmac,
        "{line}"
    );
    let shown = bench(&["--synthetic", shape, "--steps", "1", "--canvas", "64"]);
    let shown = text(&shown.stdout);
    for word in ["reading", "memory", "attention", "head q"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let kept = folder.path().join("kept.gguf");
    let keep = [
        "--synthetic",
        shape,
        "--steps",
        "1",
        "--keep",
        kept.to_str().unwrap(),
    ];
    assert!(bench(&keep).status.success());
    assert!(kept.is_file());
    let again = bench(&keep);
    assert!(text(&again.stderr).contains("exists"), "{}", text(&again.stderr));
    for (args, word) in [
        (&["--synthetic", "9b"][..], "9b"),
        (&["--synthetic", "6m", "--type", "q9"], "q4_k_m"),
        (&["--steps", "3"], "--synthetic"),
        (&["--synthetic", shape, "--rounds", "0"], "1 or more"),
        (&["--synthetic", shape, "--answers", "128"], "128 slots"),
        (
            &["--synthetic", shape, "--against", "no-such-program"],
            "no-such-program",
        ),
    ] {
        let out = bench(args);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(
            text(&out.stderr).contains(word),
            "{args:?}: {}",
            text(&out.stderr)
        );
    }
}

#[test]
fn answers_of_given_lengths_are_measured_and_two_builds_in_turn() {
    let out = with_model(
        "bench",
        &[
            "--prompts",
            "8,16",
            "--answers",
            "32",
            "--rounds",
            "1",
            "--json",
            "-q",
        ],
    );
    assert!(out.status.success(), "{}", text(&out.stderr));
    let rows: Vec<serde_json::Value> = text(&out.stdout)
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(rows.len(), 6);
    assert_eq!(
        (&rows[0]["policy"], &rows[4]["policy"]),
        (&"exact".into(), &"--speed balanced".into())
    );
    let number = |i: usize, key: &str| rows[i][key].as_u64().unwrap();
    assert_eq!(number(3, "prompt"), 16);
    assert!(number(1, "slots_computed") <= number(0, "slots_computed"));
    // Stopped after its first block, the rest counted on from it.
    let cut = with_model(
        "bench",
        &[
            "--prompts",
            "8",
            "--answers",
            "64",
            "-b",
            "16",
            "--rounds",
            "1",
            "--seconds",
            "1e-9",
            "--policy",
            "--order random",
            "--csv",
            "-q",
        ],
    );
    let cut = text(&cut.stdout);
    assert!(
        cut.lines()
            .nth(1)
            .is_some_and(|l| l.starts_with("8,64,\"exact\",64,64,4608,")),
        "{cut}"
    );
    let this = format!("{} bench", env!("CARGO_BIN_EXE_remask"));
    let both = with_model(
        "bench",
        &[
            "--against",
            &this,
            "--steps",
            "1",
            "--rounds",
            "2",
            "--json",
            "-q",
        ],
    );
    let line: serde_json::Value = serde_json::from_slice(&both.stdout).unwrap();
    assert_eq!(line["case"], "step");
    assert!(line["seconds"].as_f64().unwrap() > 0.0 && line["ratio"].as_f64().unwrap() > 0.0);
}

#[test]
fn presets_and_rules_are_flags_and_mistakes_are_named() {
    let ask = |more: &[&str]| {
        let mut args = vec!["-p", "What does a duck say?", "-n", "16", "-q"];
        args.extend(more);
        with_model("generate", &args)
    };
    let exact = ask(&[]);
    for flags in [
        &["--speed", "exact"][..],
        &["--speed", "balanced"],
        &["--speed", "fast", "--cache", "none"],
        &["--entropy-bound", "--cache", "prefix", "--cache-type", "q8_0"],
        &["--threshold", "0.8", "--order", "margin", "--suffix-window", "4"],
        &[
            "--early-commit",
            "9,9,9",
            "--cache",
            "dual",
            "--cache-refresh",
            "3",
        ],
        &["--fast-dllm", "jun2025", "--factor", "1", "--cache", "dual"],
    ] {
        let out = ask(flags);
        assert!(out.status.success(), "{flags:?}: {}", text(&out.stderr));
        assert_eq!(out.stdout, exact.stdout, "{flags:?}");
    }
    for (flags, code, word) in [
        (&["--cache-refresh", "2"][..], 3, "cache_refresh"),
        (&["--neighbours", "1,2"], 2, "three numbers"),
        (&["--neighbours", "--order", "random"], 3, "order is Random"),
        (&["--entropy-bound", "-1"], 2, "entropy"),
        (&["--speed", "fast", "--steps", "4"], 2, "--steps"),
    ] {
        let out = ask(flags);
        assert_eq!(out.status.code(), Some(code), "{flags:?}: {}", text(&out.stderr));
        assert!(
            text(&out.stderr).contains(word),
            "{flags:?}: {}",
            text(&out.stderr)
        );
    }
}
