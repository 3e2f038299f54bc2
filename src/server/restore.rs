//! Bringing a shard's state back: the newest snapshot that is whole, and the log behind it.
//!
//! A snapshot that cannot be read is passed over with a warning, since the one before it and a
//! longer piece of log say the same. Without any snapshot the log is read from its beginning, and
//! where its beginning is gone, nothing is made up: the start is refused.
//!
//! Only the segments behind the snapshot are read. What is written meanwhile (a snapshot in the
//! making that a crash cut short) is removed first.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::error::ServerError;
use crate::engine::{Engine, HashSeed, ImportError, Importer, Replay};
use crate::wal::snapshot::{
    SnapshotError, SnapshotFile, SnapshotHeader, SnapshotReader, open_snapshot,
    read_snapshot_ahead, remove_unfinished_snapshots, snapshots,
};
use crate::wal::{
    FileStorage, Identity, LogStorage, Recovered, SegmentIndex, WalError, recover_from,
    repair_torn_tail,
};

/// A shard's state, and where its log goes on.
pub struct Restored {
    /// The state.
    pub engine: Engine,
    /// The log behind the snapshot.
    pub recovered: Recovered,
    /// The snapshot that it began with.
    pub snapshot: Option<Snapshot>,
}

/// A snapshot on disk.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What its header says.
    pub header: SnapshotHeader,
    /// The file.
    pub file: SnapshotFile,
}

thread_local! {
    /// The data directory that this thread reads a shard of back from.
    static REPLAYING: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// The data directory whose log this thread is carrying out, for whoever tells of a panic: the
/// engine ends the process over a record that cannot be.
#[must_use]
pub fn replaying() -> Option<PathBuf> {
    // A thread that ends may have nothing of the kind any more.
    REPLAYING.try_with(|data_dir| data_dir.borrow().clone()).ok().flatten()
}

/// Says what this thread reads back, as long as it lives.
struct Replaying;

impl Replaying {
    fn of(shard_directory: &Path) -> Self {
        REPLAYING.set(shard_directory.parent().map(Path::to_owned));
        Self
    }
}

impl Drop for Replaying {
    fn drop(&mut self) {
        REPLAYING.set(None);
    }
}

/// Why a snapshot was passed over.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is not whole.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// It is whole, and does not add up.
    #[error("it does not add up: {0}")]
    Import(#[from] ImportError),
    /// It is another log's.
    #[error("it belongs to the log {} of shard {} of {}", .0.log, .0.shard, .0.shards)]
    Foreign(Identity),
}

/// Restores the shard whose log lies in `directory`, and repairs a torn tail.
pub fn restore(directory: &Path, identity: Identity) -> Result<Restored, ServerError> {
    let _replaying = Replaying::of(directory);
    let start = Instant::now();
    remove_unfinished_snapshots(directory)
        .map_err(ServerError::system("remove an unfinished snapshot"))?;
    let warn = |file: &SnapshotFile, error: &LoadError| {
        tracing::warn!(
            shard = identity.shard.0,
            file = %file.path.display(),
            %error,
            "a snapshot cannot be used; the one before it is tried, and more of the log is read"
        );
    };
    let loaded = load_newest(directory, identity, |file| file, warn)?;
    let imported = start.elapsed();
    let (engine, snapshot) = match loaded {
        Some((engine, snapshot)) => (engine, Some(snapshot)),
        None => (Engine::new(hash_seed()?), None),
    };
    let log_start = snapshot.as_ref().map(|snapshot| snapshot.header.log_start());
    let first = log_start.map_or(SegmentIndex::FIRST, |start| start.position.segment);
    let storage = FileStorage::open_from(directory, first)?;
    let mut replay = Replay::new(engine);
    let recovered = recover_from(&storage, Some(identity), log_start, |entry| {
        replay.push(entry.record);
    })?;
    let engine = replay.finish();
    if let Some(torn) = &recovered.torn {
        tracing::warn!(
            shard = identity.shard.0,
            segment = torn.start.segment.0,
            offset = torn.start.offset,
            bytes = torn.bytes,
            "an interrupted write was cut off the log's end; nothing in it was answered, unless \
             the disk has spoiled what it had taken"
        );
        repair_torn_tail(&storage, torn)?;
    }
    tracing::info!(
        shard = identity.shard.0,
        snapshot_lsn = snapshot.as_ref().map_or(0, |snapshot| snapshot.header.last_lsn.0),
        snapshot_ms = imported.as_millis(),
        records = recovered.records,
        frames = recovered.frames,
        elapsed_ms = start.elapsed().as_millis(),
        "recovered"
    );
    Ok(Restored { engine, recovered, snapshot })
}

/// The newest snapshot that is whole, as an engine; `None` where the log is to be read from its
/// beginning. Each file is read through what `through` makes of it, and `unusable` is told of each
/// one that was passed over.
pub fn load_newest<R: Read + Send>(
    directory: &Path,
    identity: Identity,
    through: impl Fn(BufReader<File>) -> R,
    mut unusable: impl FnMut(&SnapshotFile, &LoadError),
) -> Result<Option<(Engine, Snapshot)>, ServerError> {
    let files = snapshots(directory).map_err(ServerError::system("list the snapshots"))?;
    let passed_over = files.len();
    for file in files {
        let reader = open_snapshot(&file, &through);
        match reader.map_err(LoadError::from).and_then(|reader| import(identity, reader)) {
            Ok((engine, header)) => return Ok(Some((engine, Snapshot { header, file }))),
            Err(error) => unusable(&file, &error),
        }
    }
    let storage = FileStorage::open_read_only(directory)?;
    let segments = storage.segments().map_err(ServerError::system("list the segments"))?;
    match segments.first() {
        Some(first) if first.index > SegmentIndex::FIRST => {
            Err(ServerError::Log(WalError::NoSnapshot {
                dir: directory.to_owned(),
                first: first.index,
                passed_over,
            }))
        }
        _ => Ok(None),
    }
}

fn import<R: Read + Send>(
    identity: Identity,
    reader: SnapshotReader<R>,
) -> Result<(Engine, SnapshotHeader), LoadError> {
    let header = *reader.header();
    if header.identity != identity {
        return Err(LoadError::Foreign(header.identity));
    }
    let seed = hash_seed().map_err(|error| SnapshotError::Io(io::Error::other(error)))?;
    let mut importer = Importer::new(seed);
    read_snapshot_ahead(reader, |part| importer.part(&part).map_err(LoadError::from))?;
    Ok((importer.finish()?, header))
}

/// The secret of an engine's index tables.
pub fn hash_seed() -> Result<HashSeed, ServerError> {
    let seed = random().and_then(|low| Ok([low, random()?]));
    let seed = seed.map_err(ServerError::system("draw random bytes"))?;
    Ok(HashSeed(seed.map(u64::from_le_bytes)))
}

/// Random bytes from the kernel.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
