//! The JSON of administration: what is sent to a server, and what it shows.
//!
//! Times are milliseconds since the Unix epoch and end in `_ms`, prices are in the minor unit of
//! the currency. Fields that have no value are left out. Accounts are shown as UUIDs.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::model::{
    DurationMs, ItemCounts, ItemId, ItemTerms, OrderView, Price, Quantity, SaleId, SaleState,
    SaleStats, SaleTerms, TimeMs, UuidText,
};
use crate::protocol::codes::WireCode;
use crate::protocol::http::Object;

/// A sale as it is wanted, with or without items: the body of `PUT /v1/sales/{sale}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// When it opens by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens_at_ms: Option<u64>,
    /// When it closes by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closes_at_ms: Option<u64>,
    /// How long a hold lives; ten minutes unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_ttl_ms: Option<u32>,
    /// The most units of one account over all items; none unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_limit: Option<u32>,
    /// Items to be so. Others of the sale stay as they are.
    #[serde(default, deserialize_with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<ItemDefinition>,
    /// The state to be in at the end; as it is unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<WantedState>,
}

fn objects<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ItemDefinition>, D::Error> {
    let objects = Vec::<Object<ItemDefinition>>::deserialize(from)?;
    Ok(objects.into_iter().map(|Object(item)| item).collect())
}

/// An item as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemDefinition {
    /// The item.
    pub item: u32,
    /// Units in all.
    pub capacity: u32,
    /// The price of one unit.
    pub price: u64,
    /// The most units of this item for one account; none unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_limit: Option<u32>,
}

/// The terms of an item: the body of `PUT /v1/sales/{sale}/items/{item}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemBody {
    /// Units in all.
    pub capacity: u32,
    /// The price of one unit.
    pub price: u64,
    /// The most units of this item for one account; none unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_limit: Option<u32>,
}

/// The state that a sale is to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WantedState {
    /// Not open yet.
    Scheduled,
    /// Sells.
    Open,
    /// Refuses new holds.
    Paused,
    /// Refuses new holds for good.
    Closed,
    /// Closed, and its orders are forgotten.
    Archived,
}

/// The body of `POST …/restock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestockBody {
    /// How many units more, or fewer.
    pub by: i64,
}

/// One change that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name: `define_sale`, `define_item`, `restock`, `open`, `pause`, `close`, `archive`.
    pub step: String,
    /// The item, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    /// How many units more, where it is a restock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<i64>,
}

impl Step {
    /// A step of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { step: name.to_owned(), item: None, by: None }
    }

    /// About this item.
    #[must_use]
    pub fn of(self, item: ItemId) -> Self {
        Self { item: Some(item.0), ..self }
    }

    /// By so many units.
    #[must_use]
    pub fn by(self, by: i64) -> Self {
        Self { by: Some(by), ..self }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.step)?;
        if let Some(item) = self.item {
            write!(f, " item {item}")?;
        }
        self.by.map_or(Ok(()), |by| write!(f, " {by:+}"))
    }
}

/// The answer to every change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// What was done; nothing where all was so already.
    pub done: Vec<Step>,
    /// The sale behind it.
    pub sale: SaleShown,
}

/// A sale. In a list it comes without its items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleShown {
    /// Its id.
    pub sale: u64,
    /// Its state now.
    pub state: String,
    /// When it opens by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens_at_ms: Option<u64>,
    /// When it closes by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closes_at_ms: Option<u64>,
    /// How long a hold lives.
    pub hold_ttl_ms: u32,
    /// The most units of one account over all items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_limit: Option<u32>,
    /// Accounts with at least one order or fence.
    pub accounts: u32,
    /// Its orders by what became of them.
    pub orders: OrdersShown,
    /// Its units over all items.
    pub units: UnitsShown,
    /// Its items, in the order of their ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<ItemShown>>,
}

/// The orders of a sale, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrdersShown {
    /// Ever made.
    pub made: u64,
    /// Held now.
    pub held: u64,
    /// Confirmed now.
    pub confirmed: u64,
    /// Given back.
    pub released: u64,
    /// Ran out of time.
    pub expired: u64,
    /// Cancelled whole.
    pub cancelled: u64,
}

/// Units, counted; `available + held + sold == capacity`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitsShown {
    /// In all.
    pub capacity: u64,
    /// Can be held now.
    pub available: u64,
    /// In holds.
    pub held: u64,
    /// In confirmed orders.
    pub sold: u64,
}

/// An item and its units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemShown {
    /// Its id.
    pub item: u32,
    /// The price of one unit.
    pub price: u64,
    /// The most units for one account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_limit: Option<u32>,
    /// Its units.
    #[serde(flatten)]
    pub units: UnitsShown,
}

/// Some sales of the server, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SalesShown {
    /// The sales, without their items.
    pub sales: Vec<SaleShown>,
    /// Where there are more: the `after` of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// An order as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderShown {
    /// The sale.
    pub sale: u64,
    /// Its number.
    pub order: u32,
    /// Whose it is.
    pub account: String,
    /// Its state.
    pub state: String,
    /// When a hold ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// What it holds or owns.
    pub lines: Vec<LineShown>,
}

/// Units of one item in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineShown {
    /// The item.
    pub item: u32,
    /// How many.
    pub quantity: u32,
}

/// Some orders of an account, in the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountOrdersShown {
    /// The orders; perhaps none even where there are more.
    pub orders: Vec<OrderShown>,
    /// Where there may be more: the `after` of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u32>,
}

