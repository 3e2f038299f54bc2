//! Giving up the end of a log, for an operator who has decided to.
//!
//! The order matters, for a crash may come between any two steps. What follows the cut in its
//! segment is zeroed from the cut on, and then the later segments go, the last one first. As long
//! as a frame behind the cut is left, recovery calls the log damaged, and no server starts on
//! half a cut; the same cut made again ends it.

use std::fs::{self, OpenOptions};
use std::path::Path;

use super::error::WalError;
use super::files::{FileStorage, failed, prepare_segment, sync_dir};
use super::recover::LogStart;
use super::segment::{Position, Segment, SegmentIndex};
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
    remove_from(dir, &storage, segment.index.next())
}

/// Ends the log in `dir` with its snapshot, and begins it there: every segment goes, and the one
/// in which the log goes on is made anew, of so many bytes. Until that is done, the log lacks this
/// segment, and no server starts.
pub fn cut_behind_snapshot(dir: &Path, start: &LogStart, bytes: u64) -> Result<(), WalError> {
    let storage = FileStorage::open_read_only(dir)?;
    let index = start.position.segment;
    remove_from(dir, &storage, SegmentIndex::FIRST)?;
    // The place where the log goes on must lie in the segment.
    let bytes = bytes.max(start.position.offset);
    prepare_segment(dir, start.identity, Segment { index, bytes })
}

/// Removes the segments from `first` on, the last one first.
fn remove_from(dir: &Path, storage: &FileStorage, first: SegmentIndex) -> Result<(), WalError> {
    let segments = storage.segments().map_err(|source| failed(dir, "list the segments", source))?;
    for later in segments.iter().rev().filter(|later| later.index >= first) {
        let path = storage.path(later.index);
        fs::remove_file(&path).map_err(|source| failed(&path, "remove the segment", source))?;
        sync_dir(dir)?;
    }
    Ok(())
}
