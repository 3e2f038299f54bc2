//! Bounded rates, and the end: what reading and writing for snapshots goes through.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::runtime::background;
use crate::runtime::disk::disk_space;
use crate::wal::{FileStorage, LogStorage, Position, Segment, SegmentIndex};

/// Bytes that are written before they are synced: a sync of much more would hold up log writes.
const SYNC_BYTES: u64 = 4 << 20;

/// Bytes that are handed on at once: each call is short for the kernel, too.
const PIECE_BYTES: usize = 64 << 10;

/// The longest sleep between two looks at whether it is the end.
const NAP: Duration = Duration::from_millis(50);

/// How fast it may go, and whether it may go on.
#[derive(Debug)]
pub struct Pace {
    read: Rate,
    write: Rate,
    is_stopped: AtomicBool,
}

#[derive(Debug)]
struct Rate {
    bytes_per_second: u64,
    /// When what was handed on has taken its time.
    paid_at: Mutex<Instant>,
}

impl Pace {
    /// At most so many bytes in a second.
    #[must_use]
    pub fn new(read_bytes_per_second: u64, write_bytes_per_second: u64) -> Self {
        let rate =
            |bytes_per_second| Rate { bytes_per_second, paid_at: Mutex::new(Instant::now()) };
        Self {
            read: rate(read_bytes_per_second),
            write: rate(write_bytes_per_second),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Whatever is under way fails soon.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        background::hurry(true);
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    fn check_end(&self) -> io::Result<()> {
        if self.is_stopped() { Err(io::Error::other("the server stops")) } else { Ok(()) }
    }

    fn spend(&self, rate: &Rate, bytes: usize) -> io::Result<()> {
        let took = Duration::from_secs_f64(bytes as f64 / rate.bytes_per_second as f64);
        let paid_at = {
            let mut paid_at = rate.paid_at.lock().expect("nothing panics with it");
            // Time that was not used is not saved up.
            *paid_at = (*paid_at).max(Instant::now()) + took;
            *paid_at
        };
        // Readers ahead have threads of their own.
        background::enter();
        loop {
            self.check_end()?;
            let left = paid_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(NAP));
        }
    }
}

/// Reads at that pace.
pub(super) struct PacedReader<'a, R> {
    pub(super) from: R,
    pub(super) pace: &'a Pace,
}

impl<R: Read> Read for PacedReader<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        self.pace.spend(&self.pace.read, read)?;
        Ok(read)
    }
}

/// Writes a file at that pace, and syncs it on the way; not when the disk's last space goes, which
/// the log is to have.
pub(super) struct PacedFile<'a> {
    file: File,
    directory: &'a Path,
    spare_bytes: u64,
    pace: &'a Pace,
    unsynced: u64,
}

impl<'a> PacedFile<'a> {
    /// Makes the file, in a directory on whose disk so many bytes are to stay free.
    pub(super) fn create(path: &'a Path, spare_bytes: u64, pace: &'a Pace) -> io::Result<Self> {
        let directory = path.parent().expect("a file lies in a directory");
        let file = Self { file: File::create(path)?, directory, spare_bytes, pace, unsynced: 0 };
        file.check_space()?;
        Ok(file)
    }

    fn check_space(&self) -> io::Result<()> {
        if self.spare_bytes > 0 && disk_space(self.directory)?.free_bytes < self.spare_bytes {
            let reason = "the disk has only left what the log may need";
            return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
        }
        Ok(())
    }

    /// The file, all of it synced.
    pub(super) fn finish(self) -> io::Result<File> {
        self.file.sync_all()?;
        Ok(self.file)
    }
}

impl Write for PacedFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(&bytes[..bytes.len().min(PIECE_BYTES)])?;
        self.unsynced += written as u64;
        if self.unsynced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
            self.check_space()?;
        }
        self.pace.spend(&self.pace.write, written)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts what would be written, until the end.
pub(super) struct Measure<'a> {
    pub(super) bytes: u64,
    pub(super) pace: &'a Pace,
}

impl Write for Measure<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        self.pace.check_end()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The sealed part of a log, read at that pace: no segment behind `last` is there.
pub(super) struct SealedLog<'a> {
    pub(super) storage: FileStorage,
    pub(super) last: SegmentIndex,
    pub(super) pace: &'a Pace,
}

impl LogStorage for SealedLog<'_> {
    fn segments(&self) -> io::Result<Vec<Segment>> {
        let mut segments = self.storage.segments()?;
        segments.retain(|segment| segment.index <= self.last);
        Ok(segments)
    }

    fn read_at(&self, position: Position, into: &mut [u8]) -> io::Result<()> {
        let Position { segment, mut offset } = position;
        for piece in into.chunks_mut(PIECE_BYTES) {
            self.storage.read_at(Position { segment, offset }, piece)?;
            self.pace.spend(&self.pace.read, piece.len())?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    fn zero_and_sync(&self, _: Position, _: u64) -> io::Result<()> {
        Err(io::Error::other("a sealed segment is never changed"))
    }

    fn path(&self, segment: SegmentIndex) -> PathBuf {
        self.storage.path(segment)
    }
}
