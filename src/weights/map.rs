//! A model file's bytes: mapped and shared, or read into memory.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::load::LoadProgress;
use crate::error::{Error, ErrorKind, Result};
use crate::ggml::{AlignedBytes, HOST_ALIGNMENT, StableBytes};

/// What is read at a time: bounds the wait for a cancel.
pub const READ_AT_ONCE: usize = 4 << 20;

/// How a file comes into memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residence {
    /// Mapped read-only: opens at once, pages are shared between processes and dropped under pressure.
    /// The file must not be changed in place while it is open; that it was is noticed before each step.
    #[default]
    Map,
    /// Read into memory of this process: safe from later changes of the file.
    Read,
}

/// The bytes of one model file.
pub struct FileBytes {
    path: PathBuf,
    content: Content,
}

enum Content {
    Mapped {
        map: memmap2::Mmap,
        file: File,
        seen: (u64, Option<SystemTime>),
    },
    Owned(AlignedBytes),
    Lent(Box<dyn StableBytes>),
}

/// A buffer of the host's, with what keeps it.
pub struct LentBytes {
    bytes: &'static [u8],
    _keep: Box<dyn Send + Sync>,
}

impl LentBytes {
    /// # Safety
    /// `bytes` stays readable and unchanged as long as `keep` lives.
    pub unsafe fn new(bytes: &[u8], keep: Box<dyn Send + Sync>) -> Self {
        // SAFETY: the bytes live as long as `keep`, which goes with this value, and `bytes` of it gives
        // out borrows of it only.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) };
        Self { bytes, _keep: keep }
    }
}

// SAFETY: the slice is never replaced, and its memory stays by the contract of `new`.
unsafe impl StableBytes for LentBytes {
    fn bytes(&self) -> &[u8] {
        self.bytes
    }
}

/// A buffer that came in whole and is never changed again.
pub struct OwnedBytes {
    bytes: Vec<u8>,
}

impl OwnedBytes {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }
}

// SAFETY: nothing gives out the vector mutably, so that its memory stays where it is.
unsafe impl StableBytes for OwnedBytes {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

// SAFETY: a map and an `AlignedBytes` keep their address and length for their lives, what is lent promises so itself, and `content` is
// never replaced.
unsafe impl StableBytes for FileBytes {
    fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Mapped { map, .. } => map,
            Content::Owned(bytes) => bytes.bytes(),
            Content::Lent(bytes) => bytes.bytes(),
        }
    }
}

impl FileBytes {
    /// Opens `path`, a regular file.
    ///
    /// # Errors
    /// `Io`, when it cannot be opened or is no regular file (a folder, a FIFO, a device); `Format`, when
    /// it is empty; `Resource`, when it is to be read and memory is short.
    pub fn open(path: &Path, residence: Residence) -> Result<Self> {
        Self::open_watched(path, residence, &mut |_| ControlFlow::Continue(()))
    }

    /// As [`open`](Self::open), telling `progress` of the bytes that are read into memory.
    ///
    /// # Errors
    /// As [`open`](Self::open); `Cancelled`, when `progress` breaks.
    pub fn open_watched(
        path: &Path,
        residence: Residence,
        progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
    ) -> Result<Self> {
        let (file, metadata) = open_regular(path)?;
        if metadata.len() == 0 {
            crate::bail!(Format, "the file is empty; a model file begins with `GGUF`");
        }
        let content = match residence {
            Residence::Map => {
                // SAFETY: the file is only read through the map. That another process shortens it
                // cannot be ruled out; `check_unchanged` is called before each step, and `Residence::Read`
                // is offered to those who cannot trust the file to stay.
                let map = unsafe { memmap2::Mmap::map(&file) }?;
                Content::Mapped {
                    map,
                    file,
                    seen: (metadata.len(), metadata.modified().ok()),
                }
            }
            Residence::Read => Content::Owned(read(file, metadata.len(), progress)?),
        };
        Ok(Self {
            path: path.to_owned(),
            content,
        })
    }

    /// The bytes of a file that is in memory already, under a name for messages. They are used where they
    /// lie, or copied where they are not aligned for tensors.
    ///
    /// # Errors
    /// `Format`, when there are none; `Resource`.
    pub fn lent(name: &str, bytes: Box<dyn StableBytes>) -> Result<Self> {
        if bytes.bytes().is_empty() {
            crate::bail!(Format, "there are no bytes; a model file begins with `GGUF`");
        }
        let content = if bytes.bytes().as_ptr().addr().is_multiple_of(HOST_ALIGNMENT) {
            Content::Lent(bytes)
        } else {
            let mut copy = AlignedBytes::new(bytes.bytes().len(), "a copy of the model")?;
            copy.bytes_mut().copy_from_slice(bytes.bytes());
            Content::Owned(copy)
        };
        Ok(Self {
            path: PathBuf::from(name),
            content,
        })
    }

