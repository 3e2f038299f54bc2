//! Files for direct I/O, and files that are to be read from the disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{Advice, OFlags, fadvise};

/// How a write becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMethod {
    /// Each write is synchronous (`O_DSYNC`).
    DataSync,
    /// Each write is followed by an `fdatasync`, linked to it.
    Flush,
}

/// Opens an existing file for direct writes that become durable by `method`.
pub fn open_direct(path: &Path, method: SyncMethod) -> io::Result<File> {
    let flags = match method {
        SyncMethod::DataSync => OFlags::DIRECT | OFlags::DSYNC,
        SyncMethod::Flush => OFlags::DIRECT,
    };
    OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Lets the kernel forget what it keeps of a file in memory, so that the next read is of the disk.
/// Only a hint: what is being written, or mapped by others, stays.
pub fn drop_cached(file: &File) {
    let _ = fadvise(file, 0, None, Advice::DontNeed);
}
