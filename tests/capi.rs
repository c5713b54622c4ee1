//! The C interface, from C: programs of tests/c are compiled by the system's compilers, linked with the
//! library that was just built, and run.
#![cfg(unix)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::convert_golden;
use common::native::{built, exists, expected_tokens, ok, root};

/// Compiles a program against the shared library.
fn compile(source: &Path, folder: &Path) -> PathBuf {
    let program = folder.join(source.file_stem().unwrap());
    let library = built();
    let mut command = Command::new("cc");
    command
        .args([
            "-std=c11",
            "-g",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Wconversion",
            "-Werror",
        ])
        .arg("-I")
        .arg(root().join("include"))
        .arg(source)
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(&library)
        .arg(format!("-Wl,-rpath,{}", library.display()))
        .args(["-lremask", "-lpthread", "-lm"]);
    if source.ends_with("faults.c") {
        // Its malloc comes before the system's, in the library too.
        command.args(["-rdynamic", "-ldl"]);
    }
    if cfg!(debug_assertions) {
        command.arg("-DREMASK_TEST_PANIC");
    }
    ok("cc", &command.output().unwrap());
    program
}

/// Compiles and runs a program of tests/c; its output must be all that it prints.
fn run(name: &str, args: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(&root().join("tests/c").join(name), folder.path());
    // Cargo's own search path may hold an older library.
    let output = Command::new(program)
        .args(args)
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap();
    let stdout = ok(name, &output);
    assert!(
        output.stderr.is_empty(),
        "{name}: the library prints: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}

fn small() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = convert_golden("llada-gqa-tiny", folder.path());
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

/// What generate.c prints.
fn expected(path: &str) -> String {
    expected_tokens(Path::new(path))
        .iter()
        .map(|t| format!("{t} "))
        .collect()
}

#[test]
fn every_way_of_generating_gives_what_the_library_gives() {
    let (_folder, path) = small();
    assert_eq!(run("generate.c", &[&path]).trim_end(), expected(&path).trim_end());
}

#[test]
fn null_and_nonsense_give_a_status_each() {
    let (_folder, path) = small();
    run("args.c", &[&path]);
}

/// An assertion of ggml ends the process: what is heard of it before. Release builds have no call that
/// leads there.
#[cfg(debug_assertions)]
#[test]
fn an_assertion_reaches_the_log_and_no_debugger_is_run() {
    let folder = tempfile::tempdir().unwrap();
    run("abort.c", &[folder.path().to_str().unwrap()]);
}

#[test]
fn the_hosts_handler_of_exceptions_stays() {
    if !exists("c++") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("terminate");
    let source = root().join("tests/c/terminate.cpp");
    let mut command = Command::new("c++");
    command
        .args(["-std=c++17", "-Wall", "-Wextra", "-Werror"])
        .arg(source);
    let done = command.arg("-o").arg(&program).arg("-ldl").output();
    ok("c++", &done.unwrap());
    let name = if cfg!(target_os = "macos") {
        "libremask.dylib"
    } else {
        "libremask.so"
    };
    let done = Command::new(program).arg(built().join(name)).output();
    ok("terminate", &done.unwrap());
}

#[test]
fn models_are_opened_and_closed_by_many_threads_in_any_order() {
    let (_folder, path) = small();
    run("races.c", &[&path, "3"]);
}

#[test]
#[ignore = "takes a minute: cargo test --test capi -- --ignored"]
fn models_are_opened_and_closed_for_long_by_many_threads() {
    let (_folder, path) = small();
    print!("{}", run("races.c", &[&path, "100"]));
}

#[test]
fn sessions_on_many_threads_agree_and_cancel_works_from_threads_and_signals() {
    let (_folder, path) = small();
    run("threads.c", &[&path, "8", "6"]);
}

#[test]
#[ignore = "takes a minute: cargo test --test capi -- --ignored"]
fn sixteen_threads_with_fifty_sessions_each_agree() {
    let (_folder, path) = small();
    run("threads.c", &[&path, "16", "50"]);
}

#[test]
#[ignore = "takes a minute: cargo test --test capi -- --ignored"]
fn sixty_four_threads_with_two_hundred_sessions_each_agree() {
    let (_folder, path) = small();
    run("threads.c", &[&path, "64", "200"]);
}

#[test]
#[ignore = "a measurement: cargo test --test capi -- --ignored --nocapture"]
fn crossing_the_interface_adds_less_than_a_hundredth_to_a_step() {
    let world = root().join("models/little-world.gguf");
    print!("{}", run("overhead.c", &[world.to_str().unwrap()]));
}

/// No point of a sweep ends the process.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn every_fault_of_memory_threads_and_files_is_a_status_and_the_next_call_works() {
    let (_folder, path) = small();
    let checkpoint = common::vectors_dir().join("checkpoints/llada-gqa-tiny");
    let folder = tempfile::tempdir().unwrap();
    let program = compile(&root().join("tests/c/faults.c"), folder.path());
    let scratch = tempfile::tempdir().unwrap();
    let output = Command::new(program)
        .args([
            &path,
            checkpoint.to_str().unwrap(),
            scratch.path().to_str().unwrap(),
        ])
        .env_remove("LD_LIBRARY_PATH")
        .args(std::env::var_os("REMASK_TEST_LONG"))
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let said = ok("faults.c", &output);
    println!("{said}");
    let mut n_points = 0;
    for line in said.lines() {
        let (sweep, counts) = line.split_once(": ").unwrap();
        let number = |i: usize| {
            counts
                .split(' ')
                .nth(i)
                .and_then(|n| n.parse::<u32>().ok())
                .unwrap()
        };
        n_points += number(0);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(number(2), 0, "{line}\n{errors}");
        assert!(!sweep.is_empty());
    }
    assert!(n_points > 150, "{n_points} points:\n{said}");
}

#[test]
fn the_header_stands_alone_in_every_dialect() {
    let header = root().join("include/remask.h");
    let dialects = [
        ("c", ["gcc", "clang"], &["c99", "c11", "c17", "c2x"][..]),
        (
            "c++",
            ["g++", "clang++"],
            &["c++11", "c++14", "c++17", "c++20"][..],
        ),
    ];
    let mut n = 0;
    for (language, compilers, standards) in dialects {
        for compiler in compilers.iter().filter(|c| exists(c)) {
            for standard in standards {
                let done = Command::new(compiler)
                    .args([
                        "-Wall",
                        "-Wextra",
                        "-Wpedantic",
                        "-Wconversion",
                        "-Werror",
                        "-fsyntax-only",
                    ])
                    .args([&format!("-std={standard}"), "-x", language])
                    .arg(&header)
                    .output()
                    .unwrap();
                ok(&format!("{compiler} -std={standard}"), &done);
                n += 1;
            }
        }
    }
    assert!(n > 0, "there is no compiler");
}

/// Functions that the header declares.
fn declared() -> Vec<String> {
    let header = std::fs::read_to_string(root().join("include/remask.h")).unwrap();
    let code: String = header
        .lines()
        .filter(|l| !l.trim_start().starts_with("///"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut declared: Vec<String> = code
        .split("REMASK_API")
        .skip(1)
        .filter_map(|part| part.split('(').next())
        .filter_map(|part| part.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("remask_"))
        .map(str::to_owned)
        .collect();
    declared.sort();
    declared.dedup();
    assert!(declared.len() > 60, "only {} functions found", declared.len());
    declared
}

/// Names that the shared library exports.
fn exported(library: &Path) -> Vec<String> {
    let listed = Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(library)
        .output();
    let listed = ok("nm", &listed.unwrap());
    let mut names: Vec<String> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

#[cfg(target_os = "linux")]
#[test]
fn the_shared_library_exports_what_the_header_declares_and_nothing_else() {
    let declared = declared();
    let library = built().join("libremask.so");
    let names: Vec<String> = exported(&library)
        .into_iter()
        .filter(|name| !name.starts_with("remask_test_"))
        .collect();
    assert_eq!(names, declared);

    let folder = tempfile::tempdir().unwrap();
    let stripped = folder.path().join("libremask.so");
    let done = Command::new("strip")
        .arg("--strip-unneeded")
        .arg("-o")
        .arg(&stripped)
        .arg(&library)
        .output();
    ok("strip", &done.unwrap());
    println!(
        "stripped shared library: {:.1} MB",
        std::fs::metadata(stripped).unwrap().len() as f64 / 1e6
    );
}

/// Cargo's archive of this build: the newest beside this program.
#[cfg(target_os = "linux")]
fn archive() -> PathBuf {
    let mut found: Vec<_> = std::fs::read_dir(built())
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .filter(|p| {
            let name = p.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with("libremask.") && name.ends_with(".a")
                || name.starts_with("libremask-") && name.ends_with(".a")
        })
        .collect();
    found.sort_by_key(|p| std::fs::metadata(p).and_then(|m| m.modified()).unwrap());
    found.pop().expect("cargo made no static library")
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_with_another_ggml_links_the_static_archive() {
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("libremask.a");
    let done = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "xtask", "--", "staticlib"])
        .arg(archive())
        .arg(&closed)
        .current_dir(root())
        .output();
    ok("xtask staticlib", &done.unwrap());
    let listed = Command::new("nm")
        .args(["-g", "--defined-only"])
        .arg(&closed)
        .output();
    let listed = ok("nm", &listed.unwrap());
    let names = listed.lines().filter_map(|l| l.split_whitespace().nth(2));
    // Tables of the C++ standard library's templates are in groups that linkers merge.
    let mut names: Vec<_> = names
        .filter(|name| !name.starts_with("_ZZNSt8__detail"))
        .collect();
    names.sort_unstable();
    assert_eq!(names, declared());

    let program = folder.path().join("two_ggml");
    let done = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-DREMASK_STATIC", "-I"])
        .arg(root().join("include"))
        .arg(root().join("tests/c/two_ggml.c"))
        .arg("-o")
        .arg(&program)
        .arg(&closed)
        .args(["-lstdc++", "-lpthread", "-ldl", "-lm"])
        .output();
    ok("cc", &done.unwrap());
    let (_folder, path) = small();
    ok("two_ggml", &Command::new(program).arg(path).output().unwrap());
}

#[test]
fn the_example_generates_fills_holes_and_scores() {
    let folder = tempfile::tempdir().unwrap();
    check_example(&compile(
        &root().join("examples/c/remask_example.c"),
        folder.path(),
    ));
}

/// The same in Rust: cargo builds it with the tests.
#[test]
fn the_example_in_rust_does_the_same() {
    let program = built().join("../examples/remask_example");
    assert!(
        program.exists(),
        "not built with --test alone; cargo build --examples"
    );
    check_example(&program);
}

fn check_example(program: &Path) {
    let (_folder, model) = small();
    let run = |args: &[&str]| {
        let output = Command::new(program)
            .arg(args[0])
            .arg(&model)
            .args(&args[1..])
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap();
        (
            ok(args[0], &output),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (text, steps) = run(&["generate", "Once upon a time"]);
    assert!(text.starts_with("Once upon a time"), "{text}");
    assert_eq!(steps.lines().count(), 16, "{steps}");
    let (text, steps) = run(&["infill", "The [[4]] sat on the [[3]]."]);
    assert!(
        text.starts_with("The") && text.contains(" sat on the") && text.ends_with(".\n"),
        "{text}"
    );
    assert_eq!(steps.lines().count(), 7, "{steps}");
    let (text, _) = run(&["score", "Once upon", " a time", " never"]);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert_eq!(text.matches('*').count(), 1, "{text}");
}

/// The C lines of the README compile.
#[test]
fn the_readmes_c_compiles() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let code = readme
        .split("```c\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("readme.c");
    std::fs::write(&source, code.expect("the README has C in it")).unwrap();
    compile(&source, folder.path());
}
