//! `BACKUP.json`: what belongs to a backup.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::Failed;
use super::super::exit::ExitCode;
use super::system;
use crate::model::{Lsn, ShardIndex};
use crate::wal::snapshot::snapshot_path;
use crate::wal::{Position, SegmentIndex, segment_path, shard_dir};

/// The layout, as this version writes it.
const FORMAT: u32 = 1;

const NAME: &str = "BACKUP.json";

/// Whether a directory is a backup.
pub(in crate::cli) fn is_backup(dir: &Path) -> bool {
    dir.join(NAME).exists()
}

/// The list of a backup's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct Manifest {
    pub(super) format: u32,
    /// When it was made, in milliseconds since the Unix epoch.
    pub(super) made_at_ms: u64,
    pub(super) shards: Vec<ShardEntry>,
}

/// The log of one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShardEntry {
    pub(super) shard: u16,
    /// The log id, in hexadecimal.
    pub(super) log: String,
    /// The LSN behind the last record.
    pub(super) next_lsn: u64,
    /// When the last record was decided.
    pub(super) last_time_ms: u64,
    /// In the order of their numbers, without a gap.
    pub(super) segments: Vec<SegmentEntry>,
    /// The oldest first.
    pub(super) snapshots: Vec<SnapshotEntry>,
}

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SegmentEntry {
    pub(super) index: u64,
    /// The size of the file.
    pub(super) bytes: u64,
    /// How many of them belong to the backup: up to the end of a frame. The rest is zeros.
    pub(super) used: u64,
    /// The CRC32 of those.
    pub(super) crc32: u32,
}

/// A snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SnapshotEntry {
    pub(super) lsn: u64,
    pub(super) bytes: u64,
    pub(super) crc32: u32,
}

impl Manifest {
    pub(super) const fn new(made_at_ms: u64, shards: Vec<ShardEntry>) -> Self {
        Self { format: FORMAT, made_at_ms, shards }
    }

    /// The list in `dir`; `None` where there is none.
    pub(in crate::cli) fn read(dir: &Path) -> Result<Option<Self>, Failed> {
        let path = dir.join(NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(system(&path, "read it", &error, "name a directory with a backup"));
            }
        };
        let bad = |what: &dyn std::fmt::Display| {
            let path = path.display();
            let message = format!(
                "{path} is damaged ({what}); use another backup, or make one in a new directory"
            );
            Failed::new(ExitCode::DamagedLog, message)
        };
        let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| bad(&error))?;
        let format = json.get("format").and_then(serde_json::Value::as_u64);
        if format.is_some_and(|format| format > u64::from(FORMAT)) {
            let message = format!("{} is of a later version; run that version", path.display());
            return Err(Failed::new(ExitCode::ForeignData, message));
        }
        let manifest: Self = serde_json::from_value(json).map_err(|error| bad(&error))?;
        manifest.check().map_err(|what| bad(&what))?;
        Ok(Some(manifest))
    }

    /// Replaces the list in one step, durably.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let (new, name) = (dir.join(format!("{NAME}.tmp")), dir.join(NAME));
        let text = serde_json::to_string_pretty(self).expect("a list is plain data");
        let mut file = File::create(&new)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::rename(&new, &name)?;
        File::open(dir)?.sync_all()
    }

    fn check(&self) -> Result<(), &'static str> {
        let mut shards = (0..).zip(&self.shards);
        if self.shards.is_empty() || !shards.all(|(index, entry)| entry.shard == index) {
            return Err("its shards are not those of a server");
        }
        if self.shards.iter().any(|shard| shard.log_id().is_none()) {
            return Err("a log id is no number");
        }
        for shard in &self.shards {
            let mut pairs = shard.segments.windows(2);
            let is_dense = pairs.all(|pair| pair[0].index.checked_add(1) == Some(pair[1].index));
            if shard.segments.is_empty() || !is_dense {
                return Err("a shard lacks a segment");
            }
            if shard.segments.iter().any(|segment| segment.used > segment.bytes) {
                return Err("a segment has more than its size");
            }
        }
        Ok(())
    }

    /// Every file that belongs to it, by its path in the backup.
    pub(super) fn files(&self, dir: &Path) -> Vec<PathBuf> {
        let of_shard = |shard: &ShardEntry| {
            let dir = shard.dir(dir);
            let segments = shard.segments.iter().map(|segment| segment.path(&dir));
            let snapshots = shard.snapshots.iter().map(|snapshot| snapshot.path(&dir));
            segments.chain(snapshots).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(of_shard).collect()
    }
}

impl ShardEntry {
    pub(super) fn dir(&self, backup: &Path) -> PathBuf {
        shard_dir(backup, ShardIndex(self.shard))
    }

    pub(super) fn log_id(&self) -> Option<u64> {
        u64::from_str_radix(&self.log, 16).ok()
    }

    /// Where the log ends.
    pub(super) fn end(&self) -> Position {
        let last = self.segments.last().expect("a list has the segments of each shard");
        Position { segment: SegmentIndex(last.index), offset: last.used }
    }

    pub(super) fn segment(&self, index: SegmentIndex) -> Option<&SegmentEntry> {
        self.segments.iter().find(|segment| segment.index == index.0)
    }
}

impl SegmentEntry {
    pub(super) fn path(&self, shard_dir: &Path) -> PathBuf {
        segment_path(shard_dir, SegmentIndex(self.index))
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.used == self.bytes
    }
}

impl SnapshotEntry {
    pub(super) fn path(&self, shard_dir: &Path) -> PathBuf {
        snapshot_path(shard_dir, Lsn(self.lsn))
    }
}
