//! Decides what buyers ask for.
//!
//! Each decision begins with the duplicate check; see the module `engine` for the order of the
//! rest. Holds and purchases depend on the sale's state, what follows them on the order's alone:
//! a hold can be confirmed while its sale is paused or closed.

use super::accounts::AccountIndex;
use super::orders::{OrderRow, Orders, StockLines};
use super::requests::Known;
use super::sale::Sale;
use super::wheel::DEADLINE_MAX;
use super::{Decision, Engine, Search, digest, limits};
use crate::canary::{Canary, planted};
use crate::model::record::{
    Bought, Cancelled, Confirmed, Extended, Fenced, Held, Origin, Record, RecordLines, Released,
};
use crate::model::{
    AccountId, Command, DurationMs, Field, Intent, Lines, OrderNumber, OrderState, Refusal, TimeMs,
    Wanted,
};

/// A request that was not made before.
#[derive(Clone, Copy)]
struct Asked<'a> {
    sale: &'a Sale,
    intent: Intent,
    /// The buyer's row, where they have one.
    account: Option<AccountIndex>,
    command: &'a Command,
    now: TimeMs,
}

impl Asked<'_> {
    fn origin(&self) -> Origin {
        Origin::new(self.intent, digest::digest(self.command))
    }
}

impl Engine {
    /// Decides a command about an order.
    #[inline]
    pub(super) fn purchase(
        &self,
        intent: Intent,
        command: &Command,
        now: TimeMs,
    ) -> Result<Decision, Refusal> {
        let sale = self.sale(intent.sale)?;
        let search = self.buyer(sale, intent)?;
        let is_forgotten =
            planted(Canary::ForgetRequest) && matches!(command, Command::Release { .. });
        if !is_forgotten && let Some(known) = self.known(sale, &search) {
            return self.repeated(sale, known, command);
        }
        self.last_search.set(Some(search));
        let account = search.account;
        let asked = Asked { sale, intent, account, command, now };
        let record = match command {
            Command::Hold { lines, ttl, .. } => {
                self.wheel.check_room()?;
                hold(asked, lines, *ttl)?
            }
            Command::Buy { lines, payment, .. } => {
                limits::window(sale, now)?;
                let order = new_order(asked, lines)?;
                let (origin, payment) = (asked.origin(), payment.clone());
                Record::Bought(Bought { origin, order, lines: wanted_lines(lines), payment })
            }
            Command::Confirm { order, payment, lines, .. } => {
                self.held_order(asked, *order, lines.as_ref())?;
                let (origin, payment) = (asked.origin(), payment.clone());
                let lines = chosen_lines(lines.as_ref());
                Record::Confirmed(Confirmed { origin, order: *order, lines, payment })
            }
            Command::Release { order, .. } => {
                self.held_order(asked, *order, None)?;
                Record::Released(Released { origin: asked.origin(), order: *order })
            }
            Command::Extend { order, .. } => {
                let row = self.held_order(asked, *order, None)?;
                if row.is_extended() {
                    return Err(Refusal::WrongState { state: OrderState::Held });
                }
                let expires_at = deadline(now, sale.terms.hold_ttl);
                Record::Extended(Extended { origin: asked.origin(), order: *order, expires_at })
            }
            Command::Cancel { order, lines, .. } => {
                self.confirmed_order(asked, *order, lines.as_ref())?;
                let lines = chosen_lines(lines.as_ref());
                Record::Cancelled(Cancelled { origin: asked.origin(), order: *order, lines })
            }
            _ => unreachable!("the command is not about an order"),
        };
        Ok(Decision::Commit(record))
    }

    /// Refuses an unknown request id for ever, or says what a known one got.
    pub(super) fn fence(&self, intent: Intent) -> Result<Decision, Refusal> {
        let sale = self.sale(intent.sale)?;
        let search = self.buyer(sale, intent)?;
        if let Some(known) = self.known(sale, &search) {
            let outcome = sale.requests.outcome(known, &sale.orders, &self.wheel);
            return Ok(Decision::Replayed(outcome));
        }
        limits::fences(sale, search.account)?;
        sale.requests.check_room()?;
        sale.accounts.check_room()?;
        let Intent { sale, account, request } = intent;
        Ok(Decision::Commit(Record::Fenced(Fenced { sale, account, request })))
    }

    /// The answer to a request id that was used before.
    pub(super) fn repeated(
        &self,
        sale: &Sale,
        known: Known,
        command: &Command,
    ) -> Result<Decision, Refusal> {
        if sale.requests.digest(known, &sale.orders) != Some(digest::digest(command)) {
            return Err(Refusal::KeyConflict);
        }
        Ok(Decision::Replayed(sale.requests.outcome(known, &sale.orders, &self.wheel)))
    }

    /// A search for the buyer, who is not the operator.
    #[inline]
    pub(super) fn buyer(&self, sale: &Sale, intent: Intent) -> Result<Search, Refusal> {
        if intent.account == AccountId::OPERATOR {
            return Err(Refusal::BadRequest { field: Field::Account });
        }
        Ok(self.search(sale, intent))
    }

