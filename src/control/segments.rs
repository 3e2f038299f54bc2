//! Preparing log segments before a shard needs them, and watching what the disk has left.
//!
//! ```text
//! N.wal …      prepared: zero-filled, durable, open on the shard
//! M.wal.tmp …  secured: allocated behind them, for as much as live holds need
//! free         what the disk has left for this log
//! ```
//!
//! The first segment behind the written one is prepared at once. Those behind it are a pool for
//! a rush: filled while the shard is quiet, or once a rush has used most of it up. Where a segment
//! cannot be prepared it is tried again every second. The shard is told what there is beyond the
//! prepared segments, and refuses new stock in time (see `server::fullness`).

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::num::NonZeroU16;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;
use glommio::channels::local_channel::{LocalReceiver, LocalSender, new_unbounded};
use glommio::io::{Directory, DmaFile, OpenOptions};
use glommio::timer::sleep;

use super::{Fatal, Orders};
use crate::model::Lsn;
use crate::runtime::file::open_direct;
use crate::server::metrics::ShardMetrics;
use crate::server::shard::Order;
use crate::server::space::{LogSpace, is_disk_full, secured_segments};
use crate::server::start::StartedLog;
use crate::server::{Beyond, ServerError};
use crate::wal::{
    BLOCK_BYTES, Segment, SegmentHeader, SegmentIndex, preparation_path, segment_path, segment_room,
};

/// Zeros that are written at once. Log writes share the disk, and wait behind a long one.
const CHUNK_BYTES: usize = 64 << 10;

/// The pause behind each chunk while the shard has a segment ahead: 16 MiB/s of zeros. Without
/// one there is no pause.
const CHUNK_PAUSE: Duration = Duration::from_millis(4);

/// How often the disk is looked at, and a preparation tried again that failed.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Below so many segments ahead, one is prepared even in the midst of a rush.
const URGENT_BELOW: u64 = 2;

/// With fewer records a second a shard is quiet.
const QUIET_RECORDS: u64 = 2_000;

/// What is to be prepared for each log.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The size of its segments.
    pub segment_bytes: u64,
    /// How many of them, at most.
    pub ahead: u64,
    /// How many logs share the disk.
    pub shards: NonZeroU16,
}

/// Keeps one log ahead of its shard.
pub struct Preparer {
    reached: LocalSender<()>,
    state: Rc<State>,
}

struct State {
    log: StartedLog,
    metrics: Arc<ShardMetrics>,
    orders: Orders,
    plan: Plan,
    fatal: Fatal,
    /// The segment that the shard writes.
    current: Cell<SegmentIndex>,
    /// The segment to prepare next.
    next: Cell<SegmentIndex>,
    /// Segments from `next` on that have all their space on the disk.
    secured: Cell<u64>,
    /// Whether the next segment is being made.
    is_preparing: Cell<bool>,
    /// Why the last preparation failed.
    failure: RefCell<Option<(SegmentIndex, io::Error)>>,
    /// Whether the shard has no segment to write to.
    is_starved: Cell<bool>,
    /// What the shard believes that there is.
    told: Cell<Option<Beyond>>,
    /// The last record when the disk was last looked at.
    seen_lsn: Cell<Lsn>,
    is_quiet: Cell<bool>,
    /// Whether the shard refused new stock then.
    was_full: Cell<bool>,
}

impl Preparer {
    /// Starts to prepare what is missing ahead of the log.
    pub fn new(
        log: StartedLog,
        metrics: Arc<ShardMetrics>,
        orders: Orders,
        plan: Plan,
        fatal: Fatal,
    ) -> Self {
        let (reached, receiver) = new_unbounded();
        let next = SegmentIndex(log.current.0 + 1 + log.ahead as u64);
        let secured = secured_segments(&log.directory, next, plan.segment_bytes);
        remove_strays(&log.directory, next.0..next.0 + secured);
        let state = Rc::new(State {
            current: Cell::new(log.current),
            next: Cell::new(next),
            seen_lsn: Cell::new(Lsn(metrics.appended_lsn.value())),
            log,
            metrics,
            orders,
            plan,
            fatal,
            secured: Cell::new(secured),
            is_preparing: Cell::new(false),
            failure: RefCell::new(None),
            is_starved: Cell::new(false),
            told: Cell::new(None),
            is_quiet: Cell::new(true),
            was_full: Cell::new(false),
        });
        let own = Rc::clone(&state);
        let work = async move {
            probe(&own).await;
            glommio::spawn_local(keep_ahead(Rc::clone(&own), receiver)).detach();
            watch(own).await;
        };
        glommio::spawn_local(work).detach();
        Self { reached, state }
    }

    /// The shard writes this segment now.
    pub fn reached(&self, segment: SegmentIndex) {
        self.state.current.set(segment);
        self.reached.try_send(()).expect("the task lives as long as this");
    }

    /// The shard waits for a segment. Where none can be prepared, the server cannot go on.
    pub fn starved(&self) {
        self.state.is_starved.set(true);
        self.state.give_up_if_hopeless();
    }
}

