//! The books of one sale: its terms and state, its orders, and every movement of units.
//!
//! A record that breaks a rule is entered all the same where that makes sense, so that the
//! counters at the end show what the log says; where it does not (a change of an order that does
//! not allow it), the record is left out.

use std::collections::HashMap;

use super::buyers::{Buyer, Buyers};
use super::report::{OrderCounts, SCHEDULED, SaleReport};
use super::rules::{Findings, Rule};
use super::stock::{ItemRow, Place, Stock};
use super::trace::{Did, Trace};
use crate::model::record::{Confirmed, Extended, Fenced, Held, Origin, Record, Restocked};
use crate::model::sale::{HOLD_TTL_MAX, HOLD_TTL_MIN};
use crate::model::{
    AccountId, BodyDigest, ItemId, Line, OrderNumber, OrderState, Quantity, RequestId, SaleId,
    SaleState, SaleTerms, ShardIndex, TimeMs,
};

#[derive(Debug)]
pub(super) struct SaleBook {
    pub(super) terms: SaleTerms,
    pub(super) state: SaleState,
    pub(super) stock: Stock,
    pub(super) buyers: Buyers,
    pub(super) trace: Trace,
    pub(super) orders: Vec<Order>,
    /// Orders whose number was not the next one.
    strays: HashMap<OrderNumber, Order>,
    last_order: OrderNumber,
    pub(super) lines: Vec<OrderLine>,
    pub(super) counts: OrderCounts,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    /// Where its lines start in the sale's list, and how many they are.
    pub(super) lines_at: usize,
    pub(super) lines: u8,
    pub(super) state: OrderState,
    pub(super) is_extended: bool,
    pub(super) buyer: Buyer,
    pub(super) expires_at: TimeMs,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct OrderLine {
    pub(super) item: ItemRow,
    pub(super) quantity: u32,
}

impl SaleBook {
    pub(super) fn new(terms: SaleTerms) -> Self {
        Self {
            terms,
            state: SaleState::Scheduled,
            stock: Stock::default(),
            buyers: Buyers::default(),
            trace: Trace::default(),
            orders: Vec::new(),
            strays: HashMap::new(),
            last_order: OrderNumber(0),
            lines: Vec::new(),
            counts: OrderCounts::default(),
        }
    }

    /// Enters a record of this sale and checks every rule that it touches.
    pub(super) fn enter(&mut self, time: TimeMs, record: &Record, findings: &mut Findings) {
        if self.state == SaleState::Archived {
            let what = || "the sale was archived before this record".into();
            findings.add(Rule::AfterArchive, None, what);
            return;
        }
        match record {
            Record::SaleDefined(defined) => {
                self.check_not_opened(time, findings);
                self.terms = defined.terms;
                self.check_terms(findings);
            }
            Record::ItemDefined(defined) => {
                self.check_not_opened(time, findings);
                self.stock.define(defined.item, defined.terms, findings);
            }
            Record::SaleStateSet(set) => self.set_state(time, set.state, findings),
            Record::Restocked(restocked) => self.restock(restocked, findings),
            Record::Held(held) => self.hold(time, held, findings),
            Record::Bought(bought) => {
                let made = (bought.order, OrderState::Confirmed, TimeMs(0));
                self.trace_made(bought.order, &bought.origin, TimeMs(0));
                self.make(time, &bought.origin, made, &bought.lines, findings);
            }
            Record::Confirmed(confirmed) => self.confirm(time, confirmed, findings),
            Record::Released(released) => {
                let order = released.order;
                if self.change(time, &released.origin, order, OrderState::Held, findings) {
                    self.trace_asked(&released.origin, Did::Released(order));
                    self.end(order, Place::Held, OrderState::Released, findings);
                }
            }
            Record::Extended(extended) => self.extend(time, extended, findings),
            Record::Cancelled(cancelled) => {
                let order = cancelled.order;
                if self.change(time, &cancelled.origin, order, OrderState::Confirmed, findings) {
                    self.trace_asked(&cancelled.origin, Did::Cancelled(order));
                    self.cancel(order, &cancelled.lines, findings);
                }
            }
            Record::Expired(expired) => self.expire(time, expired.order, findings),
            Record::Fenced(fenced) => self.fence(fenced, findings),
            Record::SaleArchived(_) => self.archive(time, findings),
        }
    }

