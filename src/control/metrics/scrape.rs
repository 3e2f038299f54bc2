//! Reading the numbers of a running server: the shards' counters as they are, and their stock,
//! which each shard lists when asked.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_lite::future;
use glommio::channels::local_channel::{LocalSender, new_bounded};
use glommio::timer::sleep;

use super::{Numbers, ShardNumbers, render};
use crate::control::reload::ReloadCounts;
use crate::control::{Orders, give};
use crate::model::ShardIndex;
use crate::runtime::file::SyncMethod;
use crate::runtime::process;
use crate::server::metrics::{ShardMetrics, StockTable};
use crate::server::shard::Order;

/// How long the shards may take to list their stock; behind that, the last list is told.
const STOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Reads the numbers whenever somebody asks.
pub struct Scraper {
    started: SystemTime,
    data_dir: PathBuf,
    shards: RefCell<Vec<Scraped>>,
    is_ready: Cell<bool>,
    scrapes: Cell<u64>,
    administration_refused: Cell<u64>,
    reloads: Cell<ReloadCounts>,
    /// Who waits until every shard has listed its stock.
    waiting: RefCell<Vec<LocalSender<()>>>,
}

/// A shard whose numbers are read.
pub struct Scraped {
    index: ShardIndex,
    sync: SyncMethod,
    metrics: Arc<ShardMetrics>,
    orders: Orders,
    /// Its stock as it was last told.
    stock: Option<Box<StockTable>>,
    /// Whether it was asked for its stock and has not answered.
    is_asked: bool,
}

impl Scraped {
    pub(in crate::control) const fn new(
        index: ShardIndex,
        sync: SyncMethod,
        metrics: Arc<ShardMetrics>,
        orders: Orders,
    ) -> Self {
        Self { index, sync, metrics, orders, stock: None, is_asked: false }
    }
}

impl Scraper {
    /// For a server that starts now and serves later.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            started: SystemTime::now(),
            data_dir,
            shards: RefCell::default(),
            is_ready: Cell::new(false),
            scrapes: Cell::new(0),
            administration_refused: Cell::new(0),
            reloads: Cell::default(),
            waiting: RefCell::default(),
        }
    }

    /// Every shard serves.
    pub fn open(&self, shards: Vec<Scraped>) {
        self.shards.replace(shards);
        self.is_ready.set(true);
    }

    /// The server stops: the shards are asked nothing more.
    pub fn stop(&self) {
        self.is_ready.set(false);
    }

    /// How many reloads there were.
    pub fn handle_reloads(&self, counts: ReloadCounts) {
        self.reloads.set(counts);
    }

    /// Somebody asked administration for something without a key that allows it.
    pub fn count_administration_refused(&self) {
        self.administration_refused.set(self.administration_refused.get() + 1);
    }

    /// A shard has listed its stock.
    pub fn handle_stock(&self, shard: ShardIndex, stock: Box<StockTable>) {
        let mut shards = self.shards.borrow_mut();
        let told = &mut shards[usize::from(shard.0)];
        (told.stock, told.is_asked) = (Some(stock), false);
        if shards.iter().all(|shard| !shard.is_asked) {
            // Whoever has lost patience does not listen any more.
            self.waiting.take().into_iter().for_each(|waiting| drop(waiting.try_send(())));
        }
    }

    /// All numbers as they are now, as Prometheus text.
    pub async fn text(&self) -> String {
        if self.is_ready.get() {
            self.ask_for_stock().await;
        }
        self.scrapes.set(self.scrapes.get() + 1);
        let shards = self.shards.borrow();
        let shards: Vec<ShardNumbers<'_>> = shards
            .iter()
            .map(|shard| ShardNumbers {
                index: shard.index,
                sync: shard.sync,
                metrics: &shard.metrics,
                stock: shard.stock.as_deref(),
            })
            .collect();
        render(&Numbers {
            shards: &shards,
            process: &process::facts(self.started, &self.data_dir),
            is_ready: self.is_ready.get(),
            scrapes: self.scrapes.get(),
            administration_refused: self.administration_refused.get(),
            reloads: self.reloads.get(),
        })
    }

    async fn ask_for_stock(&self) {
        for shard in self.shards.borrow_mut().iter_mut().filter(|shard| !shard.is_asked) {
            shard.is_asked = true;
            give(&shard.orders, Order::Stock(Box::new(StockTable::with_room())));
        }
        let (sender, told) = new_bounded(1);
        self.waiting.borrow_mut().push(sender);
        let told = async {
            told.recv().await;
        };
        future::or(told, sleep(STOCK_PATIENCE)).await;
    }
}
