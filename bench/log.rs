//! What the log costs: appending, decoding, recovery from real files, and their audit.
//!
//! `cargo bench --bench log [RECORDS [DIR]]`. With a DIR the log is made there, once without its
//! pages in the cache where the system lets an unprivileged process say so, and removed again.

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
    let dir = arguments.next().unwrap_or_else(|| "target".into());
    let dir = Path::new(&dir).join("bench-log");
    for (name, record) in [("held", held as fn(u32) -> Record), ("bought", bought)] {
        let bytes = codec::encode(&record(1), &mut [0; codec::RECORD_BYTES_MAX]);
        println!("{name}: {bytes} bytes a record");
        append(record);
        decode(record);
    }
    recovery(&dir, records);
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
    let (mut used, started) = (0, Instant::now());
    for n in 0..COUNT {
        if memory.len() - used < codec::RECORD_BYTES_MAX {
            used = 0;
        }
        used += codec::encode(&pool[n as usize % pool.len()], &mut memory[used..]);
    }
    report("  append", started, COUNT);
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
    let started = Instant::now();
    for _ in 0..ROUNDS {
        let mut at = 0;
        while at < used {
            let (record, bytes) = codec::decode(&memory[at..used]).expect("what was encoded");
            std::hint::black_box(&record);
            at += bytes;
        }
    }
    report("  decode", started, count * ROUNDS);
}

fn recovery(dir: &Path, records: u32) {
    let _ = std::fs::remove_dir_all(dir);
    let data_dir = dir;
    let dir = &shard_dir(data_dir, ShardIndex(0));
    std::fs::create_dir_all(dir).expect("a directory for the log");
    write_log(dir, records);
    for temperature in ["first", "second"] {
        let storage = FileStorage::open(dir).expect("the log opens");
        let (mut units, started) = (0, Instant::now());
        let recovered =
            recover(&storage, Some(identity()), |entry| units += units_of(entry.record))
                .expect("the log is whole");
        assert_eq!(recovered.records, u64::from(records));
        std::hint::black_box(units);
        report(&format!("recovery, {temperature} time"), started, records);
    }
    let started = Instant::now();
    let found = audit(data_dir).expect("there is a log");
    report("audit", started, records);
    assert!(found.is_clean(), "{found}");
    std::fs::remove_dir_all(data_dir).expect("the log can be removed");
}

fn units_of(record: &Record) -> u64 {
    match record {
        Record::Held(held) => held.lines.iter().map(|line| u64::from(line.quantity.0)).sum(),
        Record::Bought(bought) => bought.lines.iter().map(|line| u64::from(line.quantity.0)).sum(),
        _ => 0,
    }
}

fn write_log(dir: &Path, records: u32) {
    let segment = |index| Segment { index, bytes: SEGMENT_BYTES_DEFAULT };
    prepare_segment(dir, identity(), segment(SegmentIndex::FIRST)).expect("a segment");
    let storage = FileStorage::open(dir).expect("an empty log opens");
    let recovered = recover(&storage, None, |_| ()).expect("an empty log is whole");
    let mut writer = LogWriter::new(&recovered);
    let mut batch = Batch::new(vec![0; 64 << 10]);
    let started = Instant::now();
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
    report("write, page cache", started, records);
}

fn report(what: &str, started: Instant, count: u32) {
    let elapsed = started.elapsed();
    let rate = f64::from(count) / elapsed.as_secs_f64() / 1e6;
    println!(
        "{what}: {:.1} ns a record, {rate:.2} M/s",
        elapsed.as_nanos() as f64 / f64::from(count)
    );
}
