//! A naive model of the engine: plain maps and lists, every question answered by a full scan.
//!
//! Written from the rules alone; it shares no code with the engine. It keeps each order's whole
//! story, so counters, limits and answers are recomputed from scratch each time. A [`Flaw`] breaks
//! one rule on purpose: the comparison must notice.

#[path = "naive_views.rs"]
mod views;

use std::collections::BTreeMap;

use boxoffice::model::{
    AccountId, Command, DurationMs, Field, Intent, ItemCounts, ItemId, ItemTerms, Line, Lines,
    OrderNumber, OrderState, Outcome, Quantity, Refusal, RequestId, SaleId, SaleState, SaleTerms,
    TimeMs,
};

/// A rule that the model breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The sale's limit per account is not checked.
    NoAccountLimit,
    /// An item's own limit per account is not checked.
    NoItemLimit,
    /// A released hold still counts against the limits.
    ReleaseKeepsLimit,
    /// A partial confirm gives the rest no stock back.
    PartialConfirmKeepsRest,
    /// A hold can still be confirmed at the very millisecond of its deadline.
    ConfirmAtDeadline,
    /// A hold can be extended again and again.
    ExtendForEver,
    /// A repeated hold says the extended deadline.
    RepeatSaysNewDeadline,
    /// Any body is taken for the same under a known request id.
    AnyBodyIsTheSame,
    /// A fenced request id can be used.
    FenceForgets,
    /// Stock is judged before limits.
    StockBeforeLimits,
    /// The stock of a hold comes back when its time is up, before its expiry is logged.
    EarlyStock,
    /// Cancelled units are not available again.
    CancelKeepsStock,
    /// A sale stays open at the very millisecond when it closes.
    OpenWhenItCloses,
    /// A sale is archived while holds live in it.
    ArchiveWithHolds,
    /// An archived sale still repeats its answers.
    ArchiveRemembers,
    /// An archived sale can be defined anew.
    ArchiveFreesId,
}

/// What the model says about a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Executed now.
    Executed(Outcome),
    /// Answered as before.
    Repeated(Outcome),
    Refused(Refusal),
}

/// How an order begins.
#[derive(Clone, Copy)]
enum NewOrder {
    /// With the time to live that the buyer asks for.
    Hold(Option<DurationMs>),
    Purchase,
}

#[derive(Clone)]
struct Order {
    account: AccountId,
    state: OrderState,
    lines: Vec<Line>,
    deadline: TimeMs,
    extended: bool,
}

/// One request that was executed: the command as it was, and the answer.
#[derive(Clone)]
struct Done {
    account: AccountId,
    request: RequestId,
    /// `None` of a fence.
    command: Option<Command>,
    outcome: Outcome,
}

#[derive(Clone)]
struct Sale {
    terms: SaleTerms,
    state: SaleState,
    items: BTreeMap<ItemId, ItemTerms>,
    orders: Vec<Order>,
    done: Vec<Done>,
    /// Units lost by a flaw.
    lost: BTreeMap<ItemId, u32>,
}

/// All sales.
#[derive(Clone)]
pub struct Naive {
    sales: BTreeMap<SaleId, Sale>,
    flaw: Option<Flaw>,
}

fn bad<T>(field: Field) -> Result<T, Refusal> {
    Err(Refusal::BadRequest { field })
}

type Judged = Result<Option<Outcome>, Refusal>;

impl Naive {
    pub fn new(flaw: Option<Flaw>) -> Self {
        Self { sales: BTreeMap::new(), flaw }
    }

    /// Judges and executes a command.
    pub fn execute(&mut self, command: &Command, now: TimeMs) -> Verdict {
        if let Some((account, request)) = command.request() {
            match self.repeated(command, account, request) {
                Ok(Some(outcome)) => return Verdict::Repeated(outcome),
                Ok(None) => {}
                Err(refusal) => return Verdict::Refused(refusal),
            }
        }
        match self.try_execute(command, now) {
            Ok(Some(outcome)) => {
                if let Some((account, request)) = command.request() {
                    let is_fence = matches!(command, Command::Fence { .. });
                    let done = Done {
                        account,
                        request,
                        command: (!is_fence).then(|| command.clone()),
                        outcome: outcome.clone(),
                    };
                    self.sales.get_mut(&command.sale()).unwrap().done.push(done);
                }
                Verdict::Executed(outcome)
            }
            Ok(None) => Verdict::Repeated(Outcome::Done),
            Err(refusal) => Verdict::Refused(refusal),
        }
    }

