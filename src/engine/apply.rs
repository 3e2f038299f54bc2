//! Carries records out: the only change of an engine.
//!
//! A record comes from a decision a moment ago or from the log; both are carried out by the same
//! code. A record that does not fit the state means a broken log or a broken engine, and ends the
//! process with what is wrong.

use super::accounts::{AccountIndex, TallyKey};
use super::orders::{NewOrder, StockLine, StockLines};
use super::requests::Effect;
use super::sale::Sale;
use super::{Engine, Search};
use crate::canary::{Canary, planted};
use crate::model::record::{
    Bought, Cancelled, Confirmed, Expired, Extended, Fenced, Held, ItemDefined, Origin, Record,
    RecordLines, Released, Restocked, SaleDefined, SaleStateSet,
};
use crate::model::{BodyDigest, OrderNumber, OrderState, SaleId, SaleState};

impl Engine {
    /// Carries a record out.
    ///
    /// # Panics
    ///
    /// Where the record does not fit: an unknown sale or order, an order number out of turn, units
    /// that are not there. Capacity is conserved after every record, or the process ends.
    pub fn apply(&mut self, record: &Record) {
        // Whatever a record changes, what was found before it counts for it alone.
        let search = self.last_search.take();
        match record {
            Record::SaleDefined(defined) => self.apply_sale_defined(defined),
            Record::ItemDefined(defined) => self.apply_item_defined(defined),
            Record::Restocked(restocked) => self.apply_restocked(restocked),
            Record::SaleStateSet(set) => self.apply_sale_state_set(set),
            Record::Held(held) => self.apply_held(held, search),
            Record::Bought(bought) => self.apply_bought(bought, search),
            Record::Confirmed(confirmed) => self.apply_confirmed(confirmed),
            Record::Released(released) => self.apply_released(released),
            Record::Extended(extended) => self.apply_extended(extended),
            Record::Cancelled(cancelled) => self.apply_cancelled(cancelled),
            Record::Expired(expired) => self.apply_expired(expired),
            Record::Fenced(fenced) => self.apply_fenced(fenced),
            Record::SaleArchived(archived) => self.apply_sale_archived(archived),
        }
    }

    pub(super) fn apply_sale_defined(&mut self, defined: &SaleDefined) {
        let SaleDefined { sale, terms } = *defined;
        if let Some(row) = self.find_sale(sale) {
            let sale = &mut self.sales[row as usize];
            assert!(!sale.is_archived(), "an archived sale never comes back");
            assert!(sale.orders.len() == 0, "the terms of a sale with orders are fixed");
            sale.terms = terms;
        } else {
            self.add_sale(Sale::new(sale, terms));
        }
    }

    /// Adds a sale whose id is new.
    pub(super) fn add_sale(&mut self, sale: Sale) {
        let row = self.sales.len() as u32;
        self.sale_index.insert(self.hash.sale(sale.id), row);
        let place = self.by_id.partition_point(|&(id, _)| id < sale.id);
        self.by_id.insert(place, (sale.id, row));
        self.sales.push(sale);
    }

    fn apply_sale_state_set(&mut self, set: &SaleStateSet) {
        assert!(set.state != SaleState::Archived, "archiving has a record of its own");
        self.sale_mut(set.sale).logged_state = set.state;
    }

    fn apply_item_defined(&mut self, defined: &ItemDefined) {
        let sale = self.sale_mut(defined.sale);
        assert!(sale.orders.len() == 0, "the items of a sale with orders are fixed");
        sale.items.define(defined.item, defined.terms);
    }

    fn apply_restocked(&mut self, restocked: &Restocked) {
        let Restocked { origin, item, by } = *restocked;
        let hash = self.hash.request(origin.account, origin.request);
        let sale = self.sale_mut(origin.sale);
        let row = sale.items.row_of(item);
        sale.items.at_mut(row).restock(by);
        sale.requests.add(hash, origin.request, origin.digest, Effect::Restocked);
    }

