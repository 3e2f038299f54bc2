//! What callers ask for: commands that change state, and queries that only read it.

use std::num::NonZeroU16;

use super::id::{AccountId, DurationMs, ItemId, OrderNumber, RequestId, SaleId, ShardIndex};
use super::lines::{Lines, PaymentRef, Wanted};
use super::sale::{ItemTerms, SaleTerms};

/// Who asks, and under which request id: the scope of idempotency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The sale.
    pub sale: SaleId,
    /// The buyer; never [`AccountId::OPERATOR`], which is refused as a bad field.
    pub account: AccountId,
    /// The client's id of this intent.
    pub request: RequestId,
}

/// A change that, once accepted, is durable before its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Creates a sale, or changes its terms while it is scheduled.
    DefineSale {
        /// The sale.
        sale: SaleId,
        /// Its terms.
        terms: SaleTerms,
    },
    /// Creates an item, or changes its terms while the sale is scheduled.
    DefineItem {
        /// The sale.
        sale: SaleId,
        /// The item.
        item: ItemId,
        /// Its terms.
        terms: ItemTerms,
    },
    /// Adds units to an item or takes available ones away.
    Restock {
        /// The sale.
        sale: SaleId,
        /// The operator's request id; its scope is the sale and [`AccountId::OPERATOR`].
        request: RequestId,
        /// The item.
        item: ItemId,
        /// How many units more (or fewer).
        by: i64,
    },
    /// Opens a scheduled or paused sale.
    OpenSale {
        /// The sale.
        sale: SaleId,
    },
    /// Pauses an open sale.
    PauseSale {
        /// The sale.
        sale: SaleId,
    },
    /// Closes a sale for good.
    CloseSale {
        /// The sale.
        sale: SaleId,
    },
    /// Forgets the orders, accounts and request ids of a closed sale without live holds. Its
    /// terms and totals stay, and its id is never used again.
    ArchiveSale {
        /// The sale.
        sale: SaleId,
    },
    /// Takes units for a while: all lines or none.
    Hold {
        /// Who asks.
        intent: Intent,
        /// What for.
        lines: Wanted,
        /// For how long; the sale's `hold_ttl` unless given, and at most that.
        ttl: Option<DurationMs>,
    },
    /// Holds and confirms in one step.
    Buy {
        /// Who asks.
        intent: Intent,
        /// What for.
        lines: Wanted,
        /// The payment.
        payment: PaymentRef,
    },
    /// Turns a hold into tickets.
    Confirm {
        /// Who asks; the order's own account.
        intent: Intent,
        /// The order.
        order: OrderNumber,
        /// The payment.
        payment: PaymentRef,
        /// What to confirm; the rest of the hold is released. `None` is all of it.
        lines: Option<Lines>,
    },
    /// Gives a hold back.
    Release {
        /// Who asks; the order's own account.
        intent: Intent,
        /// The order.
        order: OrderNumber,
    },
    /// Restarts a hold's time to live, once.
    Extend {
        /// Who asks; the order's own account.
        intent: Intent,
        /// The order.
        order: OrderNumber,
    },
    /// Takes tickets of a confirmed order back into stock.
    Cancel {
        /// Who asks; the order's own account.
        intent: Intent,
        /// The order.
        order: OrderNumber,
        /// What to cancel. `None` is all that is left.
        lines: Option<Lines>,
    },
    /// Looks a request id up and, where it is unknown, refuses it for ever.
    Fence {
        /// The request id and its scope.
        intent: Intent,
    },
}

