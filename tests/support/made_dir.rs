//! A data directory that was written record by record, in small segments, so that a test knows
//! where each record lies: what a server would have left.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::fs::{self, OpenOptions};
use std::num::NonZeroU16;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use boxoffice::engine::{Engine, HashSeed};
use boxoffice::model::record::{
    Bought, Confirmed, Held, ItemDefined, Origin, RecordLines, SaleDefined, SaleStateSet,
};
use boxoffice::model::snapshot::Part;
use boxoffice::model::{
    AccountId, BodyDigest, DurationMs, ItemId, ItemTerms, Line, Lsn, OrderNumber, PaymentRef,
    Price, Quantity, Record, RequestId, SaleId, SaleState, SaleTerms, ShardIndex, TimeMs,
};
use boxoffice::wal::snapshot::{SnapshotHeader, SnapshotWriter, snapshot_path};
use boxoffice::wal::{
    BLOCK_BYTES, Batch, FRAME_BYTES_MAX, FileStorage, Identity, LogId, LogWriter, Position,
    Segment, SegmentIndex, prepare_segment, recover, segment_path, shard_dir,
};

/// Frames of a segment: its header and seven frames of a block each.
pub const FRAMES_OF_SEGMENT: u64 = 7;

/// Records of a frame.
pub const RECORDS_OF_FRAME: u64 = 3;

/// When the first frame was written; each one is a second later.
pub const TIME: u64 = 1_790_000_000_000;

const SEGMENT_BYTES: u64 = (FRAMES_OF_SEGMENT + 1) * BLOCK_BYTES as u64;

/// A data directory.
pub struct Made {
    home: tempfile::TempDir,
    shards: u16,
    frames: u64,
}

impl Made {
    /// Each shard has one sale. Its first frame defines and opens it; each later one holds two
    /// units, buys one, and confirms the hold, for an account of its own.
    pub fn new(shards: u16, frames: u64) -> Self {
        let home = tempfile::Builder::new()
            .prefix("boxoffice-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("a temporary directory can be made");
        let made = Self { home, shards, frames };
        fs::create_dir(made.path()).expect("a directory");
        let ids: Vec<String> = (0..shards).map(|shard| format!("{:016x}", log_id(shard))).collect();
        let manifest = serde_json::json!({ "format": 1, "state": "ready", "logs": ids });
        fs::write(made.path().join("MANIFEST"), manifest.to_string()).expect("a manifest");
        for shard in 0..shards {
            made.write_shard(shard);
        }
        made
    }

    pub fn path(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// A path beside the data directory.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn segment(&self, shard: u16, segment: u64) -> PathBuf {
        segment_path(&self.shard_dir(shard), SegmentIndex(segment))
    }

    pub fn shard_dir(&self, shard: u16) -> PathBuf {
        shard_dir(&self.path(), ShardIndex(shard))
    }

    /// The segment and the offset of a frame, the first one being 0.
    pub fn place(frame: u64) -> (u64, u64) {
        let (segment, row) = (frame / FRAMES_OF_SEGMENT, frame % FRAMES_OF_SEGMENT);
        (segment + 1, (row + 1) * BLOCK_BYTES as u64)
    }

    /// Flips a bit inside a frame's records.
    pub fn flip(&self, shard: u16, frame: u64) {
        let (segment, offset) = Self::place(frame);
        flip_at(&self.segment(shard, segment), offset + 80);
    }

    /// The sale of a shard.
    pub fn sale(&self, shard: u16) -> SaleId {
        let shards = NonZeroU16::new(self.shards).expect("there are shards");
        let mut sales = (7..1000).map(SaleId);
        sales.find(|sale| sale.shard(shards).0 == shard).expect("each shard has sales")
    }

    pub fn records(&self) -> u64 {
        self.frames * RECORDS_OF_FRAME
    }

    /// Writes a snapshot of the first frames of a shard, as `change` leaves its parts, and returns
    /// its file.
    pub fn snapshot(&self, shard: u16, frames: u64, change: impl FnMut(&mut Part)) -> PathBuf {
        self.snapshot_with(shard, frames, |parts| parts.iter_mut().for_each(change))
    }

    /// As [`Self::snapshot`], with all parts at once.
    pub fn snapshot_with(
        &self,
        shard: u16,
        frames: u64,
        change: impl FnOnce(&mut Vec<Part>),
    ) -> PathBuf {
        let last_lsn = Lsn(frames * RECORDS_OF_FRAME);
        let storage = FileStorage::open(&self.shard_dir(shard)).expect("a log");
        let mut engine = Engine::new(HashSeed([1, 2]));
        let recovered = recover(&storage, None, |entry| {
            if entry.lsn <= last_lsn {
                engine.apply(entry.record);
                engine.reclaim();
            }
        });
        let (last_segment, last_offset) = Self::place(frames - 1);
        let mut crc = [0; 4];
        fs::File::open(self.segment(shard, last_segment))
            .and_then(|file| file.read_exact_at(&mut crc, last_offset + 52))
            .expect("a frame has a CRC");
        let (segment, offset) = Self::place(frames);
        let header = SnapshotHeader {
            identity: recovered.expect("the log is whole").identity,
            last_lsn,
            position: Position { segment: SegmentIndex(segment), offset },
            previous_crc: u32::from_le_bytes(crc),
            last_time: TimeMs(TIME + 1000 * (frames - 1)),
        };
        let path = snapshot_path(&self.shard_dir(shard), last_lsn);
        let file = fs::File::create(&path).expect("a file");
        let mut writer = SnapshotWriter::new(file, &header).expect("a header");
        let mut parts: Vec<Part> = engine.export().collect();
        change(&mut parts);
        for part in &parts {
            writer.part(part).expect("a part");
        }
        writer.finish().expect("a trailer");
        path
    }

    fn write_shard(&self, shard: u16) {
        let dir = self.shard_dir(shard);
        fs::create_dir(&dir).expect("a directory for the shard");
        let identity = Identity {
            log: LogId(log_id(shard)),
            shard: ShardIndex(shard),
            shards: NonZeroU16::new(self.shards).expect("some shards"),
        };
        let segments = self.frames.div_ceil(FRAMES_OF_SEGMENT).max(1);
        for index in (1..=segments).map(SegmentIndex) {
            let segment = Segment { index, bytes: SEGMENT_BYTES };
            prepare_segment(&dir, identity, segment).expect("a segment");
        }
        let storage = FileStorage::open(&dir).expect("a log");
        let recovered = recover(&storage, Some(identity), |_| ()).expect("an empty log");
        let mut writer = LogWriter::new(&recovered);
        let mut batch = Batch::new(vec![0; FRAME_BYTES_MAX]);
        for frame in 0..self.frames {
            for record in frame_records(self.sale(shard), frame) {
                let time = TimeMs(TIME + 1000 * frame);
                writer.append(&mut batch, time, &record).expect("room in the batch");
            }
            let sealed = writer.seal(&mut batch).expect("room in the log");
            let (segment, offset) = Self::place(frame);
            let place = (sealed.position.segment.0, sealed.position.offset);
            assert_eq!(place, (segment, offset), "a frame lies where a test looks for it");
            poke(&self.segment(shard, segment), offset, &batch.buffer()[..sealed.bytes]);
            writer.complete();
            batch.clear();
        }
    }
}

/// The account that a frame's orders belong to.
pub fn account(frame: u64) -> AccountId {
    AccountId(u128::from(1000 + frame))
}

fn log_id(shard: u16) -> u64 {
    0xb0c5_0000 + u64::from(shard)
}

/// Changes bytes of a file.
pub fn poke(path: &Path, offset: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).expect("the file opens");
    file.write_all_at(bytes, offset).expect("the file is written");
}

