//! Segments: the identity of a log, positions in it, and the header block of a segment.
//!
//! ```text
//!    0  magic          8 bytes "BOXOWAL\n"
//!    8  version        u16
//!   10  shard          u16   from 0
//!   12  shards         u16   how many shards the server has
//!   14  zeros          u16
//!   16  log id         u64
//!   24  segment index  u64   from 1
//!   32  segment size   u64   in bytes, this block included
//!   40  zeros
//! 4092  CRC32          u32   of the 4092 bytes before it
//! ```

use std::fmt;
use std::num::NonZeroU16;

use super::frame::FRAME_BYTES_MAX;
use super::{BLOCK_BYTES, FORMAT_VERSION, field};
use crate::model::ShardIndex;

/// Bytes of a segment before its first frame.
pub const SEGMENT_HEADER_BYTES: usize = BLOCK_BYTES;

/// The size of a segment unless the operator says otherwise: 64 MiB.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;

/// The smallest segment: its header and one block. A writer also needs a segment to hold one
/// frame of its largest batch.
pub const SEGMENT_BYTES_MIN: u64 = 2 * BLOCK_BYTES as u64;

const _: () = assert!(SEGMENT_BYTES_DEFAULT >= (SEGMENT_HEADER_BYTES + FRAME_BYTES_MAX) as u64);

const MAGIC: [u8; 8] = *b"BOXOWAL\n";
const CRC_AT: usize = BLOCK_BYTES - 4;

/// A random number that every part of one log carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogId(pub u64);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A segment's place in its log, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentIndex(pub u64);

impl SegmentIndex {
    /// The first segment of a log.
    pub const FIRST: Self = Self(1);

    /// The segment behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for SegmentIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A byte of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The segment.
    pub segment: SegmentIndex,
    /// The byte in the segment, its header included.
    pub offset: u64,
}

/// A segment that is there, ready to be written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which one.
    pub index: SegmentIndex,
    /// Its size in bytes, header included.
    pub bytes: u64,
}

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The log.
    pub log: LogId,
    /// The shard that writes it.
    pub shard: ShardIndex,
    /// How many shards the server has.
    pub shards: NonZeroU16,
}

/// What the header block of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose log it is.
    pub identity: Identity,
    /// Which segment, and its size.
    pub segment: Segment,
}

/// Why a block is not a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// The magic is another one.
    Magic,
    /// The version is newer than [`FORMAT_VERSION`].
    Newer(u16),
    /// The CRC is wrong, or a field is impossible.
    Damaged,
}

impl SegmentHeader {
    /// The header block.
    ///
    /// # Panics
    ///
    /// Where the size is not a whole number of blocks or below [`SEGMENT_BYTES_MIN`].
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        assert!(valid_size(self.segment.bytes), "a segment is two blocks or more");
        assert!(self.identity.shard.0 < self.identity.shards.get(), "a shard is one of them all");
        let mut block = [0; SEGMENT_HEADER_BYTES];
        block[0..8].copy_from_slice(&MAGIC);
        block[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        block[10..12].copy_from_slice(&self.identity.shard.0.to_le_bytes());
        block[12..14].copy_from_slice(&self.identity.shards.get().to_le_bytes());
        block[16..24].copy_from_slice(&self.identity.log.0.to_le_bytes());
        block[24..32].copy_from_slice(&self.segment.index.0.to_le_bytes());
        block[32..40].copy_from_slice(&self.segment.bytes.to_le_bytes());
        let crc = crc32fast::hash(&block[..CRC_AT]);
        block[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        block
    }

    pub(super) fn decode(block: &[u8]) -> Result<Self, HeaderError> {
        if block[0..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        // The version comes before the CRC: a newer format may keep its CRC elsewhere.
        let version = u16::from_le_bytes(field(block, 8));
        if version > FORMAT_VERSION {
            return Err(HeaderError::Newer(version));
        }
        if u32::from_le_bytes(field(block, CRC_AT)) != crc32fast::hash(&block[..CRC_AT]) {
            return Err(HeaderError::Damaged);
        }
        let shard = ShardIndex(u16::from_le_bytes(field(block, 10)));
        let shards = u16::from_le_bytes(field(block, 12));
        let shards = NonZeroU16::new(shards).ok_or(HeaderError::Damaged)?;
        let bytes = u64::from_le_bytes(field(block, 32));
        if version == 0 || shard.0 >= shards.get() || !valid_size(bytes) {
            return Err(HeaderError::Damaged);
        }
        Ok(Self {
            identity: Identity { log: LogId(u64::from_le_bytes(field(block, 16))), shard, shards },
            segment: Segment { index: SegmentIndex(u64::from_le_bytes(field(block, 24))), bytes },
        })
    }
}

const fn valid_size(bytes: u64) -> bool {
    bytes >= SEGMENT_BYTES_MIN && bytes.is_multiple_of(BLOCK_BYTES as u64)
}
