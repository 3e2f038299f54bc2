//! Snapshots on disk: made of sealed segments, used by a start, and what they make superfluous.

#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::fs::{self, OpenOptions};
use std::num::NonZeroU16;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use boxoffice::control::snapshots::{Build, BuildError, Built, Pace, build, retire};
use boxoffice::engine::{Decision, Engine, HashSeed};
use boxoffice::model::snapshot::Part;
use boxoffice::model::{
    AccountId, Answer, Command, DurationMs, Intent, ItemId, ItemTerms, Line, Lsn, OrderNumber,
    Outcome, PaymentRef, Price, Quantity, RequestId, SaleId, SaleTerms, ShardIndex, TimeMs, Wanted,
    WantedLine,
};
use boxoffice::server::ServerError;
use boxoffice::server::config::Retention;
use boxoffice::server::restore::{Restored, restore};
use boxoffice::wal::snapshot::{SnapshotFile, snapshot_preparation, snapshots};
use boxoffice::wal::{
    BLOCK_BYTES, Batch, FileStorage, Identity, LogId, LogStorage, LogWriter, Segment, SegmentIndex,
    WalError, prepare_segment, recover, segment_path,
};
use peer::{Peer, buy, intent};
use server::{Server, temporary_dir};

/// Fifteen frames, of one record each.
const SEGMENT_BYTES: u64 = 16 * BLOCK_BYTES as u64;

const IDENTITY: Identity =
    Identity { log: LogId(77), shard: ShardIndex(0), shards: NonZeroU16::MIN };

const SALE: SaleId = SaleId(1);

/// A shard's log on disk, with the engine that wrote it.
struct Log {
    dir: PathBuf,
    engine: Engine,
    writer: LogWriter,
    requests: u128,
    now: TimeMs,
}

impl Log {
    /// An open sale with a limit, in a new log.
    fn new(dir: &Path) -> Self {
        let segment = Segment { index: SegmentIndex::FIRST, bytes: SEGMENT_BYTES };
        prepare_segment(dir, IDENTITY, segment).expect("a segment");
        let storage = FileStorage::open(dir).expect("a log");
        let writer = LogWriter::new(&recover(&storage, None, |_| ()).expect("an empty log"));
        let engine = Engine::new(HashSeed([1, 2]));
        let now = TimeMs(1_800_000_000_000);
        let mut log = Self { dir: dir.to_owned(), engine, writer, requests: 0, now };
        let limit = Some(Quantity(1_000_000));
        let sale = SaleTerms { account_limit: limit, ..SaleTerms::default() };
        let capacity = Quantity(1_000_000);
        let item = ItemTerms { capacity, price: Price(1), account_limit: limit };
        log.execute(&Command::DefineSale { sale: SALE, terms: sale });
        log.execute(&Command::DefineItem { sale: SALE, item: ItemId(1), terms: item });
        log.execute(&Command::OpenSale { sale: SALE });
        log
    }

    fn execute(&mut self, command: &Command) {
        self.now.0 += 1;
        let decided = self.engine.decide(command, self.now);
        let Ok(Decision::Commit(record)) = decided else { panic!("{decided:?}") };
        let mut batch = Batch::new(vec![0; 4 * BLOCK_BYTES]);
        self.writer.append(&mut batch, self.now, &record).expect("room in the batch");
        self.engine.apply(&record);
        let frame = self.writer.seal(&mut batch).unwrap_or_else(|next| {
            let segment = Segment { index: next.0, bytes: SEGMENT_BYTES };
            prepare_segment(&self.dir, IDENTITY, segment).expect("a segment");
            self.writer.add_segment(segment);
            self.writer.seal(&mut batch).expect("there is a segment")
        });
        let path = segment_path(&self.dir, frame.position.segment);
        let file = OpenOptions::new().write(true).open(path).expect("the segment");
        let written = file.write_all_at(&batch.buffer()[..frame.bytes], frame.position.offset);
        written.expect("the segment is written");
        self.writer.complete();
    }

    /// Purchases and holds of many accounts, until the log is in the segment `until`.
    fn fill(&mut self, until: u64) {
        while self.writer.segment().0 < until {
            self.requests += 1;
            let account = AccountId(1 + self.requests % 9);
            let intent = Intent { sale: SALE, account, request: RequestId(self.requests) };
            let line = Line { item: ItemId(1), quantity: Quantity(1 + self.requests as u32 % 3) };
            let lines = Wanted::new([WantedLine { line, price: None }]).expect("one line");
            let command = match self.requests % 4 {
                0 => Command::Hold { intent, lines, ttl: Some(DurationMs(500_000)) },
                1 => Command::Fence { intent },
                _ => Command::Buy { intent, lines, payment: PaymentRef::default() },
            };
            self.execute(&command);
        }
    }

