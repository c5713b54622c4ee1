//! `cargo xtask pack-test-data`: what tests need of `../shared`, compacted and reproducible.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::Outcome;

/// Most bytes that the archives may take together.
const LIMIT: u64 = 20 << 20;

pub fn run() -> Outcome {
    let shared = crate::root().join("../shared");
    let mut total = 0;
    for name in ["vectors", "hostile"] {
        let source = shared.join(name);
        let target = crate::root().join(format!("tests/data/{name}.tar.zst"));
        let size = pack(&source, &target).map_err(|e| format!("{}: {e}", source.display()))?;
        println!("{}: {size} bytes", target.display());
        total += size;
    }
    if total > LIMIT {
        Err(format!("the archives take {total} bytes; the limit is {LIMIT}"))
    } else {
        Ok(())
    }
}

/// Archives a folder: sorted, without times and owners, so that the same input gives the same bytes.
fn pack(source: &Path, target: &Path) -> std::io::Result<u64> {
    let mut files = Vec::new();
    list(source, &mut files)?;
    files.sort();
    let temporary = target.with_extension("tmp");
    let mut encoder = zstd::Encoder::new(File::create(&temporary)?, 19)?;
    // Many files here are near copies of one another, further apart than the usual window.
    encoder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(26))?;
    encoder.set_parameter(zstd::zstd_safe::CParameter::EnableLongDistanceMatching(true))?;
    let mut archive = tar::Builder::new(encoder);
    for path in files {
        let bytes = std::fs::read(&path)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        let name = path.strip_prefix(source).unwrap_or(&path);
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    archive.into_inner()?.finish()?;
    std::fs::rename(&temporary, target)?;
    Ok(std::fs::metadata(target)?.len())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?
        } else {
            files.push(path)
        }
    }
    Ok(())
}
