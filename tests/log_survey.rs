//! What a survey makes of a damaged log, and of one that is being written.
//!
//! The truth is the list of records that was written. Whatever single frame is damaged, the
//! records before it are the chain, and every record behind it is found.

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use boxoffice::model::{Lsn, Record};
use boxoffice::wal::{
    BLOCK_BYTES, Bounded, FRAME_HEADER_BYTES, LogStorage, LogWriter, Position, Segment,
    SegmentIndex, Survey, Surveyed, WalError, recover, survey,
};

#[path = "support/log_memory.rs"]
#[allow(dead_code, reason = "each test program uses its own part of this")]
mod log_memory;
use log_memory::{IDENTITY, MemoryLog, expired};

/// Three segments of five blocks, of which two are in use: seven frames of two records each.
fn seven_frames() -> MemoryLog {
    let log = MemoryLog::new(3, 5);
    let mut writer = log.writer();
    for frame in 0..7 {
        log.commit(&mut writer, 10 + frame, &two_records(frame as u32));
    }
    log
}

fn two_records(frame: u32) -> [Record; 2] {
    [expired(2 * frame + 1), expired(2 * frame + 2)]
}

/// The LSNs of the chain, and of what is beyond.
fn read(log: &impl LogStorage) -> (Vec<u64>, Vec<u64>, Survey) {
    let (mut chain, mut beyond) = (Vec::new(), Vec::new());
    let survey = survey(log, Some(IDENTITY), None, |part| match part {
        Surveyed::Chain(entry) => {
            assert_eq!(*entry.record, expired(entry.lsn.0 as u32), "a record keeps its number");
            chain.push(entry.lsn.0);
        }
        Surveyed::Beyond(entry) => {
            assert_eq!(*entry.record, expired(entry.lsn.0 as u32), "a record keeps its number");
            beyond.push(entry.lsn.0);
        }
    });
    (chain, beyond, survey.expect("memory can be read"))
}

#[test]
fn every_flipped_byte_costs_its_own_frame_alone() {
    let log = seven_frames();
    for frame in 0..6_u64 {
        let (segment, row) = (frame / 4 + 1, frame % 4 + 1);
        let start = row as usize * BLOCK_BYTES;
        let image = log.image();
        let frame_bytes = &image[segment as usize - 1][start..start + BLOCK_BYTES];
        let payload = u32::from_le_bytes(frame_bytes[44..48].try_into().expect("four bytes"));
        for byte in 0..FRAME_HEADER_BYTES + payload as usize {
            let log = log.clone();
            log.tamper(segment, |bytes| bytes[start + byte] ^= 0x40);
            let (chain, beyond, survey) = read(&log);
            let lost = 2 * frame + 1;
            assert!(chain.into_iter().eq(1..lost), "frame {frame}, byte {byte}");
            assert!(beyond.into_iter().eq(lost + 2..=14), "frame {frame}, byte {byte}");
            let chain = survey.chain.expect("there is a chain");
            assert_eq!((chain.next_lsn, survey.damages.len()), (Lsn(lost), 1));
            assert_eq!(survey.beyond.records, 14 - lost - 1);
        }
    }
}

#[test]
fn a_whole_log_has_nothing_beyond() {
    let (chain, beyond, survey) = read(&seven_frames());
    assert!(chain.into_iter().eq(1..=14) && beyond.is_empty());
    assert!(survey.damages.is_empty() && survey.chain.is_some());
}

#[test]
fn a_damaged_header_costs_its_segment_and_hides_no_record() {
    for segment in [1, 2] {
        for byte in [0, 16, 24, 32, 4000, 4092] {
            let log = seven_frames();
            log.tamper(segment, |bytes| bytes[byte] ^= 1);
            let (chain, beyond, survey) = read(&log);
            let kept = if segment == 1 { 0 } else { 8 };
            let places: Vec<u64> = chain.iter().chain(&beyond).copied().collect();
            assert!(places.into_iter().eq(1..=14), "segment {segment}, byte {byte}");
            assert_eq!(chain.len(), kept);
            assert!(!survey.damages.is_empty() && survey.chain.is_some() == (segment == 2));
        }
    }
}

#[test]
fn two_damages_end_the_chain_at_the_first() {
    let log = seven_frames();
    log.tamper(1, |bytes| bytes[2 * BLOCK_BYTES + 60] ^= 1);
    log.tamper(2, |bytes| bytes[0] ^= 1);
    let (chain, beyond, survey) = read(&log);
    assert_eq!((chain, beyond), (vec![1, 2], vec![5, 6, 7, 8, 9, 10, 11, 12, 13, 14]));
    assert!(matches!(survey.damages[..], [WalError::Damage { .. }]), "{:?}", survey.damages);
}

/// A log that a server goes on with: each read finds it five frames further.
struct Written {
    log: MemoryLog,
    server: Mutex<(LogWriter, u32)>,
}

impl Written {
    fn new() -> Self {
        let log = MemoryLog::new(6, 5);
        let writer = log.writer();
        let written = Self { log, server: Mutex::new((writer, 0)) };
        (0..3).for_each(|_| written.write());
        written
    }

    fn write(&self) {
        let (writer, frame) = &mut *self.server.lock().expect("nobody panicked");
        // Room for 24 frames.
        if *frame < 24 {
            self.log.commit(writer, 10, &two_records(*frame));
            *frame += 1;
        }
    }
}

impl LogStorage for Written {
    fn segments(&self) -> io::Result<Vec<Segment>> {
        self.log.segments()
    }

    fn read_at(&self, position: Position, into: &mut [u8]) -> io::Result<()> {
        self.log.read_at(position, into)?;
        (0..5).for_each(|_| self.write());
        Ok(())
    }

    fn zero_and_sync(&self, position: Position, bytes: u64) -> io::Result<()> {
        self.log.zero_and_sync(position, bytes)
    }

    fn path(&self, segment: SegmentIndex) -> PathBuf {
        self.log.path(segment)
    }
}

#[test]
fn a_log_that_is_being_written_is_read_up_to_a_moment() {
    let written = Written::new();
    let frozen = Bounded::freeze(&written).expect("memory can be read");
    let (chain, beyond, survey) = read(&frozen);
    assert!(chain.len() >= 6 && beyond.is_empty() && survey.damages.is_empty());
    assert!(chain.iter().copied().eq(1..=chain.len() as u64));
    // Read without that care, the same log looks damaged.
    let naive = recover(&Written::new(), Some(IDENTITY), |_| ());
    assert!(matches!(naive, Err(WalError::Damage { .. })), "{naive:?}");
}
