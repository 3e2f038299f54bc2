//! Whether a backup is what its list says: every checksum, every snapshot, every frame.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use super::super::exit::ExitCode;
use super::super::wal::grounds::{Grounds, Snapshot};
use super::super::{Failed, wal};
use super::checksum;
use super::manifest::{Manifest, ShardEntry};
use super::system;
use crate::model::Lsn;
use crate::runtime::file::drop_cached;
use crate::wal::snapshot::SnapshotHeader;
use crate::wal::{Bounded, FileStorage, LogStart, Recovered, recover_from};

const ANOTHER: &str = "this backup cannot be used: use another one, or make a new one of the data \
                       directory, while that is whole";

/// The way out for a file that the data directory may still have.
const AGAIN: &str = "`boxoffice backup` copies it again while the data directory has it; else use \
                     another backup";

/// A backup that is being read, and locked as long as this lives.
#[derive(Debug)]
pub(in crate::cli) struct Backup {
    pub(super) manifest: Manifest,
    _lock: Option<File>,
}

/// The log of a shard that was checked.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) storage: FileStorage,
    /// Where all that is there begins.
    pub(super) start: Option<LogStart>,
    pub(super) recovered: Recovered,
    /// The oldest first.
    pub(super) snapshots: Vec<Snapshot>,
}

impl Backup {
    /// Reads the list. A backup on a medium that cannot be written needs no lock.
    pub(in crate::cli) fn open(dir: &Path) -> Result<Self, Failed> {
        let Some(manifest) = Manifest::read(dir)? else {
            let message = format!("{} has no BACKUP.json: name a backup", dir.display());
            return Err(Failed::new(ExitCode::Configuration, message));
        };
        let lock = File::open(dir.join("LOCK")).ok();
        if let Some(Err(TryLockError::WouldBlock)) = lock.as_ref().map(File::try_lock_shared) {
            let message = format!("{} is being written; wait for it", dir.display());
            return Err(Failed::new(ExitCode::DirectoryInUse, message));
        }
        Ok(Self { manifest, _lock: lock })
    }

    /// Whether each file of the list, of one shard or of all, is there and what it was.
    pub(in crate::cli) fn check_files(&self, dir: &Path, only: Option<u16>) -> Result<(), Failed> {
        let shards = self.manifest.shards.iter();
        let mut wanted = shards.filter(|entry| only.is_none_or(|only| entry.shard == only));
        wanted.try_for_each(|entry| check_files(dir, entry))
    }
}

impl Checked {
    /// Checks the log of one shard.
    pub(super) fn read(backup: &Path, entry: &ShardEntry) -> Result<Self, Failed> {
        check_files(backup, entry)?;
        let dir = entry.dir(backup);
        let storage = FileStorage::open_read_only(&dir).map_err(|error| wal::failed(&error))?;
        let log = Bounded::until(&storage, entry.end()).map_err(|error| wal::failed(&error))?;
        let damaged = |what: String| {
            Failed::new(ExitCode::DamagedLog, format_args!("{}: {what}; {ANOTHER}", dir.display()))
        };
        let Grounds { mut snapshots, earliest: start, .. } = Grounds::find(&dir, &log, None)?;
        snapshots.retain(|snapshot| {
            entry.snapshots.iter().any(|known| known.lsn == snapshot.file.lsn.0)
        });
        snapshots.reverse();
        let unsound = snapshots.iter().find_map(|snapshot| {
            let fault = snapshot.sound.as_ref().err()?;
            Some(format!("the snapshot of LSN {}: {fault}", snapshot.file.lsn))
        });
        if let Some(unsound) = unsound {
            return Err(damaged(unsound));
        }
        let recovered = recover_from(&log, None, start, |_| ());
        let recovered = recovered.map_err(|error| damaged(error.to_string()))?;
        let id = recovered.identity.log.0;
        if recovered.next_lsn.0 != entry.next_lsn || Some(id) != entry.log_id() {
            return Err(damaged("the log is another one than the list says".to_owned()));
        }
        if start.is_some() && snapshots.is_empty() {
            return Err(damaged("the beginning of the log is missing".to_owned()));
        }
        Ok(Self { storage, start, recovered, snapshots })
    }

    /// The log up to where the list says that it ends.
    pub(super) fn log(&self) -> Result<Bounded<'_, FileStorage>, Failed> {
        Bounded::until(&self.storage, self.recovered.end).map_err(|error| wal::failed(&error))
    }

    /// The earliest record that a restore can end with.
    pub(super) fn earliest(&self) -> Lsn {
        let oldest = self.headers().next().map_or(Lsn(0), |header| header.last_lsn);
        if self.start.is_some() { oldest } else { Lsn(0) }
    }

    /// The headers of the snapshots, the oldest first.
    pub(super) fn headers(&self) -> impl Iterator<Item = &SnapshotHeader> {
        self.snapshots.iter().filter_map(|snapshot| snapshot.sound.as_ref().ok())
    }
}

fn check_files(backup: &Path, entry: &ShardEntry) -> Result<(), Failed> {
    let dir = entry.dir(backup);
    for segment in &entry.segments {
        check_file(&segment.path(&dir), (segment.used, segment.bytes), segment.crc32)?;
    }
    for snapshot in &entry.snapshots {
        check_file(&snapshot.path(&dir), (snapshot.bytes, snapshot.bytes), snapshot.crc32)?;
    }
    Ok(())
}

/// Reads a file, from the disk and not from memory: what a backup is on goes bad in silence.
fn check_file(path: &Path, (used, bytes): (u64, u64), crc32: u32) -> Result<(), Failed> {
    if let Ok(file) = File::open(path) {
        drop_cached(&file);
    }
    let found = path.metadata().and_then(|meta| Ok((meta.len(), checksum(path, used)?)));
    let found = found.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let message = format!("{} is missing; {AGAIN}", path.display());
            Failed::new(ExitCode::DamagedLog, message)
        }
        _ => system(path, "read it", &error, ANOTHER),
    })?;
    if found == (bytes, Some(crc32)) {
        return Ok(());
    }
    let path = path.display();
    let message = format!(
        "{path} is not what was backed up: its size or checksum differs; remove that file, and \
         {AGAIN}"
    );
    Err(Failed::new(ExitCode::DamagedLog, message))
}
