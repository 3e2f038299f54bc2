//! The log: its bytes, and what recovery makes of a log that was cut, flipped, mixed up or lied
//! about. The truth of every test is the list of records that was written: whatever happens, what
//! is read back is a prefix of it, and nothing that a later frame stands on is ever given up.

use std::fs;
use std::num::NonZeroU16;
use std::path::Path;

use boxoffice::model::lines::{LINES_MAX, PAYMENT_REF_BYTES_MAX};
use boxoffice::model::record::{Bought, Expired, RecordLines};
use boxoffice::model::{Lsn, OrderNumber, PaymentRef, Record, SaleId, ShardIndex, TimeMs};
use boxoffice::wal::codec::{self, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, RecordError};
use boxoffice::wal::{
    BLOCK_BYTES, Batch, BatchFull, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FileStorage, Identity,
    LogId, LogStorage, LogWriter, NextSegmentNotPrepared, Position, Recovered, SealedFrame,
    Segment, SegmentHeader, SegmentIndex, WalError, preparation_path, prepare_segment, recover,
    repair_torn_tail, segment_path, shard_dir, shard_dirs,
};
use proptest::prelude::*;

#[path = "support/log_memory.rs"]
mod log_memory;
use log_memory::{IDENTITY, MemoryLog, Read, line, origin, samples};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Where a frame keeps its CRC.
const FRAME_CRC_AT: usize = 52;

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

fn expired(order: u32) -> Record {
    Record::Expired(Expired { sale: SaleId(1), order: OrderNumber(order) })
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
    assert_eq!(codec::decode(&[13, 0, 0]), Err(RecordError::UnknownTag(13)));
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

fn padded(position: Position, bytes: u64) -> Position {
    Position { offset: position.offset + bytes, ..position }
}

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

// Recovery.

/// A log of two segments in use and one prepared, of five blocks each:
/// `[header f1 f2 f3 zeros] [header f4 f4 f5 zeros] [header zeros]`.
struct Small {
    log: MemoryLog,
    truth: Vec<Read>,
    frames: Vec<SealedFrame>,
}

fn small() -> Small {
    let log = MemoryLog::new(3, 5);
    let mut writer = log.writer();
    let records: Vec<Record> = samples().into_iter().map(|(_, record)| record).collect();
    // Two blocks do not fit the one that is left.
    let large: Vec<Record> = (1..=300).map(expired).collect();
    let commits = [
        (10, &records[..2]),
        (10, &records[2..4]),
        (10, &records[4..5]),
        (11, &large),
        (12, &records[5..]),
    ];
    let frames: Vec<SealedFrame> =
        commits.iter().map(|(time, records)| log.commit(&mut writer, *time, records)).collect();
    let truth = log.read().0;
    Small { log, truth, frames }
}

impl Small {
    /// Records before the last frame.
    fn before_last(&self) -> usize {
        self.frames[3].last_lsn.0 as usize
    }

    fn image(&self) -> Vec<Vec<u8>> {
        self.log.image()
    }
}

/// What recovery says of a log, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Clean,
    Torn,
    Damage,
    /// Any other typed error: the file is none of this log's.
    Foreign,
}

fn verdict(outcome: &Result<Recovered, WalError>) -> Verdict {
    match outcome {
        Ok(recovered) if recovered.torn.is_some() => Verdict::Torn,
        Ok(_) => Verdict::Clean,
        Err(WalError::Damage { .. }) => Verdict::Damage,
        Err(_) => Verdict::Foreign,
    }
}

/// Whether `read` is a prefix of `truth`.
fn is_prefix(read: &[Read], truth: &[Read]) -> bool {
    truth.get(..read.len()) == Some(read)
}

#[test]
fn a_whole_log_is_read_as_it_was_written() {
    let small = small();
    let (records, recovered) = small.log.read();
    let recovered = recovered.unwrap();
    let written = samples().into_iter().map(|(_, record)| record);
    let (head, tail): (Vec<_>, Vec<_>) = written.enumerate().partition(|(index, _)| *index < 5);
    let written = head.into_iter().map(|(_, record)| record);
    let written = written.chain((1..=300).map(expired));
    let written = written.chain(tail.into_iter().map(|(_, record)| record));
    assert!(records.iter().map(|(_, _, record)| record.clone()).eq(written));
    assert_eq!(verdict(&Ok(recovered.clone())), Verdict::Clean);
    assert_eq!((recovered.frames, recovered.last_time), (5, TimeMs(12)));
    assert_eq!(recovered.prepared, [Segment { index: SegmentIndex(3), bytes: 5 * BLOCK }]);
}

