//! What recovery makes of a log that was cut, flipped, mixed up or lied about. The truth of every
//! test is the list of records that was written: whatever happens, what is read back is a prefix
//! of it, and nothing that a later frame stands on is ever given up.

use boxoffice::model::{Lsn, Record, TimeMs};
use boxoffice::wal::{
    BLOCK_BYTES, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, LogStorage, Position, Recovered, SealedFrame,
    Segment, SegmentIndex, WalError, recover, repair_torn_tail,
};

#[path = "support/log_memory.rs"]
mod log_memory;
use log_memory::{MemoryLog, Read, expired, padded, samples};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Where a frame keeps its CRC.
const FRAME_CRC_AT: usize = 52;

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
    // Frames of this log, from an earlier segment and from this one: no torn write is whole.
    for stale in [&small.frames[0], &small.frames[1], &small.frames[4]] {
        let log = MemoryLog::new(3, 5);
        let mut writer = log.writer();
        let first: Vec<Record> = samples().into_iter().map(|(_, record)| record).collect();
        log.commit(&mut writer, 10, &first);
        let all: Vec<Record> = (1..=400).map(expired).collect();
        log.commit(&mut writer, 11, &all);
        let end = Position { segment: SegmentIndex(1), offset: 4 * BLOCK };
        log.write(end, &block(stale));
        let (records, outcome) = log.read();
        let whole = first.len() + all.len();
        assert_eq!((records.len(), verdict(&outcome)), (whole, Verdict::Damage), "{stale:?}");
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
    assert_eq!((records.len(), verdict(&outcome)), (small.truth.len(), Verdict::Damage));
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