    fn build(&self, sealed: u64) -> Result<Built, BuildError> {
        let pace = Pace::new(1 << 40, 1 << 40);
        let (directory, sealed) = (&self.dir, SegmentIndex(sealed));
        build(&Build { directory, identity: IDENTITY, sealed, spare_bytes: 0, pace: &pace })
    }

    /// Fills the log, makes a snapshot of each segment but the last, and retires.
    fn build_all(&mut self, until: u64, retention: &Retention) {
        for sealed in 1..until {
            self.fill(sealed + 1);
            let built = self.build(sealed).expect("a snapshot");
            retire(&self.dir, IDENTITY, &built, retention, &Pace::new(1 << 40, 1 << 40))
                .expect("segments are retired");
        }
    }

    fn restore(&self) -> Result<Restored, ServerError> {
        restore(&self.dir, IDENTITY)
    }

    /// What is restored is what the engine knows, and goes on where the log ends. Returns the LSN
    /// of the snapshot, and how many records were replayed.
    fn assert_restores(&self) -> (Lsn, u64) {
        let restored = self.restore().expect("it starts");
        assert_eq!(parts(&restored.engine), parts(&self.engine));
        let (recovered, snapshot) = (&restored.recovered, &restored.snapshot);
        assert_eq!(recovered.next_lsn, self.writer.appended_lsn().next());
        assert_eq!((recovered.last_time, recovered.end.segment), (self.now, self.writer.segment()));
        let lsn = snapshot.as_ref().map_or(Lsn(0), |snapshot| snapshot.header.last_lsn);
        (lsn, recovered.records)
    }

    fn snapshots(&self) -> Vec<SnapshotFile> {
        snapshots(&self.dir).expect("the directory is listed")
    }

    fn segments(&self) -> Vec<u64> {
        segments(&self.dir)
    }
}

fn segments(dir: &Path) -> Vec<u64> {
    let storage = FileStorage::open_read_only(dir).expect("a directory");
    let segments = storage.segments().expect("the directory is listed");
    segments.iter().map(|segment| segment.index.0).collect()
}

fn parts(engine: &Engine) -> Vec<Part> {
    engine.export().collect()
}

/// Flips a bit in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("the file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("the file is written");
}

#[test]
fn a_start_reads_the_newest_snapshot_and_the_segments_behind_it() {
    let dir = temporary_dir();
    let mut log = Log::new(dir.path());
    log.fill(6);
    assert_eq!(log.assert_restores(), (Lsn(0), log.writer.appended_lsn().0));
    let first = log.build(3).expect("a snapshot");
    assert_eq!(first.snapshot.header.last_lsn, Lsn(45));
    assert!(first.base.is_none());
    let left = log.writer.appended_lsn().0 - 45;
    assert_eq!(log.assert_restores(), (Lsn(45), left));

    let second = log.build(5).expect("a snapshot");
    assert_eq!(second.records, 30, "it is made of the last one and what is behind that");
    assert_eq!(second.base.expect("the first one").header, first.snapshot.header);
    assert_eq!(log.assert_restores(), (Lsn(75), log.writer.appended_lsn().0 - 75));

    // Nothing before the snapshot is looked at.
    for segment in 1..=5 {
        fs::remove_file(segment_path(dir.path(), SegmentIndex(segment))).expect("it is there");
    }
    assert_eq!(log.assert_restores().0, Lsn(75));
    log.fill(8);
    assert_eq!(log.assert_restores().0, Lsn(75));
}

#[test]
fn a_damaged_snapshot_is_passed_over() {
    let dir = temporary_dir();
    let mut log = Log::new(dir.path());
    log.build_all(4, &Retention::Keep);
    let [newest, older] = &log.snapshots()[..] else { panic!("two snapshots are kept") };
    assert_eq!((newest.lsn, older.lsn), (Lsn(45), Lsn(30)));
    damage(&newest.path);
    assert_eq!(log.assert_restores().0, Lsn(30));

    // The next one is made from the good one, and takes the place of the damaged one.
    log.fill(6);
    let built = log.build(5).expect("a snapshot");
    assert_eq!(built.unusable, std::slice::from_ref(&newest.path));
    retire(dir.path(), IDENTITY, &built, &Retention::Keep, &Pace::new(1 << 40, 1 << 40))
        .expect("nothing is in the way");
    let left: Vec<Lsn> = log.snapshots().iter().map(|file| file.lsn).collect();
    assert_eq!(left, [Lsn(75), Lsn(30)]);

    log.snapshots().iter().for_each(|file| damage(&file.path));
    assert_eq!(log.assert_restores().0, Lsn(0), "the log is whole, and says it all");
    fs::remove_file(segment_path(dir.path(), SegmentIndex::FIRST)).expect("it is there");
    let refused = log.restore().err().expect("nothing is made up");
    let ServerError::Log(WalError::NoSnapshot { first, passed_over, .. }) = refused else {
        panic!("{refused}");
    };
    assert_eq!((first, passed_over), (SegmentIndex(2), 2));
}

