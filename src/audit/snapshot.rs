//! The books of a snapshot: made of its rows, checked, and held against those of the log.
//!
//! The books are kept from the rows alone: every order takes its units as a record would make it,
//! under the same rules. What the snapshot claims besides (counters of items, units of accounts,
//! tallies) must come out of that. One sale is in memory at a time beside the log's books.
//!
//! Of an order that has ended the lines are not compared: the log's books keep none.

use std::collections::HashMap;

use super::book::SaleBook;
use super::report::OrderCounts;
use super::rules::{Finding, Findings, Rule};
use super::trace::Did;
use crate::model::snapshot::{
    AccountsPart, ItemRow, LastTotals, OrdersPart, Part, RequestsPart, SalePart, TallyOf, TallyRow,
};
use crate::model::{
    AccountId, BodyDigest, ItemId, Line, OrderNumber, OrderState, RequestId, SaleId, SaleState,
    TimeMs, UuidText,
};

/// Makes the books of one sale after the other.
#[derive(Debug, Default)]
pub(super) struct Loader {
    sale: Option<Loading>,
}

/// A sale whose rows are being read.
#[derive(Debug)]
struct Loading {
    id: SaleId,
    book: SaleBook,
    findings: Findings,
    /// By place.
    accounts: Vec<AccountId>,
    /// Units that count against the sale's limit, as the snapshot claims, by place.
    units: Vec<u32>,
    items: Vec<ItemRow>,
    tallies: Vec<TallyRow>,
    next_order: u32,
}

/// The books of a sale as a snapshot has it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) sale: SaleId,
    pub(super) book: SaleBook,
    /// What is wrong in it.
    pub(super) findings: Vec<Finding>,
}

impl Loader {
    /// Takes the next part, and gives back the sale before, where this one begins another.
    pub(super) fn part(&mut self, part: Part) -> Option<Loaded> {
        match part {
            Part::Sale(part) => {
                let before = self.end();
                self.sale = Some(Loading::new(part));
                return before;
            }
            Part::Accounts(part) => self.sale.as_mut()?.accounts(&part),
            Part::Tallies(part) => self.sale.as_mut()?.tallies.extend(part.rows),
            Part::Orders(part) => self.sale.as_mut()?.orders(&part),
            Part::Requests(part) => self.sale.as_mut()?.requests(&part),
        }
        None
    }

    /// The last sale.
    pub(super) fn end(&mut self) -> Option<Loaded> {
        self.sale.take().map(Loading::end)
    }
}

impl Loading {
    fn new(part: SalePart) -> Self {
        let mut findings = Findings::default();
        let mut book = SaleBook::new(part.terms);
        book.check_terms(&mut findings);
        book.state = part.state;
        for row in &part.items {
            book.stock.define(row.item, row.terms, &mut findings);
        }
        if let Some(last) = part.last {
            book.counts = of_totals(&last);
            for row in &part.items {
                let counters = [row.available, row.held, row.sold].map(|units| i64::from(units.0));
                book.stock.set(row.item, counters, &mut findings);
            }
        }
        Self {
            id: part.sale,
            book,
            findings,
            accounts: Vec::new(),
            units: Vec::new(),
            items: if part.last.is_some() { Vec::new() } else { part.items },
            tallies: Vec::new(),
            next_order: 1,
        }
    }

    fn accounts(&mut self, part: &AccountsPart) {
        for row in &part.rows {
            self.book.buyer(row.account, None, &mut self.findings);
            self.accounts.push(row.account);
            self.units.push(row.units.0);
        }
    }

    fn orders(&mut self, part: &OrdersPart) {
        let mut lines = part.lines.iter();
        let mut deadlines = part.deadlines.iter();
        let mut extensions = part.extensions.iter();
        for row in &part.rows {
            let number = OrderNumber(self.next_order);
            self.next_order += 1;
            let lines: Vec<Line> = lines.by_ref().take(usize::from(row.lines)).copied().collect();
            let mut time = |is_there: bool, times: &mut std::slice::Iter<'_, TimeMs>| {
                let time = if is_there { times.next().copied() } else { Some(TimeMs(0)) };
                time.unwrap_or_else(|| {
                    disagrees(&mut self.findings, Some(number), "its deadline is missing");
                    TimeMs(0)
                })
            };
            let deadline = time(!row.is_bought, &mut deadlines);
            let extension = time(row.is_extended, &mut extensions);
            let Some(account) = self.accounts.get(row.account as usize).copied() else {
                disagrees(&mut self.findings, Some(number), "its account is missing");
                continue;
            };
            let has_units = matches!(row.state, OrderState::Held | OrderState::Confirmed);
            let lines = if has_units { lines.as_slice() } else { &[] };
            let expires_at = if row.is_extended { extension } else { deadline };
            let request = (row.request, row.digest);
            self.book.trace.made(number, account, request, deadline);
            let made = (number, row.state, expires_at);
            self.book.load(account, made, row.request, lines, &mut self.findings);
            if row.is_extended {
                self.book.set_extended(number);
            }
        }
    }

    fn requests(&mut self, part: &RequestsPart) {
        for row in &part.rows {
            let did = Did::of(row.effect, |place| self.accounts.get(place as usize).copied());
            self.book.load_request(row.request, row.digest, did, &mut self.findings);
        }
    }

    /// Holds what the snapshot claims against what came out of its rows.
    fn end(mut self) -> Loaded {
        for row in &self.items {
            let claimed = [row.available, row.held, row.sold].map(|units| i64::from(units.0));
            if self.book.stock.counters(row.item) != Some(claimed) {
                let what = format!("item {} counts otherwise than its orders", row.item);
                disagrees(&mut self.findings, None, &what);
            }
        }
        let book = &mut self.book;
        let mut tallies: HashMap<(AccountId, Option<u32>), u64> = HashMap::new();
        for row in &self.tallies {
            let account = self.accounts.get(row.account as usize).copied().unwrap_or_default();
            let item = match row.of {
                TallyOf::Fences => None,
                TallyOf::Item(item) => Some(item.0),
            };
            tallies.insert((account, item), u64::from(row.count));
        }
        if tallies != book.tallies() {
            disagrees(&mut self.findings, None, "accounts count otherwise than their orders");
        }
        for (account, units) in self.accounts.iter().zip(&self.units) {
            let buyer = book.buyers.row(*account);
            let is_limited = book.terms.account_limit.is_some();
            if is_limited && book.buyers.units(buyer) != u64::from(*units) {
                let what = format!("account {} counts otherwise", UuidText::from(*account));
                disagrees(&mut self.findings, None, &what);
            }
        }
        let findings = self.findings.drain().collect();
        Loaded { sale: self.id, book: self.book, findings }
    }
}

