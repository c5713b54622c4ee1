//! `cargo xtask asserts`: the assertions of the pinned ggml that our calls can reach, against a list that is
//! checked in. ggml ends the process where one is false; each needs a check before the call. A new version
//! that brings new ones shows them here first.
//!
//! What can be reached is found by names: from the functions that `src/ggml` calls to those that they name,
//! tables of functions included; of the operations only those that our builders put into a graph. That is
//! more than can happen, never less.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// Sources of the core and of the CPU backend, from `ggml/src`.
const SOURCES: &[&str] = &[
    "ggml.c",
    "ggml.cpp",
    "ggml-alloc.c",
    "ggml-backend.cpp",
    "ggml-backend-meta.cpp",
    "ggml-backend-reg.cpp",
    "ggml-quants.c",
    "ggml-threading.cpp",
    "ggml-cpu/ggml-cpu.c",
    "ggml-cpu/ggml-cpu.cpp",
    "ggml-cpu/ops.cpp",
    "ggml-cpu/binary-ops.cpp",
    "ggml-cpu/unary-ops.cpp",
    "ggml-cpu/vec.cpp",
    "ggml-cpu/quants.c",
    "ggml-cpu/traits.cpp",
    "ggml-cpu/arch/x86/quants.c",
    "ggml-cpu/arch/arm/quants.c",
];

const LIST: &str = "tests/data/ggml-asserts.txt";

/// A function or a table of a source file.
struct Block {
    file: &'static str,
    body: String,
}

/// Compares, or writes the list where `write` is set.
pub fn run(write: bool) -> Outcome {
    let found = reached(&sources()?)?;
    let path = crate::root().join(LIST);
    if write {
        let text: String = found.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        println!("{} assertions written to {LIST}", found.len());
        return Ok(());
    }
    compare(&found, &path)
}

fn compare(found: &BTreeSet<String>, path: &Path) -> Outcome {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let known: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    found.difference(&known).for_each(|line| println!("new   {line}"));
    known.difference(found).for_each(|line| println!("gone  {line}"));
    match found.difference(&known).count() {
        0 => {
            println!("{} assertions can be reached, all of them known", found.len());
            Ok(())
        }
        n => Err(format!(
            "{n} new assertions of ggml: check before each call that they hold, then cargo xtask asserts --write"
        )),
    }
}

/// Where cargo keeps the sources of the ggml that is pinned.
fn sources() -> Result<PathBuf, String> {
    // Of this platform alone: crates of others need not be here.
    let host = said("rustc", &["-vV"])?;
    let host = host
        .lines()
        .find_map(|l| l.strip_prefix("host: "))
        .ok_or("rustc names no host")?;
    let about = [
        "metadata",
        "--format-version",
        "1",
        "--offline",
        "--filter-platform",
        host,
    ];
    let text = said(&crate::cargo(), &about)?;
    // One string of the JSON: the manifest of the crate.
    let manifest = text
        .split('"')
        .find(|s| s.ends_with("Cargo.toml") && s.contains("/llama-cpp-sys-2-"));
    let manifest = manifest.ok_or("cargo metadata names no llama-cpp-sys-2")?;
    let folder = Path::new(manifest).parent().unwrap_or(Path::new("."));
    Ok(folder.join("llama.cpp/ggml/src"))
}