    fn repeated(&self, command: &Command, account: AccountId, request: RequestId) -> Judged {
        let sale = self.sales.get(&command.sale()).ok_or(Refusal::NotFound)?;
        if sale.state == SaleState::Archived && self.flaw != Some(Flaw::ArchiveRemembers) {
            return Err(Refusal::Closed);
        }
        let is_restock = matches!(command, Command::Restock { .. });
        if account == AccountId::OPERATOR && !is_restock {
            return bad(Field::Account);
        }
        let same_id = |done: &&Done| done.account == account && done.request == request;
        let Some(done) = sale.done.iter().find(same_id) else { return Ok(None) };
        let same_body = match &done.command {
            None => self.flaw == Some(Flaw::FenceForgets),
            Some(earlier) => earlier == command || self.flaw == Some(Flaw::AnyBodyIsTheSame),
        };
        if matches!(command, Command::Fence { .. }) {
            return Ok(Some(done.outcome.clone()));
        }
        if !same_body {
            return Err(Refusal::KeyConflict);
        }
        if done.command.is_none() {
            return Ok(None);
        }
        match done.outcome {
            Outcome::Held { order, .. } if self.flaw == Some(Flaw::RepeatSaysNewDeadline) => {
                let expires_at = sale.orders[order.0 as usize - 1].deadline;
                Ok(Some(Outcome::Held { order, expires_at }))
            }
            _ => Ok(Some(done.outcome.clone())),
        }
    }

    fn try_execute(&mut self, command: &Command, now: TimeMs) -> Judged {
        match command {
            Command::DefineSale { sale, terms } => self.define_sale(*sale, *terms, now),
            Command::DefineItem { sale, item, terms } => {
                self.define_item(*sale, *item, *terms, now)
            }
            Command::Restock { sale, item, by, .. } => self.restock(*sale, *item, *by, now),
            Command::OpenSale { sale } => self.set_state(*sale, SaleState::Open, now),
            Command::PauseSale { sale } => self.set_state(*sale, SaleState::Paused, now),
            Command::CloseSale { sale } => self.set_state(*sale, SaleState::Closed, now),
            Command::ArchiveSale { sale } => self.archive(*sale, now),
            Command::Hold { intent, lines, ttl } => {
                let wanted = lines.as_slice().iter().map(|w| (w.line, w.price)).collect();
                self.new_order(*intent, wanted, NewOrder::Hold(*ttl), now)
            }
            Command::Buy { intent, lines, .. } => {
                let wanted = lines.as_slice().iter().map(|w| (w.line, w.price)).collect();
                self.new_order(*intent, wanted, NewOrder::Purchase, now)
            }
            Command::Confirm { intent, order, lines, .. } => {
                self.confirm(*intent, *order, lines.as_ref(), now)
            }
            Command::Release { intent, order } => self.release(*intent, *order, now),
            Command::Extend { intent, order } => self.extend(*intent, *order, now),
            Command::Cancel { intent, order, lines } => {
                self.cancel(*intent, *order, lines.as_ref(), now)
            }
            Command::Fence { intent } => self.fence(*intent),
        }
    }

    fn state_of(&self, sale: &Sale, now: TimeMs) -> SaleState {
        let closes = sale.terms.closes_at.unwrap_or(TimeMs(u64::MAX));
        let has_closed = if self.flaw == Some(Flaw::OpenWhenItCloses) {
            now > closes
        } else {
            now >= closes && sale.terms.closes_at.is_some()
        };
        if sale.state == SaleState::Archived {
            SaleState::Archived
        } else if sale.state == SaleState::Closed || has_closed {
            SaleState::Closed
        } else if sale.state == SaleState::Scheduled
            && sale.terms.opens_at.is_some_and(|opens| now >= opens)
        {
            SaleState::Open
        } else {
            sale.state
        }
    }

    fn change_of_terms(&self, sale: &Sale, now: TimeMs) -> Result<(), Refusal> {
        match self.state_of(sale, now) {
            SaleState::Scheduled => Ok(()),
            SaleState::Closed | SaleState::Archived => Err(Refusal::Closed),
            SaleState::Open | SaleState::Paused => bad(Field::Window),
        }
    }