impl State {
    fn give_up_if_hopeless(&self) {
        if !self.is_starved.get() {
            return;
        }
        if let Some((segment, source)) = self.failure.take() {
            let shard = self.log.identity.shard;
            let path = segment_path(&self.log.directory, segment);
            (self.fatal)(&ServerError::Prepare { shard, path, source });
        }
    }

    /// Segments that are prepared behind the one that is written.
    fn ahead(&self) -> u64 {
        self.next.get().0 - self.current.get().0 - 1
    }

    fn space(&self) -> io::Result<LogSpace> {
        LogSpace::of(&self.log.directory, self.plan.shards, self.plan.segment_bytes)
    }

    fn wants_more(&self) -> bool {
        let ahead = self.ahead();
        let is_time = ahead < URGENT_BELOW || self.is_quiet.get();
        // Where the space is unknown, preparing the next segment will tell.
        is_time && self.space().map_or(ahead == 0, |space| space.wants_more(ahead, self.plan.ahead))
    }

    fn segment(&self, index: u64) -> Segment {
        Segment { index: SegmentIndex(index), bytes: self.plan.segment_bytes }
    }

    fn hand_over(&self, segment: Segment, file: File) {
        if self.failure.take().is_some() {
            tracing::info!(shard = self.log.identity.shard.0, "log segments are prepared again");
        }
        self.is_starved.set(false);
        let mut orders = self.orders.borrow_mut();
        let pushed = orders.push(Order::Segment(segment, file));
        pushed.expect("a shard takes its orders every turn");
        orders.wake();
        drop(orders);
        self.secured.set(self.secured.get().saturating_sub(1));
        self.next.set(segment.index.next());
        // The shard has taken it off what there was beyond; from where is its own affair.
        self.told.set(None);
        self.tell();
    }

    fn fail(&self, segment: SegmentIndex, error: io::Error) {
        if self.failure.replace(Some((segment, error))).is_none() {
            let failure = self.failure.borrow();
            tracing::error!(
                shard = self.log.identity.shard.0,
                segment = segment.0,
                error = failure.as_ref().map(|(_, error)| error as &dyn std::error::Error),
                "cannot prepare a log segment; it is tried again every second, and new stock is \
                 refused before the room is used up"
            );
        }
        self.give_up_if_hopeless();
        self.tell();
    }

    /// Tells the shard what there is beyond its prepared segments, where that has changed.
    fn tell(&self) {
        let room = segment_room(self.segment(self.next.get().0));
        let free = self.space().map_or(0, |space| space.segments());
        let beyond = if self.failure.borrow().is_some() {
            // What cannot be prepared is of no use, whatever the disk says of itself.
            Beyond::default()
        } else {
            Beyond { secured: self.secured.get() * room, free: free.saturating_mul(room) }
        };
        if self.told.get() == Some(beyond) {
            return;
        }
        let mut orders = self.orders.borrow_mut();
        // A full mailbox is tried again with the next look.
        if orders.push(Order::Space(beyond)).is_ok() {
            self.told.set(Some(beyond));
            orders.wake();
        }
    }

    /// Allocates segments until everything that is kept for live holds has its place on the disk.
    async fn secure(&self) {
        let room_bytes = segment_room(self.segment(0)) * BLOCK_BYTES as u64;
        loop {
            let there = self.metrics.prepared_bytes.value() + self.secured.get() * room_bytes;
            let is_enough = there >= self.metrics.reserved_bytes.value();
            let has_room = self.space().is_ok_and(|space| space.segments() > 0);
            // The one that is being made secures itself.
            let is_busy = self.is_preparing.get() && self.secured.get() == 0;
            if is_enough || !has_room || is_busy {
                return;
            }
            let segment = self.segment(self.next.get().0 + self.secured.get());
            let path = preparation_path(&self.log.directory, segment.index);
            if let Err(error) = allocate(&path, segment.bytes).await {
                tracing::warn!(shard = self.log.identity.shard.0, %error, "cannot secure room");
                return;
            }
            self.secured.set(segment.index.0 + 1 - self.next.get().0);
        }
    }

    fn look(&self) {
        let lsn = Lsn(self.metrics.appended_lsn.value());
        let records = lsn.0.saturating_sub(self.seen_lsn.replace(lsn).0);
        self.is_quiet.set(records < QUIET_RECORDS);
        self.tell();
        let is_full = self.metrics.full.value() > 0;
        if is_full == self.was_full.replace(is_full) {
            return;
        }
        let shard = self.log.identity.shard.0;
        let failure = self.failure.borrow();
        if is_full && failure.as_ref().is_some_and(|(_, error)| !is_disk_full(error)) {
            tracing::error!(
                shard,
                "no log segment can be prepared, and not for want of space: holds and purchases \
                 are refused (DISK_FULL), what ends a hold goes on; check the disk (dmesg, mount)"
            );
        } else if is_full {
            tracing::error!(
                shard,
                "the disk is full: holds and purchases are refused (DISK_FULL), what ends a hold \
                 goes on; free some space or make the file system larger, and they are taken again \
                 at once; or stop the server and go on on a larger disk (`boxoffice backup`, \
                 `boxoffice restore`)"
            );
        } else {
            tracing::info!(shard, "there is room on the disk: holds and purchases are taken again");
        }
    }
}