fn said(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .current_dir(crate::root())
        .output();
    let output = output.map_err(|e| format!("{program} does not start: {e}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!(
            "{program} {}: {}",
            args[0],
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// Assertions that can be reached, as `file function: text`; those that are there several times with a
/// number.
fn reached(folder: &Path) -> Result<BTreeSet<String>, String> {
    let mut blocks: BTreeMap<String, Vec<Block>> = BTreeMap::new();
    for file in SOURCES {
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        for (name, body) in split(&without_comments(&text)) {
            blocks.entry(name).or_default().push(Block { file, body });
        }
    }
    let mut roots = BTreeSet::new();
    for file in std::fs::read_dir(crate::root().join("src/ggml"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        let named = words(&text).filter(|w| w.starts_with("ggml_")).map(str::to_owned);
        roots.extend(named.filter(|w| blocks.contains_key(w)));
    }
    // First what builds graphs: it says which operations there are.
    let built = closure(&blocks, roots.into_iter(), &|name, _| {
        name != "ggml_compute_forward"
    });
    let mut ops = BTreeSet::new();
    for block in built.iter().flat_map(|name| &blocks[name]) {
        let text = &block.body;
        for (at, _) in text.match_indices("->op ") {
            let rest = text[at + 5..].trim_start_matches([' ', '=']);
            ops.extend(
                words(rest)
                    .next()
                    .filter(|w| w.starts_with("GGML_OP_"))
                    .map(str::to_owned),
            );
        }
    }
    let forward = blocks.get("ggml_compute_forward").and_then(|b| b.first());
    let forward = forward.ok_or("ggml_compute_forward is not where it was")?;
    let used: BTreeSet<String> = forward
        .body
        .split("case ")
        .filter(|case| words(case).next().is_some_and(|op| ops.contains(op)))
        .flat_map(|case| words(case).map(str::to_owned).collect::<Vec<_>>())
        .filter(|w| blocks.contains_key(w))
        .collect();
    let operation = |name: &str| name.starts_with("ggml_compute_forward_");
    let wanted = |from: &str, to: &str| from != "ggml_compute_forward" || !operation(to) || used.contains(to);
    let starts = built
        .iter()
        .cloned()
        .chain(used.iter().cloned())
        .chain(["ggml_compute_forward".to_owned()]);
    let reached = closure(&blocks, starts, &wanted);
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for name in &reached {
        for block in &blocks[name] {
            for text in assertions(&block.body) {
                *count.entry(format!("{} {name}: {text}", block.file)).or_default() += 1;
            }
        }
    }
    let line = |(text, n): (String, usize)| match n {
        1 => text,
        n => format!("{text} x{n}"),
    };
    Ok(count.into_iter().map(line).collect())
}

/// All blocks that `starts` lead to; `follows` says whether a name in a block counts.
fn closure(
    blocks: &BTreeMap<String, Vec<Block>>,
    starts: impl Iterator<Item = String>,
    follows: &dyn Fn(&str, &str) -> bool,
) -> BTreeSet<String> {
    let mut seen: BTreeSet<String> = starts.filter(|s| blocks.contains_key(s)).collect();
    let mut queue: VecDeque<String> = seen.iter().cloned().collect();
    while let Some(name) = queue.pop_front() {
        for block in &blocks[&name] {
            for word in words(&block.body) {
                if blocks.contains_key(word) && !seen.contains(word) && follows(&name, word) {
                    seen.insert(word.to_owned());
                    queue.push_back(word.to_owned());
                }
            }
        }
    }
    seen
}

/// Functions and tables: from a line that begins at the margin to the next that begins with a brace, as
/// these sources are laid out.
fn split(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut head = String::new();
    let mut body: Option<(String, String)> = None;
    for line in text.lines() {
        if let Some((_, inside)) = &mut body {
            if line.starts_with('}') {
                found.extend(body.take());
            } else {
                inside.push_str(line);
                inside.push('\n');
            }
            continue;
        }
        if line.starts_with('#') || line.trim().is_empty() || line.starts_with('}') {
            head.clear();
            continue;
        }
        head.push_str(line);
        head.push('\n');
        let trimmed = line.trim_end();
        if trimmed.ends_with(';') || (trimmed.contains('{') && trimmed.ends_with('}')) {
            // A declaration, or a function of one line.
            if let (Some(name), true) = (name_of(&head), trimmed.ends_with('}')) {
                found.push((name, head.clone()));
            }
            head.clear();
        } else if trimmed.ends_with('{') {
            let opens = head.contains("extern \"C\"") && !head.contains('(') || head.starts_with("namespace");
            if !opens {
                body = name_of(&head).map(|name| (name, head.clone()));
            }
            head.clear();
        }
    }
    found
}

/// The name before the first bracket of a function's head, or before the `=` of a table's.
fn name_of(head: &str) -> Option<String> {
    let head = head.split("template").last().unwrap_or(head);
    let head = match head
        .split_once('>')
        .filter(|_| head.trim_start().starts_with('<'))
    {
        Some((_, rest)) => rest,
        None => head,
    };
    let end = head.find(['(', '=', '['])?;
    words(&head[..end]).last().map(str::to_owned)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|w| !w.is_empty())
}

/// `GGML_ASSERT(...)` and `GGML_ABORT(...)`, each on one line.
fn assertions(body: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in ["GGML_ASSERT", "GGML_ABORT"] {
        for (at, _) in body.match_indices(name) {
            let rest = &body[at..];
            let mut depth = 0;
            let end = rest.char_indices().find_map(|(i, c)| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                (c == ')' && depth == 0).then_some(i + 1)
            });
            let text = &rest[..end.unwrap_or(name.len())];
            found.push(text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    found
}

/// Comments become spaces; strings stay.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['/', '"', '\'']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let n = if rest.starts_with("//") {
            let n = rest.find('\n').unwrap_or(rest.len());
            rest = &rest[n..];
            continue;
        } else if rest.starts_with("/*") {
            let n = rest.find("*/").map_or(rest.len(), |n| n + 2);
            out.extend(rest[..n].chars().filter(|c| *c == '\n'));
            rest = &rest[n..];
            continue;
        } else if rest.starts_with('/') {
            1
        } else {
            quoted(rest)
        };
        out.push_str(&rest[..n]);
        rest = &rest[n..];
    }
    out.push_str(rest);
    out
}

/// Length of the literal that `text` begins with.
fn quoted(text: &str) -> usize {
    let quote = text.as_bytes()[0];
    let mut escaped = false;
    for (i, &byte) in text.as_bytes().iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'\n' => return i,
            _ if byte == quote => return i + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_assertion_that_can_be_reached_is_known() {
        run(false).unwrap();
    }

    #[test]
    fn a_new_one_is_found() {
        let mut found = reached(&sources().unwrap()).unwrap();
        // Some that a file or a caller would reach if nothing were checked: see the table in tests/aborts.rs.
        for part in [
            "ggml-cpu/ops.cpp ggml_compute_forward_rms_norm_f32: GGML_ASSERT(eps >= 0.0f)",
            "ggml.c ggml_mul_mat: GGML_ASSERT(ggml_can_mul_mat(a, b))",
        ] {
            assert!(found.iter().any(|line| line.starts_with(part)), "{part}");
        }
        assert!(
            found
                .iter()
                .any(|l| l.starts_with("ggml-cpu/ggml-cpu.c ggml_threadpool_new_impl: "))
        );
        assert!(!found.iter().any(|l| l.contains(" ggml_compute_forward_conv_2d")));
        found.insert("ggml.c ggml_mul_mat: GGML_ASSERT(new)".to_owned());
        assert!(compare(&found, &crate::root().join(LIST)).is_err());
    }

    #[test]
    fn functions_and_tables_are_told_apart() {
        let text = "static int f(int a) {\n    // GGML_ASSERT(no)\n    GGML_ASSERT(a\n        > 0);\n}\n#if X\n\
                    template <typename T>\nstatic void g(\n    T x\n) {\n    f(1);\n}\nstatic const struct t table[3] = {\n    g,\n};\n";
        let found = split(&without_comments(text));
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["f", "g", "table"]);
        assert_eq!(assertions(&found[0].1), ["GGML_ASSERT(a > 0)"]);
    }
}
