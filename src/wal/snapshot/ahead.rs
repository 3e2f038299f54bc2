//! Reading a snapshot on a thread of its own, so that disk, checks and their use overlap.

use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::reader::SnapshotReader;
use super::{SnapshotError, SnapshotTotals};
use crate::model::snapshot::Part;

/// Parts that wait at most; each is about a megabyte.
const PARTS_AHEAD: usize = 8;

/// Hands every part of a snapshot to `consume`, in order, while the next ones are read.
///
/// Whatever `consume` made of the parts is to be thrown away where this fails: what is wrong may
/// show at the very end only. An error of `consume` ends the reading.
pub fn read_snapshot_ahead<R: Read + Send, E: From<SnapshotError>>(
    reader: SnapshotReader<R>,
    mut consume: impl FnMut(Part) -> Result<(), E>,
) -> Result<SnapshotTotals, E> {
    let (full, parts) = sync_channel(PARTS_AHEAD);
    std::thread::scope(|scope| {
        // The receiver is dropped with this closure, which lets the thread end early.
        let parts: Receiver<Result<Part, SnapshotError>> = parts;
        let reading = scope.spawn(move || read_all(reader, &full));
        for part in &parts {
            consume(part?)?;
        }
        drop(parts);
        let totals = reading.join().expect("a reader's panic ends the process");
        Ok(totals.expect("the last part was read"))
    })
}

fn read_all<R: Read>(
    mut reader: SnapshotReader<R>,
    full: &SyncSender<Result<Part, SnapshotError>>,
) -> Option<SnapshotTotals> {
    loop {
        let part = match reader.next_part() {
            Ok(Some(part)) => Ok(part),
            Ok(None) => return reader.totals().copied(),
            Err(error) => Err(error),
        };
        let is_last = part.is_err();
        // A closed channel means that the consumer has seen enough.
        if full.send(part).is_err() || is_last {
            return None;
        }
    }
}
