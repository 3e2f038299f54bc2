//! Files for direct I/O, files that are to be read from the disk, and who else may read them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Advice, Mode, OFlags, fadvise};
use rustix::process::umask;

use crate::canary::{Canary, planted};

/// How a write becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMethod {
    /// Each write is synchronous (`O_DSYNC`).
    DataSync,
    /// Each write is followed by an `fdatasync`, linked to it.
    Flush,
}

impl SyncMethod {
    /// The flags of a file that is written so.
    fn flags(self) -> OFlags {
        match self {
            _ if planted(Canary::SkipSync) => OFlags::empty(),
            Self::DataSync => OFlags::DIRECT | OFlags::DSYNC,
            Self::Flush => OFlags::DIRECT,
        }
    }

    /// Whether each write is followed by an `fdatasync`.
    pub(super) fn flushes(self) -> bool {
        self == Self::Flush && !planted(Canary::SkipSync)
    }

    /// Whether a write that has ended is on the disk, whatever happens then.
    #[must_use]
    pub fn is_durable(self) -> bool {
        self.flags().contains(OFlags::DSYNC) || self.flushes()
    }
}

/// Opens an existing file for direct writes that become durable by `method`.
pub fn open_direct(path: &Path, method: SyncMethod) -> io::Result<File> {
    let flags = method.flags().bits().cast_signed();
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}

/// Lets the kernel forget what it keeps of a file in memory, so that the next read is of the disk.
/// Only a hint: what is being written, or mapped by others, stays.
pub fn drop_cached(file: &File) {
    let _ = fadvise(file, 0, None, Advice::DontNeed);
}

/// From here on this process makes nothing that those outside its user and group can read, write
/// or enter, unless a mode is set afterwards. For the start of a program: until this returns, files
/// that other threads make may be closed to everybody.
pub fn close_to_others() {
    let all = Mode::RWXU | Mode::RWXG | Mode::RWXO;
    let asked = umask(all);
    umask(asked | Mode::WGRP | Mode::RWXO);
}

/// Makes a directory, and those above it that are missing, for this user alone. One that is there
/// already stays as it is.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    create_dir(path, 0o700)
}

/// Makes a directory with this mode, and what is missing above it, with the names on the disk.
pub fn create_dir(path: &Path, mode: u32) -> io::Result<()> {
    let missing = path.ancestors().take_while(|dir| !dir.exists()).count();
    DirBuilder::new().mode(mode).recursive(true).create(path)?;
    for made in path.ancestors().take(missing) {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        // One that may not be read cannot be synced alone; what is synced in it takes it along.
        if let Ok(parent) = File::open(parent.unwrap_or(Path::new("."))) {
            parent.sync_all()?;
        }
    }
    Ok(())
}
