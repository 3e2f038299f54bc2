//! Files for direct I/O.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

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
