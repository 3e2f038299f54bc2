//! The cold plane: one glommio executor for what is slow, rare or sequential.
//!
//! It starts the shards, serves administration, prepares log segments before they are needed, has
//! snapshots made by a thread of its own, and stops the server on a signal. It never touches a
//! shard's state: orders go out by mailbox, reports come in by a channel, and a bell wakes it. All
//! that the project uses of glommio is in this module.

pub mod admin;
mod bell;
mod desk;
pub mod metrics;
mod reload;
mod segments;
pub mod snapshots;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::admin::Door;
use self::bell::{Bell, Ringer};
use self::desk::Desk;
use self::metrics::{Scraped, Scraper};
pub use self::reload::Load;
use self::reload::Reloader;
use self::segments::{Plan, Preparer};
use self::snapshots::Snapshotter;
use crate::model::ShardIndex;
use crate::runtime::{Outbox, Ring};
use crate::server::ServerError;
use crate::server::config::{AdminAddress, ServerConfig};
use crate::server::datadir::DataDir;
use crate::server::shard::{Order, Report, Reporter};
use crate::server::start::{Opened, RING, Started, StartedShard, open, start};

/// The executor's memory for direct I/O.
const IO_MEMORY_BYTES: usize = 4 << 20;

/// How the process ends where a shard cannot go on. Called on that shard's thread.
pub type Fatal = fn(&ServerError) -> !;

/// Orders to one shard, from any task of the executor.
type Orders = Rc<RefCell<Outbox<Order>>>;