fn disagrees(findings: &mut Findings, order: Option<OrderNumber>, what: &str) {
    findings.add(Rule::SnapshotDisagrees, order, || format!("in a snapshot, {what}"));
}

fn of_totals(last: &LastTotals) -> OrderCounts {
    OrderCounts {
        held: 0,
        confirmed: last.confirmed.into(),
        released: last.released.into(),
        expired: last.expired.into(),
        cancelled: last.cancelled.into(),
    }
}

/// Number, account, state, whether it was extended and when it ends, and lines.
type OrderFacts = (OrderNumber, AccountId, OrderState, (bool, TimeMs), Vec<(ItemId, u32)>);

impl SaleBook {
    /// Notes that an order's hold was extended.
    fn set_extended(&mut self, number: OrderNumber) {
        self.order(number).is_extended = true;
    }

    /// Enters a request that made no order, whatever it did.
    fn load_request(
        &mut self,
        request: RequestId,
        digest: BodyDigest,
        did: Did,
        findings: &mut Findings,
    ) {
        let order = match did {
            Did::Confirmed(order)
            | Did::Released(order)
            | Did::Cancelled(order)
            | Did::Extended(order) => order,
            Did::Restocked => {
                self.trace.asked(request, digest, did);
                let operator = self.buyers.row(AccountId::OPERATOR);
                return self.buyers.use_request(operator, request, None, findings);
            }
            Did::Fenced(account) => {
                self.trace.asked(request, BodyDigest(0), did);
                let buyer = self.buyer(account, None, findings);
                return self.buyers.fence(buyer, request, findings);
            }
        };
        self.trace.asked(request, digest, did);
        match self.find(order).map(|order| order.buyer) {
            Some(buyer) => self.buyers.use_request(buyer, request, Some(order), findings),
            None => {
                findings.add(Rule::UnknownOrder, Some(order), || "there is no such order".into());
            }
        }
    }

    /// Tallies of the accounts, by account and, where it is not fences, item.
    fn tallies(&self) -> HashMap<(AccountId, Option<u32>), u64> {
        let tallies = self.buyers.tallies();
        let by_item = tallies
            .map(|(account, row, count)| ((account, row.map(|row| self.stock.id(row).0)), count));
        by_item.collect()
    }

    /// What is known of each order, in the order of their numbers; of those that have ended, no
    /// line.
    fn order_facts(&self) -> impl Iterator<Item = OrderFacts> {
        let accounts = self.buyers.accounts();
        (1..).map(OrderNumber).zip(&self.orders).map(move |(number, order)| {
            let lines = &self.lines[order.lines_at..order.lines_at + usize::from(order.lines)];
            let lines = lines.iter().filter(|line| line.quantity > 0);
            let mut lines: Vec<_> =
                lines.map(|line| (self.stock.id(line.item), line.quantity)).collect();
            lines.sort_unstable();
            let account = accounts[order.buyer as usize];
            (number, account, order.state, (order.is_extended, order.expires_at), lines)
        })
    }
}

/// What a snapshot says otherwise than the log, at the same record; at most one sentence of each
/// kind.
pub(super) fn differences(log: &SaleBook, snapshot: &SaleBook) -> Vec<String> {
    let mut differ = Vec::new();
    let mut same = |is_same: bool, what: &str| {
        if !is_same {
            differ.push(format!("the snapshot has other {what} than the log up to there"));
        }
    };
    same(log.terms == snapshot.terms, "terms");
    same(log.state == snapshot.state, "states");
    same(log.stock.facts() == snapshot.stock.facts(), "counters or terms of items");
    same(log.counts == snapshot.counts, "numbers of orders");
    if log.state == SaleState::Archived {
        return differ;
    }
    same(log.trace == snapshot.trace, "requests");
    same(log.buyers.sums() == snapshot.buyers.sums(), "accounts or units of accounts");
    same(log.tallies() == snapshot.tallies(), "tallies of accounts");
    let orders = log.order_facts().zip(snapshot.order_facts());
    let differing = orders.into_iter().find(|(log, snapshot)| log != snapshot);
    if let Some(((number, ..), _)) = differing {
        same(false, &format!("facts of order {number}"));
    }
    same(log.orders.len() == snapshot.orders.len(), "orders");
    differ
}
