//! A log up to a point: what lies behind it reads as zeros.
//!
//! Two readers need it. A tool that reads a log while a server writes it must not take a frame
//! that it reached late for the successor of one that it read early: [`Bounded::freeze`] looks
//! for the end from behind first, so that all before that end was written before, in order, and
//! only the last frame can still be in flight. And whoever reads on past damage needs the log up
//! to there as if nothing followed.
//!
//! It lacks writing, on purpose.

use std::cmp::Ordering;
use std::io;
use std::path::PathBuf;

use super::BLOCK_BYTES;
use super::error::WalError;
use super::recover::is_zero;
use super::segment::{Position, SEGMENT_HEADER_BYTES, Segment, SegmentIndex};
use super::storage::LogStorage;

/// Bytes that are looked through at once: whole blocks.
const STEP_BYTES: u64 = 1 << 20;

const _: () = assert!(STEP_BYTES.is_multiple_of(BLOCK_BYTES as u64));

/// A log of which everything from `end` on reads as zeros, but for the headers of segments.
#[derive(Debug)]
pub struct Bounded<'s, S> {
    inner: &'s S,
    files: Vec<File>,
    end: Position,
}

/// A segment as it is shown, and the bytes that its file has.
#[derive(Clone, Copy, Debug)]
struct File {
    segment: Segment,
    bytes: u64,
}

impl<'s, S: LogStorage> Bounded<'s, S> {
    /// The log as it is at this moment, whoever writes to it.
    pub fn freeze(inner: &'s S) -> Result<Self, WalError> {
        let failed = |segment: SegmentIndex| {
            let path = inner.path(segment);
            move |source| WalError::Io { path, doing: "read the log", source }
        };
        let segments = inner.segments().map_err(failed(SegmentIndex::FIRST))?;
        let mut end = Position { segment: SegmentIndex::FIRST, offset: 0 };
        for &segment in segments.iter().rev() {
            if let Some(offset) = last_nonzero(inner, segment).map_err(failed(segment.index))? {
                end = Position { segment: segment.index, offset };
                break;
            }
        }
        let files = segments.into_iter().map(|segment| File { segment, bytes: segment.bytes });
        Ok(Self { inner, files: files.collect(), end })
    }

    /// The log before `end`, of its segments up to there.
    pub fn until(inner: &'s S, end: Position) -> Result<Self, WalError> {
        let segments = inner.segments().map_err(|source| WalError::Io {
            path: inner.path(end.segment),
            doing: "list the segments of the log",
            source,
        })?;
        Ok(Self::before(inner, segments.into_iter().map(|segment| (segment, segment.bytes)), end))
    }

    /// The log before `end`, of these segments. A segment may be shown with another size than
    /// its file has: what the file lacks is zeros.
    pub(super) fn before(
        inner: &'s S,
        segments: impl IntoIterator<Item = (Segment, u64)>,
        end: Position,
    ) -> Self {
        let is_before = |segment: &Segment| {
            segment.index < end.segment || segment.index == end.segment && end.offset > 0
        };
        let files = segments
            .into_iter()
            .map(|(segment, bytes)| File { segment, bytes: bytes.min(segment.bytes) })
            .filter(|file| is_before(&file.segment));
        Self { inner, files: files.collect(), end }
    }

    /// Whether not even one segment is shown.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The first byte that is not shown as it is.
    #[must_use]
    pub const fn end(&self) -> Position {
        self.end
    }

    /// How many bytes of a segment are shown as they are.
    fn shown_bytes(&self, segment: SegmentIndex) -> u64 {
        let header = SEGMENT_HEADER_BYTES as u64;
        let file = self.files.iter().find(|file| file.segment.index == segment);
        let bytes = file.map_or(0, |file| file.bytes);
        match segment.cmp(&self.end.segment) {
            Ordering::Less => bytes,
            Ordering::Equal => bytes.min(self.end.offset.max(header)),
            Ordering::Greater => bytes.min(header),
        }
    }
}

impl<S: LogStorage> LogStorage for Bounded<'_, S> {
    fn segments(&self) -> io::Result<Vec<Segment>> {
        Ok(self.files.iter().map(|file| file.segment).collect())
    }

    fn read_at(&self, position: Position, into: &mut [u8]) -> io::Result<()> {
        let shown = self.shown_bytes(position.segment).saturating_sub(position.offset);
        let length = into.len().min(usize::try_from(shown).unwrap_or(usize::MAX));
        let (real, beyond) = into.split_at_mut(length);
        beyond.fill(0);
        if real.is_empty() { Ok(()) } else { self.inner.read_at(position, real) }
    }

    fn zero_and_sync(&self, _: Position, _: u64) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem))
    }

    fn path(&self, segment: SegmentIndex) -> PathBuf {
        self.inner.path(segment)
    }
}

/// Where the last block behind the header ends that is not zero; read from behind.
fn last_nonzero(storage: &impl LogStorage, segment: Segment) -> io::Result<Option<u64>> {
    let mut buffer = vec![0; STEP_BYTES.min(segment.bytes) as usize];
    let mut end = segment.bytes;
    while end > SEGMENT_HEADER_BYTES as u64 {
        let start = end.saturating_sub(STEP_BYTES).max(SEGMENT_HEADER_BYTES as u64);
        let piece = &mut buffer[..(end - start) as usize];
        storage.read_at(Position { segment: segment.index, offset: start }, piece)?;
        let blocks = piece.chunks(BLOCK_BYTES).enumerate();
        let last = blocks.rev().find(|(_, block)| !is_zero(block));
        if let Some((index, block)) = last {
            return Ok(Some(start + (index * BLOCK_BYTES + block.len()) as u64));
        }
        end = start;
    }
    Ok(None)
}
