//! The commit queue: one batch in flight, one filling, and the answers that wait for each.
//!
//! No answer runs ahead of the disk. A success waits for the batch that holds its record; a
//! refusal or a read waits for the last batch whose effects it saw, which is the last one that
//! has any record. Answers are encoded at once and parked as bytes behind their batch.

use std::time::Duration;

use super::asks::AskId;
use super::connection::ReplyTo;
use super::metrics::{Arrivals, Asking, Operation, Protocol, ShardMetrics, SlowLog};
use crate::canary::{Canary, planted};
use crate::model::{Record, ShardIndex, TimeMs};
use crate::runtime::AlignedBuffer;
use crate::wal::{
    BLOCK_BYTES, Batch, FRAME_BYTES_MAX, LogWriter, SealedFrame, Segment, frame_cost, segment_room,
};

/// Answers that wait for the disk, in bytes; then no request is taken. Most answers are small,
/// but a thousand listings of a large sale are not.
pub(super) const PARKED_BYTES_MAX: usize = 8 << 20;

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// A connection of this shard.
    Local(ReplyTo),
    /// A connection of another shard, which sent the request here.
    Remote(ShardIndex, ReplyTo),
    /// The control plane.
    Control(AskId),
}

/// A frame to be written, durably, at its position.
#[derive(Debug)]
pub struct Write {
    /// Where it goes and how long it is.
    pub frame: SealedFrame,
    /// Its bytes, and unused ones behind them.
    pub buffer: AlignedBuffer,
}

/// Encoded answers in the order in which they were given.
#[derive(Debug, Default)]
pub(super) struct Parked {
    bytes: Vec<u8>,
    answers: Vec<Waiting>,
    /// When their requests arrived, in the same order.
    arrivals: Arrivals,
}

/// An encoded answer that waits.
#[derive(Debug)]
struct Waiting {
    to: Destination,
    bytes: u32,
    asked: (Protocol, Operation),
}

impl Parked {
    pub(super) fn push(
        &mut self,
        to: Destination,
        asking: &Asking,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.bytes.len();
        encode(&mut self.bytes);
        let bytes = (self.bytes.len() - start) as u32;
        let asked = (asking.protocol, asking.operation);
        self.answers.push(Waiting { to, bytes, asked });
        self.arrivals.add(asking.arrived);
    }

    /// Takes note of the answers that were due long before `now`.
    fn note_slow(&self, now: Duration, log_write: Duration, slow: &mut SlowLog) -> u64 {
        let (mut start, mut count) = (0, 0);
        for (arrived, answers) in self.arrivals.iter() {
            let end = start + answers;
            let took = now.saturating_sub(arrived);
            if slow.is_slow(took) {
                count += answers as u64;
                for waiting in &self.answers[start..end] {
                    slow.add(now, waiting.asked, took, log_write);
                }
            }
            start = end;
        }
        count
    }

    /// Takes every answer out, and keeps the memory.
    pub(super) fn drain(&mut self, mut deliver: impl FnMut(Destination, &[u8])) {
        let mut start = 0;
        for waiting in self.answers.drain(..) {
            let end = start + waiting.bytes as usize;
            deliver(waiting.to, &self.bytes[start..end]);
            start = end;
        }
        self.bytes.clear();
    }
}

/// The records and answers between a decision and the disk.
#[derive(Debug)]
pub(super) struct CommitQueue {
    writer: LogWriter,
    filling: Batch<AlignedBuffer>,
    /// The buffer that is not filling; `None` while it is in flight.
    spare: Option<AlignedBuffer>,
    behind_filling: Parked,
    behind_flying: Parked,
    /// The filling batch waits for a segment that is not prepared.
    starved: bool,
    /// What there is beyond the prepared segments.
    beyond: Beyond,
}

/// Room of the log beyond its prepared segments, in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beyond {
    /// Of the disk, allocated to the log: nobody else can take it.
    pub secured: u64,
    /// Free on the disk.
    pub free: u64,
}

impl CommitQueue {
    pub(super) fn new(writer: LogWriter) -> Self {
        Self {
            writer,
            filling: Batch::new(AlignedBuffer::new(FRAME_BYTES_MAX)),
            spare: Some(AlignedBuffer::new(FRAME_BYTES_MAX)),
            behind_filling: Parked::default(),
            behind_flying: Parked::default(),
            starved: false,
            beyond: Beyond::default(),
        }
    }

    /// What there is beyond the prepared segments.
    pub(super) const fn set_beyond(&mut self, beyond: Beyond) {
        self.beyond = beyond;
    }

