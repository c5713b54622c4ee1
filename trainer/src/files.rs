//! Files that are whole or not there.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use remask::{Error, ErrorKind, Result};

/// How a file's name begins until it is whole.
pub const UNFINISHED: &str = ".remask-";

/// Largest text that is read whole: a configuration, a tokenizer, a list of shards.
const MAX_TEXT: u64 = 256 << 20;

/// Opens a regular file to be read. Asked before it is opened: opening a FIFO would wait.
///
/// # Errors
/// `Io`, naming it.
pub fn open(path: &Path) -> Result<File> {
    let named = |e: std::io::Error| Error::from(e).context(path.display());
    if !std::fs::metadata(path).map_err(named)?.is_file() {
        let message = format!("{}: is no regular file", path.display());
        return Err(Error::new(ErrorKind::Io, message));
    }
    File::open(path).map_err(named)
}

/// The text of a regular file.
///
/// # Errors
/// `Io`; `Format`, when it is not UTF-8; `Limit`, beyond 256 MiB. Messages name it.
pub fn read_text(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(MAX_TEXT + 1).read_to_end(&mut bytes);
    read.map_err(|e| Error::from(e).context(path.display()))?;
    if bytes.len() as u64 > MAX_TEXT {
        let message = format!("{}: is longer than {MAX_TEXT} bytes", path.display());
        return Err(Error::new(ErrorKind::Limit, message));
    }
    let not_text = |_| Error::new(ErrorKind::Format, format!("{}: is not UTF-8", path.display()));
    String::from_utf8(bytes).map_err(not_text)
}

/// Writes a file beside `path`, syncs it and renames it.
///
/// # Errors
/// `Io`, naming the file.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let all = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
        write(file.as_file_mut())?;
        file.as_file_mut().flush()?;
        file.as_file().sync_all()?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            file.as_file()
                .set_permissions(std::fs::Permissions::from_mode(0o644))?;
        }
        std::fs::rename(file.path(), path)?;
        // It has moved; there is nothing to remove.
        let _ = file.into_temp_path().keep();
        Ok(())
    };
    all().map_err(|e| Error::from(e).context(path.display()))
}

/// Makes a folder and those above it.
///
/// # Errors
/// `Io`, naming it.
pub fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|e| Error::from(e).context(path.display()))
}
