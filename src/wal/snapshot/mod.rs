//! Snapshots: the state of one shard at one LSN, as a file.
//!
//! ```text
//! DIR/shard-000/00000000000000123456.snap      the last LSN inside, 20 digits
//! DIR/shard-000/00000000000000123456.snap.tmp  in the making; nobody reads it
//!
//! snapshot = [header] [section] [section] … [trailer, a section too]
//! section  = [kind u32] [bytes u32] [CRC32 u32] [rkyv archive of a part]
//! ```
//!
//! ```text
//! header
//!  0  magic          8 bytes "BOXOSNP\n"
//!  8  version        u16
//! 10  shard          u16
//! 12  shards         u16
//! 14  zeros          u16
//! 16  log id         u64
//! 24  last LSN       u64   of the records inside
//! 32  segment index  u64   where the log goes on,
//! 40  offset         u64     and at which byte of that segment
//! 48  last time      u64   ms since the Unix epoch, of the last record inside
//! 56  previous CRC   u32   the CRC of the last frame inside; 0 where the log begins here
//! 60  CRC32          u32   of bytes 0–59
//! ```
//!
//! A section's CRC covers its kind, its size and its archive. The trailer counts sections, bytes
//! and rows, and has the CRC of the header and of all section headers in their order, so that no
//! section is lost, repeated or moved; nothing follows it. A cut or a flipped bit anywhere is
//! therefore noticed, at the latest when the trailer is read: what was read before is not to be
//! relied on until [`SnapshotReader::next_part`] has returned `None`.
//!
//! | file | owns |
//! |---|---|
//! | `header`, `section` | the bytes |
//! | `writer`, `reader` | a whole snapshot, part by part, in bounded memory |
//! | `order` | which part may follow which, and what rows may name |
//! | `ahead` | reading and checking on a thread of its own |
//! | `files` | the files of a shard's directory |
//!
//! No I/O is here but by `Read` and `Write`, except in `files`.

mod ahead;
mod files;
mod header;
mod order;
mod reader;
mod section;
mod writer;

use std::io;

pub use ahead::read_snapshot_ahead;
pub use files::{
    SnapshotFile, open_snapshot, remove_unfinished_snapshots, snapshot_path, snapshot_preparation,
    snapshots,
};
pub use header::SnapshotHeader;
pub use reader::SnapshotReader;
pub use section::SECTION_BYTES_MAX;
pub use writer::SnapshotWriter;

/// The version of the layout that is written, and the newest that is read.
pub const SNAPSHOT_VERSION: u16 = 1;

/// What a whole snapshot holds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct SnapshotTotals {
    /// Sales, archived ones included.
    pub sales: u64,
    /// Accounts over all sales.
    pub accounts: u64,
    /// Orders over all sales.
    pub orders: u64,
    /// Requests that did not make an order, over all sales.
    pub requests: u64,
}

/// Why bytes are not a whole snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Reading failed.
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
    /// The first bytes are something else.
    #[error("it is not a snapshot: its first bytes are something else")]
    NotASnapshot,
    /// A newer Boxoffice wrote it.
    #[error("it has the snapshot format {found}, and this program reads up to {supported}")]
    NewerFormat {
        /// The version found.
        found: u16,
        /// The newest version that can be read.
        supported: u16,
    },
    /// It ends too early.
    #[error("it is cut off at offset {offset}")]
    Cut {
        /// How many bytes there are.
        offset: u64,
    },
    /// It is not what was written.
    #[error("it is damaged: offset {offset}: {what}")]
    Damaged {
        /// Where the header, section or trailer starts in which it shows.
        offset: u64,
        /// What is wrong.
        what: String,
    },
}
