//! Reading a log that may be damaged: what can be relied on, what is wrong, and what can still
//! be read behind it.
//!
//! The verdict is that of recovery, by recovery itself, so that a tool never says other than the
//! server would. Where recovery refuses, the log is read again as if it ended at the damage: that
//! is the *chain*, all that a repaired log can keep. Then every block behind the chain is looked
//! at for intact frames of this log: that is what is *beyond*, and would be lost.
//!
//! A segment file that is shorter or longer than its header says is damage; its frames count for
//! the chain as far as they continue it.

use super::BLOCK_BYTES;
use super::bounded::Bounded;
use super::codec;
use super::error::WalError;
use super::frame::{Candidate, FRAME_HEADER_BYTES, FrameHeader};
use super::read_ahead::{Window, Windows, read_ahead};
use super::recover::{Entry, Found, LogStart, Recovered, find, recover_from};
use super::segment::{
    Identity, LogId, Position, SEGMENT_HEADER_BYTES, Segment, SegmentHeader, SegmentIndex,
};
use super::storage::LogStorage;
use crate::model::{Lsn, TimeMs};

/// What a log is worth.
#[derive(Debug)]
pub struct Survey {
    /// The log up to the first damage, or to its end. `None` where not even its first segment
    /// can be read.
    pub chain: Option<Recovered>,
    /// Everything that keeps a server from opening it; the last one is where the chain ends.
    pub damages: Vec<WalError>,
    /// What can be read behind the chain.
    pub beyond: Beyond,
}

/// The intact frames behind the chain that have records which the chain does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beyond {
    /// How many frames.
    pub frames: u64,
    /// How many of their records can be read.
    pub records: u64,
    /// The lowest and the highest LSN of those records.
    pub lsns: Option<(Lsn, Lsn)>,
    /// The earliest and the latest time of those frames.
    pub times: Option<(TimeMs, TimeMs)>,
}

