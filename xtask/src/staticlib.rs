//! A static library that keeps to itself: everything linked into one object, in which only `remask_*` is
//! visible. A program can then link another ggml, or another Rust library, beside it.

use std::path::Path;
use std::process::Command;

use crate::Outcome;

/// Makes `output` from cargo's archive `input`.
pub fn run(input: &Path, output: &Path) -> Outcome {
    if !input.is_file() {
        return Err(format!("{} is no file", input.display()));
    }
    let object = output.with_extension("o");
    let (input, object_name) = (text(input)?, text(&object)?);
    // `-r` joins what the entry points need and nothing else: cargo's archive holds more of the ggml
    // crate than is used.
    let listed = Command::new("nm")
        .args(["--defined-only", "--extern-only", input])
        .output();
    let listed = listed.map_err(|e| format!("nm does not start: {e}"))?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names = listed.lines().filter_map(|line| line.split_whitespace().nth(2));
    let entries: Vec<&str> = names.filter(|name| name.starts_with("remask_")).collect();
    if entries.is_empty() {
        return Err(format!("{input} has no remask_* in it"));
    }
    let wanted: Vec<String> = entries.iter().map(|name| format!("--undefined={name}")).collect();
    // A template's code comes in a group, of which a link keeps the first under its name, though the name is
    // hidden: without `--force-group-allocation` a C++ program would throw ours away for its own.
    let mut args = vec![
        "-r",
        "--gc-sections",
        "--force-group-allocation",
        "-o",
        object_name,
    ];
    args.extend(wanted.iter().map(String::as_str));
    args.push(input);
    tool("ld", &args)?;
    // Names that C++ calls unique cannot be hidden, but weak ones can.
    tool("objcopy", &["--wildcard", "--weaken-symbol=_Z*", object_name])?;
    // The standard library's objects carry bitcode, which `ar` would try to read.
    tool(
        "objcopy",
        &[
            "--wildcard",
            "--keep-global-symbol=remask_*",
            "--strip-unneeded",
            "--remove-section=.llvmbc",
            "--remove-section=.llvmcmd",
            object_name,
        ],
    )?;
    let _ = std::fs::remove_file(output);
    tool("ar", &["crs", text(output)?, object_name])?;
    std::fs::remove_file(&object).map_err(|e| format!("{}: {e}", object.display()))
}

fn text(path: &Path) -> Result<&str, String> {
    path.to_str()
        .ok_or_else(|| format!("{} is not UTF-8", path.display()))
}

fn tool(name: &str, args: &[&str]) -> Outcome {
    match Command::new(name).args(args).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} ended with {status}")),
        Err(error) => Err(format!("{name} does not start: {error}")),
    }
}
