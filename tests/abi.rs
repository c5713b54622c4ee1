//! What was released stays: declarations and layouts of `include/remask.h` are those of `tests/abi`, which
//! only grows. With REMASK_WRITE_ABI set, what is new is added there.
#![cfg(all(unix, target_pointer_width = "64"))]

use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Declarations of the header, one a line, without comments.
fn declarations() -> Vec<String> {
    let header = std::fs::read_to_string(root().join("include/remask.h")).unwrap();
    let code: Vec<&str> = header
        .lines()
        .filter(|l| !l.trim_start().starts_with("///"))
        .collect();
    let mut found: Vec<String> = code
        .iter()
        .filter(|l| l.starts_with("#define REMASK_") && l.split_whitespace().count() > 2)
        .filter(|l| !l.contains("REMASK_API") && !l.contains("REMASK_MUST_USE") && !l.contains("DEPRECATED"))
        .map(|l| l.to_string())
        .collect();
    let text = code.join("\n");
    for part in text.split("REMASK_API").skip(1) {
        if let Some((declaration, _)) = part.split_once(';') {
            let words: Vec<&str> = declaration
                .split_whitespace()
                .filter(|w| *w != "REMASK_MUST_USE")
                .collect();
            // What follows the macro's own definition is no declaration.
            let code = !declaration.contains('#');
            if code && declaration.contains('(') && words.iter().any(|w| w.contains("remask_")) {
                found.push(words.join(" ").replace("( ", "("));
            }
        }
    }
    for part in text.split("typedef ").skip(1) {
        let one_line = part.split(';').next().unwrap_or_default();
        if !one_line.contains('{') {
            let words: Vec<&str> = one_line.split_whitespace().collect();
            found.push(format!("typedef {}", words.join(" ")));
        }
    }
    found
}

/// Name and fields of every struct.
fn structs() -> Vec<(String, Vec<String>)> {
    let header = std::fs::read_to_string(root().join("include/remask.h")).unwrap();
    let mut found = Vec::new();
    for part in header.split("typedef struct ").skip(1) {
        let Some((name, rest)) = part.split_once(" {") else {
            continue;
        };
        if name.contains(';') {
            continue;
        }
        let body = rest.split("\n}").next().unwrap_or_default();
        let fields = body
            .lines()
            .map(str::trim)
            .filter(|l| !l.starts_with("///") && l.ends_with(';'))
            .filter_map(|l| {
                let l = l.trim_end_matches(';').split('[').next()?;
                Some(l.rsplit([' ', '*']).next()?.to_owned())
            })
            .collect();
        found.push((name.to_owned(), fields));
    }
    found
}

/// Offset and size of every field, as the system's compiler lays them out.
fn layouts() -> Vec<String> {
    let mut program = String::from("#include \"remask.h\"\n#include <stdio.h>\nint main(void) {\n");
    for (name, fields) in structs() {
        for field in fields {
            program.push_str(&format!(
                "printf(\"{name}.{field} %zu %zu\\n\", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));\n"
            ));
        }
        program.push_str(&format!("printf(\"sizeof {name} %zu\\n\", sizeof({name}));\n"));
    }
    program.push_str("return 0;\n}\n");
    let folder = tempfile::tempdir().unwrap();
    let (source, binary) = (folder.path().join("layout.c"), folder.path().join("layout"));
    std::fs::write(&source, program).unwrap();
    let done = Command::new("cc")
        .arg("-I")
        .arg(root().join("include"))
        .arg(&source)
        .arg("-o")
        .arg(&binary)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let out = Command::new(binary).output().unwrap();
    String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Every line of the snapshot must still be true; what is new must be in it.
fn only_grows(file: &str, now: &[String]) {
    let path = root().join("tests/abi").join(file);
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    // A struct's size may grow; its fields may not move.
    let frozen = |line: &&str| !line.starts_with("sizeof ");
    let gone: Vec<_> = stored
        .lines()
        .filter(frozen)
        .filter(|l| !now.iter().any(|n| n == l))
        .collect();
    assert!(
        gone.is_empty(),
        "changed or gone since it was recorded in {file}:\n{}",
        gone.join("\n")
    );
    if std::env::var_os("REMASK_WRITE_ABI").is_some() {
        std::fs::write(&path, now.join("\n") + "\n").unwrap();
        return;
    }
    let new: Vec<_> = now
        .iter()
        .filter(|n| !stored.lines().any(|l| l == *n))
        .cloned()
        .collect();
    assert!(
        new.is_empty(),
        "new, not yet in {file} (run with REMASK_WRITE_ABI=1):\n{}",
        new.join("\n")
    );
}

#[test]
fn released_declarations_stay() {
    let now = declarations();
    assert!(now.len() > 100, "only {} declarations found", now.len());
    only_grows("declarations.txt", &now);
}

#[test]
fn fields_stay_where_they_are() {
    only_grows("layout-64.txt", &layouts());
}

#[test]
fn structs_have_no_padding() {
    let lines = layouts();
    let mut end = 0;
    for line in &lines {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] == "sizeof" {
            assert_eq!(
                words[2].parse::<usize>().unwrap(),
                end,
                "{line}: there is padding at the end"
            );
            end = 0;
        } else {
            assert_eq!(
                words[1].parse::<usize>().unwrap(),
                end,
                "{line}: there is padding before it"
            );
            end += words[2].parse::<usize>().unwrap();
        }
    }
}