/// Removes what an earlier run has left that is none of these secured segments: half-made ones,
/// and those of another size.
fn remove_strays(directory: &Path, secured: Range<u64>) {
    let kept: Vec<_> =
        secured.map(|index| preparation_path(directory, SegmentIndex(index))).collect();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_preparation = path.to_str().is_some_and(|path| path.ends_with(".wal.tmp"));
        if is_preparation && !kept.contains(&path) {
            // One that stays takes room until its turn comes.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The first file of a disk that the executor opens is read once, to learn how the disk completes
/// reads. So that is one that has something to read, and on the disk.
async fn probe(state: &State) {
    let path = segment_path(&state.log.directory, state.current.get());
    if let Ok(file) = DmaFile::open(path).await {
        // What is wrong with the disk will show in what matters.
        let _ = file.close().await;
    }
}

async fn keep_ahead(state: Rc<State>, reached: LocalReceiver<()>) {
    loop {
        if state.wants_more() {
            let segment = state.segment(state.next.get().0);
            state.is_preparing.set(true);
            let prepared = prepare(&state, segment).await;
            state.is_preparing.set(false);
            match prepared {
                Ok(file) => state.hand_over(segment, file),
                Err(error) => {
                    state.fail(segment.index, error);
                    sleep(LOOK_PAUSE).await;
                }
            }
            continue;
        }
        // What failed before is not wanted any more, or was made meanwhile.
        state.failure.take();
        let told = async { reached.recv().await.is_some() };
        let later = async {
            sleep(LOOK_PAUSE).await;
            true
        };
        if !future::or(told, later).await {
            return;
        }
    }
}

async fn watch(state: Rc<State>) {
    loop {
        state.secure().await;
        state.look();
        sleep(LOOK_PAUSE).await;
    }
}

/// Makes a segment, zero-filled and durable, and opens it for the shard's writes.
async fn prepare(state: &State, segment: Segment) -> io::Result<File> {
    let log = &state.log;
    let temporary = preparation_path(&log.directory, segment.index);
    let path = segment_path(&log.directory, segment.index);
    if state.secured.get() == 0 {
        allocate(&temporary, segment.bytes).await?;
        state.secured.set(1);
    }
    let file = OpenOptions::new().read(true).write(true).dma_open(&temporary).await?;
    let filled = fill(&file, state, segment).await;
    let synced = match filled {
        Ok(()) => file.fdatasync().await.map_err(io::Error::from),
        Err(error) => Err(error),
    };
    file.close().await?;
    if let Err(error) = synced {
        // Made anew from nothing: nobody knows what a failed write has left.
        state.secured.set(0);
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    let directory = Directory::open(&log.directory).await?;
    std::fs::rename(&temporary, &path)?;
    if let Err(error) = directory.sync().await {
        // Never tried again: after a failed sync nobody knows whether the segment has its name on
        // the disk, and without it what is written to it would be lost.
        let (path, source) = (log.directory.clone(), error.into());
        (state.fatal)(&ServerError::SyncDirectory { path, source });
    }
    directory.close().await?;
    open_direct(&path, log.sync)
}

/// Makes a file that has all its space on the disk, and nothing in it.
async fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = DmaFile::create(path).await?;
    let allocated = file.pre_allocate(bytes, false).await;
    file.close().await?;
    if let Err(error) = allocated {
        // The space that a half-made segment takes may be what is missing.
        let _ = std::fs::remove_file(path);
        return Err(error.into());
    }
    Ok(())
}

async fn fill(file: &DmaFile, state: &State, segment: Segment) -> io::Result<()> {
    let mut zeros = file.alloc_dma_buffer(CHUNK_BYTES);
    zeros.as_bytes_mut().fill(0);
    let zeros = Rc::new(zeros);
    let header = SegmentHeader { identity: state.log.identity, segment }.encode();
    let mut first = file.alloc_dma_buffer(header.len());
    first.as_bytes_mut().copy_from_slice(&header);
    let mut offset = file.write_at(first, 0).await? as u64;
    while segment.bytes - offset >= CHUNK_BYTES as u64 {
        offset += file.write_rc_at(Rc::clone(&zeros), offset).await? as u64;
        if segment.index.0 > state.current.get().0 + 1 {
            sleep(CHUNK_PAUSE).await;
        }
    }
    let rest = (segment.bytes - offset) as usize;
    if rest > 0 {
        let mut last = file.alloc_dma_buffer(rest);
        last.as_bytes_mut().fill(0);
        file.write_at(last, offset).await?;
    }
    Ok(())
}