#[test]
fn the_last_frame_cut_at_every_byte_is_a_torn_tail() {
    let small = small();
    let last = small.frames[4].position;
    let whole = small.image();
    for cut in 0..small.frames[4].bytes {
        let log = small.log.clone();
        let at = last.offset as usize;
        log.tamper(last.segment.0, |bytes| bytes[at + cut..at + BLOCK_BYTES].fill(0));
        let (records, outcome) = log.read();
        if log.image() == whole {
            assert_eq!((records.len(), verdict(&outcome)), (small.truth.len(), Verdict::Clean));
            continue;
        }
        assert_eq!(records, small.truth[..small.before_last()], "cut at {cut}");
        let recovered = outcome.unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert_eq!(recovered.end, last);
        let Some(torn) = recovered.torn else {
            assert_eq!(cut, 0, "only nothing at all is a clean end");
            continue;
        };
        let nonzero = whole[1][at..at + cut].iter().filter(|&&byte| byte != 0).count();
        assert_eq!((torn.start, torn.nonzero_bytes), (last, nonzero as u64));
        repair_torn_tail(&log, &torn).unwrap();
        let (records, outcome) = log.read();
        assert_eq!((records.len(), verdict(&outcome)), (small.before_last(), Verdict::Clean));
        let mut writer = log.writer();
        log.commit(&mut writer, 13, &[expired(9)]);
        assert_eq!(log.read().0.len(), small.before_last() + 1, "the log goes on");
    }
}

/// The table of what a flipped bit does, by where it is.
fn flip_verdict(small: &Small, segment: u64, offset: u64, used_last: u64) -> Verdict {
    let last = small.frames[4].position;
    match (segment, offset) {
        // A header's magic or version says what file it is; all else is under its CRC.
        (_, 0..10) => Verdict::Foreign,
        (_, 0..BLOCK) => Verdict::Damage,
        // Frames that others follow, their padding, and the unused end of a full segment.
        (1, _) => Verdict::Damage,
        (2, _) if offset < last.offset => Verdict::Damage,
        // The last frame: its content looks torn, its padding does not.
        (2, _) if offset < last.offset + used_last => Verdict::Torn,
        (2, _) if offset < last.offset + BLOCK => Verdict::Damage,
        // Behind the end, where the next frame can go.
        _ => Verdict::Torn,
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let small = small();
    let image = small.image();
    let last = small.frames[4].position.offset as usize;
    let frame = &image[1][last..last + BLOCK_BYTES];
    let payload = u32::from_le_bytes(frame[44..48].try_into().unwrap());
    let used_last = FRAME_HEADER_BYTES as u64 + u64::from(payload);
    let mut flips = 0;
    for (segment, bytes) in (1..).zip(&image) {
        for offset in 0..bytes.len() {
            // Each bit of what is used; of the zeros, one bit of every seventh byte.
            let is_used = bytes[offset] != 0 || offset % BLOCK_BYTES < 64;
            let bits = if is_used { 0..8 } else { offset % 8..offset % 8 + 1 };
            if !is_used && !offset.is_multiple_of(7) {
                continue;
            }
            // The large frame's payload is uniform: a part of it stands for all.
            if segment == 2 && (BLOCK_BYTES + 512..last - 64).contains(&offset) {
                continue;
            }
            for bit in bits {
                flips += 1;
                let log = small.log.clone();
                log.tamper(segment, |bytes| bytes[offset] ^= 1 << bit);
                let (records, outcome) = log.read();
                let place = format!("segment {segment}, byte {offset}, bit {bit}: {outcome:?}");
                assert!(is_prefix(&records, &small.truth), "{place}");
                let expected = flip_verdict(&small, segment, offset as u64, used_last);
                let found = verdict(&outcome);
                let is_version = (8..10).contains(&offset);
                assert!(found == expected || is_version && found == Verdict::Damage, "{place}");
                if found == Verdict::Torn {
                    let kept = if segment == 2 && (offset as u64) < last as u64 + BLOCK {
                        small.before_last()
                    } else {
                        small.truth.len()
                    };
                    assert_eq!(records.len(), kept, "{place}");
                }
            }
        }
    }
    assert!(flips > 10_000, "{flips} bits were flipped");
}

/// Makes the CRC of a frame fit its changed content, as no fault does.
fn forge(log: &MemoryLog, frame: &SealedFrame, change: impl FnOnce(&mut [u8])) {
    log.tamper(frame.position.segment.0, |bytes| {
        let frame = &mut bytes[frame.position.offset as usize..][..frame.bytes];
        change(frame);
        let payload = u32::from_le_bytes(frame[44..48].try_into().unwrap()) as usize;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&frame[..FRAME_CRC_AT]);
        crc.update(&frame[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + payload]);
        frame[FRAME_CRC_AT..FRAME_HEADER_BYTES].copy_from_slice(&crc.finalize().to_le_bytes());
    });
}

