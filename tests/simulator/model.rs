//! The judge's own idea of a sale: what the rules of the interface say, and nothing else.
//!
//! A [`Sale`] is the list of its orders and of the requests that were executed. Counters, limits
//! and answers are counted from those lists each time. It shares no code with the engine.

use std::collections::BTreeMap;

use boxoffice::model::{
    AccountId, Command, Field, ItemCounts, ItemId, ItemTerms, Line, OrderNumber, OrderState,
    OrderView, Outcome, Quantity, Refusal, RequestId, SaleState, SaleStats, SaleTerms, TimeMs,
};

use crate::front::Front;

/// What a command should get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is to be executed.
    New,
    /// It is so already, or was answered so.
    Again(Outcome),
    No(Refusal),
}

#[derive(Clone, Debug)]
pub struct Order {
    pub account: AccountId,
    pub state: OrderState,
    pub lines: Vec<Line>,
    pub deadline: TimeMs,
    pub extended: bool,
}

/// A request that was executed; a fence has no command.
#[derive(Clone, Debug)]
pub struct Done {
    pub command: Option<Command>,
    pub outcome: Outcome,
    /// The front over which somebody was told last.
    pub told_by: Option<Front>,
    /// Whether somebody was told that it was executed, and not that it had been.
    pub was_first: bool,
    /// Its place in the shard's log, from 1.
    pub lsn: u64,
}

#[derive(Clone, Debug)]
pub struct Sale {
    pub terms: SaleTerms,
    /// As it was logged.
    pub state: SaleState,
    pub items: BTreeMap<ItemId, ItemTerms>,
    pub orders: Vec<Order>,
    pub done: BTreeMap<(AccountId, RequestId), Done>,
    /// How often it was changed.
    pub version: u64,
    /// Of an archived sale.
    pub last_stats: Option<SaleStats>,
}

fn no(field: Field) -> Verdict {
    Verdict::No(Refusal::BadRequest { field })
}

/// What a command should get in a shard that has this sale or does not.
pub fn verdict(sale: Option<&Sale>, command: &Command, now: TimeMs) -> Verdict {
    match (sale, command) {
        (None, Command::DefineSale { terms, .. }) => are_good(terms, now),
        (None, _) => Verdict::No(Refusal::NotFound),
        (Some(sale), _) => sale.verdict(command, now),
    }
}

/// Whether a sale can be put up on these terms; those that are never asked for are not judged.
fn are_good(terms: &SaleTerms, now: TimeMs) -> Verdict {
    let is_past = |time: Option<TimeMs>| time.is_some_and(|time| time <= now);
    if is_past(terms.opens_at) || is_past(terms.closes_at) {
        no(Field::Window)
    } else {
        Verdict::New
    }
}

impl Sale {
    pub fn new(terms: SaleTerms) -> Self {
        Self {
            terms,
            state: SaleState::Scheduled,
            items: BTreeMap::new(),
            orders: Vec::new(),
            done: BTreeMap::new(),
            version: 0,
            last_stats: None,
        }
    }

    pub fn state_at(&self, now: TimeMs) -> SaleState {
        match self.state {
            SaleState::Closed | SaleState::Archived => self.state,
            _ if self.terms.closes_at.is_some_and(|closes| closes <= now) => SaleState::Closed,
            SaleState::Scheduled if self.terms.opens_at.is_some_and(|opens| opens <= now) => {
                SaleState::Open
            }
            state => state,
        }
    }

