//! What can be wrong with a log. Each text says what, where, and what to do next.
//!
//! A torn tail is not here: it is what a crash leaves, and recovery mends it.

use std::io;
use std::path::{Display, Path, PathBuf};

use super::segment::{Identity, LogId, SegmentIndex};
use crate::model::Lsn;

/// Why a log cannot be opened. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Bytes that were durable are no longer what was written.
    #[error(
        "the log is damaged: {}: offset {offset}, LSN {lsn}: {what}. Nothing was changed. \
         `boxoffice wal verify {}` shows what is lost and each way out",
        file.display(), data_dir(file)
    )]
    Damage {
        /// The segment file.
        file: PathBuf,
        /// The byte in the file.
        offset: u64,
        /// The LSN of the record that should be there.
        lsn: Lsn,
        /// What is wrong.
        what: String,
    },
    /// The file is not a segment at all.
    #[error(
        "{} is not a segment of a Boxoffice log: its first bytes are something else. Nothing \
         was changed. `boxoffice wal verify {}` shows what is lost and each way out",
        file.display(), data_dir(file)
    )]
    NotASegment {
        /// The file.
        file: PathBuf,
    },
    /// A newer Boxoffice wrote it.
    #[error(
        "{} has the log format {found}, and this program reads up to {supported}. Start the \
         newer version of boxoffice that wrote it",
        file.display()
    )]
    NewerFormat {
        /// The segment file.
        file: PathBuf,
        /// The version found.
        found: u16,
        /// The newest version that can be read.
        supported: u16,
    },
    /// The segment belongs to another log.
    #[error(
        "{} belongs to the log {found}, not to {expected}: files of two data directories are \
         mixed up. Put the right file back; `boxoffice wal verify {}` shows each way out",
        file.display(), data_dir(file)
    )]
    ForeignLog {
        /// The segment file.
        file: PathBuf,
        /// The log id found.
        found: LogId,
        /// The log id of this log.
        expected: LogId,
    },
    /// The segment belongs to another shard, or to a server with another number of shards.
    #[error(
        "{} was written by shard {} of {}, not by shard {} of {}. Put the shard directories \
         back where they belong, and start with as many shards as before",
        file.display(), found.shard, found.shards, expected.shard, expected.shards
    )]
    WrongShard {
        /// The segment file.
        file: PathBuf,
        /// Whose segment it is.
        found: Identity,
        /// Whose it should be.
        expected: Identity,
    },
    /// A segment is not there.
    #[error(
        "{} is missing: the log needs segment {index}. Put the file back; `boxoffice wal verify \
         {}` shows what is lost and each way out",
        file.display(), data_dir(file)
    )]
    MissingSegment {
        /// The file that should be there.
        file: PathBuf,
        /// Its number.
        index: SegmentIndex,
    },
    /// The log's beginning is gone, and no snapshot stands for it.
    #[error(
        "{}: the log begins with segment {first}, and {}. Nothing was changed. Put the segments \
         before it back from where they were archived, or restore a backup: `boxoffice restore \
         BACKUP --to NEW_DATA_DIR`; `boxoffice wal verify {}` shows what can still be read",
        dir.display(),
        if *passed_over == 0 {
            "there is no snapshot of what came before".to_owned()
        } else {
            format!("none of its {passed_over} snapshots can be read (the warnings say why)")
        },
        dir.parent().unwrap_or(dir).display()
    )]
    NoSnapshot {
        /// The shard's directory.
        dir: PathBuf,
        /// The first segment that is there.
        first: SegmentIndex,
        /// How many snapshots were tried.
        passed_over: usize,
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

/// The data directory that a file of a shard's log lies in.
fn data_dir(file: &Path) -> Display<'_> {
    file.parent().and_then(Path::parent).unwrap_or(file).display()
}
