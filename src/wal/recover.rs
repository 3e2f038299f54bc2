//! Reading a log back: every record once, in order, and then a verdict on where it ends.
//!
//! # Terms
//!
//! - *intact frame*: magic, log id and version are right, and the CRC fits. A *stray* one has a
//!   right CRC, but is of another log or of no format.
//! - *the chain*: an intact frame continues it if it lies where the frame before ended (or first
//!   in the next segment), was written for this segment, has the expected LSN and the CRC of the
//!   frame before, and its time does not go back.
//! - *the end*: where the last frame of the chain ended. The next frame goes there, or first
//!   into the next segment where it does not fit.
//! - *junk*: a block that is neither zero nor the start of a whole frame, be it of another log.
//!
//! # The verdict
//!
//! | behind the end there is | verdict |
//! |---|---|
//! | zeros only | clean end |
//! | junk within reach of one write | torn tail: zero it, go on |
//! | junk anywhere else | damage: no write ever went there |
//! | an intact frame outside the chain, or a stray one | damage |
//! | a frame of the chain with impossible padding, count or records | damage |
//!
//! *Within reach of one write* is in one segment, and no further than the largest frame from the
//! place where the next frame goes: one frame is in flight at most, and it was never
//! acknowledged. A later frame outside the chain proves that what lay before it was durable; a
//! stale or a stray one was written to the wrong place, perhaps over the last frame; and no torn
//! write has a right CRC over content that cannot be.
//!
//! A log that begins behind a snapshot ([`recover_from`]) is read from the snapshot's place on; the
//! segments before it need not be there. An intact frame in that place whose records the snapshot
//! has already is damage: log and snapshot are not of one history.
//!
//! A flipped bit in the last frame looks like a torn write, and no log can tell them apart; in
//! any earlier frame it is damage. Nor can a log know of files behind its end that are gone.
//! Nothing is changed here; [`repair_torn_tail`] is a call of its own.
//!
//! # Every case
//!
//! *clean*: all of the chain is handed out, and the log goes on behind it. *torn*: likewise, once
//! what lies behind the end is zeroed. Any other outcome is that [`WalError`]; nothing is changed,
//! and what was handed out before is a prefix of the log. `tests/recovery_cases.rs` reads this
//! table and makes each case; the loops of `tests/exhaustive.rs` judge by it.
//!
#![doc = include_str!("recovery_cases.md")]

use std::path::PathBuf;

use super::codec;
use super::error::WalError;
use super::frame::{Candidate, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FrameHeader};
use super::read_ahead::{Window, Windows, read_ahead};
use super::segment::{
    HeaderError, Identity, LogId, Position, SEGMENT_HEADER_BYTES, Segment, SegmentHeader,
    SegmentIndex,
};
use super::storage::LogStorage;
use super::{BLOCK_BYTES, FORMAT_VERSION};
use crate::canary::{Canary, planted};
use crate::model::{Lsn, Record, TimeMs};

/// A record as recovery hands it out.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its number.
    pub lsn: Lsn,
    /// When it was decided: the time of its frame.
    pub time: TimeMs,
    /// Where its bytes start.
    pub position: Position,
    /// Where its frame starts.
    pub frame: Position,
    /// What happened.
    pub record: &'a Record,
}

/// Where a log goes on behind a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogStart {
    /// Whose log it is.
    pub identity: Identity,
    /// Where the next frame lies, if not first in the segment behind.
    pub position: Position,
    /// The LSN of its first record.
    pub next_lsn: Lsn,
    /// The CRC of the frame before; 0 where there is none.
    pub previous_crc: u32,
    /// The time of the frame before; 0 where there is none.
    pub last_time: TimeMs,
}

impl LogStart {
    /// Where a log begins that has no record yet.
    #[must_use]
    pub const fn of_log(identity: Identity) -> Self {
        let position =
            Position { segment: SegmentIndex::FIRST, offset: SEGMENT_HEADER_BYTES as u64 };
        Self { identity, position, next_lsn: Lsn(1), previous_crc: 0, last_time: TimeMs(0) }
    }
}

