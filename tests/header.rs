//! `include/remask.h` is what `src/ffi` says. With REMASK_WRITE_HEADER set it is written anew: that is
//! what `cargo xtask header` does.

use std::path::Path;

/// In the order in which a reader meets them.
const FILES: &[&str] = &[
    "types",
    "error",
    "log",
    "device",
    "cancel",
    "model",
    "load",
    "tokenizer",
    "decoder",
    "chat",
    "canvas",
    "session",
    "generate",
    "run",
    "score",
    "logits",
    "files",
];

fn generate(root: &Path) -> String {
    let config = cbindgen::Config::from_file(root.join("include/cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in FILES {
        builder = builder.with_src(root.join(format!("src/ffi/{file}.rs")));
    }
    let mut text = Vec::new();
    builder.generate().unwrap().write(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn the_header_is_what_the_sources_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("include/remask.h");
    let made = generate(root);
    if std::env::var_os("REMASK_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        made == stored,
        "include/remask.h is not what src/ffi says; run `cargo xtask header`"
    );
}

#[test]
fn every_file_with_declarations_is_in_the_header() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in std::fs::read_dir(root.join("src/ffi")).unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let name = entry.path().file_stem().unwrap().to_string_lossy().into_owned();
        let declares = text.contains("extern \"C\" fn remask_") || text.contains("\n#[repr(C)]");
        assert!(
            !declares || name == "mod" || FILES.contains(&name.as_str()),
            "src/ffi/{name}.rs is not in the header"
        );
    }
}
