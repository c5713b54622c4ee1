//! Files that are whole or not there.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use remask::{Error, Result};

/// How a file's name begins until it is whole.
pub const UNFINISHED: &str = ".remask-";

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
