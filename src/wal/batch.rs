//! The filling batch: records serialized straight into the memory that will be written.
//!
//! A batch owns its buffer, which the caller supplies (aligned for direct I/O where that is what
//! it is for). Its first bytes stay free for the frame's header until the batch is sealed. It
//! never allocates, and never grows.

use std::ops::DerefMut;

use super::BLOCK_BYTES;
use super::codec::{RECORD_BYTES_MAX, encode};
use super::frame::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES};
use crate::model::{Lsn, Record, TimeMs};

/// One frame's worth of records, on its way from the first append to the disk.
#[derive(Debug)]
pub struct Batch<B> {
    buffer: B,
    used_bytes: usize,
    records: u32,
    first_lsn: Lsn,
    time: TimeMs,
}

/// The batch has no room for a record of any size: seal it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the batch is full")]
pub struct BatchFull;

impl<B: DerefMut<Target = [u8]>> Batch<B> {
    /// An empty batch over `buffer`.
    ///
    /// # Panics
    ///
    /// Where the buffer is not a whole number of blocks, or larger than [`FRAME_BYTES_MAX`].
    pub fn new(buffer: B) -> Self {
        assert!(!buffer.is_empty() && buffer.len().is_multiple_of(BLOCK_BYTES));
        assert!(buffer.len() <= FRAME_BYTES_MAX);
        Self {
            buffer,
            used_bytes: FRAME_HEADER_BYTES,
            records: 0,
            first_lsn: Lsn(0),
            time: TimeMs(0),
        }
    }

    /// Whether it has no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// How many records it has.
    #[must_use]
    pub const fn records(&self) -> u32 {
        self.records
    }

    /// Bytes that the frame would have on disk if it were sealed now.
    #[must_use]
    pub const fn frame_bytes(&self) -> usize {
        self.used_bytes.next_multiple_of(BLOCK_BYTES)
    }

    /// Whether a record of any size still fits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.buffer.len() - self.used_bytes >= RECORD_BYTES_MAX
    }

    /// The memory: once sealed, its first [`SealedFrame::bytes`](super::SealedFrame) are the
    /// frame.
    #[must_use]
    pub const fn buffer(&self) -> &B {
        &self.buffer
    }

    /// The memory, for a caller that hands it to the kernel by a mutable pointer.
    #[must_use]
    pub const fn buffer_mut(&mut self) -> &mut B {
        &mut self.buffer
    }

    /// The memory, for a caller that gives it to the kernel and starts another batch meanwhile.
    #[must_use]
    pub fn into_buffer(self) -> B {
        self.buffer
    }

    /// Makes it empty again, after its frame is durable.
    pub const fn clear(&mut self) {
        self.used_bytes = FRAME_HEADER_BYTES;
        self.records = 0;
    }

    pub(super) const fn first_lsn(&self) -> Lsn {
        self.first_lsn
    }

    pub(super) const fn time(&self) -> TimeMs {
        self.time
    }

    pub(super) const fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    #[inline]
    pub(super) fn append(&mut self, lsn: Lsn, time: TimeMs, record: &Record) {
        if self.records == 0 {
            self.first_lsn = lsn;
            self.time = time;
        }
        let free = &mut self.buffer[self.used_bytes..];
        self.used_bytes += encode(record, free);
        self.records += 1;
    }
}
