//! The JNI layer of bindings/kotlin on the desktop's Java: it is compiled, and the test programs beside it run
//! with `-Xcheck:jni`. The Kotlin face over it is tested where there is a Kotlin compiler: `kotlinc` on the
//! path, or the program that KOTLINC names.
#![cfg(unix)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::native::{built, expected_tokens, ok, root};

fn sources() -> PathBuf {
    root().join("bindings/kotlin/remask/src")
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{} has no .{extension}", folder.display());
    found
}

/// Folder of a JDK with the compiler and the headers.
fn jdk() -> Option<PathBuf> {
    let home = match std::env::var_os("JAVA_HOME") {
        Some(home) => PathBuf::from(home),
        None => {
            let path = std::env::var_os("PATH")?;
            let javac = std::env::split_paths(&path)
                .map(|folder| folder.join("javac"))
                .find(|file| file.is_file())?;
            javac.canonicalize().ok()?.parent()?.parent()?.to_owned()
        }
    };
    let whole = home.join("bin/javac").is_file() && home.join("include/jni.h").is_file();
    whole.then_some(home)
}

fn kotlinc() -> Option<PathBuf> {
    let program = std::env::var_os("KOTLINC").map_or_else(|| PathBuf::from("kotlinc"), PathBuf::from);
    let found = Command::new(&program).arg("-version").output();
    found.is_ok_and(|o| o.status.success()).then_some(program)
}

/// libremask_jni in `folder`, with the C compiler's warnings as errors.
fn build_layer(jdk: &Path, folder: &Path) {
    let library = built();
    let system = if cfg!(target_os = "macos") {
        "darwin"
    } else {
        "linux"
    };
    let mut command = Command::new("cc");
    command
        .args(["-std=c11", "-g", "-O1", "-shared", "-fPIC", "-fvisibility=hidden"])
        .args(["-Wall", "-Wextra", "-Wconversion", "-Werror"])
        .arg("-I")
        .arg(root().join("include"))
        .arg("-I")
        .arg(jdk.join("include"))
        .arg("-I")
        .arg(jdk.join("include").join(system))
        .args(files(&sources().join("main/cpp"), "c"))
        .arg("-o")
        .arg(folder.join(format!(
            "{}remask_jni{}",
            std::env::consts::DLL_PREFIX,
            std::env::consts::DLL_SUFFIX
        )))
        .arg("-L")
        .arg(&library)
        .arg(format!("-Wl,-rpath,{}", library.display()))
        .arg("-lremask");
    ok("cc", &command.output().unwrap());
}

/// Compiles Java files into `folder`/classes.
fn javac(jdk: &Path, folder: &Path, files: &[PathBuf]) {
    let classes = folder.join("classes");
    let output = Command::new(jdk.join("bin/javac"))
        .args([
            "-encoding",
            "UTF-8",
            "-Xlint:all",
            "-Werror",
            "--release",
            "11",
            "-cp",
        ])
        .arg(&classes)
        .arg("-d")
        .arg(&classes)
        .args(files)
        .output()
        .unwrap();
    ok("javac", &output);
}

/// Runs a program, which must find nothing to say about how JNI is used.
fn java(jdk: &Path, folder: &Path, class_path: &str, class: &str, args: &[&str]) -> String {
    let output = Command::new(jdk.join("bin/java"))
        .arg("-Xcheck:jni")
        .arg(format!("-Djava.library.path={}", folder.display()))
        .arg("-cp")
        .arg(class_path)
        .arg(class)
        .args(args)
        // Cargo's own search path may hold an older library.
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap();
    let stdout = ok(class, &output);
    for text in [&stdout, &*String::from_utf8_lossy(&output.stderr)] {
        assert!(
            !text.contains("WARNING") && !text.contains("FATAL"),
            "{class}: {text}"
        );
    }
    stdout
}

/// What the test programs print.
fn expected(path: &Path) -> String {
    let tokens = expected_tokens(path).into_iter().map(|t| format!(" {t}"));
    format!("tokens{}", tokens.collect::<String>())
}

#[test]
fn java_and_kotlin_get_what_the_library_gives() {
    let Some(jdk) = jdk() else {
        println!("skipped: there is no JDK (javac and jni.h)");
        return;
    };
    common::show_log();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let classes = folder.join("classes");
    std::fs::create_dir(&classes).unwrap();
    let model = root().join("models/little-world.gguf");
    let model = model.to_str().unwrap();
    let expected = expected(Path::new(model));

    build_layer(&jdk, folder);
    let java_files = files(&sources().join("main/java/io/remask"), "java");
    javac(&jdk, folder, &java_files);
    javac(
        &jdk,
        folder,
        &files(&sources().join("test/java/io/remask"), "java"),
    );
    let class_path = classes.to_str().unwrap();
    let said = java(&jdk, folder, class_path, "io.remask.NativeTest", &[model]);
    assert_eq!(said.lines().next(), Some(expected.as_str()));

    let Some(kotlinc) = kotlinc() else {
        println!("skipped: the Kotlin face, since there is no kotlinc (path or KOTLINC)");
        return;
    };
    let program = folder.join("test.jar");
    let output = Command::new(kotlinc)
        .args(["-Werror", "-jvm-target", "11", "-include-runtime", "-cp"])
        .arg(&classes)
        .arg("-d")
        .arg(&program)
        .args(files(&sources().join("main/kotlin/io/remask"), "kt"))
        .args(files(&sources().join("test/kotlin/io/remask"), "kt"))
        .output()
        .unwrap();
    ok("kotlinc", &output);
    let class_path = format!("{}:{class_path}", program.display());
    let said = java(&jdk, folder, &class_path, "io.remask.RemaskTestKt", &[model]);
    assert_eq!(said.lines().next(), Some(expected.as_str()));
}