/// The whole server, over all its sales.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerShown {
    /// The version that runs.
    pub version: String,
    /// How many shards.
    pub shards: u16,
    /// Sales by their states.
    pub sales: SalesCounted,
    /// Orders of all sales.
    pub orders: OrdersShown,
    /// Units of all sales.
    pub units: UnitsShown,
}

/// Sales, counted by their states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SalesCounted {
    /// Not open yet.
    pub scheduled: u64,
    /// Sell.
    pub open: u64,
    /// Paused.
    pub paused: u64,
    /// Closed.
    pub closed: u64,
    /// Archived.
    pub archived: u64,
}

impl Definition {
    /// The terms of the sale.
    #[must_use]
    pub fn terms(&self) -> SaleTerms {
        SaleTerms {
            opens_at: self.opens_at_ms.map(TimeMs),
            closes_at: self.closes_at_ms.map(TimeMs),
            hold_ttl: self.hold_ttl_ms.map_or(SaleTerms::default().hold_ttl, DurationMs),
            account_limit: self.account_limit.map(Quantity),
        }
    }
}

impl ItemDefinition {
    /// The item's id.
    #[must_use]
    pub const fn id(&self) -> ItemId {
        ItemId(self.item)
    }

    /// The terms of the item.
    #[must_use]
    pub const fn terms(&self) -> ItemTerms {
        let Self { capacity, price, account_limit, .. } = *self;
        ItemBody { capacity, price, account_limit }.terms()
    }
}

impl ItemBody {
    /// The terms of the item.
    #[must_use]
    pub const fn terms(self) -> ItemTerms {
        let account_limit = match self.account_limit {
            Some(limit) => Some(Quantity(limit)),
            None => None,
        };
        let Self { capacity, price, .. } = self;
        ItemTerms { capacity: Quantity(capacity), price: Price(price), account_limit }
    }
}

impl SaleShown {
    /// With its items, and its units as they sum up.
    #[must_use]
    pub fn with_items(mut self, items: &[ItemCounts]) -> Self {
        let items: Vec<ItemShown> = items.iter().map(ItemShown::from).collect();
        self.units = UnitsShown::default();
        for item in &items {
            self.units.add(item.units);
        }
        self.items = Some(items);
        self
    }

    /// A sale without its items.
    #[must_use]
    pub fn new(sale: SaleId, stats: &SaleStats) -> Self {
        Self {
            sale: sale.0,
            state: stats.state.name().to_owned(),
            opens_at_ms: stats.terms.opens_at.map(|time| time.0),
            closes_at_ms: stats.terms.closes_at.map(|time| time.0),
            hold_ttl_ms: stats.terms.hold_ttl.0,
            account_limit: stats.terms.account_limit.map(|limit| limit.0),
            accounts: stats.accounts,
            orders: stats.into(),
            units: stats.into(),
            items: None,
        }
    }
}

impl From<&SaleStats> for OrdersShown {
    fn from(stats: &SaleStats) -> Self {
        Self {
            made: stats.orders.into(),
            held: stats.orders_held.into(),
            confirmed: stats.orders_confirmed.into(),
            released: stats.orders_released.into(),
            expired: stats.orders_expired.into(),
            cancelled: stats.orders_cancelled.into(),
        }
    }
}

impl From<&SaleStats> for UnitsShown {
    fn from(stats: &SaleStats) -> Self {
        let SaleStats { capacity, available, held, sold, .. } = *stats;
        Self { capacity, available, held, sold }
    }
}

impl From<&ItemCounts> for ItemShown {
    fn from(counts: &ItemCounts) -> Self {
        Self {
            item: counts.item.0,
            price: counts.price.0,
            account_limit: counts.account_limit.map(|limit| limit.0),
            units: UnitsShown {
                capacity: counts.capacity.0.into(),
                available: counts.available.0.into(),
                held: counts.held.0.into(),
                sold: counts.sold.0.into(),
            },
        }
    }
}

impl OrderShown {
    /// An order of `sale`.
    #[must_use]
    pub fn new(sale: SaleId, order: &OrderView) -> Self {
        let lines = order.lines.iter();
        let lines =
            lines.map(|line| LineShown { item: line.item.0, quantity: line.quantity.0 }).collect();
        Self {
            sale: sale.0,
            order: order.order.0,
            account: UuidText::from(order.account).to_string(),
            state: order.state.name().to_owned(),
            expires_at_ms: order.expires_at.map(|time| time.0),
            lines,
        }
    }
}

impl ServerShown {
    /// A server of so many shards, without a sale yet.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), shards, ..Self::default() }
    }

    /// Counts one more sale.
    pub fn add(&mut self, stats: &SaleStats) {
        let count = match stats.state {
            SaleState::Scheduled => &mut self.sales.scheduled,
            SaleState::Open => &mut self.sales.open,
            SaleState::Paused => &mut self.sales.paused,
            SaleState::Closed => &mut self.sales.closed,
            SaleState::Archived => &mut self.sales.archived,
        };
        *count += 1;
        let (orders, more) = (&mut self.orders, OrdersShown::from(stats));
        orders.made += more.made;
        orders.held += more.held;
        orders.confirmed += more.confirmed;
        orders.released += more.released;
        orders.expired += more.expired;
        orders.cancelled += more.cancelled;
        self.units.add(stats.into());
    }
}

impl UnitsShown {
    fn add(&mut self, more: Self) {
        self.capacity += more.capacity;
        self.available += more.available;
        self.held += more.held;
        self.sold += more.sold;
    }
}
