//! `cargo xtask dist`: a folder with all that a program needs to use Remask, which works wherever it is put,
//! and the same as an archive.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, licences, staticlib};

/// What was asked for.
#[derive(Default)]
struct Options {
    out: Option<PathBuf>,
    dev: bool,
    test: bool,
    trainer: bool,
    dynamic: bool,
    features: Option<String>,
}

impl Options {
    fn read(args: &[&str]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(&arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg {
                "--out" => options.out = Some(value()?.into()),
                "--features" => options.features = Some((*value()?).to_owned()),
                "--dev" => options.dev = true,
                "--test" => options.test = true,
                "--trainer" => options.trainer = true,
                "--dynamic" => options.dynamic = true,
                _ => return Err(format!("`{arg}` is no option of dist; see cargo xtask help")),
            }
        }
        Ok(options)
    }
}

/// The names of this version on this system.
struct Names {
    version: &'static str,
    /// Where it runs, as Rust says it.
    target: String,
    /// What programs remember: `libremask.so.ABI`.
    soname: String,
    /// The file itself: `libremask.so.VERSION`.
    shared: String,
    /// What cargo calls it and linkers look for.
    plain: &'static str,
}

const MACOS: bool = cfg!(target_os = "macos");

/// Libraries that the static archive needs: the C++ runtime for ggml, the rest for Rust's.
const PRIVATE: &[&str] = if MACOS {
    &["c++", "System", "m"]
} else {
    &["stdc++", "pthread", "dl", "m"]
};

impl Names {
    fn new() -> Result<Self, String> {
        let version = env!("CARGO_PKG_VERSION");
        let header = read(&crate::root().join("include/remask.h"))?;
        let abi = header
            .lines()
            .find_map(|line| line.strip_prefix("#define REMASK_ABI_VERSION "))
            .ok_or("include/remask.h has no REMASK_ABI_VERSION")?;
        let rustc = output("rustc", &["-vV"])?;
        let target = rustc.lines().find_map(|line| line.strip_prefix("host: "));
        let target = target.ok_or("rustc does not say its host")?.to_owned();
        let name = |number: &str| {
            if MACOS {
                format!("libremask.{number}.dylib")
            } else {
                format!("libremask.so.{number}")
            }
        };
        Ok(Self {
            version,
            target,
            soname: name(abi),
            shared: name(version),
            plain: if MACOS { "libremask.dylib" } else { "libremask.so" },
        })
    }

    /// Fills a template in.
    fn fill(&self, template: &str) -> String {
        let mut version = self.version.split('.');
        let flags: Vec<String> = PRIVATE.iter().map(|name| format!("-l{name}")).collect();
        template
            .replace("@DESCRIPTION@", "Runtime for masked-diffusion language models")
            .replace("@URL@", "https://github.com/remask/remask")
            .replace("@VERSION@", self.version)
            .replace("@MAJOR@", version.next().unwrap_or("0"))
            .replace("@MINOR@", version.next().unwrap_or("0"))
            .replace("@POINTER_BYTES@", &size_of::<usize>().to_string())
            .replace("@SHARED_FILE@", &self.shared)
            .replace("@SONAME@", &self.soname)
            .replace("@PRIVATE_FLAGS@", &flags.join(" "))
            .replace("@PRIVATE_LIBRARIES@", &PRIVATE.join(";"))
    }
}

