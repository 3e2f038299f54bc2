//! Snapshots of the shards' states, made beside the shards and without them.
//!
//! A snapshot is made of sealed segments: the last snapshot becomes a second engine, the sealed
//! segments behind it are replayed onto that, and what it then knows is written, read back and
//! compared. A shard never pauses for it, and never hears of it; each snapshot verifies a piece of
//! the log once more on the way.
//!
//! This is a thread and not a task of the executor: importing and replaying compute for seconds,
//! and a task that does not yield would keep administration, metrics and the next log segment
//! waiting. It works in the background (`runtime::background`), reads and writes at bounded rates,
//! and makes one snapshot at a time, since each takes the memory of its shard's state once more.
//!
//! | file | story |
//! |---|---|
//! | `build` | one snapshot, from the segments to the verified file |
//! | `retire` | what becomes of segments and snapshots that no start needs any more |
//! | `pace` | bounded rates, and the end |

mod build;
mod pace;
mod retire;

use std::io;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use self::build::{Build, BuildError, Built, build};
pub use self::pace::Pace;
pub use self::retire::retire;
use crate::model::ShardIndex;
use crate::runtime::background;
use crate::runtime::disk::disk_space;
use crate::server::config::{Retention, ServerConfig};
use crate::server::metrics::{ShardMetrics, SnapshotMetrics};
use crate::server::restore::Snapshot;
use crate::server::space::{Bytes, LogSpace};
use crate::server::start::StartedLog;
use crate::wal::{Identity, SegmentIndex};

/// Without a newly sealed segment for so long, whatever is sealed becomes a snapshot.
const QUIET: Duration = Duration::from_mins(1);

/// How soon a snapshot that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_mins(1);

/// Bytes of the log and of snapshots that are read in a second at most.
const READ_BYTES_PER_SECOND: u64 = 256 << 20;

/// Bytes of a snapshot that are written in a second at most: log writes share the disk.
const WRITE_BYTES_PER_SECOND: u64 = 64 << 20;

/// What snapshots leave on the disk for the log, beside the segments that are prepared ahead.
const SPARE_SEGMENTS: u64 = 2;
const SPARE_BYTES: u64 = 64 << 20;

/// And no more of a small disk than this share of it.
const SPARE_SHARE: u64 = 8;

/// Makes snapshots until it is stopped.
pub struct Snapshotter {
    reached: Sender<(ShardIndex, SegmentIndex)>,
    pace: Arc<Pace>,
    thread: JoinHandle<()>,
}

/// A shard's log, as the thread sees it.
struct ShardLog {
    directory: PathBuf,
    identity: Identity,
    metrics: Arc<ShardMetrics>,
    /// The last segment that is complete.
    sealed: SegmentIndex,
    /// The last segment that the newest snapshot covers, and the bytes of that snapshot.
    covered: SegmentIndex,
    snapshot_bytes: u64,
    /// After a failure: when it may be tried again.
    retry_at: Option<Instant>,
    /// The last snapshot that found no room.
    missed: Option<Missed>,
}

/// A snapshot that found no room, and finds none as long as there is no more.
#[derive(Clone, Copy)]
struct Missed {
    sealed: SegmentIndex,
    bytes: u64,
}

/// When snapshots are made, and what becomes of what they cover.
struct Rules {
    every_bytes: u64,
    segment_bytes: u64,
    spare_bytes: u64,
    shards: NonZeroU16,
    retention: Retention,
}

impl Snapshotter {
    /// Starts the thread; `None` where the settings say that there are to be no snapshots.
    pub fn start<'a>(
        config: &ServerConfig,
        shards: impl Iterator<Item = (&'a StartedLog, &'a Arc<ShardMetrics>)>,
    ) -> io::Result<Option<Self>> {
        if config.snapshot_every == 0 {
            return Ok(None);
        }
        let shards: Vec<ShardLog> = shards.map(|(log, metrics)| shard_log(log, metrics)).collect();
        let segments = u64::from(config.segments_ahead.get()) + SPARE_SEGMENTS;
        let log_bytes = config.segment_bytes.saturating_mul(segments * shards.len() as u64);
        let disk_bytes = disk_space(&config.data_dir)?.size_bytes;
        let rules = Rules {
            spare_bytes: log_bytes.saturating_add(SPARE_BYTES).min(disk_bytes / SPARE_SHARE),
            shards: NonZeroU16::new(shards.len() as u16).expect("a server has a shard"),
            every_bytes: config.snapshot_every,
            segment_bytes: config.segment_bytes,
            retention: config.retention.clone(),
        };
        background::hurry(false);
        let (reached, receiver) = mpsc::channel();
        let pace = Arc::new(Pace::new(READ_BYTES_PER_SECOND, WRITE_BYTES_PER_SECOND));
        let own = Arc::clone(&pace);
        let thread = thread::Builder::new()
            .name("snapshots".to_owned())
            .spawn(move || run(shards, &receiver, &rules, &own))?;
        Ok(Some(Self { reached, pace, thread }))
    }

    /// A shard writes this segment now: those before it are complete.
    pub fn reached(&self, shard: ShardIndex, segment: SegmentIndex) {
        self.reached.send((shard, segment)).expect("the thread lives as long as this");
    }

    /// Ends the thread. A snapshot in the making is given up.
    pub fn stop(self) {
        self.pace.stop();
        drop(self.reached);
        self.thread.join().expect("a panic of the thread ends the process");
    }
}

