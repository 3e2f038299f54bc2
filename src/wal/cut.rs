//! Giving up the end of a log, for an operator who has decided to.
//!
//! The order matters, for a crash may come between any two steps. What follows the cut in its
//! segment is zeroed from the cut on, and then the later segments go, the last one first. As long
//! as a frame behind the cut is left, recovery calls the log damaged, and no server starts on
//! half a cut; the same cut made again ends it.

use std::fs::{self, OpenOptions};
use std::path::Path;

use super::error::WalError;
use super::files::{FileStorage, failed, sync_dir};
use super::segment::{Position, Segment};
use super::storage::LogStorage;

/// Ends the log in `dir` at `end`, which is where a frame of its chain ended, in `segment`. The
/// segment gets the size that is given, and is ready to be written on.
pub fn cut(dir: &Path, end: Position, segment: Segment) -> Result<(), WalError> {
    let storage = FileStorage::open_read_only(dir)?;
    let path = storage.path(segment.index);
    storage
        .zero_and_sync(end, segment.bytes - end.offset)
        .and_then(|()| {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(segment.bytes)?;
            file.sync_all()
        })
        .map_err(|source| failed(&path, "zero the end of the log", source))?;
    let segments = storage.segments().map_err(|source| failed(dir, "list the segments", source))?;
    for later in segments.iter().rev().filter(|later| later.index > segment.index) {
        let path = storage.path(later.index);
        fs::remove_file(&path).map_err(|source| failed(&path, "remove the segment", source))?;
        sync_dir(dir)?;
    }
    Ok(())
}
