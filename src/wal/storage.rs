//! Where a log's bytes are: the narrow trait that recovery reads by.
//!
//! Blocking, and off the hot path. The shard's loop writes frames by its own ring.

use std::io;
use std::path::PathBuf;

use super::segment::{Position, Segment, SegmentIndex};

/// The segments of one log. Shared with the thread that reads ahead.
pub trait LogStorage: Sync {
    /// The segments that are there, in the order of their numbers; with the size that each one
    /// has, whatever its header says.
    fn segments(&self) -> io::Result<Vec<Segment>>;

    /// Fills `into` from `position` on.
    fn read_at(&self, position: Position, into: &mut [u8]) -> io::Result<()>;

    /// Writes zeros from `position` on and makes them durable.
    fn zero_and_sync(&self, position: Position, bytes: u64) -> io::Result<()>;

    /// The file of a segment, whether or not it is there: for messages.
    fn path(&self, segment: SegmentIndex) -> PathBuf;
}
