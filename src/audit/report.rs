//! What an audit found: facts for `--json`, and the same for people.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::rules::{Finding, Rule};
use crate::model::{OrderState, SaleId, ShardIndex};
use crate::wal::snapshot::SnapshotFile;
use crate::wal::{Entry, LogStorage};

/// How many violations are listed; all are counted.
pub const VIOLATIONS_LISTED_MAX: usize = 100;

/// The state of a sale that no command has opened yet.
pub(super) const SCHEDULED: &str = "scheduled";

/// The result of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The shards, in the order of their indexes.
    pub shards: Vec<ShardReport>,
    /// The sales of every shard, as the log leaves them.
    pub sales: Vec<SaleReport>,
    /// The first violations, at most [`VIOLATIONS_LISTED_MAX`].
    pub violations: Vec<Violation>,
    /// How many violations there are.
    pub violation_count: u64,
}

/// One shard's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShardReport {
    /// The shard.
    pub shard: u16,
    /// How many shards the server had that wrote it; absent where that cannot be read.
    pub shards: Option<u16>,
    /// Frames in the log; absent where it could not be read to its end.
    pub frames: Option<u64>,
    /// Records that were read.
    pub records: u64,
    /// What an interrupted write left behind the last frame. Not a violation.
    pub torn: Option<TornReport>,
    /// Why the log could not be read to its end.
    pub failure: Option<String>,
    /// The snapshots beside it, the oldest first.
    pub snapshots: Vec<SnapshotReport>,
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotReport {
    /// The last record inside.
    pub lsn: u64,
    /// Whether the audit began with it, the log before it being gone; else it was compared with
    /// what the log says.
    pub is_base: bool,
    /// Why it could not be read, or not be compared.
    pub fault: Option<String>,
}

/// What an interrupted write left behind. It was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TornReport {
    /// The segment file.
    pub file: PathBuf,
    /// Where it starts in the file.
    pub offset: u64,
    /// How many bytes the next start will zero.
    pub bytes: u64,
}

/// One sale, as the log leaves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SaleReport {
    /// The sale.
    pub sale: u64,
    /// Its shard.
    pub shard: u16,
    /// Its state by command; the window is not applied, for an audit has no clock.
    pub logged_state: &'static str,
    /// Its orders.
    pub orders: OrderCounts,
    /// Its items, in the order of their ids.
    pub items: Vec<ItemReport>,
}

/// The orders of a sale by their states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OrderCounts {
    /// Held, and neither resolved nor expired by a record.
    pub held: u64,
    /// Confirmed, with units left.
    pub confirmed: u64,
    /// Released.
    pub released: u64,
    /// Expired.
    pub expired: u64,
    /// Cancelled whole.
    pub cancelled: u64,
}

/// The counters of one item. Signed, for a broken log can say anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ItemReport {
    /// The item.
    pub item: u32,
    /// Units in all.
    pub capacity: i64,
    /// Units that can be held.
    pub available: i64,
    /// Units in holds.
    pub held: i64,
    /// Units in confirmed orders.
    pub sold: i64,
}

/// A record that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The shard.
    pub shard: u16,
    /// The segment file.
    pub file: PathBuf,
    /// Where the record starts in the file.
    pub offset: u64,
    /// The record's number in its shard's log.
    pub lsn: u64,
    /// The sale.
    pub sale: u64,
    /// The order, where the record is about one.
    pub order: Option<u32>,
    /// What is wrong, in a sentence.
    pub what: String,
}

impl Report {
    /// Whether every log was read to its end and no rule is broken. A torn tail is clean.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violation_count == 0 && self.shards.iter().all(ShardReport::is_whole)
    }

    pub(super) fn add_violation(
        &mut self,
        finding: Finding,
        entry: &Entry<'_>,
        shard: ShardIndex,
        storage: &impl LogStorage,
    ) {
        self.violation_count += 1;
        if self.violations.len() < VIOLATIONS_LISTED_MAX {
            self.violations.push(Violation {
                rule: finding.rule,
                shard: shard.0,
                file: storage.path(entry.position.segment),
                offset: entry.position.offset,
                lsn: entry.lsn.0,
                sale: entry.record.sale().0,
                order: finding.order.map(|order| order.0),
                what: finding.what,
            });
        }
    }

    pub(super) fn add_snapshot_violation(
        &mut self,
        finding: Finding,
        sale: SaleId,
        file: &SnapshotFile,
        shard: ShardIndex,
    ) {
        self.violation_count += 1;
        if self.violations.len() < VIOLATIONS_LISTED_MAX {
            self.violations.push(Violation {
                rule: finding.rule,
                shard: shard.0,
                file: file.path.clone(),
                offset: 0,
                lsn: file.lsn.0,
                sale: sale.0,
                order: finding.order.map(|order| order.0),
                what: finding.what,
            });
        }
    }

    /// Reports shards that a log speaks of and that have no directory.
    pub(super) fn add_missing_shards(&mut self) {
        let shards = self.shards.iter().filter_map(|shard| shard.shards).max().unwrap_or(0);
        for index in 0..shards {
            if self.shards.iter().all(|shard| shard.shard != index) {
                let failure = format!("the server had {shards} shards, and this one is missing");
                let missing = ShardReport::new(ShardIndex(index));
                self.shards.push(ShardReport { failure: Some(failure), ..missing });
            }
        }
        self.shards.sort_by_key(|shard| shard.shard);
    }
}