fn shard_log(log: &StartedLog, metrics: &Arc<ShardMetrics>) -> ShardLog {
    if let Some(snapshot) = &log.snapshot {
        publish(&metrics.snapshots, snapshot);
    }
    let before = |segment: SegmentIndex| SegmentIndex(segment.0 - 1);
    let covered = |snapshot: &Snapshot| before(snapshot.header.position.segment);
    ShardLog {
        directory: log.directory.clone(),
        identity: log.identity,
        metrics: Arc::clone(metrics),
        sealed: before(log.current),
        covered: log.snapshot.as_ref().map_or(SegmentIndex(0), covered),
        snapshot_bytes: log.snapshot.as_ref().map_or(0, |snapshot| snapshot.file.bytes),
        retry_at: None,
        missed: None,
    }
}

/// The numbers of the newest snapshot.
fn publish(metrics: &SnapshotMetrics, snapshot: &Snapshot) {
    metrics.lsn.set(snapshot.header.last_lsn.0);
    metrics.time_ms.set(snapshot.header.last_time.0);
    metrics.bytes.set(snapshot.file.bytes);
}

fn run(
    mut shards: Vec<ShardLog>,
    reached: &Receiver<(ShardIndex, SegmentIndex)>,
    rules: &Rules,
    pace: &Pace,
) {
    background::enter();
    loop {
        for shard in &mut shards {
            if pace.is_stopped() {
                return;
            }
            while !pace.is_stopped() && shard.is_due(rules.least_bytes(shard), rules) {
                shard.make(rules, pace);
            }
        }
        let mut news = match background::wait(|| reached.recv_timeout(QUIET)) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(shard) = shards.iter_mut().find(|shard| shard.is_due(1, rules)) {
                    shard.make(rules, pace);
                }
                None
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        while let Some((shard, segment)) = news {
            shards[usize::from(shard.0)].sealed = SegmentIndex(segment.0 - 1);
            news = reached.try_recv().ok();
        }
    }
}

impl Rules {
    /// Whether segments go away once two snapshots cover them.
    fn makes_room(&self) -> bool {
        !matches!(self.retention, Retention::Keep)
    }

    /// What a snapshot leaves free on its disk. Where that has no room for one more segment, the
    /// log counts on none of it, and what makes room takes what there is.
    fn spare_bytes(&self, directory: &Path) -> u64 {
        let space = LogSpace::of(directory, self.shards, self.segment_bytes);
        let is_full = space.is_ok_and(|space| space.segments() == 0);
        if is_full && self.makes_room() { 0 } else { self.spare_bytes }
    }

    /// How much log is to be sealed before the next snapshot of a shard. Of a large state it is
    /// a quarter of the size of its snapshot, so that writing snapshots never outweighs writing the
    /// log more than four times.
    fn least_bytes(&self, shard: &ShardLog) -> u64 {
        self.every_bytes.max(shard.snapshot_bytes / 4)
    }
}

impl ShardLog {
    fn is_due(&self, least_bytes: u64, rules: &Rules) -> bool {
        let segments = self.sealed.0.saturating_sub(self.covered.0);
        segments > 0
            && segments.saturating_mul(rules.segment_bytes) >= least_bytes
            && self.retry_at.is_none_or(|retry_at| retry_at <= Instant::now())
    }

    /// The last segment that the next snapshot covers. Nothing is retired before there are two: so
    /// the first one of a long log goes halfway, and the second, behind it, makes room.
    fn goal(&self, rules: &Rules) -> SegmentIndex {
        let half = SegmentIndex(self.sealed.0 / 2);
        let is_first = self.covered == SegmentIndex(0);
        let is_long = half.0.saturating_mul(rules.segment_bytes) >= rules.every_bytes;
        if rules.makes_room() && is_first && is_long { half } else { self.sealed }
    }

