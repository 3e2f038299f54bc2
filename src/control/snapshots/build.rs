//! One snapshot: the last one, the sealed segments behind it, and the new file, verified.
//!
//! The file gets its name when it is known to be good: written under another name, synced, read
//! back from the disk and compared with the state part by part, then renamed, and the directory
//! synced. A crash at any point leaves the snapshots that there were, or one more.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use super::pace::{Measure, Pace, PacedFile, PacedReader, SealedLog};
use crate::engine::{Engine, Replay};
use crate::model::TimeMs;
use crate::runtime::disk::disk_space;
use crate::runtime::file::drop_cached;
use crate::server::ServerError;
use crate::server::restore::{LoadError, Snapshot, hash_seed, load_newest};
use crate::server::space::Bytes;
use crate::wal::snapshot::{
    SnapshotFile, SnapshotHeader, SnapshotReader, SnapshotTotals, SnapshotWriter, snapshot_path,
    snapshot_preparation,
};
use crate::wal::{
    FileStorage, Identity, LogStart, Position, SEGMENT_HEADER_BYTES, SegmentIndex, WalError,
    recover_from,
};

/// What a snapshot is to be made of.
#[derive(Clone, Copy, Debug)]
pub struct Build<'a> {
    /// The shard's directory.
    pub directory: &'a Path,
    /// Whose log it is.
    pub identity: Identity,
    /// The last segment to be covered; it and all before it are complete.
    pub sealed: SegmentIndex,
    /// What is to stay free on the disk.
    pub spare_bytes: u64,
    /// How fast.
    pub pace: &'a Pace,
}

/// A snapshot that was made.
#[derive(Clone, Debug)]
pub struct Built {
    /// The new one.
    pub snapshot: Snapshot,
    /// The one that it was made from.
    pub base: Option<Snapshot>,
    /// Newer ones than that, which could not be read.
    pub unusable: Vec<PathBuf>,
    /// What it holds.
    pub totals: SnapshotTotals,
    /// How many records were replayed.
    pub records: u64,
}

/// Why no snapshot was made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The server stops.
    #[error("the server stops")]
    Stopped,
    /// There is nothing to begin with.
    #[error(transparent)]
    Base(#[from] ServerError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] WalError),
    /// A sealed segment does not end as a complete one does.
    #[error(
        "{}: the log should go on to the end of segment {sealed}, which is complete, and stops in \
         segment {segment} at offset {offset}: the file is damaged. The server goes on; make a \
         backup before the next restart, which will refuse this log",
        file.display()
    )]
    NotComplete {
        /// The segment's file.
        file: PathBuf,
        /// The last complete segment.
        sealed: SegmentIndex,
        /// Where the log stops.
        segment: SegmentIndex,
        /// At which byte.
        offset: u64,
    },
    /// The new snapshot does not read back as it was written.
    #[error("{}: the new snapshot reads back wrong and was thrown away: {what}", file.display())]
    ReadsBackWrong {
        /// The file.
        file: PathBuf,
        /// How.
        what: String,
    },
    /// It does not fit.
    #[error(
        "{}: the disk has no room for it: it takes {}{}, and {} are free",
        path.display(), Bytes(*snapshot_bytes), beside(*spare_bytes), Bytes(*free_bytes)
    )]
    NoRoom {
        /// The file that it was to be.
        path: PathBuf,
        /// How large it would have become.
        snapshot_bytes: u64,
        /// What was to stay free beside it.
        spare_bytes: u64,
        /// What is free, without the part of it that was written.
        free_bytes: u64,
    },
    /// The operating system refused.
    #[error("{}: {doing}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn beside(spare_bytes: u64) -> String {
    match spare_bytes {
        0 => String::new(),
        spare => format!(" and leaves {} to the log", Bytes(spare)),
    }
}

/// Makes a snapshot of everything up to the end of a sealed segment.
pub fn build(order: &Build<'_>) -> Result<Built, BuildError> {
    // Whatever fails once the end has come, fails because of it.
    let built = build_while_going(order);
    if order.pace.is_stopped() { built.map_err(|_| BuildError::Stopped) } else { built }
}

fn build_while_going(order: &Build<'_>) -> Result<Built, BuildError> {
    let pace = order.pace;
    let mut unusable = Vec::new();
    let through = |from: BufReader<File>| PacedReader { from, pace };
    let loaded = load_newest(order.directory, order.identity, through, |file, error| {
        if !pace.is_stopped() {
            warn_unusable(order.identity, file, error);
            unusable.push(file.path.clone());
        }
    })?;
    if pace.is_stopped() {
        return Err(BuildError::Stopped);
    }
    let (engine, base) = match loaded {
        Some((engine, base)) => (engine, Some(base)),
        None => (Engine::new(hash_seed()?), None),
    };
    let mut replay = Replay::new(engine);
    let (header, records) = replay_sealed(order, &mut replay, base.as_ref())?;
    let engine = replay.finish();
    let path = snapshot_path(order.directory, header.last_lsn);
    let temporary = snapshot_preparation(order.directory, header.last_lsn);
    let made = write(&temporary, &header, &engine, order)
        .and_then(|totals| verify(&temporary, &header, &engine, pace).map(|bytes| (totals, bytes)))
        .and_then(|made| {
            rename(&temporary, &path, order.directory)?;
            Ok(made)
        });
    let (totals, bytes) = match made {
        Ok(made) => made,
        Err(error) => {
            // The space that it takes may be what is missing.
            let _ = fs::remove_file(&temporary);
            return Err(match error {
                BuildError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                    no_room(path, &header, &engine, order)
                }
                error => error,
            });
        }
    };
    let file = SnapshotFile { lsn: header.last_lsn, path, bytes };
    Ok(Built { snapshot: Snapshot { header, file }, base, unusable, totals, records })
}

