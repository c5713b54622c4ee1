//! Compiles the C++ shim over ggml, names the shared library for a release folder and warns about builds
//! that would be slow.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/ggml/shim.cpp");

    // The ggml crate tells its dependents where it put the headers.
    let Ok(root) = env::var("DEP_LLAMA_ROOT") else {
        panic!("the ggml crate did not say where its headers are (DEP_LLAMA_ROOT)");
    };
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(true)
        .include(format!("{root}/include"))
        .file("src/ggml/shim.cpp")
        .compile("remask_ggml_shim");

    name_the_shared_library();

    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if arch == "x86_64" && !features.split(',').any(|f| f == "avx2") {
        println!(
            "cargo:warning=remask is being built for a CPU without AVX2: its kernels will be many times \
             slower. Set RUSTFLAGS=\"-C target-cpu=x86-64-v3\" (or native), as the repository's \
             .cargo/config.toml does."
        );
    }
}

/// `cargo xtask dist` sets REMASK_SONAME, the name that programs remember and look for: `libremask.so.ABI`.
/// Without it they look for the file that they were linked with, as tests in the target folder need.
fn name_the_shared_library() {
    println!("cargo:rerun-if-env-changed=REMASK_SONAME");
    let Ok(name) = env::var("REMASK_SONAME") else {
        return;
    };
    match env::var("CARGO_CFG_TARGET_VENDOR").as_deref() {
        Ok("apple") => println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/{name}"),
        _ => println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{name}"),
    }
}