    /// Reads `buffer.len()` bytes from `offset` on, through the file and not through the map: nothing
    /// stays in memory, and a file that was shortened is an error.
    ///
    /// # Errors
    /// `Io`.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let done = match &self.content {
            Content::Mapped { file, .. } => read_exact_at(file, offset, buffer),
            Content::Owned(_) | Content::Lent(_) => {
                let begin = usize::try_from(offset).unwrap_or(usize::MAX);
                let end = begin.saturating_add(buffer.len());
                match self.bytes().get(begin..end) {
                    Some(source) => {
                        buffer.copy_from_slice(source);
                        Ok(())
                    }
                    None => Err(std::io::ErrorKind::UnexpectedEof.into()),
                }
            }
        };
        done.map_err(|e| Error::from(e).context(self.path.display()))
    }

    /// Notices a mapped file that was shortened or written to since it was opened; touching the missing
    /// pages would kill the process. One `fstat`.
    ///
    /// # Errors
    /// `Io`.
    pub fn check_unchanged(&self) -> Result<()> {
        let Content::Mapped { file, seen, .. } = &self.content else {
            return Ok(());
        };
        let now = file
            .metadata()
            .map_err(|e| Error::from(e).context(self.path.display()))?;
        if (now.len(), now.modified().ok()) != *seen {
            crate::bail!(
                Io,
                "{}: the file was changed while it was mapped ({} bytes then, {} now); load it again",
                self.path.display(),
                seen.0,
                now.len()
            );
        }
        Ok(())
    }
}

/// Positional reads, which any number of threads may make at once.
#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Positional reads, which any number of threads may make at once.
#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut offset: u64, mut buffer: &mut [u8]) -> std::io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !buffer.is_empty() {
        match file.seek_read(buffer, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => {
                offset += n as u64;
                buffer = &mut buffer[n..];
            }
        }
    }
    Ok(())
}

/// Opens a regular file without ever waiting, as a FIFO would make it.
fn open_regular(path: &Path) -> Result<(File, Metadata)> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    }
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        crate::bail!(Io, "is a folder; give the .gguf file itself");
    }
    if !metadata.is_file() {
        crate::bail!(
            Io,
            "is no regular file; a model cannot come from a pipe or device"
        );
    }
    Ok((file, metadata))
}

fn read(
    mut file: File,
    n_bytes: u64,
    progress: &mut dyn FnMut(LoadProgress) -> ControlFlow<()>,
) -> Result<AlignedBytes> {
    let n = usize::try_from(n_bytes)
        .map_err(|_| Error::new(ErrorKind::Limit, "the file does not fit the address space"))?;
    let mut bytes = AlignedBytes::new(n, "the model file")?;
    let mut done = 0;
    for chunk in bytes.bytes_mut().chunks_mut(READ_AT_ONCE) {
        file.read_exact(chunk)?;
        done += chunk.len() as u64;
        let now = LoadProgress { done, total: n_bytes };
        if progress(now).is_break() {
            crate::bail!(Cancelled, "loading was cancelled");
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_refused_by_name_of_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let error = FileBytes::open(folder.path(), Residence::Map).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.message().contains("folder"), "{error}");
    }

    #[test]
    fn an_empty_file_is_a_format_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = FileBytes::open(file.path(), Residence::Map).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Format);
    }

    #[test]
    fn a_shortened_file_is_noticed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7u8; 10_000]).unwrap();
        let bytes = FileBytes::open(file.path(), Residence::Map).unwrap();
        bytes.check_unchanged().unwrap();
        std::fs::OpenOptions::new()
            .write(true)
            .open(file.path())
            .unwrap()
            .set_len(5000)
            .unwrap();
        assert_eq!(bytes.check_unchanged().unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn reading_gives_the_bytes_of_the_map() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), (0..=255u8).cycle().take(5000).collect::<Vec<_>>()).unwrap();
        let mapped = FileBytes::open(file.path(), Residence::Map).unwrap();
        let read = FileBytes::open(file.path(), Residence::Read).unwrap();
        assert_eq!(mapped.bytes(), read.bytes());
    }

    #[test]
    fn lent_bytes_are_used_in_place_only_where_they_are_aligned() {
        struct Part(std::sync::Arc<AlignedBytes>, usize);
        // SAFETY: `AlignedBytes` keeps its memory where it is.
        unsafe impl StableBytes for Part {
            fn bytes(&self) -> &[u8] {
                &self.0.bytes()[self.1..]
            }
        }
        let memory = std::sync::Arc::new(AlignedBytes::new(256, "a test").unwrap());
        for (offset, in_place) in [(0, true), (32, true), (8, false), (1, false)] {
            let part = Part(memory.clone(), offset);
            let address = part.bytes().as_ptr();
            let file = FileBytes::lent("memory", Box::new(part)).unwrap();
            assert_eq!(file.bytes().as_ptr() == address, in_place, "{offset}");
            assert!(file.bytes().as_ptr().addr().is_multiple_of(HOST_ALIGNMENT));
            assert_eq!(file.bytes(), &memory.bytes()[offset..]);
        }
        assert!(FileBytes::lent("memory", Box::new(Part(memory, 256))).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_fifo_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        let done = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(done.success());
        assert_eq!(
            FileBytes::open(&path, Residence::Map).err().unwrap().kind(),
            ErrorKind::Io
        );
    }
}