/// A record, and which part of the log it lies in.
#[derive(Clone, Copy, Debug)]
pub enum Surveyed<'a> {
    /// A record of the chain, in order.
    Chain(Entry<'a>),
    /// A record behind the damage, in the order of the files.
    Beyond(Entry<'a>),
}

/// Reads all that can be read of a log from `start` on, and changes nothing. Without a start, a
/// log begins with its first segment.
///
/// # Errors
///
/// Where the system refuses to read, or a newer version wrote the log: neither is damage.
pub fn survey<S: LogStorage>(
    storage: &S,
    expected: Option<Identity>,
    start: Option<LogStart>,
    mut on_part: impl FnMut(Surveyed<'_>),
) -> Result<Survey, WalError> {
    let segments = storage.segments().map_err(|source| WalError::Io {
        path: storage.path(SegmentIndex::FIRST),
        doing: "list the segments of the log",
        source,
    })?;
    let expected = expected.or(start.map(|start| start.identity));
    let first = start.map_or(SegmentIndex::FIRST, |start| start.position.segment);
    let first_lsn = start.map_or(Lsn(1), |start| start.next_lsn);
    let mut handed_out = Lsn(0);
    let mut on_entry = |entry: Entry<'_>| {
        if entry.lsn > handed_out {
            handed_out = entry.lsn;
            on_part(Surveyed::Chain(entry));
        }
    };
    let mut damages = Vec::new();
    let mut chain =
        keep_damage(recover_from(storage, expected, start, &mut on_entry), &mut damages)?;
    let readable = if chain.is_none() { readable(storage, first, &segments)? } else { Vec::new() };
    let mut end = first_end(&damages, &segments, storage);
    while chain.is_none() {
        let before = Bounded::before(storage, readable.iter().copied(), end);
        if before.is_empty() {
            break;
        }
        chain = keep_damage(recover_from(&before, expected, start, &mut on_entry), &mut damages)?;
        if chain.is_none() {
            let earlier = damages.last().and_then(|error| place(error, &segments, storage));
            let earlier = earlier.expect("what is bounded lacks no segment");
            assert!(earlier < end, "what is bounded has no damage behind its end");
            end = earlier;
        }
    }
    damages.dedup_by_key(|damage| damage.to_string());
    let mut beyond = Beyond::default();
    let log = chain.as_ref().map(|chain| chain.identity).or(expected).map(|whose| whose.log);
    if let (false, Some(log)) = (damages.is_empty(), log) {
        let next_lsn = chain.as_ref().map_or(first_lsn, |chain| chain.next_lsn);
        let from = chain.as_ref().map_or(first, |chain| chain.end.segment);
        let rest: Vec<Segment> = segments.into_iter().filter(|rest| rest.index >= from).collect();
        let mut salvage = Salvage { log, next_lsn, beyond: &mut beyond, on_part };
        read_ahead(storage, &rest, |windows| salvage.run(storage, windows))?;
    }
    Ok(Survey { chain, damages, beyond })
}

/// The header of a segment.
pub fn segment_header<S: LogStorage>(
    storage: &S,
    segment: SegmentIndex,
) -> Result<SegmentHeader, WalError> {
    let start = Position { segment, offset: 0 };
    let mut block = [0; SEGMENT_HEADER_BYTES];
    let path = storage.path(segment);
    match storage.read_at(start, &mut block) {
        Ok(()) => super::recover::decode_header(&block, path, Lsn(1)),
        Err(source) => Err(WalError::Io { path, doing: "read the log", source }),
    }
}

/// Where a log goes on whose first segments are gone, as the first frame that is there says it:
/// for readers that want all there is. `None` where there is no such frame.
pub fn first_frame<S: LogStorage>(storage: &S) -> Result<Option<LogStart>, WalError> {
    let failed = |segment: SegmentIndex| {
        let path = storage.path(segment);
        move |source| WalError::Io { path, doing: "read the log", source }
    };
    let segments = storage.segments().map_err(failed(SegmentIndex::FIRST))?;
    let Some(first) = segments.first() else { return Ok(None) };
    if first.bytes < (SEGMENT_HEADER_BYTES + BLOCK_BYTES) as u64 {
        return Ok(None);
    }
    let identity = match segment_header(storage, first.index) {
        Ok(header) => header.identity,
        Err(error @ WalError::Io { .. }) => return Err(error),
        Err(_) => return Ok(None),
    };
    let position = Position { segment: first.index, offset: SEGMENT_HEADER_BYTES as u64 };
    let mut block = [0; BLOCK_BYTES];
    storage.read_at(position, &mut block).map_err(failed(first.index))?;
    let frame = Candidate::read(&block).map(|candidate| candidate.header);
    let frame = frame.filter(|frame| frame.log == identity.log && frame.first_lsn > Lsn(0));
    Ok(frame.map(|frame| LogStart {
        identity,
        position,
        next_lsn: frame.first_lsn,
        previous_crc: frame.previous_crc,
        last_time: frame.time,
    }))
}

/// Damage is kept and told apart from what is none.
fn keep_damage(
    outcome: Result<Recovered, WalError>,
    damages: &mut Vec<WalError>,
) -> Result<Option<Recovered>, WalError> {
    match outcome {
        Ok(recovered) => Ok(Some(recovered)),
        Err(error @ (WalError::Io { .. } | WalError::NewerFormat { .. })) => Err(error),
        Err(error) => {
            damages.push(error);
            Ok(None)
        }
    }
}

/// The segments from the first one on without a gap, each with the size that its header says
/// where that can be read, and the bytes that its file has.
fn readable<S: LogStorage>(
    storage: &S,
    first: SegmentIndex,
    segments: &[Segment],
) -> Result<Vec<(Segment, u64)>, WalError> {
    let mut index = first;
    let mut readable = Vec::new();
    for segment in segments.iter().filter(|segment| segment.index >= first) {
        if segment.index != index {
            break;
        }
        index = index.next();
        let has_header = segment.bytes >= SEGMENT_HEADER_BYTES as u64;
        let bytes = match has_header.then(|| segment_header(storage, segment.index)) {
            Some(Ok(header)) if header.segment.index == segment.index => header.segment.bytes,
            Some(Err(error @ WalError::Io { .. })) => return Err(error),
            _ => segment.bytes,
        };
        readable.push((Segment { bytes, ..*segment }, segment.bytes));
    }
    Ok(readable)
}

/// Where to end the second reading: nowhere yet where the damage is a segment's size, which the
/// second reading puts right, or a missing segment, before which it ends by itself.
fn first_end<S: LogStorage>(damages: &[WalError], segments: &[Segment], storage: &S) -> Position {
    let end = Position { segment: SegmentIndex(u64::MAX), offset: 0 };
    match damages.last() {
        Some(WalError::Damage { offset: 0, .. } | WalError::MissingSegment { .. }) | None => end,
        Some(error) => place(error, segments, storage).unwrap_or(end),
    }
}

fn place<S: LogStorage>(error: &WalError, segments: &[Segment], storage: &S) -> Option<Position> {
    let (file, offset) = match error {
        WalError::Damage { file, offset, .. } => (file, *offset),
        WalError::NotASegment { file }
        | WalError::ForeignLog { file, .. }
        | WalError::WrongShard { file, .. } => (file, 0),
        WalError::MissingSegment { .. }
        | WalError::NoSnapshot { .. }
        | WalError::NewerFormat { .. }
        | WalError::Io { .. } => return None,
    };
    let segment = segments.iter().find(|segment| storage.path(segment.index) == *file)?;
    Some(Position { segment: segment.index, offset })
}

/// Looks for intact frames block by block.
struct Salvage<'b, F> {
    log: LogId,
    next_lsn: Lsn,
    beyond: &'b mut Beyond,
    on_part: F,
}