    pub(super) fn check_terms(&self, findings: &mut Findings) {
        let SaleTerms { opens_at, closes_at, hold_ttl, account_limit } = self.terms;
        let closes_first = opens_at.zip(closes_at).is_some_and(|(opens, closes)| closes <= opens);
        let is_ttl = (HOLD_TTL_MIN..=HOLD_TTL_MAX).contains(&hold_ttl);
        if closes_first || !is_ttl || account_limit == Some(Quantity(0)) {
            let what = || "the sale's window, hold_ttl or limit is out of range".into();
            findings.add(Rule::TermsOutOfRange, None, what);
        }
    }

    pub(super) fn report(&self, sale: SaleId, shard: ShardIndex) -> SaleReport {
        SaleReport {
            sale: sale.0,
            shard: shard.0,
            logged_state: match self.state {
                SaleState::Scheduled => SCHEDULED,
                SaleState::Open => "open",
                SaleState::Paused => "paused",
                SaleState::Closed => "closed",
                SaleState::Archived => "archived",
            },
            orders: self.counts,
            items: self.stock.report(),
        }
    }

    /// The state at `time`, by what was logged and by the window.
    fn state_at(&self, time: TimeMs) -> SaleState {
        let is_reached = |moment: Option<TimeMs>| moment.is_some_and(|moment| moment <= time);
        if self.state == SaleState::Closed || is_reached(self.terms.closes_at) {
            SaleState::Closed
        } else if self.state == SaleState::Scheduled && is_reached(self.terms.opens_at) {
            SaleState::Open
        } else {
            self.state
        }
    }

    fn check_not_opened(&self, time: TimeMs, findings: &mut Findings) {
        let state = self.state_at(time);
        if state != SaleState::Scheduled || self.last_order != OrderNumber(0) {
            let what = || format!("terms change while the sale is {state:?}");
            findings.add(Rule::TermsAfterOpening, None, what);
        }
    }

    fn set_state(&mut self, time: TimeMs, state: SaleState, findings: &mut Findings) {
        let before = self.state_at(time);
        if state == SaleState::Archived {
            let what = || "the sale is archived by another record than the one for it".into();
            findings.add(Rule::ArchivedEarly, None, what);
            return;
        }
        let is_back = state == SaleState::Scheduled && before != SaleState::Scheduled;
        if is_back || before == SaleState::Closed && state != SaleState::Closed {
            let what = || format!("the sale becomes {state:?} after it was {before:?}");
            findings.add(Rule::Reopened, None, what);
        }
        self.state = state;
    }

    /// The orders and buyers are not needed any more: what comes now is a finding.
    fn archive(&mut self, time: TimeMs, findings: &mut Findings) {
        let (before, held) = (self.state_at(time), self.counts.held);
        if before != SaleState::Closed || held > 0 {
            let what = || format!("the sale is archived while it is {before:?}, with {held} holds");
            findings.add(Rule::ArchivedEarly, None, what);
        }
        self.state = SaleState::Archived;
        self.buyers = Buyers::default();
        self.orders = Vec::new();
        self.strays = HashMap::new();
        self.lines = Vec::new();
    }

    fn restock(&mut self, restocked: &Restocked, findings: &mut Findings) {
        let Restocked { origin, item, by } = restocked;
        if origin.account != AccountId::OPERATOR {
            findings.add(Rule::OperatorAccount, None, || "a buyer restocks".into());
        }
        let operator = self.buyers.row(origin.account);
        self.buyers.use_request(operator, origin.request, None, findings);
        self.trace_asked(origin, Did::Restocked);
        match self.stock.row(*item) {
            Some(row) => self.stock.restock(row, *by, findings),
            None => unknown_item(*item, None, findings),
        }
    }