    fn apply_held(&mut self, held: &Held, search: Option<Search>) {
        let Held { origin, order, expires_at, ref lines } = *held;
        let sale_row = self.sale_row(origin.sale);
        let mut places = StockLines::new();
        put_stock_lines(&self.sales[sale_row], lines, &mut places);
        let lines = &places;
        let new = self.new_order((sale_row, search), &origin, order, lines);
        let sale = &mut self.sales[sale_row];
        for line in lines {
            sale.items.at_mut(line.item).hold(line.quantity);
        }
        sale.orders.add_held(&new, expires_at, sale_row as u32, &mut self.wheel);
    }

    fn apply_bought(&mut self, bought: &Bought, search: Option<Search>) {
        let Bought { origin, order, ref lines, .. } = *bought;
        let sale_row = self.sale_row(origin.sale);
        let mut places = StockLines::new();
        put_stock_lines(&self.sales[sale_row], lines, &mut places);
        let lines = &places;
        let new = self.new_order((sale_row, search), &origin, order, lines);
        let sale = &mut self.sales[sale_row];
        for line in lines {
            sale.items.at_mut(line.item).sell(line.quantity);
        }
        sale.orders.add_bought(&new);
    }

    /// What holds and purchases have in common: the account with its limits, and the request.
    #[inline]
    fn new_order<'a>(
        &mut self,
        (sale_row, search): (usize, Option<Search>),
        origin: &Origin,
        order: OrderNumber,
        lines: &'a StockLines,
    ) -> NewOrder<'a> {
        let Origin { request, digest, .. } = *origin;
        let intent = origin.intent();
        let found = search.filter(|search| search.intent == intent);
        let search = found.unwrap_or_else(|| self.search(&self.sales[sale_row], intent));
        let request_hash = self.hash.request(intent.account, request);
        let sale = &mut self.sales[sale_row];
        assert!(order == sale.orders.next_number(), "orders are numbered densely");
        let Search { account_hash, account, .. } = search;
        let account = account.unwrap_or_else(|| sale.accounts.add(account_hash, intent.account));
        sale.charge(account, lines);
        sale.requests.add_order(request_hash, sale.orders.len());
        NewOrder { account, request, digest, lines }
    }

    fn apply_confirmed(&mut self, confirmed: &Confirmed) {
        let Confirmed { origin, order, ref lines, .. } = *confirmed;
        let hash = self.hash.request(origin.account, origin.request);
        let sale_row = self.sale_row(origin.sale);
        let sale = &mut self.sales[sale_row];
        if planted(Canary::ExpireConfirmed) {
            sale.requests.add(hash, origin.request, origin.digest, Effect::Confirmed(order));
            return;
        }
        let row = sale.orders.row_of(order);
        let account = sale.orders.at(row).account();
        let has = all_lines(sale, row);
        let chosen = if lines.is_empty() { has.clone() } else { stock_lines(sale, lines) };
        let (kept, rest) = divide(&has, &chosen);
        for line in &kept {
            sale.items.at_mut(line.item).confirm(line.quantity);
        }
        release(sale, account, &rest);
        sale.orders.set_lines(row, &kept);
        sale.orders.end_hold(row, OrderState::Confirmed, &mut self.wheel);
        sale.requests.add(hash, origin.request, origin.digest, Effect::Confirmed(order));
    }

    fn apply_released(&mut self, released: &Released) {
        let Released { origin, order } = *released;
        let hash = self.hash.request(origin.account, origin.request);
        self.end_hold(origin.sale, order, OrderState::Released);
        let sale = self.sale_mut(origin.sale);
        sale.requests.add(hash, origin.request, origin.digest, Effect::Released(order));
    }

    fn apply_expired(&mut self, expired: &Expired) {
        self.end_hold(expired.sale, expired.order, OrderState::Expired);
    }

    /// Gives all units of a hold back.
    fn end_hold(&mut self, sale: SaleId, order: OrderNumber, state: OrderState) {
        let sale_row = self.sale_row(sale);
        let sale = &mut self.sales[sale_row];
        let row = sale.orders.row_of(order);
        let account = sale.orders.at(row).account();
        let lines = all_lines(sale, row);
        release(sale, account, &lines);
        sale.orders.end_hold(row, state, &mut self.wheel);
    }

    fn apply_extended(&mut self, extended: &Extended) {
        let Extended { origin, order, expires_at } = *extended;
        let hash = self.hash.request(origin.account, origin.request);
        let sale_row = self.sale_row(origin.sale);
        let sale = &mut self.sales[sale_row];
        let row = sale.orders.row_of(order);
        let extension = sale.orders.extend(row, expires_at, &mut self.wheel);
        sale.requests.add(hash, origin.request, origin.digest, Effect::Extended(extension));
    }

    fn apply_cancelled(&mut self, cancelled: &Cancelled) {
        let Cancelled { origin, order, ref lines } = *cancelled;
        let hash = self.hash.request(origin.account, origin.request);
        let sale = self.sale_mut(origin.sale);
        if planted(Canary::DropCancelled) {
            sale.requests.add(hash, origin.request, origin.digest, Effect::Cancelled(order));
            return;
        }
        let row = sale.orders.row_of(order);
        let account = sale.orders.at(row).account();
        let has = all_lines(sale, row);
        let chosen = if lines.is_empty() { has.clone() } else { stock_lines(sale, lines) };
        let (cancelled, left) = divide(&has, &chosen);
        for line in &cancelled {
            sale.items.at_mut(line.item).cancel(line.quantity);
        }
        sale.credit(account, &cancelled);
        if left.is_empty() {
            sale.orders.cancel(row);
        } else {
            sale.orders.set_lines(row, &left);
        }
        sale.requests.add(hash, origin.request, origin.digest, Effect::Cancelled(order));
    }

    fn apply_fenced(&mut self, fenced: &Fenced) {
        let Fenced { sale, account, request } = *fenced;
        let account_hash = self.hash.account(account);
        let hash = self.hash.request(account, request);
        let sale = self.sale_mut(sale);
        let found = sale.accounts.find(account_hash, account);
        let account = found.unwrap_or_else(|| sale.accounts.add(account_hash, account));
        sale.accounts.add_tally(account, TallyKey::FENCES, 1);
        sale.requests.add(hash, request, BodyDigest(0), Effect::Fenced(account));
    }

    pub(super) fn sale_row(&self, id: SaleId) -> usize {
        let row = self.find_sale(id).expect("a logged sale is defined") as usize;
        assert!(!self.sales[row].is_archived(), "nothing happens in an archived sale");
        row
    }

    pub(super) fn sale_mut(&mut self, id: SaleId) -> &mut Sale {
        let row = self.sale_row(id);
        &mut self.sales[row]
    }
}

