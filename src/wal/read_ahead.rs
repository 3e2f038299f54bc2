//! Reading a log in big pieces on a thread of its own, so that disk and decoding overlap.
//!
//! A few buffers go round between reader and consumer. What the consumer could not use yet (a
//! frame that goes on in the next piece) is copied in front of that piece, so that every frame
//! lies in one window. The reader ends when the segments do, at the first error, or when the
//! consumer goes away.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::frame::FRAME_BYTES_MAX;
use super::segment::{Position, Segment, SegmentIndex};
use super::storage::LogStorage;

/// Bytes that are read at once.
const CHUNK_BYTES: u64 = 2 << 20;

/// One buffer is decoded, one is ready, one is being read.
const BUFFERS: usize = 3;

/// A piece of a segment.
struct Chunk {
    segment: Segment,
    offset: u64,
    buffer: Vec<u8>,
    bytes: usize,
}

/// A read failed.
pub(super) struct ReadFailed {
    pub(super) segment: SegmentIndex,
    pub(super) source: io::Error,
}

/// The log's bytes, window by window.
pub(super) struct Windows {
    full: Receiver<Result<Chunk, ReadFailed>>,
    free: SyncSender<Vec<u8>>,
    current: Option<Chunk>,
    headroom: usize,
}

/// Consecutive bytes of one segment.
pub(super) struct Window<'a> {
    /// The segment, with the size of its file.
    pub(super) segment: Segment,
    /// Where the bytes start.
    pub(super) offset: u64,
    pub(super) bytes: &'a [u8],
}

/// Runs `consume` over all bytes of `segments`, in order.
pub(super) fn read_ahead<S: LogStorage, R>(
    storage: &S,
    segments: &[Segment],
    consume: impl FnOnce(Windows) -> R,
) -> R {
    let largest = segments.iter().map(|segment| segment.bytes).max().unwrap_or(0);
    let headroom = (FRAME_BYTES_MAX as u64).min(largest) as usize;
    let chunk_bytes = CHUNK_BYTES.min(largest);
    let (full_in, full) = sync_channel(BUFFERS);
    let (free, free_out) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        let buffer = vec![0; headroom + chunk_bytes as usize];
        free.send(buffer).expect("the channel holds every buffer");
    }
    std::thread::scope(|scope| {
        scope.spawn(move || {
            read_all(storage, segments, headroom, chunk_bytes, &free_out, &full_in);
        });
        consume(Windows { full, free, current: None, headroom })
    })
}

fn read_all<S: LogStorage>(
    storage: &S,
    segments: &[Segment],
    headroom: usize,
    chunk_bytes: u64,
    free: &Receiver<Vec<u8>>,
    full: &SyncSender<Result<Chunk, ReadFailed>>,
) {
    for &segment in segments {
        let mut offset = 0;
        // An empty file has one piece, too: nothing is passed over.
        loop {
            // A closed channel means that the consumer has seen enough.
            let Ok(mut buffer) = free.recv() else { return };
            let bytes = chunk_bytes.min(segment.bytes - offset) as usize;
            let position = Position { segment: segment.index, offset };
            let read = storage.read_at(position, &mut buffer[headroom..headroom + bytes]);
            let chunk = match read {
                Ok(()) => Ok(Chunk { segment, offset, buffer, bytes }),
                Err(source) => Err(ReadFailed { segment: segment.index, source }),
            };
            let failed = chunk.is_err();
            if full.send(chunk).is_err() || failed {
                return;
            }
            offset += bytes as u64;
            if offset >= segment.bytes {
                break;
            }
        }
    }
}

impl Windows {
    /// The next window; it starts with the last `unused` bytes of the one before. `None` at the
    /// end of the log.
    pub(super) fn next(&mut self, unused: usize) -> Result<Option<Window<'_>>, ReadFailed> {
        let Ok(chunk) = self.full.recv() else { return Ok(None) };
        let mut chunk = chunk?;
        let start = self.headroom - unused;
        if let Some(used) = self.current.take() {
            assert!(unused == 0 || used.segment.index == chunk.segment.index);
            let end = self.headroom + used.bytes;
            chunk.buffer[start..self.headroom].copy_from_slice(&used.buffer[end - unused..end]);
            // The reader may be gone already, having read everything.
            let _ = self.free.send(used.buffer);
        }
        let chunk = self.current.insert(chunk);
        Ok(Some(Window {
            segment: chunk.segment,
            offset: chunk.offset - unused as u64,
            bytes: &chunk.buffer[start..self.headroom + chunk.bytes],
        }))
    }
}
