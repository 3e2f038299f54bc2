//! The logs of a directory: those that its manifest names, or, where there is none (a backup, or
//! what is left of a data directory), those that lie there.

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use super::super::Failed;
use super::super::backup::is_backup;
use super::super::exit::ExitCode;
use super::failed;
use crate::model::ShardIndex;
use crate::server::datadir::{DataDirError, inspect, is_in_use, logs};
use crate::wal::{
    FileStorage, Identity, LogId, LogStorage, SegmentHeader, WalError, segment_header, shard_dirs,
};

/// The logs of a directory.
#[derive(Debug)]
pub(in crate::cli) struct Logs {
    /// Whether a process has the directory, which may be writing.
    pub(in crate::cli) is_in_use: bool,
    /// Why no server starts on the directory, whatever its logs are like.
    pub(in crate::cli) manifest_fault: Option<DataDirError>,
    /// In the order of the shards.
    pub(in crate::cli) shards: Vec<ShardLog>,
}

/// The log of one shard.
#[derive(Debug)]
pub(in crate::cli) struct ShardLog {
    /// Which shard.
    pub(in crate::cli) shard: ShardIndex,
    /// Where its log should be.
    pub(in crate::cli) dir: PathBuf,
    /// Whose log it should be, where the manifest says.
    pub(in crate::cli) identity: Option<Identity>,
}

impl Logs {
    /// Finds the logs of `dir`, or that of one shard alone. Changes nothing and takes no lock.
    pub(in crate::cli) fn find(dir: &Path, only: Option<u16>) -> Result<Self, Failed> {
        let is_in_use = is_in_use(dir);
        let mut shards = match logs(dir) {
            Ok(Some(logs)) => named(dir, logs)?,
            // A manifest that is not there, or not readable, is no reason to show nothing.
            Ok(None) | Err(DataDirError::BadManifest { .. }) => lying(dir)?,
            Err(error) => return Err(refused(&error)),
        };
        if let Some(only) = only {
            shards.retain(|log| log.shard.0 == only);
            if shards.is_empty() {
                let dir = dir.display();
                let message =
                    format!("{dir} has no shard {only}; see `boxoffice wal verify {dir}`");
                return Err(Failed::new(ExitCode::Configuration, message));
            }
        }
        let manifest_fault = if is_backup(dir) { None } else { inspect(dir).err() };
        Ok(Self { is_in_use, manifest_fault, shards })
    }
}

impl ShardLog {
    /// Whether another log is in its place by now: the server was started with another number of
    /// shards.
    pub(in crate::cli) fn is_replaced(&self, dir: &Path) -> bool {
        let Some(identity) = self.identity else { return false };
        let logs = logs(dir).ok().flatten();
        logs.is_some_and(|logs| {
            logs.get(usize::from(self.shard.0)).is_none_or(|(id, _)| *id != identity.log.0)
        })
    }

    /// Whose log it is, as the first segment says that can be read.
    pub(in crate::cli) fn take_identity_of_any_segment(&mut self) {
        let Ok(storage) = FileStorage::open_read_only(&self.dir) else { return };
        let segments = storage.segments().unwrap_or_default().into_iter();
        let mut headers =
            segments.filter_map(|segment| segment_header(&storage, segment.index).ok());
        self.identity = self.identity.or_else(|| headers.next().map(|header| header.identity));
    }

    /// Whose log it is, as its first segment says.
    pub(in crate::cli) fn own_identity(&self) -> Result<Option<Identity>, WalError> {
        let storage = FileStorage::open_read_only(&self.dir)?;
        let segments = storage.segments().map_err(|source| {
            let path = self.dir.clone();
            WalError::Io { path, doing: "list the segments of the log", source }
        })?;
        let header = segments.first().map(|first| segment_header(&storage, first.index));
        header.transpose().map(|header| header.map(|SegmentHeader { identity, .. }| identity))
    }
}

/// A data directory that cannot be used, as a program ends with it.
pub(in crate::cli) fn refused(error: &DataDirError) -> Failed {
    let code = match error {
        DataDirError::InUse { .. } => ExitCode::DirectoryInUse,
        DataDirError::NewerFormat { .. } | DataDirError::NotOurs { .. } => ExitCode::ForeignData,
        DataDirError::BadManifest { .. } | DataDirError::MissingShard { .. } => {
            ExitCode::DamagedLog
        }
        DataDirError::Io { path, source, .. } => return super::system(path, source, error),
        DataDirError::Absent { .. }
        | DataDirError::NotADirectory { .. }
        | DataDirError::Unmade { .. } => ExitCode::Configuration,
    };
    Failed::new(code, error)
}

fn named(dir: &Path, logs: Vec<(u64, PathBuf)>) -> Result<Vec<ShardLog>, Failed> {
    let shards = u16::try_from(logs.len()).ok().and_then(NonZeroU16::new);
    let shards = shards.ok_or_else(|| {
        let message = format!("{}: the MANIFEST names {} logs", dir.display(), logs.len());
        Failed::new(ExitCode::DamagedLog, message)
    })?;
    let logs = (0..).zip(logs).map(|(index, (id, dir))| {
        let shard = ShardIndex(index);
        ShardLog { shard, dir, identity: Some(Identity { log: LogId(id), shard, shards }) }
    });
    Ok(logs.collect())
}

fn lying(dir: &Path) -> Result<Vec<ShardLog>, Failed> {
    let dirs = shard_dirs(dir).map_err(|error| failed(&error))?;
    if dirs.is_empty() {
        let message = format!(
            "{} has no log: there is neither a MANIFEST nor a directory shard-000 in it; name a \
             data directory or a backup",
            dir.display()
        );
        return Err(Failed::new(ExitCode::Configuration, message));
    }
    let log = |(shard, dir)| ShardLog { shard, dir, identity: None };
    Ok(dirs.into_iter().map(log).collect())
}
