//! The stock of a shard's sales, listed for a reader that asks now and then.
//!
//! The list is bounded, newest sales first; what does not fit is summed. So is the work: a scan
//! looks at some items in each turn, and a shard with ten thousand sales answers others meanwhile.

use crate::engine::Engine;
use crate::model::{ItemId, SaleId, SaleState, SaleStats, TimeMs};

/// Sales that are listed, at most.
pub const SALES_LISTED_MAX: usize = 64;

/// Items of one sale that are listed, at most.
pub const ITEMS_LISTED_MAX: usize = 64;

/// Items that one turn looks at, but for those of the last sale that it began.
const ITEMS_PER_TURN: u64 = 1_024;

/// What a sale counts as, even without items.
const SALE_COST: u64 = 16;

/// Units by where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// Can be held now.
    pub available: u64,
    /// In holds.
    pub held: u64,
    /// In confirmed orders.
    pub sold: u64,
}

/// An item that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemStock {
    /// Its sale.
    pub sale: SaleId,
    /// The item.
    pub item: ItemId,
    /// Its units.
    pub units: Units,
}

/// A sale that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaleStock {
    /// The sale.
    pub sale: SaleId,
    /// Its state.
    pub state: SaleState,
    /// The units of all its items.
    pub units: Units,
    /// Its orders that are held now.
    pub holds: u64,
}

/// The stock of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StockTable {
    /// Sales, newest first.
    pub sales: Vec<SaleStock>,
    /// Their items.
    pub items: Vec<ItemStock>,
    /// Sales that did not fit.
    pub sales_omitted: u64,
    /// Items that did not fit, with those of sales that did not.
    pub items_omitted: u64,
    /// The units of those.
    pub units_omitted: Units,
    /// Orders that are held now, in all sales.
    pub holds: u64,
}

impl StockTable {
    /// An empty table with memory for all that it may list.
    #[must_use]
    pub fn with_room() -> Self {
        Self {
            sales: Vec::with_capacity(SALES_LISTED_MAX),
            items: Vec::with_capacity(SALES_LISTED_MAX * ITEMS_LISTED_MAX),
            sales_omitted: 0,
            items_omitted: 0,
            units_omitted: Units::default(),
            holds: 0,
        }
    }
}

impl Units {
    /// Adds other units to these.
    pub const fn add(&mut self, other: Self) {
        self.available += other.available;
        self.held += other.held;
        self.sold += other.sold;
    }
}

/// A table that is being filled.
#[derive(Debug)]
pub(in crate::server) struct StockScan {
    table: Box<StockTable>,
    /// Sales before this one, in the order of their definition, are still to be looked at.
    left: usize,
}

impl StockScan {
    pub(in crate::server) fn new(table: Box<StockTable>, engine: &Engine) -> Self {
        Self { table, left: engine.sales().len() }
    }

    /// Looks at some more sales; gives the table back once it is complete.
    pub(in crate::server) fn step(
        mut self,
        engine: &Engine,
        now: TimeMs,
    ) -> Result<Box<StockTable>, Self> {
        let mut cost = 0;
        while cost < ITEMS_PER_TURN {
            let Some(left) = self.left.checked_sub(1) else { return Ok(self.table) };
            self.left = left;
            let Some(sale) = engine.sales().nth(left) else { continue };
            let Ok(stats) = engine.stats(sale, now) else { continue };
            self.add(engine, sale, &stats);
            cost += SALE_COST + u64::from(stats.items);
        }
        Err(self)
    }

    fn add(&mut self, engine: &Engine, sale: SaleId, stats: &SaleStats) {
        let table = &mut *self.table;
        let SaleStats { available, held, sold, .. } = *stats;
        let (units, holds) = (Units { available, held, sold }, u64::from(stats.orders_held));
        table.holds += holds;
        if table.sales.len() == SALES_LISTED_MAX {
            table.sales_omitted += 1;
            table.items_omitted += u64::from(stats.items);
            table.units_omitted.add(units);
            return;
        }
        table.sales.push(SaleStock { sale, state: stats.state, units, holds });
        let items = engine.availability(sale).into_iter().flatten();
        for (number, counts) in items.enumerate() {
            let units = Units {
                available: u64::from(counts.available.0),
                held: u64::from(counts.held.0),
                sold: u64::from(counts.sold.0),
            };
            if number < ITEMS_LISTED_MAX {
                table.items.push(ItemStock { sale, item: counts.item, units });
            } else {
                table.items_omitted += 1;
                table.units_omitted.add(units);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Decision, HashSeed};
    use crate::model::{Command, ItemTerms, Price, Quantity, SaleTerms};

    fn apply(engine: &mut Engine, command: &Command) {
        let Ok(Decision::Commit(record)) = engine.decide(command, TimeMs(1)) else {
            panic!("{command:?} changes something")
        };
        engine.apply(&record);
    }

    #[test]
    fn a_list_is_bounded_and_loses_no_unit() {
        let mut engine = Engine::new(HashSeed([1, 2]));
        let (sales, items) = (SALES_LISTED_MAX as u64 + 6, ITEMS_LISTED_MAX as u32 + 3);
        let terms = ItemTerms { capacity: Quantity(10), price: Price(1), account_limit: None };
        for sale in (1..=sales).map(SaleId) {
            apply(&mut engine, &Command::DefineSale { sale, terms: SaleTerms::default() });
            for item in (1..=items).map(ItemId) {
                apply(&mut engine, &Command::DefineItem { sale, item, terms });
            }
        }
        let mut scan = StockScan::new(Box::new(StockTable::with_room()), &engine);
        let mut turns = 1;
        let table = loop {
            match scan.step(&engine, TimeMs(1)) {
                Ok(table) => break table,
                Err(rest) => scan = rest,
            }
            turns += 1;
        };
        assert!(turns > 1, "the work is spread");
        assert_eq!(table.sales.len(), SALES_LISTED_MAX);
        assert_eq!(table.sales[0].sale, SaleId(sales), "the newest sale comes first");
        assert_eq!(table.items.len(), SALES_LISTED_MAX * ITEMS_LISTED_MAX);
        assert_eq!(table.sales_omitted, 6);
        let all = sales * u64::from(items);
        assert_eq!(table.items_omitted, all - table.items.len() as u64);
        let mut units = table.units_omitted;
        table.items.iter().for_each(|item| units.add(item.units));
        assert_eq!(units, Units { available: all * 10, held: 0, sold: 0 });
        let room = StockTable::with_room();
        assert_eq!(room.items.capacity(), table.items.capacity(), "a shard allocates nothing");
    }
}
