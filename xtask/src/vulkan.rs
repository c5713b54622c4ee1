//! `cargo xtask test-vulkan`: the tests of the Vulkan backend, which take too long for every run.

use std::process::Command;

use crate::Outcome;

/// The first version of Vulkan's headers with everything that ggml names.
const HEADERS: u32 = 272;

pub fn run() -> Outcome {
    let args = [
        "test",
        "--package",
        "remask",
        "--features",
        "vulkan",
        "--test",
        "devices",
    ];
    let shown = ["--", "--nocapture", "--test-threads", "1"];
    println!("$ cargo {} {}", args.join(" "), shown.join(" "));
    let mut command = Command::new(crate::cargo());
    command.args(args).args(shown).current_dir(crate::root());
    if header_version().is_some_and(|version| version < HEADERS) {
        let stand_in = crate::root().join("xtask/vulkan/older-headers.hpp");
        let flags = std::env::var("CXXFLAGS").unwrap_or_default();
        let flags = format!("{flags} -include {}", stand_in.display());
        command.env("CXXFLAGS", flags.trim());
    }
    // ggml passes over drivers that run on a CPU unless it is told to take them.
    if std::env::var_os("GGML_VK_VISIBLE_DEVICES").is_none() {
        command.env("GGML_VK_VISIBLE_DEVICES", "0");
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the tests of the Vulkan backend ended with {status}")),
        Err(error) => Err(format!("cargo does not start: {error}")),
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
