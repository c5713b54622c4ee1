//! Every hostile file gives what its manifest says: an error of an allowed kind, or a run. Each is
//! opened in a child process with limited memory and time, so that a crash shows as a crash. The same for files
//! that `made` makes of the valid ones, further kinds of them; there memory is measured too.
//!
//! The children are this program again, told by an environment variable what to do; so there is no
//! test harness around it (`harness = false`).

mod common;
#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code)]
mod fuzz;
#[path = "hostile/made.rs"]
mod made;

use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use remask::convert::{ConvertOptions, convert};
use remask::evaluate::Dataset;
use remask::text::{ChatMessage, RenderOptions, Special};
use remask::{Canvas, Error, GenerateParams, LoadOptions, Model, Session, SessionOptions, Verify};

const CHILD: &str = "REMASK_HOSTILE_CHILD";
const LIMIT: Duration = Duration::from_secs(5);
/// Address space of a child: the program and its libraries take most of it.
const ADDRESS_SPACE: u64 = 2 << 30;

fn main() -> ExitCode {
    if let Some(task) = std::env::var_os(CHILD) {
        child(Path::new(&task));
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        println!(
            "peak {}",
            peak.unwrap_or("0").trim_matches(|c: char| !c.is_ascii_digit())
        );
        return ExitCode::SUCCESS;
    }
    parent()
}

/// One line of the manifest.
struct Case {
    file: String,
    kind: String,
    load: Vec<String>,
    generate: Vec<String>,
}

fn parent() -> ExitCode {
    let dir = common::hostile_dir();
    let manifest = std::fs::read_to_string(dir.join("MANIFEST.tsv")).unwrap();
    let lines = manifest
        .lines()
        .filter(|l| !l.starts_with('#') && !l.starts_with("file\t"));
    let cases: Vec<Case> = lines
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let list = |text: &str| text.split('|').map(str::to_owned).collect();
            Case {
                file: fields[0].to_owned(),
                kind: fields[1].to_owned(),
                load: list(fields[2]),
                generate: list(fields[3]),
            }
        })
        .collect();
    assert!(cases.len() > 150, "the manifest is too short: {}", cases.len());
    let scratch = tempfile::tempdir().unwrap();
    let (mut passed, mut failed) = (0, 0);
    for case in &cases {
        match check(case, &dir, scratch.path()) {
            Ok(()) => passed += 1,
            Err(what) => {
                failed += 1;
                println!("FAILED {} ({}): {what}", case.file, case.kind);
            }
        }
    }
    let none = run_child(Path::new("/nowhere")).unwrap();
    for case in made::all(&dir, scratch.path()) {
        match check_made(&case, peak(&none)) {
            Ok(()) => passed += 1,
            Err(what) => {
                failed += 1;
                println!("FAILED {} ({}): {what}", case.name, case.path.display());
            }
        }
    }
    println!(
        "test result: {}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out",
        if failed == 0 { "ok" } else { "FAILED" }
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs one case in a child and holds what it says against the manifest.
fn check(case: &Case, dir: &Path, scratch: &Path) -> Result<(), String> {
    let path = if case.kind == "dataset" {
        dir.join(&case.file).join("data.jsonl")
    } else if case.file.ends_with('/') {
        common::lay_over(dir, case.file.trim_end_matches('/'), scratch)
    } else {
        dir.join(&case.file)
    };
    let said = run_child(&path)?;
    let word = |stage: &str| {
        said.lines()
            .find_map(|l| l.strip_prefix(stage)?.strip_prefix(' '))
            .map(str::to_owned)
    };
    let load = word("load").ok_or_else(|| format!("the child said nothing of loading: {said}"))?;
    let allowed = |allowed: &[String], got: &str| allowed.iter().any(|a| a == got.split(' ').next().unwrap());
    if !allowed(&case.load, &load) {
        return Err(format!("load gave {load}; allowed {}", case.load.join("|")));
    }
    if load == "OK" {
        let generate = word("generate").ok_or("the child said nothing of generating")?;
        if !allowed(&case.generate, &generate) {
            return Err(format!(
                "generate gave {generate}; allowed {}",
                case.generate.join("|")
            ));
        }
    }
    if case.kind == "value" {
        let verify = word("verify").ok_or("the child said nothing of verifying")?;
        if !verify.starts_with("E_NUMERIC") {
            return Err(format!("loading with verify gave {verify}"));
        }
    }
    Ok(())
}

/// Memory that a refused file may cost beside a multiple of its size: see SECURITY.md.
const MEMORY: u64 = 64 << 20;

/// Runs a made case: refused or run as it says, and what is refused cost no more than it may.
fn check_made(case: &made::Made, none: u64) -> Result<(), String> {
    let said = run_child(&case.path)?;
    if said.contains("E_INTERNAL") {
        return Err(format!("a fault of ours: {said}"));
    }
    let refused = !said.contains("load OK");
    match case.wanted {
        made::Wanted::Refused if !refused => return Err(format!("it was taken: {said}")),
        made::Wanted::Taken if refused || !said.contains("generate OK") => return Err(said),
        _ => {}
    }
    // What is sparse or endless has no size to speak of.
    let size = std::fs::metadata(&case.path).map_or(0, |m| {
        if m.is_file() {
            m.len()
        } else {
            folder_size(&case.path)
        }
    });
    let taken = peak(&said).saturating_sub(none);
    match refused && taken > MEMORY + 3 * size && !sanitized() {
        true => Err(format!("{} MiB for {} KiB: {said}", taken >> 20, size >> 10)),
        false => Ok(()),
    }
}

fn folder_size(path: &Path) -> u64 {
    let files = std::fs::read_dir(path).into_iter().flatten().flatten();
    let regular = files.filter_map(|f| f.metadata().ok().filter(|m| m.is_file()));
    regular.map(|m| m.len()).sum()
}

/// Bytes that a child had in memory at most, as it says itself; 0 where the system does not tell.
fn peak(said: &str) -> u64 {
    let line = said.lines().find_map(|l| l.strip_prefix("peak "));
    line.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) << 10
}

