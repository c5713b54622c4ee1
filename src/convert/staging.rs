//! Where the files of a checkpoint are written until all of them are whole.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A folder beside the target where that is new, and takes its name at the end; else one inside the target.
/// What is not published is removed.
pub(super) struct Staging {
    target: PathBuf,
    folder: PathBuf,
    is_new: bool,
    /// Files of the target lie in the folder and could not be put back.
    keep: Cell<bool>,
}

impl Staging {
    /// # Errors
    /// `InvalidArgument`, when the target holds files and `overwrite` is false; `Io`.
    pub fn new(target: &Path, overwrite: bool) -> Result<Self> {
        let named = |e: std::io::Error| Error::from(e).context(target.display());
        let is_new = match std::fs::read_dir(target).map(|mut entries| entries.next().is_some()) {
            Ok(true) if !overwrite => crate::bail!(
                InvalidArgument,
                "{} exists; it is not empty: choose another folder or allow files to be replaced",
                target.display()
            ),
            Ok(_) => false,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => true,
            Err(e) => return Err(named(e)),
        };
        // Parts of another checkpoint would be taken for parts of this one.
        if target.join("model.safetensors.index.json").exists() {
            crate::bail!(
                InvalidArgument,
                "{} holds a checkpoint in parts; choose an empty folder",
                target.display()
            );
        }
        let name = format!(".export-{}.tmp", std::process::id());
        let folder = match is_new {
            true => parent(target).join(name),
            false => target.join(name),
        };
        std::fs::create_dir(&folder).map_err(named)?;
        Ok(Self {
            target: target.to_owned(),
            folder,
            is_new,
            keep: Cell::new(false),
        })
    }

    /// Where the file `name` is written.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the file `name`.
    ///
    /// # Errors
    /// `Io`.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        let all = || -> std::io::Result<()> {
            let mut file = File::create(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        all().map_err(|e| Error::from(e).context(path.display()))
    }

    /// Puts the files `names` in their place, in this order.
    ///
    /// # Errors
    /// `Io`: the target is then as it was.
    pub fn publish(&self, names: &[String]) -> Result<()> {
        if self.is_new {
            sync(&self.folder);
            rename(&self.folder, &self.target)?;
            sync(parent(&self.target));
            return Ok(());
        }
        let mut done = Vec::new();
        for name in names {
            if let Err(error) = self.replace(name) {
                for name in done.into_iter().rev() {
                    self.take_back(name);
                }
                return Err(error);
            }
            done.push(name);
        }
        sync(&self.target);
        Ok(())
    }

    /// What was there stays in the folder, under a name of no file of ours.
    fn replace(&self, name: &str) -> Result<()> {
        let (to, old) = (self.target.join(name), self.old(name));
        // Where a file cannot have two names it has none for a moment.
        if to.exists() && std::fs::hard_link(&to, &old).is_err() {
            rename(&to, &old)?;
        }
        rename(&self.path(name), &to).inspect_err(|_| self.take_back(name))
    }

    fn take_back(&self, name: &str) {
        let (to, old) = (self.target.join(name), self.old(name));
        let done = match old.exists() {
            true => std::fs::rename(&old, &to),
            false => std::fs::remove_file(&to).or(Ok(())),
        };
        if done.is_err() {
            crate::log!(
                Error,
                "{} could not be put back; it is {}",
                to.display(),
                old.display()
            );
            self.keep.set(true);
        }
    }

    fn old(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.old"))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.keep.get() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|e| Error::from(e).context(to.display()))
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Names in a folder reach the disk, where the system can do that: the files are whole either way.
fn sync(folder: &Path) {
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}
