//! The log's bytes, its writer, and its files; what recovery makes of damage is in
//! `log_recovery`.

use std::fs;
use std::num::NonZeroU16;
use std::path::Path;

use boxoffice::model::lines::{LINES_MAX, PAYMENT_REF_BYTES_MAX};
use boxoffice::model::record::{Bought, RecordLines};
use boxoffice::model::{Lsn, OrderNumber, PaymentRef, Record, ShardIndex, TimeMs};
use boxoffice::wal::codec::{self, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, RecordError};
use boxoffice::wal::{
    BLOCK_BYTES, Batch, BatchFull, FileStorage, Identity, LogId, LogWriter, NextSegmentNotPrepared,
    Position, Recovered, Segment, SegmentHeader, SegmentIndex, WalError, preparation_path,
    prepare_segment, recover, repair_torn_tail, segment_path, shard_dir, shard_dirs,
};
use proptest::prelude::*;

#[path = "support/log_memory.rs"]
mod log_memory;
use log_memory::{IDENTITY, MemoryLog, expired, line, origin, padded, samples};

const BLOCK: u64 = BLOCK_BYTES as u64;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| str::from_utf8(pair).expect("ASCII"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
}

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wal").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = vec![0xee; RECORD_BYTES_MAX];
    let length = codec::encode(record, &mut bytes);
    bytes.truncate(length);
    bytes
}

// Bytes.

#[test]
fn every_record_has_its_golden_bytes() {
    let text = golden("records.hex");
    let mut rows = text.lines().filter(|row| !row.starts_with('#'));
    for (index, (name, record)) in samples().into_iter().enumerate() {
        let row = rows.next().unwrap_or_else(|| panic!("{name} {}", hex(&encoded(&record))));
        let (golden_name, bytes) = row.split_once(' ').expect("a name and bytes");
        assert_eq!(golden_name, name);
        let bytes = unhex(bytes);
        assert_eq!(usize::from(bytes[0]), index + 1, "the tag of {name}");
        assert_eq!(hex(&encoded(&record)), hex(&bytes), "{name}");
        assert_eq!(codec::decode(&bytes), Ok((record, bytes.len())), "{name}");
    }
    assert_eq!(rows.next(), None, "every golden record has a sample");
}

#[test]
fn the_segment_header_has_its_golden_bytes() {
    let segment = Segment { index: SegmentIndex(7), bytes: 64 << 20 };
    let block = SegmentHeader { identity: IDENTITY, segment }.encode();
    let used = block.iter().take(BLOCK_BYTES - 4).rposition(|&byte| byte != 0).unwrap() + 1;
    assert_eq!(
        golden("segment_header.hex").trim(),
        format!("{} {}", hex(&block[..used]), hex(&block[BLOCK_BYTES - 4..]))
    );
}

#[test]
fn a_frame_has_its_golden_bytes() {
    let log = MemoryLog::new(1, 4);
    let mut writer = log.writer();
    log.commit(&mut writer, 5, &[expired(1)]);
    let sealed = log.commit(&mut writer, 1_700_000_000_000, &[expired(2), samples()[9].1.clone()]);
    let image = log.image();
    let frame = &image[0][sealed.position.offset as usize..][..sealed.bytes];
    let used = frame.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    assert_eq!(golden("frame.hex").trim(), hex(&frame[..used]));
}

#[test]
fn a_small_record_is_small_and_the_largest_fits() {
    assert_eq!(encoded(&expired(1)).len(), 15);
    let record = Record::Bought(Bought {
        origin: origin(1),
        order: OrderNumber(u32::MAX),
        lines: (0..LINES_MAX as u32).map(|item| line(item, u32::MAX)).collect(),
        payment: PaymentRef::new(&[0xff; PAYMENT_REF_BYTES_MAX]).unwrap(),
    });
    let bytes = encoded(&record);
    assert_eq!(bytes.len(), RECORD_BYTES_MAX);
    assert_eq!(codec::decode(&bytes), Ok((record, RECORD_BYTES_MAX)));
}

#[test]
fn a_record_that_is_cut_anywhere_is_an_error() {
    for (name, record) in samples() {
        let bytes = encoded(&record);
        for cut in 0..bytes.len() {
            assert_eq!(codec::decode(&bytes[..cut]), Err(RecordError::Truncated), "{name}");
            if cut >= RECORD_HEADER_BYTES {
                // The length agrees with what is there, so it is the content that must not.
                let mut short = bytes[..cut].to_vec();
                short[1..3].copy_from_slice(&((cut - RECORD_HEADER_BYTES) as u16).to_le_bytes());
                assert!(codec::decode(&short).is_err(), "{name} cut to {cut}");
            }
        }
    }
    assert_eq!(codec::decode(&[0, 0, 0]), Err(RecordError::UnknownTag(0)));
    let unused = 1 + samples().len() as u8;
    assert_eq!(codec::decode(&[unused, 0, 0]), Err(RecordError::UnknownTag(unused)));
}