#[test]
fn a_snapshot_under_the_name_of_another_is_passed_over() {
    let dir = temporary_dir();
    let mut log = Log::new(dir.path());
    log.build_all(4, &Retention::Keep);
    let [newest, older] = &log.snapshots()[..] else { panic!("two snapshots are kept") };
    fs::rename(&older.path, &newest.path).expect("it is renamed");
    assert_eq!(log.assert_restores().0, Lsn(0));
}

#[test]
fn a_snapshot_of_another_log_is_passed_over() {
    let (dir, other) = (temporary_dir(), temporary_dir());
    let mut log = Log::new(dir.path());
    log.fill(3);
    let mut foreign = Log::new(other.path());
    foreign.build_all(3, &Retention::Keep);
    let file = foreign.snapshots().remove(0);
    let mut bytes = fs::read(&file.path).expect("a snapshot");
    bytes[16] ^= 1;
    let crc = crc32fast::hash(&bytes[..60]).to_le_bytes();
    bytes[60..64].copy_from_slice(&crc);
    fs::write(dir.path().join(file.path.file_name().expect("a name")), bytes).expect("written");
    assert_eq!(log.assert_restores().0, Lsn(0));
}

#[test]
fn a_log_that_is_older_than_its_snapshot_is_damage() {
    let (dir, other) = (temporary_dir(), temporary_dir());
    let mut log = Log::new(dir.path());
    log.fill(3);
    log.build(2).expect("a snapshot");
    // Other records under the same numbers, in shorter segments: a log of another history.
    let mut shorter = Log::new(other.path());
    shorter.fill(2);
    let segment = segment_path(dir.path(), SegmentIndex(3));
    let frames = fs::read(segment_path(other.path(), SegmentIndex(2))).expect("a segment");
    let mut bytes = fs::read(&segment).expect("a segment");
    let block = BLOCK_BYTES;
    let mut frame = frames[block..2 * block].to_vec();
    frame[16..24].copy_from_slice(&3_u64.to_le_bytes());
    let used = 56 + u32::from_le_bytes(frame[44..48].try_into().expect("four bytes")) as usize;
    let crc = crc32fast::hash(&[&frame[..52], &frame[56..used]].concat()).to_le_bytes();
    frame[52..56].copy_from_slice(&crc);
    bytes[block..2 * block].copy_from_slice(&frame);
    fs::write(&segment, bytes).expect("the segment is written");
    let refused = log.restore().err().expect("no torn tail looks like this");
    let ServerError::Log(WalError::Damage { what, .. }) = &refused else { panic!("{refused}") };
    assert!(what.contains("not of one history"), "{what}");
}

