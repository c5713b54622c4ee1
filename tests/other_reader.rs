//! What our reader takes, ggml's own reader takes too, and sees the same tensors in it. ggml's reads in a child:
//! on some files it ends its process.

#[path = "../fuzz/src/bent.rs"]
#[allow(dead_code)]
mod bent;
mod common;

use std::ffi::{CStr, CString};
use std::path::Path;
use std::process::Command;

use remask::gguf::Gguf;

const CHILD: &str = "REMASK_OTHER_READER";

/// Name, type, offset behind the header, bytes: of all tensors.
fn ours(bytes: &[u8]) -> Option<String> {
    let file = Gguf::parse(bytes).ok()?;
    let line = |t: &remask::gguf::TensorInfo| {
        format!(
            "{} {} {} {}\n",
            t.name,
            t.ty.id(),
            t.offset - file.data_offset,
            t.n_bytes
        )
    };
    Some(file.tensors.iter().map(line).collect())
}

fn theirs(path: &Path) -> Option<String> {
    let path = CString::new(path.to_str()?).ok()?;
    let params = ggml_sys::gguf_init_params {
        no_alloc: true,
        ctx: std::ptr::null_mut(),
    };
    // SAFETY: the path is terminated and lives through the call.
    let file = unsafe { ggml_sys::gguf_init_from_file(path.as_ptr(), params) };
    if file.is_null() {
        return None;
    }
    let mut all = String::new();
    // SAFETY: not NULL: checked above.
    for i in 0..unsafe { ggml_sys::gguf_get_n_tensors(file) } {
        // SAFETY: the index is below the count, as for the next four.
        let name = unsafe { ggml_sys::gguf_get_tensor_name(file, i) };
        // SAFETY: a terminated string of the file's, which lives on.
        let name = unsafe { CStr::from_ptr(name) };
        // SAFETY: as above.
        let ty = unsafe { ggml_sys::gguf_get_tensor_type(file, i) };
        // SAFETY: as above.
        let offset = unsafe { ggml_sys::gguf_get_tensor_offset(file, i) };
        // SAFETY: as above.
        let size = unsafe { ggml_sys::gguf_get_tensor_size(file, i) };
        all += &format!("{} {ty} {offset} {size}\n", name.to_string_lossy());
    }
    // SAFETY: not NULL, and freed once.
    unsafe { ggml_sys::gguf_free(file) };
    Some(all)
}

/// Not a test of its own: reads the files that the test below wrote, one `.other` beside each.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    for file in std::fs::read_dir(folder).unwrap().flatten().map(|e| e.path()) {
        if file.extension().is_some_and(|e| e == "gguf") {
            std::fs::write(file.with_extension("began"), "").unwrap();
            std::fs::write(
                file.with_extension("other"),
                theirs(&file).unwrap_or("refused".into()),
            )
            .unwrap();
        }
    }
}

#[test]
fn what_is_taken_here_is_taken_there_with_the_same_tensors() {
    let dir = common::hostile_dir();
    let folder = tempfile::tempdir().unwrap();
    let mut dice = bent::Dice(5);
    let mut kept = Vec::new();
    for round in 0..400 {
        let base = std::fs::read(dir.join(["ok_q8.gguf", "ok_f32.gguf", "ok_q4.gguf"][round % 3])).unwrap();
        let bytes = match round % 2 {
            0 => bent::mutate(&base, &mut dice),
            _ => {
                let program: Vec<u8> = (0..dice.below(12)).map(|_| dice.next() as u8).collect();
                bent::bend(&base, &program)
            }
        };
        if let Some(tensors) = ours(&bytes) {
            let path = folder.path().join(format!("{round}.gguf"));
            std::fs::write(&path, bytes).unwrap();
            kept.push((path, tensors));
        }
    }
    assert!(kept.len() > 100, "only {} files were taken", kept.len());
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child"])
        .env(CHILD, folder.path())
        .env("GGML_NO_BACKTRACE", "1")
        .output()
        .unwrap();
    for (path, tensors) in &kept {
        let other = std::fs::read_to_string(path.with_extension("other"));
        match other {
            Ok(other) => assert_eq!(
                &other,
                tensors,
                "{}: {}",
                path.display(),
                String::from_utf8_lossy(&child.stderr)
            ),
            Err(_) if path.with_extension("began").exists() => {
                panic!("ggml's reader fell over {}", path.display())
            }
            Err(_) => assert!(
                child.status.success(),
                "the child ended before {}",
                path.display()
            ),
        }
    }
}
