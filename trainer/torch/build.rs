//! Compiles what stands between Rust and those parts of PyTorch that `tch` does not reach.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src/shim.cpp");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let torch = torch_folder();
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++20")
        .file("src/shim.cpp")
        .include(torch.join("include"))
        .include(torch.join("include/torch/csrc/api/include"))
        .flag_if_supported("-Wno-unused-parameter")
        .warnings(false);
    let (gloo, nccl) = (feature("GLOO"), feature("NCCL"));
    if gloo {
        build.define("USE_DISTRIBUTED", None).define("USE_C10D", None);
        build.define("USE_C10D_GLOO", None).define("REMASK_GLOO", None);
    }
    if nccl {
        build.define("USE_C10D_NCCL", None).define("REMASK_NCCL", None);
        // The headers of CUDA and NCCL lie beside PyTorch, in wheels of their own.
        let nvidia = torch.parent().map(|p| p.join("nvidia")).unwrap_or_default();
        for folder in std::fs::read_dir(nvidia).into_iter().flatten().flatten() {
            build.include(folder.path().join("include"));
            build.include(folder.path().join("include/cccl"));
        }
    }
    build.compile("remask_torch_shim");
    let lib = torch.join("lib");
    println!("cargo:rustc-link-search=native={}", lib.display());
    for name in ["torch_cpu", "c10"] {
        println!("cargo:rustc-link-lib={name}");
    }
    if nccl {
        println!("cargo:rustc-link-arg=-Wl,--no-as-needed");
        println!("cargo:rustc-link-lib=torch_cuda");
        println!("cargo:rustc-link-lib=c10_cuda");
    }
    // The programs find the library that they were built with.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}

fn feature(name: &str) -> bool {
    std::env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
}

/// PyTorch's folder: `LIBTORCH`, or that of the Python on the path.
fn torch_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("LIBTORCH") {
        return folder.into();
    }
    let code = "import torch, os; print(torch.__version__); print(os.path.dirname(torch.__file__))";
    let out = Command::new("python3").args(["-c", code]).output();
    let text = match out {
        Ok(out) if out.status.success() => String::from_utf8_lossy(&out.stdout).into_owned(),
        _ => panic!(
            "python3 has no PyTorch: `pip install torch==2.11.0` in an environment whose python3 is first on the path, and set LIBTORCH_USE_PYTORCH=1; or set LIBTORCH"
        ),
    };
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default();
    assert!(
        version.starts_with("2.11.0"),
        "python3 has PyTorch {version}; this needs 2.11.0"
    );
    PathBuf::from(lines.next().unwrap_or_default())
}
