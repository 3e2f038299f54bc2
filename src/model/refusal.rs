//! Refusals: definite answers of "no". A refusal changed nothing and stores nothing.

use super::id::TimeMs;
use super::outcome::OrderState;

/// Which part of a request is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The account is the operator's own.
    Account,
    /// The item is not of this sale.
    Item,
    /// The lines are empty, too many, repeated, or ask for more than the order has.
    Lines,
    /// The quantity is zero or out of range.
    Quantity,
    /// The time to live is out of range.
    Ttl,
    /// The window closes before it opens, or opens a sale in the past.
    Window,
    /// The capacity is out of range.
    Capacity,
    /// The limit is zero.
    Limit,
    /// The payment reference is too long.
    Payment,
    /// The sale has too many items.
    Items,
}

/// A definite "no", with what the caller needs to act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing is available and nothing is held.
    SoldOut,
    /// Nothing is available now, but units are still in holds.
    NoneNow,
    /// The account would have more than the sale or the item allows, or it has all the fences
    /// that one account may have.
    AccountLimit,
    /// The sale is not open yet.
    NotOpen {
        /// When it opens, where that is known.
        opens_at: Option<TimeMs>,
    },
    /// The sale is paused.
    Paused,
    /// The sale is closed, or archived: then nothing about its orders and requests is known.
    Closed,
    /// The sale is not closed yet.
    NotClosed,
    /// The hold ran out of time.
    HoldExpired,
    /// The order's state does not allow it, or that of an order of the sale.
    WrongState {
        /// The state that it is in.
        state: OrderState,
    },
    /// The request id was used for another request, or was fenced.
    KeyConflict,
    /// The price is not what the buyer saw.
    PriceMismatch,
    /// No such sale, order or request.
    NotFound,
    /// A field is wrong.
    BadRequest {
        /// Which one.
        field: Field,
    },
    /// The API key is unknown.
    BadToken,
    /// The key's scope does not allow it, or the order is another account's.
    Forbidden,
    /// Too much to do: certainly not executed.
    Overloaded,
    /// The server is stopping: certainly not executed.
    Draining,
    /// The log has no room for it: certainly not executed. What ends a hold is the last to be
    /// refused.
    DiskFull,
}

/// The name of a refusal, without what goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalCode {
    /// `SOLD_OUT`
    SoldOut,
    /// `NONE_NOW`
    NoneNow,
    /// `ACCOUNT_LIMIT`
    AccountLimit,
    /// `NOT_OPEN`
    NotOpen,
    /// `PAUSED`
    Paused,
    /// `CLOSED`
    Closed,
    /// `NOT_CLOSED`
    NotClosed,
    /// `HOLD_EXPIRED`
    HoldExpired,
    /// `WRONG_STATE`
    WrongState,
    /// `KEY_CONFLICT`
    KeyConflict,
    /// `PRICE_MISMATCH`
    PriceMismatch,
    /// `NOT_FOUND`
    NotFound,
    /// `BAD_REQUEST`
    BadRequest,
    /// `BAD_TOKEN`
    BadToken,
    /// `FORBIDDEN`
    Forbidden,
    /// `OVERLOADED`
    Overloaded,
    /// `DRAINING`
    Draining,
    /// `DISK_FULL`
    DiskFull,
}

impl Refusal {
    /// The refusal's name.
    #[must_use]
    pub const fn code(self) -> RefusalCode {
        match self {
            Self::SoldOut => RefusalCode::SoldOut,
            Self::NoneNow => RefusalCode::NoneNow,
            Self::AccountLimit => RefusalCode::AccountLimit,
            Self::NotOpen { .. } => RefusalCode::NotOpen,
            Self::Paused => RefusalCode::Paused,
            Self::Closed => RefusalCode::Closed,
            Self::NotClosed => RefusalCode::NotClosed,
            Self::HoldExpired => RefusalCode::HoldExpired,
            Self::WrongState { .. } => RefusalCode::WrongState,
            Self::KeyConflict => RefusalCode::KeyConflict,
            Self::PriceMismatch => RefusalCode::PriceMismatch,
            Self::NotFound => RefusalCode::NotFound,
            Self::BadRequest { .. } => RefusalCode::BadRequest,
            Self::BadToken => RefusalCode::BadToken,
            Self::Forbidden => RefusalCode::Forbidden,
            Self::Overloaded => RefusalCode::Overloaded,
            Self::Draining => RefusalCode::Draining,
            Self::DiskFull => RefusalCode::DiskFull,
        }
    }
}
