//! Another number of shards at a restart.
//!
//! The state that recovery read from the old disks is divided by the server's own rules; new
//! disks take the place of the old ones at one moment, as the server renames its manifest. A
//! crash before it changes nothing, and the old disks are read again.

use std::num::NonZeroU16;

use boxoffice::engine::Engine;
use boxoffice::model::ShardIndex;
use boxoffice::server::division::Division;
use boxoffice::wal::snapshot::{SnapshotReader, SnapshotWriter};
use boxoffice::wal::{Identity, LogId, Recovered};

use crate::disk::Disk;
use crate::faults::Fault;
use crate::world::World;

impl World {
    /// Divides what was recovered among so many shards, or crashes on the way. Either way the
    /// disks are to be read again.
    pub fn repartition(&mut self, shards: NonZeroU16, old: Vec<(Engine, Recovered)>) {
        let mut division = Division::default();
        for (engine, recovered) in old {
            division.add(engine, &recovered);
        }
        let identities = (0..shards.get()).map(ShardIndex).map(|shard| {
            let log = LogId(self.random.next());
            Identity { log, shard, shards }
        });
        let headers: Vec<_> = identities.map(|identity| division.header(identity)).collect();
        let writer = |header| SnapshotWriter::new(Vec::new(), header);
        let mut writers: Vec<_> =
            headers.iter().map(|header| writer(header).expect("memory can be written")).collect();
        division.write(&mut writers).expect("memory can be written");
        let mut disks = Vec::new();
        for (header, writer) in headers.into_iter().zip(writers) {
            let bytes = writer.finish().expect("memory can be written").0;
            SnapshotReader::new(&bytes[..])
                .and_then(|snapshot| division.verify(&header, snapshot))
                .unwrap_or_else(|error| panic!("READS BACK WRONG: {error}"));
            self.note(u64::from(crc32fast::hash(&bytes)));
            disks.push(Disk::behind(header, bytes, self.plan.segment_bytes));
        }
        if self.random.chance(300) {
            self.judge.tally.faults.count(Fault::CutDivision);
            return;
        }
        let shard = self.random.index(self.disks.len());
        self.replaced = Some(self.disks[shard].some_segment(&mut self.random));
        self.disks = disks;
        self.forget_shards();
        self.judge.divided(shards);
        self.judge.tally.faults.count(Fault::OtherShards);
    }
}