    fn verdict(&self, command: &Command, now: TimeMs) -> Verdict {
        if self.state == SaleState::Archived {
            return match command {
                Command::CloseSale { .. } | Command::ArchiveSale { .. } => {
                    Verdict::Again(Outcome::Done)
                }
                _ => Verdict::No(Refusal::Closed),
            };
        }
        if let Some(done) = command.request().and_then(|key| self.done.get(&key)) {
            return match (&done.command, command) {
                (_, Command::Fence { .. }) => Verdict::Again(done.outcome.clone()),
                (Some(earlier), _) if earlier == command => Verdict::Again(done.outcome.clone()),
                _ => Verdict::No(Refusal::KeyConflict),
            };
        }
        match command {
            Command::DefineSale { terms, .. } if *terms == self.terms => {
                Verdict::Again(Outcome::Done)
            }
            Command::DefineItem { item, terms, .. } if self.items.get(item) == Some(terms) => {
                Verdict::Again(Outcome::Done)
            }
            Command::DefineSale { terms, .. } => match self.may_define(now) {
                Verdict::New => are_good(terms, now),
                verdict => verdict,
            },
            Command::DefineItem { .. } => self.may_define(now),
            Command::Restock { item, by, .. } => self.may_restock(*item, *by, now),
            Command::OpenSale { .. } => self.may_become(SaleState::Open, now),
            Command::PauseSale { .. } => self.may_become(SaleState::Paused, now),
            Command::CloseSale { .. } => self.may_become(SaleState::Closed, now),
            Command::ArchiveSale { .. } => self.may_archive(now),
            Command::Hold { intent, lines, ttl } => {
                let longest = self.terms.hold_ttl;
                let is_good = ttl.is_none_or(|ttl| ttl.0 >= 1_000 && ttl <= longest);
                let wanted = lines.lines();
                self.may_take(intent.account, wanted.as_slice(), now, is_good)
            }
            Command::Buy { intent, lines, .. } => {
                self.may_take(intent.account, lines.lines().as_slice(), now, true)
            }
            Command::Confirm { intent, order, lines, .. } => {
                let lines = lines.as_ref().map_or(&[][..], |lines| lines.as_slice());
                self.may_touch(intent.account, *order, OrderState::Held, lines, now)
            }
            Command::Release { intent, order } => {
                self.may_touch(intent.account, *order, OrderState::Held, &[], now)
            }
            Command::Extend { intent, order } => {
                let verdict = self.may_touch(intent.account, *order, OrderState::Held, &[], now);
                let extended = self.order(*order).is_some_and(|order| order.extended);
                match verdict {
                    Verdict::New if extended => {
                        Verdict::No(Refusal::WrongState { state: OrderState::Held })
                    }
                    verdict => verdict,
                }
            }
            Command::Cancel { intent, order, lines } => {
                let lines = lines.as_ref().map_or(&[][..], |lines| lines.as_slice());
                self.may_touch(intent.account, *order, OrderState::Confirmed, lines, now)
            }
            Command::Fence { intent } => self.may_fence(intent.account),
        }
    }

    fn may_define(&self, now: TimeMs) -> Verdict {
        match self.state_at(now) {
            SaleState::Scheduled if self.orders.is_empty() => Verdict::New,
            SaleState::Closed => Verdict::No(Refusal::Closed),
            _ => no(Field::Window),
        }
    }

    fn may_restock(&self, item: ItemId, by: i64, now: TimeMs) -> Verdict {
        if self.state_at(now) == SaleState::Closed {
            return Verdict::No(Refusal::Closed);
        }
        let Some(terms) = self.items.get(&item) else { return no(Field::Item) };
        let counts = self.counts(item);
        let left = i64::from(terms.capacity.0) + by;
        if by == 0 {
            no(Field::Quantity)
        } else if left < i64::from(counts.held.0 + counts.sold.0) || left > 1_000_000_000 {
            no(Field::Capacity)
        } else {
            Verdict::New
        }
    }

    fn may_become(&self, wanted: SaleState, now: TimeMs) -> Verdict {
        match (self.state_at(now), wanted) {
            (is, wanted) if is == wanted => Verdict::Again(Outcome::Done),
            (SaleState::Closed, _) => Verdict::No(Refusal::Closed),
            (SaleState::Scheduled, SaleState::Paused) => {
                Verdict::No(Refusal::NotOpen { opens_at: self.terms.opens_at })
            }
            _ => Verdict::New,
        }
    }

    fn may_archive(&self, now: TimeMs) -> Verdict {
        let is_held = self.orders.iter().any(|order| order.state == OrderState::Held);
        match self.state_at(now) {
            SaleState::Closed if is_held => {
                Verdict::No(Refusal::WrongState { state: OrderState::Held })
            }
            SaleState::Closed => Verdict::New,
            _ => Verdict::No(Refusal::NotClosed),
        }
    }

    fn may_take(&self, account: AccountId, lines: &[Line], now: TimeMs, ttl: bool) -> Verdict {
        match self.state_at(now) {
            SaleState::Open => {}
            SaleState::Scheduled => {
                return Verdict::No(Refusal::NotOpen { opens_at: self.terms.opens_at });
            }
            SaleState::Paused => return Verdict::No(Refusal::Paused),
            SaleState::Closed | SaleState::Archived => return Verdict::No(Refusal::Closed),
        }
        if !ttl {
            return no(Field::Ttl);
        }
        if lines.iter().any(|line| !self.items.contains_key(&line.item)) {
            return no(Field::Item);
        }
        let wanted: u32 = lines.iter().map(|line| line.quantity.0).sum();
        let is_beyond = |limit: Option<Quantity>, units: u32| limit.is_some_and(|l| units > l.0);
        if is_beyond(self.terms.account_limit, self.has(account, None) + wanted)
            || lines.iter().any(|line| {
                let units = self.has(account, Some(line.item)) + line.quantity.0;
                is_beyond(self.items[&line.item].account_limit, units)
            })
        {
            return Verdict::No(Refusal::AccountLimit);
        }
        let short = lines.iter().map(|line| (line, self.counts(line.item)));
        let short: Vec<_> = short.filter(|(line, has)| line.quantity > has.available).collect();
        if short.iter().any(|(_, has)| has.available.0 == 0 && has.held.0 == 0) {
            Verdict::No(Refusal::SoldOut)
        } else if short.is_empty() {
            Verdict::New
        } else {
            Verdict::No(Refusal::NoneNow)
        }
    }

