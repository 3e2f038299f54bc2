//! The whole state divided anew: which sale goes to which shard, and what a new shard begins with.
//!
//! A new shard's log begins behind a snapshot of the sales that are its from now on. Its next LSN
//! is greater than any of the old logs, and its time is not before any of theirs, so that nothing
//! that was answered comes again later. Here is no I/O: the caller says where bytes go and where
//! they are read back from, which is files in the server.

use std::io::{self, Read, Write};
use std::num::NonZeroU16;

use crate::canary::{Canary, planted};
use crate::engine::Engine;
use crate::model::snapshot::Part;
use crate::model::{Lsn, ShardIndex, TimeMs};
use crate::wal::snapshot::{SnapshotError, SnapshotHeader, SnapshotReader, SnapshotWriter};
use crate::wal::{Identity, Position, Recovered, SEGMENT_HEADER_BYTES, SegmentIndex};

/// The first segment of a log that begins behind a snapshot. It is not the first of all: a log
/// without its snapshot must not look whole.
pub const FIRST_SEGMENT: SegmentIndex = SegmentIndex::FIRST.next();

/// What all old shards know.
#[derive(Default)]
pub struct Division {
    engines: Vec<Engine>,
    last_lsn: Lsn,
    last_time: TimeMs,
}

impl Division {
    /// Takes the state of an old shard, and where its log ends.
    pub fn add(&mut self, engine: Engine, recovered: &Recovered) {
        self.engines.push(engine);
        self.last_lsn = self.last_lsn.max(Lsn(recovered.next_lsn.0 - 1));
        self.last_time = self.last_time.max(recovered.last_time);
    }

    /// The header of the snapshot behind which this new shard's log begins.
    #[must_use]
    pub fn header(&self, identity: Identity) -> SnapshotHeader {
        let is_timeless = planted(Canary::ForgetTimeOnDivision);
        SnapshotHeader {
            identity,
            last_lsn: self.last_lsn,
            position: Position { segment: FIRST_SEGMENT, offset: SEGMENT_HEADER_BYTES as u64 },
            previous_crc: 0,
            last_time: if is_timeless { TimeMs(0) } else { self.last_time },
        }
    }

    /// Writes every sale into the snapshot of its new shard.
    ///
    /// # Panics
    ///
    /// Where there is not one writer for each new shard.
    pub fn write<W: Write>(&self, writers: &mut [SnapshotWriter<W>]) -> io::Result<()> {
        let shards = u16::try_from(writers.len()).ok().and_then(NonZeroU16::new);
        let shards = shards.expect("there are shards, and not too many");
        for part in self.engines.iter().flat_map(Engine::export) {
            writers[usize::from(part.sale().shard(shards).0)].part(&part)?;
        }
        Ok(())
    }

    /// Whether a new shard's snapshot reads back as what it is to be.
    pub fn verify<R: Read>(
        &self,
        header: &SnapshotHeader,
        snapshot: SnapshotReader<R>,
    ) -> Result<(), SnapshotError> {
        let Identity { shard, shards, .. } = header.identity;
        snapshot.compare(header, self.parts_of(shard, shards)).map(|_| ())
    }

    /// The parts of the sales of one new shard.
    fn parts_of(&self, shard: ShardIndex, shards: NonZeroU16) -> impl Iterator<Item = Part> {
        let parts = self.engines.iter().flat_map(Engine::export);
        parts.filter(move |part| part.sale().shard(shards) == shard)
    }
}
