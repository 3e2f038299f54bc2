//! What a log stands on: its snapshots, and where it begins.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::Failed;
use super::failed;
use crate::wal::snapshot::{SnapshotError, SnapshotFile, SnapshotHeader, open_snapshot, snapshots};
use crate::wal::{Identity, LogStart, LogStorage, SegmentIndex, WalError, first_frame};

/// The snapshots of a shard, each read to its end, and where its log can be read from.
#[derive(Debug)]
pub(in crate::cli) struct Grounds {
    /// The newest first.
    pub(in crate::cli) snapshots: Vec<Snapshot>,
    /// Where all that is there begins; `None` is the beginning of the log.
    pub(in crate::cli) earliest: Option<LogStart>,
    /// Where a server begins; `None` is the beginning of the log.
    pub(in crate::cli) newest: Option<LogStart>,
}

/// A snapshot file.
#[derive(Debug)]
pub(in crate::cli) struct Snapshot {
    pub(in crate::cli) file: SnapshotFile,
    /// What its header says, where the whole file is sound.
    pub(in crate::cli) sound: Result<SnapshotHeader, String>,
}

/// A snapshot file, as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct SnapshotFacts {
    file: PathBuf,
    lsn: u64,
    /// What is wrong with it; absent where it is sound.
    fault: Option<String>,
}

impl Grounds {
    /// Reads every snapshot of the shard in `dir` to its end.
    pub(in crate::cli) fn find(
        dir: &Path,
        storage: &impl LogStorage,
        expected: Option<Identity>,
    ) -> Result<Self, Failed> {
        let system = |path: &Path, source| {
            let path = path.to_owned();
            failed(&WalError::Io { path, doing: "read the snapshots", source })
        };
        let files = snapshots(dir).map_err(|source| system(dir, source))?;
        let mut found = Vec::new();
        for file in files {
            let sound = match read(&file, expected) {
                Ok(header) => Ok(header),
                // It was retired meanwhile.
                Err(SnapshotError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                    continue;
                }
                Err(SnapshotError::Io(error))
                    if error.kind() == io::ErrorKind::PermissionDenied =>
                {
                    return Err(system(&file.path, error));
                }
                // A server passes over what its disk does not give back, too.
                Err(error) => Err(error.to_string()),
            };
            found.push(Snapshot { file, sound });
        }
        let sound = || found.iter().filter_map(|snapshot| snapshot.sound.as_ref().ok());
        let newest = sound().next().map(SnapshotHeader::log_start);
        let segments = storage.segments().map_err(|source| system(dir, source))?;
        let first = segments.first().map_or(SegmentIndex(u64::MAX), |first| first.index);
        let earliest = if first == SegmentIndex::FIRST {
            None
        } else {
            let frame = first_frame(storage).map_err(|error| failed(&error))?;
            let whose = |start: &LogStart| expected.is_none_or(|whose| whose == start.identity);
            let mut oldest_first = sound().rev().filter(|header| header.position.segment >= first);
            frame.filter(whose).or_else(|| oldest_first.next().map(SnapshotHeader::log_start))
        };
        Ok(Self { snapshots: found, earliest, newest })
    }

    /// What is wrong with the snapshots.
    pub(super) fn faults(&self) -> impl Iterator<Item = String> {
        let faults = self.snapshots.iter().filter_map(|snapshot| {
            let fault = snapshot.sound.as_ref().err()?;
            Some(format!("{}: {fault}", snapshot.file.path.display()))
        });
        faults.collect::<Vec<_>>().into_iter()
    }

    pub(super) fn facts(&self) -> Vec<SnapshotFacts> {
        let facts = self.snapshots.iter().map(|snapshot| SnapshotFacts {
            file: snapshot.file.path.clone(),
            lsn: snapshot.file.lsn.0,
            fault: snapshot.sound.as_ref().err().cloned(),
        });
        facts.collect()
    }
}

fn read(file: &SnapshotFile, expected: Option<Identity>) -> Result<SnapshotHeader, SnapshotError> {
    let mut reader = open_snapshot(file, |file| file)?;
    let header = *reader.header();
    if let Some(expected) = expected.filter(|expected| *expected != header.identity) {
        let (log, whose) = (header.identity.log, expected.log);
        let what = format!("it is of the log {log}, not of {whose}, or of another shard");
        return Err(SnapshotError::Damaged { offset: 0, what });
    }
    while reader.next_part()?.is_some() {}
    Ok(header)
}

impl fmt::Display for SnapshotFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot of LSN {}: ", self.lsn)?;
        match &self.fault {
            None => write!(f, "sound"),
            Some(fault) => write!(f, "NOT SOUND: {}: {fault}", self.file.display()),
        }
    }
}