/// Builds and packs.
pub fn run(args: &[&str]) -> Outcome {
    if cfg!(windows) {
        return Err("dist knows Linux and macOS only".to_owned());
    }
    let options = Options::read(args)?;
    if options.dynamic && (MACOS || options.trainer) {
        return Err("--dynamic is for Linux, and without --trainer".to_owned());
    }
    let names = Names::new()?;
    let built = build(&options, &names)?;
    let dynamic = if options.dynamic { "dynamic-" } else { "" };
    let out = crate::root().join(options.out.as_deref().unwrap_or("dist".as_ref()));
    let name = format!("remask-{dynamic}{}-{}", names.version, names.target);
    let folder = out.join(&name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let mut files = vec![format!("lib/{}", names.shared), "bin/remask".to_owned()];
    shared_library(&built.folder, &folder, &names)?;
    match &built.ggml {
        Some(ggml) => files.extend(crate::dynamic::install(ggml, &folder.join("lib"))?),
        None => {
            static_library(&built.folder, &folder)?;
            files.push("lib/libremask.a".to_owned());
        }
    }
    programs(&built.folder, &folder, options.trainer)?;
    texts(&folder, &names, options.dynamic)?;
    licences::write(&folder.join("share/doc/remask"), &names.target, options.trainer)?;
    if !MACOS {
        shows_only_its_own(&folder.join("lib").join(&names.shared))?;
    }
    let archive = out.join(format!("{name}.tar.gz"));
    pack(&folder, &name, &archive)?;
    for file in files {
        println!("{:>7.2} MB  {file}", megabytes(&folder.join(&file)));
    }
    println!("{:>7.2} MB  {}", megabytes(&archive), archive.display());
    println!("{}", folder.display());
    if options.test {
        let script = match options.dynamic {
            true => "tests/dist-dynamic.sh",
            false => "tests/dist.sh",
        };
        crate::run("sh", &[script, text(&folder)?, text(&built.folder)?])?;
    }
    Ok(())
}

/// What cargo built.
struct Built {
    /// The libraries and programs.
    folder: PathBuf,
    /// ggml's files, where they are files of their own.
    ggml: Option<PathBuf>,
}

/// Has cargo build everything.
fn build(options: &Options, names: &Names) -> Result<Built, String> {
    let mut cargo = Command::new(crate::cargo());
    cargo.args(["build", "-p", "remask", "-p", "remask-cli"]);
    if options.trainer {
        cargo.args(["-p", "remask-trainer"]);
    }
    let features = options.features.iter().flat_map(|list| list.split(','));
    let features = features.chain(options.dynamic.then_some("dynamic-backends"));
    let features: Vec<_> = features.map(|f| format!("remask/{f}")).collect();
    if !features.is_empty() {
        cargo.args(["--features", &features.join(",")]);
    }
    if !options.dev {
        cargo.arg("--release");
    }
    cargo
        .env("REMASK_SONAME", &names.soname)
        .current_dir(crate::root());
    let profile = if options.dev { "debug" } else { "release" };
    let target = crate::root().join(crate::demo::target());
    if options.dynamic {
        let target = target.join("dynamic");
        let ggml = crate::dynamic::build(cargo, &target)?;
        return Ok(Built {
            folder: target.join(profile),
            ggml: Some(ggml),
        });
    }
    println!("$ {cargo:?}");
    match cargo.status() {
        Ok(status) if status.success() => Ok(Built {
            folder: target.join(profile),
            ggml: None,
        }),
        Ok(status) => Err(format!("cargo build ended with {status}")),
        Err(error) => Err(format!("cargo does not start: {error}")),
    }
}

fn shared_library(built: &Path, folder: &Path, names: &Names) -> Outcome {
    let lib = folder.join("lib");
    let shared = lib.join(&names.shared);
    copy(&built.join(names.plain), &shared)?;
    let strip = if MACOS { "-x" } else { "--strip-unneeded" };
    output("strip", &[strip, text(&shared)?])?;
    for link in [names.soname.as_str(), names.plain] {
        let target = if link == names.plain {
            &names.soname
        } else {
            &names.shared
        };
        link_to(target, &lib.join(link))?;
    }
    Ok(())
}

fn static_library(built: &Path, folder: &Path) -> Outcome {
    let archive = folder.join("lib/libremask.a");
    if MACOS {
        println!("libremask.a is cargo's own, which shows all names: closing it is for GNU's linker");
        return copy(&built.join("libremask.a"), &archive);
    }
    staticlib::run(&built.join("libremask.a"), &archive)
}

fn programs(built: &Path, folder: &Path, trainer: bool) -> Outcome {
    let mut programs = vec!["remask"];
    if trainer {
        programs.push("remask-train");
    }
    for program in programs {
        let to = folder.join("bin").join(program);
        copy(&built.join(program), &to)?;
        output("strip", &[text(&to)?])?;
    }
    Ok(())
}

/// Headers, what pkg-config and CMake read, examples, documents.
fn texts(folder: &Path, names: &Names, dynamic: bool) -> Outcome {
    let root = crate::root();
    for header in ["remask.h", "remask.hpp", "module.modulemap"] {
        copy(
            &root.join("include").join(header),
            &folder.join("include").join(header),
        )?;
    }
    let templates = [
        ("pkgconfig/remask.pc", include_str!("../dist/remask.pc")),
        (
            "pkgconfig/remask-static.pc",
            include_str!("../dist/remask-static.pc"),
        ),
        (
            "cmake/remask/remaskConfig.cmake",
            include_str!("../dist/remaskConfig.cmake"),
        ),
        (
            "cmake/remask/remaskConfigVersion.cmake",
            include_str!("../dist/remaskConfigVersion.cmake"),
        ),
    ];
    for (name, template) in templates {
        // There is no static library that brings files along.
        if dynamic && name.ends_with("-static.pc") {
            continue;
        }
        write(&folder.join("lib").join(name), &names.fill(template))?;
    }
    for language in ["c", "cpp"] {
        let (from, to) = (
            root.join("examples").join(language),
            folder.join("share/remask/examples"),
        );
        for entry in std::fs::read_dir(&from).map_err(|e| format!("{}: {e}", from.display()))? {
            let path = entry.map_err(|e| e.to_string())?.path();
            if let (true, Some(name)) = (path.is_file(), path.file_name()) {
                copy(&path, &to.join(language).join(name))?;
            }
        }
    }
    for document in [
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "CHANGELOG.md",
        "docs/embedding.md",
    ] {
        let name = Path::new(document).file_name().unwrap_or_default();
        copy(&root.join(document), &folder.join("share/doc/remask").join(name))?;
    }
    Ok(())
}

/// A name that leaks would meet the host's own.
fn shows_only_its_own(library: &Path) -> Outcome {
    let listed = output("nm", &["-D", "--defined-only", text(library)?])?;
    let names = listed.lines().filter_map(|line| line.split_whitespace().last());
    let others: Vec<&str> = names.filter(|name| !name.starts_with("remask_")).collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} exports {others:?} besides remask_*",
        library.display()
    ))
}

