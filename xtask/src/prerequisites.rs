//! What a build needs beside Rust: found, installed, or named.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;

struct Need {
    what: &'static str,
    apt: &'static str,
    brew: &'static str,
    present: fn() -> bool,
}

const NEEDS: &[Need] = &[
    Need {
        what: "a C++ compiler",
        apt: "g++",
        brew: "",
        present: has_cxx,
    },
    Need {
        what: "CMake",
        apt: "cmake",
        brew: "cmake",
        present: || answers("cmake", "--version"),
    },
    Need {
        what: "libclang",
        apt: "libclang-dev",
        brew: "llvm",
        present: || libclang().is_some(),
    },
];

/// For the tests of the Vulkan backend, on Linux.
const VULKAN: &[Need] = &[
    Need {
        what: "glslc",
        apt: "glslc",
        brew: "",
        present: || answers("glslc", "--version"),
    },
    Need {
        what: "Vulkan's headers",
        apt: "libvulkan-dev",
        brew: "",
        present: || Path::new("/usr/include/vulkan/vulkan.hpp").is_file(),
    },
    Need {
        what: "SPIR-V's headers",
        apt: "spirv-headers",
        brew: "",
        present: || Path::new("/usr/include/spirv/unified1/spirv.hpp").is_file(),
    },
    Need {
        what: "a Vulkan driver",
        apt: "mesa-vulkan-drivers",
        brew: "",
        present: || {
            let folders = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"].map(std::fs::read_dir);
            folders.into_iter().flatten().flatten().next().is_some()
        },
    },
];

/// Makes sure that everything is there, or says in one line how to get it.
pub fn ensure() -> Outcome {
    ensure_all(NEEDS)
}

/// As [`ensure`], for the tests of the Vulkan backend.
pub fn ensure_vulkan() -> Outcome {
    ensure_all(VULKAN)
}

fn ensure_all(needs: &'static [Need]) -> Outcome {
    let missing = || needs.iter().filter(|n| !(n.present)()).collect::<Vec<_>>();
    let needs = missing();
    if needs.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = needs.iter().map(|n| n.what).collect();
    println!("missing: {}", names.join(", "));
    if answers("apt-get", "--version") {
        apt(&needs.iter().map(|n| n.apt).collect::<Vec<_>>())?;
    } else if cfg!(target_os = "macos") {
        brew(
            &needs
                .iter()
                .map(|n| n.brew)
                .filter(|b| !b.is_empty())
                .collect::<Vec<_>>(),
        )?;
    } else {
        return Err(format!(
            "please install {} with this system's package manager",
            names.join(", ")
        ));
    }
    match missing().as_slice() {
        [] => Ok(()),
        left => Err(format!(
            "still missing: {}",
            left.iter().map(|n| n.what).collect::<Vec<_>>().join(", ")
        )),
    }
}

/// Installs a package of Debian's, where that can be done.
pub fn install(package: &str) -> Outcome {
    match answers("apt-get", "--version") {
        true => apt(&[package]),
        false => Err(format!(
            "please install {package} with this system's package manager"
        )),
    }
}

fn apt(packages: &[&str]) -> Outcome {
    let packages = packages.join(" ");
    let line = format!("apt-get update && apt-get install -y {packages}");
    let is_root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|o| o.stdout.starts_with(b"0\n"));
    let sudo = if is_root {
        ""
    } else if quiet("sudo", &["-n", "true"]) {
        "sudo -n "
    } else {
        return Err(format!("run this once, then try again: sudo sh -c '{line}'"));
    };
    let script = format!(
        "export DEBIAN_FRONTEND=noninteractive; {sudo}apt-get update -qq && {sudo}apt-get install -y -qq {packages}"
    );
    crate::run("sh", &["-c", &script])
        .map_err(|e| format!("{e}; run this once, then try again: sudo sh -c '{line}'"))
}

fn brew(packages: &[&str]) -> Outcome {
    if !has_cxx() {
        return Err("run this once, then try again: xcode-select --install".to_owned());
    }
    if !answers("brew", "--version") {
        return Err("install Homebrew (brew.sh), then run: brew install cmake llvm".to_owned());
    }
    let mut args = vec!["install"];
    args.extend(packages);
    crate::run("brew", &args)
}

fn has_cxx() -> bool {
    std::env::var_os("CXX").is_some() || answers("c++", "--version") || answers("g++", "--version")
}

fn answers(program: &str, arg: &str) -> bool {
    quiet(program, &[arg])
}

fn quiet(program: &str, args: &[&str]) -> bool {
    let status = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|s| s.success())
}

/// Where bindgen will find libclang: the folders that clang-sys looks in.
fn libclang() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    folders.extend(std::env::var_os("LIBCLANG_PATH").map(PathBuf::from));
    if let Ok(out) = Command::new("llvm-config").arg("--libdir").output() {
        folders.push(String::from_utf8_lossy(&out.stdout).trim().into());
    }
    for base in ["/usr/lib", "/usr/local/lib", "/usr/lib64"] {
        let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
        let llvm = entries.filter(|e| e.file_name().to_string_lossy().starts_with("llvm"));
        folders.extend(llvm.map(|e| e.path().join("lib")));
        folders.push(base.into());
    }
    for triple in ["x86_64-linux-gnu", "aarch64-linux-gnu"] {
        folders.push(Path::new("/usr/lib").join(triple));
    }
    folders.extend(
        [
            "/opt/homebrew/opt/llvm/lib",
            "/usr/local/opt/llvm/lib",
            "/Library/Developer/CommandLineTools/usr/lib",
        ]
        .map(PathBuf::from),
    );
    folders.push(
        "/Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib".into(),
    );
    folders.into_iter().find(|folder| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .any(|name| is_libclang(&name))
    })
}

/// `libclang-cpp.so.14` is another library, which comes with Mesa's drivers.
fn is_libclang(name: &str) -> bool {
    let version = |n: &str| n.starts_with(|c: char| c.is_ascii_digit()) && n.contains(".so");
    name.starts_with("libclang.so")
        || name == "libclang.dylib"
        || name.strip_prefix("libclang-").is_some_and(version)
}

#[cfg(test)]
mod tests {
    use super::is_libclang;

    #[test]
    fn the_c_library_is_told_from_its_relatives() {
        for name in [
            "libclang.so",
            "libclang.so.1",
            "libclang-14.so.1",
            "libclang.dylib",
        ] {
            assert!(is_libclang(name), "{name}");
        }
        for name in [
            "libclang-cpp.so.14",
            "libclang-common.a",
            "libclangAST.so",
            "libclang.a",
        ] {
            assert!(!is_libclang(name), "{name}");
        }
    }
}
