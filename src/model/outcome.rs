//! What became of a request that was not refused.

use super::id::{AccountId, ItemId, OrderNumber, Price, Quantity, SaleId, TimeMs};
use super::lines::Line;
use super::sale::{SaleState, SaleTerms};

/// The most sales of one page.
pub const SALES_PAGE_MAX: u16 = 512;

/// The most orders of one page.
pub const ORDERS_PAGE_MAX: u16 = 256;

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
    /// Some sales of a shard.
    Sales(SalePage),
    /// Some orders of an account.
    Orders(OrderPage),
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
#[cfg_attr(feature = "server", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
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

/// A sale among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaleSummary {
    /// The sale.
    pub sale: SaleId,
    /// Its terms and totals.
    pub stats: SaleStats,
}

/// Some sales of a shard, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalePage {
    /// At most as many as were asked for. It may be fewer even where there are more behind.
    pub sales: Vec<SaleSummary>,
    /// Where there is more: what the next page comes after.
    pub next: Option<SaleId>,
}

/// Some orders of an account, in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderPage {
    /// At most as many as were asked for. It may be fewer, or none, even where there are more
    /// behind: one page looks at so many orders of the sale only.
    pub orders: Vec<OrderView>,
    /// Where there may be more: what the next page comes after.
    pub next: Option<OrderNumber>,
}

/// The totals of a sale. Those of an archived one are what they were when it was archived.
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
