//! What the kernel knows of this process, and of the disk below a directory; and processes that
//! end with their parent.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use rustix::process::{
    Resource, Signal, getpid, getppid, getrlimit, set_parent_process_death_signal,
};
use rustix::time::{ClockId, clock_gettime};

/// This process and the disk of a directory, at one moment. What cannot be learned is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFacts {
    /// When it started, since the Unix epoch.
    pub started: Duration,
    /// CPU time of all its threads.
    pub cpu: Duration,
    /// Memory that it has in use, in bytes.
    pub resident_bytes: Option<u64>,
    /// Address space, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Descriptors that are open.
    pub open_files: Option<u64>,
    /// How many may be.
    pub open_files_max: Option<u64>,
    /// The size of the file system, in bytes.
    pub disk_bytes: Option<u64>,
    /// What is free on it for this user, in bytes.
    pub disk_free_bytes: Option<u64>,
}

/// Looks at this process, which started at `started`, and at the file system of `directory`.
#[must_use]
pub fn facts(started: SystemTime, directory: &Path) -> ProcessFacts {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let disk = rustix::fs::statvfs(directory).ok();
    ProcessFacts {
        started: started.duration_since(UNIX_EPOCH).unwrap_or_default(),
        cpu: Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32),
        resident_bytes: kibibytes(&status, "VmRSS:"),
        virtual_bytes: kibibytes(&status, "VmSize:"),
        // The listing itself opens one more.
        open_files: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64 - 1),
        open_files_max: getrlimit(Resource::Nofile).current,
        disk_bytes: disk.as_ref().map(|disk| disk.f_blocks * disk.f_frsize),
        disk_free_bytes: disk.as_ref().map(|disk| disk.f_bavail * disk.f_frsize),
    }
}

/// Whether standard error is the stream that `JOURNAL_STREAM` names: the device and the inode of
/// what systemd connected to its journal (systemd.exec(5)).
#[must_use]
pub fn is_stderr_journal(journal_stream: &str) -> bool {
    let Some((device, inode)) = journal_stream.split_once(':') else { return false };
    let Ok(stderr) = rustix::fs::fstat(io::stderr()) else { return false };
    device.parse() == Ok(stderr.st_dev) && inode.parse() == Ok(stderr.st_ino)
}

/// Has the command's process killed when the calling thread ends, however it ends.
pub fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let tie = move || -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // A parent that ended before that is told to nobody.
        let is_alive = getppid() == Some(parent);
        if is_alive { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe
    // calls are allowed. It makes two bare system calls and neither allocates nor locks.
    unsafe { command.pre_exec(tie) };
}

/// A field of `/proc/self/status`, which has its sizes in KiB.
fn kibibytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|size| size * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let started = SystemTime::now();
        let facts = facts(started, Path::new("/"));
        assert_eq!(facts.started, started.duration_since(UNIX_EPOCH).expect("it is later"));
        assert!(facts.resident_bytes <= facts.virtual_bytes && facts.resident_bytes > Some(0));
        assert!(facts.open_files >= Some(3) && facts.open_files <= facts.open_files_max);
        assert!(facts.disk_free_bytes <= facts.disk_bytes && facts.disk_bytes > Some(0));
        assert!(facts.cpu > Duration::ZERO);
    }

    #[test]
    fn the_journal_is_known_by_its_stream() {
        let stderr = rustix::fs::fstat(io::stderr()).expect("it is open");
        let (device, inode) = (stderr.st_dev, stderr.st_ino);
        assert!(is_stderr_journal(&format!("{device}:{inode}")));
        assert!(!is_stderr_journal(&format!("{device}:{}", inode + 1)));
        assert!(!is_stderr_journal(&format!("{}:{inode}", device + 1)));
        assert!(!is_stderr_journal("") && !is_stderr_journal("8"));
    }

    #[test]
    fn sizes_are_read_by_their_names() {
        let status = "Name:\tbox\nVmSize:\t  20 kB\nVmRSS:\t       3 kB\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(3 * 1024));
        assert_eq!(kibibytes(status, "VmLck:"), None);
    }
}
