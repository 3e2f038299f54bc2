//! Limits that the process runs under.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::SIGXFSZ;
use signal_hook::flag;

/// Raises the limit on open files as far as it may be, and says how far that is; `None` is no
/// limit.
#[must_use]
pub fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    // Without the right to raise it, the limit in force counts.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current
}

/// Has a write beyond the limit on the size of files fail with `EFBIG`, of which somebody can tell,
/// where the kernel would end the process by a signal.
pub fn outlive_file_size() -> io::Result<()> {
    // Nobody reads the flag: it is enough that the signal has a handler.
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map(drop)
}

/// How many bytes the process may lock in memory; `None` is no limit.
#[must_use]
pub fn locked_bytes() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}