/// A log that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Whose log it is.
    pub identity: Identity,
    /// The segment in which the chain ends.
    pub segment: Segment,
    /// Where the chain ends.
    pub end: Position,
    /// The LSN that the next record gets.
    pub next_lsn: Lsn,
    /// The CRC of the last frame; 0 where there is none.
    pub previous_crc: u32,
    /// The time of the last frame; 0 where there is none.
    pub last_time: TimeMs,
    /// How many frames were read.
    pub frames: u64,
    /// How many records were read.
    pub records: u64,
    /// What an interrupted write left behind the end.
    pub torn: Option<TornTail>,
    /// The segments behind the end, ready for use once a torn tail is repaired.
    pub prepared: Vec<Segment>,
}

#[cfg(test)]
impl Recovered {
    /// A log of this one segment, in which nothing was written.
    pub(crate) fn empty(identity: Identity, segment: Segment) -> Self {
        Self {
            identity,
            segment,
            end: Position { segment: segment.index, offset: SEGMENT_HEADER_BYTES as u64 },
            next_lsn: Lsn(1),
            previous_crc: 0,
            last_time: TimeMs(0),
            frames: 0,
            records: 0,
            torn: None,
            prepared: Vec::new(),
        }
    }
}

/// What an interrupted write left behind. It was never acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The first block that is not zero.
    pub start: Position,
    /// Bytes from there to the end of the last block that is not zero.
    pub bytes: u64,
    /// How many of them are not zero.
    pub nonzero_bytes: u64,
}

