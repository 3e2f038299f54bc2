//! The items of a sale and their counters.
//!
//! Invariant: `available + held + sold == capacity`, asserted after each change, in release too.
//! Every counter is kept on its own, so that the assertion compares what really happened.

use crate::model::sale::{CAPACITY_MAX, ITEMS_MAX};
use crate::model::snapshot;
use crate::model::{ItemCounts, ItemId, ItemTerms, Price, Quantity};

/// An item's place among the items of its sale, in the order of their ids.
pub(super) type ItemRow = u16;

/// One item.
pub(super) struct Item {
    pub(super) id: ItemId,
    pub(super) price: Price,
    pub(super) account_limit: Option<Quantity>,
    capacity: u32,
    available: u32,
    held: u32,
    sold: u32,
}

impl Item {
    fn new(id: ItemId, terms: ItemTerms) -> Self {
        let ItemTerms { capacity, price, account_limit } = terms;
        assert!(capacity <= CAPACITY_MAX, "the capacity is in range");
        let (capacity, available) = (capacity.0, capacity.0);
        Self { id, price, account_limit, capacity, available, held: 0, sold: 0 }
    }

    /// The terms as they stand; the capacity is the defined one as restocked since.
    pub(super) const fn terms(&self) -> ItemTerms {
        ItemTerms {
            capacity: Quantity(self.capacity),
            price: self.price,
            account_limit: self.account_limit,
        }
    }

    pub(super) const fn counts(&self) -> ItemCounts {
        ItemCounts {
            item: self.id,
            price: self.price,
            account_limit: self.account_limit,
            capacity: Quantity(self.capacity),
            available: Quantity(self.available),
            held: Quantity(self.held),
            sold: Quantity(self.sold),
        }
    }

    pub(super) const fn available(&self) -> u32 {
        self.available
    }

    pub(super) const fn held(&self) -> u32 {
        self.held
    }

    /// The capacity after a restock; `None` where it would be out of range or below what is held
    /// and sold.
    pub(super) fn restocked(&self, by: i64) -> Option<u32> {
        let taken = i64::from(self.held) + i64::from(self.sold);
        let capacity = i64::from(self.capacity).checked_add(by)?;
        let in_range = taken..=i64::from(CAPACITY_MAX.0);
        in_range.contains(&capacity).then_some(capacity as u32)
    }

    pub(super) fn restock(&mut self, by: i64) {
        self.capacity = self.restocked(by).expect("a logged restock fits");
        self.available = self.capacity - self.held - self.sold;
        self.check();
    }

    /// Units go from available to held.
    #[inline]
    pub(super) fn hold(&mut self, units: u32) {
        shift(&mut self.available, &mut self.held, units);
        self.check();
    }

    /// Units go from available to sold.
    #[inline]
    pub(super) fn sell(&mut self, units: u32) {
        shift(&mut self.available, &mut self.sold, units);
        self.check();
    }

    /// Units go from held to sold.
    #[inline]
    pub(super) fn confirm(&mut self, units: u32) {
        shift(&mut self.held, &mut self.sold, units);
        self.check();
    }

    /// Units go from held back to available.
    pub(super) fn release(&mut self, units: u32) {
        shift(&mut self.held, &mut self.available, units);
        self.check();
    }

    /// Units go from sold back to available.
    pub(super) fn cancel(&mut self, units: u32) {
        shift(&mut self.sold, &mut self.available, units);
        self.check();
    }

    #[inline]
    fn check(&self) {
        let sum = u64::from(self.available) + u64::from(self.held) + u64::from(self.sold);
        assert!(sum == u64::from(self.capacity), "capacity is conserved");
    }
}

#[inline]
fn shift(from: &mut u32, to: &mut u32, units: u32) {
    *from = from.checked_sub(units).expect("no unit is taken twice");
    *to = to.checked_add(units).expect("no counter passes the capacity");
}

/// The items of one sale, in the order of their ids.
pub(super) struct Items(Vec<Item>);

