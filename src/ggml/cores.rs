//! How many cores are worth a thread. Operations end at a barrier, so that a slow core holds up the fast
//! ones wherever work is cut into equal parts.

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use linux::fast_cores;

#[cfg(target_vendor = "apple")]
pub(super) use apple::fast_cores;

/// Unknown: all physical cores are taken.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(super) fn fast_cores() -> Option<usize> {
    None
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::collections::HashSet;
    use std::path::Path;

    /// A core below this share of the largest capacity is a slow one. Middle cores of phones have 70 to
    /// 90 %, small ones 20 to 40 %.
    const FAST: f64 = 0.6;

    /// Physical cores that are fast and that this process may use; `None` where the system does not tell
    /// cores apart.
    pub fn fast_cores() -> Option<usize> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let allowed = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        count(Path::new("/sys/devices"), &list(allowed))
    }

    /// As [`fast_cores`], of a tree like `/sys/devices` and these processors.
    fn count(devices: &Path, allowed: &[usize]) -> Option<usize> {
        let of = |cpu: usize, file: &str| {
            std::fs::read_to_string(devices.join(format!("system/cpu/cpu{cpu}/{file}"))).ok()
        };
        // x86-64 with two kinds of cores.
        let fast: Vec<usize> = if let Ok(big) = std::fs::read_to_string(devices.join("cpu_core/cpus")) {
            let big = list(&big);
            allowed.iter().copied().filter(|cpu| big.contains(cpu)).collect()
        } else {
            let capacity = |&cpu: &usize| -> Option<(usize, f64)> {
                Some((cpu, of(cpu, "cpu_capacity")?.trim().parse().ok()?))
            };
            let all: Vec<_> = allowed.iter().map(capacity).collect::<Option<_>>()?;
            let largest = all.iter().map(|(_, capacity)| *capacity).fold(0.0, f64::max);
            let fast = all
                .into_iter()
                .filter(|(_, capacity)| *capacity >= FAST * largest);
            fast.map(|(cpu, _)| cpu).collect()
        };
        // Two processors of one core are one.
        let core = |&cpu: &usize| of(cpu, "topology/thread_siblings_list").unwrap_or_else(|| cpu.to_string());
        let cores: HashSet<String> = fast.iter().map(core).collect();
        (!cores.is_empty()).then_some(cores.len())
    }

    /// The numbers of a list such as `0-3,8`.
    fn list(text: &str) -> Vec<usize> {
        let parts = text.trim().split(',');
        let ranges = parts.filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
        });
        // More processors than any system has are a broken list.
        ranges.flatten().take(1 << 16).collect()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn put(root: &Path, file: &str, text: &str) {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        #[test]
        fn lists_are_read() {
            assert_eq!(list("0-3,8\n"), [0, 1, 2, 3, 8]);
            assert_eq!(list("\t5"), [5]);
            assert_eq!(list("x,1-"), [0usize; 0]);
        }

        #[test]
        fn small_cores_of_a_phone_get_no_thread() {
            let tree = tempfile::tempdir().unwrap();
            for (cpu, capacity) in [300, 300, 300, 300, 870, 870, 870, 1024].iter().enumerate() {
                let file = format!("system/cpu/cpu{cpu}/cpu_capacity");
                put(tree.path(), &file, &format!("{capacity}\n"));
            }
            let all: Vec<usize> = (0..8).collect();
            assert_eq!(count(tree.path(), &all), Some(4));
            assert_eq!(count(tree.path(), &[0, 1, 4]), Some(1));
            // A process that may use the small ones alone uses them.
            assert_eq!(count(tree.path(), &[0, 1, 2]), Some(3));
        }

        #[test]
        fn efficient_cores_of_a_desktop_get_no_thread_and_siblings_one() {
            let tree = tempfile::tempdir().unwrap();
            put(tree.path(), "cpu_core/cpus", "0-3\n");
            for cpu in 0..4 {
                let file = format!("system/cpu/cpu{cpu}/topology/thread_siblings_list");
                put(tree.path(), &file, if cpu < 2 { "0-1\n" } else { "2-3\n" });
            }
            let all: Vec<usize> = (0..8).collect();
            assert_eq!(count(tree.path(), &all), Some(2));
            // None of the fast ones may be used: the caller takes what there is.
            assert_eq!(count(tree.path(), &[5, 6]), None);
        }

        #[test]
        fn where_cores_are_alike_nothing_is_said() {
            let tree = tempfile::tempdir().unwrap();
            assert_eq!(count(tree.path(), &[0, 1]), None);
        }
    }
}

#[cfg(target_vendor = "apple")]
mod apple {
    use std::os::raw::c_int;

    /// Performance cores.
    pub fn fast_cores() -> Option<usize> {
        let mut n: c_int = 0;
        let mut size = size_of::<c_int>();
        let name = c"hw.perflevel0.physicalcpu";
        // SAFETY: the name ends with a zero, and the value's place is as large as said.
        let code = unsafe {
            libc::sysctlbyname(
                name.as_ptr(),
                (&raw mut n).cast(),
                &mut size,
                std::ptr::null_mut(),
                0,
            )
        };
        usize::try_from(n).ok().filter(|n| code == 0 && *n > 0)
    }
}