#[test]
fn lines_that_no_order_has_are_refused() {
    let (_, held) = samples().swap_remove(4);
    let bytes = encoded(&held);
    // The lines lie first in the archive: item and quantity of each.
    let with = |at: usize, value: u32| {
        let mut bytes = bytes.clone();
        bytes[RECORD_HEADER_BYTES + at..][..4].copy_from_slice(&value.to_le_bytes());
        codec::decode(&bytes).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(with(0, 4), Ok(()));
    assert!(with(0, 9).unwrap_err().contains("the same item"));
    assert!(with(4, 0).unwrap_err().contains("quantity"));
    let panicked = std::panic::catch_unwind(|| {
        encoded(&Record::Bought(Bought {
            origin: origin(1),
            order: OrderNumber(1),
            lines: RecordLines::new(),
            payment: PaymentRef::default(),
        }))
    });
    assert!(panicked.is_err(), "a purchase of nothing must not reach the disk");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok((record, length)) = codec::decode(&bytes) {
            prop_assert!(length <= bytes.len());
            encoded(&record);
        }
    }

    #[test]
    fn a_changed_record_never_panics(
        sample in 0..12_usize,
        changes in proptest::collection::vec((0..400_usize, any::<u8>()), 1..6),
        length in any::<Option<u16>>(),
        tag in 1..=12_u8,
    ) {
        let mut bytes = encoded(&samples()[sample].1);
        bytes[0] = tag;
        let own = (bytes.len() - RECORD_HEADER_BYTES) as u16;
        for (at, value) in changes {
            let at = RECORD_HEADER_BYTES + at % usize::from(own);
            bytes[at] = value;
        }
        bytes.resize(RECORD_HEADER_BYTES + 400, 0);
        let length = length.map_or(own, |length| length % 400);
        bytes[1..3].copy_from_slice(&length.to_le_bytes());
        if let Ok((record, _)) = codec::decode(&bytes) {
            // What was accepted keeps every invariant that writing asserts.
            encoded(&record);
        }
    }
}

// Writing.

#[test]
fn frames_go_back_to_back_and_roll_at_the_exact_fit() {
    // A header and three blocks.
    let log = MemoryLog::new(2, 4);
    let mut writer = log.writer();
    let two_blocks: Vec<Record> = (1..=300).map(expired).collect();
    let first = log.commit(&mut writer, 1, &[expired(1)]);
    assert_eq!(first.position, Position { segment: SegmentIndex(1), offset: BLOCK });
    assert!(first.is_first_of_segment);
    let second = log.commit(&mut writer, 1, &two_blocks);
    assert_eq!(second.position, padded(first.position, BLOCK));
    assert_eq!((second.bytes, second.last_lsn), (2 * BLOCK_BYTES, Lsn(301)));
    assert_eq!(writer.segments_ahead(), 1, "the frame that fits exactly stays");
    let full = log.read().1.unwrap();
    assert_eq!(full.end, Position { segment: SegmentIndex(1), offset: 4 * BLOCK });
    let third = log.commit(&mut writer, 1, &two_blocks);
    assert_eq!(third.position, Position { segment: SegmentIndex(2), offset: BLOCK });
    assert!(third.is_first_of_segment);

    // One block is left: two blocks need the next segment, and wait for it unchanged.
    let mut batch = Batch::new(vec![0; 4 * BLOCK_BYTES]);
    for record in &two_blocks {
        writer.append(&mut batch, TimeMs(1), record).unwrap();
    }
    let missing = writer.seal(&mut batch).unwrap_err();
    assert_eq!(missing, NextSegmentNotPrepared(SegmentIndex(3)));
    assert!(!writer.is_in_flight());
    let segment = Segment { index: missing.0, bytes: 4 * BLOCK };
    log.prepare(segment);
    writer.add_segment(segment);
    let sealed = writer.seal(&mut batch).unwrap();
    log.write(sealed.position, &batch.buffer()[..sealed.bytes]);
    assert_eq!(sealed.position, Position { segment: SegmentIndex(3), offset: BLOCK });
    assert_eq!(writer.durable_lsn(), Lsn(601));
    assert_eq!(writer.complete(), Lsn(901));

    let (records, recovered) = log.read();
    let recovered = recovered.unwrap();
    assert_eq!((recovered.frames, recovered.records, recovered.next_lsn), (4, 901, Lsn(902)));
    assert!(records.iter().zip(1..).all(|(record, lsn)| record.0 == Lsn(lsn)));
}