#[test]
fn two_snapshots_stay_and_segments_go_as_the_setting_says() {
    let dir = temporary_dir();
    let mut log = Log::new(dir.path());
    log.build_all(6, &Retention::Keep);
    assert_eq!(log.segments(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(log.snapshots().len(), 2);

    let dir = temporary_dir();
    let mut log = Log::new(dir.path());
    log.build_all(2, &Retention::Delete);
    assert_eq!(log.segments(), [1, 2], "one snapshot alone is not to be relied on");
    damage(&log.snapshots()[0].path);
    assert_eq!(log.assert_restores().0, Lsn(0));

    let dir = temporary_dir();
    let mut log = Log::new(dir.path());
    log.build_all(6, &Retention::Delete);
    assert_eq!(log.segments(), [5, 6], "what the older snapshot does not cover");
    assert_eq!(log.snapshots().len(), 2);
    assert_eq!(log.assert_restores().0, Lsn(75));
    damage(&log.snapshots()[0].path);
    assert_eq!(log.assert_restores().0, Lsn(60), "the older snapshot is good for a start");

    let (dir, archive) = (temporary_dir(), temporary_dir());
    let mut log = Log::new(dir.path());
    log.fill(2);
    let segment = fs::read(segment_path(dir.path(), SegmentIndex(1))).expect("a segment");
    log.build_all(6, &Retention::Archive(archive.path().join("deep/down")));
    assert_eq!(log.segments(), [5, 6]);
    let archived = archive.path().join(format!("deep/down/log-{}", IDENTITY.log));
    assert_eq!(segments(&archived), [1, 2, 3, 4]);
    assert_eq!(fs::read(segment_path(&archived, SegmentIndex(1))).expect("it moved"), segment);
    assert_eq!(log.assert_restores().0, Lsn(75));
}

#[test]
fn damage_in_a_complete_segment_makes_no_snapshot() {
    let dir = temporary_dir();
    let mut log = Log::new(dir.path());
    log.fill(4);
    log.build(1).expect("a snapshot");
    let third = segment_path(dir.path(), SegmentIndex(3));
    let whole = fs::read(&third).expect("a segment");
    // In the middle of the log, and in what would be a torn tail were it not complete.
    for frame in [3, 15] {
        let mut bytes = whole.clone();
        bytes[frame * BLOCK_BYTES + 60] ^= 1;
        fs::write(&third, bytes).expect("the segment is written");
        let failed = log.build(3).expect_err("a complete segment is damaged");
        let expected = match frame {
            3 => matches!(failed, BuildError::Log(WalError::Damage { .. })),
            _ => matches!(failed, BuildError::NotComplete { segment: SegmentIndex(3), .. }),
        };
        assert!(expected, "{failed:?}");
        assert_eq!(log.snapshots().len(), 1);
        assert!(!snapshot_preparation(dir.path(), Lsn(45)).exists());
    }
    fs::write(&third, whole).expect("the segment is written");
    log.build(3).expect("a snapshot");
}

#[test]
fn a_build_that_was_cut_short_leaves_nothing_behind() {
    let dir = temporary_dir();
    let mut log = Log::new(dir.path());
    log.fill(3);
    let pace = Pace::new(1 << 40, 1 << 40);
    pace.stop();
    let (directory, sealed) = (dir.path(), SegmentIndex(2));
    let order = Build { directory, identity: IDENTITY, sealed, spare_bytes: 0, pace: &pace };
    assert!(matches!(build(&order), Err(BuildError::Stopped)));
    assert!(log.snapshots().is_empty());
    let unfinished = snapshot_preparation(dir.path(), Lsn(30));
    fs::write(&unfinished, "what a crash left").expect("it is written");
    log.assert_restores();
    assert!(!unfinished.exists());
}

#[test]
fn a_snapshot_leaves_the_log_its_space() {
    let dir = temporary_dir();
    let mut log = Log::new(dir.path());
    log.fill(3);
    let pace = Pace::new(1 << 40, 1 << 40);
    let (directory, sealed) = (dir.path(), SegmentIndex(2));
    let order = Build { directory, identity: IDENTITY, sealed, spare_bytes: u64::MAX, pace: &pace };
    let failed = build(&order).expect_err("no disk has so much");
    let BuildError::NoRoom { snapshot_bytes, spare_bytes: u64::MAX, .. } = failed else {
        panic!("{failed}")
    };
    assert!(!snapshot_preparation(dir.path(), Lsn(30)).exists());
    assert_eq!(log.assert_restores().0, Lsn(0));
    // What it says that is missing is what it takes, to the byte.
    assert_eq!(log.build(2).expect("a snapshot").snapshot.file.bytes, snapshot_bytes);
}

/// How long the server may take to make three snapshots, generously.
const PATIENCE: Duration = Duration::from_mins(2);

fn shard_dir(server: &Server) -> PathBuf {
    boxoffice::wal::shard_dir(server.data_dir(), ShardIndex(0))
}

#[test]
fn a_server_makes_snapshots_and_starts_from_them() {
    let every = |serve: server::Serve| {
        serve.with("--snapshot-every", "1").with("--segment-bytes", "1052672")
    };
    let mut server = Server::start_with(|serve| every(serve).with("--retention", "delete"));
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, SaleTerms::default(), &[(1, 1_000_000)]);
    let mut request = 0;
    let mut answers = Vec::new();
    // Until the first segments are gone, which takes three snapshots.
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "no segment was retired: {}", server.log());
        sleep(Duration::from_millis(10));
        for _ in 0..20 {
            request += 1;
            answers.push(peer.gets(buy(intent(SALE, 1 + request % 50, request), &[(1, 1)])));
        }
        if !segments(&shard_dir(&server)).contains(&1) {
            break;
        }
    }
    let before = (peer.stats(SALE), peer.availability(SALE));
    server.kill();
    server.restart();
    let recovered =
        server.log().lines().rfind(|line| line.contains("recovered")).map(str::to_owned);
    let recovered = recovered.expect("a start says what it did");
    assert!(!recovered.contains("snapshot_lsn=0 "), "{recovered}");
    let mut peer = Peer::connect(server.address());
    assert_eq!((peer.stats(SALE), peer.availability(SALE)), before);
    for (request, answer) in (1..).zip(&answers) {
        let got = peer.ask(buy(intent(SALE, 1 + request % 50, request), &[(1, 1)]));
        let same = Answer { outcome: answer.clone(), replayed: true };
        assert_eq!(got, Ok(same), "request {request}");
    }
    let last = Outcome::Confirmed { order: OrderNumber(answers.len() as u32 + 1) };
    assert_eq!(peer.gets(buy(intent(SALE, 7, 1 << 100), &[(1, 1)])), last);
}
