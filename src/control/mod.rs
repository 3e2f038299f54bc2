//! The cold plane: one glommio executor for what is slow, rare or sequential.
//!
//! It starts the shards, prepares log segments before they are needed, and stops the server on
//! a signal. It never touches a shard's state: orders go out by mailbox, reports come in by a
//! channel, and a bell wakes it. All that the project uses of glommio is in this module.

mod bell;
pub mod metrics;
mod segments;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use signal_hook::consts::{SIGINT, SIGTERM};

use self::bell::Bell;
use self::segments::Preparer;
pub use self::segments::SEGMENTS_AHEAD;
use crate::runtime::Outbox;
use crate::server::ServerError;
use crate::server::config::ServerConfig;
use crate::server::shard::{Order, Report, Reporter};
use crate::server::start::{Started, start};

/// The executor's memory for direct I/O.
const IO_MEMORY_BYTES: usize = 4 << 20;

/// How the process ends where a shard cannot go on. Called on that shard's thread.
pub type Fatal = fn(&ServerError) -> !;

/// Orders to one shard, from any task of the executor.
type Orders = Rc<RefCell<Outbox<Order>>>;

/// Serves until a signal or an error ends it. `ready` is called once, when every shard serves.
pub fn serve(
    config: &ServerConfig,
    ready: impl FnOnce(&Started),
    fatal: Fatal,
) -> Result<(), ServerError> {
    executor()?.run(run(config, ready, fatal))
}

/// Whether the control plane's executor can be set up here; it is gone when this returns.
pub fn try_executor() -> Result<(), ServerError> {
    executor().map(|_| ())
}

fn executor() -> Result<LocalExecutor, ServerError> {
    LocalExecutorBuilder::new(Placement::Unbound)
        .name("control")
        .io_memory(IO_MEMORY_BYTES)
        .make()
        .map_err(|error| ServerError::Executor { reason: error.to_string() })
}

async fn run(
    config: &ServerConfig,
    ready: impl FnOnce(&Started),
    fatal: Fatal,
) -> Result<(), ServerError> {
    let mut bell = Bell::new().map_err(ServerError::system("make the control plane's bell"))?;
    let stop = Arc::new(AtomicBool::new(false));
    catch_signals(&bell, &stop).map_err(ServerError::system("catch signals"))?;
    let (sender, reports) = mpsc::channel();
    let reporter = || -> Result<Reporter, ServerError> {
        let (sender, ringer) = (sender.clone(), bell.ringer());
        let ringer = ringer.map_err(ServerError::system("make the control plane's bell"))?;
        Ok(Box::new(move |report| {
            // The control plane outlives every shard, so the channel is open.
            let _ = sender.send(report);
            ringer.ring();
        }))
    };
    let started = start(config, reporter, fatal)?;
    ready(&started);
    let mut shards = Vec::new();
    for shard in started.shards {
        let orders = Rc::new(RefCell::new(shard.orders));
        let preparer = Preparer::new(shard.log, Rc::clone(&orders), config.segment_bytes, fatal);
        shards.push((orders, preparer, shard.thread));
    }
    let mut is_draining = false;
    let mut busy = shards.len();
    while busy > 0 {
        bell.heard().await.map_err(ServerError::system("listen to the control plane's bell"))?;
        while let Ok(report) = reports.try_recv() {
            match report {
                Report::SegmentReached(shard, segment) => {
                    shards[usize::from(shard.0)].1.reached(segment);
                }
                Report::Starved(shard) => shards[usize::from(shard.0)].1.starved(),
                Report::Stock(..) => {}
                Report::Slow(shard, slow) => metrics::log_slow(shard, &slow),
                Report::Drained(_) => busy -= 1,
            }
        }
        if stop.load(Ordering::Relaxed) && !is_draining {
            is_draining = true;
            tracing::info!("stopping: no new connections, what was asked is still answered");
            for (orders, _, _) in &shards {
                give(orders, Order::Drain);
            }
        }
    }
    for (orders, _, _) in &shards {
        give(orders, Order::Stop);
    }
    for (_, _, thread) in shards {
        thread.join().expect("a shard's panic ends the process");
    }
    tracing::info!("stopped");
    Ok(())
}

fn give(orders: &Orders, order: Order) {
    let mut orders = orders.borrow_mut();
    // The control plane never has as many orders under way as the mailbox holds.
    orders.push(order).expect("a shard takes its orders every turn");
    orders.wake();
}

/// The first SIGTERM or SIGINT stops the server in order, the second one at once.
fn catch_signals(bell: &Bell, stop: &Arc<AtomicBool>) -> io::Result<()> {
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(stop))?;
        signal_hook::flag::register(signal, Arc::clone(stop))?;
        signal_hook::low_level::pipe::register(signal, bell.ringer()?.into_socket())?;
    }
    Ok(())
}