#[test]
fn a_batch_fills_while_another_is_in_flight() {
    let log = MemoryLog::new(1, 9);
    let mut writer = log.writer();
    let mut first = Batch::new(vec![0; BLOCK_BYTES]);
    let mut second = Batch::new(vec![0; BLOCK_BYTES]);
    let mut lsn = 0;
    while first.has_room() {
        lsn += 1;
        assert_eq!(writer.append(&mut first, TimeMs(9), &expired(1)), Ok(Lsn(lsn)));
    }
    assert_eq!(writer.append(&mut first, TimeMs(9), &expired(1)), Err(BatchFull));
    writer.seal(&mut first).unwrap();
    assert_eq!(writer.append(&mut second, TimeMs(9), &expired(1)), Ok(Lsn(lsn + 1)));
    assert_eq!(writer.durable_lsn(), Lsn(0));
    let twice = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = writer.seal(&mut second);
    }));
    assert!(twice.is_err(), "one frame is in flight at most");
    assert_eq!(writer.complete(), Lsn(lsn));
    let sealed = writer.seal(&mut second).unwrap();
    assert_eq!((sealed.last_lsn, writer.complete()), (Lsn(lsn + 1), Lsn(lsn + 1)));
}

#[test]
fn a_frame_has_one_time_and_time_never_goes_back() {
    let log = MemoryLog::new(1, 9);
    let mut writer = log.writer();
    let mut batch = Batch::new(vec![0; BLOCK_BYTES]);
    assert_eq!(writer.now(&batch, TimeMs(50)), TimeMs(50));
    writer.append(&mut batch, TimeMs(50), &expired(1)).unwrap();
    assert_eq!(writer.now(&batch, TimeMs(60)), TimeMs(50), "the batch has its time");
    let other_time = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = writer.append(&mut batch, TimeMs(60), &expired(2));
    }));
    assert!(other_time.is_err());
    let sealed = writer.seal(&mut batch).unwrap();
    log.write(sealed.position, &batch.buffer()[..sealed.bytes]);
    writer.complete();
    batch.clear();
    assert_eq!(writer.now(&batch, TimeMs(40)), TimeMs(50), "a clock that went back is ignored");
    assert_eq!(log.writer().now(&batch, TimeMs(40)), TimeMs(50), "after a restart, too");
}

// Files.

fn segment(index: u64) -> Segment {
    Segment { index: SegmentIndex(index), bytes: 8 * BLOCK }
}

/// A log on disk with one frame in its first segment, and a second segment prepared.
fn on_disk(dir: &Path) {
    prepare_segment(dir, IDENTITY, segment(1)).unwrap();
    prepare_segment(dir, IDENTITY, segment(2)).unwrap();
    let storage = FileStorage::open(dir).unwrap();
    let mut writer = LogWriter::new(&recover(&storage, Some(IDENTITY), |_| ()).unwrap());
    let mut batch = Batch::new(vec![0; BLOCK_BYTES]);
    for (_, record) in samples() {
        writer.append(&mut batch, TimeMs(3), &record).unwrap();
    }
    let sealed = writer.seal(&mut batch).unwrap();
    poke(dir, 1, sealed.position.offset, &batch.buffer()[..sealed.bytes]);
}