#[test]
fn canary_a_change_under_a_fitting_crc_breaks_the_prefix() {
    let small = small();
    let last = small.frames[4];
    // An account's byte in the last frame's first record.
    forge(&small.log, &last, |frame| frame[FRAME_HEADER_BYTES + 40] ^= 1);
    let (records, outcome) = small.log.read();
    assert_eq!(verdict(&outcome), Verdict::Clean, "{outcome:?}");
    assert_eq!(records.len(), small.truth.len());
    assert!(!is_prefix(&records, &small.truth), "the check of every flip test sees it");
}

#[test]
fn a_frame_with_a_fitting_crc_that_cannot_be_is_damage() {
    type Change = fn(&mut [u8]);
    let forgeries: [(&str, Change); 9] = [
        ("records, not", |frame| frame[40] += 1),
        ("records, not", |frame| frame[40..44].fill(0)),
        ("LSN", |frame| frame[24] += 1),
        ("before the last one", |frame| frame[32..40].fill(0)),
        ("does not follow", |frame| frame[48] ^= 1),
        ("written for segment 3", |frame| frame[16] = 3),
        ("no record has the tag 200", |frame| frame[FRAME_HEADER_BYTES] = 200),
        ("cut off", |frame| frame[FRAME_HEADER_BYTES + 2] = 0xff),
        ("padding", |frame| frame[BLOCK_BYTES - 1] = 1),
    ];
    for (what, change) in forgeries {
        let small = small();
        forge(&small.log, &small.frames[4], change);
        let (records, outcome) = small.log.read();
        let error = outcome.expect_err(what);
        assert!(matches!(error, WalError::Damage { .. }), "{what}: {error}");
        let text = error.to_string();
        assert!(text.contains(what) && text.contains("memory/2.wal"), "{what}: {text}");
        assert!(is_prefix(&records, &small.truth), "{what}");
    }
    let small = small();
    forge(&small.log, &small.frames[4], |frame| frame[4] = 2);
    let error = small.log.read().1.unwrap_err();
    assert!(matches!(error, WalError::NewerFormat { found: 2, .. }), "{error}");
}

#[test]
fn a_lost_frame_before_the_last_is_damage() {
    for lost in 0..4 {
        let small = small();
        let frame = small.frames[lost];
        small.log.write(frame.position, &vec![0; frame.bytes]);
        let (records, outcome) = small.log.read();
        let Err(WalError::Damage { file, offset, lsn, what }) = outcome else {
            panic!("frame {lost} is lost: {outcome:?}")
        };
        // Where a frame is missing at the start of a segment, the chain ended in the one before.
        let end = if lost == 3 {
            Position { segment: SegmentIndex(1), offset: 4 * BLOCK }
        } else {
            frame.position
        };
        assert_eq!((file, offset), (small.log.path(end.segment), end.offset), "{what}");
        assert_eq!(lsn.0 as usize, records.len() + 1);
        assert!(is_prefix(&records, &small.truth));
    }
}

#[test]
fn a_torn_frame_that_rolled_leaves_the_segment_before_as_it_was() {
    let small = small();
    let large = small.frames[3];
    small.log.write(small.frames[4].position, &[0; BLOCK_BYTES]);
    small.log.write(padded(large.position, BLOCK), &[0; BLOCK_BYTES]);
    let (records, outcome) = small.log.read();
    let recovered = outcome.unwrap();
    assert_eq!(records.len(), 5);
    assert_eq!(recovered.end, Position { segment: SegmentIndex(1), offset: 4 * BLOCK });
    let torn = recovered.torn.unwrap();
    assert_eq!((torn.start, torn.bytes), (large.position, BLOCK));
    repair_torn_tail(&small.log, &torn).unwrap();
    let mut writer = small.log.writer();
    let sealed = small.log.commit(&mut writer, 11, &[expired(1)]);
    assert_eq!(sealed.position, recovered.end, "a small frame fits the segment before");
    assert_eq!(small.log.read().0.len(), 6);
}

