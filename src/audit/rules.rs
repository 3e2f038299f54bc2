//! The rules, by name, and what was found against them at one record.

use std::fmt;

use serde::Serialize;

use crate::model::OrderNumber;

/// What every log keeps, at every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// A record is about a sale that was defined before.
    UnknownSale,
    /// A record is about items that were defined before.
    UnknownItem,
    /// A record is about an order that was made before.
    UnknownOrder,
    /// A sale lies on the shard that its id says.
    WrongShard,
    /// The terms of sales and items are in their ranges.
    TermsOutOfRange,
    /// The terms of a sale and its items do not change after it has opened.
    TermsAfterOpening,
    /// A sale that is closed stays closed, and one that was open is never scheduled again.
    Reopened,
    /// A sale is archived, by the record for it, once it is closed and no hold lives in it.
    ArchivedEarly,
    /// Nothing happens in an archived sale.
    AfterArchive,
    /// Holds and purchases are made while the sale is open.
    NotOpen,
    /// `available + held + sold == capacity`, and none is negative.
    Capacity,
    /// A restock leaves room for what is held and sold, and stays in range.
    RestockTooFar,
    /// No account holds and owns more units of the sale than the sale's limit.
    SaleLimit,
    /// No account holds and owns more units of an item than the item's limit.
    ItemLimit,
    /// Order numbers of a sale are dense, from 1.
    OrderNumbers,
    /// An order goes from held to confirmed, released or expired, once, and from confirmed to
    /// cancelled.
    OrderState,
    /// An order's lines are confirmed and cancelled within what the order has.
    LinesBeyondOrder,
    /// An order is changed by its own account alone.
    WrongAccount,
    /// The operator's account restocks, and does nothing else.
    OperatorAccount,
    /// A request id is used once in a sale and account.
    RequestReused,
    /// A request id that was fenced is never used, nor one that was used fenced.
    FencedRequest,
    /// An account fences only so many request ids.
    TooManyFences,
    /// A hold lives no longer than the sale's `hold_ttl`, and ends in the future.
    HoldTtl,
    /// A hold expires at its deadline or later.
    ExpiredEarly,
    /// A hold is confirmed, extended and released before its deadline.
    AfterDeadline,
    /// A hold is extended once.
    ExtendedTwice,
    /// The rows of a snapshot agree with each other.
    SnapshotDisagrees,
    /// A snapshot says what the log says up to the same record.
    SnapshotDiffers,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// A broken rule.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) rule: Rule,
    pub(super) order: Option<OrderNumber>,
    pub(super) what: String,
}

/// What was found at the record that is being judged.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    /// Notes a broken rule. The sentence is only made where there is something to say.
    #[cold]
    pub(super) fn add(
        &mut self,
        rule: Rule,
        order: Option<OrderNumber>,
        what: impl FnOnce() -> String,
    ) {
        self.0.push(Finding { rule, order, what: what() });
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Finding> {
        self.0.drain(..)
    }
}
