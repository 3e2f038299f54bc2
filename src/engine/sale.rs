//! One sale: its terms, its state, and its tables.

use super::accounts::{AccountIndex, Accounts, TallyKey};
use super::orders::{Orders, StockLines};
use super::requests::Requests;
use super::stock::Items;
use crate::model::{
    ItemCounts, OrderState, Quantity, SaleId, SaleState, SaleStats, SaleTerms, TimeMs,
};

pub(super) struct Sale {
    pub(super) id: SaleId,
    pub(super) terms: SaleTerms,
    /// The state as logged; the window may have changed it since.
    pub(super) logged_state: SaleState,
    pub(super) items: Items,
    pub(super) accounts: Accounts,
    pub(super) orders: Orders,
    pub(super) requests: Requests,
    /// The totals of an archived sale, whose tables are gone.
    pub(super) last_stats: Option<Box<SaleStats>>,
}

impl Sale {
    pub(super) fn new(id: SaleId, terms: SaleTerms) -> Self {
        Self {
            id,
            terms,
            logged_state: SaleState::Scheduled,
            items: Items::new(),
            accounts: Accounts::new(),
            orders: Orders::new(),
            requests: Requests::new(),
            last_stats: None,
        }
    }

    /// The state at `now`: as logged, and as the window has it since.
    #[inline]
    pub(super) fn state(&self, now: TimeMs) -> SaleState {
        let is_past = |time: Option<TimeMs>| time.is_some_and(|time| time <= now);
        match self.logged_state {
            state @ (SaleState::Closed | SaleState::Archived) => state,
            _ if is_past(self.terms.closes_at) => SaleState::Closed,
            SaleState::Scheduled if is_past(self.terms.opens_at) => SaleState::Open,
            state => state,
        }
    }

    /// Whether the orders, accounts and requests are forgotten.
    #[inline]
    pub(super) const fn is_archived(&self) -> bool {
        self.last_stats.is_some()
    }

    /// The terms and totals. A hold counts as held until its expiry is logged, as its units do.
    pub(super) fn stats(&self, state: SaleState) -> SaleStats {
        if let Some(last) = &self.last_stats {
            return **last;
        }
        let items = self.items.as_slice();
        let sum = |counter: fn(&ItemCounts) -> Quantity| -> u64 {
            items.iter().map(|item| u64::from(counter(&item.counts()).0)).sum()
        };
        SaleStats {
            state,
            terms: self.terms,
            items: items.len() as u32,
            orders: self.orders.len(),
            orders_held: self.orders.total(OrderState::Held),
            orders_confirmed: self.orders.total(OrderState::Confirmed),
            orders_released: self.orders.total(OrderState::Released),
            orders_expired: self.orders.total(OrderState::Expired),
            orders_cancelled: self.orders.total(OrderState::Cancelled),
            accounts: self.accounts.len(),
            capacity: sum(|counts| counts.capacity),
            available: sum(|counts| counts.available),
            held: sum(|counts| counts.held),
            sold: sum(|counts| counts.sold),
        }
    }

    /// Counts lines against the limits that exist.
    #[inline]
    pub(super) fn charge(&mut self, account: AccountIndex, lines: &StockLines) {
        if self.terms.account_limit.is_some() {
            self.accounts.add_units(account, units(lines));
        }
        for line in lines {
            if self.items.at(line.item).account_limit.is_some() {
                self.accounts.add_tally(account, TallyKey::item(line.item), line.quantity);
            }
        }
    }

    /// Takes lines off the limits again.
    pub(super) fn credit(&mut self, account: AccountIndex, lines: &StockLines) {
        if self.terms.account_limit.is_some() {
            self.accounts.subtract_units(account, units(lines));
        }
        for line in lines {
            if self.items.at(line.item).account_limit.is_some() {
                self.accounts.subtract_tally(account, TallyKey::item(line.item), line.quantity);
            }
        }
    }
}

/// The units of all lines together, which a limit bounds.
#[inline]
fn units(lines: &StockLines) -> u32 {
    let sum: u64 = lines.iter().map(|line| u64::from(line.quantity)).sum();
    u32::try_from(sum).expect("units stay within the limit")
}
