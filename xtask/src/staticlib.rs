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
    // What the header declares, and not what `nm` lists: GNU nm gives objects with bitcode to a plugin,
    // which knows no bitcode newer than itself and then lists nothing.
    let entries = entries()?;
    // `-r` joins what the entry points need and nothing else: cargo's archive holds more of the ggml
    // crate than is used. A template's code comes in a group, of which a link keeps the first under its name,
    // though the name is hidden: without `--force-group-allocation` a C++ program would throw ours away
    // for its own.
    let wanted: Vec<String> = entries.iter().map(|name| format!("--undefined={name}")).collect();
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
    // The standard library's objects carry bitcode, which `nm` and `ar` would try to read.
    let bitcode = ["--remove-section=.llvmbc", "--remove-section=.llvmcmd"];
    tool("objcopy", &["--strip-debug", bitcode[0], bitcode[1], object_name])?;
    // Names that C++ calls unique cannot be hidden, but weak ones can.
    let weaken: Vec<String> = unique(object_name)?
        .iter()
        .map(|name| format!("--weaken-symbol={name}"))
        .collect();
    let mut args: Vec<&str> = weaken.iter().map(String::as_str).collect();
    args.push(object_name);
    tool("objcopy", &args)?;
    let kept: Vec<String> = entries
        .iter()
        .map(|name| format!("--keep-global-symbol={name}"))
        .collect();
    let mut args: Vec<&str> = kept.iter().map(String::as_str).collect();
    args.extend(["--strip-unneeded", object_name]);
    tool("objcopy", &args)?;
    let _ = std::fs::remove_file(output);
    tool("ar", &["crs", text(output)?, object_name])?;
    std::fs::remove_file(&object).map_err(|e| format!("{}: {e}", object.display()))
}

/// Names of the functions that the header declares.
fn entries() -> Result<Vec<String>, String> {
    let path = crate::root().join("include/remask.h");
    let header = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let code = header.lines().filter(|l| !l.trim_start().starts_with("///"));
    let code: Vec<&str> = code.collect();
    let mut names: Vec<String> = code
        .join("\n")
        .split("REMASK_API")
        .skip(1)
        .filter_map(|part| part.split('(').next()?.rsplit([' ', '*', '\n']).next())
        .filter(|name| name.starts_with("remask_"))
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    match names.len() {
        0 => Err(format!("{} declares nothing", path.display())),
        _ => Ok(names),
    }
}

/// Names in an object that C++ calls unique: constants inside templates.
fn unique(object: &str) -> Result<Vec<String>, String> {
    let listed = Command::new("nm").args(["--defined-only", object]).output();
    let listed = listed.map_err(|e| format!("nm does not start: {e}"))?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let found = listed.lines().filter_map(|line| line.split_once(" u "));
    Ok(found.map(|(_, name)| name.to_owned()).collect())
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
