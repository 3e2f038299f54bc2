//! The file system below a path: its kind, and how much of it is free.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::StatVfsMountFlags;

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// Its kind as the kernel names it, such as `ext4`; empty where that cannot be told.
    pub kind: String,
    /// Bytes that this process may still take.
    pub free_bytes: u64,
    /// Whether nothing can be written to it.
    pub is_read_only: bool,
}

/// How large a file system is, and what this process may still take of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// All of it, in bytes.
    pub size_bytes: u64,
    /// What is free, in bytes.
    pub free_bytes: u64,
}

/// The space of the file system that holds `path`, which must exist.
pub fn disk_space(path: &Path) -> io::Result<DiskSpace> {
    let numbers = rustix::fs::statvfs(path)?;
    Ok(DiskSpace {
        size_bytes: numbers.f_blocks.saturating_mul(numbers.f_frsize),
        free_bytes: numbers.f_bavail.saturating_mul(numbers.f_frsize),
    })
}

/// The file system that holds `path`, which must exist.
pub fn file_system(path: &Path) -> io::Result<FileSystem> {
    let numbers = rustix::fs::statvfs(path)?;
    Ok(FileSystem {
        kind: kind(path).unwrap_or_default(),
        free_bytes: numbers.f_bavail.saturating_mul(numbers.f_frsize),
        is_read_only: numbers.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// The type of the mount that holds `path`: of those above it, the deepest and latest.
fn kind(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mount_kind(&table, &path)
}

fn mount_kind(table: &str, path: &Path) -> Option<String> {
    let mounts = table.lines().filter_map(|line| {
        // ID PARENT MAJOR:MINOR ROOT MOUNT-POINT OPTIONS [TAGS…] - KIND SOURCE OPTIONS
        let (mount, file_system) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?.replace("\\040", " ");
        let depth = path.starts_with(&point).then(|| Path::new(&point).components().count())?;
        Some((depth, file_system.split(' ').next()?.to_owned()))
    });
    // The last of equals lies on top of the others.
    mounts.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_latest_mount_counts() {
        let table = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
                     2 1 0:2 / /srv/my\\040data rw shared:1 - xfs /dev/sdb rw\n\
                     3 1 0:3 / /srv rw - tmpfs tmpfs rw\n\
                     4 1 0:4 / /srv rw - btrfs /dev/sdc rw\n";
        for (path, expected) in
            [("/etc", "ext4"), ("/srv/my data/a", "xfs"), ("/srv/b", "btrfs"), ("/srvb", "ext4")]
        {
            assert_eq!(mount_kind(table, Path::new(path)).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn a_real_file_system_has_a_kind() {
        let file_system = file_system(Path::new("/proc")).expect("it is mounted");
        assert_eq!((&*file_system.kind, file_system.free_bytes), ("proc", 0));
        assert!(super::file_system(Path::new("/proc/no such thing")).is_err());
    }
}
