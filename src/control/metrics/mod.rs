//! What `/metrics` says: the numbers of every shard and of the process, as Prometheus text.
//!
//! Reading costs a shard nothing but the list of its stock, which it fills in between other work.
//! Rendering is a pure function of what was read.

mod families;
mod scrape;
mod stock;
mod text;

pub use self::families::{FAMILIES, Family};
pub use self::scrape::{Scraped, Scraper};
pub use self::text::Kind;
pub use super::reload::ReloadCounts;

use self::text::Samples;
use crate::model::ShardIndex;
use crate::runtime::file::SyncMethod;
use crate::runtime::process::ProcessFacts;
use crate::server::metrics::{ShardMetrics, SlowRequest, StockTable};

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
    /// Requests to administration without a key that allows them.
    pub administration_refused: u64,
    /// How often the keys were read again.
    pub reloads: ReloadCounts,
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

/// The line of the slow-request log. The shard sends few of them, and says how many it kept back.
pub fn log_slow(shard: ShardIndex, slow: &SlowRequest) {
    let in_ms = |time: std::time::Duration| time.as_micros() as f64 / 1e3;
    tracing::warn!(
        shard = shard.0,
        protocol = slow.protocol.label(),
        operation = slow.operation.label(),
        took_ms = in_ms(slow.took),
        log_write_ms = in_ms(slow.log_write),
        suppressed = slow.suppressed,
        "a slow request"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ItemId, SaleId, SaleState};
    use crate::server::metrics::{ItemStock, SALES_LISTED_MAX, SaleStock, Units};

    fn stock(first: u64, sales: u64, units: Units) -> StockTable {
        let mut table = StockTable::with_room();
        for sale in (first..first + sales).map(SaleId) {
            table.sales.push(SaleStock { sale, state: SaleState::Open, units, holds: 1 });
            table.items.push(ItemStock { sale, item: ItemId(1), units });
        }
        table.holds = sales;
        table
    }

    fn rendered(stocks: &[StockTable]) -> String {
        let metrics = ShardMetrics::default();
        metrics.connections.set(3);
        metrics.answers.record(100, 7);
        let shards: Vec<_> = stocks
            .iter()
            .zip(0..)
            .map(|(stock, index)| ShardNumbers {
                index: ShardIndex(index),
                sync: SyncMethod::DataSync,
                metrics: &metrics,
                stock: Some(stock),
            })
            .collect();
        let process = ProcessFacts { resident_bytes: Some(4096), ..ProcessFacts::default() };
        render(&Numbers {
            shards: &shards,
            process: &process,
            is_ready: true,
            scrapes: 1,
            administration_refused: 2,
            reloads: ReloadCounts { done: 3, failed: 1 },
        })
    }

    #[track_caller]
    fn assert_has(text: &str, line: &str) {
        assert!(text.lines().any(|said| said == line), "{line} is missing in\n{text}");
    }

    #[test]
    fn each_family_has_its_lines() {
        let text = rendered(&[stock(7, 1, Units { available: 5, held: 2, sold: 3 })]);
        for line in [
            "# TYPE boxoffice_requests_total counter",
            "boxoffice_requests_total{shard=\"0\",protocol=\"binary\",operation=\"buy\",\
             result=\"ok\"} 0",
            "boxoffice_connections{shard=\"0\"} 3",
            "boxoffice_answer_duration_seconds_bucket{shard=\"0\",le=\"0.000096\"} 0",
            "boxoffice_answer_duration_seconds_bucket{shard=\"0\",le=\"0.000128\"} 7",
            "boxoffice_answer_duration_seconds_sum{shard=\"0\"} 0.0007",
            "boxoffice_sale_units{sale=\"7\",state=\"held\"} 2",
            "boxoffice_item_units{sale=\"7\",item=\"1\",state=\"sold\"} 3",
            "boxoffice_sale_state{sale=\"7\",state=\"open\"} 1",
            "boxoffice_sales_omitted 0",
            "boxoffice_shard_info{shard=\"0\",sync=\"o_dsync\"} 1",
            "boxoffice_process_resident_memory_bytes 4096",
            "boxoffice_administration_refused_total 2",
            "boxoffice_key_reloads_total{result=\"done\"} 3",
            "boxoffice_key_reloads_total{result=\"failed\"} 1",
        ] {
            assert_has(&text, line);
        }
        // What cannot be learned is not claimed to be zero.
        assert!(!text.contains("\nboxoffice_process_open_fds "));
    }

    #[test]
    fn sales_are_bounded_over_all_shards_and_no_unit_is_lost() {
        let units = Units { available: 1, held: 0, sold: 0 };
        let (left, right) = (stock(1, 60, units), stock(100, 50, units));
        let text = rendered(&[left, right]);
        let count = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(count("boxoffice_sale_holds{"), SALES_LISTED_MAX);
        assert_eq!(count("boxoffice_item_units{"), 3 * SALES_LISTED_MAX);
        assert_has(&text, "boxoffice_sales_omitted 46");
        assert_has(&text, "boxoffice_items_omitted 46");
        assert_has(&text, "boxoffice_units_omitted{state=\"available\"} 46");
    }

    #[test]
    fn no_name_is_given_twice() {
        let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len());
    }
}
