//! The counters of a sale's items. Each movement changes two counters, and the sum is checked
//! against the capacity after it: none is derived from the others.

use std::collections::{BTreeMap, HashMap};

use super::report::ItemReport;
use super::rules::{Findings, Rule};
use crate::model::sale::{CAPACITY_MAX, ITEMS_MAX};
use crate::model::{ItemId, ItemTerms, OrderNumber, Price, Quantity};

/// An item's place in its sale's books.
pub(super) type ItemRow = u32;

/// Where units are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Available,
    Held,
    Sold,
}

#[derive(Debug)]
pub(super) struct Item {
    id: ItemId,
    pub(super) account_limit: Option<Quantity>,
    price: Price,
    capacity: i64,
    available: i64,
    held: i64,
    sold: i64,
}

#[derive(Debug, Default)]
pub(super) struct Stock {
    items: Vec<Item>,
    rows: HashMap<ItemId, ItemRow>,
}

impl Stock {
    pub(super) fn row(&self, item: ItemId) -> Option<ItemRow> {
        // Sales have few items, and the first ones are asked for most.
        let first = self.items.iter().take(4).position(|first| first.id == item);
        first.map(|row| row as ItemRow).or_else(|| self.rows.get(&item).copied())
    }

    pub(super) fn item(&self, row: ItemRow) -> &Item {
        &self.items[row as usize]
    }

    pub(super) fn define(&mut self, id: ItemId, terms: ItemTerms, findings: &mut Findings) {
        if terms.capacity > CAPACITY_MAX || terms.account_limit == Some(Quantity(0)) {
            let what = || format!("item {id} has a capacity or limit out of range");
            findings.add(Rule::TermsOutOfRange, None, what);
        }
        let items = self.items.len();
        let row = *self.rows.entry(id).or_insert(items as ItemRow) as usize;
        if row == items {
            if items == ITEMS_MAX {
                let what = || format!("item {id} is one more than a sale may have");
                findings.add(Rule::TermsOutOfRange, None, what);
            }
            self.items.push(Item {
                id,
                account_limit: None,
                price: terms.price,
                capacity: 0,
                available: 0,
                held: 0,
                sold: 0,
            });
        }
        let item = &mut self.items[row];
        let capacity = i64::from(terms.capacity.0);
        item.account_limit = terms.account_limit;
        item.price = terms.price;
        item.available += capacity - item.capacity;
        item.capacity = capacity;
        item.check(None, findings);
    }

    pub(super) fn restock(&mut self, row: ItemRow, by: i64, findings: &mut Findings) {
        let item = &mut self.items[row as usize];
        let capacity = item.capacity.saturating_add(by);
        if capacity < item.held + item.sold || capacity > i64::from(CAPACITY_MAX.0) {
            let (id, held, sold) = (item.id, item.held, item.sold);
            findings.add(Rule::RestockTooFar, None, || {
                format!("item {id} gets the capacity {capacity}, with {held} held and {sold} sold")
            });
        }
        item.available += capacity - item.capacity;
        item.capacity = capacity;
    }

    /// Moves units, and checks what that leaves.
    pub(super) fn shift(
        &mut self,
        row: ItemRow,
        quantity: u32,
        (from, to): (Place, Place),
        order: OrderNumber,
        findings: &mut Findings,
    ) {
        let item = &mut self.items[row as usize];
        *item.counter(from) -= i64::from(quantity);
        *item.counter(to) += i64::from(quantity);
        // Giving back never makes things worse, so only taking is reported.
        if from == Place::Available || item.sum() != item.capacity {
            item.check(Some(order), findings);
        }
    }

    /// Sets the counters of an item whose orders are not known any more.
    pub(super) fn set(
        &mut self,
        id: ItemId,
        [available, held, sold]: [i64; 3],
        findings: &mut Findings,
    ) {
        let Some(row) = self.row(id) else { return };
        let item = &mut self.items[row as usize];
        (item.available, item.held, item.sold) = (available, held, sold);
        item.check(None, findings);
    }

    /// Available, held and sold units of an item.
    pub(super) fn counters(&self, id: ItemId) -> Option<[i64; 3]> {
        let item = self.item(self.row(id)?);
        Some([item.available, item.held, item.sold])
    }

    /// All that is known of the items, by their ids.
    pub(super) fn facts(&self) -> BTreeMap<ItemId, (Option<Quantity>, Price, [i64; 4])> {
        let facts = self.items.iter().map(|item| {
            let counters = [item.capacity, item.available, item.held, item.sold];
            (item.id, (item.account_limit, item.price, counters))
        });
        facts.collect()
    }

    /// The item at a row.
    pub(super) fn id(&self, row: ItemRow) -> ItemId {
        self.items[row as usize].id
    }

    pub(super) fn report(&self) -> Vec<ItemReport> {
        let mut items: Vec<ItemReport> = self
            .items
            .iter()
            .map(|item| ItemReport {
                item: item.id.0,
                capacity: item.capacity,
                available: item.available,
                held: item.held,
                sold: item.sold,
            })
            .collect();
        items.sort_unstable_by_key(|item| item.item);
        items
    }
}

impl Item {
    fn counter(&mut self, place: Place) -> &mut i64 {
        match place {
            Place::Available => &mut self.available,
            Place::Held => &mut self.held,
            Place::Sold => &mut self.sold,
        }
    }

    const fn sum(&self) -> i64 {
        self.available + self.held + self.sold
    }

    fn check(&self, order: Option<OrderNumber>, findings: &mut Findings) {
        let is_negative = self.available < 0 || self.held < 0 || self.sold < 0;
        if is_negative || self.sum() != self.capacity {
            findings.add(Rule::Capacity, order, || {
                let Self { id, capacity, available, held, sold, .. } = self;
                format!(
                    "item {id}: capacity {capacity}, available {available}, held {held}, \
                     sold {sold}"
                )
            });
        }
    }
}