    fn define_sale(&mut self, id: SaleId, terms: SaleTerms, now: TimeMs) -> Judged {
        if self.flaw == Some(Flaw::ArchiveFreesId)
            && self.sales.get(&id).is_some_and(|sale| sale.state == SaleState::Archived)
        {
            self.sales.remove(&id);
        }
        if let Some(sale) = self.sales.get(&id) {
            if sale.state == SaleState::Archived {
                return Err(Refusal::Closed);
            }
            if sale.terms == terms {
                return Ok(None);
            }
            self.change_of_terms(sale, now)?;
        }
        let SaleTerms { opens_at, closes_at, hold_ttl, account_limit } = terms;
        for time in [opens_at, closes_at].into_iter().flatten() {
            if time <= now {
                return bad(Field::Window);
            }
        }
        if let (Some(opens), Some(closes)) = (opens_at, closes_at)
            && opens >= closes
        {
            return bad(Field::Window);
        }
        if hold_ttl.0 < 1_000 || hold_ttl.0 > 604_800_000 {
            return bad(Field::Ttl);
        }
        if account_limit == Some(Quantity(0)) {
            return bad(Field::Limit);
        }
        let sale = self.sales.entry(id).or_insert(Sale {
            terms,
            state: SaleState::Scheduled,
            items: BTreeMap::new(),
            orders: Vec::new(),
            done: Vec::new(),
            lost: BTreeMap::new(),
        });
        sale.terms = terms;
        Ok(Some(Outcome::Done))
    }

    fn define_item(&mut self, id: SaleId, item: ItemId, terms: ItemTerms, now: TimeMs) -> Judged {
        let sale = self.sales.get(&id).ok_or(Refusal::NotFound)?;
        if sale.state == SaleState::Archived {
            return Err(Refusal::Closed);
        }
        if sale.items.get(&item) == Some(&terms) {
            return Ok(None);
        }
        self.change_of_terms(sale, now)?;
        if terms.capacity.0 > 1_000_000_000 {
            return bad(Field::Capacity);
        }
        if terms.account_limit == Some(Quantity(0)) {
            return bad(Field::Limit);
        }
        if sale.items.len() == 1024 && !sale.items.contains_key(&item) {
            return bad(Field::Items);
        }
        self.sales.get_mut(&id).unwrap().items.insert(item, terms);
        Ok(Some(Outcome::Done))
    }

    fn restock(&mut self, id: SaleId, item: ItemId, by: i64, now: TimeMs) -> Judged {
        let sale = self.sales.get(&id).ok_or(Refusal::NotFound)?;
        if self.state_of(sale, now) == SaleState::Closed {
            return Err(Refusal::Closed);
        }
        let Some(terms) = sale.items.get(&item) else { return bad(Field::Item) };
        if by == 0 {
            return bad(Field::Quantity);
        }
        let counts = self.counts(sale, item, now);
        let capacity = i128::from(terms.capacity.0) + i128::from(by);
        let taken = i128::from(counts.held.0 + counts.sold.0);
        if capacity < taken || capacity > 1_000_000_000 {
            return bad(Field::Capacity);
        }
        let items = &mut self.sales.get_mut(&id).unwrap().items;
        items.get_mut(&item).unwrap().capacity = Quantity(capacity as u32);
        Ok(Some(Outcome::Done))
    }

    fn set_state(&mut self, id: SaleId, to: SaleState, now: TimeMs) -> Judged {
        let sale = self.sales.get(&id).ok_or(Refusal::NotFound)?;
        match (self.state_of(sale, now), to) {
            (from, to) if from == to => return Ok(None),
            (SaleState::Archived, SaleState::Closed) => return Ok(None),
            (SaleState::Closed | SaleState::Archived, _) => return Err(Refusal::Closed),
            (SaleState::Scheduled, SaleState::Paused) => {
                return Err(Refusal::NotOpen { opens_at: sale.terms.opens_at });
            }
            _ => self.sales.get_mut(&id).unwrap().state = to,
        }
        Ok(Some(Outcome::Done))
    }

    fn archive(&mut self, id: SaleId, now: TimeMs) -> Judged {
        let sale = self.sales.get(&id).ok_or(Refusal::NotFound)?;
        let holds = sale.orders.iter().any(|order| order.state == OrderState::Held);
        match self.state_of(sale, now) {
            SaleState::Archived => return Ok(None),
            SaleState::Closed if holds && self.flaw != Some(Flaw::ArchiveWithHolds) => {
                return Err(Refusal::WrongState { state: OrderState::Held });
            }
            SaleState::Closed => self.sales.get_mut(&id).unwrap().state = SaleState::Archived,
            _ => return Err(Refusal::NotClosed),
        }
        Ok(Some(Outcome::Done))
    }

