//! Decides what operators ask for.
//!
//! Administration without a request id is idempotent by its content: asking for what is so
//! already is answered `Done` without a record. The terms of a sale and its items change only
//! while the sale is scheduled; later, other terms are refused as `CLOSED` where it is closed, and
//! otherwise as a bad window, because the window is what has passed.

use super::requests::OPERATOR;
use super::sale::Sale;
use super::{Decision, Engine, SALES_MAX, digest};
use crate::model::record::{ItemDefined, Origin, Record, Restocked, SaleDefined, SaleStateSet};
use crate::model::sale::{CAPACITY_MAX, HOLD_TTL_MAX, HOLD_TTL_MIN};
use crate::model::{
    AccountId, Command, Field, Intent, ItemId, ItemTerms, Outcome, Quantity, Refusal, RequestId,
    SaleId, SaleState, SaleTerms, TimeMs,
};

pub(super) const DONE: Result<Decision, Refusal> = Ok(Decision::Replayed(Outcome::Done));

impl Engine {
    /// Creates a sale, or changes its terms.
    pub(super) fn define_sale(
        &self,
        id: SaleId,
        terms: &SaleTerms,
        now: TimeMs,
    ) -> Result<Decision, Refusal> {
        match self.any_sale(id) {
            Ok(sale) if sale.is_archived() => return Err(Refusal::Closed),
            Ok(sale) if sale.terms == *terms => return DONE,
            Ok(sale) => terms_may_change(sale, now)?,
            Err(_) if self.sales.len() >= SALES_MAX => return Err(Refusal::Overloaded),
            Err(_) => {}
        }
        check_sale_terms(terms, now)?;
        Ok(Decision::Commit(Record::SaleDefined(SaleDefined { sale: id, terms: *terms })))
    }

    /// Creates an item, or changes its terms.
    pub(super) fn define_item(
        &self,
        id: SaleId,
        item: ItemId,
        terms: &ItemTerms,
        now: TimeMs,
    ) -> Result<Decision, Refusal> {
        let sale = self.sale(id)?;
        let existing = sale.items.find(item);
        if existing.is_some_and(|row| sale.items.at(row).terms() == *terms) {
            return DONE;
        }
        terms_may_change(sale, now)?;
        check_item_terms(terms)?;
        if existing.is_none() && sale.items.is_full() {
            return Err(bad(Field::Items));
        }
        Ok(Decision::Commit(Record::ItemDefined(ItemDefined { sale: id, item, terms: *terms })))
    }

    /// Adds units to an item, or takes available ones away, until the sale is closed.
    pub(super) fn restock(
        &self,
        id: SaleId,
        request: RequestId,
        (item, by): (ItemId, i64),
        command: &Command,
        now: TimeMs,
    ) -> Result<Decision, Refusal> {
        let sale = self.sale(id)?;
        let hash = self.hash.request(AccountId::OPERATOR, request);
        if let Some(known) = sale.requests.find(hash, OPERATOR, request, &sale.orders) {
            return self.repeated(sale, known, command);
        }
        if sale.state(now) == SaleState::Closed {
            return Err(Refusal::Closed);
        }
        let row = sale.items.find(item).ok_or(bad(Field::Item))?;
        if by == 0 {
            return Err(bad(Field::Quantity));
        }
        if sale.items.at(row).restocked(by).is_none() {
            return Err(bad(Field::Capacity));
        }
        sale.requests.check_room()?;
        let intent = Intent { sale: id, account: AccountId::OPERATOR, request };
        let origin = Origin::new(intent, digest::digest(command));
        Ok(Decision::Commit(Record::Restocked(Restocked { origin, item, by })))
    }

    /// Opens a scheduled or paused sale.
    pub(super) fn open_sale(&self, id: SaleId, now: TimeMs) -> Result<Decision, Refusal> {
        match self.sale(id)?.state(now) {
            SaleState::Open => DONE,
            SaleState::Closed | SaleState::Archived => Err(Refusal::Closed),
            SaleState::Scheduled | SaleState::Paused => Ok(state_set(id, SaleState::Open)),
        }
    }

    /// Pauses an open sale.
    pub(super) fn pause_sale(&self, id: SaleId, now: TimeMs) -> Result<Decision, Refusal> {
        let sale = self.sale(id)?;
        match sale.state(now) {
            SaleState::Paused => DONE,
            SaleState::Closed | SaleState::Archived => Err(Refusal::Closed),
            SaleState::Scheduled => Err(Refusal::NotOpen { opens_at: sale.terms.opens_at }),
            SaleState::Open => Ok(state_set(id, SaleState::Paused)),
        }
    }

    /// Closes a sale for good; an archived one was closed before.
    pub(super) fn close_sale(&self, id: SaleId, now: TimeMs) -> Result<Decision, Refusal> {
        match self.any_sale(id)?.state(now) {
            SaleState::Closed | SaleState::Archived => DONE,
            _ => Ok(state_set(id, SaleState::Closed)),
        }
    }
}

fn state_set(sale: SaleId, state: SaleState) -> Decision {
    Decision::Commit(Record::SaleStateSet(SaleStateSet { sale, state }))
}

fn terms_may_change(sale: &Sale, now: TimeMs) -> Result<(), Refusal> {
    match sale.state(now) {
        // An order proves that the sale was open once, whatever the time says.
        SaleState::Scheduled if sale.orders.len() == 0 => Ok(()),
        SaleState::Closed | SaleState::Archived => Err(Refusal::Closed),
        _ => Err(bad(Field::Window)),
    }
}

fn check_sale_terms(terms: &SaleTerms, now: TimeMs) -> Result<(), Refusal> {
    let SaleTerms { opens_at, closes_at, hold_ttl, account_limit } = *terms;
    let is_past = |time: Option<TimeMs>| time.is_some_and(|time| time <= now);
    let closes_first = opens_at.zip(closes_at).is_some_and(|(opens, closes)| closes <= opens);
    if closes_first || is_past(opens_at) || is_past(closes_at) {
        return Err(bad(Field::Window));
    }
    if !(HOLD_TTL_MIN..=HOLD_TTL_MAX).contains(&hold_ttl) {
        return Err(bad(Field::Ttl));
    }
    check_limit(account_limit)
}

fn check_item_terms(terms: &ItemTerms) -> Result<(), Refusal> {
    if terms.capacity > CAPACITY_MAX {
        return Err(bad(Field::Capacity));
    }
    check_limit(terms.account_limit)
}

fn check_limit(limit: Option<Quantity>) -> Result<(), Refusal> {
    if limit == Some(Quantity(0)) { Err(bad(Field::Limit)) } else { Ok(()) }
}

const fn bad(field: Field) -> Refusal {
    Refusal::BadRequest { field }
}