/// Flips a bit of a file.
pub fn flip_at(path: &Path, offset: u64) {
    let file = fs::File::open(path).expect("the file opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("the file has this byte");
    poke(path, offset, &[byte[0] ^ 1]);
}

fn frame_records(sale: SaleId, frame: u64) -> [Record; RECORDS_OF_FRAME as usize] {
    let item = ItemId(1);
    if frame == 0 {
        let terms = SaleTerms {
            opens_at: None,
            closes_at: None,
            hold_ttl: DurationMs(600_000),
            account_limit: Some(Quantity(8)),
        };
        let capacity = Quantity(10_000);
        let item_terms = ItemTerms { capacity, price: Price(100), account_limit: None };
        return [
            Record::SaleDefined(SaleDefined { sale, terms }),
            Record::ItemDefined(ItemDefined { sale, item, terms: item_terms }),
            Record::SaleStateSet(SaleStateSet { sale, state: SaleState::Open }),
        ];
    }
    let origin = |request| Origin {
        sale,
        account: account(frame),
        request: RequestId(request),
        digest: BodyDigest(0),
    };
    let lines = |quantity| RecordLines::from_iter([Line { item, quantity: Quantity(quantity) }]);
    let order = 2 * frame as u32 - 1;
    let expires_at = TimeMs(TIME + 1000 * frame + 600_000);
    let payment = || PaymentRef::new(b"pay").expect("it is short");
    [
        Record::Held(Held {
            origin: origin(1),
            order: OrderNumber(order),
            expires_at,
            lines: lines(2),
        }),
        Record::Bought(Bought {
            origin: origin(2),
            order: OrderNumber(order + 1),
            lines: lines(1),
            payment: payment(),
        }),
        Record::Confirmed(Confirmed {
            origin: origin(3),
            order: OrderNumber(order),
            lines: RecordLines::new(),
            payment: payment(),
        }),
    ]
}