    fn make(&mut self, rules: &Rules, pace: &Pace) {
        let start = Instant::now();
        let (shard, sealed) = (self.identity.shard.0, self.goal(rules));
        let (directory, identity) = (&self.directory, self.identity);
        let metrics = &self.metrics.snapshots;
        self.retry_at = None;
        let spare_bytes = rules.spare_bytes(directory);
        if self.missed.is_some_and(|missed| missed.is_certain(sealed, directory, spare_bytes)) {
            return self.fail();
        }
        self.missed = None;
        match build(&Build { directory, identity, sealed, spare_bytes, pace }) {
            Ok(built) => {
                let took = start.elapsed();
                tracing::info!(
                    shard,
                    lsn = built.snapshot.header.last_lsn.0,
                    orders = built.totals.orders,
                    bytes = built.snapshot.file.bytes,
                    records = built.records,
                    elapsed_ms = took.as_millis(),
                    "a snapshot is made and verified"
                );
                self.covered = sealed;
                self.snapshot_bytes = built.snapshot.file.bytes;
                publish(metrics, &built.snapshot);
                metrics.made.add(1);
                metrics.duration_ms.set(took.as_millis() as u64);
                match retire(&self.directory, identity, &built, &rules.retention, pace) {
                    Ok(0) => {}
                    Ok(segments) => tracing::info!(shard, segments, "log segments were retired"),
                    Err(error) if !pace.is_stopped() => {
                        metrics.failures.add(1);
                        tracing::error!(
                            shard,
                            %error,
                            "log segments that are not needed any more cannot be retired; this is \
                             tried again with the next snapshot"
                        );
                    }
                    Err(_) => {}
                }
            }
            Err(BuildError::Stopped) => {}
            Err(error) => {
                let what_then = match error {
                    BuildError::NoRoom { snapshot_bytes: bytes, spare_bytes, .. } => {
                        self.missed = Some(Missed { sealed, bytes });
                        self.without_room(rules, sealed, bytes.saturating_add(spare_bytes))
                    }
                    _ => "a start reads more of the log".to_owned(),
                };
                tracing::error!(shard, %error, "no snapshot could be made; {what_then}");
                self.fail();
            }
        }
    }

    fn fail(&mut self) {
        self.metrics.snapshots.failures.add(1);
        self.retry_at = Some(Instant::now() + RETRY_PAUSE);
    }

    /// What comes of it that a snapshot up to this segment does not fit, and the ways out.
    fn without_room(&self, rules: &Rules, sealed: SegmentIndex, wanted_bytes: u64) -> String {
        let is_first = self.covered == SegmentIndex(0);
        let (meanwhile, bytes) = match (rules.makes_room(), is_first) {
            (false, _) => ("a start reads more of the log", wanted_bytes),
            (true, false) => ("no segment of the log is given up before", wanted_bytes),
            // The state, and so the second one, grows with the log.
            (true, true) => {
                let second = wanted_bytes.saturating_mul(self.sealed.0) / sealed.0;
                let both = wanted_bytes.saturating_add(second);
                ("no segment of the log is given up before there are two of them", both)
            }
        };
        let dir = self.directory.parent().unwrap_or(&self.directory).display();
        format!(
            "{meanwhile}. About {} have to be free: remove other files or make the file system \
             larger, and it goes on by itself; or stop the server and go on on a larger disk, by \
             `boxoffice backup {dir} --to BACKUP` and `boxoffice restore BACKUP --to NEW_DATA_DIR`",
            Bytes(bytes)
        )
    }
}

impl Missed {
    /// Whether the same snapshot would find no room again.
    fn is_certain(self, sealed: SegmentIndex, directory: &Path, spare_bytes: u64) -> bool {
        let wanted_bytes = self.bytes.saturating_add(spare_bytes);
        let is_there = disk_space(directory).map_or(true, |disk| disk.free_bytes >= wanted_bytes);
        self.sealed == sealed && !is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_snapshot_on_the_same_disk_is_not_tried_again() {
        let home = tempfile::tempdir().expect("a directory");
        let sealed = SegmentIndex(7);
        let is_certain = |bytes, sealed, spare_bytes| {
            Missed { sealed: SegmentIndex(7), bytes }.is_certain(sealed, home.path(), spare_bytes)
        };
        assert!(is_certain(u64::MAX, sealed, 0) && is_certain(1, sealed, u64::MAX));
        assert!(!is_certain(1, sealed, 0), "there is room");
        assert!(!is_certain(u64::MAX, sealed.next(), 0), "sales may have been archived");
    }
}
