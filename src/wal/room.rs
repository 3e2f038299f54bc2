//! How much can still be logged, counted in blocks.
//!
//! Whoever promises that some records will always find room needs to know what a record may cost.
//! **No record costs more than one block**, however records are cut into frames, and with what
//! is left unused at the end of a segment:
//!
//! - A frame of `b` blocks is longer than `b - 1` blocks, so that with records of at most
//!   [`RECORD_BYTES_MAX`], of which three and the frame's header fit a block, it has at least
//!   `3(b - 1) + 1` records.
//! - It takes its own `b` blocks. Where the rest of its segment is too short for it, it also
//!   leaves up to `b - 1` blocks unused there: at most `2b - 1` blocks ([`frame_cost`]), which is
//!   no more than it has records.
//!
//! A record that joins a filling batch may make its frame longer by one block at once, and so
//! raise its cost by [`RECORD_COST_MAX`]; the records behind it make up for that.

use std::ops::DerefMut;

use super::BLOCK_BYTES;
use super::batch::Batch;
use super::codec::RECORD_BYTES_MAX;
use super::frame::FRAME_HEADER_BYTES;
use super::segment::{SEGMENT_HEADER_BYTES, Segment};

const _: () = assert!(FRAME_HEADER_BYTES + 3 * RECORD_BYTES_MAX <= BLOCK_BYTES);

/// The most blocks by which one record raises the cost of a filling batch at once.
pub const RECORD_COST_MAX: u64 = 2;

/// The blocks of a fresh segment that frames can take.
#[must_use]
pub const fn segment_room(segment: Segment) -> u64 {
    (segment.bytes - SEGMENT_HEADER_BYTES as u64) / BLOCK_BYTES as u64
}

/// The most blocks that sealing a batch takes: those of its frame, and those before it that no
/// other frame will use.
#[must_use]
pub fn frame_cost<B: DerefMut<Target = [u8]>>(batch: &Batch<B>) -> u64 {
    let blocks = (batch.frame_bytes() / BLOCK_BYTES) as u64;
    if batch.is_empty() { 0 } else { 2 * blocks - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::{Bought, Expired, Origin, Record};
    use crate::model::{
        AccountId, BodyDigest, ItemId, Line, OrderNumber, PaymentRef, Quantity, RequestId, SaleId,
        ShardIndex, TimeMs,
    };
    use crate::wal::{Identity, LogId, LogWriter, Recovered, SegmentIndex};
    use std::num::NonZeroU16;

    /// A record of the largest size, or of the smallest.
    fn record(is_large: bool) -> Record {
        let (sale, order) = (SaleId(1), OrderNumber(1));
        if !is_large {
            return Record::Expired(Expired { sale, order });
        }
        let line = |item| Line { item: ItemId(item), quantity: Quantity(1) };
        Record::Bought(Bought {
            origin: Origin {
                sale,
                account: AccountId(1),
                request: RequestId(1),
                digest: BodyDigest(0),
            },
            order,
            lines: (0..16).map(line).collect(),
            payment: PaymentRef::new(&[7; 64]).expect("it is short enough"),
        })
    }

    fn segment(index: u64) -> Segment {
        // The smallest that holds the largest frame: the most waste for its size.
        Segment { index: SegmentIndex(index), bytes: (1 << 20) + SEGMENT_HEADER_BYTES as u64 }
    }

    fn writer() -> LogWriter {
        let identity = Identity { log: LogId(1), shard: ShardIndex(0), shards: NonZeroU16::MIN };
        LogWriter::new(&Recovered::empty(identity, segment(1)))
    }

    /// Small numbers, the same on every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) % bound
        }
    }

    /// Frames of all sizes until the room for one record each is used up: each finds its place.
    #[test]
    fn no_record_costs_more_than_a_block_wherever_frames_are_cut() {
        for seed in 0..200 {
            let mut random = Random(seed);
            let mut writer = writer();
            for index in 2..4 {
                writer.add_segment(segment(index));
            }
            let mut batch = Batch::new(vec![0; 1 << 20]);
            let mut left = writer.room_blocks();
            assert_eq!(left, 3 * 256);
            while left > 0 {
                // Mostly frames of one record, now and then as many as there may be.
                let most = [1, 4, left][random.below(3) as usize].min(left);
                for _ in 0..=random.below(most) {
                    let is_large = random.below(4) > 0;
                    writer.append(&mut batch, TimeMs(1), &record(is_large)).expect("it has room");
                    left -= 1;
                    if !batch.has_room() {
                        break;
                    }
                }
                let before = writer.room_blocks();
                let cost = frame_cost(&batch);
                writer.seal(&mut batch).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                assert!(before - writer.room_blocks() <= cost, "seed {seed}");
                assert!(cost <= u64::from(batch.records()), "seed {seed}");
                assert!(writer.room_blocks() >= left, "seed {seed}");
                writer.complete();
                batch.clear();
            }
        }
    }
}
