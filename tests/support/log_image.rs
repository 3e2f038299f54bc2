//! Images of small logs, to be cut, flipped and forged, on a storage of which any call can fail;
//! and the table of recovery cases, by which outcomes are judged.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use boxoffice::model::record::Expired;
use boxoffice::model::{Lsn, OrderNumber, Record, SaleId, TimeMs};
use boxoffice::wal::{
    BLOCK_BYTES, Batch, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, Identity, LogStart, LogStorage,
    LogWriter, Position, Recovered, SEGMENT_HEADER_BYTES, SealedFrame, Segment, SegmentHeader,
    SegmentIndex, WalError, recover_from,
};

pub const BLOCK: u64 = BLOCK_BYTES as u64;

/// Where a frame keeps its payload's size, and its CRC.
const PAYLOAD_BYTES_AT: usize = 44;
const FRAME_CRC_AT: usize = 52;

/// Where a segment's header keeps its CRC.
const HEADER_CRC_AT: usize = SEGMENT_HEADER_BYTES - 4;

/// A record as it was read back.
pub type Read = (Lsn, TimeMs, Record);

/// What recovery says of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Clean,
    Torn,
    /// The name of the [`WalError`].
    Refused(String),
}

/// The outcome of a recovery, as the table has it.
pub fn outcome(verdict: &Result<Recovered, WalError>) -> Outcome {
    match verdict {
        Ok(recovered) if recovered.torn.is_none() => Outcome::Clean,
        Ok(_) => Outcome::Torn,
        Err(error) => {
            let debug = format!("{error:?}");
            let name = debug.split([' ', '(', '{']).next().expect("a name");
            Outcome::Refused(name.to_owned())
        }
    }
}

/// The table of recovery cases: the name of each, and its outcome.
pub fn recovery_table() -> Vec<(String, Outcome)> {
    let table = include_str!("../../src/wal/recovery_cases.md");
    let rows = table.lines().skip(2).map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [case, found, outcome] = cells[..] else { panic!("three cells in {row}") };
        assert!(!found.is_empty(), "{row}");
        let outcome = match outcome {
            "clean" => Outcome::Clean,
            "torn" => Outcome::Torn,
            refused => Outcome::Refused(refused.trim_matches('`').to_owned()),
        };
        (case.trim_matches('`').to_owned(), outcome)
    });
    rows.collect()
}

/// The outcome that the table has for a case.
pub fn outcome_of(case: &str) -> Outcome {
    let row = recovery_table().into_iter().find(|(name, _)| name == case);
    row.unwrap_or_else(|| panic!("the table has no case {case}")).1
}

/// A call of a storage that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    List,
    Read,
    Zero,
}

/// The segments of one log by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub identity: Identity,
    pub segments: BTreeMap<u64, Vec<u8>>,
}

impl Image {
    /// Prepared segments of `blocks` blocks each, header included.
    pub fn new(identity: Identity, segments: u64, blocks: u64) -> Self {
        let mut image = Self { identity, segments: BTreeMap::new() };
        for index in 1..=segments {
            image.prepare(Segment { index: SegmentIndex(index), bytes: blocks * BLOCK });
        }
        image
    }

    pub fn prepare(&mut self, segment: Segment) {
        let mut bytes = SegmentHeader { identity: self.identity, segment }.encode().to_vec();
        bytes.resize(segment.bytes as usize, 0);
        self.segments.insert(segment.index.0, bytes);
    }

    pub fn segment(&mut self, index: u64) -> &mut Vec<u8> {
        self.segments.get_mut(&index).expect("the segment is there")
    }

    /// The `bytes` bytes from `position` on.
    pub fn at(&mut self, position: Position, bytes: usize) -> &mut [u8] {
        &mut self.segment(position.segment.0)[position.offset as usize..][..bytes]
    }

    pub fn write(&mut self, position: Position, bytes: &[u8]) {
        self.at(position, bytes.len()).copy_from_slice(bytes);
    }

    /// Writes one frame of these records behind the log's end.
    pub fn commit(&mut self, time: u64, records: &[Record]) -> SealedFrame {
        let recovered = self.read().1.expect("the log is whole");
        self.commit_behind(&recovered, time, records)
    }

