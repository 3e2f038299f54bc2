//! One call per operation, with the answer that it has.

use std::num::NonZeroU16;

use super::error::{Cause, ClientError};
use super::pipeline::Client;
use crate::model::{
    AccountId, Answer, Command, DurationMs, Intent, ItemCounts, ItemId, ItemTerms, Lines,
    OrderNumber, OrderPage, OrderView, Outcome, PaymentRef, Query, RequestId, SaleId, SalePage,
    SaleStats, SaleTerms, ShardIndex, TimeMs, Wanted,
};

/// Units are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The order.
    pub order: OrderNumber,
    /// When the hold ends by itself.
    pub expires_at: TimeMs,
    /// Whether this is the repeated answer of an earlier request.
    pub replayed: bool,
}

/// An order is confirmed, released or cancelled, as was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The order.
    pub order: OrderNumber,
    /// Whether this is the repeated answer of an earlier request.
    pub replayed: bool,
}

/// The buyers' operations.
impl Client {
    /// Takes units for a while: for `ttl`, or as long as the sale's holds live.
    pub fn hold(
        &mut self,
        intent: Intent,
        lines: Wanted,
        ttl: Option<DurationMs>,
    ) -> Result<Held, ClientError> {
        held(self.call(&Command::Hold { intent, lines, ttl })?)
    }

    /// Holds and confirms in one step.
    pub fn buy(
        &mut self,
        intent: Intent,
        lines: Wanted,
        payment: PaymentRef,
    ) -> Result<Settled, ClientError> {
        settled(self.call(&Command::Buy { intent, lines, payment })?)
    }

    /// Turns a hold, or some lines of it, into tickets; the rest of it is released.
    pub fn confirm(
        &mut self,
        intent: Intent,
        order: OrderNumber,
        payment: PaymentRef,
        lines: Option<Lines>,
    ) -> Result<Settled, ClientError> {
        settled(self.call(&Command::Confirm { intent, order, payment, lines })?)
    }

    /// Gives a hold back.
    pub fn release(&mut self, intent: Intent, order: OrderNumber) -> Result<Settled, ClientError> {
        settled(self.call(&Command::Release { intent, order })?)
    }

    /// Restarts a hold's time to live, once.
    pub fn extend(&mut self, intent: Intent, order: OrderNumber) -> Result<Held, ClientError> {
        held(self.call(&Command::Extend { intent, order })?)
    }

    /// Takes tickets of a confirmed order back into stock: these lines, or all.
    pub fn cancel(
        &mut self,
        intent: Intent,
        order: OrderNumber,
        lines: Option<Lines>,
    ) -> Result<Settled, ClientError> {
        settled(self.call(&Command::Cancel { intent, order, lines })?)
    }

    /// What became of a request id, or [`Outcome::Fenced`]: then it did nothing, and never will.
    /// This is what settles an [`UnknownOutcome`](ClientError::UnknownOutcome).
    pub fn fence(&mut self, intent: Intent) -> Result<Answer, ClientError> {
        self.call(&Command::Fence { intent })
    }

    /// What became of a request id so far; `NOT_FOUND` where nothing did.
    pub fn request(&mut self, intent: Intent) -> Result<Answer, ClientError> {
        self.ask(&Query::Request { intent })
    }

    /// An order as it stands.
    pub fn order(&mut self, sale: SaleId, order: OrderNumber) -> Result<OrderView, ClientError> {
        match self.ask(&Query::Order { sale, order })?.outcome {
            Outcome::Order(view) => Ok(view),
            _ => Err(OTHER_OUTCOME),
        }
    }

    /// The counters of a sale's items, in the order of their ids.
    pub fn availability(&mut self, sale: SaleId) -> Result<Vec<ItemCounts>, ClientError> {
        match self.ask(&Query::Availability { sale })?.outcome {
            Outcome::Availability(items) => Ok(items),
            _ => Err(OTHER_OUTCOME),
        }
    }

    /// The totals of a sale.
    pub fn stats(&mut self, sale: SaleId) -> Result<SaleStats, ClientError> {
        match self.ask(&Query::Stats { sale })?.outcome {
            Outcome::Stats(stats) => Ok(stats),
            _ => Err(OTHER_OUTCOME),
        }
    }