impl Command {
    /// The sale that the command is about, which decides its shard.
    #[must_use]
    pub const fn sale(&self) -> SaleId {
        match self {
            Self::DefineSale { sale, .. }
            | Self::DefineItem { sale, .. }
            | Self::Restock { sale, .. }
            | Self::OpenSale { sale }
            | Self::PauseSale { sale }
            | Self::CloseSale { sale }
            | Self::ArchiveSale { sale } => *sale,
            Self::Hold { intent, .. }
            | Self::Buy { intent, .. }
            | Self::Confirm { intent, .. }
            | Self::Release { intent, .. }
            | Self::Extend { intent, .. }
            | Self::Cancel { intent, .. }
            | Self::Fence { intent } => intent.sale,
        }
    }

    /// Its request id, and whose it is; none where it may be repeated as it is.
    #[must_use]
    pub const fn request(&self) -> Option<(AccountId, RequestId)> {
        match self {
            Self::Restock { request, .. } => Some((AccountId::OPERATOR, *request)),
            Self::Hold { intent, .. }
            | Self::Buy { intent, .. }
            | Self::Confirm { intent, .. }
            | Self::Release { intent, .. }
            | Self::Extend { intent, .. }
            | Self::Cancel { intent, .. }
            | Self::Fence { intent } => Some((intent.account, intent.request)),
            Self::DefineSale { .. }
            | Self::DefineItem { .. }
            | Self::OpenSale { .. }
            | Self::PauseSale { .. }
            | Self::CloseSale { .. }
            | Self::ArchiveSale { .. } => None,
        }
    }

    /// Whether only a key with the scope `admin` may send it.
    #[must_use]
    pub const fn is_administration(&self) -> bool {
        matches!(
            self,
            Self::DefineSale { .. }
                | Self::DefineItem { .. }
                | Self::Restock { .. }
                | Self::OpenSale { .. }
                | Self::PauseSale { .. }
                | Self::CloseSale { .. }
                | Self::ArchiveSale { .. }
        )
    }
}

/// A question that changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// An order as it stands.
    Order {
        /// The sale.
        sale: SaleId,
        /// The order.
        order: OrderNumber,
    },
    /// What became of a request id.
    Request {
        /// The request id and its scope.
        intent: Intent,
    },
    /// The counters of every item of a sale, read together.
    Availability {
        /// The sale.
        sale: SaleId,
    },
    /// The totals of a sale.
    Stats {
        /// The sale.
        sale: SaleId,
    },
    /// The sales of one shard in the order of their ids, page by page.
    Sales {
        /// The shard; each has its own sales.
        shard: ShardIndex,
        /// Only sales behind this one; where the last page ended.
        after: Option<SaleId>,
        /// The most sales of the page, at most [`SALES_PAGE_MAX`](super::outcome::SALES_PAGE_MAX).
        limit: NonZeroU16,
    },
    /// The orders of one account in a sale in the order of their numbers, page by page.
    AccountOrders {
        /// The sale.
        sale: SaleId,
        /// The account.
        account: AccountId,
        /// Only orders behind this one; where the last page ended, zero for the first page.
        after: OrderNumber,
        /// The most orders of the page, at most
        /// [`ORDERS_PAGE_MAX`](super::outcome::ORDERS_PAGE_MAX).
        limit: NonZeroU16,
    },
}

/// What decides which shard takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The sale that it is about.
    Sale(SaleId),
    /// It names the shard itself; the server may have no such shard.
    Shard(ShardIndex),
}

impl Route {
    /// The shard that takes the request where there are `shards` of them.
    #[must_use]
    pub const fn shard(self, shards: NonZeroU16) -> ShardIndex {
        match self {
            Self::Sale(sale) => sale.shard(shards),
            Self::Shard(shard) => shard,
        }
    }
}

impl Query {
    /// What decides the query's shard.
    #[must_use]
    pub const fn route(&self) -> Route {
        match self {
            Self::Order { sale, .. }
            | Self::Availability { sale }
            | Self::Stats { sale }
            | Self::AccountOrders { sale, .. } => Route::Sale(*sale),
            Self::Request { intent } => Route::Sale(intent.sale),
            Self::Sales { shard, .. } => Route::Shard(*shard),
        }
    }
}
