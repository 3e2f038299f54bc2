//! Limits that the process runs under.

use rustix::process::{Resource, getrlimit};

/// How many files the process may have open; `None` is no limit.
#[must_use]
pub fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How many bytes the process may lock in memory; `None` is no limit.
#[must_use]
pub fn locked_bytes() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}