    /// Writes one frame of these records where recovery has said that the log goes on.
    pub fn commit_behind(
        &mut self,
        recovered: &Recovered,
        time: u64,
        records: &[Record],
    ) -> SealedFrame {
        let mut writer = LogWriter::new(recovered);
        let mut batch = Batch::new(vec![0xee; FRAME_BYTES_MAX]);
        for record in records {
            writer.append(&mut batch, TimeMs(time), record).expect("the batch has room");
        }
        let sealed = writer.seal(&mut batch).expect("a segment is there");
        self.write(sealed.position, &batch.buffer()[..sealed.bytes]);
        sealed
    }

    /// Changes a frame and makes its CRC fit again, as no fault does.
    pub fn forge(&mut self, frame: &SealedFrame, change: impl FnOnce(&mut [u8])) {
        let frame = self.at(frame.position, frame.bytes);
        change(frame);
        let at = PAYLOAD_BYTES_AT;
        let payload = u32::from_le_bytes(frame[at..at + 4].try_into().expect("four bytes"));
        let mut crc = crc32fast::Hasher::new();
        crc.update(&frame[..FRAME_CRC_AT]);
        crc.update(&frame[FRAME_HEADER_BYTES..][..payload as usize]);
        frame[FRAME_CRC_AT..FRAME_HEADER_BYTES].copy_from_slice(&crc.finalize().to_le_bytes());
    }

    /// Changes a segment's header and makes its CRC fit again.
    pub fn forge_header(&mut self, index: u64, change: impl FnOnce(&mut [u8])) {
        let header = &mut self.segment(index)[..SEGMENT_HEADER_BYTES];
        change(header);
        let crc = crc32fast::hash(&header[..HEADER_CRC_AT]);
        header[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    }

    /// Everything that can be read, and the verdict.
    pub fn read(&self) -> (Vec<Read>, Result<Recovered, WalError>) {
        Disk::new(self.clone()).read()
    }
}

/// An image as a storage, and the one call of it that fails.
pub struct Disk {
    identity: Identity,
    state: Mutex<State>,
}

struct State {
    image: Image,
    calls: Vec<Call>,
    failing: Option<usize>,
    /// Bytes that a failing call of [`Call::Zero`] writes before it fails.
    zeroed_bytes: usize,
}

impl Disk {
    pub fn new(image: Image) -> Self {
        let identity = image.identity;
        let state = State { image, calls: Vec::new(), failing: None, zeroed_bytes: 0 };
        Self { identity, state: Mutex::new(state) }
    }

    /// The call with this number, from 0, fails.
    pub fn failing(self, call: usize) -> Self {
        self.state.lock().expect("no test panics in a call").failing = Some(call);
        self
    }

    /// As [`Self::failing`], but where it is zeros that are written, so many are before it fails.
    pub fn failing_behind(self, call: usize, zeroed_bytes: usize) -> Self {
        self.state.lock().expect("no test panics in a call").zeroed_bytes = zeroed_bytes;
        self.failing(call)
    }

    pub fn image(&self) -> Image {
        self.state.lock().expect("no test panics in a call").image.clone()
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().expect("no test panics in a call").calls.clone()
    }

    /// Everything that can be read, and the verdict.
    pub fn read(&self) -> (Vec<Read>, Result<Recovered, WalError>) {
        self.read_from(None)
    }

    /// As [`Self::read`], behind a snapshot.
    pub fn read_from(&self, start: Option<LogStart>) -> (Vec<Read>, Result<Recovered, WalError>) {
        let mut records = Vec::new();
        let verdict = recover_from(self, Some(self.identity), start, |entry| {
            records.push((entry.lsn, entry.time, entry.record.clone()));
        });
        (records, verdict)
    }

    fn call<R>(&self, call: Call, run: impl FnOnce(&mut State, bool) -> R) -> io::Result<R> {
        let mut state = self.state.lock().expect("no test panics in a call");
        let fails = state.failing == Some(state.calls.len());
        state.calls.push(call);
        let result = run(&mut state, fails);
        if fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(result) }
    }
}

