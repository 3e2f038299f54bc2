//! A copy of a log under another id, up to a record or a time.
//!
//! A restored log goes on otherwise than the original did: the two must never be taken for each
//! other, and no segment of the one for one of the other. So every frame gets the new id, and with
//! it another CRC, and the frame behind it the CRC of that one. Nothing moves: each frame keeps its
//! place, its LSN and its time, and snapshots find the log where they left it.
//!
//! A cut inside a frame leaves a frame of fewer records.

use std::collections::BTreeMap;
use std::io;

use super::BLOCK_BYTES;
use super::codec;
use super::error::WalError;
use super::frame::{Candidate, FRAME_HEADER_BYTES, FrameHeader};
use super::read_ahead::{Window, Windows, read_ahead};
use super::recover::{LogStart, Recovered, recover_from};
use super::segment::{Identity, Position, SEGMENT_HEADER_BYTES, Segment, SegmentHeader};
use super::storage::LogStorage;
use crate::model::{Lsn, TimeMs};

/// How far a log is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To its end.
    End,
    /// This record is the last one.
    Lsn(Lsn),
    /// The last frame of this time or earlier is the last one.
    Time(TimeMs),
}

/// A log that was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restamped {
    /// The last record of the copy; the one before `start` where the copy has none.
    pub last_lsn: Lsn,
    /// Its time.
    pub last_time: TimeMs,
    /// The log that was copied, to its end.
    pub original: Recovered,
    /// The CRCs that the chain has now behind the records that were asked for.
    pub crcs: BTreeMap<Lsn, u32>,
}

/// Copies the log from `start` on, under the identity `to`, and hands out what is to be written:
/// the header of each segment that is used, and each frame. The log is read to its end first, so
/// that nothing is written where it is damaged. A torn tail is left out.
///
/// `crcs_at` are the last records of snapshots, whose headers name the CRC of the frame there.
pub fn restamp<S: LogStorage>(
    storage: &S,
    start: Option<LogStart>,
    to: Identity,
    until: Until,
    crcs_at: &[Lsn],
    write: impl FnMut(Segment, u64, &[u8]) -> io::Result<()>,
) -> Result<Restamped, WalError> {
    let original = recover_from(storage, None, start, |_| ())?;
    let mut segments = storage.segments().map_err(|source| WalError::Io {
        path: storage.path(original.segment.index),
        doing: "list the segments of the log",
        source,
    })?;
    let position = start.map(|start| start.position);
    let first = position.map_or(segments[0].index, |position| position.segment);
    segments.retain(|segment| (first..=original.segment.index).contains(&segment.index));
    let mut copy = Copy {
        storage,
        from: original.identity,
        to,
        until,
        start: position.unwrap_or(Position { segment: first, offset: 0 }),
        next_lsn: start.map_or(Lsn(1), |start| start.next_lsn),
        end_lsn: original.next_lsn,
        previous_crc: start.map_or(0, |start| start.previous_crc),
        last_time: start.map_or(TimeMs(0), |start| start.last_time),
        crcs: crcs_at.iter().map(|lsn| (*lsn, 0)).collect(),
        frame: Vec::new(),
        opened: None,
        is_done: false,
        write,
    };
    // The first segment is there even where nothing is in it.
    copy.open(segments[0])?;
    copy.note_crc();
    copy.is_done = copy.next_lsn == copy.end_lsn;
    read_ahead(storage, &segments, |windows| copy.run(windows))?;
    Ok(Restamped {
        last_lsn: Lsn(copy.next_lsn.0 - 1),
        last_time: copy.last_time,
        crcs: copy.crcs,
        original,
    })
}

struct Copy<'s, S, W> {
    storage: &'s S,
    from: Identity,
    to: Identity,
    until: Until,
    start: Position,
    next_lsn: Lsn,
    end_lsn: Lsn,
    previous_crc: u32,
    last_time: TimeMs,
    crcs: BTreeMap<Lsn, u32>,
    /// The frame that is being changed.
    frame: Vec<u8>,
    /// The last segment whose header was written.
    opened: Option<Segment>,
    is_done: bool,
    write: W,
}

