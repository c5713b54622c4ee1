//! The command with calls of the system that fail: every output is whole or not there, old files stay, and
//! the command ends with a code and one line.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

#[path = "../../tests/common/preload.rs"]
mod preload;
#[path = "../../tests/common/vectors.rs"]
mod vectors;

use preload::{Mount, Preload, names};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remask"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn checkpoint() -> String {
    let path = vectors::vectors_dir().join("checkpoints/llada-gqa-tiny");
    path.to_str().unwrap().to_owned()
}

struct Files {
    folder: tempfile::TempDir,
    model: String,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model.gguf").to_str().unwrap().to_owned();
        let out = run(&["convert", &checkpoint(), "-o", &model, "-q"]);
        assert!(out.status.success(), "{}", said(&out));
        Self { folder, model }
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
}

/// One file or folder named `out`, whole, if the command says that it was made; else nothing.
fn whole(folder: &Path, output: &Output, is_whole: &dyn Fn(&Path) -> bool) {
    let out = folder.join("out");
    let names = names(folder);
    match output.status.success() {
        true => {
            assert_eq!(names, ["out"], "{}", said(output));
            assert!(is_whole(&out));
            let _ = std::fs::remove_file(&out);
            let _ = std::fs::remove_dir_all(&out);
        }
        false => {
            assert!(names.is_empty(), "{names:?}: {}", said(output));
            assert!(said(output).starts_with("remask: "), "{}", said(output));
        }
    }
}

