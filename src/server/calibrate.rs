//! Which way of making a write durable is faster on this disk, measured at start-up.
//!
//! Disks differ: with a write-back cache, `O_DSYNC` may cost a flush per write that a linked
//! `fdatasync` would also cost, or a cheaper forced write. A few dozen real writes decide.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use super::error::ServerError;
use crate::runtime::buffer::PAGE_BYTES;
use crate::runtime::file::{SyncMethod, open_direct};
use crate::runtime::{AlignedBuffer, Clock, Event, Ring, Token, Wait};

/// Writes by each method that count.
const ROUNDS: usize = 24;

/// The space that a measurement takes for as long as it lasts.
pub const CALIBRATION_BYTES: usize = ROUNDS * PAGE_BYTES;

/// The most writes of [`write_times`].
const WRITES_MAX: usize = 4096;

/// How a disk did.
#[derive(Clone, Copy, Debug)]
pub struct Calibration {
    /// The faster method.
    pub method: SyncMethod,
    /// The median time of a synchronous write of one page.
    pub data_sync: Duration,
    /// The median time of a write of one page with a linked flush.
    pub flush: Duration,
}

/// Measures both methods on a zero-filled file in `directory`, in turns.
pub fn calibrate(
    ring: &mut Ring,
    clock: &impl Clock,
    directory: &Path,
) -> Result<Calibration, ServerError> {
    let path = directory.join("calibrate.tmp");
    let measured = zero_filled(&path)
        .map_err(ServerError::system("write a file to measure the disk"))
        .and_then(|()| measure(ring, clock, &path));
    // A file that stays behind is overwritten by the next start.
    let _ = fs::remove_file(&path);
    measured
}

/// How long synchronous writes of one page take, one after another for as long as `budget`.
///
/// The file has a name of this process's own, and none any more while it is written.
pub fn write_times(
    ring: &mut Ring,
    clock: &impl Clock,
    directory: &Path,
    budget: Duration,
) -> Result<Vec<Duration>, ServerError> {
    let path = directory.join(format!("measure-{}.tmp", std::process::id()));
    let file = zero_filled(&path)
        .map_err(ServerError::system("write a file to measure the disk"))
        .and_then(|()| {
            open_direct(&path, SyncMethod::DataSync)
                .map_err(|source| ServerError::DirectIo { path: path.clone(), source })
        });
    let _ = fs::remove_file(&path);
    let file = file?;
    let mut times = Vec::new();
    let mut buffer = AlignedBuffer::new(PAGE_BYTES);
    let first = clock.monotonic();
    while times.len() < WRITES_MAX && clock.monotonic().saturating_sub(first) < budget {
        let start = clock.monotonic();
        let offset = (times.len() % ROUNDS * PAGE_BYTES) as u64;
        ring.write(file.as_fd(), Token(0), (buffer, PAGE_BYTES), offset, SyncMethod::DataSync);
        buffer = written(ring).map_err(ServerError::system("measure the disk"))?;
        times.push(clock.monotonic().saturating_sub(start));
    }
    Ok(times)
}

fn zero_filled(path: &Path) -> io::Result<()> {
    fs::write(path, vec![0; CALIBRATION_BYTES])?;
    File::open(path)?.sync_all()
}

fn measure(ring: &mut Ring, clock: &impl Clock, path: &Path) -> Result<Calibration, ServerError> {
    let open = |method| {
        open_direct(path, method)
            .map_err(|source| ServerError::DirectIo { path: path.to_owned(), source })
    };
    let files = [
        (SyncMethod::DataSync, open(SyncMethod::DataSync)?),
        (SyncMethod::Flush, open(SyncMethod::Flush)?),
    ];
    let mut times = [Vec::new(), Vec::new()];
    let mut buffer = AlignedBuffer::new(PAGE_BYTES);
    for round in 0..ROUNDS {
        for ((method, file), times) in files.iter().zip(&mut times) {
            let start = clock.monotonic();
            let offset = (round * PAGE_BYTES) as u64;
            ring.write(file.as_fd(), Token(0), (buffer, PAGE_BYTES), offset, *method);
            buffer = written(ring).map_err(ServerError::system("measure the disk"))?;
            times.push(clock.monotonic().saturating_sub(start));
        }
    }
    let [data_sync, flush] = times.map(median);
    let method = if flush < data_sync { SyncMethod::Flush } else { SyncMethod::DataSync };
    Ok(Calibration { method, data_sync, flush })
}

/// Waits for the only write in flight.
fn written(ring: &mut Ring) -> io::Result<AlignedBuffer> {
    let mut events = Vec::new();
    loop {
        ring.enter(Wait::Forever)?;
        ring.take_events(&mut events);
        if let Some(Event::Written { buffer, result, .. }) = events.pop() {
            return result.map(|_| buffer);
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
