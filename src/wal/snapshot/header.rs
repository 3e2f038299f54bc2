//! The header of a snapshot: whose state it is, and where the log goes on.

use std::num::NonZeroU16;

use super::super::field;
use super::super::segment::{Identity, LogId, Position, SEGMENT_HEADER_BYTES, SegmentIndex};
use super::{SNAPSHOT_VERSION, SnapshotError};
use crate::model::{Lsn, ShardIndex, TimeMs};
use crate::wal::LogStart;

/// Bytes before the first section.
pub(super) const HEADER_BYTES: usize = 64;

const MAGIC: [u8; 8] = *b"BOXOSNP\n";
const CRC_AT: usize = HEADER_BYTES - 4;

/// What the header of a snapshot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// The log whose records are inside.
    pub identity: Identity,
    /// The last record inside; zero where there is none.
    pub last_lsn: Lsn,
    /// Where the log goes on.
    pub position: Position,
    /// The CRC of the last frame inside; zero where the log begins at `position`.
    pub previous_crc: u32,
    /// The time of the last record inside.
    pub last_time: TimeMs,
}

impl SnapshotHeader {
    /// Where the log goes on behind this snapshot.
    #[must_use]
    pub const fn log_start(&self) -> LogStart {
        LogStart {
            identity: self.identity,
            position: self.position,
            next_lsn: self.last_lsn.next(),
            previous_crc: self.previous_crc,
            last_time: self.last_time,
        }
    }

    /// The header of a snapshot of everything before `start`.
    #[must_use]
    pub const fn before(start: &LogStart) -> Self {
        Self {
            identity: start.identity,
            last_lsn: Lsn(start.next_lsn.0 - 1),
            position: start.position,
            previous_crc: start.previous_crc,
            last_time: start.last_time,
        }
    }

    /// The header's bytes.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&SNAPSHOT_VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.identity.shard.0.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.identity.shards.get().to_le_bytes());
        bytes[16..24].copy_from_slice(&self.identity.log.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.last_lsn.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.position.segment.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.position.offset.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.last_time.0.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.previous_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, SnapshotError> {
        if bytes[0..8] != MAGIC {
            return Err(SnapshotError::NotASnapshot);
        }
        // The version comes before the CRC: a newer format may keep its CRC elsewhere.
        let found = u16::from_le_bytes(field(bytes, 8));
        if found > SNAPSHOT_VERSION {
            return Err(SnapshotError::NewerFormat { found, supported: SNAPSHOT_VERSION });
        }
        let damaged = |what: &str| SnapshotError::Damaged { offset: 0, what: what.to_owned() };
        if u32::from_le_bytes(field(bytes, CRC_AT)) != crc32fast::hash(&bytes[..CRC_AT]) {
            return Err(damaged("the header is not intact"));
        }
        let shard = ShardIndex(u16::from_le_bytes(field(bytes, 10)));
        let shards = NonZeroU16::new(u16::from_le_bytes(field(bytes, 12)))
            .filter(|shards| shard.0 < shards.get() && found > 0)
            .ok_or_else(|| damaged("the header names no shard of a server"))?;
        let header = Self {
            identity: Identity { log: LogId(u64::from_le_bytes(field(bytes, 16))), shard, shards },
            last_lsn: Lsn(u64::from_le_bytes(field(bytes, 24))),
            position: Position {
                segment: SegmentIndex(u64::from_le_bytes(field(bytes, 32))),
                offset: u64::from_le_bytes(field(bytes, 40)),
            },
            previous_crc: u32::from_le_bytes(field(bytes, 56)),
            last_time: TimeMs(u64::from_le_bytes(field(bytes, 48))),
        };
        let is_position = header.position.segment >= SegmentIndex::FIRST
            && header.position.offset >= SEGMENT_HEADER_BYTES as u64;
        if is_position && header.last_lsn.0 < u64::MAX {
            Ok(header)
        } else {
            Err(damaged("the header says no place in a log"))
        }
    }
}