    /// Some sales of one shard, behind `after`, in the order of their ids. For all of them: ask
    /// each of the [`welcome`](Self::welcome)'s shards until a page has no `next`.
    pub fn sales(
        &mut self,
        shard: ShardIndex,
        after: Option<SaleId>,
        limit: NonZeroU16,
    ) -> Result<SalePage, ClientError> {
        match self.ask(&Query::Sales { shard, after, limit })?.outcome {
            Outcome::Sales(page) => Ok(page),
            _ => Err(OTHER_OUTCOME),
        }
    }

    /// Some orders of an account, behind `after`, in the order of their numbers. A page may be
    /// empty and still have a `next`, to go on from.
    pub fn account_orders(
        &mut self,
        sale: SaleId,
        account: AccountId,
        after: OrderNumber,
        limit: NonZeroU16,
    ) -> Result<OrderPage, ClientError> {
        match self.ask(&Query::AccountOrders { sale, account, after, limit })?.outcome {
            Outcome::Orders(page) => Ok(page),
            _ => Err(OTHER_OUTCOME),
        }
    }

    /// Sends one command and waits for its answer.
    pub fn call(&mut self, command: &Command) -> Result<Answer, ClientError> {
        let pending = self.submit(command)?;
        self.wait(pending)?.map_err(ClientError::Refused)
    }

    /// Sends one query and waits for its answer.
    pub fn ask(&mut self, query: &Query) -> Result<Answer, ClientError> {
        let pending = self.submit_query(query)?;
        self.wait(pending)?.map_err(ClientError::Refused)
    }
}

/// Administration: for keys with the scope `admin`.
impl Client {
    /// Creates a sale, or changes its terms while it is scheduled.
    pub fn define_sale(&mut self, sale: SaleId, terms: SaleTerms) -> Result<(), ClientError> {
        done(&self.call(&Command::DefineSale { sale, terms })?)
    }

    /// Creates an item, or changes its terms while its sale is scheduled.
    pub fn define_item(
        &mut self,
        sale: SaleId,
        item: ItemId,
        terms: ItemTerms,
    ) -> Result<(), ClientError> {
        done(&self.call(&Command::DefineItem { sale, item, terms })?)
    }

    /// Adds units to an item, or takes available ones away.
    pub fn restock(
        &mut self,
        sale: SaleId,
        request: RequestId,
        item: ItemId,
        by: i64,
    ) -> Result<(), ClientError> {
        done(&self.call(&Command::Restock { sale, request, item, by })?)
    }

    /// Opens a scheduled or paused sale.
    pub fn open_sale(&mut self, sale: SaleId) -> Result<(), ClientError> {
        done(&self.call(&Command::OpenSale { sale })?)
    }

    /// Pauses an open sale.
    pub fn pause_sale(&mut self, sale: SaleId) -> Result<(), ClientError> {
        done(&self.call(&Command::PauseSale { sale })?)
    }

    /// Closes a sale for good.
    pub fn close_sale(&mut self, sale: SaleId) -> Result<(), ClientError> {
        done(&self.call(&Command::CloseSale { sale })?)
    }

    /// Frees the memory of a closed sale without live holds: what it knew of orders, accounts and
    /// request ids is forgotten, and its totals stay.
    pub fn archive_sale(&mut self, sale: SaleId) -> Result<(), ClientError> {
        done(&self.call(&Command::ArchiveSale { sale })?)
    }
}

const OTHER_OUTCOME: ClientError = ClientError::Definite(Cause::OtherOutcome);

fn held(Answer { outcome, replayed }: Answer) -> Result<Held, ClientError> {
    match outcome {
        Outcome::Held { order, expires_at } | Outcome::Extended { order, expires_at } => {
            Ok(Held { order, expires_at, replayed })
        }
        _ => Err(OTHER_OUTCOME),
    }
}

fn settled(Answer { outcome, replayed }: Answer) -> Result<Settled, ClientError> {
    match outcome {
        Outcome::Confirmed { order }
        | Outcome::Released { order }
        | Outcome::Cancelled { order } => Ok(Settled { order, replayed }),
        _ => Err(OTHER_OUTCOME),
    }
}

fn done(answer: &Answer) -> Result<(), ClientError> {
    match answer.outcome {
        Outcome::Done => Ok(()),
        _ => Err(OTHER_OUTCOME),
    }
}
