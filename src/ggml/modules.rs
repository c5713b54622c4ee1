//! Backends in files of their own (feature `dynamic-backends`): found, checked, and of each kind the best
//! loaded.
//!
//! A file is named `libggml-KIND.so` or `libggml-KIND-VARIANT.so`. ggml has such a search of its own; it is
//! silent about what it does not load, and checks no more than the number of its interface, which stays the
//! same when an operation or a type is added. So the search is ours, a file has to say that it was made from
//! the same sources as this library, and ggml is handed one path of each kind.

use ggml_sys as sys;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::raw::{c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::abort::install_hooks;
use super::shim;
use crate::error::Result;

/// What ggml this library was made with: see `build.rs`. Files say it in `remask_ggml_sources`.
const SOURCES: &str = env!("REMASK_GGML_SOURCES");

/// Where cargo put the backends of this build, for programs that were not moved. A release has no use for
/// a folder of the machine that built it.
const BUILD_FOLDER: Option<&str> = match option_env!("REMASK_SONAME") {
    Some(_) => None,
    None => sys::BACKENDS_DIR,
};

/// What is loaded. Its lock is also that of ggml's registry, which has none.
pub(super) struct Modules {
    searched: bool,
    kinds: Vec<String>,
    cpu: Option<Library>,
}

static MODULES: Mutex<Modules> = Mutex::new(Modules {
    searched: false,
    kinds: Vec::new(),
    cpu: None,
});

fn lock() -> MutexGuard<'static, Modules> {
    MODULES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// ggml's registry, which nobody adds to while the result lives. The first call searches the folders that
/// are searched unasked.
pub(super) fn registry() -> MutexGuard<'static, Modules> {
    install_hooks();
    let mut modules = lock();
    if !modules.searched {
        modules.searched = true;
        for folder in default_folders() {
            if let Err(error) = modules.load(&folder) {
                crate::log!(Debug, "no backends in {}: {error}", folder.display());
            }
        }
    }
    modules
}

/// Loads from `folder` the best backend of each kind that is not loaded yet. Returns how many were.
///
/// # Errors
/// `Io`, when the folder cannot be read.
pub fn load_backends(folder: &Path) -> Result<usize> {
    install_hooks();
    let loaded = lock().load(folder);
    loaded.map_err(|e| crate::err!(Io, "{}: {e}", folder.display()))
}

/// The address of a function of the CPU's backend; `name` ends in NUL.
pub(super) fn cpu_symbol(name: &'static str) -> Result<*mut c_void> {
    let modules = registry();
    let Some(cpu) = &modules.cpu else {
        let folders = default_folders();
        let folders: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
        crate::bail!(
            Device,
            "there is no usable libggml-cpu*.so in {}; REMASK_BACKENDS names another folder",
            folders.join(", ")
        );
    };
    let c_name = CStr::from_bytes_with_nul(name.as_bytes()).unwrap_or_default();
    let found = cpu.symbol(c_name);
    let found = found
        .ok_or_else(|| crate::err!(Device, "the CPU's backend has no {}", name.trim_end_matches('\0')))?;
    Ok(found.as_ptr())
}

/// Folders in the order in which they are searched: those of `REMASK_BACKENDS`, that of this library (or
/// program), that of ggml's, that of the build.
fn default_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(list) = std::env::var_os("REMASK_BACKENDS") {
        folders.extend(std::env::split_paths(&list).filter(|folder| !folder.as_os_str().is_empty()));
    }
    folders.extend(folder_of(registry as *const c_void));
    folders.extend(folder_of(sys::ggml_backend_load as *const c_void));
    folders.extend(BUILD_FOLDER.map(PathBuf::from));
    let mut once = Vec::new();
    for folder in folders {
        if !once.contains(&folder) {
            once.push(folder);
        }
    }
    once
}

/// The folder of the file that holds the code at `address`.
fn folder_of(address: *const c_void) -> Option<PathBuf> {
    // SAFETY: all fields are pointers, for which zeros are valid.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is writable; any address may be asked about.
    let found = unsafe { libc::dladdr(address, &mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: a name that the loader keeps as long as the file is loaded, and this code is in it.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    let name = Path::new(OsStr::from_bytes(name.to_bytes()));
    // A program that the shell found has no folder in its name, and the current one is not its.
    let path = match name.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => name.to_owned(),
        _ => std::env::current_exe().ok()?,
    };
    Some(path.canonicalize().ok()?.parent()?.to_owned())
}

/// The kind of backend in a file of this name.
fn kind(file: &str) -> Option<&str> {
    let name = file.strip_prefix("libggml-")?.strip_suffix(".so")?;
    let kind = name.split('-').next()?;
    (!kind.is_empty() && kind != "base").then_some(kind)
}

impl Modules {
    fn load(&mut self, folder: &Path) -> std::io::Result<usize> {
        let mut found: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(kind) = name.to_str().and_then(kind) {
                found.entry(kind.to_owned()).or_default().push(entry.path());
            }
        }
        found.retain(|kind, _| !self.kinds.contains(kind));
        let mut n = 0;
        for (kind, mut paths) in found {
            paths.sort();
            if self.load_best(&kind, &paths) {
                self.kinds.push(kind);
                n += 1;
            }
        }
        Ok(n)
    }

    /// Loads the best of the files of one kind, if one of them is good.
    fn load_best(&mut self, kind: &str, paths: &[PathBuf]) -> bool {
        let mut best: Option<(c_int, &Path, Library)> = None;
        for path in paths {
            match examine(path) {
                Ok((0, _)) => crate::log!(Debug, "{} is for another processor", path.display()),
                Ok((score, library)) => {
                    crate::log!(Debug, "{} has score {score}", path.display());
                    if best.as_ref().is_none_or(|(most, ..)| score > *most) {
                        best = Some((score, path, library));
                    }
                }
                Err(why) => crate::log!(Warn, "{} is not used: {why}", path.display()),
            }
        }
        let Some((_, path, library)) = best else {
            return false;
        };
        match register(path) {
            Ok(0) => crate::log!(Warn, "{} is loaded and finds no device", path.display()),
            Ok(_) if paths.len() > 1 => {
                crate::log!(Info, "{} is loaded, the best of {}", path.display(), paths.len());
            }
            Ok(_) => crate::log!(Info, "{} is loaded", path.display()),
            Err(error) => {
                crate::log!(Warn, "{} is not used: {}", path.display(), error.message());
                return false;
            }
        }
        if kind == "cpu" {
            self.cpu = Some(library);
        }
        true
    }
}

