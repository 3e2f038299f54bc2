//! Reading the keys again while the server serves: what a SIGHUP asks for.
//!
//! New keys go to every shard by an order, and the next reload waits until each has taken them, so
//! that however many signals come, one order a shard is under way. Where a file cannot be read or
//! does not hold keys, the keys stay as they were: a mistake lets nobody in and locks nobody out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Orders, give};
use crate::server::credentials::Credentials;
use crate::server::shard::Order;

/// Reads the files of keys; a failure is one line for people.
pub type Load = Box<dyn Fn() -> Result<Credentials, String>>;

/// What is known of reloads.
pub struct Reloader {
    load: Load,
    wanted: Arc<AtomicBool>,
    /// Shards that have not taken the last credentials yet.
    untaken: usize,
    counts: ReloadCounts,
}

/// How many reloads there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReloadCounts {
    /// New keys counted from then on.
    pub done: u64,
    /// The keys stayed as they were.
    pub failed: u64,
}

impl Reloader {
    /// A reloader that `wanted` asks for a reload.
    pub fn new(load: Load, wanted: Arc<AtomicBool>) -> Self {
        Self { load, wanted, untaken: 0, counts: ReloadCounts::default() }
    }

    /// Reloads, where that is wanted and every shard is ready for it. Returns what is new.
    pub(super) fn poll<'a>(
        &mut self,
        shards: impl ExactSizeIterator<Item = &'a Orders>,
    ) -> Option<Credentials> {
        if self.untaken > 0 || !self.wanted.swap(false, Ordering::Relaxed) {
            return None;
        }
        match (self.load)() {
            Ok(credentials) => {
                self.untaken = shards.len();
                for orders in shards {
                    give(orders, Order::Credentials(credentials.clone()));
                }
                Some(credentials)
            }
            Err(problem) => {
                self.counts.failed += 1;
                tracing::error!("the keys stay as they were: {problem}");
                None
            }
        }
    }

    /// A shard has taken the credentials.
    pub fn taken(&mut self) {
        self.untaken -= 1;
        if self.untaken == 0 {
            self.counts.done += 1;
            tracing::info!("the keys were read again, and count from now on");
        }
    }

    /// How many reloads there were.
    pub const fn counts(&self) -> ReloadCounts {
        self.counts
    }
}