impl ShardReport {
    pub(super) fn new(shard: ShardIndex) -> Self {
        Self {
            shard: shard.0,
            shards: None,
            frames: None,
            records: 0,
            torn: None,
            failure: None,
            snapshots: Vec::new(),
        }
    }

    fn is_whole(&self) -> bool {
        self.failure.is_none() && self.snapshots.iter().all(|snapshot| snapshot.fault.is_none())
    }
}

impl OrderCounts {
    pub(super) const fn of(&mut self, state: OrderState) -> &mut u64 {
        match state {
            OrderState::Held => &mut self.held,
            OrderState::Confirmed => &mut self.confirmed,
            OrderState::Released => &mut self.released,
            OrderState::Expired => &mut self.expired,
            OrderState::Cancelled => &mut self.cancelled,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for shard in &self.shards {
            writeln!(f, "{shard}")?;
        }
        for sale in &self.sales {
            writeln!(f, "{sale}")?;
        }
        for violation in &self.violations {
            writeln!(f, "{violation}")?;
        }
        let unlisted = self.violation_count - self.violations.len() as u64;
        if unlisted > 0 {
            writeln!(f, "and {unlisted} more")?;
        }
        if self.is_clean() {
            write!(f, "clean: every rule holds at every record")
        } else if self.violation_count > 0 {
            write!(f, "NOT CLEAN: {} violations", self.violation_count)
        } else if self.shards.iter().any(|shard| shard.failure.is_some()) {
            write!(f, "NOT CLEAN: a log could not be read to its end")
        } else {
            write!(f, "NOT CLEAN: a snapshot could not be used")
        }
    }
}

impl fmt::Display for ShardReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}: {} records", self.shard, self.records)?;
        if let Some(frames) = self.frames {
            write!(f, " in {frames} frames")?;
        }
        if let Some(TornReport { file, offset, bytes }) = &self.torn {
            let file = file.display();
            write!(f, "; a write was interrupted ({file}: offset {offset}, {bytes} bytes): ")?;
            write!(
                f,
                "unless the disk has spoiled what it had taken, it was never acknowledged; the \
                 next start removes it"
            )?;
        }
        for SnapshotReport { lsn, is_base, fault } in &self.snapshots {
            match (fault, is_base) {
                (Some(fault), _) => write!(f, "; SNAPSHOT of LSN {lsn}: {fault}")?,
                (None, true) => write!(f, "; from the snapshot of LSN {lsn} on")?,
                (None, false) => write!(f, "; held against the snapshot of LSN {lsn}")?,
            }
        }
        if let Some(failure) = &self.failure {
            write!(f, "; UNREADABLE: {failure}")?;
        }
        Ok(())
    }
}

impl SaleReport {
    /// The state for people: no command opened a sale that its window did, and orders show it.
    fn state(&self) -> &'static str {
        let OrderCounts { held, confirmed, released, expired, cancelled } = self.orders;
        let has_orders = held + confirmed + released + expired + cancelled > 0;
        match self.logged_state {
            SCHEDULED if has_orders => "opened by its window",
            state => state,
        }
    }
}

impl fmt::Display for SaleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OrderCounts { held, confirmed, released, expired, cancelled } = self.orders;
        write!(
            f,
            "sale {} (shard {}, {}): orders: {confirmed} confirmed, {held} held, \
             {released} released, {expired} expired, {cancelled} cancelled",
            self.sale,
            self.shard,
            self.state()
        )?;
        for item in &self.items {
            let ItemReport { item, capacity, available, held, sold } = item;
            write!(f, "\n  item {item}: {capacity} = {available} available + ")?;
            write!(f, "{held} held + {sold} sold")?;
        }
        Ok(())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, lsn, sale, what, .. } = self;
        write!(f, "VIOLATION {rule}: sale {sale}")?;
        if let Some(order) = self.order {
            write!(f, ", order {order}")?;
        }
        write!(f, ": {what} ({}: offset {}, LSN {lsn})", self.file.display(), self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sale_that_sells_is_not_called_scheduled() {
        let mut sale = SaleReport {
            sale: 7,
            shard: 0,
            logged_state: SCHEDULED,
            orders: OrderCounts::default(),
            items: Vec::new(),
        };
        assert!(sale.to_string().contains("scheduled"), "{sale}");
        sale.orders.cancelled = 1;
        assert!(sale.to_string().contains("opened by its window"), "{sale}");
        sale.logged_state = "paused";
        assert!(sale.to_string().contains("paused"), "{sale}");
    }
}
