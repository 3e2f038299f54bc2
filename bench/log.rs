//! What the log costs: appending, decoding, recovery from real files, and their audit.
//!
//! `cargo bench --bench log [RECORDS [DIR]]`. Without a DIR the log is made in `target` and
//! removed again. With one it is kept there, and used again by the next run, so that its pages can
//! be dropped from the cache in between.

use std::num::NonZeroU16;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use boxoffice::audit::audit;
use boxoffice::model::record::{
    Bought, Held, ItemDefined, Origin, RecordLines, SaleDefined, SaleStateSet,
};
use boxoffice::model::{
    AccountId, BodyDigest, ItemId, ItemTerms, Line, OrderNumber, PaymentRef, Price, Quantity,
    Record, RequestId, SaleId, SaleState, SaleTerms, ShardIndex, TimeMs,
};
use boxoffice::wal::{
    Batch, FRAME_BYTES_MAX, FileStorage, Identity, LogId, LogWriter, SEGMENT_BYTES_DEFAULT,
    Segment, SegmentIndex, codec, prepare_segment, recover, segment_path, shard_dir,
};

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let records = arguments.next().map_or(2_000_000, |count| count.parse().expect("a number"));
    let kept = arguments.next();
    let dir = Path::new(kept.as_deref().unwrap_or("target")).join("bench-log");
    for (name, record) in [("held", held as fn(u32) -> Record), ("bought", bought)] {
        let bytes = codec::encode(&record(1), &mut [0; codec::RECORD_BYTES_MAX]);
        println!("{name}: {bytes} bytes a record");
        append(record);
        decode(record);
    }
    if kept.is_none() || !dir.exists() {
        let _ = std::fs::remove_dir_all(&dir);
        write_log(&shard_dir(&dir, ShardIndex(0)), records);
    }
    recovery(&dir, records);
    if kept.is_none() {
        std::fs::remove_dir_all(dir).expect("the log can be removed");
    }
}

fn origin(n: u32) -> Origin {
    Origin {
        sale: SaleId(1),
        account: AccountId(u128::from(n) << 64 | 7),
        request: RequestId(u128::from(n) << 32 | 9),
        digest: BodyDigest(u64::from(n)),
    }
}

fn lines(n: u32) -> RecordLines {
    RecordLines::from_iter([Line { item: ItemId(n % 16), quantity: Quantity(1 + n % 4) }])
}

fn held(n: u32) -> Record {
    let expires_at = TimeMs(u64::from(n));
    Record::Held(Held { origin: origin(n), order: OrderNumber(n), expires_at, lines: lines(n) })
}

fn bought(n: u32) -> Record {
    let payment = PaymentRef::new(b"pay-0123456789ab").expect("16 bytes fit");
    Record::Bought(Bought { origin: origin(n), order: OrderNumber(n), lines: lines(n), payment })
}

/// Records before the first purchase: the sale, its items, and its opening.
const SALE_RECORDS: u32 = 18;

fn sale(n: u32) -> Option<Record> {
    let sale = SaleId(1);
    match n {
        1 => Some(Record::SaleDefined(SaleDefined { sale, terms: SaleTerms::default() })),
        SALE_RECORDS => Some(Record::SaleStateSet(SaleStateSet { sale, state: SaleState::Open })),
        2..SALE_RECORDS => {
            let (capacity, price) = (Quantity(1_000_000_000), Price(1));
            let terms = ItemTerms { capacity, price, account_limit: Some(Quantity(4)) };
            Some(Record::ItemDefined(ItemDefined { sale, item: ItemId(n - 2), terms }))
        }
        _ => None,
    }
}

fn identity() -> Identity {
    Identity { log: LogId(1), shard: ShardIndex(0), shards: NonZeroU16::MIN }
}

fn append(record: fn(u32) -> Record) {
    const COUNT: u32 = 5_000_000;
    let pool: Vec<Record> = (1..=64).map(record).collect();
    let mut memory = vec![0; FRAME_BYTES_MAX];
    let (mut used, stretch) = (0, Stretch::start());
    for n in 0..COUNT {
        if memory.len() - used < codec::RECORD_BYTES_MAX {
            used = 0;
        }
        used += codec::encode(&pool[n as usize % pool.len()], &mut memory[used..]);
    }
    stretch.report("  append", COUNT);
    std::hint::black_box(&memory);
}

