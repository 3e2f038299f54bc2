//! How much space a data directory needs, and how much its disk has.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::num::NonZeroU16;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::calibrate::CALIBRATION_BYTES;
use crate::model::ShardIndex;
use crate::runtime::disk::{DiskSpace, disk_space};
use crate::wal::{FileStorage, LogStorage, SegmentIndex, preparation_path, shard_dir};

/// Manifest, lock and directories.
const SMALL_FILES_BYTES: u64 = 64 << 10;

/// The unit of `st_blocks`: stat(2).
const STAT_BLOCK_BYTES: u64 = 512;

/// The space of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What has to be written until every shard has `segments` segments.
    pub needed_bytes: u64,
    /// What its disk has left for this process.
    pub free_bytes: u64,
}

/// The space that `shards` shards need to have so many segments each of this size. The directory
/// need not exist yet.
pub fn space(
    data_dir: &Path,
    shards: NonZeroU16,
    segments: u64,
    segment_bytes: u64,
) -> io::Result<Space> {
    let missing = (0..shards.get()).map(|shard| {
        let log = FileStorage::open_read_only(&shard_dir(data_dir, ShardIndex(shard)));
        let there = log.ok().and_then(|log| log.segments().ok()).map_or(0, |found| found.len());
        segments.saturating_sub(there as u64)
    });
    let logs_bytes = missing.sum::<u64>().saturating_mul(segment_bytes);
    let measuring_bytes = u64::from(shards.get()) * CALIBRATION_BYTES as u64;
    let free_bytes = disk_space(&existing_ancestor(data_dir))?.free_bytes;
    let needed_bytes = logs_bytes.saturating_add(measuring_bytes).saturating_add(SMALL_FILES_BYTES);
    Ok(Space { needed_bytes, free_bytes })
}

/// What is left to others on the disk: a share of it, and no more than so much.
const KEPT_FREE_SHARE: u64 = 16;
const KEPT_FREE_BYTES_MAX: u64 = 64 << 20;

/// Beyond the first, prepared segments take at most this share of what they and the free space
/// are together.
const AHEAD_SHARE: u64 = 4;

/// The disk as the logs of some shards see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSpace {
    /// The disk.
    pub disk: DiskSpace,
    /// How many logs share it.
    pub shards: NonZeroU16,
    /// The size of their segments.
    pub segment_bytes: u64,
}

impl LogSpace {
    /// The space on the disk of `directory`.
    pub fn of(directory: &Path, shards: NonZeroU16, segment_bytes: u64) -> io::Result<Self> {
        Ok(Self { disk: disk_space(directory)?, shards, segment_bytes })
    }

    /// How many further segments one log can count on.
    #[must_use]
    pub fn segments(&self) -> u64 {
        let kept = (self.disk.size_bytes / KEPT_FREE_SHARE).min(KEPT_FREE_BYTES_MAX);
        let free = self.disk.free_bytes.saturating_sub(kept);
        free / self.segment_bytes / u64::from(self.shards.get())
    }

    /// Whether a log that has `ahead` prepared segments is to have one more, where it shall have
    /// `most` of them: the first in any case, and no others that a small disk has no room for.
    #[must_use]
    pub fn wants_more(&self, ahead: u64, most: u64) -> bool {
        let shards = u64::from(self.shards.get());
        let of_all = |segments: u64| segments.saturating_mul(shards * self.segment_bytes);
        let whole = self.disk.free_bytes.saturating_add(of_all(ahead));
        ahead == 0 || (ahead < most && of_all(ahead + 1) <= whole / AHEAD_SHARE)
    }
}

/// How many segments of this size, from `next` on, have all their space on the disk and are yet to
/// be prepared.
#[must_use]
pub fn secured_segments(directory: &Path, next: SegmentIndex, segment_bytes: u64) -> u64 {
    let is_secured = |index| {
        let meta = fs::metadata(preparation_path(directory, SegmentIndex(index)));
        meta.is_ok_and(|meta| {
            let allocated_bytes = meta.blocks() * STAT_BLOCK_BYTES;
            meta.len() == segment_bytes && allocated_bytes >= segment_bytes
        })
    };
    let mut behind = next.0;
    while is_secured(behind) {
        behind += 1;
    }
    behind - next.0
}

/// The path itself, or the nearest directory above it that there is.
#[must_use]
pub fn existing_ancestor(path: &Path) -> PathBuf {
    let ancestor = path.ancestors().find(|ancestor| ancestor.exists());
    match ancestor {
        Some(ancestor) => ancestor.to_owned(),
        None => PathBuf::from("."),
    }
}

