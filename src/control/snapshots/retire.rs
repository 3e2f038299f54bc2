//! What becomes of segments and snapshots that no start needs any more.
//!
//! Two snapshots stay: the new one, and the one that it was made from, which has just been read
//! in whole. Segments that the older of them covers are not needed for a start, even where the
//! newer one turns out to be damaged; so without an older one nothing is retired. Segments go from
//! the oldest on, so that what is left is without a gap at any moment.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::build::Built;
use super::pace::{Pace, PacedFile, PacedReader};
use crate::runtime::file::create_private_dir;
use crate::server::config::Retention;
use crate::wal::snapshot::snapshots;
use crate::wal::{FileStorage, Identity, LogStorage, SegmentIndex};

/// Retires what the new snapshot made superfluous; returns how many segments that was.
pub fn retire(
    directory: &Path,
    identity: Identity,
    built: &Built,
    retention: &Retention,
    pace: &Pace,
) -> io::Result<u64> {
    retire_snapshots(directory, built)?;
    let Some(base) = &built.base else { return Ok(0) };
    let needed = base.header.position.segment;
    match retention {
        Retention::Keep => Ok(0),
        Retention::Delete => {
            let retired = each_before(directory, needed, |path| fs::remove_file(path))?;
            File::open(directory)?.sync_all()?;
            Ok(retired)
        }
        Retention::Archive(archive) => {
            // Logs of several shards, and of several lives of a data directory, may meet here.
            let archive = archive.join(format!("log-{}", identity.log));
            let failed = |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", archive.display()))
            };
            create_private_dir(&archive).map_err(failed)?;
            let moved = |path: &Path| move_file(path, &archive, pace).map_err(failed);
            let retired = each_before(directory, needed, moved)?;
            File::open(directory)?.sync_all()?;
            Ok(retired)
        }
    }
}

fn retire_snapshots(directory: &Path, built: &Built) -> io::Result<()> {
    let base = built.base.as_ref().map(|base| &base.file.path);
    for file in snapshots(directory)? {
        let stays = file.path == built.snapshot.file.path || Some(&file.path) == base;
        // One that was not tried, since a newer one was good, is older than both.
        let is_superfluous = built.unusable.contains(&file.path)
            || built.base.as_ref().is_some_and(|base| file.lsn < base.file.lsn);
        if !stays && is_superfluous {
            fs::remove_file(&file.path)?;
            tracing::info!(file = %file.path.display(), "a superfluous snapshot was removed");
        }
    }
    File::open(directory)?.sync_all()
}

/// Does something with each segment before `needed`, the oldest first; returns how many they are.
fn each_before(
    directory: &Path,
    needed: SegmentIndex,
    mut retire: impl FnMut(&Path) -> io::Result<()>,
) -> io::Result<u64> {
    let storage = FileStorage::open_read_only(directory).map_err(io::Error::other)?;
    let mut retired = 0;
    for segment in storage.segments()?.iter().filter(|segment| segment.index < needed) {
        retire(&storage.path(segment.index))?;
        retired += 1;
    }
    Ok(retired)
}

/// Moves a file into a directory. Onto another file system it is copied, and removed once the copy
/// is durable.
fn move_file(path: &Path, into: &Path, pace: &Pace) -> io::Result<()> {
    let name = path.file_name().expect("a segment has a name");
    let target = into.join(name);
    match fs::rename(path, &target) {
        Ok(()) => return File::open(into)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
        Err(error) => return Err(error),
    }
    let temporary = target.with_extension("wal.tmp");
    let copy = || {
        let mut from = PacedReader { from: File::open(path)?, pace };
        let mut copy = PacedFile::create(&temporary, 0, pace)?;
        io::copy(&mut from, &mut copy)?;
        copy.finish()?;
        fs::rename(&temporary, &target)
    };
    copy().inspect_err(|_| {
        // Half a copy may be what fills the archive.
        let _ = fs::remove_file(&temporary);
    })?;
    File::open(into)?.sync_all()?;
    fs::remove_file(path)
}
