//! THIRD-PARTY.txt: the crates inside the library and the programs, and what their authors ask to be said.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Outcome;

/// Beginnings of the names of files with a licence in them.
const NAMES: &[&str] = &["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"];

/// Writes the list into `folder`.
pub fn write(folder: &Path, target: &str, trainer: bool) -> Outcome {
    let metadata = metadata(target)?;
    let mut roots = vec!["remask", "remask-cli"];
    if trainer {
        roots.push("remask-trainer");
    }
    let text = list(&metadata, &roots)?;
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let path = folder.join("THIRD-PARTY.txt");
    std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
}

fn metadata(target: &str) -> Result<Value, String> {
    let output = Command::new(crate::cargo())
        .args(["metadata", "--format-version", "1", "--filter-platform", target])
        .current_dir(crate::root())
        .output()
        .map_err(|e| format!("cargo metadata does not start: {e}"))?;
    if !output.status.success() {
        return Err(format!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("cargo metadata: {e}"))
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Packages that are linked in, from `roots` on: what is needed to build and to test them is not.
fn linked<'a>(metadata: &'a Value, roots: &[&str]) -> Vec<&'a Value> {
    let by_id = |list: &'a [Value]| -> HashMap<&'a str, &'a Value> {
        list.iter().map(|entry| (string(entry, "id"), entry)).collect()
    };
    let packages = by_id(array(metadata, "packages"));
    let nodes = by_id(array(&metadata["resolve"], "nodes"));
    let is_macro = |package: &Value| {
        array(package, "targets")
            .iter()
            .any(|t| array(t, "kind").iter().any(|k| k == "proc-macro"))
    };
    let mut open: Vec<&str> = array(metadata, "workspace_members")
        .iter()
        .filter_map(Value::as_str)
        .filter(|id| {
            packages
                .get(id)
                .is_some_and(|p| roots.contains(&string(p, "name")))
        })
        .collect();
    let mut seen: BTreeSet<&str> = open.iter().copied().collect();
    let mut found = BTreeMap::new();
    while let Some(id) = open.pop() {
        let Some(package) = packages.get(id).filter(|p| !is_macro(p)) else {
            continue;
        };
        if package["source"].is_string() {
            found.insert((string(package, "name"), string(package, "version")), *package);
        }
        for dependency in nodes.get(id).map_or(&[][..], |node| array(node, "deps")) {
            let is_normal = array(dependency, "dep_kinds").iter().any(|k| k["kind"].is_null());
            let id = string(dependency, "pkg");
            if is_normal && seen.insert(id) {
                open.push(id);
            }
        }
    }
    found.into_values().collect()
}

fn list(metadata: &Value, roots: &[&str]) -> Result<String, String> {
    let packages = linked(metadata, roots);
    // Each text once, with those who use it.
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut out = String::from(
        "Remask contains the following works of others. The texts of their licences follow; where a package comes\n\
         without one, the name of its licence (spdx.org/licenses) is all there is. Rust's standard library\n\
         (MIT OR Apache-2.0, the Rust project's developers) is in it too.\n\n",
    );
    for package in &packages {
        let name = format!("{} {}", string(package, "name"), string(package, "version"));
        let (licence, home) = (string(package, "license"), string(package, "repository"));
        let licence = if licence.is_empty() {
            "see its text"
        } else {
            licence
        };
        let _ = writeln!(
            out,
            "  {name}: {licence}{}{home}",
            if home.is_empty() { "" } else { ", " }
        );
        let manifest = Path::new(string(package, "manifest_path"));
        for path in files(manifest.parent().unwrap_or(manifest), 1) {
            let text = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let text = String::from_utf8_lossy(&text).replace("\r\n", "\n");
            let users = texts.entry(text.trim().to_owned()).or_default();
            if !users.contains(&name) {
                users.push(name.clone());
            }
        }
    }
    let mut texts: Vec<_> = texts.into_iter().collect();
    texts.sort_by(|a, b| a.1.cmp(&b.1));
    for (text, users) in texts {
        let _ = write!(out, "\n{}\n{}\n\n{text}\n", "-".repeat(100), users.join(", "));
    }
    Ok(out)
}

/// Licences in a folder and, for sources of others that a package carries, `depth` folders below it.
fn files(folder: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if path.is_dir() {
            if depth > 0 {
                found.extend(files(&path, depth - 1));
            }
        } else if NAMES.iter().any(|begin| name.starts_with(begin)) {
            found.push(path);
        }
    }
    found.sort();
    found
}