/// Whether a full disk or a used-up quota is at the root of an error.
#[must_use]
pub fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    is_caused_by(error, &[io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded])
}

/// Whether it failed because no file of this process may be so large.
#[must_use]
pub fn is_file_too_large(error: &(dyn Error + 'static)) -> bool {
    is_caused_by(error, &[io::ErrorKind::FileTooLarge])
}

fn is_caused_by(error: &(dyn Error + 'static), kinds: &[io::ErrorKind]) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if kind.is_some_and(|kind| kinds.contains(&kind)) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A number of bytes for people.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.into_iter().find(|(_, unit)| self.0 >= *unit) {
            Some((name, unit)) => write!(f, "{:.1} {name}", self.0 as f64 / unit as f64),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::ServerError;
    use crate::server::datadir::DataDirError;
    use crate::wal::WalError;

    #[test]
    fn a_full_disk_is_found_beneath_every_layer() {
        let io = |kind: io::ErrorKind| io::Error::from(kind);
        let log = |kind| WalError::Io { path: "p".into(), doing: "x", source: io(kind) };
        let wrap = |kind| {
            [
                ServerError::Log(log(kind)),
                ServerError::System { action: "write", source: io(kind) },
                ServerError::DataDir(DataDirError::Io {
                    path: "p".into(),
                    action: "x",
                    source: io::Error::other(log(kind)),
                }),
            ]
        };
        for error in wrap(io::ErrorKind::StorageFull) {
            assert!(is_disk_full(&error), "{error:?}");
        }
        for error in wrap(io::ErrorKind::PermissionDenied) {
            assert!(!is_disk_full(&error), "{error:?}");
        }
    }

    #[test]
    fn a_directory_that_is_not_there_needs_all_of_it() {
        let home = tempfile::tempdir().expect("a directory");
        let new = home.path().join("a/b");
        assert_eq!(existing_ancestor(&new), home.path());
        assert_eq!(existing_ancestor(Path::new("no such")), Path::new("."));
        let two = NonZeroU16::new(2).expect("it is not zero");
        let needed = |segments| space(&new, two, segments, 1 << 20).expect("a disk").needed_bytes;
        assert_eq!(needed(3) - needed(1), 4 << 20);
        let dir = shard_dir(&new, ShardIndex(0));
        fs::create_dir_all(&dir).expect("a directory");
        let path = crate::wal::segment_path(&dir, SegmentIndex::FIRST);
        fs::write(path, "").expect("it writes");
        assert_eq!(needed(1), (1 << 20) + 2 * CALIBRATION_BYTES as u64 + SMALL_FILES_BYTES);
    }

    #[test]
    fn logs_count_on_what_others_are_not_left_with() {
        let space = |free_bytes, shards| LogSpace {
            disk: DiskSpace { size_bytes: 160 << 20, free_bytes },
            shards: NonZeroU16::new(shards).expect("it is not zero"),
            segment_bytes: 4 << 20,
        };
        for (free_mib, shards, segments) in [(160, 1, 37), (160, 2, 18), (14, 1, 1), (13, 1, 0)] {
            assert_eq!(space(free_mib << 20, shards).segments(), segments, "{free_mib} {shards}");
        }
        // The first one always, the others up to a quarter.
        assert!(space(0, 1).wants_more(0, 4));
        assert!(space(28 << 20, 1).wants_more(1, 4) && !space(27 << 20, 1).wants_more(1, 4));
        assert!(!space(28 << 20, 2).wants_more(1, 4) && !space(1 << 40, 1).wants_more(4, 4));
    }

    #[test]
    fn a_secured_segment_has_all_its_space() {
        let home = tempfile::tempdir().expect("a directory");
        let bytes = 64 << 10;
        let file = |index| preparation_path(home.path(), SegmentIndex(index));
        let secured = || secured_segments(home.path(), SegmentIndex(3), bytes);
        assert_eq!(secured(), 0);
        for index in [3, 4, 6] {
            fs::write(file(index), vec![1; 64 << 10]).expect("it writes");
        }
        assert_eq!(secured(), 2, "the fifth is missing");
        // As long as the others, and none of it is there.
        let sparse = fs::File::create(file(5)).expect("it is made");
        sparse.set_len(bytes).expect("it may be sparse");
        assert_eq!(secured(), 2);
        fs::write(file(4), "short").expect("it writes");
        assert_eq!(secured(), 1);
    }

    #[test]
    fn bytes_are_told_in_units() {
        let told = [0, 1023, 1024, 3 << 19, 5 << 30].map(|bytes| Bytes(bytes).to_string());
        assert_eq!(told, ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 MiB", "5.0 GiB"]);
    }
}
