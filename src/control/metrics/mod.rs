//! What `/metrics` says: the numbers of every shard and of the process, as Prometheus text.
//!
//! Reading costs a shard nothing but the list of its stock, which it fills in between other work.
//! Rendering is a pure function of what was read.

mod families;
mod scrape;
mod stock;
mod text;

pub use self::families::{FAMILIES, Family};
pub use self::scrape::Scraper;
pub use self::text::Kind;

use self::text::Samples;
use crate::model::ShardIndex;
use crate::runtime::file::SyncMethod;
use crate::runtime::process::ProcessFacts;
use crate::server::metrics::{ShardMetrics, StockTable};

/// The numbers of one shard.
#[derive(Clone, Copy, Debug)]
pub struct ShardNumbers<'a> {
    /// Which one.
    pub index: ShardIndex,
    /// How its log writes become durable.
    pub sync: SyncMethod,
    /// What it counts.
    pub metrics: &'a ShardMetrics,
    /// Its stock, as it was told last; absent before the first time.
    pub stock: Option<&'a StockTable>,
}

/// Everything that is exported.
#[derive(Clone, Copy, Debug)]
pub struct Numbers<'a> {
    /// Each shard; none before every one serves.
    pub shards: &'a [ShardNumbers<'a>],
    /// The process.
    pub process: &'a ProcessFacts,
    /// Whether the server serves.
    pub is_ready: bool,
    /// How often numbers were read, with this time.
    pub scrapes: u64,
}

/// The Prometheus text, version 0.0.4.
#[must_use]
pub fn render(numbers: &Numbers<'_>) -> String {
    let mut out = String::new();
    for family in &FAMILIES {
        let mut samples = Samples::new(&mut out, family.name, family.kind, family.help);
        (family.samples)(&mut samples, numbers);
    }
    out
}