impl Items {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn as_slice(&self) -> &[Item] {
        &self.0
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= ITEMS_MAX
    }

    /// The place of an item.
    #[inline]
    pub(super) fn find(&self, id: ItemId) -> Option<ItemRow> {
        // Ids are mostly dense, so the place is mostly the distance from the first.
        let distance = id.0.wrapping_sub(self.0.first()?.id.0) as usize;
        if self.0.get(distance).is_some_and(|item| item.id == id) {
            return Some(distance as ItemRow);
        }
        self.0.binary_search_by_key(&id, |item| item.id).ok().map(|row| row as ItemRow)
    }

    /// The place of an item that a record names.
    #[inline]
    pub(super) fn row_of(&self, id: ItemId) -> ItemRow {
        self.find(id).expect("a logged item is defined")
    }

    #[inline]
    pub(super) fn at(&self, row: ItemRow) -> &Item {
        &self.0[usize::from(row)]
    }

    #[inline]
    pub(super) fn at_mut(&mut self, row: ItemRow) -> &mut Item {
        &mut self.0[usize::from(row)]
    }

    /// Adds an item as a snapshot has it, behind all others; whether its counters add up.
    pub(super) fn load(&mut self, row: &snapshot::ItemRow) -> bool {
        let sum = [row.available, row.held, row.sold].map(|units| u64::from(units.0));
        let fits = sum.iter().sum::<u64>() == u64::from(row.terms.capacity.0)
            && row.terms.capacity <= CAPACITY_MAX;
        if fits {
            let item = Item::new(row.item, row.terms);
            let (available, held, sold) = (row.available.0, row.held.0, row.sold.0);
            self.0.push(Item { available, held, sold, ..item });
        }
        fits
    }

    /// Adds an item or replaces one, while no order names a place.
    pub(super) fn define(&mut self, id: ItemId, terms: ItemTerms) {
        match self.0.binary_search_by_key(&id, |item| item.id) {
            Ok(row) => self.0[row] = Item::new(id, terms),
            Err(row) => {
                assert!(!self.is_full(), "a sale has at most {ITEMS_MAX} items");
                self.0.insert(row, Item::new(id, terms));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(capacity: u32) -> Item {
        let terms =
            ItemTerms { capacity: Quantity(capacity), price: Price(5), account_limit: None };
        Item::new(ItemId(1), terms)
    }

    #[test]
    fn units_move_and_the_capacity_stays() {
        let mut item = item(10);
        item.hold(4);
        item.confirm(3);
        item.release(1);
        item.sell(2);
        item.cancel(1);
        assert_eq!((item.available, item.held, item.sold), (6, 0, 4));
        assert_eq!(item.restocked(-6), Some(4));
        assert_eq!(item.restocked(-7), None);
        assert_eq!(item.restocked(i64::MAX), None);
        assert_eq!(item.restocked(i64::MIN), None);
        item.restock(-6);
        assert_eq!((item.available, item.capacity), (0, 4));
    }

    #[test]
    #[should_panic(expected = "no unit is taken twice")]
    fn overselling_ends_the_process() {
        item(1).sell(2);
    }

    #[test]
    #[should_panic(expected = "capacity is conserved")]
    fn a_unit_out_of_nothing_ends_the_process() {
        let mut item = item(1);
        item.available += 1;
        item.sell(1);
    }

    #[test]
    fn items_are_found_however_their_ids_lie() {
        let mut items = Items::new();
        assert_eq!(items.find(ItemId(0)), None);
        let terms = item(1).terms();
        for id in [7, 3, u32::MAX, 4, 5] {
            items.define(ItemId(id), terms);
        }
        for (row, id) in [3, 4, 5, 7, u32::MAX].into_iter().enumerate() {
            assert_eq!(items.find(ItemId(id)), Some(row as ItemRow));
        }
        assert!([0, 2, 6, 8].into_iter().all(|id| items.find(ItemId(id)).is_none()));
    }
}
