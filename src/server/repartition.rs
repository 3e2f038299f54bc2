//! Another number of shards: the whole state is divided anew by sale.
//!
//! The state of every old shard is read as a start reads it. Each new shard gets a log of its own,
//! which begins behind a snapshot of the sales that are its from now on:
//!
//! ```text
//! DIR/shards.new/shard-000/00000000000000000045.snap     the greatest LSN of the old logs
//! DIR/shards.new/shard-000/00000000000000000002.wal      empty, and not the first segment: a log
//!                                                        without its snapshot must not look whole
//! ```
//!
//! All of it is synced, read back and compared before the manifest is replaced, in one rename: that
//! is the moment. Before it nothing has changed, and what was begun is thrown away by the next
//! start; behind it the old shards are moved out of the way and the new ones into their place, and
//! a start that finds that unfinished finishes it. The old logs, in a directory that is a data
//! directory itself, are kept or not as the settings say.
//!
//! The states of all old shards are in memory at once, as they were while they served.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use super::config::Retention;
use super::datadir::{DataDir, NewShards};
use super::division::{Division, FIRST_SEGMENT};
use super::error::ServerError;
use super::restore::{Restored, restore};
use crate::model::ShardIndex;
use crate::runtime::file::{create_private_dir, drop_cached};
use crate::wal::snapshot::{
    SnapshotHeader, SnapshotReader, SnapshotWriter, snapshot_path, snapshot_preparation,
};
use crate::wal::{Identity, LogId, Segment, prepare_segment};

/// Divides the state anew among `shards`.
pub fn repartition(
    data_dir: &mut DataDir,
    shards: NonZeroU16,
    segment_bytes: u64,
    retention: &Retention,
) -> Result<(), ServerError> {
    let old = data_dir.shards();
    tracing::info!(
        from = old.get(),
        to = shards.get(),
        "the number of shards changes: the state is divided anew"
    );
    let state = read(data_dir)?;
    let new = data_dir.begin_new_shards(shards)?;
    if let Err(error) = write(&state, &new, shards, segment_bytes) {
        // The space that it takes may be what is missing.
        data_dir.abandon_new_shards();
        return Err(error);
    }
    drop(state);
    data_dir.switch_to(&new)?;
    tracing::info!(shards = shards.get(), "the state is divided anew");
    retire_replaced(data_dir, retention)
}

/// Does with shards that were replaced, now or before a crash, as the settings say. Where that
/// fails they stay where they are, and the next start tries it again.
pub fn retire_replaced(data_dir: &mut DataDir, retention: &Retention) -> Result<(), ServerError> {
    match data_dir.replaced() {
        Some(replaced) if retire(&replaced, retention) => Ok(data_dir.settle_replaced()?),
        _ => Ok(()),
    }
}

/// What all old shards know.
fn read(data_dir: &DataDir) -> Result<Division, ServerError> {
    let shards = data_dir.shards();
    let mut state = Division::default();
    for shard in (0..shards.get()).map(ShardIndex) {
        let identity = Identity { log: LogId(data_dir.log_id(shard)), shard, shards };
        let Restored { engine, recovered, .. } =
            restore(&data_dir.shard_directory(shard), identity)?;
        state.add(engine, &recovered);
    }
    Ok(state)
}

/// Makes the new shards: empty logs behind verified snapshots.
fn write(
    state: &Division,
    new: &NewShards,
    shards: NonZeroU16,
    segment_bytes: u64,
) -> Result<(), ServerError> {
    let (mut paths, mut writers) = (Vec::new(), Vec::new());
    for (shard, directory) in (0..).map(ShardIndex).zip(&new.directories) {
        let identity = Identity { log: LogId(new.log_ids[usize::from(shard.0)]), shard, shards };
        let segment = Segment { index: FIRST_SEGMENT, bytes: segment_bytes };
        prepare_segment(directory, identity, segment)?;
        let header = state.header(identity);
        let path = snapshot_preparation(directory, header.last_lsn);
        let writer = File::create(&path)
            .and_then(|file| SnapshotWriter::new(BufWriter::new(file), &header))
            .map_err(failed("write a snapshot of a new shard"))?;
        paths.push((header, path));
        writers.push(writer);
    }
    state.write(&mut writers).map_err(failed("write a snapshot of a new shard"))?;
    for ((header, path), writer) in paths.into_iter().zip(writers) {
        finish(&path, writer).map_err(failed("write a snapshot of a new shard"))?;
        verify(state, &header, &path)?;
        let directory = path.parent().expect("a snapshot lies in a directory");
        let named = fs::rename(&path, snapshot_path(directory, header.last_lsn));
        named
            .and_then(|()| File::open(directory)?.sync_all())
            .map_err(failed("name a snapshot of a new shard"))?;
    }
    Ok(())
}

fn finish(path: &Path, writer: SnapshotWriter<BufWriter<File>>) -> io::Result<()> {
    let (file, totals) = writer.finish()?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    tracing::info!(file = %path.display(), sales = totals.sales, orders = totals.orders, "written");
    Ok(())
}

/// Whether a new shard's snapshot reads back as what it is to be.
fn verify(state: &Division, header: &SnapshotHeader, path: &Path) -> Result<(), ServerError> {
    let file = File::open(path).map_err(failed("read a snapshot of a new shard"))?;
    drop_cached(&file);
    let compared = SnapshotReader::new(BufReader::new(file))
        .and_then(|snapshot| state.verify(header, snapshot));
    compared.map_err(|error| {
        let what = format!("{}: it reads back wrong: {error}", path.display());
        failed("write a snapshot of a new shard")(io::Error::other(what))
    })
}

/// Whether it is done.
fn retire(replaced: &Path, retention: &Retention) -> bool {
    let done = match retention {
        Retention::Keep => Ok(replaced.to_owned()),
        Retention::Delete => fs::remove_dir_all(replaced).map(|()| PathBuf::new()),
        Retention::Archive(archive) => {
            let name = replaced.file_name().expect("the old shards' directory has a name");
            let target = archive.join(name);
            create_private_dir(archive)
                .and_then(|()| fs::rename(replaced, &target))
                .and_then(|()| File::open(archive)?.sync_all())
                .map(|()| target)
        }
    };
    match done {
        Ok(path) if path.as_os_str().is_empty() => {
            tracing::info!("the logs of the old shards were deleted");
        }
        Ok(path) => tracing::info!(
            directory = %path.display(),
            "the logs of the old shards are here; the server does not need them any more"
        ),
        // A crash came right behind, or somebody was faster.
        Err(_) if !replaced.exists() => {}
        Err(error) => {
            tracing::warn!(
                directory = %replaced.display(),
                %error,
                "the logs of the old shards stay here; the server does not need them any more: \
                 move or remove that directory, or the next start tries it again"
            );
            return false;
        }
    }
    true
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> ServerError {
    ServerError::system(action)
}
