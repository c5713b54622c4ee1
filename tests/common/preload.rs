//! Programs with one call that fails: `tests/c/preload.c`.
#![allow(dead_code)] // every test uses a part of it

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Compiles `tests/c/NAME.c` to the shared library `NAME.so` in `folder`; says so where that cannot be.
pub fn library(name: &str, folder: &Path, flags: &[&str]) -> Option<PathBuf> {
    let file = format!("tests/c/{name}.c");
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let source = here.map(|f| f.join(&file)).find(|f| f.is_file()).unwrap();
    let path = folder.join(format!("{name}.so"));
    let done = Command::new("cc")
        .args([
            "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared",
        ])
        .args(flags)
        .arg(source)
        .arg("-o")
        .arg(&path)
        .arg("-ldl")
        .output();
    let Ok(done) = done else {
        println!("skipped: there is no C compiler");
        return None;
    };
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(path)
}

/// The library that is loaded before the system's.
pub struct Preload {
    folder: tempfile::TempDir,
}

impl Preload {
    /// Compiles it; says so where that cannot be.
    pub fn build() -> Option<Self> {
        if !cfg!(all(target_os = "linux", target_env = "gnu")) {
            println!("skipped: no library is loaded before the system's here");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        library("preload", folder.path(), &[])?;
        Some(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Has `command` see a wall clock that jumps by so many seconds, to and fro.
    pub fn jump(&self, command: &mut Command, seconds: i64) {
        command
            .env("LD_PRELOAD", self.path("preload.so"))
            .env("REMASK_CLOCK", seconds.to_string());
    }

    /// Runs what `command` makes with its first call of `kind` failing, then with its second, and so on to
    /// the run that does not come to that call and so must succeed. `again`: all later calls fail too.
    /// `check` looks at what is left by each run. Without REMASK_TEST_LONG some calls are passed over.
    /// Returns how many calls failed.
    pub fn sweep(
        &self,
        kind: &str,
        again: bool,
        mut command: impl FnMut() -> Command,
        mut check: impl FnMut(&Output),
    ) -> usize {
        let met = self.path("met");
        let long = std::env::var_os("REMASK_TEST_LONG").is_some();
        let (mut k, mut n) = (0usize, 0);
        loop {
            let _ = std::fs::remove_file(&met);
            let mut command = command();
            let output = command
                .env("LD_PRELOAD", self.path("preload.so"))
                .env("REMASK_FAULT", format!("{kind} {k} {}", i32::from(again)))
                .env("REMASK_FAULT_MET", &met)
                .env("RUST_BACKTRACE", "0")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let ended = output.status.code();
            assert!(
                ended.is_some_and(|c| c < 100),
                "{command:?}, {kind} {k}: {}: {said}",
                output.status
            );
            check(&output);
            if !met.exists() {
                assert!(output.status.success(), "{command:?}, {kind} {k}: {said}");
                return n;
            }
            n += 1;
            k += if long { 1 } else { 1 + k / 2 };
            assert!(k < 5000, "{command:?}: {kind} does not end");
        }
    }
}

/// Names in a folder, in order.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A small file system of memory, mounted for a test; `None` with a line where that is not allowed.
pub struct Mount {
    folder: tempfile::TempDir,
}

impl Mount {
    /// One of `n_bytes`.
    pub fn new(n_bytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={n_bytes}"), "tmpfs"])
            .arg(folder.path())
            .output();
        match done {
            Ok(done) if done.status.success() => Some(Self { folder }),
            _ => {
                println!("skipped: no file system can be mounted here");
                None
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes it read-only.
    pub fn close(&self) {
        let done = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(self.path())
            .status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}
