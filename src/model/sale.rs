//! The terms of sales and items, and the states of a sale.

use super::id::{DurationMs, Price, Quantity, TimeMs};

/// The most items of one sale.
pub const ITEMS_MAX: usize = 1024;

/// The largest capacity of one item.
pub const CAPACITY_MAX: Quantity = Quantity(1_000_000_000);

/// How long a hold lives unless the sale says otherwise: ten minutes.
pub const HOLD_TTL_DEFAULT: DurationMs = DurationMs(600_000);

/// The shortest hold: one second.
pub const HOLD_TTL_MIN: DurationMs = DurationMs(1_000);

/// The longest hold: seven days.
pub const HOLD_TTL_MAX: DurationMs = DurationMs(7 * 24 * 3_600 * 1_000);

/// What the operator decides about a sale before it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "server", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
pub struct SaleTerms {
    /// The sale opens by itself at this time.
    pub opens_at: Option<TimeMs>,
    /// The sale closes by itself at this time; later than `opens_at`.
    pub closes_at: Option<TimeMs>,
    /// How long a hold lives, and the most that a hold may ask for. Between
    /// [`HOLD_TTL_MIN`] and [`HOLD_TTL_MAX`].
    pub hold_ttl: DurationMs,
    /// The most units that one account holds and owns over all items; `None` is no limit.
    pub account_limit: Option<Quantity>,
}

impl Default for SaleTerms {
    fn default() -> Self {
        Self { opens_at: None, closes_at: None, hold_ttl: HOLD_TTL_DEFAULT, account_limit: None }
    }
}

/// What the operator decides about an item before its sale opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "server", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
pub struct ItemTerms {
    /// How many units there are, at most [`CAPACITY_MAX`].
    pub capacity: Quantity,
    /// The price of one unit.
    pub price: Price,
    /// The most units of this item that one account holds and owns; `None` is no limit.
    pub account_limit: Option<Quantity>,
}

/// The state of a sale, as logged or as a window makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "server", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
pub enum SaleState {
    /// Not open yet: terms may still change.
    Scheduled,
    /// Sells.
    Open,
    /// Refuses new holds; confirms, releases and cancels go on.
    Paused,
    /// Takes no new holds ever again; what is held can still be confirmed.
    Closed,
    /// Was closed, and its orders, accounts and request ids are forgotten.
    Archived,
}