fn poke(dir: &Path, index: u64, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let path = segment_path(dir, SegmentIndex(index));
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

fn open(dir: &Path) -> Result<Recovered, WalError> {
    recover(&FileStorage::open(dir)?, Some(IDENTITY), |_| ())
}

#[test]
fn a_log_on_disk_is_read_repaired_and_continued() {
    let dir = tempfile::tempdir().unwrap();
    on_disk(dir.path());
    // A preparation that was cut off, and files that are none of the log's.
    fs::write(preparation_path(dir.path(), SegmentIndex(3)), b"half").unwrap();
    fs::write(dir.path().join("1.wal"), b"a name that is too short").unwrap();
    let storage = FileStorage::open(dir.path()).unwrap();
    let mut records = Vec::new();
    let recovered = recover(&storage, Some(IDENTITY), |entry| records.push(entry.record.clone()));
    let recovered = recovered.unwrap();
    assert!(records.into_iter().eq(samples().into_iter().map(|(_, record)| record)));
    assert_eq!((recovered.torn, recovered.prepared.as_slice()), (None, &[segment(2)][..]));

    poke(dir.path(), 1, 3 * BLOCK + 5, b"torn");
    let torn = open(dir.path()).unwrap().torn.unwrap();
    assert_eq!((torn.start.offset, torn.bytes, torn.nonzero_bytes), (3 * BLOCK, BLOCK, 4));
    repair_torn_tail(&storage, &torn).unwrap();
    assert_eq!(open(dir.path()).unwrap(), recovered);
    prepare_segment(dir.path(), IDENTITY, segment(3)).unwrap();
    assert_eq!(open(dir.path()).unwrap().prepared, [segment(2), segment(3)]);
    let again = prepare_segment(dir.path(), IDENTITY, segment(1)).unwrap_err();
    assert!(again.to_string().contains("exists"), "a segment is never made anew: {again}");
}

/// The error of opening a log on disk after `change`.
fn error_after(change: impl FnOnce(&Path)) -> WalError {
    let dir = tempfile::tempdir().unwrap();
    on_disk(dir.path());
    change(dir.path());
    open(dir.path()).expect_err("the log cannot be opened")
}

fn replace_second(identity: Identity, index: u64) -> impl FnOnce(&Path) {
    move |dir| {
        let header = SegmentHeader { identity, segment: segment(index) }.encode();
        poke(dir, 2, 0, &header);
    }
}

#[test]
fn a_log_that_cannot_be_opened_says_why() {
    let first = |dir: &Path| segment_path(dir, SegmentIndex(1));
    let error = error_after(|dir| fs::remove_file(first(dir)).unwrap());
    assert!(matches!(error, WalError::MissingSegment { index: SegmentIndex(1), .. }), "{error}");
    let error = error_after(|dir| {
        prepare_segment(dir, IDENTITY, segment(4)).unwrap();
    });
    assert!(matches!(error, WalError::MissingSegment { index: SegmentIndex(3), .. }), "{error}");
    let error = error_after(|dir| fs::write(first(dir), [7; 8192]).unwrap());
    assert!(matches!(error, WalError::NotASegment { .. }), "{error}");
    let error = error_after(|dir| poke(dir, 1, 8, &[9]));
    assert!(matches!(error, WalError::NewerFormat { found: 9, supported: 1, .. }), "{error}");
    let other = Identity { log: LogId(5), ..IDENTITY };
    let error = error_after(replace_second(other, 2));
    assert!(matches!(error, WalError::ForeignLog { found: LogId(5), .. }), "{error}");
    let other = Identity { shard: ShardIndex(0), ..IDENTITY };
    let error = error_after(replace_second(other, 2));
    assert!(error.to_string().contains("shard 0 of 2, not by shard 1 of 2"), "{error}");
    let other = Identity { shards: NonZeroU16::new(3).unwrap(), ..IDENTITY };
    let error = error_after(replace_second(other, 2));
    assert!(error.to_string().contains("shard 1 of 3"), "{error}");
    let error = error_after(replace_second(IDENTITY, 3));
    assert!(error.to_string().contains("header is that of segment 3"), "{error}");
    for bytes in [0, 100, BLOCK, 3 * BLOCK + 1] {
        let error = error_after(|dir| {
            let file = fs::OpenOptions::new().write(true).open(first(dir)).unwrap();
            file.set_len(bytes).unwrap();
        });
        let text = error.to_string();
        assert!(text.contains(&format!("{bytes} bytes")), "{text}");
        assert!(text.contains("offset 0, LSN 1"), "{text}");
    }
    let error = error_after(|dir| fs::remove_dir_all(dir).unwrap());
    assert!(matches!(error, WalError::Io { .. }), "{error}");
}

#[test]
fn nothing_is_changed_by_reading() {
    let dir = tempfile::tempdir().unwrap();
    on_disk(dir.path());
    poke(dir.path(), 1, 3 * BLOCK, b"torn");
    let bytes = || fs::read(segment_path(dir.path(), SegmentIndex(1))).unwrap();
    let before = bytes();
    assert!(open(dir.path()).unwrap().torn.is_some());
    assert_eq!(bytes(), before);
}

#[test]
fn shards_are_found_by_their_directories() {
    let dir = tempfile::tempdir().unwrap();
    for shard in [11, 0, 2] {
        fs::create_dir(shard_dir(dir.path(), ShardIndex(shard))).unwrap();
    }
    fs::create_dir(dir.path().join("shard-1")).unwrap();
    fs::write(dir.path().join("MANIFEST"), b"").unwrap();
    let shards = shard_dirs(dir.path()).unwrap();
    let indexes: Vec<u16> = shards.iter().map(|(shard, _)| shard.0).collect();
    assert_eq!(indexes, [0, 2, 11]);
    assert!(shards[1].1.ends_with("shard-002"));
}
