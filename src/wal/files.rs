//! A log on real files, by blocking calls: for start-up, recovery and tools.
//!
//! Opening a log for service syncs every segment and the directory before anything is read: what
//! a crash left in the page cache must not be taken for what is on disk. Opening it for reading
//! changes nothing.

use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::WalError;
use super::segment::{Identity, Position, Segment, SegmentHeader, SegmentIndex};
use super::storage::LogStorage;
use crate::model::ShardIndex;

const SHARD_PREFIX: &str = "shard-";
const SEGMENT_SUFFIX: &str = ".wal";
const SEGMENT_DIGITS: usize = 20;

/// Zeros that are written at once.
const ZEROS: &[u8] = &[0; 1 << 20];

/// The directory of a shard's log.
#[must_use]
pub fn shard_dir(data_dir: &Path, shard: ShardIndex) -> PathBuf {
    data_dir.join(format!("{SHARD_PREFIX}{:03}", shard.0))
}

/// The shards that have a directory in `data_dir`, in the order of their indexes.
pub fn shard_dirs(data_dir: &Path) -> Result<Vec<(ShardIndex, PathBuf)>, WalError> {
    let list = || -> io::Result<Vec<(ShardIndex, PathBuf)>> {
        let mut shards = Vec::new();
        for entry in fs::read_dir(data_dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let index = name.to_str().and_then(|name| name.strip_prefix(SHARD_PREFIX));
            if let Some(index) = index.and_then(|digits| digits.parse().ok()) {
                let shard = ShardIndex(index);
                if entry.path() == shard_dir(data_dir, shard) {
                    shards.push((shard, entry.path()));
                }
            }
        }
        shards.sort_unstable();
        Ok(shards)
    };
    list().map_err(|source| failed(data_dir, "list the shards", source))
}

/// The segment files of one shard.
#[derive(Clone, Debug)]
pub struct FileStorage {
    dir: PathBuf,
}

impl FileStorage {
    /// The log in `dir`, for service: files and directory are synced first.
    pub fn open(dir: &Path) -> Result<Self, WalError> {
        Self::open_from(dir, SegmentIndex::FIRST)
    }

    /// As [`Self::open`], for service from the segment `first` on: no other one is touched.
    pub fn open_from(dir: &Path, first: SegmentIndex) -> Result<Self, WalError> {
        let storage = Self::open_read_only(dir)?;
        let segments =
            storage.segments().map_err(|source| failed(dir, "list the segments", source))?;
        for segment in segments.into_iter().filter(|segment| segment.index >= first) {
            let path = storage.path(segment.index);
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|source| failed(&path, "sync before reading", source))?;
        }
        sync_dir(dir)?;
        Ok(storage)
    }

    /// The log in `dir`, as it is.
    pub fn open_read_only(dir: &Path) -> Result<Self, WalError> {
        let meta = fs::metadata(dir).map_err(|source| failed(dir, "open the log", source))?;
        if meta.is_dir() {
            Ok(Self { dir: dir.to_path_buf() })
        } else {
            Err(failed(dir, "open the log", io::Error::from(io::ErrorKind::NotADirectory)))
        }
    }
}

impl LogStorage for FileStorage {
    fn segments(&self) -> io::Result<Vec<Segment>> {
        let mut segments = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Some(index) = entry.file_name().to_str().and_then(parse_name) else { continue };
            if let Some(bytes) = listed_bytes(&entry)? {
                segments.push(Segment { index, bytes });
            }
        }
        segments.sort_unstable_by_key(|segment| segment.index);
        Ok(segments)
    }

    fn read_at(&self, position: Position, into: &mut [u8]) -> io::Result<()> {
        File::open(self.path(position.segment))?.read_exact_at(into, position.offset)
    }

    fn zero_and_sync(&self, position: Position, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(position.segment))?;
        let (mut offset, end) = (position.offset, position.offset + bytes);
        while offset < end {
            let length = (end - offset).min(ZEROS.len() as u64);
            file.write_all_at(&ZEROS[..length as usize], offset)?;
            offset += length;
        }
        file.sync_all()
    }

    fn path(&self, segment: SegmentIndex) -> PathBuf {
        segment_path(&self.dir, segment)
    }
}

/// How many bytes a file has that was just listed; `None` where a server has retired it since.
pub(super) fn listed_bytes(entry: &DirEntry) -> io::Result<Option<u64>> {
    match entry.metadata() {
        Ok(meta) => Ok(Some(meta.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The file of a segment in a shard's directory.
#[must_use]
pub fn segment_path(dir: &Path, segment: SegmentIndex) -> PathBuf {
    dir.join(format!("{:0SEGMENT_DIGITS$}{SEGMENT_SUFFIX}", segment.0))
}

/// The file that a segment is prepared under, and renamed from once it is complete.
#[must_use]
pub fn preparation_path(dir: &Path, segment: SegmentIndex) -> PathBuf {
    dir.join(format!("{:0SEGMENT_DIGITS$}{SEGMENT_SUFFIX}.tmp", segment.0))
}

/// Makes a segment: zero-filled, its header written, all of it synced before it has its name.
///
/// # Panics
///
/// As [`SegmentHeader::encode`].
pub fn prepare_segment(dir: &Path, identity: Identity, segment: Segment) -> Result<(), WalError> {
    let header = SegmentHeader { identity, segment }.encode();
    let path = segment_path(dir, segment.index);
    let temporary = preparation_path(dir, segment.index);
    if path.exists() {
        let source = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(failed(&path, "prepare a segment", source));
    }
    let fill = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(&header)?;
        let mut rest = segment.bytes - header.len() as u64;
        while rest > 0 {
            let length = rest.min(ZEROS.len() as u64);
            file.write_all(&ZEROS[..length as usize])?;
            rest -= length;
        }
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    if let Err(source) = fill() {
        // The space that a half-made segment takes may be what is missing.
        let _ = fs::remove_file(&temporary);
        return Err(failed(&temporary, "prepare a segment", source));
    }
    sync_dir(dir)
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), WalError> {
    let synced = File::open(dir).and_then(|file| file.sync_all());
    synced.map_err(|source| failed(dir, "sync the directory", source))
}

fn parse_name(name: &str) -> Option<SegmentIndex> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    let is_number = digits.len() == SEGMENT_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten().map(SegmentIndex)
}

pub(super) fn failed(path: &Path, doing: &'static str, source: io::Error) -> WalError {
    WalError::Io { path: path.to_path_buf(), doing, source }
}
