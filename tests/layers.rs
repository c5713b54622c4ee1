//! The house rules that a scan of the sources can see: which module may use which, where `unsafe` may
//! stand, how long a file may be.

use std::path::{Path, PathBuf};

/// Module and what it may use. `error`, `log` and the macros are free to all.
const MAY_USE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("log", &[]),
    ("gguf", &[]),
    ("text", &[]),
    ("canvas", &[]),
    ("math", &[]),
    ("kernels", &["math"]),
    ("ggml", &["kernels"]),
    ("weights", &["gguf", "ggml"]),
    ("graph", &["gguf", "ggml", "weights"]),
    ("arch", &["gguf", "ggml", "weights", "graph"]),
    ("device", &["gguf", "ggml", "weights", "graph", "arch"]),
    (
        "model",
        &["gguf", "text", "ggml", "weights", "graph", "arch", "device"],
    ),
    ("denoise", &["canvas", "math"]),
    ("score", &["canvas", "denoise"]),
    (
        "session",
        &[
            "gguf", "text", "canvas", "ggml", "weights", "graph", "arch", "device", "model", "denoise",
        ],
    ),
    (
        "evaluate",
        &[
            "canvas", "denoise", "score", "text", "quantize", "model", "session",
        ],
    ),
    ("quantize", &["gguf", "ggml", "weights"]),
    (
        "synthetic",
        &["gguf", "ggml", "text", "quantize", "model", "session"],
    ),
    (
        "convert",
        &["gguf", "ggml", "text", "weights", "quantize", "arch", "model"],
    ),
    (
        "ffi",
        &[
            "gguf", "text", "canvas", "weights", "device", "model", "denoise", "score", "session",
            "quantize", "convert",
        ],
    ),
];

/// Where `unsafe` may stand.
const UNSAFE_ROOMS: &[&str] = &["src/ggml/", "src/ffi/", "src/kernels/", "src/weights/map.rs"];

const MAX_LINES: usize = 800;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found
        .into_iter()
        .map(|path| {
            let name = path
                .strip_prefix(root())
                .unwrap()
                .to_string_lossy()
                .replace('\\', "/");
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// The module that a file of `src/` belongs to.
fn module(name: &str) -> &str {
    let inside = name.strip_prefix("src/").unwrap_or(name);
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

/// A file's code without comments.
fn code(text: &str) -> String {
    text.lines()
        .map(|l| l.split("//").next().unwrap_or(l))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Modules named after `crate::`, also inside braces.
fn used(text: &str) -> Vec<String> {
    let code = code(text);
    let mut found = Vec::new();
    for part in code.split("crate::").skip(1) {
        let names: Vec<&str> = match part.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or(list).split(',').collect(),
            None => vec![part],
        };
        for name in names {
            let word: String = name
                .trim()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            let is_macro = name.trim()[word.len()..].starts_with('!');
            if !is_macro {
                found.push(word);
            }
        }
    }
    found
}

fn faults(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let module = module(name);
    if let Some((_, allowed)) = MAY_USE.iter().find(|(m, _)| *m == module) {
        for other in used(text) {
            let known = MAY_USE.iter().any(|(m, _)| *m == other);
            let free = other == "error" || other == "log" || other == module;
            if known && !free && !allowed.contains(&other.as_str()) {
                faults.push(format!("{name}: {module} must not use {other}"));
            }
        }
    } else if name != "src/lib.rs" && name.starts_with("src/") {
        faults.push(format!("{name}: module {module} is not in the table"));
    }
    let code = code(text);
    let in_room = UNSAFE_ROOMS.iter().any(|room| name.starts_with(room));
    if !in_room && (code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")) {
        faults.push(format!("{name}: unsafe outside its rooms"));
    }
    let forbids = text.contains("#![forbid(unsafe_code)]");
    // A module that declares a room cannot forbid for it.
    let exempt = matches!(name, "src/lib.rs" | "src/weights/mod.rs");
    if name.starts_with("src/") && !in_room && !forbids && !exempt {
        faults.push(format!("{name}: #![forbid(unsafe_code)] is missing"));
    }
    if !name.starts_with("src/ggml/") && (code.contains("ggml_sys") || code.contains("llama_cpp_sys")) {
        faults.push(format!("{name}: only src/ggml sees ggml-sys"));
    }
    let n = text.lines().count();
    if n > MAX_LINES {
        faults.push(format!("{name}: {n} lines; the limit is {MAX_LINES}"));
    }
    faults
}

#[test]
fn every_file_keeps_to_its_layer() {
    let all: Vec<_> = ["src", "cli/src", "xtask/src"]
        .iter()
        .flat_map(|f| sources(f))
        .collect();
    assert!(all.len() > 60, "only {} files found", all.len());
    let faults: Vec<_> = all.iter().flat_map(|(name, text)| faults(name, text)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_scan_sees_what_it_looks_for() {
    let seen = |name: &str, text: &str, word: &str| {
        let found = faults(name, &format!("#![forbid(unsafe_code)]\n{text}"));
        assert!(found.iter().any(|f| f.contains(word)), "{name}: {found:?}");
    };
    seen(
        "src/gguf/x.rs",
        "use crate::text::Tokenizer;",
        "must not use text",
    );
    seen(
        "src/denoise/x.rs",
        "use crate::{canvas::Token, model::Model};",
        "must not use model",
    );
    seen("src/session/x.rs", "fn f() { unsafe { g() } }", "unsafe outside");
    seen("src/model.rs", "use ggml_sys as sys;", "only src/ggml");
    seen("src/newcomer.rs", "", "not in the table");
    seen("src/arch/long.rs", &"\n".repeat(900), "901 lines");
    assert!(
        faults("src/gguf/x.rs", "//! No forbid here.")
            .iter()
            .any(|f| f.contains("is missing"))
    );
    assert!(
        faults(
            "src/gguf/x.rs",
            "#![forbid(unsafe_code)]\ncrate::bail!(Format, \"x\")\n"
        )
        .is_empty()
    );
}