    fn fence(&mut self, fenced: &Fenced, findings: &mut Findings) {
        let buyer = self.buyer(fenced.account, None, findings);
        self.buyers.fence(buyer, fenced.request, findings);
        self.trace.asked(fenced.request, BodyDigest(0), Did::Fenced(fenced.account));
    }

    fn trace_made(&mut self, order: OrderNumber, origin: &Origin, deadline: TimeMs) {
        self.trace.made(order, origin.account, (origin.request, origin.digest), deadline);
    }

    fn trace_asked(&mut self, origin: &Origin, did: Did) {
        self.trace.asked(origin.request, origin.digest, did);
    }

    fn hold(&mut self, time: TimeMs, held: &Held, findings: &mut Findings) {
        let (order, expires_at) = (held.order, held.expires_at);
        self.check_deadline(time, order, expires_at, findings);
        self.trace_made(order, &held.origin, expires_at);
        self.make(time, &held.origin, (order, OrderState::Held, expires_at), &held.lines, findings);
    }

    /// Enters a new order, held or confirmed.
    fn make(
        &mut self,
        time: TimeMs,
        origin: &Origin,
        (number, state, expires_at): (OrderNumber, OrderState, TimeMs),
        lines: &[Line],
        findings: &mut Findings,
    ) {
        let sale_state = self.state_at(time);
        if sale_state != SaleState::Open {
            findings.add(Rule::NotOpen, Some(number), || format!("the sale is {sale_state:?}"));
        }
        self.load(origin.account, (number, state, expires_at), origin.request, lines, findings);
    }

    /// Enters an order as it is, whatever led there.
    pub(super) fn load(
        &mut self,
        account: AccountId,
        (number, state, expires_at): (OrderNumber, OrderState, TimeMs),
        request: RequestId,
        lines: &[Line],
        findings: &mut Findings,
    ) {
        let buyer = self.buyer(account, Some(number), findings);
        self.buyers.use_request(buyer, request, Some(number), findings);
        let lines_at = self.lines.len();
        let place = if state == OrderState::Held { Place::Held } else { Place::Sold };
        for line in lines {
            self.take(number, buyer, *line, place, findings);
        }
        self.check_sale_limit(number, buyer, findings);
        let lines = (self.lines.len() - lines_at) as u8;
        let order = Order { lines_at, lines, state, is_extended: false, buyer, expires_at };
        self.insert(number, order, findings);
        *self.counts.of(state) += 1;
    }

    fn take(
        &mut self,
        number: OrderNumber,
        buyer: Buyer,
        line: Line,
        place: Place,
        findings: &mut Findings,
    ) {
        let Line { item, quantity } = line;
        let Some(row) = self.stock.row(item) else {
            unknown_item(item, Some(number), findings);
            return;
        };
        self.stock.shift(row, quantity.0, (Place::Available, place), number, findings);
        let limit = self.stock.item(row).account_limit;
        if let Err(has) = self.buyers.take(buyer, (row, limit), quantity.0) {
            findings.add(Rule::ItemLimit, Some(number), || {
                let limit = limit.unwrap_or_default();
                format!("the account has {has} units of item {item}, and the limit is {limit}")
            });
        }
        self.lines.push(OrderLine { item: row, quantity: quantity.0 });
    }

    fn check_sale_limit(&self, number: OrderNumber, buyer: Buyer, findings: &mut Findings) {
        let (units, limit) = (self.buyers.units(buyer), self.terms.account_limit);
        if let Some(limit) = limit.filter(|limit| units > u64::from(limit.0)) {
            findings.add(Rule::SaleLimit, Some(number), || {
                format!("the account has {units} units of the sale, and the limit is {limit}")
            });
        }
    }