/// A snapshot that was passed over.
fn warn_unusable(identity: Identity, file: &SnapshotFile, error: &LoadError) {
    tracing::warn!(
        shard = identity.shard.0,
        file = %file.path.display(),
        %error,
        "a snapshot cannot be used; the next one is made from the one before it"
    );
}

/// Replays the sealed segments behind the last snapshot, and says where the log then goes on.
fn replay_sealed(
    order: &Build<'_>,
    replay: &mut Replay,
    base: Option<&Snapshot>,
) -> Result<(SnapshotHeader, u64), BuildError> {
    let sealed = order.sealed;
    let storage = FileStorage::open_read_only(order.directory)?;
    let log = SealedLog { storage, last: sealed, pace: order.pace };
    let start = base.map(|base| base.header.log_start());
    let recovered = recover_from(&log, Some(order.identity), start, |entry| {
        replay.push(entry.record);
    })?;
    let end = recovered.torn.map_or(recovered.end, |torn| torn.start);
    if recovered.torn.is_some() || recovered.end.segment != sealed {
        return Err(BuildError::NotComplete {
            file: crate::wal::segment_path(order.directory, end.segment),
            sealed,
            segment: end.segment,
            offset: end.offset,
        });
    }
    let header = SnapshotHeader::before(&LogStart {
        identity: order.identity,
        position: Position { segment: sealed.next(), offset: SEGMENT_HEADER_BYTES as u64 },
        next_lsn: recovered.next_lsn,
        previous_crc: recovered.previous_crc,
        last_time: TimeMs(recovered.last_time.0),
    });
    Ok((header, recovered.records))
}

/// Writes a snapshot of an engine, and makes it durable.
fn write(
    path: &Path,
    header: &SnapshotHeader,
    engine: &Engine,
    order: &Build<'_>,
) -> Result<SnapshotTotals, BuildError> {
    let write = || -> io::Result<SnapshotTotals> {
        let file = BufWriter::new(PacedFile::create(path, order.spare_bytes, order.pace)?);
        let mut writer = SnapshotWriter::new(file, header)?;
        for part in engine.export() {
            writer.part(&part)?;
        }
        let (file, totals) = writer.finish()?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.finish()?;
        Ok(totals)
    };
    write().map_err(failed(path, "write a snapshot"))
}

/// How much is missing for a snapshot that found no room.
fn no_room(
    path: PathBuf,
    header: &SnapshotHeader,
    engine: &Engine,
    order: &Build<'_>,
) -> BuildError {
    let measured = measure(header, engine, order.pace)
        .and_then(|bytes| Ok((bytes, disk_space(order.directory)?.free_bytes)));
    match measured {
        Ok((snapshot_bytes, free_bytes)) => {
            BuildError::NoRoom { path, snapshot_bytes, spare_bytes: order.spare_bytes, free_bytes }
        }
        Err(source) => BuildError::Io { path, doing: "measure a snapshot", source },
    }
}

/// How large the snapshot becomes, by writing it to nowhere.
fn measure(header: &SnapshotHeader, engine: &Engine, pace: &Pace) -> io::Result<u64> {
    let mut writer = SnapshotWriter::new(Measure { bytes: 0, pace }, header)?;
    for part in engine.export() {
        writer.part(&part)?;
    }
    Ok(writer.finish()?.0.bytes)
}

/// Whether the snapshot reads back, from the disk, as what the engine knows. Returns its bytes.
fn verify(
    path: &Path,
    header: &SnapshotHeader,
    engine: &Engine,
    pace: &Pace,
) -> Result<u64, BuildError> {
    let file = File::open(path).map_err(failed(path, "read a snapshot back"))?;
    drop_cached(&file);
    let from = PacedReader { from: BufReader::new(file), pace };
    let compared =
        SnapshotReader::new(from).and_then(|reader| reader.compare(header, engine.export()));
    compared.map_err(|error| BuildError::ReadsBackWrong {
        file: path.to_owned(),
        what: error.to_string(),
    })
}

fn rename(temporary: &Path, path: &Path, directory: &Path) -> Result<(), BuildError> {
    let sync = || File::open(directory)?.sync_all();
    let named = fs::rename(temporary, path).and_then(|()| {
        // One whose name may not be on the disk must not become the base of the next.
        sync().inspect_err(|_| drop(fs::remove_file(path)))
    });
    named.map_err(failed(path, "name a snapshot"))
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> BuildError {
    let path = path.to_owned();
    move |source| BuildError::Io { path, doing, source }
}
