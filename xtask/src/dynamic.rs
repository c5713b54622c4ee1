//! `cargo xtask dist --dynamic`: the library with ggml's backends as files of their own, one for each kind of
//! processor among them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::dist::{copy, output, text};

/// Has `cargo` build with the feature, in a target folder of its own: all is compiled for another processor
/// than elsewhere in this repository. Returns the folder with ggml's files.
pub fn build(mut cargo: Command, target: &Path) -> Result<PathBuf, String> {
    let stamp = target.join("stamp");
    let script = crate::root().join("xtask/backend/build.sh");
    let ggml = crate::backend::sources()?;
    let args = ["stamp", "--ggml", text(&ggml)?, "--work", text(&stamp)?];
    output("sh", &[&[text(&script)?][..], &args].concat())?;
    // The library itself is for every 64-bit processor since about 2009; the backends that fit better are chosen
    // where it runs. Libraries are looked for beside the library, and beside the program in ../lib.
    let mut flags = "-C link-arg=-Wl,-rpath,$ORIGIN:$ORIGIN/../lib".to_owned();
    if cfg!(target_arch = "x86_64") {
        flags.push_str(" -C target-cpu=x86-64-v2");
    }
    cargo
        .env("CARGO_TARGET_DIR", target)
        .env("RUSTFLAGS", flags)
        .env("CMAKE_MODULE_LINKER_FLAGS", stamp.join("stamp.o"))
        .env("CMAKE_INSTALL_RPATH", "$ORIGIN")
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped());
    println!("$ {cargo:?}");
    let child = cargo.spawn().map_err(|e| format!("cargo does not start: {e}"))?;
    let done = child.wait_with_output().map_err(|e| format!("cargo: {e}"))?;
    if !done.status.success() {
        return Err(format!("cargo build ended with {}", done.status));
    }
    // Cargo says, one JSON object a line, where each build script put what it made.
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let mut messages = said.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    let is_ggml = |m: &Value| {
        let id = m["package_id"].as_str().unwrap_or_default();
        m["reason"] == "build-script-executed" && id.contains("llama-cpp-sys-2")
    };
    let found = messages.find(is_ggml);
    let folder = found.as_ref().and_then(|m| m["out_dir"].as_str());
    folder
        .map(PathBuf::from)
        .ok_or_else(|| "cargo does not say where ggml was built".to_owned())
}

/// Puts ggml's files into `lib` and returns their names in the folder above it.
pub fn install(ggml: &Path, lib: &Path) -> Result<Vec<String>, String> {
    let mut installed = Vec::new();
    // Under the names that the loader looks for.
    for name in ["libggml.so.0", "libggml-base.so.0"] {
        copy(&ggml.join("lib").join(name), &lib.join(name))?;
        installed.push(name.to_owned());
    }
    let backends = ggml.join("backends");
    let entries = std::fs::read_dir(&backends).map_err(|e| format!("{}: {e}", backends.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("libggml-") && name.ends_with(".so") {
            copy(&entry.path(), &lib.join(&name))?;
            installed.push(name);
        }
    }
    installed.sort();
    for name in &installed {
        output("strip", &["--strip-unneeded", text(&lib.join(name))?])?;
    }
    Ok(installed.into_iter().map(|name| format!("lib/{name}")).collect())
}