    fn may_touch(
        &self,
        account: AccountId,
        number: OrderNumber,
        wanted: OrderState,
        lines: &[Line],
        now: TimeMs,
    ) -> Verdict {
        let Some(order) = self.order(number) else { return Verdict::No(Refusal::NotFound) };
        let state = order.state_at(now);
        if order.account != account {
            return Verdict::No(Refusal::Forbidden);
        }
        if state == OrderState::Expired {
            return Verdict::No(Refusal::HoldExpired);
        }
        if state != wanted {
            return Verdict::No(Refusal::WrongState { state });
        }
        let has = |line: &Line| {
            order.lines.iter().any(|has| has.item == line.item && has.quantity >= line.quantity)
        };
        if lines.iter().all(has) { Verdict::New } else { no(Field::Lines) }
    }

    fn may_fence(&self, account: AccountId) -> Verdict {
        let of_account = self.done.range((account, RequestId(0))..=(account, RequestId(u128::MAX)));
        let fences = of_account.filter(|(_, done)| done.command.is_none()).count();
        if fences < 16 { Verdict::New } else { Verdict::No(Refusal::AccountLimit) }
    }

    pub fn order(&self, number: OrderNumber) -> Option<&Order> {
        self.orders.get((number.0 as usize).checked_sub(1)?)
    }

    fn has(&self, account: AccountId, item: Option<ItemId>) -> u32 {
        let live = |order: &&Order| {
            order.account == account
                && matches!(order.state, OrderState::Held | OrderState::Confirmed)
        };
        let lines = self.orders.iter().filter(live).flat_map(|order| &order.lines);
        lines.filter(|line| item.is_none_or(|item| item == line.item)).map(|l| l.quantity.0).sum()
    }

    /// The counters of an item, counted.
    pub fn counts(&self, item: ItemId) -> ItemCounts {
        let terms = self.items[&item];
        let units = |state: OrderState| -> u32 {
            let orders = self.orders.iter().filter(|order| order.state == state);
            let lines = orders.flat_map(|order| &order.lines).filter(|line| line.item == item);
            lines.map(|line| line.quantity.0).sum()
        };
        let (held, sold) = (units(OrderState::Held), units(OrderState::Confirmed));
        let available = terms.capacity.0.checked_sub(held + sold);
        let available = available.unwrap_or_else(|| {
            panic!("OVERSOLD: item {item} has {held} held and {sold} sold of {}", terms.capacity)
        });
        ItemCounts {
            item,
            price: terms.price,
            account_limit: terms.account_limit,
            capacity: terms.capacity,
            available: Quantity(available),
            held: Quantity(held),
            sold: Quantity(sold),
        }
    }

    pub fn availability(&self) -> Vec<ItemCounts> {
        self.items.keys().map(|item| self.counts(*item)).collect()
    }

    pub fn view(&self, number: OrderNumber, now: TimeMs) -> Option<OrderView> {
        let order = self.order(number)?;
        let state = order.state_at(now);
        Some(OrderView {
            order: number,
            account: order.account,
            state,
            expires_at: (state == OrderState::Held).then_some(order.deadline),
            lines: order.lines.clone(),
        })
    }

    pub fn stats(&self, now: TimeMs) -> SaleStats {
        if let Some(last) = self.last_stats {
            return last;
        }
        let in_state = |state| self.orders.iter().filter(|order| order.state == state).count();
        let orders_in = |state| in_state(state) as u32;
        let counts = self.availability();
        let sum = |units: fn(&ItemCounts) -> Quantity| -> u64 {
            counts.iter().map(|counts| u64::from(units(counts).0)).sum()
        };
        let mut accounts: Vec<_> = self.orders.iter().map(|order| order.account).collect();
        let fences = self.done.iter().filter(|(_, done)| done.command.is_none());
        accounts.extend(fences.map(|((account, _), _)| *account));
        accounts.sort_unstable();
        accounts.dedup();
        SaleStats {
            state: self.state_at(now),
            terms: self.terms,
            items: self.items.len() as u32,
            orders: self.orders.len() as u32,
            orders_held: orders_in(OrderState::Held),
            orders_confirmed: orders_in(OrderState::Confirmed),
            orders_released: orders_in(OrderState::Released),
            orders_expired: orders_in(OrderState::Expired),
            orders_cancelled: orders_in(OrderState::Cancelled),
            accounts: accounts.len() as u32,
            capacity: sum(|counts| counts.capacity),
            available: sum(|counts| counts.available),
            held: sum(|counts| counts.held),
            sold: sum(|counts| counts.sold),
        }
    }
}

impl Order {
    pub fn state_at(&self, now: TimeMs) -> OrderState {
        if self.state == OrderState::Held && self.deadline <= now {
            OrderState::Expired
        } else {
            self.state
        }
    }
}