/// Reads the whole log, hands each record to `on_record`, and says where the log ends.
///
/// With `expected` unknown, the first segment says whose log it is. Records handed out before an
/// error are a prefix of the log.
pub fn recover<S: LogStorage>(
    storage: &S,
    expected: Option<Identity>,
    on_record: impl FnMut(Entry<'_>),
) -> Result<Recovered, WalError> {
    recover_from(storage, expected, None, on_record)
}

/// As [`recover`], but reads only what lies behind a snapshot, where `start` says so.
///
/// # Panics
///
/// Where `start` is of another log than `expected`.
pub fn recover_from<S: LogStorage>(
    storage: &S,
    expected: Option<Identity>,
    start: Option<LogStart>,
    on_record: impl FnMut(Entry<'_>),
) -> Result<Recovered, WalError> {
    let expected = expected.or(start.map(|start| start.identity));
    assert!(start.is_none_or(|start| Some(start.identity) == expected), "one log has one id");
    let first = start.map_or(SegmentIndex::FIRST, |start| start.position.segment);
    let mut segments = storage.segments().map_err(|source| WalError::Io {
        path: storage.path(first),
        doing: "list the segments of the log",
        source,
    })?;
    segments.retain(|segment| segment.index >= first);
    check_numbering(storage, first, &segments)?;
    let mut scan = Scan::new(storage, expected, segments[0], start, on_record);
    if scan.end.offset > segments[0].bytes.max(SEGMENT_HEADER_BYTES as u64) {
        let what = "the log is to go on behind a snapshot here, and the file ends before";
        return Err(scan.damage(scan.end, what.into()));
    }
    read_ahead(storage, &segments, |windows| scan.run(windows))?;
    Ok(scan.finish())
}

/// Zeroes a torn tail and makes that durable, so that the log ends cleanly.
pub fn repair_torn_tail<S: LogStorage>(storage: &S, torn: &TornTail) -> Result<(), WalError> {
    storage.zero_and_sync(torn.start, torn.bytes).map_err(|source| WalError::Io {
        path: storage.path(torn.start.segment),
        doing: "zero the torn tail of the log",
        source,
    })
}

/// Whose log it is, by the header of the first segment that is there.
pub fn log_identity<S: LogStorage>(storage: &S) -> Result<Identity, WalError> {
    let first = storage.segments().map(|segments| segments.first().map(|first| first.index));
    let first = first.ok().flatten().unwrap_or(SegmentIndex::FIRST);
    let start = Position { segment: first, offset: 0 };
    let file = storage.path(start.segment);
    let mut block = [0; SEGMENT_HEADER_BYTES];
    match storage.read_at(start, &mut block) {
        Ok(()) => decode_header(&block, file, Lsn(1)).map(|header| header.identity),
        Err(source) => Err(WalError::Io { path: file, doing: "read the log", source }),
    }
}

pub(super) fn decode_header(
    block: &[u8],
    file: PathBuf,
    lsn: Lsn,
) -> Result<SegmentHeader, WalError> {
    SegmentHeader::decode(block).map_err(|error| match error {
        HeaderError::Magic => WalError::NotASegment { file },
        HeaderError::Newer(found) => {
            WalError::NewerFormat { file, found, supported: FORMAT_VERSION }
        }
        HeaderError::Damaged => {
            let what = "the segment's header is not intact".into();
            WalError::Damage { file, offset: 0, lsn, what }
        }
    })
}

fn check_numbering<S: LogStorage>(
    storage: &S,
    first: SegmentIndex,
    segments: &[Segment],
) -> Result<(), WalError> {
    let mut index = first;
    for segment in segments {
        if segment.index != index {
            break;
        }
        index = index.next();
    }
    if segments.last().is_some_and(|last| last.index.next() == index) {
        return Ok(());
    }
    Err(WalError::MissingSegment { file: storage.path(index), index })
}

/// What a block holds.
pub(super) enum Found {
    Zeros,
    Junk,
    /// A frame may start here, but the window ends inside it.
    Incomplete,
    /// An intact frame of a newer version.
    Newer(u16),
    /// A whole frame that this log never has.
    Stray,
    Intact(FrameHeader, u32),
}

struct Scan<'s, S, F> {
    storage: &'s S,
    on_record: F,
    identity: Option<Identity>,
    start: Option<LogStart>,
    segment: Segment,
    end: Position,
    next_lsn: Lsn,
    previous_crc: u32,
    last_time: TimeMs,
    frames: u64,
    records: u64,
    torn: Option<TornTail>,
    prepared: Vec<Segment>,
}

impl<'s, S: LogStorage, F: FnMut(Entry<'_>)> Scan<'s, S, F> {
    fn new(
        storage: &'s S,
        expected: Option<Identity>,
        first: Segment,
        start: Option<LogStart>,
        on_record: F,
    ) -> Self {
        let head = Position { segment: first.index, offset: SEGMENT_HEADER_BYTES as u64 };
        Self {
            storage,
            on_record,
            identity: expected,
            start,
            segment: first,
            end: start.map_or(head, |start| start.position),
            next_lsn: start.map_or(Lsn(1), |start| start.next_lsn),
            previous_crc: start.map_or(0, |start| start.previous_crc),
            last_time: start.map_or(TimeMs(0), |start| start.last_time),
            frames: 0,
            records: 0,
            torn: None,
            prepared: Vec::new(),
        }
    }

    fn run(&mut self, mut windows: Windows) -> Result<(), WalError> {
        let mut unused = 0;
        loop {
            let window = windows.next(unused).map_err(|failed| WalError::Io {
                path: self.storage.path(failed.segment),
                doing: "read the log",
                source: failed.source,
            })?;
            let Some(window) = window else { return Ok(()) };
            let used = self.window(&window)?;
            unused = window.bytes.len() - used;
        }
    }

    /// Reads what the window holds in whole, and returns how many bytes that was.
    fn window(&mut self, window: &Window<'_>) -> Result<usize, WalError> {
        let mut at = 0;
        if window.offset == 0 {
            self.segment_header(window)?;
            at = SEGMENT_HEADER_BYTES;
        }
        at = at.max(self.bytes_before_start(window));
        let log = self.identity.expect("the first header set it").log;
        while at < window.bytes.len() {
            let offset = window.offset + at as u64;
            let position = Position { segment: window.segment.index, offset };
            let rest = &window.bytes[at..];
            match find(rest, log, window.segment.bytes - offset) {
                Found::Incomplete => break,
                Found::Zeros => at += BLOCK_BYTES,
                Found::Newer(found) => {
                    let file = self.storage.path(position.segment);
                    return Err(WalError::NewerFormat { file, found, supported: FORMAT_VERSION });
                }
                Found::Stray => {
                    let what = "a frame that is none of this log's was written here";
                    return Err(self.damage(position, what.into()));
                }
                Found::Intact(header, _) if self.is_older_than_start(position, &header) => {
                    let what = format!(
                        "the log has LSN {} here, and the snapshot before it ends at LSN {}: they \
                         are not of one history",
                        header.first_lsn,
                        self.next_lsn.0 - 1
                    );
                    return Err(self.damage(position, what));
                }
                Found::Intact(header, crc) => {
                    self.check_chain(position, &header)?;
                    self.accept(window.segment, position, &header, rest)?;
                    self.previous_crc = crc;
                    at += header.frame_bytes();
                }
                Found::Junk => {
                    self.junk(position, &rest[..BLOCK_BYTES])?;
                    at += BLOCK_BYTES;
                }
            }
        }
        Ok(at)
    }

    /// How many bytes of the window lie before the place where the log is to be read from.
    fn bytes_before_start(&self, window: &Window<'_>) -> usize {
        let start = self.start.map(|start| start.position);
        let start = start.filter(|start| start.segment == window.segment.index);
        let before = start.map_or(0, |start| start.offset.saturating_sub(window.offset));
        before.min(window.bytes.len() as u64) as usize
    }

    /// Whether a frame lies where the log is to go on, with records that the snapshot has.
    fn is_older_than_start(&self, position: Position, header: &FrameHeader) -> bool {
        self.start.is_some_and(|start| start.position == position)
            && header.segment == position.segment
            && self.is_stale(header)
            && self.frames == 0
    }

    fn segment_header(&mut self, window: &Window<'_>) -> Result<(), WalError> {
        let Segment { index, bytes } = window.segment;
        let file = || self.storage.path(index);
        let start = Position { segment: index, offset: 0 };
        if window.bytes.len() < SEGMENT_HEADER_BYTES {
            return Err(self.damage(start, format!("the file has only {bytes} bytes")));
        }
        let header = decode_header(window.bytes, file(), self.next_lsn)?;
        let (found, expected) = (header.identity, *self.identity.get_or_insert(header.identity));
        if planted(Canary::AcceptStaleSegment) {
            if index != self.segment.index {
                self.prepared.push(window.segment);
            }
            return Ok(());
        }
        if found.log != expected.log {
            return Err(WalError::ForeignLog {
                file: file(),
                found: found.log,
                expected: expected.log,
            });
        }
        if found != expected {
            return Err(WalError::WrongShard { file: file(), found, expected });
        }
        if header.segment != window.segment {
            let Segment { index: header_index, bytes: header_bytes } = header.segment;
            let what = format!(
                "the header is that of segment {header_index} of {header_bytes} bytes, but the \
                 file has the number {index} and {bytes} bytes"
            );
            return Err(self.damage(start, what));
        }
        if index != self.segment.index {
            self.prepared.push(window.segment);
        }
        Ok(())
    }

    /// Whether the chain has every record of the frame already. One that claims to have none,
    /// which no frame does, counts as one.
    fn is_stale(&self, header: &FrameHeader) -> bool {
        header.first_lsn.0.saturating_add(u64::from(header.records.max(1))) <= self.next_lsn.0
    }

    /// Whether a frame at `position` is where the writer puts the next one.
    fn is_next_position(&self, position: Position) -> bool {
        let first =
            Position { segment: self.end.segment.next(), offset: SEGMENT_HEADER_BYTES as u64 };
        position == self.end || position == first
    }

    fn check_chain(&self, position: Position, header: &FrameHeader) -> Result<(), WalError> {
        if self.is_stale(header) {
            let what = format!(
                "an earlier frame, with LSN {}, was written here a second time",
                header.first_lsn
            );
            return Err(self.damage(position, what));
        }
        let (lsn, next) = (header.first_lsn, self.next_lsn);
        if self.torn.is_some() || !self.is_next_position(position) || lsn != next {
            let what = format!(
                "the chain of frames ends here, but {}: offset {} has an intact frame with LSN \
                 {lsn}: what lay before it is lost",
                self.storage.path(position.segment).display(),
                position.offset,
            );
            return Err(self.damage(self.end, what));
        }
        let what = if header.segment != position.segment {
            format!("the frame was written for segment {}", header.segment)
        } else if header.previous_crc != self.previous_crc {
            "the frame does not follow the frame before it".into()
        } else if header.time < self.last_time {
            format!("the frame's time {} is before the last one, {}", header.time, self.last_time)
        } else {
            return Ok(());
        };
        Err(self.damage(position, what))
    }

    /// Hands out the records of a frame that continues the chain.
    fn accept(
        &mut self,
        segment: Segment,
        position: Position,
        header: &FrameHeader,
        frame: &[u8],
    ) -> Result<(), WalError> {
        let (used, padded) = (header.used_bytes(), header.frame_bytes());
        if !is_zero(&frame[used..padded]) {
            return Err(self.damage(position, "the frame's padding is not zero".into()));
        }
        let mut at = FRAME_HEADER_BYTES;
        let mut records = 0;
        while at < used {
            let record_position = Position { offset: position.offset + at as u64, ..position };
            let (record, bytes) = codec::decode(&frame[at..used])
                .map_err(|error| self.damage(record_position, error.to_string()))?;
            if !(planted(Canary::SkipRecord) && matches!(record, Record::Extended(_))) {
                (self.on_record)(Entry {
                    lsn: self.next_lsn,
                    time: header.time,
                    position: record_position,
                    frame: position,
                    record: &record,
                });
            }
            self.next_lsn = self.next_lsn.next();
            at += bytes;
            records += 1;
        }
        if records != header.records {
            let what = format!("the frame has {records} records, not {}", header.records);
            return Err(self.damage(position, what));
        }
        self.segment = segment;
        self.prepared.retain(|prepared| prepared.index > segment.index);
        self.end = Position { offset: position.offset + padded as u64, ..position };
        self.last_time = header.time;
        self.frames += 1;
        self.records += u64::from(records);
        Ok(())
    }

    /// Takes a block of junk for part of a torn tail, where a torn write can have put it.
    fn junk(&mut self, position: Position, block: &[u8]) -> Result<(), WalError> {
        let start = if position.segment == self.end.segment {
            self.end.offset
        } else {
            SEGMENT_HEADER_BYTES as u64
        };
        let is_in_reach = position.segment <= self.end.segment.next()
            && position.offset - start < FRAME_BYTES_MAX as u64
            && self.torn.is_none_or(|torn| torn.start.segment == position.segment);
        if !is_in_reach {
            let what = "there are bytes where nothing was written yet".into();
            return Err(self.damage(position, what));
        }
        let torn =
            self.torn.get_or_insert(TornTail { start: position, bytes: 0, nonzero_bytes: 0 });
        torn.bytes = position.offset + BLOCK_BYTES as u64 - torn.start.offset;
        torn.nonzero_bytes += block.iter().filter(|&&byte| byte != 0).count() as u64;
        Ok(())
    }

    fn damage(&self, position: Position, what: String) -> WalError {
        let file = self.storage.path(position.segment);
        WalError::Damage { file, offset: position.offset, lsn: self.next_lsn, what }
    }

    fn finish(self) -> Recovered {
        Recovered {
            identity: self.identity.expect("every segment has a header"),
            segment: self.segment,
            end: self.end,
            next_lsn: self.next_lsn,
            previous_crc: self.previous_crc,
            last_time: self.last_time,
            frames: self.frames,
            records: self.records,
            torn: self.torn,
            prepared: self.prepared,
        }
    }
}

/// What starts at the first block of `rest`, with `segment_rest` bytes left in the segment.
pub(super) fn find(rest: &[u8], log: LogId, segment_rest: u64) -> Found {
    let Some(candidate) = Candidate::read(rest) else {
        return if is_zero(&rest[..BLOCK_BYTES]) { Found::Zeros } else { Found::Junk };
    };
    let frame_bytes = candidate.header.frame_bytes();
    if frame_bytes as u64 > segment_rest {
        Found::Junk
    } else if frame_bytes > rest.len() {
        Found::Incomplete
    } else if !candidate.is_intact(rest) {
        Found::Junk
    } else if candidate.header.log != log || candidate.version == 0 {
        Found::Stray
    } else if candidate.version > FORMAT_VERSION {
        Found::Newer(candidate.version)
    } else {
        Found::Intact(candidate.header, candidate.crc)
    }
}

/// Lanes of bytes are folded without a branch, so that this runs at the speed of memory.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let mut lanes = bytes.chunks_exact(64);
    lanes.all(|lane| lane.iter().fold(0, |any, &byte| any | byte) == 0)
        && lanes.remainder().iter().all(|&byte| byte == 0)
}
