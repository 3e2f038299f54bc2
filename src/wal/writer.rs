//! The writer's bookkeeping: LSNs, the chain, and where the next frame goes.
//!
//! ```text
//! append … append ─▶ seal ─▶ (the caller writes the frame) ─▶ complete ─▶ durable_lsn moves
//!         ▲ a second batch fills meanwhile; its own seal waits for complete
//! ```
//!
//! One frame is in flight at most: sealing a second one is a bug of the caller. That is what
//! lets recovery say that only the last frame can be torn. A frame that does not fit the rest of
//! its segment goes to the next one, which must have been prepared by then.

use std::collections::VecDeque;
use std::ops::DerefMut;

use super::BLOCK_BYTES;
use super::batch::{Batch, BatchFull};
use super::frame::FrameHeader;
use super::recover::Recovered;
use super::room::segment_room;
use super::segment::{Identity, Position, SEGMENT_HEADER_BYTES, Segment, SegmentIndex};
use crate::model::{Lsn, Record, TimeMs};

/// The end of a log that is being written.
#[derive(Debug)]
pub struct LogWriter {
    identity: Identity,
    segment: Segment,
    offset: u64,
    ahead: VecDeque<Segment>,
    /// The room of those ahead, in blocks.
    ahead_blocks: u64,
    next_lsn: Lsn,
    sealed_lsn: Lsn,
    durable_lsn: Lsn,
    previous_crc: u32,
    last_time: TimeMs,
    is_in_flight: bool,
}

/// A frame that is ready to be written: the first `bytes` of its batch's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedFrame {
    /// Where it goes.
    pub position: Position,
    /// Its size on disk: a whole number of blocks.
    pub bytes: usize,
    /// Its last record.
    pub last_lsn: Lsn,
    /// Whether it is the first frame of its segment, so that the segment before is complete.
    pub is_first_of_segment: bool,
}

/// The frame needs the next segment, which is not there yet. The batch is as it was: seal it
/// again after [`LogWriter::add_segment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("segment {0} is not prepared yet")]
pub struct NextSegmentNotPrepared(pub SegmentIndex);

impl LogWriter {
    /// Goes on where `recovered` ends. A torn tail must have been repaired before.
    #[must_use]
    pub fn new(recovered: &Recovered) -> Self {
        let last = Lsn(recovered.next_lsn.0 - 1);
        Self {
            identity: recovered.identity,
            segment: recovered.segment,
            offset: recovered.end.offset,
            ahead: recovered.prepared.iter().copied().collect(),
            ahead_blocks: recovered.prepared.iter().copied().map(segment_room).sum(),
            next_lsn: recovered.next_lsn,
            sealed_lsn: last,
            durable_lsn: last,
            previous_crc: recovered.previous_crc,
            last_time: recovered.last_time,
            is_in_flight: false,
        }
    }

    /// The time at which the next record must be decided: the time of the batch where it has
    /// records already, for a frame has one time, else `clock`, but never earlier than what is
    /// logged.
    #[must_use]
    #[inline]
    pub fn now<B: DerefMut<Target = [u8]>>(&self, batch: &Batch<B>, clock: TimeMs) -> TimeMs {
        if batch.is_empty() { self.last_time.max(clock) } else { batch.time() }
    }

    /// Appends `record`, decided at `now`, to the filling batch.
    ///
    /// # Panics
    ///
    /// Where `now` is not what [`Self::now`] said for this batch: replay would decide otherwise.
    #[inline]
    pub fn append<B: DerefMut<Target = [u8]>>(
        &mut self,
        batch: &mut Batch<B>,
        now: TimeMs,
        record: &Record,
    ) -> Result<Lsn, BatchFull> {
        if !batch.has_room() {
            return Err(BatchFull);
        }
        if batch.is_empty() {
            assert!(now >= self.last_time, "logged time never goes back");
            self.last_time = now;
        } else {
            assert!(now == batch.time(), "the records of a frame have one time");
        }
        let lsn = self.next_lsn;
        batch.append(lsn, now, record);
        self.next_lsn = lsn.next();
        Ok(lsn)
    }