    /// The row of whoever makes a request.
    #[inline]
    pub(super) fn search(&self, sale: &Sale, intent: Intent) -> Search {
        let account_hash = self.hash.account(intent.account);
        let account = sale.accounts.find(account_hash, intent.account);
        Search { intent, account_hash, account }
    }

    /// The request of this id, where it was used. An account without a row used none.
    #[inline]
    pub(super) fn known(&self, sale: &Sale, search: &Search) -> Option<Known> {
        let Intent { account: buyer, request, .. } = search.intent;
        let account = search.account?;
        sale.requests.find(self.hash.request(buyer, request), account, request, &sale.orders)
    }

    /// The buyer's own order, held and in time, with at least the chosen lines.
    fn held_order<'a>(
        &self,
        asked: Asked<'a>,
        order: OrderNumber,
        chosen: Option<&Lines>,
    ) -> Result<&'a OrderRow, Refusal> {
        let row = own_order(asked, order)?;
        match self.state(row, asked.now) {
            OrderState::Held => {}
            OrderState::Expired => return Err(Refusal::HoldExpired),
            state => return Err(Refusal::WrongState { state }),
        }
        check_chosen(asked.sale, row, chosen)?;
        asked.sale.requests.check_room()?;
        Ok(row)
    }

    /// The buyer's own order, confirmed, with at least the chosen lines.
    fn confirmed_order(
        &self,
        asked: Asked<'_>,
        order: OrderNumber,
        chosen: Option<&Lines>,
    ) -> Result<(), Refusal> {
        let row = own_order(asked, order)?;
        match self.state(row, asked.now) {
            OrderState::Confirmed => {}
            OrderState::Expired => return Err(Refusal::HoldExpired),
            state => return Err(Refusal::WrongState { state }),
        }
        check_chosen(asked.sale, row, chosen)?;
        asked.sale.requests.check_room()
    }

    /// The state of an order at `now`: a hold whose time is up is expired, logged or not.
    pub(super) fn state(&self, order: &OrderRow, now: TimeMs) -> OrderState {
        match order.state() {
            OrderState::Held if Orders::deadline(order, &self.wheel) <= now => OrderState::Expired,
            state => state,
        }
    }
}

fn hold(asked: Asked<'_>, lines: &Wanted, ttl: Option<DurationMs>) -> Result<Record, Refusal> {
    limits::window(asked.sale, asked.now)?;
    let ttl = limits::hold_ttl(asked.sale, ttl)?;
    let order = new_order(asked, lines)?;
    let (origin, expires_at) = (asked.origin(), deadline(asked.now, ttl));
    Ok(Record::Held(Held { origin, order, expires_at, lines: wanted_lines(lines) }))
}

/// The number of a new order of these lines in an open sale.
#[inline]
fn new_order(asked: Asked<'_>, wanted: &Wanted) -> Result<OrderNumber, Refusal> {
    let Asked { sale, account, .. } = asked;
    let mut lines = StockLines::new();
    limits::items_and_prices(sale, wanted, &mut lines)?;
    limits::account_limit(sale, account, &lines)?;
    limits::item_limits(sale, account, &lines)?;
    limits::stock(sale, &lines)?;
    sale.orders.check_room()?;
    sale.accounts.check_room()?;
    Ok(sale.orders.next_number())
}

fn own_order(asked: Asked<'_>, order: OrderNumber) -> Result<&OrderRow, Refusal> {
    let row = asked.sale.orders.find(order).ok_or(Refusal::NotFound)?;
    if Some(row.account()) == asked.account { Ok(row) } else { Err(Refusal::Forbidden) }
}

/// Chosen lines name items of the order, and no more units than it has.
fn check_chosen(sale: &Sale, row: &OrderRow, chosen: Option<&Lines>) -> Result<(), Refusal> {
    for line in chosen.map_or(&[][..], Lines::as_slice) {
        let item = sale.items.find(line.item);
        let mut lines = sale.orders.lines(row);
        let enough = lines.any(|has| Some(has.item) == item && line.quantity.0 <= has.quantity);
        if !enough {
            return Err(Refusal::BadRequest { field: Field::Lines });
        }
    }
    Ok(())
}

/// When a hold made now ends by itself.
fn deadline(now: TimeMs, ttl: DurationMs) -> TimeMs {
    now.after(ttl).min(TimeMs(DEADLINE_MAX))
}

#[inline]
fn wanted_lines(wanted: &Wanted) -> RecordLines {
    // Pushed one by one into their place; a collected list would be moved there.
    let mut lines = RecordLines::new();
    for wanted in wanted.as_slice() {
        lines.push(wanted.line);
    }
    lines
}

fn chosen_lines(chosen: Option<&Lines>) -> RecordLines {
    chosen.map_or_else(RecordLines::new, |lines| lines.as_slice().iter().copied().collect())
}
