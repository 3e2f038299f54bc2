//! Snapshots made beside the shards, and starts from them.
//!
//! As the control plane does: the last good snapshot, the complete segments behind it, and a new
//! file that covers both; then the segments go that no kept snapshot needs. A snapshot that was
//! cut or flipped must be passed over, and the one before it used.

use boxoffice::engine::{Engine, HashSeed, Importer, Replay};
use boxoffice::wal::snapshot::{SnapshotHeader, SnapshotReader, SnapshotWriter};
use boxoffice::wal::{LogStart, Position, SEGMENT_HEADER_BYTES, SegmentIndex, recover_from};

use crate::disk::Stored;
use crate::world::World;

impl World {
    /// Makes a snapshot of a shard's complete segments, where there are any behind the last one
    /// and the disk is as it was written.
    pub fn take_snapshot(&mut self, shard: usize) {
        let current = self.ahead[shard].current;
        let newest = self.disks[shard].snapshots().last();
        let covered = newest.map_or(1, |stored| stored.header.position.segment.0);
        if current <= covered || self.disks[shard].damage().is_some() {
            return;
        }
        let sealed = SegmentIndex(current - 1);
        let (engine, start) = self.load_snapshot(shard);
        let disk = &mut self.disks[shard];
        let identity = disk.identity();
        let mut replay = Replay::new(engine);
        let open = disk.open(None).up_to(sealed);
        let recovered =
            recover_from(&open, Some(identity), start, |entry| replay.push(entry.record))
                .unwrap_or_else(|error| panic!("REFUSED complete segments: {error}"));
        let is_complete = recovered.torn.is_none() && recovered.end.segment == sealed;
        assert!(is_complete, "LOST: segment {sealed} of shard {shard} is not complete");
        let engine = replay.finish();
        let header = SnapshotHeader::before(&LogStart {
            identity,
            position: Position { segment: sealed.next(), offset: SEGMENT_HEADER_BYTES as u64 },
            next_lsn: recovered.next_lsn,
            previous_crc: recovered.previous_crc,
            last_time: recovered.last_time,
        });
        let bytes = encode(&header, &engine);
        SnapshotReader::new(&bytes[..])
            .and_then(|reader| reader.compare(&header, engine.export()))
            .unwrap_or_else(|error| panic!("READS BACK WRONG: {error}"));
        self.note(u64::from(crc32fast::hash(&bytes)));
        self.disks[shard].keep(header, bytes);
        self.judge.tally.snapshots += 1;
    }

    /// The newest snapshot that is whole, and where the log goes on; an empty engine and the
    /// log's beginning where there is none.
    pub fn load_snapshot(&mut self, shard: usize) -> (Engine, Option<LogStart>) {
        let seed = [self.random.next(), self.random.next()];
        for stored in self.disks[shard].snapshots().iter().rev() {
            if let Some(engine) = import(stored, HashSeed(seed)) {
                assert!(!stored.is_damaged, "ACCEPTED a damaged snapshot");
                return (engine, Some(stored.header.log_start()));
            }
            assert!(stored.is_damaged, "REFUSED a snapshot that is as written");
            self.judge.tally.snapshots_passed_over += 1;
        }
        (Engine::new(HashSeed(seed)), None)
    }
}

fn encode(header: &SnapshotHeader, engine: &Engine) -> Vec<u8> {
    let mut writer = SnapshotWriter::new(Vec::new(), header).expect("memory can be written");
    for part in engine.export() {
        writer.part(&part).expect("memory can be written");
    }
    writer.finish().expect("memory can be written").0
}

fn import(stored: &Stored, seed: HashSeed) -> Option<Engine> {
    let mut reader = SnapshotReader::new(&stored.bytes[..]).ok()?;
    let mut importer = Importer::new(seed);
    while let Some(part) = reader.next_part().ok()? {
        importer.part(&part).ok()?;
    }
    importer.finish().ok()
}