fn decode(record: fn(u32) -> Record) {
    const ROUNDS: u32 = 500;
    let mut memory = vec![0; FRAME_BYTES_MAX];
    let (mut used, mut count) = (0, 0);
    while memory.len() - used >= codec::RECORD_BYTES_MAX {
        used += codec::encode(&record(count), &mut memory[used..]);
        count += 1;
    }
    let stretch = Stretch::start();
    for _ in 0..ROUNDS {
        let mut at = 0;
        while at < used {
            let (record, bytes) = codec::decode(&memory[at..used]).expect("what was encoded");
            std::hint::black_box(&record);
            at += bytes;
        }
    }
    stretch.report("  decode", count * ROUNDS);
}

fn recovery(data_dir: &Path, records: u32) {
    let dir = &shard_dir(data_dir, ShardIndex(0));
    for temperature in ["first", "second"] {
        let storage = FileStorage::open(dir).expect("the log opens");
        let (mut units, stretch) = (0, Stretch::start());
        let recovered =
            recover(&storage, Some(identity()), |entry| units += units_of(entry.record))
                .expect("the log is whole");
        assert_eq!(recovered.records, u64::from(records));
        std::hint::black_box(units);
        stretch.report(&format!("recovery, {temperature} time"), records);
    }
    let stretch = Stretch::start();
    let found = audit(data_dir).expect("there is a log");
    stretch.report("audit", records);
    assert!(found.is_clean(), "{found}");
}

fn units_of(record: &Record) -> u64 {
    match record {
        Record::Held(held) => held.lines.iter().map(|line| u64::from(line.quantity.0)).sum(),
        Record::Bought(bought) => bought.lines.iter().map(|line| u64::from(line.quantity.0)).sum(),
        _ => 0,
    }
}

fn write_log(dir: &Path, records: u32) {
    std::fs::create_dir_all(dir).expect("a directory for the log");
    let segment = |index| Segment { index, bytes: SEGMENT_BYTES_DEFAULT };
    prepare_segment(dir, identity(), segment(SegmentIndex::FIRST)).expect("a segment");
    let storage = FileStorage::open(dir).expect("an empty log opens");
    let recovered = recover(&storage, None, |_| ()).expect("an empty log is whole");
    let mut writer = LogWriter::new(&recovered);
    let mut batch = Batch::new(vec![0; 64 << 10]);
    let stretch = Stretch::start();
    for n in 1..=records {
        let now = writer.now(&batch, TimeMs(u64::from(n)));
        let record = sale(n).unwrap_or_else(|| bought(n - SALE_RECORDS));
        writer.append(&mut batch, now, &record).expect("the batch has room");
        if batch.has_room() && n < records {
            continue;
        }
        if writer.segments_ahead() == 0 {
            let next = segment(writer.next_segment());
            prepare_segment(dir, identity(), next).expect("a segment");
            writer.add_segment(next);
        }
        let sealed = writer.seal(&mut batch).expect("a segment is ahead");
        let path = segment_path(dir, sealed.position.segment);
        let file = std::fs::OpenOptions::new().write(true).open(path).expect("the segment");
        file.write_all_at(&batch.buffer()[..sealed.bytes], sealed.position.offset).expect("write");
        writer.complete();
        batch.clear();
    }
    stretch.report("write, page cache", records);
}

/// A stretch of work, by the clock and by what this thread had of a CPU: on a shared machine the
/// second tells what the work costs.
struct Stretch {
    started: Instant,
    cpu_ns: Option<u64>,
}

impl Stretch {
    fn start() -> Self {
        Self { started: Instant::now(), cpu_ns: cpu_ns() }
    }

    fn report(&self, what: &str, count: u32) {
        let each = |ns: f64| {
            format!(
                "{:.1} ns a record, {:.2} M/s",
                ns / f64::from(count),
                f64::from(count) / ns * 1e3
            )
        };
        let clock = each(self.started.elapsed().as_nanos() as f64);
        let cpu = self.cpu_ns.zip(cpu_ns()).map(|(before, after)| each((after - before) as f64));
        println!("{what}: {clock}; on the CPU: {}", cpu.unwrap_or_else(|| "unknown".into()));
    }
}

/// What the scheduler says that this thread had of a CPU.
fn cpu_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}