impl LogStorage for Disk {
    fn segments(&self) -> io::Result<Vec<Segment>> {
        self.call(Call::List, |state, _| {
            let segments = state.image.segments.iter();
            let segment = |(index, bytes): (&u64, &Vec<u8>)| Segment {
                index: SegmentIndex(*index),
                bytes: bytes.len() as u64,
            };
            segments.map(segment).collect()
        })
    }

    fn read_at(&self, position: Position, into: &mut [u8]) -> io::Result<()> {
        self.call(Call::Read, |state, _| {
            into.copy_from_slice(state.image.at(position, into.len()));
        })
    }

    fn zero_and_sync(&self, position: Position, bytes: u64) -> io::Result<()> {
        self.call(Call::Zero, |state, fails| {
            let bytes = if fails { state.zeroed_bytes.min(bytes as usize) } else { bytes as usize };
            state.image.at(position, bytes).fill(0);
        })
    }

    fn path(&self, segment: SegmentIndex) -> PathBuf {
        PathBuf::from(format!("image/{segment}.wal"))
    }
}

/// A log that was written through the real writer, and what was written.
#[derive(Clone)]
pub struct Sample {
    pub image: Image,
    pub frames: Vec<SealedFrame>,
    pub truth: Vec<Read>,
}

impl Sample {
    /// A frame for each of these lists, in three segments of `blocks` blocks.
    pub fn new(identity: Identity, blocks: u64, commits: &[(u64, &[Record])]) -> Self {
        let mut image = Image::new(identity, 3, blocks);
        let frames = commits.iter().map(|(time, records)| image.commit(*time, records)).collect();
        let (truth, verdict) = image.read();
        assert_eq!(outcome(&verdict), Outcome::Clean);
        // What recovery says is held against what was written, once.
        let written = commits.iter().flat_map(|(_, records)| records.iter());
        assert!(truth.iter().map(|(_, _, record)| record).eq(written));
        Self { image, frames, truth }
    }

    /// How many records there are up to and including the frame with this number, from 0.
    pub fn records_through(&self, frame: usize) -> usize {
        self.frames[frame].last_lsn.0 as usize
    }

    /// The image before the frame with this number was written.
    pub fn before(&self, frame: usize) -> Image {
        let mut image = self.image.clone();
        for frame in &self.frames[frame..] {
            image.at(frame.position, frame.bytes).fill(0);
        }
        image
    }

    /// What a snapshot says that was made behind the frame with this number.
    pub fn start_behind(&self, frame: usize) -> LogStart {
        let sealed = self.frames[frame];
        let bytes = self.frame_bytes(frame);
        let at = FRAME_CRC_AT;
        LogStart {
            identity: self.image.identity,
            position: further(sealed.position, (sealed.bytes / BLOCK_BYTES) as u64),
            next_lsn: sealed.last_lsn.next(),
            previous_crc: u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")),
            last_time: self.truth[sealed.last_lsn.0 as usize - 1].1,
        }
    }

    /// The frame with this number as it was written.
    pub fn frame_bytes(&self, frame: usize) -> Vec<u8> {
        let SealedFrame { position, bytes, .. } = self.frames[frame];
        self.image.segments[&position.segment.0][position.offset as usize..][..bytes].to_vec()
    }

    /// Bytes of a frame that its CRC covers.
    pub fn used_bytes(&self, frame: usize) -> usize {
        let bytes = self.frame_bytes(frame);
        let at = PAYLOAD_BYTES_AT;
        let payload = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        FRAME_HEADER_BYTES + payload as usize
    }
}

/// The smallest record.
pub fn expired(order: u32) -> Record {
    Record::Expired(Expired { sale: SaleId(1), order: OrderNumber(order) })
}

/// So many of the smallest record.
pub fn many(count: u32) -> Vec<Record> {
    (1..=count).map(expired).collect()
}

/// The place so many blocks further.
pub fn further(position: Position, blocks: u64) -> Position {
    Position { offset: position.offset + blocks * BLOCK, ..position }
}

/// Where the first frame of a segment lies.
pub fn first_of(segment: u64) -> Position {
    Position { segment: SegmentIndex(segment), offset: BLOCK }
}
