//! `cargo xtask test-torch`: the trainer's engine on PyTorch's library, built and tested.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// What `trainer/torch` links: PyTorch without what its Python side wants, and the two libraries of CUDA
/// that its CPU part names. 0.7 GB to fetch, where all of PyTorch is 3.
const WHEELS: &[&str] = &[
    "torch==2.11.0",
    "nvidia-cuda-runtime>=13,<14",
    "nvidia-cuda-cupti>=13,<14",
];

pub fn run() -> Outcome {
    let libtorch = libtorch()?;
    let gloo = gloo();
    if !gloo {
        println!("the headers of Gloo are not here (Debian: libgloo-dev): several processes are not tested");
    }
    let manifest = crate::root().join("trainer/torch/Cargo.toml");
    let manifest = manifest.to_string_lossy();
    let mut args = vec!["test", "--manifest-path", &manifest];
    if gloo {
        args.extend(["--features", "gloo"]);
    }
    println!("$ LIBTORCH={} cargo {}", libtorch.display(), args.join(" "));
    let status = Command::new(crate::cargo())
        .args(&args)
        .current_dir(crate::root())
        .env("LIBTORCH", &libtorch)
        .env("LIBTORCH_BYPASS_VERSION_CHECK", "1") // wheels do not have the file that it looks for
        .status()
        .map_err(|e| format!("cargo does not start: {e}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("the tests of trainer/torch ended with {status}")),
    }
}

/// PyTorch's folder: `LIBTORCH`, or one that is fetched once into the target folder.
fn libtorch() -> Result<PathBuf, String> {
    if let Some(folder) = std::env::var_os("LIBTORCH") {
        return Ok(folder.into());
    }
    let venv = crate::root().join(crate::demo::target()).join("torch-env");
    let ready = venv.join(".ready");
    if !ready.exists() {
        println!("fetching PyTorch 2.11.0 into {} (once)", venv.display());
        let venv_text = venv.to_string_lossy();
        crate::run("python3", &["-m", "venv", "--clear", &venv_text])?;
        let pip = venv.join("bin/pip");
        let mut args = vec!["install", "--quiet", "--no-deps"];
        args.extend(WHEELS);
        crate::run(&pip.to_string_lossy(), &args)?;
        std::fs::write(&ready, "").map_err(|e| format!("{}: {e}", ready.display()))?;
    }
    let lib = venv.join("lib");
    let entries = std::fs::read_dir(&lib).map_err(|e| format!("{}: {e}", lib.display()))?;
    let mut folders = entries.flatten().map(|e| e.path().join("site-packages/torch"));
    folders.find(|f| f.is_dir()).ok_or_else(|| {
        format!(
            "{}: has no torch; remove the folder and try again",
            venv.display()
        )
    })
}

fn gloo() -> bool {
    let present = || Path::new("/usr/include/gloo/context.h").exists();
    // Best effort: without it one process is tested.
    present() || (crate::prerequisites::install("libgloo-dev").is_ok() && present())
}
