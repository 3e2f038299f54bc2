//! The log of one shard: formats, group commit and recovery decisions.
//!
//! ```text
//! DIR/shard-000/00000000000000000001.wal      segments of fixed size, zero-filled before use
//! DIR/shard-000/00000000000000000002.wal
//! DIR/shard-000/00000000000000000003.wal.tmp  a segment in preparation; recovery ignores it
//! DIR/shard-000/00000000000000123456.snap     what all records up to this LSN led to
//!
//! segment = [header block] [frame] [frame] … [zeros]     every part starts on a 4 KiB block
//! frame   = [header] [record] [record] … [zeros]         one group commit
//! record  = [tag] [length] [rkyv archive]
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `codec` | the bytes of a record |
//! | `frame`, `segment` | the bytes of a frame, and of a segment's header |
//! | `batch`, `writer` | filling a frame, LSNs, where the frame goes, what is durable |
//! | `room` | how much can still be logged |
//! | `recover`, `read_ahead` | reading a log back: clean end, torn tail or damage |
//! | `survey`, `bounded` | reading a damaged log as far as it goes, and one that is being written |
//! | `cut` | giving up the end of a log |
//! | `restamp` | a copy of a log under another id, up to a record or a time |
//! | `snapshot` | the state at one LSN, so that a log need not be read from its beginning |
//! | `storage`, `files` | the trait that recovery reads by, and its form on real files |
//!
//! Invariants: LSNs are dense from 1. A frame lies in one segment. A frame names its log, its
//! segment, its first LSN and the CRC of the frame before it, so that stale and misplaced bytes
//! never pass for it. At most one frame is in flight, so at most one can be torn.
//!
//! The hot path's I/O is not here: the shard's loop writes what a [`LogWriter`] seals. Nor is
//! any clock: times come in as arguments.

mod batch;
mod bounded;
pub mod codec;
mod cut;
mod error;
mod files;
mod frame;
mod read_ahead;
mod recover;
mod restamp;
mod room;
mod segment;
pub mod snapshot;
mod storage;
mod survey;
mod writer;

pub use batch::{Batch, BatchFull};
pub use bounded::Bounded;
pub use cut::{cut, cut_behind_snapshot};
pub use error::WalError;
pub use files::{
    FileStorage, preparation_path, prepare_segment, segment_path, shard_dir, shard_dirs,
};
pub use frame::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FrameHeader};
pub use recover::{
    Entry, LogStart, Recovered, TornTail, log_identity, recover, recover_from, repair_torn_tail,
};
pub use restamp::{Restamped, Until, restamp};
pub use room::{RECORD_COST_MAX, frame_cost, segment_room};
pub use segment::{
    Identity, LogId, Position, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MIN, SEGMENT_HEADER_BYTES,
    Segment, SegmentHeader, SegmentIndex,
};
pub use storage::LogStorage;
pub use survey::{Beyond, Survey, Surveyed, first_frame, segment_header, survey};
pub use writer::{LogWriter, NextSegmentNotPrepared, SealedFrame};

/// The unit of every write: the largest sector that disks here have. Frames and segments are
/// whole numbers of blocks.
pub const BLOCK_BYTES: usize = 4096;

/// The version of segment and frame layout that is written, and the newest that is read.
pub const FORMAT_VERSION: u16 = 1;

/// The `N` bytes of `bytes` from `at` on.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}