    /// What an account holds and owns; of one item, or of all.
    fn has(&self, sale: &Sale, account: AccountId, item: Option<ItemId>) -> u64 {
        let counts = |order: &&Order| match order.state {
            OrderState::Held | OrderState::Confirmed => true,
            OrderState::Released => self.flaw == Some(Flaw::ReleaseKeepsLimit),
            OrderState::Expired | OrderState::Cancelled => false,
        };
        let orders = sale.orders.iter().filter(|order| order.account == account).filter(counts);
        let lines = orders.flat_map(|order| &order.lines);
        lines
            .filter(|line| item.is_none_or(|item| item == line.item))
            .map(|line| u64::from(line.quantity.0))
            .sum()
    }

    fn limits(&self, sale: &Sale, account: AccountId, lines: &[Line]) -> Result<(), Refusal> {
        let all: u64 = lines.iter().map(|line| u64::from(line.quantity.0)).sum();
        if let Some(limit) = sale.terms.account_limit
            && self.has(sale, account, None) + all > u64::from(limit.0)
            && self.flaw != Some(Flaw::NoAccountLimit)
        {
            return Err(Refusal::AccountLimit);
        }
        for line in lines {
            if let Some(limit) = sale.items[&line.item].account_limit
                && self.has(sale, account, Some(line.item)) + u64::from(line.quantity.0)
                    > u64::from(limit.0)
                && self.flaw != Some(Flaw::NoItemLimit)
            {
                return Err(Refusal::AccountLimit);
            }
        }
        Ok(())
    }

    fn stock(&self, sale: &Sale, lines: &[Line], now: TimeMs) -> Result<(), Refusal> {
        let short: Vec<ItemCounts> = lines
            .iter()
            .map(|line| (line, self.counts(sale, line.item, now)))
            .filter(|(line, counts)| counts.available < line.quantity)
            .map(|(_, counts)| counts)
            .collect();
        let gone = |counts: &ItemCounts| counts.available.0 + counts.held.0 == 0;
        if short.iter().any(gone) {
            Err(Refusal::SoldOut)
        } else if short.is_empty() {
            Ok(())
        } else {
            Err(Refusal::NoneNow)
        }
    }

    /// A hold or a purchase.
    fn new_order(
        &mut self,
        intent: Intent,
        wanted: Vec<(Line, Option<boxoffice::model::Price>)>,
        order: NewOrder,
        now: TimeMs,
    ) -> Judged {
        let sale = &self.sales[&intent.sale];
        match self.state_of(sale, now) {
            SaleState::Open => {}
            SaleState::Paused => return Err(Refusal::Paused),
            SaleState::Closed | SaleState::Archived => return Err(Refusal::Closed),
            SaleState::Scheduled => {
                return Err(Refusal::NotOpen { opens_at: sale.terms.opens_at });
            }
        }
        let mut ttl = 0;
        if let NewOrder::Hold(asked) = order {
            ttl = asked.unwrap_or(sale.terms.hold_ttl).0;
            if !(1_000..=sale.terms.hold_ttl.0).contains(&ttl) {
                return bad(Field::Ttl);
            }
        }
        for (line, price) in &wanted {
            let Some(terms) = sale.items.get(&line.item) else { return bad(Field::Item) };
            if price.is_some_and(|seen| seen != terms.price) {
                return Err(Refusal::PriceMismatch);
            }
        }
        let lines: Vec<Line> = wanted.into_iter().map(|(line, _)| line).collect();
        if self.flaw == Some(Flaw::StockBeforeLimits) {
            self.stock(sale, &lines, now)?;
        }
        self.limits(sale, intent.account, &lines)?;
        self.stock(sale, &lines, now)?;
        let deadline = TimeMs((now.0 + u64::from(ttl)).min((1 << 48) - 1));
        let state = match order {
            NewOrder::Hold(_) => OrderState::Held,
            NewOrder::Purchase => OrderState::Confirmed,
        };
        let sale = self.sales.get_mut(&intent.sale).unwrap();
        let account = intent.account;
        sale.orders.push(Order { account, state, lines, deadline, extended: false });
        let number = OrderNumber(sale.orders.len() as u32);
        Ok(Some(match order {
            NewOrder::Hold(_) => Outcome::Held { order: number, expires_at: deadline },
            NewOrder::Purchase => Outcome::Confirmed { order: number },
        }))
    }

