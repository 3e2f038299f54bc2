//! Frames: one group commit each.
//!
//! ```text
//!  0  magic            4 bytes "BXFR"
//!  4  version          u16
//!  6  zeros            u16
//!  8  log id           u64
//! 16  segment index    u64   of the segment that the frame was written for
//! 24  first LSN        u64
//! 32  time             u64   ms since the Unix epoch; the time of every record in the frame
//! 40  record count     u32   at least 1
//! 44  payload bytes    u32
//! 48  previous CRC     u32   the CRC of the frame before; 0 in the log's first frame
//! 52  CRC32            u32   of bytes 0–51 and the payload
//! 56  payload                the records, back to back
//!  …  zeros                  up to the next block
//! ```

use super::segment::{LogId, SegmentIndex};
use super::{BLOCK_BYTES, FORMAT_VERSION, field};
use crate::canary::{Canary, planted};
use crate::model::{Lsn, TimeMs};

/// Bytes of a frame before its payload.
pub const FRAME_HEADER_BYTES: usize = 56;

/// The largest frame, padding included. Recovery relies on it to tell what one torn write can
/// have left behind.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(FRAME_BYTES_MAX.is_multiple_of(BLOCK_BYTES));

const MAGIC: [u8; 4] = *b"BXFR";
const CRC_AT: usize = FRAME_HEADER_BYTES - 4;

/// What the header of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The log that it belongs to.
    pub log: LogId,
    /// The segment that it was written for.
    pub segment: SegmentIndex,
    /// The LSN of its first record.
    pub first_lsn: Lsn,
    /// When its records were decided.
    pub time: TimeMs,
    /// How many records it has.
    pub records: u32,
    /// How many bytes they take.
    pub payload_bytes: u32,
    /// The CRC of the frame before it.
    pub previous_crc: u32,
}

/// A block's first bytes, read as a frame's header. Nothing is verified but the bounds.
pub(super) struct Candidate {
    pub(super) header: FrameHeader,
    pub(super) version: u16,
    pub(super) crc: u32,
}

impl FrameHeader {
    /// Writes the header over the first bytes of `frame`, whose payload is in place, and returns
    /// the frame's CRC.
    pub(super) fn encode(&self, frame: &mut [u8]) -> u32 {
        frame[0..4].copy_from_slice(&MAGIC);
        frame[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        frame[6..8].fill(0);
        self.restamp(frame)
    }

    /// As [`Self::encode`], over a frame that has magic and version already, and keeps them.
    pub(super) fn restamp(&self, frame: &mut [u8]) -> u32 {
        frame[8..16].copy_from_slice(&self.log.0.to_le_bytes());
        frame[16..24].copy_from_slice(&self.segment.0.to_le_bytes());
        frame[24..32].copy_from_slice(&self.first_lsn.0.to_le_bytes());
        frame[32..40].copy_from_slice(&self.time.0.to_le_bytes());
        frame[40..44].copy_from_slice(&self.records.to_le_bytes());
        frame[44..48].copy_from_slice(&self.payload_bytes.to_le_bytes());
        frame[48..52].copy_from_slice(&self.previous_crc.to_le_bytes());
        let crc = frame_crc(frame, self.payload_bytes as usize);
        frame[CRC_AT..FRAME_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// Bytes of the frame without its padding.
    pub(super) const fn used_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.payload_bytes as usize
    }

    /// Bytes of the frame on disk.
    pub(super) const fn frame_bytes(&self) -> usize {
        self.used_bytes().next_multiple_of(BLOCK_BYTES)
    }
}

impl Candidate {
    /// Reads the header; `None` where the magic is missing or the size is impossible.
    pub(super) fn read(block: &[u8]) -> Option<Self> {
        if block[0..4] != MAGIC {
            return None;
        }
        let header = FrameHeader {
            log: LogId(u64::from_le_bytes(field(block, 8))),
            segment: SegmentIndex(u64::from_le_bytes(field(block, 16))),
            first_lsn: Lsn(u64::from_le_bytes(field(block, 24))),
            time: TimeMs(u64::from_le_bytes(field(block, 32))),
            records: u32::from_le_bytes(field(block, 40)),
            payload_bytes: u32::from_le_bytes(field(block, 44)),
            previous_crc: u32::from_le_bytes(field(block, 48)),
        };
        let version = u16::from_le_bytes(field(block, 4));
        let crc = u32::from_le_bytes(field(block, CRC_AT));
        (header.used_bytes() <= FRAME_BYTES_MAX).then_some(Self { header, version, crc })
    }

    /// Whether header and payload are as they were written.
    pub(super) fn is_intact(&self, frame: &[u8]) -> bool {
        planted(Canary::SkipCrc) || self.crc == frame_crc(frame, self.header.payload_bytes as usize)
    }
}

fn frame_crc(frame: &[u8], payload_bytes: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..CRC_AT]);
    hasher.update(&frame[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + payload_bytes]);
    hasher.finalize()
}
