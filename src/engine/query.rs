//! What a reader sees. Views borrow from the engine, so that reading allocates nothing.

use super::Engine;
use super::orders::{OrderRow, Orders};
use super::sale::Sale;
use crate::model::{
    AccountId, Answer, Intent, ItemCounts, Line, OrderNumber, OrderState, OrderView, Quantity,
    Refusal, SaleId, SaleStats, TimeMs,
};

/// An order as it stands.
#[derive(Clone, Copy)]
pub struct OrderRef<'a> {
    sale: &'a Sale,
    row: &'a OrderRow,
    order: OrderNumber,
    state: OrderState,
    expires_at: Option<TimeMs>,
}

impl OrderRef<'_> {
    /// The order.
    #[must_use]
    pub const fn order(&self) -> OrderNumber {
        self.order
    }

    /// Whose it is.
    #[must_use]
    pub fn account(&self) -> AccountId {
        self.sale.accounts.id(self.row.account())
    }

    /// Its state.
    #[must_use]
    pub const fn state(&self) -> OrderState {
        self.state
    }

    /// When a hold ends by itself; absent in every other state.
    #[must_use]
    pub const fn expires_at(&self) -> Option<TimeMs> {
        self.expires_at
    }

    /// What it holds or owns; of an order that ended, what it had last.
    #[must_use]
    pub fn lines(&self) -> impl ExactSizeIterator<Item = Line> + '_ {
        self.sale.orders.lines(self.row).map(|line| Line {
            item: self.sale.items.at(line.item).id,
            quantity: Quantity(line.quantity),
        })
    }
}

impl From<OrderRef<'_>> for OrderView {
    fn from(order: OrderRef<'_>) -> Self {
        Self {
            order: order.order(),
            account: order.account(),
            state: order.state(),
            expires_at: order.expires_at(),
            lines: order.lines().collect(),
        }
    }
}

impl Engine {
    /// An order as it stands at `now`: a hold whose time is up is expired.
    pub fn order(
        &self,
        sale: SaleId,
        order: OrderNumber,
        now: TimeMs,
    ) -> Result<OrderRef<'_>, Refusal> {
        let sale = self.sale(sale)?;
        let row = sale.orders.find(order).ok_or(Refusal::NotFound)?;
        Ok(self.order_ref(sale, order, row, now))
    }

    pub(super) fn order_ref<'a>(
        &self,
        sale: &'a Sale,
        order: OrderNumber,
        row: &'a OrderRow,
        now: TimeMs,
    ) -> OrderRef<'a> {
        let state = self.state(row, now);
        let is_held = state == OrderState::Held;
        let expires_at = is_held.then(|| Orders::deadline(row, &self.wheel));
        OrderRef { sale, row, order, state, expires_at }
    }

    /// What a request id got. `NOT_FOUND` where it is unknown: it may still arrive, unless it is
    /// fenced.
    pub fn request(&self, intent: Intent) -> Result<Answer, Refusal> {
        let sale = self.sale(intent.sale)?;
        let search = self.buyer(sale, intent)?;
        let known = self.known(sale, &search).ok_or(Refusal::NotFound)?;
        let outcome = sale.requests.outcome(known, &sale.orders, &self.wheel);
        Ok(Answer { outcome, replayed: true })
    }

    /// The counters of every item of a sale, archived or not, in the order of their ids.
    pub fn availability(
        &self,
        sale: SaleId,
    ) -> Result<impl ExactSizeIterator<Item = ItemCounts> + '_, Refusal> {
        Ok(self.any_sale(sale)?.items.as_slice().iter().map(super::stock::Item::counts))
    }

    /// The totals of a sale at `now`, archived or not. A hold counts as held until its expiry is
    /// logged, as its units do.
    pub fn stats(&self, sale: SaleId, now: TimeMs) -> Result<SaleStats, Refusal> {
        let sale = self.any_sale(sale)?;
        Ok(sale.stats(sale.state(now)))
    }

    /// The sales, in the order in which they were defined.
    #[must_use]
    pub fn sales(&self) -> impl ExactSizeIterator<Item = SaleId> + '_ {
        self.sales.iter().map(|sale| sale.id)
    }
}