    /// The buyer's own order in the state that a command needs.
    fn own(
        &mut self,
        intent: Intent,
        number: OrderNumber,
        needs: OrderState,
        now: TimeMs,
    ) -> Result<&mut Order, Refusal> {
        let late = self.flaw == Some(Flaw::ConfirmAtDeadline);
        let orders = &mut self.sales.get_mut(&intent.sale).unwrap().orders;
        let place = (number.0 as usize).wrapping_sub(1);
        let order = orders.get_mut(place).ok_or(Refusal::NotFound)?;
        if order.account != intent.account {
            return Err(Refusal::Forbidden);
        }
        let is_up = order.deadline < now || order.deadline == now && !late;
        match order.state {
            OrderState::Expired => Err(Refusal::HoldExpired),
            OrderState::Held if is_up => Err(Refusal::HoldExpired),
            state if state == needs => Ok(order),
            state => Err(Refusal::WrongState { state }),
        }
    }

    fn confirm(
        &mut self,
        intent: Intent,
        number: OrderNumber,
        chosen: Option<&Lines>,
        now: TimeMs,
    ) -> Judged {
        let keeps_rest = self.flaw == Some(Flaw::PartialConfirmKeepsRest);
        let order = self.own(intent, number, OrderState::Held, now)?;
        let (taken, rest) = split(&order.lines, chosen)?;
        order.state = OrderState::Confirmed;
        order.lines = taken;
        if keeps_rest {
            self.lose(intent.sale, &rest);
        }
        Ok(Some(Outcome::Confirmed { order: number }))
    }

    fn release(&mut self, intent: Intent, number: OrderNumber, now: TimeMs) -> Judged {
        let order = self.own(intent, number, OrderState::Held, now)?;
        order.state = OrderState::Released;
        Ok(Some(Outcome::Released { order: number }))
    }

    fn extend(&mut self, intent: Intent, number: OrderNumber, now: TimeMs) -> Judged {
        let ttl = u64::from(self.sales[&intent.sale].terms.hold_ttl.0);
        let is_endless = self.flaw == Some(Flaw::ExtendForEver);
        let order = self.own(intent, number, OrderState::Held, now)?;
        if order.extended && !is_endless {
            return Err(Refusal::WrongState { state: OrderState::Held });
        }
        order.extended = true;
        order.deadline = TimeMs((now.0 + ttl).min((1 << 48) - 1));
        Ok(Some(Outcome::Extended { order: number, expires_at: order.deadline }))
    }

    fn cancel(
        &mut self,
        intent: Intent,
        number: OrderNumber,
        chosen: Option<&Lines>,
        now: TimeMs,
    ) -> Judged {
        let keeps_stock = self.flaw == Some(Flaw::CancelKeepsStock);
        let order = self.own(intent, number, OrderState::Confirmed, now)?;
        let (taken, rest) = split(&order.lines, chosen)?;
        if rest.is_empty() {
            order.state = OrderState::Cancelled;
        } else {
            order.lines = rest;
        }
        if keeps_stock {
            self.lose(intent.sale, &taken);
        }
        Ok(Some(Outcome::Cancelled { order: number }))
    }

    fn lose(&mut self, id: SaleId, lines: &[Line]) {
        let lost = &mut self.sales.get_mut(&id).unwrap().lost;
        for line in lines {
            *lost.entry(line.item).or_default() += line.quantity.0;
        }
    }

    fn fence(&mut self, intent: Intent) -> Judged {
        let sale = &self.sales[&intent.sale];
        let is_fence = |done: &&Done| done.account == intent.account && done.command.is_none();
        if sale.done.iter().filter(is_fence).count() >= 16 {
            return Err(Refusal::AccountLimit);
        }
        Ok(Some(Outcome::Fenced))
    }
}

/// The chosen part of an order's lines, and the rest.
fn split(has: &[Line], chosen: Option<&Lines>) -> Result<(Vec<Line>, Vec<Line>), Refusal> {
    let Some(chosen) = chosen else { return Ok((has.to_vec(), Vec::new())) };
    for line in chosen.as_slice() {
        if !has.iter().any(|own| own.item == line.item && own.quantity >= line.quantity) {
            return bad(Field::Lines);
        }
    }
    let of = |line: &Line| {
        chosen.as_slice().iter().find(|c| c.item == line.item).map_or(0, |c| c.quantity.0)
    };
    let part = |units: &dyn Fn(&Line) -> u32| -> Vec<Line> {
        let lines =
            has.iter().map(|line| Line { item: line.item, quantity: Quantity(units(line)) });
        lines.filter(|line| line.quantity.0 > 0).collect()
    };
    Ok((part(&of), part(&|line| line.quantity.0 - of(line))))
}
