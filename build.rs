//! Compiles the C++ shim over ggml, names the shared library for a release folder and warns about builds
//! that would be slow.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/ggml/shim.cpp");

    // The ggml crate tells its dependents where it put the headers.
    let Ok(root) = env::var("DEP_LLAMA_ROOT") else {
        panic!("the ggml crate did not say where its headers are (DEP_LLAMA_ROOT)");
    };
    let rpc = env::var_os("CARGO_FEATURE_RPC").is_some();
    let mut shim = cc::Build::new();
    shim.cpp(true)
        .std("c++17")
        .warnings(true)
        .include(format!("{root}/include"))
        .file("src/ggml/shim.cpp");
    if rpc {
        shim.define("REMASK_RPC", None);
    }
    let vulkan = env::var_os("CARGO_FEATURE_VULKAN_ARCHIVE").is_some();
    if vulkan {
        shim.define("REMASK_VULKAN_ARCHIVE", None);
    }
    shim.compile("remask_ggml_shim");
    if vulkan {
        println!("cargo:rerun-if-env-changed=REMASK_VULKAN_ARCHIVE");
        let Ok(folder) = env::var("REMASK_VULKAN_ARCHIVE") else {
            panic!(
                "the feature vulkan-archive is for `cargo xtask test-vulkan`, which sets REMASK_VULKAN_ARCHIVE"
            );
        };
        println!("cargo:rustc-link-search=native={folder}");
        println!("cargo:rustc-link-lib=static=ggml-vulkan");
        println!("cargo:rustc-link-lib=vulkan");
    }
    if rpc {
        compile_the_rpc_backend(&root);
    }

    name_the_shared_library();
    if env::var_os("CARGO_FEATURE_DYNAMIC_BACKENDS").is_some() {
        println!(
            "cargo:rustc-env=REMASK_GGML_SOURCES={}",
            ggml_sources(Path::new(&root))
        );
        // Loaded as they are, for the processor that is there.
        return;
    }

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

/// The ggml crate has no feature for this backend: its two files are compiled here, from the crate's own
/// sources. CMake noted where they are.
fn compile_the_rpc_backend(root: &str) {
    let cache = format!("{root}/build/CMakeCache.txt");
    let text = std::fs::read_to_string(&cache).unwrap_or_default();
    let home = text
        .lines()
        .find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL="));
    let Some(home) = home else {
        panic!("{cache} does not say where ggml's sources are; feature `rpc` compiles two of them");
    };
    let source = std::path::Path::new(home).join("ggml/src");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        // As ggml's own build has it: no asserts of the standard library, optimised in every profile.
        .opt_level(3)
        .define("NDEBUG", None)
        .include(format!("{root}/include"))
        .include(&source)
        .file(source.join("ggml-rpc/ggml-rpc.cpp"))
        .file(source.join("ggml-rpc/transport.cpp"))
        .compile("remask_ggml_rpc");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("windows") {
        println!("cargo:rustc-link-lib=ws2_32");
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

/// What ggml was made from, as `xtask/backend/build.sh` says it in the files that it makes: ggml's version, and
/// what POSIX's `cksum` says of its headers and common sources, one after the other.
fn ggml_sources(built: &Path) -> String {
    let cache = read(&built.join("build/CMakeCache.txt"));
    let cache = String::from_utf8_lossy(&cache);
    let home = cache
        .lines()
        .find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL="));
    let Some(home) = home else {
        panic!("the ggml crate's CMakeCache.txt does not say where its sources are");
    };
    let ggml = Path::new(home).join("ggml");
    let mut sum = Cksum::default();
    for (folder, ending) in [("include", "h"), ("src", "h"), ("src", "c"), ("src", "cpp")] {
        let entries = std::fs::read_dir(ggml.join(folder))
            .into_iter()
            .flatten()
            .flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.retain(|f| f.is_file() && f.extension().is_some_and(|e| e == ending));
        files.sort();
        for file in files {
            sum.add(&read(&file));
        }
    }
    let lists = read(&ggml.join("CMakeLists.txt"));
    let lists = String::from_utf8_lossy(&lists);
    let number = |line: &str| {
        let rest = line.strip_prefix("set(GGML_VERSION_")?;
        let (_, value) = rest.trim_end_matches(')').split_once(' ')?;
        value
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| value.to_owned())
    };
    let version: Vec<String> = lists.lines().filter_map(number).collect();
    let (value, length) = sum.finish();
    format!("ggml {}, sources {value}-{length}", version.join("."))
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// POSIX's `cksum`.
#[derive(Default)]
struct Cksum {
    crc: u32,
    length: u64,
}

impl Cksum {
    fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        for byte in bytes {
            self.crc ^= u32::from(*byte) << 24;
            for _ in 0..8 {
                let carry = self.crc >> 31;
                self.crc = (self.crc << 1) ^ (carry * 0x04c1_1db7);
            }
        }
    }

    /// The sum, with the length behind the bytes, lowest byte first; and the length.
    fn finish(mut self) -> (u32, u64) {
        let (length, mut rest) = (self.length, self.length);
        while rest > 0 {
            self.add(&[rest as u8]);
            rest >>= 8;
        }
        (!self.crc, length)
    }
}