#[test]
fn outputs_are_whole_or_not_there_whatever_fails() {
    let Some(preload) = Preload::build() else { return };
    let files = Files::new();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    let texts = files.at("texts.jsonl");
    std::fs::write(&texts, "{\"text\": \"Once upon a time there was a hen that sat on a pen, and the pen was old, and so was the hen.\"}\n").unwrap();
    let checkpoint = checkpoint();
    let opens = |path: &Path| run(&["inspect", path.to_str().unwrap()]).status.success();
    let converts = |path: &Path| {
        let again = files.at("again.gguf");
        run(&["convert", path.to_str().unwrap(), "-o", &again, "--force", "-q"])
            .status
            .success()
    };
    type Whole<'a> = &'a dyn Fn(&Path) -> bool;
    let commands: [(&str, Vec<&str>, Whole<'_>); 4] = [
        ("convert", vec!["convert", &checkpoint, "-o", out, "-q"], &opens),
        (
            "quantize",
            vec!["quantize", &files.model, out, "q8_0", "-q"],
            &opens,
        ),
        ("export", vec!["export", &files.model, out, "-q"], &converts),
        (
            "imatrix",
            vec![
                "imatrix",
                "-m",
                &files.model,
                "--data",
                &texts,
                "-o",
                out,
                "--length",
                "16",
                "-q",
            ],
            &|path| std::fs::metadata(path).is_ok_and(|m| m.len() > 100),
        ),
    ];
    for (name, args, is_whole) in commands {
        for kind in ["write", "short", "sync", "rename", "thread", "memory"] {
            // The matrix is collected by code that may run out of memory: the command is no library.
            if (name, kind) == ("imatrix", "memory") {
                continue;
            }
            // Faults that stay are tried in the long form, but for the disk that is full.
            let long = std::env::var_os("REMASK_TEST_LONG").is_some();
            let stays: &[bool] = if long || kind == "write" {
                &[false, true]
            } else {
                &[false]
            };
            for &again in stays {
                let n = preload.sweep(
                    kind,
                    again,
                    || command(&args),
                    |o| whole(folder.path(), o, is_whole),
                );
                println!(
                    "remask {name}, {kind}{}: {n} points, 0 fell",
                    if again { " from then on" } else { "" }
                );
                let none = kind == "thread" || (kind == "rename" && name == "imatrix");
                assert!(n > 0 || none, "{name} has no {kind}");
            }
        }
    }
}

/// Into a folder with files: what fails leaves them as they were.
#[test]
fn an_export_over_files_replaces_all_or_none() {
    let Some(preload) = Preload::build() else { return };
    let files = Files::new();
    let folder = files.at("checkpoint");
    let before: Vec<(PathBuf, Vec<u8>)> = {
        let out = run(&["export", &files.model, &folder, "-q"]);
        assert!(out.status.success(), "{}", said(&out));
        let old = |name: &String| {
            let path = Path::new(&folder).join(name);
            std::fs::write(&path, format!("old {name}")).unwrap();
            (path, format!("old {name}").into_bytes())
        };
        names(Path::new(&folder)).iter().map(old).collect()
    };
    let is_old = || {
        before
            .iter()
            .all(|(path, bytes)| std::fs::read(path).unwrap() == *bytes)
    };
    let args = ["export", &files.model, &folder, "--force", "-q"];
    let n = preload.sweep(
        "rename",
        false,
        || command(&args),
        |out| {
            assert_eq!(is_old(), !out.status.success(), "{}", said(out));
            assert_eq!(names(Path::new(&folder)).len(), before.len());
            before
                .iter()
                .for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
        },
    );
    assert!(n >= 4, "{n}");
    // With no rename that works the old files are there, under their own names or the ones that are said.
    preload.sweep(
        "rename",
        true,
        || command(&args),
        |out| {
            for (path, bytes) in before.iter().filter(|_| !out.status.success()) {
                let there = std::fs::read(path).is_ok_and(|b| b == *bytes);
                let name = path.file_name().unwrap().to_str().unwrap();
                assert!(
                    there || said(out).contains(&format!("{name}.old")),
                    "{}",
                    said(out)
                );
            }
            before
                .iter()
                .for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
            for name in names(Path::new(&folder)).iter().filter(|n| n.starts_with('.')) {
                std::fs::remove_dir_all(Path::new(&folder).join(name)).unwrap();
            }
        },
    );
}

#[test]
fn a_full_disk_and_one_that_is_read_only_are_a_line_and_a_code() {
    let files = Files::new();
    let commands = |out: &str| {
        let words = |args: &[&str]| args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
        [
            words(&["convert", &checkpoint(), "-o", out, "-q"]),
            words(&["quantize", &files.model, out, "q8_0", "-q"]),
            words(&["export", &files.model, out, "-q"]),
        ]
    };
    let fails = |folder: &Path| {
        let out = folder.join("out");
        for args in commands(out.to_str().unwrap()) {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let out = run(&args);
            assert_eq!(out.status.code(), Some(3), "{args:?}: {}", said(&out));
            assert_eq!(said(&out).lines().count(), 1, "{}", said(&out));
            assert!(names(folder).is_empty(), "{:?}", names(folder));
        }
    };
    if let Some(small) = Mount::new(16 << 10) {
        fails(small.path());
        small.close();
        fails(small.path());
        println!("full and read-only: 6 points, 0 fell");
    }
    // As a device that is always full, for what goes to stdout.
    for args in [
        vec!["inspect", &files.model],
        vec!["generate", "-m", &files.model, "-p", "hello", "-n", "8", "--raw"],
        vec!["devices"],
    ] {
        let full = || Stdio::from(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        let out = command(&args).stdout(full()).output().unwrap();
        assert_eq!(out.status.code(), Some(3), "{args:?}: {}", said(&out));
        assert!(!said(&out).contains("panicked"), "{args:?}: {}", said(&out));
        // Nor does it matter that a line to a person cannot be written.
        let out = command(&args).stderr(full()).output().unwrap();
        assert!(out.status.success(), "{args:?}");
    }
}

#[test]
fn jumps_of_the_wall_clock_change_nothing() {
    let Some(preload) = Preload::build() else { return };
    let files = Files::new();
    let args = [
        "generate",
        "-m",
        &files.model,
        "-p",
        "hello",
        "-n",
        "8",
        "--raw",
        "-q",
    ];
    let expected = run(&args);
    assert!(expected.status.success(), "{}", said(&expected));
    for seconds in [1, 86_400 * 400, i64::from(i32::MAX)] {
        let mut command = command(&args);
        preload.jump(&mut command, seconds);
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
        assert_eq!(out.stdout, expected.stdout);
    }
}

/// What the command takes from its caller: a code and one line each.
#[test]
fn bad_parameters_are_a_code_and_a_line() {
    let files = Files::new();
    let fifo = files.at("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let model = files.model.as_str();
    fn on<'a>(model: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
        [&["generate", "-m", model, "-p", "hello", "--raw"], rest].concat()
    }
    let with = |rest: &[&'static str]| on(model, rest);
    let mut cases = vec![
        with(&["-n", "0"]),
        with(&["-n", "2147483648"]),
        with(&["-n", "18446744073709551615"]),
        with(&["-n", "-1"]),
        with(&["-n", "8", "--steps", "0"]),
        with(&["-n", "8", "--steps", "4294967296"]),
        with(&["-n", "8", "--temperature", "nan"]),
        with(&["-n", "8", "--temperature", "-1"]),
        with(&["-n", "8", "--temperature", "inf"]),
        with(&["-n", "8", "--top-p", "2"]),
        with(&["-n", "8", "--top-p", "nan"]),
        with(&["-n", "8", "--block-length", "3"]),
        with(&["-n", "8", "--threads", "-3"]),
        with(&["-n", "8", "--device", "\u{1b}[2J"]),
        with(&["-n", "8", "--no-such-thing"]),
        vec!["generate", "-m", "/nowhere\u{1b}[2J.gguf", "-p", "x"],
        vec!["generate", "-m", "/dev/zero", "-p", "x"],
        vec!["generate", "-m", "/dev", "-p", "x"],
        vec!["generate", "-m", &fifo, "-p", "x"],
        vec!["generate", "-m", "", "-p", "x"],
        vec!["inspect", "/proc/self/mem"],
        vec!["quantize", model, "/nowhere/x.gguf", "q8_0"],
        vec!["quantize", model, "/tmp/x.gguf", "q9_9"],
        vec!["convert", "/dev/null", "-o", "/tmp/x.gguf"],
    ];
    let odd = files.at("odd.gguf");
    std::fs::write(&odd, b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0").unwrap();
    cases.push(vec!["inspect", &odd]);
    for args in cases {
        let out = run(&args);
        let text = said(&out);
        // More threads, blocks or steps than make sense may be cut down; nothing else may be taken.
        let lenient = args.iter().any(|a| ["--block-length", "--steps"].contains(a));
        let code = out.status.code();
        assert!(
            matches!(code, Some(2..=4)) || (lenient && code == Some(0)),
            "{args:?}: {:?} {text}",
            out.status
        );
        assert!(!text.contains("panicked"), "{args:?}: {text}");
        assert!(
            !text.chars().any(|c| c.is_control() && c != '\n'),
            "{args:?}: {text:?}"
        );
    }
    // So many threads that nothing could be computed: as many as there are processors.
    for n in ["513", "1000000"] {
        let out = run(&with(&["-n", "4", "--threads", n]));
        assert!(out.status.success(), "{n}: {}", said(&out));
    }
}

/// Names and values of a file with control characters in them, in every output.
#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let files = Files::new();
    let mut bytes = std::fs::read(&files.model).unwrap();
    let at = bytes.windows(12).position(|w| w == b"general.name").unwrap();
    bytes[at..at + 12].copy_from_slice(b"\x1b[2Jral\x07name");
    let at = bytes.windows(17).position(|w| w == b"token_embd.weight").unwrap();
    bytes[at..at + 17].copy_from_slice(b"\x1b[31mn_\x08mbd.weigh");
    let odd = files.at("odd.gguf");
    std::fs::write(&odd, bytes).unwrap();
    for args in [
        vec!["inspect", &odd],
        vec!["generate", "-m", &odd, "-p", "x", "--raw"],
        vec!["quantize", &odd, "/tmp/x.gguf", "q8_0"],
        vec!["export", &odd, "/tmp/nowhere-x"],
    ] {
        let out = run(&args);
        for text in [said(&out), String::from_utf8_lossy(&out.stdout).into_owned()] {
            assert!(
                !text.chars().any(|c| c.is_control() && c != '\n'),
                "{args:?}: {text:?}"
            );
        }
    }
}