/// An archive that depends on nothing but the files: sorted, without owners and times.
fn pack(folder: &Path, name: &str, archive: &Path) -> Outcome {
    let pack = || -> std::io::Result<()> {
        let file = std::fs::File::create(archive)?;
        let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::best()));
        builder.mode(tar::HeaderMode::Deterministic);
        builder.follow_symlinks(false);
        append(&mut builder, folder, Path::new(name))?;
        builder.into_inner()?.finish()?;
        Ok(())
    };
    pack().map_err(|e| format!("{}: {e}", archive.display()))
}

pub fn append<W: std::io::Write>(
    builder: &mut tar::Builder<W>,
    from: &Path,
    to: &Path,
) -> std::io::Result<()> {
    let mut entries = std::fs::read_dir(from)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            append(builder, &path, &name)?;
        } else {
            builder.append_path_with_name(&path, &name)?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn link_to(target: &str, link: &Path) -> Outcome {
    std::os::unix::fs::symlink(target, link).map_err(|e| format!("{}: {e}", link.display()))
}

#[cfg(not(unix))]
fn link_to(_target: &str, link: &Path) -> Outcome {
    Err(format!("{}: this system has no links", link.display()))
}

fn megabytes(path: &Path) -> f64 {
    std::fs::metadata(path).map_or(0.0, |m| m.len() as f64 / 1e6)
}

pub fn text(path: &Path) -> Result<&str, String> {
    path.to_str()
        .ok_or_else(|| format!("{} is not UTF-8", path.display()))
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn parent(path: &Path) -> Outcome {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))
}

pub fn copy(from: &Path, to: &Path) -> Outcome {
    parent(to)?;
    std::fs::copy(from, to).map_err(|e| format!("{} to {}: {e}", from.display(), to.display()))?;
    Ok(())
}

fn write(to: &Path, text: &str) -> Outcome {
    parent(to)?;
    std::fs::write(to, text).map_err(|e| format!("{}: {e}", to.display()))
}

/// What a program prints.
pub fn output(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .current_dir(crate::root())
        .output();
    let output = output.map_err(|e| format!("`{program}` does not start: {e}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{program} {}`: {}", args.join(" "), said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