    /// Completes the frame of `batch` and says where it goes. The frame is now in flight.
    ///
    /// # Panics
    ///
    /// Where a frame is in flight already, the batch is empty or not the next one, or no segment
    /// could ever hold it.
    pub fn seal<B: DerefMut<Target = [u8]>>(
        &mut self,
        batch: &mut Batch<B>,
    ) -> Result<SealedFrame, NextSegmentNotPrepared> {
        assert!(!self.is_in_flight, "one frame is in flight at most");
        assert!(!batch.is_empty(), "a frame has a record");
        assert!(batch.first_lsn() == self.sealed_lsn.next(), "batches are sealed in their order");
        let frame_bytes = batch.frame_bytes();
        if self.segment.bytes - self.offset < frame_bytes as u64 {
            self.roll(frame_bytes)?;
        }
        let position = Position { segment: self.segment.index, offset: self.offset };
        let used_bytes = batch.used_bytes();
        let header = FrameHeader {
            log: self.identity.log,
            segment: position.segment,
            first_lsn: batch.first_lsn(),
            time: batch.time(),
            records: batch.records(),
            payload_bytes: (used_bytes - super::FRAME_HEADER_BYTES) as u32,
            previous_crc: self.previous_crc,
        };
        let frame = &mut batch.buffer_mut()[..frame_bytes];
        frame[used_bytes..].fill(0);
        self.previous_crc = header.encode(frame);
        self.offset += frame_bytes as u64;
        self.sealed_lsn = Lsn(header.first_lsn.0 + u64::from(header.records) - 1);
        self.is_in_flight = true;
        Ok(SealedFrame {
            position,
            bytes: frame_bytes,
            last_lsn: self.sealed_lsn,
            is_first_of_segment: position.offset == SEGMENT_HEADER_BYTES as u64,
        })
    }

    /// The frame in flight is on disk. Returns what is durable now.
    ///
    /// # Panics
    ///
    /// Where no frame is in flight.
    pub fn complete(&mut self) -> Lsn {
        assert!(self.is_in_flight, "a frame is in flight");
        self.is_in_flight = false;
        self.durable_lsn = self.sealed_lsn;
        self.durable_lsn
    }

    /// A segment was prepared: header written, the rest zeros, all of it synced.
    ///
    /// # Panics
    ///
    /// Where it is not [`Self::next_segment`].
    pub fn add_segment(&mut self, segment: Segment) {
        assert!(segment.index == self.next_segment(), "segments are prepared in their order");
        self.ahead.push_back(segment);
        self.ahead_blocks += segment_room(segment);
    }

    /// The segment to prepare next.
    #[must_use]
    pub fn next_segment(&self) -> SegmentIndex {
        self.ahead.back().unwrap_or(&self.segment).index.next()
    }

    /// How many prepared segments wait behind the one that is being written.
    #[must_use]
    pub fn segments_ahead(&self) -> usize {
        self.ahead.len()
    }

    /// The blocks that frames can still take, in this segment and in those ahead.
    #[must_use]
    pub const fn room_blocks(&self) -> u64 {
        (self.segment.bytes - self.offset) / BLOCK_BYTES as u64 + self.ahead_blocks
    }

    /// The segment that is being written.
    #[must_use]
    pub const fn segment(&self) -> SegmentIndex {
        self.segment.index
    }

    /// The last record that was appended.
    #[must_use]
    pub const fn appended_lsn(&self) -> Lsn {
        Lsn(self.next_lsn.0 - 1)
    }

    /// The last record that is on disk.
    #[must_use]
    pub const fn durable_lsn(&self) -> Lsn {
        self.durable_lsn
    }

    /// Whether a frame was sealed and is not complete.
    #[must_use]
    pub const fn is_in_flight(&self) -> bool {
        self.is_in_flight
    }

    fn roll(&mut self, frame_bytes: usize) -> Result<(), NextSegmentNotPrepared> {
        let next = *self.ahead.front().ok_or(NextSegmentNotPrepared(self.next_segment()))?;
        let header_bytes = SEGMENT_HEADER_BYTES as u64;
        assert!(next.bytes - header_bytes >= frame_bytes as u64, "a segment holds any frame");
        self.ahead.pop_front();
        self.ahead_blocks -= segment_room(next);
        self.segment = next;
        self.offset = header_bytes;
        Ok(())
    }
}
