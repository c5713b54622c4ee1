//! `cargo xtask wheel`: the library, in a Python wheel; and its tests, from the installed wheel.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;

/// How much is tested.
#[derive(Clone, Copy, PartialEq)]
pub enum Tests {
    /// Nothing.
    None,
    /// The package: it takes seconds, and pytest beside the wheel.
    Package,
    /// Its types too, and the model class under the real lm-eval, which brings some 60 packages (no PyTorch).
    All,
}

/// Builds the library with `profile` and the wheel into `bindings/python/dist`; then tests it, installed in a
/// new virtual environment.
pub fn run(profile: &str, tests: Tests) -> Outcome {
    let Some(python) = python() else {
        return Err("python3 (3.11 or later) with venv is missing".to_owned());
    };
    build(profile)?;
    let package = crate::root().join("bindings/python");
    put_library(profile, &package)?;
    let scratch = target().join("python");
    let tools = venv(&python, &scratch.join("build"))?;
    let dist = package.join("dist");
    let _ = std::fs::remove_dir_all(&dist);
    let (package_text, dist_text) = (package.to_string_lossy(), dist.to_string_lossy());
    let quiet = ["-m", "pip", "--disable-pip-version-check", "-q"];
    let wheel = ["wheel", "--no-deps", "-w", &dist_text, &package_text];
    crate::run(&tools, &[&quiet[..], &wheel].concat())?;
    let made = only_wheel(&dist)?;
    println!("{}", made.display());
    if tests == Tests::None {
        return Ok(());
    }
    let fresh = scratch.join("test");
    let _ = std::fs::remove_dir_all(&fresh);
    let python = venv(&python, &fresh)?;
    let made = made.to_string_lossy();
    let packages: &[&str] = match tests {
        Tests::All => &["pytest>=8", "mypy>=1.13", "types-cffi", "lm-eval>=0.4.9"],
        _ => &["pytest>=8"],
    };
    let install = ["install", "--prefer-binary", &made];
    crate::run(&python, &[&quiet[..], &install, packages].concat())?;
    // The sources lie outside the tests' folder: what is imported is what was installed.
    crate::run(&python, &["-m", "pytest", "-q", "bindings/python/tests"])?;
    if tests != Tests::All {
        return Ok(());
    }
    let config = ["--config-file", "bindings/python/pyproject.toml"];
    let what = [
        "bindings/python/src",
        "bindings/python/tests",
        "bindings/python/tools",
    ];
    crate::run(&python, &[&["-m", "mypy"], &config[..], &what].concat())
}

/// The same, as part of the test suite: passed over with a line where Python or its registry is absent.
pub fn test_if_possible() -> Outcome {
    let Some(python) = python() else {
        println!("python: not tested, since python3 (3.11 or later) with venv is missing");
        return Ok(());
    };
    let tools = venv(&python, &target().join("python/build"))?;
    let reached = Command::new(&tools)
        .args([
            "-m",
            "pip",
            "--retries",
            "0",
            "--timeout",
            "5",
            "index",
            "versions",
            "hatchling",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !reached.is_ok_and(|status| status.success()) {
        println!("python: not tested, since pip reaches no package registry");
        return Ok(());
    }
    run("dev", Tests::Package)
}

fn build(profile: &str) -> Outcome {
    crate::run(
        &crate::cargo(),
        &["build", "--package", "remask", "--lib", "--profile", profile],
    )
}

fn put_library(profile: &str, package: &Path) -> Outcome {
    let name = match std::env::consts::OS {
        "windows" => "remask.dll",
        "macos" => "libremask.dylib",
        _ => "libremask.so",
    };
    let folder = if profile == "dev" { "debug" } else { profile };
    let (from, to) = (
        target().join(folder).join(name),
        package.join("src/remask").join(name),
    );
    std::fs::copy(&from, &to).map_err(|e| format!("{} does not copy: {e}", from.display()))?;
    // Debug information is most of it; whoever wants it has the target folder.
    let stripped = Command::new("strip").arg("-S").arg(&to).status();
    if !stripped.is_ok_and(|status| status.success()) {
        println!("note: `strip` does not work here; the library keeps its debug information");
    }
    Ok(())
}

fn only_wheel(dist: &Path) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(dist).map_err(|e| format!("{}: {e}", dist.display()))?;
    let mut wheels = entries.flatten().map(|entry| entry.path());
    let found = wheels.find(|path| path.extension().is_some_and(|kind| kind == "whl"));
    found.ok_or_else(|| format!("{} holds no wheel", dist.display()))
}

/// A Python that is new enough and makes environments.
fn python() -> Option<String> {
    let check = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))";
    ["python3", "python"].into_iter().find_map(|name| {
        let status = Command::new(name)
            .args(["-c", check])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|s| s.success()).then(|| name.to_owned())
    })
}

/// The Python of the virtual environment in `folder`, made if it is not there.
fn venv(python: &str, folder: &Path) -> Result<String, String> {
    let inside = if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    };
    let path = folder.join(inside);
    if !path.exists() {
        crate::run(python, &["-m", "venv", &folder.to_string_lossy()])?;
    }
    Ok(path.to_string_lossy().into_owned())
}

fn target() -> PathBuf {
    crate::root().join(crate::demo::target())
}
