//! Where golden vectors and hostile files are, and how to read them.
#![allow(dead_code)] // every test uses a part of it

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder that holds `checkpoints/`, `logits/`, `generate/`, ...
pub fn vectors_dir() -> PathBuf {
    data_dir("golden vectors", "vectors")
}

/// The folder that holds the hostile files and `MANIFEST.tsv`.
pub fn hostile_dir() -> PathBuf {
    data_dir("hostile files", "hostile")
}

/// The full set beside the repository where it is, else the packed one, unpacked once.
fn data_dir(what: &str, name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The workspace's folder, also for the tests of its members.
    let above = here.ancestors().find(|f| f.join("tests/data").is_dir());
    let root = above.unwrap_or(here);
    let full = root.join("../shared").join(name);
    let packed_only = std::env::var_os("REMASK_TEST_DATA").is_some_and(|v| v == "packed");
    if full.is_dir() && !packed_only {
        announce(&format!("{what}: full set in ../shared/{name}"));
        return full;
    }
    announce(&format!("{what}: packed set in tests/data/{name}.tar.zst"));
    unpack(&root.join(format!("tests/data/{name}.tar.zst")), name)
}

/// Says once per program which data is used; past the test harness, which keeps what tests print.
fn announce(line: &str) {
    static SAID: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    let mut said = SAID.lock().unwrap_or_else(|e| e.into_inner());
    if !said.iter().any(|l| l == line) {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "{line}");
        said.push(line.to_owned());
    }
}

/// Unpacks an archive below the target folder, keyed by its size and time, safe against other test
/// processes that do the same.
fn unpack(archive: &Path, name: &str) -> PathBuf {
    let about = std::fs::metadata(archive).unwrap_or_else(|e| panic!("{}: {e}", archive.display()));
    let stamp = about
        .modified()
        .unwrap()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let target = base.join(format!("{name}-{}-{stamp}", about.len()));
    if target.is_dir() {
        return target;
    }
    std::fs::create_dir_all(base).unwrap();
    let temporary = tempfile::tempdir_in(base).unwrap();
    let file = std::fs::File::open(archive).unwrap();
    let inside = temporary.path().join("inside");
    tar::Archive::new(zstd::Decoder::new(file).unwrap())
        .unpack(&inside)
        .unwrap();
    // Another process may have been faster; either result is the same.
    let _ = std::fs::rename(&inside, &target);
    assert!(target.is_dir());
    target
}

/// A JSON file.
pub fn json(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// The arrays of a safetensors file.
pub struct Arrays {
    bytes: Vec<u8>,
    entries: BTreeMap<String, (String, Vec<usize>, usize, usize)>,
}

/// One array: its shape and its values in row-major order.
pub struct Array<T> {
    pub shape: Vec<usize>,
    pub values: Vec<T>,
}

impl<T> Array<T> {
    /// Row `i` of the first dimension.
    pub fn row(&self, i: usize) -> &[T] {
        let n: usize = self.shape[1..].iter().product();
        &self.values[i * n..(i + 1) * n]
    }
}

impl Arrays {
    pub fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
        let mut entries = BTreeMap::new();
        for (name, value) in header.as_object().unwrap() {
            if name == "__metadata__" {
                continue;
            }
            let number = |v: &serde_json::Value| v.as_u64().unwrap() as usize;
            let shape = value["shape"].as_array().unwrap().iter().map(number).collect();
            let range = &value["data_offsets"];
            let entry = (
                value["dtype"].as_str().unwrap().to_owned(),
                shape,
                8 + n + number(&range[0]),
                8 + n + number(&range[1]),
            );
            entries.insert(name.clone(), entry);
        }
        Self { bytes, entries }
    }

    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    fn array<T, const N: usize>(&self, name: &str, dtypes: &[&str], read: fn([u8; N]) -> T) -> Array<T> {
        let (dtype, shape, begin, end) = self
            .entries
            .get(name)
            .unwrap_or_else(|| panic!("array {name} is absent"));
        assert!(dtypes.contains(&dtype.as_str()), "array {name} is {dtype}");
        let values = self.bytes[*begin..*end]
            .chunks_exact(N)
            .map(|c| read(c.try_into().unwrap()))
            .collect();
        Array {
            shape: shape.clone(),
            values,
        }
    }

    pub fn f32(&self, name: &str) -> Array<f32> {
        self.array(name, &["F32"], f32::from_le_bytes)
    }

    pub fn f64(&self, name: &str) -> Array<f64> {
        self.array(name, &["F64"], f64::from_le_bytes)
    }

    pub fn i32(&self, name: &str) -> Array<i32> {
        self.array(name, &["I32"], i32::from_le_bytes)
    }

    /// Masks are stored as bytes or as 32-bit integers.
    pub fn flags(&self, name: &str) -> Array<bool> {
        let (dtype, ..) = &self.entries[name];
        match dtype.as_str() {
            "I32" => {
                let a = self.i32(name);
                Array {
                    shape: a.shape,
                    values: a.values.iter().map(|&x| x != 0).collect(),
                }
            }
            _ => self.array(name, &["U8", "BOOL"], |[b]: [u8; 1]| b != 0),
        }
    }
}

/// A copy of the valid folder with a bent one's files over it; `REMOVE` names files to delete.
pub fn lay_over(dir: &Path, name: &str, scratch: &Path) -> PathBuf {
    let target = scratch.join(name);
    std::fs::create_dir_all(&target).unwrap();
    for source in ["hf_ok", name] {
        for entry in std::fs::read_dir(dir.join(source)).unwrap().flatten() {
            std::fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
        }
    }
    if let Ok(list) = std::fs::read_to_string(target.join("REMOVE")) {
        for file in list.split_whitespace() {
            let _ = std::fs::remove_file(target.join(file));
        }
    }
    target
}
