//! Several processes are one: the same losses, checkpoints and weights, whether they share the optimiser's
//! state or not, and a run that one process began goes on with two.
#![cfg(feature = "gloo")]

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const TRAIN: &str = env!("CARGO_BIN_EXE_remask-train-torch");

fn run(args: &[&str]) {
    let out = Command::new(TRAIN).args(args).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// A port that was free a moment ago.
fn port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Trains `steps` updates in `n` processes and returns the losses of all updates in the folder.
fn train(data: &Path, name: &str, n: usize, steps: u64, changes: &[&str]) -> Vec<f64> {
    let port = port().to_string();
    let start = |rank: usize| -> Child {
        let mut command = Command::new(TRAIN);
        command
            .current_dir(data)
            .args(["run", "config.toml", "-o", name, "-q"]);
        // A run that goes on must be asked for as many updates as before, or it is another run.
        let minutes = format!("run.steps={steps}");
        for change in [minutes.as_str()].iter().chain(changes) {
            command.args(["--set", change]);
        }
        if n > 1 {
            command
                .env("WORLD_SIZE", n.to_string())
                .env("RANK", rank.to_string())
                .env("MASTER_ADDR", "127.0.0.1")
                .env("MASTER_PORT", &port);
        }
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<Child> = (0..n).map(start).collect();
    for (rank, child) in children.into_iter().enumerate() {
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{name}, process {rank}: {said}");
    }
    let metrics = std::fs::read_to_string(data.join(name).join("metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
    lines.filter_map(|v| v["loss"].as_f64()).collect()
}

fn close(a: &[f64], b: &[f64], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(
            (a - b).abs() < 1e-5 * b.abs(),
            "{what}, update {}: {a} for {b}",
            i + 1
        );
    }
}

#[test]
fn processes_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "dog"];
    let text: String = (0..6000).map(|i| format!("{} ", words[i * i * 7 % 9])).collect();
    std::fs::write(data.join("text.txt"), text).unwrap();
    let path = |name: &str| data.join(name).display().to_string();
    run(&[
        "tokenizer",
        "--vocab-size",
        "320",
        "-o",
        &path("tok"),
        &path("text.txt"),
        "-q",
    ]);
    run(&[
        "prepare",
        "--tokenizer",
        &path("tok"),
        "-o",
        &path("shards"),
        &path("text.txt"),
        "-q",
    ]);
    std::fs::write(
        data.join("config.toml"),
        r#"
        [model]
        d_model = 32
        n_layers = 2
        n_heads = 4
        n_kv_heads = 2
        mlp_hidden_size = 64
        max_sequence_length = 64
        [data]
        train = ["shards"]
        length = 32
        [optimizer]
        lr = 3e-3
        warmup = 4
        [run]
        tokenizer = "tok"
        batch = 12
        micro_batch = 4
        threads = 1
        eval_every = 0
        checkpoint_every = 10
        "#,
    )
    .unwrap();
    let one = train(data, "one", 1, 20, &[]);
    assert!(one[19] < one[0] - 1.0, "{one:?}");
    close(&train(data, "two", 2, 20, &[]), &one, "two processes");
    close(
        &train(data, "three", 3, 20, &["run.zero=true", "run.ema=0.9"]),
        &one,
        "three that share",
    );
    // What one process left half done two go on with.
    for entry in ["one", "half"] {
        let _ = std::fs::create_dir_all(data.join(entry));
    }
    let copied = Command::new("cp")
        .args([
            "-r",
            &path("one/step-00000010"),
            &path("one/metrics.jsonl"),
            &path("half"),
        ])
        .status()
        .unwrap();
    assert!(copied.success());
    close(
        &train(data, "half", 2, 20, &["run.zero=true"]),
        &one,
        "one, then two",
    );
}