    fn insert(&mut self, number: OrderNumber, order: Order, findings: &mut Findings) {
        let next = OrderNumber(self.last_order.0.saturating_add(1));
        if number == next && self.orders.len() + 1 == number.0 as usize {
            self.orders.push(order);
            self.last_order = number;
            return;
        }
        if number != next {
            let what = || format!("the order has the number {number}, and {next} was next");
            findings.add(Rule::OrderNumbers, Some(number), what);
        }
        // A number that was given before stays with the order that had it first.
        if self.find(number).is_none() {
            self.strays.insert(number, order);
        }
        self.last_order = self.last_order.max(number);
    }

    pub(super) fn find(&self, number: OrderNumber) -> Option<&Order> {
        let row = (number.0 as usize).wrapping_sub(1);
        self.orders.get(row).or_else(|| self.strays.get(&number))
    }

    pub(super) fn order(&mut self, number: OrderNumber) -> &mut Order {
        let row = (number.0 as usize).wrapping_sub(1);
        let found = self.orders.get_mut(row).or_else(|| self.strays.get_mut(&number));
        found.expect("the order was found before")
    }

    /// Whether a request may change this order, which must be in this state.
    fn change(
        &mut self,
        time: TimeMs,
        origin: &Origin,
        number: OrderNumber,
        state: OrderState,
        findings: &mut Findings,
    ) -> bool {
        let buyer = self.buyer(origin.account, Some(number), findings);
        self.buyers.use_request(buyer, origin.request, Some(number), findings);
        let Some(order) = self.in_state(number, state, findings) else { return false };
        if order.buyer != buyer {
            let what = || "the order is another account's".into();
            findings.add(Rule::WrongAccount, Some(number), what);
        }
        if state == OrderState::Held && time >= order.expires_at {
            findings.add(Rule::AfterDeadline, Some(number), || {
                format!("the hold ended at {}, and it is {time}", order.expires_at)
            });
        }
        true
    }

    fn in_state(
        &self,
        number: OrderNumber,
        state: OrderState,
        findings: &mut Findings,
    ) -> Option<Order> {
        let Some(order) = self.find(number).copied() else {
            findings.add(Rule::UnknownOrder, Some(number), || "there is no such order".into());
            return None;
        };
        if order.state != state {
            findings.add(Rule::OrderState, Some(number), || {
                format!("the order is {:?}, and the record needs it {state:?}", order.state)
            });
            return None;
        }
        Some(order)
    }

    fn confirm(&mut self, time: TimeMs, confirmed: &Confirmed, findings: &mut Findings) {
        let number = confirmed.order;
        if !self.change(time, &confirmed.origin, number, OrderState::Held, findings) {
            return;
        }
        self.trace_asked(&confirmed.origin, Did::Confirmed(number));
        let chosen = self.chosen(number, &confirmed.lines, findings);
        for (at, keeps) in chosen {
            let OrderLine { item, quantity } = self.lines[at];
            let to_sold = (Place::Held, Place::Sold);
            self.stock.shift(item, keeps, to_sold, number, findings);
            self.give_back(number, at, quantity - keeps, Place::Held, findings);
        }
        self.set_order_state(number, OrderState::Confirmed);
    }

    fn cancel(&mut self, number: OrderNumber, lines: &[Line], findings: &mut Findings) {
        for (at, gives) in self.chosen(number, lines, findings) {
            self.give_back(number, at, gives, Place::Sold, findings);
        }
        let is_empty = self.lines_of(number).all(|at| self.lines[at].quantity == 0);
        if is_empty {
            self.set_order_state(number, OrderState::Cancelled);
        }
    }

    fn extend(&mut self, time: TimeMs, extended: &Extended, findings: &mut Findings) {
        let (number, expires_at) = (extended.order, extended.expires_at);
        if !self.change(time, &extended.origin, number, OrderState::Held, findings) {
            return;
        }
        self.trace_asked(&extended.origin, Did::Extended(number));
        self.check_deadline(time, number, expires_at, findings);
        let order = self.order(number);
        let was_extended = order.is_extended;
        order.is_extended = true;
        order.expires_at = expires_at;
        if was_extended {
            let what = || "the hold was extended before".into();
            findings.add(Rule::ExtendedTwice, Some(number), what);
        }
    }

