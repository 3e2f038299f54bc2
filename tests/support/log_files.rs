//! A data directory with the logs of shards, made of hand-written records.

use std::fs::{self, OpenOptions};
use std::num::NonZeroU16;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use boxoffice::model::{Record, ShardIndex, TimeMs};
use boxoffice::wal::{
    Batch, FRAME_BYTES_MAX, FileStorage, Identity, LogId, LogWriter, Segment, SegmentIndex,
    prepare_segment, recover, segment_path, shard_dir,
};

/// The segment of each shard's log: room for any test.
const SEGMENT_BYTES: u64 = 1 << 20;

/// A temporary data directory.
pub struct DataDir(tempfile::TempDir);

impl DataDir {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The file of the only segment of a shard.
    pub fn segment(&self, shard: u16) -> PathBuf {
        segment_path(&shard_dir(self.path(), ShardIndex(shard)), SegmentIndex::FIRST)
    }

    /// Writes the log of one shard, a frame for each row. Returns where the log ends.
    pub fn write_shard(&self, shard: u16, shards: u16, rows: &[(u64, Record)]) -> u64 {
        let dir = shard_dir(self.path(), ShardIndex(shard));
        fs::create_dir(&dir).expect("a directory for the shard");
        let identity = Identity {
            log: LogId(u64::from(shard) + 1),
            shard: ShardIndex(shard),
            shards: NonZeroU16::new(shards).expect("some shards"),
        };
        let segment = Segment { index: SegmentIndex::FIRST, bytes: SEGMENT_BYTES };
        prepare_segment(&dir, identity, segment).expect("a segment");
        let storage = FileStorage::open(&dir).expect("a log");
        let mut writer = LogWriter::new(&recover(&storage, None, |_| ()).expect("an empty log"));
        let mut batch = Batch::new(vec![0; FRAME_BYTES_MAX]);
        let mut end = 0;
        for (time, record) in rows {
            writer.append(&mut batch, TimeMs(*time), record).expect("room in the batch");
            let sealed = writer.seal(&mut batch).expect("room in the segment");
            self.poke(shard, sealed.position.offset, &batch.buffer()[..sealed.bytes]);
            end = sealed.position.offset + sealed.bytes as u64;
            writer.complete();
            batch.clear();
        }
        end
    }

    /// Changes bytes of a shard's segment.
    pub fn poke(&self, shard: u16, offset: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(self.segment(shard)).expect("the segment");
        file.write_all_at(bytes, offset).expect("the segment is written");
    }
}