#[test]
fn stale_and_foreign_frames_never_pass_for_the_next_one() {
    let small = small();
    let behind = padded(small.frames[4].position, BLOCK);
    let block = |frame: &SealedFrame| {
        let image = small.image();
        let segment = &image[frame.position.segment.0 as usize - 1];
        segment[frame.position.offset as usize..][..BLOCK_BYTES].to_vec()
    };
    // Frames of this log, from an earlier segment and from this one: nothing is lost.
    for stale in [&small.frames[0], &small.frames[1], &small.frames[4]] {
        let log = MemoryLog::new(3, 5);
        let mut writer = log.writer();
        log.commit(&mut writer, 10, &samples().into_iter().map(|s| s.1).collect::<Vec<_>>());
        let all: Vec<Record> = (1..=400).map(expired).collect();
        log.commit(&mut writer, 11, &all);
        let end = Position { segment: SegmentIndex(1), offset: 4 * BLOCK };
        log.write(end, &block(stale));
        let (records, outcome) = log.read();
        assert_eq!((records.len(), verdict(&outcome)), (412, Verdict::Torn), "{stale:?}");
    }
    // The next frame of another log.
    let log = small.log.clone();
    let mut foreign = block(&small.frames[4]);
    foreign[8] ^= 1;
    log.write(behind, &foreign);
    forge(&log, &SealedFrame { position: behind, ..small.frames[4] }, |frame| {
        frame[24..32].copy_from_slice(&(small.truth.len() as u64 + 1).to_le_bytes());
    });
    let (records, outcome) = log.read();
    assert_eq!((records.len(), verdict(&outcome)), (small.truth.len(), Verdict::Torn));
    // A stale frame over a frame that others follow.
    let log = small.log.clone();
    log.write(small.frames[1].position, &block(&small.frames[0]));
    assert_eq!(verdict(&log.read().1), Verdict::Damage);
    // A frame that was written to the wrong place, a block too far.
    let log = small.log.clone();
    log.write(behind, &block(&small.frames[4]));
    log.write(small.frames[4].position, &[0; BLOCK_BYTES]);
    let (records, outcome) = log.read();
    assert_eq!((records.len(), verdict(&outcome)), (small.before_last(), Verdict::Damage));
}

#[test]
fn junk_where_no_write_can_have_gone_is_damage() {
    let blocks = (FRAME_BYTES_MAX / BLOCK_BYTES) as u64 + 3;
    let log = MemoryLog::new(3, blocks);
    let mut writer = log.writer();
    let end = padded(log.commit(&mut writer, 1, &[expired(1)]).position, BLOCK);
    let with_junk = |places: &[Position]| {
        let log = log.clone();
        for place in places {
            log.write(*place, &[7]);
        }
        verdict(&log.read().1)
    };
    let reach = FRAME_BYTES_MAX as u64;
    let next = |segment| Position { segment: SegmentIndex(segment), offset: BLOCK };
    assert_eq!(with_junk(&[padded(end, reach - 1)]), Verdict::Torn);
    assert_eq!(with_junk(&[padded(end, reach)]), Verdict::Damage);
    assert_eq!(with_junk(&[next(2), padded(next(2), reach - 1)]), Verdict::Torn);
    assert_eq!(with_junk(&[padded(next(2), reach)]), Verdict::Damage);
    assert_eq!(with_junk(&[next(3)]), Verdict::Damage, "a segment too far");
    assert_eq!(with_junk(&[end, next(2)]), Verdict::Damage, "one write is in one segment");
}

#[test]
fn frames_of_every_size_cross_the_pieces_that_are_read() {
    let log = MemoryLog::new(3, 700);
    let mut writer = log.writer();
    let mut total = 0;
    for round in 0..40_u32 {
        let count = 1 + (round * 7919) % 17_000;
        let records: Vec<Record> = (1..=count).map(expired).collect();
        log.commit(&mut writer, u64::from(round), &records);
        total += u64::from(count);
    }
    let mut next = 1;
    let recovered = recover(&log, None, |entry| {
        assert_eq!(entry.lsn, Lsn(next));
        next += 1;
    });
    let recovered = recovered.unwrap();
    assert_eq!((recovered.records, recovered.frames), (total, 40));
    assert!(recovered.end.segment > SegmentIndex(1), "the log takes more than a segment");
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
