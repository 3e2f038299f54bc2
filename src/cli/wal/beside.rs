//! Reading a log beside the server that retires parts of it meanwhile.
//!
//! A segment or snapshot that goes away while it is read looks like damage, or like a file that was
//! never there. So a reading that went wrong counts only where the log still begins as it did
//! before; any other one is begun anew, and hands out no record a second time.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::super::Failed;
use super::super::exit::ExitCode;
use super::facts::{Examined, Reach, Verdict, examine};
use super::logs::ShardLog;
use crate::model::Lsn;
use crate::wal::snapshot::snapshots;
use crate::wal::{Entry, FileStorage, LogStorage, SegmentIndex};

/// How often a log is read, at most. Between two that fail the server makes a whole snapshot.
pub(in crate::cli) const ATTEMPTS: u32 = 5;

/// How long the server is given, after a reading that failed, to retire all that it is about to.
pub(in crate::cli) const REST: Duration = Duration::from_millis(200);

/// A log that was read as far as it goes.
pub(super) struct Read {
    pub(super) examined: Examined,
    /// The records that were retired before they could be handed out, from the first to the last.
    pub(super) missed: Option<(Lsn, Lsn)>,
}

/// Reads all of a log, and hands out each record once, with whether it is behind damage.
pub(super) fn read(
    data_dir: &Path,
    log: &ShardLog,
    is_in_use: bool,
    mut on_record: impl FnMut(&Entry<'_>, bool),
) -> Result<Read, Failed> {
    let mut last = Lsn(0);
    let mut missed = None;
    let mut is_past_damage = false;
    for attempt in 0..ATTEMPTS {
        thread::sleep(REST * attempt);
        let before = beginning(log);
        let examined = examine(data_dir, log, is_in_use, Reach::All, |entry, is_beyond| {
            is_past_damage |= is_beyond;
            if !is_beyond && entry.lsn <= last {
                return;
            }
            if !is_beyond {
                if last > Lsn(0) && entry.lsn > last.next() {
                    missed = Some((last.next(), Lsn(entry.lsn.0 - 1)));
                }
                last = entry.lsn;
            }
            on_record(entry, is_beyond);
        });
        if log.is_replaced(data_dir) {
            return Err(replaced(data_dir));
        }
        let is_sound = matches!(&examined, Ok(read) if read.facts.verdict != Verdict::Damaged);
        if is_sound || is_past_damage || beginning(log) == before {
            return examined.map(|examined| Read { examined, missed });
        }
    }
    Err(Failed::new(
        ExitCode::CannotRead,
        format_args!(
            "{}: the server retired log segments while they were read, {ATTEMPTS} times in a row; \
             run this again, or on a backup (`boxoffice backup`)",
            log.dir.display()
        ),
    ))
}

/// The shards of a directory are others by now.
pub(in crate::cli) fn replaced(data_dir: &Path) -> Failed {
    let message = format!(
        "{}: the server was started with another number of shards while its logs were read; run \
         this again",
        data_dir.display()
    );
    Failed::new(ExitCode::CannotRead, message)
}

/// Where the log begins, and its snapshots: what changes where a part of it is retired.
pub(in crate::cli) fn beginning(log: &ShardLog) -> (Option<SegmentIndex>, Vec<Lsn>) {
    let storage = FileStorage::open_read_only(&log.dir).ok();
    let segments = storage.and_then(|storage| storage.segments().ok());
    let first = segments.and_then(|segments| segments.first().map(|first| first.index));
    let snapshots = snapshots(&log.dir).unwrap_or_default();
    (first, snapshots.iter().map(|file| file.lsn).collect())
}