/// What becomes known while a server starts.
#[derive(Clone, Copy, Debug)]
pub enum Milestone<'a> {
    /// Administration is listened for, here; the logs are yet to be recovered.
    Admin(&'a AdminAddress),
    /// Every shard serves.
    Serving(&'a Started),
}

/// Serves until a signal or an error ends it. `announce` is called once for each milestone, and
/// `load` reads the keys again that `config` has, whenever a signal asks for that.
pub fn serve(
    config: &ServerConfig,
    load: Load,
    announce: impl Fn(Milestone<'_>),
    fatal: Fatal,
) -> Result<(), ServerError> {
    // Where there is no ring, nothing is made.
    let executor = executor()?;
    // The directory is this process's own before anything in it, such as a socket, is replaced.
    let opened = open(config)?;
    executor.run(run(config.clone(), opened, load, announce, fatal))
}

/// Whether the control plane's executor can be set up here; it is gone when this returns.
pub fn try_executor() -> Result<(), ServerError> {
    executor().map(|_| ())
}

fn executor() -> Result<LocalExecutor, ServerError> {
    // Without io_uring glommio panics.
    Ring::probe(&RING)?;
    LocalExecutorBuilder::new(Placement::Unbound)
        .name("control")
        .io_memory(IO_MEMORY_BYTES)
        .make()
        .map_err(|error| ServerError::Executor { reason: error.to_string() })
}

async fn run(
    config: ServerConfig,
    opened: Opened,
    load: Load,
    announce: impl Fn(Milestone<'_>),
    fatal: Fatal,
) -> Result<(), ServerError> {
    let mut bell = Bell::new().map_err(ServerError::system("make the control plane's bell"))?;
    let ringer = || bell.ringer().map_err(ServerError::system("make the control plane's bell"));
    let stop = Arc::new(AtomicBool::new(false));
    let reload = Arc::new(AtomicBool::new(false));
    catch_signals(&bell, &stop, &reload).map_err(ServerError::system("catch signals"))?;
    let config = Arc::new(config);
    let desk = Rc::new(Desk::new());
    let scraper = Rc::new(Scraper::new(config.data_dir.clone()));
    let door = Door::open(&config, &desk, &scraper, ringer()?)?;
    announce(Milestone::Admin(door.address()));
    let (reports_sender, reports) = mpsc::channel();
    let starting = Starting::spawn(Arc::clone(&config), opened, reports_sender, ringer()?, fatal)?;
    let (shards, data_dir) = (Vec::new(), None);
    let reloader = Reloader::new(load, reload);
    let snapshotter = None;
    let mut plane =
        Plane { config, desk, scraper, reports, shards, snapshotter, data_dir, reloader, busy: 0 };
    let mut starting = Some(starting);
    loop {
        bell.heard().await.map_err(ServerError::system("listen to the control plane's bell"))?;
        door.let_in();
        if let Some(started) = starting.as_ref().and_then(Starting::poll) {
            let started = started?;
            announce(Milestone::Serving(&started));
            plane.take_over(started, fatal)?;
            starting = None;
        }
        plane.take_reports();
        if starting.is_none() {
            plane.reload(&door);
        }
        if stop.load(Ordering::Relaxed) {
            if starting.is_some() {
                // Nothing was served, and a recovery that is cut short is begun anew.
                tracing::info!("stopped before it served");
                return Ok(());
            }
            plane.drain();
        }
        if starting.is_none() && plane.busy == 0 {
            break;
        }
    }
    door.finish().await;
    plane.stop();
    tracing::info!("stopped");
    Ok(())
}

/// The thread that recovers the logs and starts the shards: it blocks for as long as that takes.
struct Starting(Receiver<Result<Started, ServerError>>);

impl Starting {
    fn spawn(
        config: Arc<ServerConfig>,
        opened: Opened,
        reports: Sender<Report>,
        ringer: Ringer,
        fatal: Fatal,
    ) -> Result<Self, ServerError> {
        let (sender, receiver) = mpsc::channel();
        let run = move || {
            let reporter = || reporter(&reports, &ringer);
            let started = start(&config, opened, reporter, fatal);
            // Where the control plane has gone, the process is about to end.
            let _ = sender.send(started);
            ringer.ring();
        };
        let thread = thread::Builder::new().name("start".to_owned()).spawn(run);
        thread.map_err(ServerError::system("start a thread"))?;
        Ok(Self(receiver))
    }

    /// The outcome, once there is one.
    fn poll(&self) -> Option<Result<Started, ServerError>> {
        self.0.try_recv().ok()
    }
}

/// By what a shard tells the control plane something.
fn reporter(reports: &Sender<Report>, ringer: &Ringer) -> Result<Reporter, ServerError> {
    let ringer = ringer.try_clone().map_err(ServerError::system("make a ringer of the bell"))?;
    let reports = reports.clone();
    Ok(Box::new(move |report| {
        // The control plane outlives every shard, so the channel is open.
        let _ = reports.send(report);
        ringer.ring();
    }))
}

/// What the control plane knows of the shards that serve.
struct Plane {
    config: Arc<ServerConfig>,
    desk: Rc<Desk>,
    scraper: Rc<Scraper>,
    reports: Receiver<Report>,
    shards: Vec<Shard>,
    snapshotter: Option<Snapshotter>,
    /// Locked until the last shard has ended.
    data_dir: Option<DataDir>,
    reloader: Reloader,
    /// Shards that have not drained.
    busy: usize,
}

struct Shard {
    orders: Orders,
    preparer: Preparer,
    thread: JoinHandle<()>,
}

impl Plane {
    fn take_over(&mut self, started: Started, fatal: Fatal) -> Result<(), ServerError> {
        let plan = Plan {
            segment_bytes: self.config.segment_bytes,
            ahead: u64::from(self.config.segments_ahead.get()),
            shards: started.data_dir.shards(),
        };
        let logs = started.shards.iter().map(|shard| (&shard.log, &shard.metrics));
        self.snapshotter = Snapshotter::start(&self.config, logs)
            .map_err(ServerError::system("start a thread"))?;
        let mut scraped = Vec::new();
        for StartedShard { index, orders, thread, log, metrics } in started.shards {
            let orders = Rc::new(RefCell::new(orders));
            let preparer =
                Preparer::new(log.clone(), Arc::clone(&metrics), Rc::clone(&orders), plan, fatal);
            scraped.push(Scraped::new(index, log.sync, metrics, Rc::clone(&orders)));
            self.shards.push(Shard { orders, preparer, thread });
        }
        self.data_dir = Some(started.data_dir);
        self.busy = self.shards.len();
        self.desk.open(self.shards.iter().map(|shard| Rc::clone(&shard.orders)));
        self.scraper.open(scraped);
        Ok(())
    }

    fn take_reports(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            match report {
                Report::SegmentReached(shard, segment) => {
                    self.preparer(shard).reached(segment);
                    if let Some(snapshotter) = &self.snapshotter {
                        snapshotter.reached(shard, segment);
                    }
                }
                Report::Starved(shard) => self.preparer(shard).starved(),
                Report::CredentialsTaken => self.reloader.taken(),
                Report::Answered(id, frames) => self.desk.answered(id, &frames),
                Report::Stock(shard, table) => self.scraper.handle_stock(shard, table),
                Report::Slow(shard, slow) => metrics::log_slow(shard, &slow),
                Report::Drained(_) => self.busy -= 1,
            }
        }
    }

    /// Reads the keys again, where that is wanted.
    fn reload(&mut self, door: &Door) {
        let orders = self.shards.iter().map(|shard| &shard.orders);
        if let Some(credentials) = self.reloader.poll(orders) {
            door.take_keys(credentials.keys);
        }
        self.scraper.handle_reloads(self.reloader.counts());
    }

    fn preparer(&self, shard: ShardIndex) -> &Preparer {
        &self.shards[usize::from(shard.0)].preparer
    }

    fn drain(&self) {
        if !self.desk.stop() {
            return;
        }
        self.scraper.stop();
        tracing::info!("stopping: no new connections, what was asked is still answered");
        for shard in &self.shards {
            give(&shard.orders, Order::Drain);
        }
    }

    fn stop(self) {
        for shard in &self.shards {
            give(&shard.orders, Order::Stop);
        }
        for shard in self.shards {
            shard.thread.join().expect("a shard's panic ends the process");
        }
        if let Some(snapshotter) = self.snapshotter {
            snapshotter.stop();
        }
    }
}

fn give(orders: &Orders, order: Order) {
    let mut orders = orders.borrow_mut();
    // The control plane never has as many orders under way as the mailbox holds.
    orders.push(order).expect("a shard takes its orders every turn");
    orders.wake();
}

/// The first SIGTERM or SIGINT stops the server in order, the second one at once. A SIGHUP has the
/// keys read again.
fn catch_signals(bell: &Bell, stop: &Arc<AtomicBool>, reload: &Arc<AtomicBool>) -> io::Result<()> {
    signal_hook::flag::register(SIGHUP, Arc::clone(reload))?;
    signal_hook::low_level::pipe::register(SIGHUP, bell.ringer()?.into_socket())?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(stop))?;
        signal_hook::flag::register(signal, Arc::clone(stop))?;
        signal_hook::low_level::pipe::register(signal, bell.ringer()?.into_socket())?;
    }
    Ok(())
}