impl<F: FnMut(Surveyed<'_>)> Salvage<'_, F> {
    fn run<S: LogStorage>(&mut self, storage: &S, mut windows: Windows) -> Result<(), WalError> {
        let mut unused = 0;
        loop {
            let window = windows.next(unused).map_err(|failed| WalError::Io {
                path: storage.path(failed.segment),
                doing: "read the log",
                source: failed.source,
            })?;
            let Some(window) = window else { return Ok(()) };
            let used = self.window(&window);
            unused = window.bytes.len() - used;
        }
    }

    /// Reads what the window holds in whole, and returns how many bytes that was.
    fn window(&mut self, window: &Window<'_>) -> usize {
        let mut at = 0;
        while at < window.bytes.len() {
            let rest = &window.bytes[at..];
            let offset = window.offset + at as u64;
            if rest.len() < BLOCK_BYTES {
                // A file that was cut inside a block.
                let is_last = offset + rest.len() as u64 >= window.segment.bytes;
                return if is_last { window.bytes.len() } else { at };
            }
            match find(rest, self.log, window.segment.bytes - offset) {
                Found::Incomplete => break,
                Found::Intact(header, _) => {
                    self.frame(Position { segment: window.segment.index, offset }, &header, rest);
                    at += header.frame_bytes();
                }
                Found::Zeros | Found::Junk | Found::Stray | Found::Newer(_) => at += BLOCK_BYTES,
            }
        }
        at
    }

    fn frame(&mut self, position: Position, header: &FrameHeader, frame: &[u8]) {
        let mut lsn = header.first_lsn;
        if lsn.0.saturating_add(u64::from(header.records)) <= self.next_lsn.0 {
            return;
        }
        self.beyond.frames += 1;
        let time = header.time;
        let (from, to) = self.beyond.times.unwrap_or((time, time));
        self.beyond.times = Some((from.min(time), to.max(time)));
        let mut at = FRAME_HEADER_BYTES;
        while at < header.used_bytes() {
            let Ok((record, bytes)) = codec::decode(&frame[at..header.used_bytes()]) else {
                return;
            };
            if lsn >= self.next_lsn {
                let (first, last) = self.beyond.lsns.unwrap_or((lsn, lsn));
                self.beyond.lsns = Some((first.min(lsn), last.max(lsn)));
                self.beyond.records += 1;
                let start = Position { offset: position.offset + at as u64, ..position };
                let record = &record;
                let entry = Entry { lsn, time, position: start, frame: position, record };
                (self.on_part)(Surveyed::Beyond(entry));
            }
            at += bytes;
            let Some(next) = lsn.0.checked_add(1) else { return };
            lsn = Lsn(next);
        }
    }
}