impl<S: LogStorage, W: FnMut(Segment, u64, &[u8]) -> io::Result<()>> Copy<'_, S, W> {
    fn run(&mut self, mut windows: Windows) -> Result<(), WalError> {
        let mut unused = 0;
        while !self.is_done {
            let window = windows.next(unused).map_err(|failed| WalError::Io {
                path: self.storage.path(failed.segment),
                doing: "read the log",
                source: failed.source,
            })?;
            let window = window.expect("the log has the records that it was seen to have");
            unused = window.bytes.len() - self.window(&window)?;
        }
        Ok(())
    }

    /// Copies the frames that lie in the window in whole, and returns how many bytes that was.
    fn window(&mut self, window: &Window<'_>) -> Result<usize, WalError> {
        let mut at = if window.offset == 0 { SEGMENT_HEADER_BYTES } else { 0 };
        if window.segment.index == self.start.segment {
            let before = self.start.offset.saturating_sub(window.offset);
            at = at.max(before.min(window.bytes.len() as u64) as usize);
        }
        while at < window.bytes.len() && !self.is_done {
            let rest = &window.bytes[at..];
            let header = Candidate::read(rest).map(|candidate| candidate.header);
            let is_next = |header: &FrameHeader| {
                header.log == self.from.log
                    && header.segment == window.segment.index
                    && header.first_lsn == self.next_lsn
            };
            let Some(header) = header.filter(is_next) else {
                at += BLOCK_BYTES;
                continue;
            };
            if header.frame_bytes() > rest.len() {
                break;
            }
            self.copy(window.segment, window.offset + at as u64, header, rest)?;
            at += header.frame_bytes();
        }
        Ok(at.min(window.bytes.len()))
    }

    fn copy(
        &mut self,
        segment: Segment,
        offset: u64,
        mut header: FrameHeader,
        frame: &[u8],
    ) -> Result<(), WalError> {
        let kept = match self.until {
            Until::End => header.records,
            Until::Lsn(last) => {
                let kept = (last.0 + 1).saturating_sub(header.first_lsn.0);
                u32::try_from(kept).unwrap_or(u32::MAX).min(header.records)
            }
            Until::Time(last) if header.time <= last => header.records,
            Until::Time(_) => 0,
        };
        if kept == 0 {
            self.is_done = true;
            return Ok(());
        }
        let payload = kept_bytes(&header, kept, frame);
        self.is_done = kept < header.records;
        header.log = self.to.log;
        header.previous_crc = self.previous_crc;
        header.records = kept;
        header.payload_bytes = payload as u32;
        self.frame.clear();
        self.frame.extend_from_slice(&frame[..FRAME_HEADER_BYTES + payload]);
        self.frame.resize(header.frame_bytes(), 0);
        self.previous_crc = header.restamp(&mut self.frame);
        if self.opened.is_none_or(|opened| opened != segment) {
            self.open(segment)?;
        }
        self.put(segment, offset)?;
        self.next_lsn = Lsn(header.first_lsn.0 + u64::from(kept));
        self.last_time = header.time;
        self.note_crc();
        self.is_done |= self.next_lsn == self.end_lsn;
        Ok(())
    }

    /// Writes the header of a segment.
    fn open(&mut self, segment: Segment) -> Result<(), WalError> {
        let header = SegmentHeader { identity: self.to, segment }.encode();
        self.opened = Some(segment);
        (self.write)(segment, 0, &header).map_err(|source| self.failed(segment, source))
    }

    fn put(&mut self, segment: Segment, offset: u64) -> Result<(), WalError> {
        (self.write)(segment, offset, &self.frame).map_err(|source| self.failed(segment, source))
    }

    fn failed(&self, segment: Segment, source: io::Error) -> WalError {
        WalError::Io { path: self.storage.path(segment.index), doing: "copy the log", source }
    }

    fn note_crc(&mut self) {
        if let Some(crc) = self.crcs.get_mut(&Lsn(self.next_lsn.0 - 1)) {
            *crc = self.previous_crc;
        }
    }
}

/// Bytes of the first `kept` records of a frame.
fn kept_bytes(header: &FrameHeader, kept: u32, frame: &[u8]) -> usize {
    if kept == header.records {
        return header.payload_bytes as usize;
    }
    let payload = &frame[FRAME_HEADER_BYTES..header.used_bytes()];
    (0..kept).fold(0, |at, _| {
        let (_, bytes) = codec::decode(&payload[at..]).expect("the log was read to its end");
        at + bytes
    })
}
