//! `cargo xtask backend`: one more backend of ggml as a file, made from the sources that the library is made
//! from. The work is `xtask/backend/build.sh`'s, which needs no Rust: it can be carried to the machine with the
//! toolkit, sources and all, as a bundle.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Outcome;

/// What is packed beside ggml.
const SCRIPTS: &[&str] = &["build.sh", "CMakeLists.txt", "cuda-from-pypi.sh"];

/// Parts of ggml that CMake reads or compiles for the backends that can be built.
const PARTS: &[&str] = &[
    "CMakeLists.txt",
    "cmake",
    "include",
    "src/CMakeLists.txt",
    "src/ggml-cuda",
    "src/ggml-vulkan",
];

/// Builds or bundles. What is not told here goes to `build.sh` as it is.
pub fn run(args: &[&str]) -> Outcome {
    let ggml = sources()?;
    let scripts = crate::root().join("xtask/backend");
    let mut command = vec![scripts.join("build.sh").display().to_string()];
    let (mut out, mut work, mut pypi) = (None, None, false);
    let mut rest = args.iter();
    while let Some(&arg) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg {
            "--bundle" => return bundle(&ggml, &scripts, Path::new(value()?)),
            "--pypi" => pypi = true,
            "--out" => out = Some((*value()?).to_owned()),
            "--work" => work = Some((*value()?).to_owned()),
            _ => command.push(arg.to_owned()),
        }
    }
    let target = crate::root().join(crate::demo::target());
    let work = work.unwrap_or_else(|| {
        let backend = command.get(1).map_or("none", String::as_str);
        target.join(format!("backend-{backend}")).display().to_string()
    });
    let out = out.unwrap_or_else(|| "dist".to_owned());
    for (name, value) in [
        ("--ggml", ggml.display().to_string()),
        ("--work", work),
        ("--out", out),
    ] {
        command.extend([name.to_owned(), value]);
    }
    let mut sh = Command::new("sh");
    if pypi {
        let home = target.join("cuda-from-pypi");
        let script = scripts.join("cuda-from-pypi.sh");
        crate::run("sh", &[&script.to_string_lossy(), &home.to_string_lossy()])?;
        sh.env("CUDA_HOME", home);
    }
    println!("$ sh {}", command.join(" "));
    match sh.args(&command).current_dir(crate::root()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("build.sh ended with {status}")),
        Err(error) => Err(format!("sh does not start: {error}")),
    }
}

/// The folder of ggml's sources, in the package that Cargo.lock pins.
pub fn sources() -> Result<PathBuf, String> {
    let output = Command::new(crate::cargo())
        .args(["metadata", "--format-version", "1"])
        .current_dir(crate::root())
        .output()
        .map_err(|e| format!("cargo metadata does not start: {e}"))?;
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let package = packages.iter().find(|p| p["name"] == "llama-cpp-sys-2");
    let manifest = package.and_then(|p| p["manifest_path"].as_str());
    let folder = manifest.and_then(|m| Path::new(m).parent());
    let folder = folder.ok_or("cargo metadata does not name llama-cpp-sys-2")?;
    Ok(folder.join("llama.cpp/ggml"))
}

/// Packs the scripts and what they build: unpacked anywhere, `sh build.sh cuda --arch 90` makes the file.
fn bundle(ggml: &Path, scripts: &Path, archive: &Path) -> Outcome {
    let pack = || -> std::io::Result<()> {
        let file = std::fs::File::create(crate::root().join(archive))?;
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::best()));
        tar.mode(tar::HeaderMode::Deterministic);
        let top = Path::new("remask-backend");
        for name in SCRIPTS {
            tar.append_path_with_name(scripts.join(name), top.join(name))?;
        }
        tar.append_path_with_name(ggml.join("../LICENSE"), top.join("ggml/LICENSE"))?;
        let mut parts: Vec<PathBuf> = PARTS.iter().map(PathBuf::from).collect();
        for entry in std::fs::read_dir(ggml.join("src"))? {
            let entry = entry?;
            if entry.file_type()?.is_file() && entry.file_name() != "CMakeLists.txt" {
                parts.push(Path::new("src").join(entry.file_name()));
            }
        }
        parts.sort();
        for part in parts {
            let (from, to) = (ggml.join(&part), top.join("ggml").join(&part));
            if from.is_dir() {
                crate::dist::append(&mut tar, &from, &to)?;
            } else {
                tar.append_path_with_name(&from, &to)?;
            }
        }
        tar.into_inner()?.finish()?;
        Ok(())
    };
    pack().map_err(|e| format!("{}: {e}", archive.display()))?;
    println!("{}", archive.display());
    Ok(())
}