    fn expire(&mut self, time: TimeMs, number: OrderNumber, findings: &mut Findings) {
        let Some(order) = self.in_state(number, OrderState::Held, findings) else { return };
        if time < order.expires_at {
            findings.add(Rule::ExpiredEarly, Some(number), || {
                format!("the hold ends at {}, and it is {time}", order.expires_at)
            });
        }
        self.end(number, Place::Held, OrderState::Expired, findings);
    }

    fn check_deadline(
        &self,
        time: TimeMs,
        number: OrderNumber,
        expires_at: TimeMs,
        findings: &mut Findings,
    ) {
        if expires_at <= time || expires_at > time.after(self.terms.hold_ttl) {
            findings.add(Rule::HoldTtl, Some(number), || {
                let ttl = self.terms.hold_ttl;
                format!("at {time} the hold gets the deadline {expires_at}; hold_ttl is {ttl} ms")
            });
        }
    }

    /// For each line of the order, where it lies and how many of its units are chosen; no lines
    /// at all choose everything.
    fn chosen(
        &self,
        number: OrderNumber,
        chosen: &[Line],
        findings: &mut Findings,
    ) -> Vec<(usize, u32)> {
        let mut units: Vec<(usize, u32)> =
            self.lines_of(number).map(|at| (at, self.lines[at].quantity)).collect();
        if chosen.is_empty() {
            return units;
        }
        let has = units.clone();
        for (_, quantity) in &mut units {
            *quantity = 0;
        }
        for line in chosen {
            let row = self.stock.row(line.item);
            let index = has.iter().position(|(at, _)| Some(self.lines[*at].item) == row);
            let available = index.map_or(0, |index| has[index].1);
            if line.quantity.0 > available {
                findings.add(Rule::LinesBeyondOrder, Some(number), || {
                    let Line { item, quantity } = line;
                    format!("{quantity} units of item {item} are named; the order has {available}")
                });
            }
            if let Some(index) = index {
                units[index].1 = line.quantity.0.min(available);
            }
        }
        units
    }

    fn lines_of(&self, number: OrderNumber) -> std::ops::Range<usize> {
        let order = self.find(number).expect("the order was found before");
        order.lines_at..order.lines_at + usize::from(order.lines)
    }

    /// Gives everything back that the order has.
    fn end(
        &mut self,
        number: OrderNumber,
        from: Place,
        state: OrderState,
        findings: &mut Findings,
    ) {
        for at in self.lines_of(number) {
            let quantity = self.lines[at].quantity;
            self.give_back(number, at, quantity, from, findings);
        }
        self.set_order_state(number, state);
    }

    fn give_back(
        &mut self,
        number: OrderNumber,
        at: usize,
        quantity: u32,
        from: Place,
        findings: &mut Findings,
    ) {
        let line = &mut self.lines[at];
        line.quantity -= quantity;
        let row = line.item;
        self.stock.shift(row, quantity, (from, Place::Available), number, findings);
        let is_limited = self.stock.item(row).account_limit.is_some();
        let buyer = self.order(number).buyer;
        self.buyers.give_back(buyer, row, is_limited, quantity);
    }

    fn set_order_state(&mut self, number: OrderNumber, state: OrderState) {
        let before = std::mem::replace(&mut self.order(number).state, state);
        *self.counts.of(before) -= 1;
        *self.counts.of(state) += 1;
    }

    pub(super) fn buyer(
        &mut self,
        account: AccountId,
        order: Option<OrderNumber>,
        findings: &mut Findings,
    ) -> Buyer {
        if account == AccountId::OPERATOR {
            let what = || "the operator's account buys".into();
            findings.add(Rule::OperatorAccount, order, what);
        }
        self.buyers.row(account)
    }
}

fn unknown_item(item: ItemId, order: Option<OrderNumber>, findings: &mut Findings) {
    findings.add(Rule::UnknownItem, order, || format!("item {item} was never defined"));
}