    /// The blocks that can still be logged behind what was appended.
    pub(super) fn room_blocks(&self) -> u64 {
        let there = self.writer.room_blocks() + self.beyond.secured + self.beyond.free;
        there.saturating_sub(frame_cost(&self.filling))
    }

    /// The time of a decision that is made now.
    pub(super) fn now(&self, clock: TimeMs) -> TimeMs {
        self.writer.now(&self.filling, clock)
    }

    /// Whether one more record fits, and its answer. Before each decision: a record that does not
    /// fit cannot be undone.
    pub(super) fn has_room(&self) -> bool {
        self.filling.has_room() && self.parked_bytes() < PARKED_BYTES_MAX
    }

    /// The answers that wait for the disk, in bytes.
    pub(super) fn parked_bytes(&self) -> usize {
        self.behind_filling.bytes.len() + self.behind_flying.bytes.len()
    }

    pub(super) fn append(&mut self, now: TimeMs, record: &Record) {
        self.writer
            .append(&mut self.filling, now, record)
            .expect("the caller looked whether there is room");
    }

    /// Where an answer must wait that saw the state as it is now; `None` where all of that is
    /// durable.
    pub(super) fn parking(&mut self) -> Option<&mut Parked> {
        if planted(Canary::AckBeforeDurable) {
            None
        } else if !self.filling.is_empty() {
            Some(&mut self.behind_filling)
        } else if self.writer.is_in_flight() {
            Some(&mut self.behind_flying)
        } else {
            None
        }
    }

    /// The next frame to write, unless one is in flight or there is nothing to write.
    pub(super) fn poll_write(&mut self, metrics: &ShardMetrics) -> Option<Write> {
        if self.writer.is_in_flight() || self.filling.is_empty() {
            return None;
        }
        let sealed = self.writer.seal(&mut self.filling);
        self.starved = sealed.is_err();
        let frame = sealed.ok()?;
        let buffer = self.spare.take().expect("nothing is in flight");
        let sealed = std::mem::replace(&mut self.filling, Batch::new(buffer));
        metrics.batch_records.record(u64::from(sealed.records()), 1);
        metrics.batch_bytes.record(frame.bytes as u64, 1);
        std::mem::swap(&mut self.behind_filling, &mut self.behind_flying);
        Some(Write { frame, buffer: sealed.into_buffer() })
    }

    /// The frame in flight is durable: its answers may go.
    pub(super) fn handle_written(
        &mut self,
        buffer: AlignedBuffer,
        answered: &mut Arrivals,
        deliver: impl FnMut(Destination, &[u8]),
    ) {
        self.writer.complete();
        self.spare = Some(buffer);
        answered.append(&mut self.behind_flying.arrivals);
        self.behind_flying.drain(deliver);
    }

    /// Takes note of answers behind the frame in flight that came too late; returns how many.
    pub(super) fn note_slow(&self, now: Duration, log_write: Duration, slow: &mut SlowLog) -> u64 {
        self.behind_flying.note_slow(now, log_write, slow)
    }

    /// Where the log is, for its readers.
    pub(super) fn publish(&self, metrics: &ShardMetrics) {
        let parked = self.behind_filling.answers.len() + self.behind_flying.answers.len();
        metrics.parked.set(parked as u64);
        metrics.parked_bytes.set(self.parked_bytes() as u64);
        metrics.appended_lsn.set(self.writer.appended_lsn().0);
        metrics.durable_lsn.set(self.writer.durable_lsn().0);
        metrics.segment.set(self.writer.segment().0);
        metrics.segments_prepared.set(self.writer.segments_ahead() as u64);
        metrics.starved.set(u64::from(self.starved));
        metrics.prepared_bytes.set(self.writer.room_blocks() * BLOCK_BYTES as u64);
        metrics.secured_bytes.set(self.beyond.secured * BLOCK_BYTES as u64);
        metrics.unsecured_bytes.set(self.beyond.free * BLOCK_BYTES as u64);
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.writer.is_in_flight()
    }

    /// A part of what was beyond the prepared segments is one.
    pub(super) fn add_segment(&mut self, segment: Segment) {
        self.writer.add_segment(segment);
        let from =
            if self.beyond.secured > 0 { &mut self.beyond.secured } else { &mut self.beyond.free };
        *from = from.saturating_sub(segment_room(segment));
    }

    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    /// Whether everything that was appended is durable.
    pub(super) fn is_idle(&self) -> bool {
        self.filling.is_empty() && !self.writer.is_in_flight()
    }
}
