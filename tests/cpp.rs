//! The C++ interface, from C++: `include/remask.hpp` compiled by the system's compilers with exceptions and
//! without, linked with the library that was just built, and run on the model in `models/`.
#![cfg(unix)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::native::{built, exists, ok, root};

/// The oldest dialect by one, the newest by the other.
const COMPILERS: &[(&str, &str)] = &[("g++", "-std=c++17"), ("clang++", "-std=c++20")];

const WARNINGS: &[&str] = &["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-g"];

fn model() -> PathBuf {
    root().join("models/little-world.gguf")
}

/// The compilers that are here; at least one.
fn compilers() -> Vec<(&'static str, &'static str)> {
    let found: Vec<_> = COMPILERS.iter().copied().filter(|(c, _)| exists(c)).collect();
    assert!(!found.is_empty(), "there is no C++ compiler");
    found
}

/// Compiles one source to an object.
fn object(compiler: (&str, &str), source: &Path, flags: &[&str], folder: &Path) -> PathBuf {
    let object = folder.join(source.file_stem().unwrap()).with_extension("o");
    let mut command = Command::new(compiler.0);
    command.arg(compiler.1).args(WARNINGS).args(flags);
    command
        .arg("-I")
        .arg(root().join("include"))
        .arg("-c")
        .arg(source);
    let done = command.arg("-o").arg(&object).output().unwrap();
    ok(
        &format!("{} {} {}", compiler.0, compiler.1, source.display()),
        &done,
    );
    object
}

/// Links objects with the shared library.
fn link(compiler: &str, objects: &[PathBuf], program: &Path) {
    let library = built();
    let mut command = Command::new(compiler);
    command
        .args(objects)
        .arg("-o")
        .arg(program)
        .arg("-L")
        .arg(&library);
    command.arg(format!("-Wl,-rpath,{}", library.display()));
    ok("link", &command.arg("-lremask").output().unwrap());
}

/// Cargo's own search path may hold an older library.
fn run(program: &Path, args: &[&Path]) -> Output {
    Command::new(program)
        .args(args)
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap()
}

#[test]
fn the_whole_interface_works_with_exceptions_and_without_in_one_program() {
    for compiler in compilers() {
        let folder = tempfile::tempdir().unwrap();
        let sources = root().join("tests/cpp");
        let objects = [
            object(compiler, &sources.join("throwing.cpp"), &["-O1"], folder.path()),
            object(
                compiler,
                &sources.join("results.cpp"),
                &["-fno-exceptions"],
                folder.path(),
            ),
        ];
        let program = folder.path().join("check");
        link(compiler.0, &objects, &program);
        let output = run(&program, &[&model(), &folder.path().join("small.gguf")]);
        ok(&format!("{} {}", compiler.0, compiler.1), &output);
        assert!(
            output.stderr.is_empty(),
            "the library prints: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn results_can_be_asked_for_where_exceptions_are_on() {
    let folder = tempfile::tempdir().unwrap();
    let source = root().join("tests/cpp/results.cpp");
    object(
        compilers()[0],
        &source,
        &["-DREMASK_NO_EXCEPTIONS"],
        folder.path(),
    );
}

#[test]
fn the_example_generates_fills_holes_and_scores() {
    let compiler = compilers()[0];
    let folder = tempfile::tempdir().unwrap();
    let source = root().join("examples/cpp/remask_example.cpp");
    let program = folder.path().join("example");
    link(
        compiler.0,
        &[object(compiler, &source, &[], folder.path())],
        &program,
    );
    let model = model();
    let example = |args: &[&str]| {
        let mut all: Vec<&Path> = vec![args[0].as_ref(), &model];
        all.extend(args[1..].iter().map(Path::new));
        let output = run(&program, &all);
        (
            ok(args[0], &output),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (text, steps) = example(&["generate", "Once upon a time"]);
    assert!(text.starts_with("Once upon a time"), "{text}");
    assert_eq!(steps.matches("step ").count(), 16, "{steps}");
    let (text, steps) = example(&["infill", "Once upon a time Tom met a[[1]] duck near the[[1]]."]);
    assert!(
        text.starts_with("Once upon a time Tom met a") && text.contains(" duck near the"),
        "{text}"
    );
    assert_eq!(steps.matches("step ").count(), 2, "{steps}");
    let (text, _) = example(&["score", "Once upon", " a time", " a duck"]);
    assert!(text.starts_with('*') && text.lines().count() == 2, "{text}");
}

/// The C++ lines of bindings/cpp/README.md, and the sample beside it.
#[test]
fn the_readmes_lines_and_the_sample_compile() {
    let readme = std::fs::read_to_string(root().join("bindings/cpp/README.md")).unwrap();
    let code = readme
        .split("```cpp\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("readme.cpp");
    std::fs::write(&source, code.expect("the README has C++ in it")).unwrap();
    object(compilers()[0], &source, &[], folder.path());
    object(
        compilers()[0],
        &root().join("bindings/cpp/smallest.cpp"),
        &[],
        folder.path(),
    );
}
