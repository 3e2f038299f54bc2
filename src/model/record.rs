//! Log records: what happened, with every decision already made.
//!
//! A record holds all that `apply` needs, so that replay never looks at a clock, a setting or
//! a random number. The time of a record is the time of the frame that it lies in.

use rkyv::{Archive, Deserialize, Serialize};

use super::command::Intent;
use super::id::{AccountId, BodyDigest, ItemId, OrderNumber, RequestId, SaleId, TimeMs};
use super::lines::{LINES_MAX, Line, PaymentRef};
use super::sale::{ItemTerms, SaleState, SaleTerms};
use arrayvec::ArrayVec;

/// Lines as records hold them. An empty list means "all that the order has".
pub type RecordLines = ArrayVec<Line, LINES_MAX>;

/// The request behind a record: its scope, and the digest of what it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Origin {
    /// The sale.
    pub sale: SaleId,
    /// The account.
    pub account: AccountId,
    /// The request id.
    pub request: RequestId,
    /// The digest of what was asked for.
    pub digest: BodyDigest,
}

impl Origin {
    /// The origin of `intent`, whose body has this digest.
    #[must_use]
    pub const fn new(intent: Intent, digest: BodyDigest) -> Self {
        Self { sale: intent.sale, account: intent.account, request: intent.request, digest }
    }

    /// The intent.
    #[must_use]
    pub const fn intent(&self) -> Intent {
        Intent { sale: self.sale, account: self.account, request: self.request }
    }
}

/// A sale was created, or its terms changed.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct SaleDefined {
    /// The sale.
    pub sale: SaleId,
    /// Its terms from now on.
    pub terms: SaleTerms,
}

/// An item was created, or its terms changed.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ItemDefined {
    /// The sale.
    pub sale: SaleId,
    /// The item.
    pub item: ItemId,
    /// Its terms from now on.
    pub terms: ItemTerms,
}

/// An item's capacity changed.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Restocked {
    /// The request, of [`AccountId::OPERATOR`].
    pub origin: Origin,
    /// The item.
    pub item: ItemId,
    /// Units added, or taken away.
    pub by: i64,
}

/// A sale's state changed by command; never to `Archived`, which is [`SaleArchived`].
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct SaleStateSet {
    /// The sale.
    pub sale: SaleId,
    /// Its state from now on.
    pub state: SaleState,
}

/// An order was made and holds units.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Held {
    /// The request.
    pub origin: Origin,
    /// The order's number.
    pub order: OrderNumber,
    /// When the hold ends by itself.
    pub expires_at: TimeMs,
    /// What it holds.
    pub lines: RecordLines,
}

/// An order was made and confirmed at once.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Bought {
    /// The request.
    pub origin: Origin,
    /// The order's number.
    pub order: OrderNumber,
    /// What was bought.
    pub lines: RecordLines,
    /// The payment.
    pub payment: PaymentRef,
}

/// A hold became tickets.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Confirmed {
    /// The request.
    pub origin: Origin,
    /// The order.
    pub order: OrderNumber,
    /// What was confirmed, the rest being released; empty is all.
    pub lines: RecordLines,
    /// The payment.
    pub payment: PaymentRef,
}

/// A hold was given back.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Released {
    /// The request.
    pub origin: Origin,
    /// The order.
    pub order: OrderNumber,
}

/// A hold got more time.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Extended {
    /// The request.
    pub origin: Origin,
    /// The order.
    pub order: OrderNumber,
    /// When the hold now ends by itself.
    pub expires_at: TimeMs,
}

/// Tickets of a confirmed order went back into stock.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Cancelled {
    /// The request.
    pub origin: Origin,
    /// The order.
    pub order: OrderNumber,
    /// What was cancelled; empty is all that is left.
    pub lines: RecordLines,
}

/// A hold ran out of time.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Expired {
    /// The sale.
    pub sale: SaleId,
    /// The order.
    pub order: OrderNumber,
}

/// An unknown request id was refused for ever.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Fenced {
    /// The sale.
    pub sale: SaleId,
    /// The account.
    pub account: AccountId,
    /// The request id.
    pub request: RequestId,
}

/// The orders, accounts and request ids of a sale were forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct SaleArchived {
    /// The sale.
    pub sale: SaleId,
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// See [`SaleDefined`].
    SaleDefined(SaleDefined),
    /// See [`ItemDefined`].
    ItemDefined(ItemDefined),
    /// See [`Restocked`].
    Restocked(Restocked),
    /// See [`SaleStateSet`].
    SaleStateSet(SaleStateSet),
    /// See [`Held`].
    Held(Held),
    /// See [`Bought`].
    Bought(Bought),
    /// See [`Confirmed`].
    Confirmed(Confirmed),
    /// See [`Released`].
    Released(Released),
    /// See [`Extended`].
    Extended(Extended),
    /// See [`Cancelled`].
    Cancelled(Cancelled),
    /// See [`Expired`].
    Expired(Expired),
    /// See [`Fenced`].
    Fenced(Fenced),
    /// See [`SaleArchived`].
    SaleArchived(SaleArchived),
}

impl Record {
    /// The sale that the record is about.
    #[must_use]
    pub const fn sale(&self) -> SaleId {
        match self {
            Self::SaleDefined(record) => record.sale,
            Self::ItemDefined(record) => record.sale,
            Self::Restocked(record) => record.origin.sale,
            Self::SaleStateSet(record) => record.sale,
            Self::Held(record) => record.origin.sale,
            Self::Bought(record) => record.origin.sale,
            Self::Confirmed(record) => record.origin.sale,
            Self::Released(record) => record.origin.sale,
            Self::Extended(record) => record.origin.sale,
            Self::Cancelled(record) => record.origin.sale,
            Self::Expired(record) => record.sale,
            Self::Fenced(record) => record.sale,
            Self::SaleArchived(record) => record.sale,
        }
    }

    /// The request that made the record, where one with an id did.
    #[must_use]
    pub const fn intent(&self) -> Option<Intent> {
        let origin = match self {
            Self::Restocked(record) => record.origin,
            Self::Held(record) => record.origin,
            Self::Bought(record) => record.origin,
            Self::Confirmed(record) => record.origin,
            Self::Released(record) => record.origin,
            Self::Extended(record) => record.origin,
            Self::Cancelled(record) => record.origin,
            Self::Fenced(Fenced { sale, account, request }) => {
                return Some(Intent { sale: *sale, account: *account, request: *request });
            }
            Self::SaleDefined(_)
            | Self::ItemDefined(_)
            | Self::SaleStateSet(_)
            | Self::Expired(_)
            | Self::SaleArchived(_) => return None,
        };
        Some(origin.intent())
    }

    /// The order that the record changes; one that it makes is new.
    #[must_use]
    pub const fn changed_order(&self) -> Option<OrderNumber> {
        match self {
            Self::Confirmed(record) => Some(record.order),
            Self::Released(record) => Some(record.order),
            Self::Extended(record) => Some(record.order),
            Self::Cancelled(record) => Some(record.order),
            Self::Expired(record) => Some(record.order),
            Self::SaleDefined(_)
            | Self::ItemDefined(_)
            | Self::Restocked(_)
            | Self::SaleStateSet(_)
            | Self::Held(_)
            | Self::Bought(_)
            | Self::Fenced(_)
            | Self::SaleArchived(_) => None,
        }
    }
}
