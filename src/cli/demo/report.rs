//! What the demo tells at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use serde::Serialize;

use super::check::Findings;
use super::ledger::Ledger;
use super::rush::Counts;
use super::web::WebReport;
use crate::audit;
use crate::load::Latencies;
use crate::model::{ItemCounts, ItemId, Quantity, SaleId};

/// The report. It is a proof only where everything that must be zero is.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub seed: u64,
    pub offered_rate: u32,
    pub achieved_rate: u64,
    pub asked: u64,
    pub asked_before_kills: u64,
    pub duplicates: u64,
    pub resent_after_kills: u64,
    pub success: Option<Latencies>,
    pub refused: Option<Latencies>,
    pub refused_by_code: BTreeMap<String, u64>,
    pub kills: u32,
    /// The longest, from the kill to an open connection.
    pub recovery_ms: u128,
    pub capacity: u64,
    pub sold: u64,
    pub sold_out: bool,
    pub unanswered: u64,
    pub oversold: u64,
    pub undersold: u64,
    pub lost: u64,
    pub contradictions: u64,
    pub orders_given_twice: u64,
    pub accounts_over_limit: u64,
    pub unaccounted: u64,
    pub audited_records: u64,
    pub audit_violations: u64,
    pub after_kills: Findings,
    pub at_the_end: Findings,
    pub web: WebReport,
}

impl Report {
    pub(super) fn new(rate: NonZeroU32, seed: u64) -> Self {
        Self {
            seed,
            offered_rate: rate.get(),
            achieved_rate: 0,
            asked: 0,
            asked_before_kills: 0,
            duplicates: 0,
            resent_after_kills: 0,
            success: None,
            refused: None,
            refused_by_code: BTreeMap::new(),
            kills: 0,
            recovery_ms: 0,
            capacity: 0,
            sold: 0,
            sold_out: false,
            unanswered: 0,
            oversold: 0,
            undersold: 0,
            lost: 0,
            contradictions: 0,
            orders_given_twice: 0,
            accounts_over_limit: 0,
            unaccounted: 0,
            audited_records: 0,
            audit_violations: 0,
            after_kills: Findings::default(),
            at_the_end: Findings::default(),
            web: WebReport::default(),
        }
    }

    pub(super) fn take_counts(&mut self, counts: &Counts) {
        self.asked = counts.asked;
        self.achieved_rate = (counts.asked as f64 / counts.sending.as_secs_f64()) as u64;
        self.duplicates = counts.duplicates;
        self.resent_after_kills = counts.resent;
        self.success = Some(counts.tally.success());
        let refused = counts.tally.refused();
        self.refused_by_code =
            refused.by_code.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect();
        self.refused = Some(refused.latencies);
    }

    /// Holds the server's counters against capacity and against what buyers were told.
    pub(super) fn judge_stock(
        &mut self,
        capacities: &[(ItemId, Quantity)],
        counts: &[ItemCounts],
        ledger: &Ledger,
    ) {
        let told = ledger.sold();
        for (item, capacity) in capacities {
            let capacity = u64::from(capacity.0);
            let told = told[item] + self.web.sold.get(item).copied().unwrap_or_default();
            let found = counts.iter().find(|counts| counts.item == *item);
            let sold = found.map_or(0, |counts| u64::from(counts.sold.0));
            self.capacity += capacity;
            self.sold += sold;
            self.oversold += sold.max(told).saturating_sub(capacity);
            self.undersold += capacity.saturating_sub(sold);
            // Everything was answered in the end, so both sides must agree to the unit.
            self.unaccounted += sold.abs_diff(told);
        }
        self.contradictions = ledger.contradictions + self.web.unexpected;
        self.orders_given_twice = ledger.orders_given_twice();
        self.accounts_over_limit = ledger.accounts_over_limit();
        self.lost = self.after_kills.lost + self.at_the_end.lost + self.web.lost;
    }

    pub(super) fn judge_audit(&mut self, audited: &audit::Report, sale: SaleId) {
        self.audited_records = audited.shards.iter().map(|shard| shard.records).sum();
        let unreadable = audited.shards.iter().filter(|shard| shard.failure.is_some()).count();
        self.audit_violations = audited.violation_count + unreadable as u64;
        // The log alone must tell the same sale.
        let sales = audited.sales.iter().filter(|report| report.sale == sale.0);
        let sold: i64 = sales.flat_map(|report| &report.items).map(|item| item.sold).sum();
        self.unaccounted += i128::from(sold).abs_diff(i128::from(self.sold)) as u64;
    }

    /// Whether the demo proved what it is there to prove.
    pub(super) fn is_proof(&self) -> bool {
        let must_be_zero = [
            self.oversold,
            self.undersold,
            self.lost,
            self.unanswered,
            self.contradictions,
            self.orders_given_twice,
            self.accounts_over_limit,
            self.unaccounted,
            self.audit_violations,
            self.after_kills.unchecked,
            self.at_the_end.unchecked,
        ];
        self.sold_out && must_be_zero.iter().all(|count| *count == 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        writeln!(
            f,
            "rate          {} requests/s offered, {} sent",
            self.offered_rate, self.achieved_rate
        )?;
        writeln!(
            f,
            "requests      {} ({} duplicates on purpose, {} asked again after kills)",
            self.asked, self.duplicates, self.resent_after_kills
        )?;
        for (name, latencies) in [("success", &self.success), ("refused", &self.refused)] {
            if let Some(latencies) = latencies {
                writeln!(
                    f,
                    "{name:<13} {} answers; in µs: p50 {:.0}, p99 {:.0}, p99.9 {:.0}, max {:.0}",
                    latencies.count,
                    latencies.p50_us,
                    latencies.p99_us,
                    latencies.p999_us,
                    latencies.max_us
                )?;
            }
        }
        let refused = self.refused_by_code.iter().map(|(code, count)| format!("{code} {count}"));
        writeln!(f, "refused by    {}", refused.collect::<Vec<_>>().join(", "))?;
        writeln!(
            f,
            "kill -9       {} times in {} requests; each time serving again within {} ms",
            self.kills, self.asked_before_kills, self.recovery_ms
        )?;
        writeln!(f, "after kills   {}", self.after_kills)?;
        writeln!(f, "at the end    {}", self.at_the_end)?;
        writeln!(
            f,
            "over HTTP     {} bought, {} refused, {} sent again; all orders checked, {} lost",
            self.web.bought, self.web.refused, self.web.sent_again, self.web.lost
        )?;
        writeln!(
            f,
            "audit         {} records, {} violations",
            self.audited_records, self.audit_violations
        )?;
        writeln!(
            f,
            "sold          {} of {}{}",
            self.sold,
            self.capacity,
            if self.sold_out { ", sold out" } else { ", NOT sold out" }
        )?;
        for (name, count) in [
            ("unanswered", self.unanswered),
            ("contradictory answers", self.contradictions),
            ("orders given twice", self.orders_given_twice),
            ("accounts over their limit", self.accounts_over_limit),
            ("units that the books disagree on", self.unaccounted),
        ] {
            if count > 0 {
                writeln!(f, "{name}: {count}")?;
            }
        }
        write!(f, "oversold {}, undersold {}, lost {}", self.oversold, self.undersold, self.lost)
    }
}
