//! `cargo xtask test-vulkan`: the tests of the Vulkan backend, on Mesa's software driver where there is no GPU.
//!
//! The backend is compiled alone, as `cargo xtask backend vulkan` does it, and made an archive that the tests
//! link beside the ggml that they have anyway: ggml with the backend in it would be compiled whole once more.
//! A stand-in for glslc (`xtask/vulkan/glslc`) leaves out most shaders.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Outcome, prerequisites};

/// The first version of Vulkan's headers with everything that ggml names.
const HEADERS: u32 = 272;

/// All tests; what they need is installed, or named in an error.
pub fn run() -> Outcome {
    prerequisites::ensure_vulkan()?;
    test(&["--test", "devices", "--test", "device_loss"], &[])
}

/// The short ones, where the machine has what they need.
pub fn test_if_possible() -> Outcome {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        println!("Vulkan: not tested, since Mesa's software driver is looked for on Linux, x86-64, only");
        return Ok(());
    }
    if let Err(why) = prerequisites::ensure_vulkan() {
        println!("Vulkan: not tested: {why}");
        return Ok(());
    }
    test(
        &["--test", "devices", "--test", "device_loss"],
        &[("REMASK_TEST_SHORT", "1")],
    )
}

fn test(tests: &[&str], environment: &[(&str, &str)]) -> Outcome {
    let folder = archive()?;
    let shim = shim(&folder)?;
    let mut args = vec!["test", "--workspace", "--features", "remask/vulkan-archive"];
    args.extend(tests);
    args.extend(["--", "--nocapture", "--test-threads", "1"]);
    println!("$ cargo {}", args.join(" "));
    let mut command = Command::new(crate::cargo());
    command
        .args(args)
        .current_dir(crate::root())
        .env("REMASK_VULKAN_ARCHIVE", &folder)
        .envs(environment.iter().copied())
        // Between the tests and the driver, in the tests only: see tests/c/vulkan.c.
        .env(
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER",
            format!("env LD_PRELOAD={}", shim.display()),
        );
    // ggml passes over drivers that run on a CPU unless it is told to take them.
    if std::env::var_os("GGML_VK_VISIBLE_DEVICES").is_none() {
        command.env("GGML_VK_VISIBLE_DEVICES", "0,0");
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the tests of the Vulkan backend ended with {status}")),
        Err(error) => Err(format!("cargo does not start: {error}")),
    }
}

/// Makes the backend's archive, if these sources' is not there, and returns its folder.
fn archive() -> Result<PathBuf, String> {
    let ggml = crate::backend::sources()?;
    let package = ggml.ancestors().nth(2).and_then(Path::file_name);
    let package = package.map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let folder = crate::root()
        .join(crate::demo::target())
        .join("vulkan-tests")
        .join(package);
    let archive = folder.join("libggml-vulkan.a");
    if archive.is_file() {
        return Ok(folder);
    }
    let work = folder.join("work");
    std::fs::create_dir_all(&work).map_err(|e| format!("{}: {e}", work.display()))?;
    let mut command = Command::new("sh");
    command
        .arg(crate::root().join("xtask/backend/build.sh"))
        .args(["vulkan", "--ggml"])
        .arg(&ggml)
        .arg("--work")
        .arg(&work)
        .arg("--out")
        .arg(&work);
    let path = std::env::var("PATH").unwrap_or_default();
    let stand_in = crate::root().join("xtask/vulkan");
    command.env("PATH", format!("{}:{path}", stand_in.display()));
    if header_version().is_some_and(|version| version < HEADERS) {
        let flags = std::env::var("CXXFLAGS").unwrap_or_default();
        let flags = format!("{flags} -include {}/older-headers.hpp", stand_in.display());
        command.env("CXXFLAGS", flags.trim());
    }
    println!("$ {command:?}");
    let log = work.join("build.log");
    let file = std::fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let errors = file.try_clone().map_err(|e| format!("{}: {e}", log.display()))?;
    let status = command.stdout(file).stderr(errors).status();
    if !status.is_ok_and(|s| s.success()) {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        return Err(format!("the Vulkan backend was not built: {text}"));
    }
    let objects = objects(&work);
    let half = folder.join("half.a");
    let _ = std::fs::remove_file(&half);
    let made = Command::new("ar").arg("rcs").arg(&half).args(&objects).status();
    if objects.is_empty() || !made.is_ok_and(|s| s.success()) {
        return Err(format!(
            "no archive could be made of the objects in {}",
            work.display()
        ));
    }
    std::fs::rename(&half, &archive).map_err(|e| format!("{}: {e}", archive.display()))?;
    // What it was made of is half a gigabyte.
    let _ = std::fs::remove_dir_all(&work);
    Ok(folder)
}

/// The backend's object files below `folder`.
fn objects(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "o")
                && path.components().any(|c| c.as_os_str() == "ggml-vulkan.dir")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Compiles what stands between the tests and the driver.
fn shim(folder: &Path) -> Result<PathBuf, String> {
    let library = folder.join("driver.so");
    let done = Command::new("cc")
        .args(["-std=c11", "-O1", "-fPIC", "-shared", "-o"])
        .arg(&library)
        .arg(crate::root().join("tests/c/vulkan.c"))
        .arg("-ldl")
        .stdin(Stdio::null())
        .status();
    match done {
        Ok(status) if status.success() => Ok(library),
        _ => Err("tests/c/vulkan.c does not compile".to_owned()),
    }
}

/// The last part of the installed headers' version, 1.3.N; `None` where they are not found or of another
/// version.
fn header_version() -> Option<u32> {
    let text = std::fs::read_to_string("/usr/include/vulkan/vulkan_core.h").ok()?;
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.strip_prefix(name)?.trim().to_owned())
    };
    let complete = value("#define VK_HEADER_VERSION_COMPLETE ")?;
    let is_1_3 = complete.contains("(0, 1, 3, ");
    is_1_3
        .then(|| value("#define VK_HEADER_VERSION ")?.parse().ok())
        .flatten()
}
