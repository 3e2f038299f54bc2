//! Preparing log segments before a shard needs them.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use glommio::channels::local_channel::{LocalReceiver, LocalSender, new_unbounded};
use glommio::io::{Directory, DmaFile};
use glommio::timer::sleep;

use super::{Fatal, Orders};
use crate::runtime::file::open_direct;
use crate::server::ServerError;
use crate::server::shard::Order;
use crate::server::start::StartedLog;
use crate::wal::{Segment, SegmentHeader, SegmentIndex, preparation_path, segment_path};

/// Prepared segments behind the one that is written.
pub const SEGMENTS_AHEAD: u64 = 2;

/// Zeros that are written at once. Log writes share the disk, and wait behind a long one.
const CHUNK_BYTES: usize = 64 << 10;

/// The pause behind each chunk while the shard has a segment ahead: 16 MiB/s of zeros. Without
/// one there is no pause.
const CHUNK_PAUSE: Duration = Duration::from_millis(4);

/// How soon a preparation that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Keeps one log ahead of its shard.
pub struct Preparer {
    reached: LocalSender<SegmentIndex>,
    state: Rc<State>,
}

struct State {
    log: StartedLog,
    orders: Orders,
    segment_bytes: u64,
    fatal: Fatal,
    /// The segment that the shard writes.
    current: Cell<SegmentIndex>,
    /// Why the last preparation failed.
    failure: RefCell<Option<(SegmentIndex, io::Error)>>,
    /// Whether the shard has no segment to write to.
    is_starved: Cell<bool>,
}

impl Preparer {
    /// Starts to prepare what is missing ahead of the log.
    pub fn new(log: StartedLog, orders: Orders, segment_bytes: u64, fatal: Fatal) -> Self {
        let (reached, receiver) = new_unbounded();
        let state = Rc::new(State {
            current: Cell::new(log.current),
            log,
            orders,
            segment_bytes,
            fatal,
            failure: RefCell::new(None),
            is_starved: Cell::new(false),
        });
        glommio::spawn_local(keep_ahead(Rc::clone(&state), receiver)).detach();
        Self { reached, state }
    }

    /// The shard writes this segment now.
    pub fn reached(&self, segment: SegmentIndex) {
        self.state.current.set(segment);
        self.reached.try_send(segment).expect("the task lives as long as this");
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
            (self.fatal)(&ServerError::Prepare { shard, segment, source });
        }
    }
}

async fn keep_ahead(state: Rc<State>, reached: LocalReceiver<SegmentIndex>) {
    let mut next = SegmentIndex(state.current.get().0 + 1 + state.log.ahead as u64);
    loop {
        while next.0 <= state.current.get().0 + SEGMENTS_AHEAD {
            let segment = Segment { index: next, bytes: state.segment_bytes };
            match prepare(&state, segment).await {
                Ok(file) => {
                    state.failure.take();
                    state.is_starved.set(false);
                    let mut orders = state.orders.borrow_mut();
                    let pushed = orders.push(Order::Segment(segment, file));
                    pushed.expect("a shard takes its orders every turn");
                    orders.wake();
                    next = next.next();
                }
                Err(error) => {
                    tracing::error!(
                        shard = state.log.identity.shard.0,
                        segment = next.0,
                        %error,
                        "cannot prepare a log segment; the server stops when it needs it"
                    );
                    state.failure.replace(Some((next, error)));
                    state.give_up_if_hopeless();
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
        if reached.recv().await.is_none() {
            return;
        }
    }
}

/// Makes a segment, zero-filled and durable, and opens it for the shard's writes.
async fn prepare(state: &State, segment: Segment) -> io::Result<File> {
    let log = &state.log;
    let temporary = preparation_path(&log.directory, segment.index);
    let path = segment_path(&log.directory, segment.index);
    let file = DmaFile::create(&temporary).await?;
    let filled = fill(&file, state, segment).await;
    let synced = match filled {
        Ok(()) => file.fdatasync().await.map_err(io::Error::from),
        Err(error) => Err(error),
    };
    file.close().await?;
    if let Err(error) = synced {
        // The space that a half-made segment takes may be what is missing.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    std::fs::rename(&temporary, &path)?;
    let directory = Directory::open(&log.directory).await?;
    directory.sync().await?;
    directory.close().await?;
    open_direct(&path, log.sync)
}

async fn fill(file: &DmaFile, state: &State, segment: Segment) -> io::Result<()> {
    file.pre_allocate(segment.bytes, false).await?;
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