fn run_child(path: &Path) -> Result<String, String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    limit(&mut command);
    let mut child = command.spawn().unwrap();
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            let mut said = String::new();
            child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
            return if status.success() {
                Ok(said)
            } else {
                Err(format!("the child died: {status}; {said}"))
            };
        }
        if began.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            return Err("no end within 5 s".to_owned());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether there is a sanitizer in the code, which takes terabytes of addresses and keeps what is freed
/// (`tests/asan.sh`).
fn sanitized() -> bool {
    std::env::var_os("REMASK_TEST_SANITIZER").is_some()
}

#[cfg(unix)]
fn limit(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    if sanitized() {
        return;
    }
    let bytes = libc::rlimit {
        rlim_cur: ADDRESS_SPACE,
        rlim_max: ADDRESS_SPACE,
    };
    let set = move || {
        // SAFETY: setrlimit reads the struct and is safe to call between fork and exec.
        match unsafe { libc::setrlimit(libc::RLIMIT_AS, &bytes) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure only makes a system call.
    unsafe { command.pre_exec(set) };
}

#[cfg(not(unix))]
fn limit(_: &mut Command) {}

/// What a child does: load and write a little, convert, or read texts; says the outcome of each stage.
fn child(path: &Path) {
    if path.extension().is_some_and(|e| e == "jsonl") {
        let read = || Dataset::open(path)?.collect::<Result<Vec<_>, _>>();
        let read = read();
        say("load", read.as_ref().err());
        say("generate", read.as_ref().err());
        return;
    }
    if path.is_dir() {
        let output = path.join("out.gguf");
        let done = convert(path, &output, &ConvertOptions::default(), &mut |_| {
            std::ops::ControlFlow::Continue(())
        });
        say("load", done.as_ref().err());
        if done.is_ok() {
            say("generate", write(&output).err().as_ref());
        } else {
            let left: Vec<_> = std::fs::read_dir(path)
                .unwrap()
                .flatten()
                .map(|e| e.file_name())
                .collect();
            let rest = |n: &std::ffi::OsString| n.to_string_lossy().contains("gguf");
            assert!(!left.iter().any(rest), "a failed conversion left {left:?}");
        }
        return;
    }
    let loaded = Model::load(path, &LoadOptions::default());
    say("load", loaded.as_ref().err());
    if loaded.is_ok() {
        drop(loaded);
        say("generate", write(path).err().as_ref());
    }
    let verify = LoadOptions {
        verify: Verify::Load,
        ..LoadOptions::default()
    };
    say("verify", Model::load(path, &verify).err().as_ref());
}

/// Encodes a little text and a conversation, fills a few slots, decodes.
fn write(path: &Path) -> Result<(), Error> {
    let model = Model::load(path, &LoadOptions::default())?;
    let text = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaab Hello, <|mdm_mask|> world! \u{4E2D}\u{1F642}";
    let mut canvas = Canvas::new(model.mask_token());
    let tokens = model.tokenizer().encode(text, Special::AsText)?;
    canvas.push_fixed(tokens.get(..8).unwrap_or(&tokens));
    canvas.push_masked(8)?;
    let mut session = Session::new(
        &model,
        &SessionOptions {
            n_threads: 1,
            ..SessionOptions::default()
        },
    )?;
    let params = GenerateParams::default();
    session.generate(&mut canvas, &params, |_, _| std::ops::ControlFlow::Continue(()))?;
    model.tokenizer().decode(canvas.tokens(), true);
    if let Some(template) = model.chat_template() {
        let messages = [ChatMessage::new("user", "hello")];
        template.encode(model.tokenizer(), &messages, &RenderOptions::default())?;
    }
    Ok(())
}

fn say(stage: &str, error: Option<&Error>) {
    match error {
        None => println!("{stage} OK"),
        Some(error) => println!(
            "{stage} {} {}",
            error.kind().name(),
            error.message().chars().take(200).collect::<String>()
        ),
    }
}