/// The lines of a record with the items' places.
#[inline]
fn stock_lines(sale: &Sale, lines: &RecordLines) -> StockLines {
    let mut places = StockLines::new();
    put_stock_lines(sale, lines, &mut places);
    places
}

/// Puts the lines where they stay: a list that is returned is copied behind its last write, and
/// that copy waits for the write.
#[inline]
fn put_stock_lines(sale: &Sale, lines: &RecordLines, places: &mut StockLines) {
    for line in lines {
        places.push(StockLine { item: sale.items.row_of(line.item), quantity: line.quantity.0 });
    }
}

fn all_lines(sale: &Sale, row: u32) -> StockLines {
    sale.orders.lines(sale.orders.at(row)).collect()
}

/// Divides an order's lines into the chosen units and the rest, both in the order's own sequence.
fn divide(has: &StockLines, chosen: &StockLines) -> (StockLines, StockLines) {
    let (mut taken, mut left) = (StockLines::new(), StockLines::new());
    let mut found = 0;
    for &StockLine { item, quantity } in has {
        let units = chosen.iter().find(|line| line.item == item).map_or(0, |line| line.quantity);
        let rest = quantity.checked_sub(units).expect("an order has the units of its lines");
        if units > 0 {
            found += 1;
            taken.push(StockLine { item, quantity: units });
        }
        if rest > 0 {
            left.push(StockLine { item, quantity: rest });
        }
    }
    assert!(found == chosen.len(), "an order has the items of its lines");
    (taken, left)
}

/// Units of a hold go back into stock, and off the limits.
fn release(sale: &mut Sale, account: AccountIndex, lines: &StockLines) {
    for line in lines {
        sale.items.at_mut(line.item).release(line.quantity);
    }
    sale.credit(account, lines);
}
