//! What the naive model lets a reader see: every answer counted from the orders themselves.

use super::{Done, Flaw, Naive, Order, Sale, bad};
use boxoffice::model::{
    AccountId, Field, Intent, ItemCounts, ItemId, OrderNumber, OrderState, OrderView, Outcome,
    Quantity, Refusal, SaleId, SaleState, SaleStats, TimeMs,
};

impl Naive {
    /// The held orders whose time is up, which the engine is to expire.
    pub fn overdue(&self, now: TimeMs) -> Vec<(SaleId, OrderNumber)> {
        let mut overdue = Vec::new();
        for (id, sale) in &self.sales {
            for (order, number) in sale.orders.iter().zip(1..) {
                if order.state == OrderState::Held && order.deadline <= now {
                    overdue.push((*id, OrderNumber(number)));
                }
            }
        }
        overdue
    }

    /// The first deadline of any held order.
    pub fn first_deadline(&self) -> Option<TimeMs> {
        let orders = self.sales.values().flat_map(|sale| &sale.orders);
        let held = orders.filter(|order| order.state == OrderState::Held);
        held.map(|order| order.deadline).min()
    }

    /// Expires an overdue order.
    pub fn expire(&mut self, sale: SaleId, order: OrderNumber) {
        let order = &mut self.sales.get_mut(&sale).unwrap().orders[order.0 as usize - 1];
        order.state = OrderState::Expired;
    }

    pub fn sales(&self) -> Vec<SaleId> {
        self.sales.keys().copied().collect()
    }

    /// Every order of a sale as it stands at `now`; `None` of an archived one.
    pub fn orders(&self, id: SaleId, now: TimeMs) -> Option<Vec<OrderView>> {
        if self.sales[&id].state == SaleState::Archived {
            return None;
        }
        let orders = self.sales[&id].orders.iter().zip(1..);
        let view = |(order, number): (&Order, u32)| {
            let is_up = order.state == OrderState::Held && order.deadline <= now;
            let state = if is_up { OrderState::Expired } else { order.state };
            OrderView {
                order: OrderNumber(number),
                account: order.account,
                state,
                expires_at: (state == OrderState::Held).then_some(order.deadline),
                lines: order.lines.clone(),
            }
        };
        Some(orders.map(view).collect())
    }

    /// What a request id got.
    pub fn request(&self, intent: Intent) -> Result<Outcome, Refusal> {
        let sale = self.sales.get(&intent.sale).ok_or(Refusal::NotFound)?;
        if sale.state == SaleState::Archived {
            return Err(Refusal::Closed);
        }
        if intent.account == AccountId::OPERATOR {
            return bad(Field::Account);
        }
        let is_it = |done: &&Done| done.account == intent.account && done.request == intent.request;
        sale.done.iter().find(is_it).map(|done| done.outcome.clone()).ok_or(Refusal::NotFound)
    }

    pub fn availability(&self, id: SaleId, now: TimeMs) -> Result<Vec<ItemCounts>, Refusal> {
        let sale = self.sales.get(&id).ok_or(Refusal::NotFound)?;
        Ok(sale.items.keys().map(|&item| self.counts(sale, item, now)).collect())
    }

    pub fn stats(&self, id: SaleId, now: TimeMs) -> Result<SaleStats, Refusal> {
        let sale = self.sales.get(&id).ok_or(Refusal::NotFound)?;
        let in_state =
            |state| sale.orders.iter().filter(|order| order.state == state).count() as u32;
        let mut accounts: Vec<AccountId> = sale.orders.iter().map(|order| order.account).collect();
        let fences = sale.done.iter().filter(|done| done.command.is_none());
        accounts.extend(fences.map(|done| done.account));
        accounts.sort_unstable();
        accounts.dedup();
        let counts = self.availability(id, now)?;
        let sum = |counter: fn(&ItemCounts) -> Quantity| {
            counts.iter().map(|item| u64::from(counter(item).0)).sum()
        };
        Ok(SaleStats {
            state: self.state_of(sale, now),
            terms: sale.terms,
            items: sale.items.len() as u32,
            orders: sale.orders.len() as u32,
            orders_held: in_state(OrderState::Held),
            orders_confirmed: in_state(OrderState::Confirmed),
            orders_released: in_state(OrderState::Released),
            orders_expired: in_state(OrderState::Expired),
            orders_cancelled: in_state(OrderState::Cancelled),
            accounts: accounts.len() as u32,
            capacity: sum(|item| item.capacity),
            available: sum(|item| item.available),
            held: sum(|item| item.held),
            sold: sum(|item| item.sold),
        })
    }

    pub(super) fn counts(&self, sale: &Sale, item: ItemId, now: TimeMs) -> ItemCounts {
        let early = self.flaw == Some(Flaw::EarlyStock);
        let units = |state: OrderState| -> u32 {
            let orders = sale.orders.iter().filter(|order| order.state == state);
            let live = orders.filter(|order| {
                !(early && order.state == OrderState::Held && order.deadline <= now)
            });
            let lines = live.flat_map(|order| &order.lines);
            lines.filter(|line| line.item == item).map(|line| line.quantity.0).sum()
        };
        let terms = sale.items[&item];
        let (held, sold) = (units(OrderState::Held), units(OrderState::Confirmed));
        let lost = sale.lost.get(&item).copied().unwrap_or(0);
        ItemCounts {
            item,
            price: terms.price,
            account_limit: terms.account_limit,
            capacity: terms.capacity,
            available: Quantity(terms.capacity.0.saturating_sub(held + sold + lost)),
            held: Quantity(held),
            sold: Quantity(sold),
        }
    }
}