/// Opens a file and says how well it suits this machine; 0: not at all.
fn examine(path: &Path) -> std::result::Result<(c_int, Library), String> {
    let library = Library::open(path)?;
    match library.sources() {
        Some(sources) if sources == SOURCES => {}
        // Cargo's own build of this library's ggml does not say it.
        None if BUILD_FOLDER.is_some_and(|folder| path.parent() == Some(Path::new(folder))) => {}
        Some(sources) => {
            return Err(format!(
                "it was made from {sources}, this library from {SOURCES}; `cargo xtask backend` makes one that fits"
            ));
        }
        None => {
            return Err(format!(
                "it does not say from which sources it was made; this library was from {SOURCES}, and `cargo xtask backend` makes one that fits"
            ));
        }
    }
    let Some(score) = library.symbol(c"ggml_backend_score") else {
        return Ok((1, library));
    };
    // SAFETY: `ggml_backend_score_t` of ggml-backend-impl.h; made from the same sources: checked above.
    let score = unsafe { std::mem::transmute::<NonNull<c_void>, unsafe extern "C" fn() -> c_int>(score) };
    // SAFETY: takes nothing and only asks the processor what it can do.
    let score = unsafe { score() };
    Ok((score, library))
}

/// Hands a file to ggml and returns the number of its devices.
fn register(path: &Path) -> Result<usize> {
    let c_path = CString::new(path.as_os_str().as_bytes());
    let c_path = c_path.map_err(|_| crate::err!(InvalidArgument, "its path has a NUL"))?;
    let (mut loaded, mut n_devices) = (false, 0usize);
    // SAFETY: the path is NUL-terminated, the results are writable.
    let code = unsafe { shim::remask_shim_load(c_path.as_ptr(), &mut loaded, &mut n_devices) };
    shim::check(code, "load a backend")?;
    if !loaded {
        crate::bail!(Device, "ggml refuses it, see its line above");
    }
    Ok(n_devices)
}

/// A file that `dlopen` took in, until it is dropped.
struct Library(NonNull<c_void>);

// SAFETY: a handle of the loader, which takes calls from any thread.
unsafe impl Send for Library {}

impl Library {
    /// As ggml opens it, so that it is the same one.
    fn open(path: &Path) -> std::result::Result<Self, String> {
        let c_path =
            CString::new(path.as_os_str().as_bytes()).map_err(|_| "its path has a NUL".to_owned())?;
        // SAFETY: the path is NUL-terminated. The file's constructors run: it is one that the host, the
        // environment or the library's folder names as a backend.
        let handle = unsafe { libc::dlopen(c_path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        NonNull::new(handle).map(Self).ok_or_else(loader_error)
    }

    fn symbol(&self, name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the handle is open, the name NUL-terminated.
        NonNull::new(unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) })
    }

    /// What the file says of its sources.
    fn sources(&self) -> Option<String> {
        let text = self.symbol(c"remask_ggml_sources")?;
        // SAFETY: a NUL-terminated constant: build.sh defines the name so, and nobody else has a use for it.
        let text = unsafe { CStr::from_ptr(text.as_ptr().cast::<c_char>()) };
        Some(text.to_string_lossy().into_owned())
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: opened once, closed once; ggml holds what it uses open by itself.
        unsafe { libc::dlclose(self.0.as_ptr()) };
    }
}

/// What the loader says of the last failure on this thread.
fn loader_error() -> String {
    // SAFETY: returns NULL or a string of this thread.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the system's loader does not say why".to_owned();
    }
    // SAFETY: not NULL: checked above; NUL-terminated, and valid until the thread's next call of the loader.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_tells_its_kind() {
        assert_eq!(kind("libggml-cpu-haswell.so"), Some("cpu"));
        assert_eq!(kind("libggml-cuda.so"), Some("cuda"));
        for other in [
            "libggml-base.so",
            "libggml-base.so.0",
            "libggml.so",
            "libggml-.so",
            "libremask.so",
            "cuda.so",
        ] {
            assert_eq!(kind(other), None, "{other}");
        }
    }

    #[test]
    fn a_file_that_is_no_library_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libggml-cuda.so");
        std::fs::write(&file, "no library").unwrap();
        let why = examine(&file).err().unwrap();
        assert!(
            why.contains("invalid ELF header") || why.contains("file too short"),
            "{why}"
        );
        assert_eq!(load_backends(folder.path()).unwrap(), 0);
        let missing = load_backends(&folder.path().join("missing")).unwrap_err();
        assert_eq!(missing.kind(), crate::ErrorKind::Io);
    }

    #[test]
    fn this_code_lies_in_a_folder() {
        let folder = folder_of(lock as *const c_void).unwrap();
        assert_eq!(Some(folder.as_path()), std::env::current_exe().unwrap().parent());
    }
}
