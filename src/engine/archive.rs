//! Forgets a closed sale, and frees its memory a little at a time.
//!
//! Archiving keeps a sale's id, terms, items and totals, so that its id is never used again and
//! its result can still be read; orders, accounts, request ids and fences go. It waits for holds
//! to end: each of them has a timer, and units on their way into tickets or back into stock.
//!
//! The tables of ten million orders are a gigabyte, which takes the kernel tens of milliseconds
//! to take back. They are handed over as garbage in constant time, and [`Engine::reclaim`] frees
//! one chunk of at most 2 MiB per call. The wheel keeps its timers' memory, for the next sale.

use std::mem;

use super::accounts::Accounts;
use super::administration::DONE;
use super::orders::Orders;
use super::requests::Requests;
use super::{Decision, Engine};
use crate::model::record::{Record, SaleArchived};
use crate::model::{OrderState, Refusal, SaleId, SaleState, TimeMs};

/// The tables of one archived sale.
struct Tables {
    accounts: Accounts,
    orders: Orders,
    requests: Requests,
}

impl Tables {
    fn free_chunk(&mut self) -> bool {
        self.orders.free_chunk() || self.requests.free_chunk() || self.accounts.free_chunk()
    }
}

/// Tables that nobody reads any more.
pub(super) struct Garbage(Vec<Tables>);

impl Garbage {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }
}

impl Engine {
    /// Forgets what a closed sale without live holds knew.
    pub(super) fn archive_sale(&self, id: SaleId, now: TimeMs) -> Result<Decision, Refusal> {
        let sale = self.any_sale(id)?;
        match sale.state(now) {
            SaleState::Archived => DONE,
            // A hold whose time is up counts until its expiry is logged, in a moment.
            SaleState::Closed if sale.orders.total(OrderState::Held) > 0 => {
                Err(Refusal::WrongState { state: OrderState::Held })
            }
            SaleState::Closed => {
                Ok(Decision::Commit(Record::SaleArchived(SaleArchived { sale: id })))
            }
            SaleState::Scheduled | SaleState::Open | SaleState::Paused => Err(Refusal::NotClosed),
        }
    }

    pub(super) fn apply_sale_archived(&mut self, archived: &SaleArchived) {
        let row = self.sale_row(archived.sale);
        let sale = &mut self.sales[row];
        assert!(sale.orders.total(OrderState::Held) == 0, "no hold lives in an archived sale");
        sale.last_stats = Some(Box::new(sale.stats(SaleState::Archived)));
        sale.logged_state = SaleState::Archived;
        self.garbage.0.push(Tables {
            accounts: mem::replace(&mut sale.accounts, Accounts::gone()),
            orders: mem::replace(&mut sale.orders, Orders::new()),
            requests: mem::replace(&mut sale.requests, Requests::gone()),
        });
    }

    /// Frees one chunk, at most 2 MiB, of what archived sales knew. Whoever applies records calls
    /// it now and then, as long as [`Engine::has_garbage`].
    pub fn reclaim(&mut self) {
        if self.garbage.0.last_mut().is_some_and(|tables| !tables.free_chunk()) {
            self.garbage.0.pop();
        }
    }

    /// Whether [`Engine::reclaim`] has something to free.
    #[must_use]
    pub const fn has_garbage(&self) -> bool {
        !self.garbage.0.is_empty()
    }
}
