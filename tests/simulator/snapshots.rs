//! Snapshots made beside the shards, and starts from them.
//!
//! As the control plane does: the last good snapshot, the complete segments behind it, and a new
//! file that covers both; then the snapshots go that are older than the two, and the segments
//! that neither needs, one by one. The server may crash between any two of these steps. A
//! snapshot that was cut or flipped must be passed over, and the one before it used.

use boxoffice::engine::{Engine, HashSeed, Importer, Replay};
use boxoffice::wal::snapshot::{SnapshotHeader, SnapshotReader, SnapshotWriter};
use boxoffice::wal::{LogStart, Position, SEGMENT_HEADER_BYTES, SegmentIndex, recover_from};

use crate::disk::Stored;
use crate::faults::Fault;
use crate::world::{Event, World};

/// A snapshot that is being made.
pub struct Build {
    /// What is left of it; none where it has its name.
    unnamed: Option<(SnapshotHeader, Vec<u8>)>,
    /// What it was made from.
    base: Option<SnapshotHeader>,
}

impl World {
    /// Begins a snapshot of a shard's complete segments, where there are any behind the last one
    /// and the disk is as it was written.
    pub fn take_snapshot(&mut self, shard: usize) {
        let current = self.ahead[shard].current;
        let disk = &self.disks[shard];
        let covered = disk
            .snapshots()
            .last()
            .map_or(disk.first_segment(), |stored| stored.header.position.segment);
        let is_due = current > covered.0 && disk.damage().is_none();
        if !is_due || self.builds[shard].is_some() {
            return;
        }
        let sealed = SegmentIndex(current - 1);
        let (engine, start) = self.load_snapshot(shard);
        let base = start.and_then(|start| {
            let stored = self.disks[shard].snapshots().iter().map(|stored| stored.header);
            stored.rev().find(|header| header.log_start() == start)
        });
        self.disks[shard].begin_snapshot(sealed.next());
        let unnamed = Some(self.make_snapshot(shard, sealed, engine, start));
        self.builds[shard] = Some(Build { unnamed, base });
        self.build_on(shard);
    }

    fn build_on(&mut self, shard: usize) {
        let took = self.random.micros(100, 20_000);
        self.schedule(took, Event::Build(shard));
    }

    /// The next step with a snapshot that is being made.
    pub fn build(&mut self, shard: usize) {
        let build = self.builds[shard].as_mut().expect("a step of a snapshot");
        let disk = &mut self.disks[shard];
        if let Some((header, bytes)) = build.unnamed.take() {
            disk.name_snapshot(header, bytes);
            self.judge.tally.snapshots += 1;
            return self.build_on(shard);
        }
        let Some(base) = build.base else {
            self.builds[shard] = None;
            return;
        };
        if disk.drop_snapshot(base.last_lsn) || disk.retire_before(base.position.segment) {
            self.build_on(shard);
        } else {
            self.builds[shard] = None;
        }
    }

    /// The state at the end of a complete segment, as a snapshot that was read back.
    fn make_snapshot(
        &mut self,
        shard: usize,
        sealed: SegmentIndex,
        engine: Engine,
        start: Option<LogStart>,
    ) -> (SnapshotHeader, Vec<u8>) {
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
        (header, bytes)
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
            self.judge.tally.faults.count(Fault::SpoiledSnapshot);
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
