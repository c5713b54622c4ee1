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
    // `-r` joins; every member comes along, since the entry points refer to most of them anyway.
    tool("ld", &["-r", "--whole-archive", input, "-o", object_name])?;
    tool(
        "objcopy",
        &[
            "--wildcard",
            "--keep-global-symbol=remask_*",
            "--strip-debug",
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
