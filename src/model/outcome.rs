//! What became of a request that was not refused.

use super::id::{AccountId, ItemId, OrderNumber, Price, Quantity, TimeMs};
use super::lines::Line;
use super::sale::{SaleState, SaleTerms};

/// A success.
///
/// The outcome of a command holds only what never changes again, so that a replay gives the
/// very same answer whatever happened to the order since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Administration: it is so now.
    Done,
    /// Units are held.
    Held {
        /// The order.
        order: OrderNumber,
        /// When the hold ends by itself.
        expires_at: TimeMs,
    },
    /// A hold became tickets, or a purchase was made.
    Confirmed {
        /// The order.
        order: OrderNumber,
    },
    /// A hold was given back.
    Released {
        /// The order.
        order: OrderNumber,
    },
    /// A hold lives longer.
    Extended {
        /// The order.
        order: OrderNumber,
        /// When the hold now ends by itself.
        expires_at: TimeMs,
    },
    /// Tickets went back into stock.
    Cancelled {
        /// The order.
        order: OrderNumber,
    },
    /// The request id did nothing, and never will.
    Fenced,
    /// An order as it stands.
    Order(OrderView),
    /// The counters of a sale's items, in the order of their ids.
    Availability(Vec<ItemCounts>),
    /// The totals of a sale.
    Stats(SaleStats),
}

/// A success, and whether it is a repeated answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What became of the request.
    pub outcome: Outcome,
    /// Whether the request had been answered before under the same request id.
    pub replayed: bool,
}

/// The state of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderState {
    /// Takes units until it expires.
    Held,
    /// Owns its units.
    Confirmed,
    /// Was given back.
    Released,
    /// Ran out of time.
    Expired,
    /// Was confirmed; all its units went back into stock.
    Cancelled,
}

/// An order as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderView {
    /// The order.
    pub order: OrderNumber,
    /// Whose it is.
    pub account: AccountId,
    /// Its state.
    pub state: OrderState,
    /// When a hold ends by itself; absent in every other state.
    pub expires_at: Option<TimeMs>,
    /// What it holds or owns: what is left after partial confirms and cancels. Of a released,
    /// expired or cancelled order: what it had last.
    pub lines: Vec<Line>,
}

/// An item and its counters; `available + held + sold == capacity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemCounts {
    /// The item.
    pub item: ItemId,
    /// The price of one unit.
    pub price: Price,
    /// The most units for one account.
    pub account_limit: Option<Quantity>,
    /// Units in all.
    pub capacity: Quantity,
    /// Units that can be held now.
    pub available: Quantity,
    /// Units in holds.
    pub held: Quantity,
    /// Units in confirmed orders.
    pub sold: Quantity,
}

/// The totals of a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaleStats {
    /// Its state now.
    pub state: SaleState,
    /// Its terms.
    pub terms: SaleTerms,
    /// Items defined.
    pub items: u32,
    /// Orders ever made; also the last order number.
    pub orders: u32,
    /// Orders that are held now.
    pub orders_held: u32,
    /// Orders that are confirmed now.
    pub orders_confirmed: u32,
    /// Orders that were released.
    pub orders_released: u32,
    /// Orders that expired.
    pub orders_expired: u32,
    /// Orders that were cancelled whole.
    pub orders_cancelled: u32,
    /// Accounts with at least one order or fence.
    pub accounts: u32,
    /// The sum of all capacities.
    pub capacity: u64,
    /// Units available now.
    pub available: u64,
    /// Units held now.
    pub held: u64,
    /// Units sold now.
    pub sold: u64,
}
