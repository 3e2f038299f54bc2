//! What a snapshot says: the state of one shard, as rows that know no index.
//!
//! A snapshot is a sequence of parts. Each sale begins with its [`SalePart`], and the parts behind
//! it, each of a bounded number of rows, are of that sale and in this order:
//!
//! ```text
//! Sale  Accounts*  Tallies*  Orders*  Requests*      Sale  Accounts* …
//! ```
//!
//! Accounts are named by their place: the first row of a sale's first [`AccountsPart`] is place 0.
//! Orders need no number: they are dense, from 1, in their order.
//!
//! Two engines in the same state say the same rows in the same order, whatever led there. What a
//! sale's log alone has (payment references, the times of orders) is not here.

use rkyv::{Archive, Deserialize, Serialize};

use super::id::{AccountId, BodyDigest, ItemId, OrderNumber, Quantity, RequestId, SaleId, TimeMs};
use super::lines::{LINES_MAX, Line};
use super::outcome::OrderState;
use super::sale::{ItemTerms, SaleState, SaleTerms};

/// Rows of an [`AccountsPart`], [`TalliesPart`] or [`RequestsPart`] at most.
pub const ROWS_PER_PART_MAX: usize = 32_768;

/// Rows of an [`OrdersPart`] at most: each may have a deadline, an extension and several lines.
pub const ORDERS_PER_PART_MAX: usize = 8_192;

/// Lines of an [`OrdersPart`] at most.
pub const LINES_PER_PART_MAX: usize = 65_536;

const _: () = assert!(LINES_PER_PART_MAX >= LINES_MAX);

/// One part of a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// See [`SalePart`].
    Sale(SalePart),
    /// See [`AccountsPart`].
    Accounts(AccountsPart),
    /// See [`TalliesPart`].
    Tallies(TalliesPart),
    /// See [`OrdersPart`].
    Orders(OrdersPart),
    /// See [`RequestsPart`].
    Requests(RequestsPart),
}

impl Part {
    /// The sale that it is of.
    #[must_use]
    pub const fn sale(&self) -> SaleId {
        match self {
            Self::Sale(part) => part.sale,
            Self::Accounts(part) => part.sale,
            Self::Tallies(part) => part.sale,
            Self::Orders(part) => part.sale,
            Self::Requests(part) => part.sale,
        }
    }
}

/// A sale, and how many rows of it follow.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct SalePart {
    /// The sale.
    pub sale: SaleId,
    /// Its terms.
    pub terms: SaleTerms,
    /// Its state as logged; its window may have changed it since.
    pub state: SaleState,
    /// Its items, in the order of their ids.
    pub items: Vec<ItemRow>,
    /// How many accounts follow.
    pub accounts: u32,
    /// How many tallies follow.
    pub tallies: u32,
    /// How many orders follow.
    pub orders: u32,
    /// How many requests follow.
    pub requests: u32,
    /// Of an archived sale, of which no row follows: what it had.
    pub last: Option<LastTotals>,
}

/// An item; `available + held + sold` is its capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ItemRow {
    /// The item.
    pub item: ItemId,
    /// Its terms; the capacity is the defined one as restocked since.
    pub terms: ItemTerms,
    /// Units that can be held now.
    pub available: Quantity,
    /// Units in holds.
    pub held: Quantity,
    /// Units in confirmed orders.
    pub sold: Quantity,
}

/// What an archived sale had when it was archived. Its units are those of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct LastTotals {
    /// Accounts with an order or a fence.
    pub accounts: u32,
    /// Orders ever made.
    pub orders: u32,
    /// Orders that were confirmed.
    pub confirmed: u32,
    /// Orders that were released.
    pub released: u32,
    /// Orders that expired.
    pub expired: u32,
    /// Orders that were cancelled whole.
    pub cancelled: u32,
}

/// Accounts of a sale, in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct AccountsPart {
    /// The sale.
    pub sale: SaleId,
    /// At most [`ROWS_PER_PART_MAX`].
    pub rows: Vec<AccountRow>,
}

/// An account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct AccountRow {
    /// Its id.
    pub account: AccountId,
    /// Units that count against the sale's limit; none where the sale has no limit.
    pub units: Quantity,
}

/// What counts against other limits than the sale's.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct TalliesPart {
    /// The sale.
    pub sale: SaleId,
    /// At most [`ROWS_PER_PART_MAX`]; by account, then fences before items, then by item.
    pub rows: Vec<TallyRow>,
}

/// A count above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct TallyRow {
    /// The account's place.
    pub account: u32,
    /// What is counted.
    pub of: TallyOf,
    /// How many.
    pub count: u32,
}

/// What a tally counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Archive, Serialize, Deserialize)]
pub enum TallyOf {
    /// Request ids of the account that are refused for ever.
    Fences,
    /// Units of an item that has a limit of its own.
    Item(ItemId),
}

/// Orders of a sale, in the order of their numbers. The lists hold what their rows ask for, row
/// after row.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct OrdersPart {
    /// The sale.
    pub sale: SaleId,
    /// At most [`ORDERS_PER_PART_MAX`].
    pub rows: Vec<OrderRow>,
    /// As many as each row says; at most [`LINES_PER_PART_MAX`].
    pub lines: Vec<Line>,
    /// One for each row that was not bought: when the hold was to end as it was made.
    pub deadlines: Vec<TimeMs>,
    /// One for each row that was extended: when the hold was to end from then on.
    pub extensions: Vec<TimeMs>,
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct OrderRow {
    /// The request that made it.
    pub request: RequestId,
    /// The digest of what that asked for.
    pub digest: BodyDigest,
    /// The place of its account.
    pub account: u32,
    /// Its state as logged.
    pub state: OrderState,
    /// It was bought at once, and never held.
    pub is_bought: bool,
    /// Its hold was extended.
    pub is_extended: bool,
    /// How many lines it has: what is left, or what it had last.
    pub lines: u8,
}

/// Requests of a sale that did not make an order, in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct RequestsPart {
    /// The sale.
    pub sale: SaleId,
    /// At most [`ROWS_PER_PART_MAX`].
    pub rows: Vec<RequestRow>,
}

/// A request, and what its answer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct RequestRow {
    /// Its id.
    pub request: RequestId,
    /// The digest of what it asked for.
    pub digest: BodyDigest,
    /// What it did. Its account is that of the order, where it names one.
    pub effect: Effect,
}

/// What a request did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum Effect {
    /// Confirmed this order.
    Confirmed(OrderNumber),
    /// Released this order.
    Released(OrderNumber),
    /// Cancelled this order, or some of its units.
    Cancelled(OrderNumber),
    /// Extended this order.
    Extended(OrderNumber),
    /// Restocked an item, as the operator.
    Restocked,
    /// Nothing, for ever: fenced by the account at this place.
    Fenced(u32),
}
