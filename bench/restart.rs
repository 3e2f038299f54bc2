//! What a restart costs with millions of orders: writing a snapshot, and bringing it back.
//!
//! `cargo bench --bench restart [ORDERS [DIR]]`. Without a DIR the snapshot is made in `target` and
//! removed again. With one a data directory is made there and kept, ready for `boxoffice serve`, so
//! that the whole start can be timed with its pages dropped from the cache.

use std::fs::File;
use std::io::BufWriter;
use std::num::NonZeroU16;
use std::path::Path;
use std::time::Instant;

use boxoffice::engine::{Engine, HashSeed};
use boxoffice::model::record::{
    Bought, ItemDefined, Origin, RecordLines, SaleDefined, SaleStateSet,
};
use boxoffice::model::{
    AccountId, BodyDigest, ItemId, ItemTerms, Line, Lsn, OrderNumber, PaymentRef, Price, Quantity,
    Record, RequestId, SaleId, SaleState, SaleTerms, ShardIndex, TimeMs,
};
use boxoffice::runtime::file::drop_cached;
use boxoffice::runtime::huge::HugePages;
use boxoffice::server::datadir::DataDir;
use boxoffice::server::restore::restore;
use boxoffice::wal::snapshot::{SnapshotHeader, SnapshotReader, SnapshotWriter, snapshot_path};
use boxoffice::wal::{
    Identity, LogId, Position, SEGMENT_BYTES_DEFAULT, SEGMENT_HEADER_BYTES, Segment, SegmentIndex,
    prepare_segment,
};

/// As the server's own allocator.
#[global_allocator]
static ALLOCATOR: HugePages = HugePages;

const SALE: SaleId = SaleId(1);
const ITEMS: u32 = 16;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let orders = arguments.next().map_or(2_000_000, |count| count.parse().expect("a number"));
    let kept = arguments.next();
    let dir = Path::new(kept.as_deref().unwrap_or("target")).join("bench-restart");
    if kept.is_none() || !dir.exists() {
        let _ = std::fs::remove_dir_all(&dir);
        make(&dir, orders);
    }
    let data_dir = DataDir::open_existing(&dir).expect("it was made");
    let identity = identity(&data_dir);
    let shard = data_dir.shard_directory(ShardIndex(0));
    let path = snapshot_path(&shard, last_lsn(orders));
    for round in ["from the disk", "from memory"] {
        let file = File::open(&path).expect("the snapshot");
        if round == "from the disk" {
            drop_cached(&file);
        }
        let bytes = file.metadata().expect("a file").len();
        let stretch = Instant::now();
        let restored = restore(&shard, identity).expect("it starts");
        let elapsed = stretch.elapsed().as_secs_f64();
        let (mb, millions) = (bytes as f64 / 1e6 / elapsed, f64::from(orders) / 1e6 / elapsed);
        println!(
            "restore {round}: {orders} orders in {elapsed:.2} s, {mb:.0} MB/s, {millions:.1} M/s"
        );
        drop(restored);
    }
    let file = File::open(&path).expect("the snapshot");
    let stretch = Instant::now();
    let mut reader = SnapshotReader::new(file).expect("a header");
    while reader.next_part().expect("it is whole").is_some() {}
    let elapsed = stretch.elapsed().as_secs_f64();
    println!("read and check alone: {elapsed:.2} s");
    drop(data_dir);
    if kept.is_none() {
        std::fs::remove_dir_all(dir).expect("it can be removed");
    }
}

fn identity(data_dir: &DataDir) -> Identity {
    let log = LogId(data_dir.log_id(ShardIndex(0)));
    Identity { log, shard: ShardIndex(0), shards: NonZeroU16::MIN }
}

fn last_lsn(orders: u32) -> Lsn {
    Lsn(u64::from(orders) + u64::from(ITEMS) + 2)
}

/// A data directory whose log begins behind a snapshot of this many orders.
fn make(dir: &Path, orders: u32) {
    let data_dir = DataDir::open_or_create(dir, NonZeroU16::MIN, |log| {
        let identity = Identity { log: LogId(log.log_id), shard: log.shard, shards: log.shards };
        for index in [2, 3, 4] {
            let segment = Segment { index: SegmentIndex(index), bytes: SEGMENT_BYTES_DEFAULT };
            prepare_segment(log.directory, identity, segment).map_err(std::io::Error::other)?;
        }
        Ok(())
    });
    let data_dir = data_dir.expect("a data directory");
    let stretch = Instant::now();
    let engine = sold(orders);
    println!("apply: {orders} orders in {:.2} s", stretch.elapsed().as_secs_f64());
    let header = SnapshotHeader {
        identity: identity(&data_dir),
        last_lsn: last_lsn(orders),
        position: Position { segment: SegmentIndex(2), offset: SEGMENT_HEADER_BYTES as u64 },
        previous_crc: 0,
        last_time: TimeMs(1_000),
    };
    let path = snapshot_path(&data_dir.shard_directory(ShardIndex(0)), header.last_lsn);
    let stretch = Instant::now();
    let file = BufWriter::new(File::create(&path).expect("a file"));
    let mut writer = SnapshotWriter::new(file, &header).expect("it is written");
    for part in engine.export() {
        writer.part(&part).expect("it is written");
    }
    let (file, _) = writer.finish().expect("it is written");
    let file = file.into_inner().expect("it is written");
    let encoded = stretch.elapsed().as_secs_f64();
    file.sync_all().expect("it is synced");
    let bytes = file.metadata().expect("a file").len();
    println!("export: {bytes} bytes in {encoded:.2} s, and synced");
}

/// A state with so many confirmed orders of one line, each of an account of its own.
fn sold(orders: u32) -> Engine {
    let mut engine = Engine::new(HashSeed([1, 2]));
    engine.apply(&Record::SaleDefined(SaleDefined { sale: SALE, terms: SaleTerms::default() }));
    for item in (0..ITEMS).map(ItemId) {
        let (capacity, price) = (Quantity(1_000_000_000), Price(1));
        let terms = ItemTerms { capacity, price, account_limit: Some(Quantity(4)) };
        engine.apply(&Record::ItemDefined(ItemDefined { sale: SALE, item, terms }));
    }
    engine.apply(&Record::SaleStateSet(SaleStateSet { sale: SALE, state: SaleState::Open }));
    for number in 1..=orders {
        let origin = Origin {
            sale: SALE,
            account: AccountId(u128::from(number) << 64 | 7),
            request: RequestId(u128::from(number) << 32 | 9),
            digest: BodyDigest(u64::from(number)),
        };
        let line = Line { item: ItemId(number % ITEMS), quantity: Quantity(1 + number % 4) };
        let lines = RecordLines::from_iter([line]);
        let (order, payment) = (OrderNumber(number), PaymentRef::default());
        engine.apply(&Record::Bought(Bought { origin, order, lines, payment }));
    }
    engine
}
