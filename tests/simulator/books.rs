//! The books of one shard: its log, entered record by record, each held against the rules.
//!
//! A record is right where somebody asked for it, where the model says that it was to be executed
//! at its time, and where it says what the model would have said. Whatever else is in a log is a
//! violation, and ends the run.

use std::collections::BTreeMap;

use boxoffice::model::record::RecordLines;
use boxoffice::model::{
    AccountId, Command, Line, Lines, OrderNumber, OrderState, Outcome, Quantity, Record, RequestId,
    SaleId, SaleState, TimeMs,
};

use crate::model::{Done, Order, Sale, Verdict, verdict};

/// Everything that was ever asked for.
#[derive(Default)]
pub struct Asked {
    by_request: BTreeMap<(SaleId, AccountId, RequestId), Vec<Command>>,
    without_request: Vec<Command>,
}

impl Asked {
    pub fn add(&mut self, command: &Command) {
        let list = match command.request() {
            Some((account, request)) => {
                self.by_request.entry((command.sale(), account, request)).or_default()
            }
            None => &mut self.without_request,
        };
        if !list.contains(command) {
            list.push(command.clone());
        }
    }

    fn of(&self, sale: SaleId, account: AccountId, request: RequestId) -> &[Command] {
        self.by_request.get(&(sale, account, request)).map_or(&[], Vec::as_slice)
    }
}

/// The sales of one shard as its log says.
#[derive(Clone, Default)]
pub struct Books {
    pub sales: BTreeMap<SaleId, Sale>,
    /// The time of the last record.
    pub time: TimeMs,
}

impl Books {
    pub fn sale(&self, sale: SaleId) -> Option<&Sale> {
        self.sales.get(&sale)
    }

    /// Enters the record of this LSN.
    pub fn enter(&mut self, lsn: u64, time: TimeMs, record: &Record, asked: &Asked) {
        assert!(time >= self.time, "TIME RAN BACK in the log: {time} behind {}", self.time);
        self.time = time;
        let command = self.cause(time, record, asked);
        if let Record::SaleDefined(defined) = record {
            let sale = self.sales.entry(defined.sale);
            sale.or_insert_with(|| Sale::new(defined.terms)).terms = defined.terms;
        }
        let sale = self.sales.get_mut(&record.sale()).expect("its cause was judged");
        let outcome = sale.carry_out(record);
        sale.version += 1;
        let key = command.as_ref().and_then(Command::request);
        if let (Some(key), Some(outcome)) = (key, outcome) {
            let command = command.filter(|command| !matches!(command, Command::Fence { .. }));
            let done = Done { command, outcome, told_by: None, was_first: false, lsn };
            assert!(sale.done.insert(key, done).is_none(), "EXECUTED TWICE: {record:?}");
        }
        for item in sale.items.keys() {
            sale.counts(*item);
        }
    }

    /// The command that the record executes; none of an expiry.
    fn cause(&self, time: TimeMs, record: &Record, asked: &Asked) -> Option<Command> {
        let sale = self.sale(record.sale());
        if let Record::Expired(expired) = record {
            let order = sale.and_then(|sale| sale.order(expired.order));
            let order = order.unwrap_or_else(|| panic!("INVENTED: {record:?}"));
            assert!(order.state == OrderState::Held, "A HOLD ENDS TWICE: {record:?}: {order:?}");
            assert!(order.deadline <= time, "EXPIRED EARLY at {time}: {record:?}: {order:?}");
            return None;
        }
        let candidates = match origin(record) {
            Some((account, request)) => asked.of(record.sale(), account, request),
            None => asked.without_request.as_slice(),
        };
        let fits = |command: &&Command| {
            command.sale() == record.sale() && is_effect(sale, command, record, time)
        };
        let command = candidates.iter().find(fits);
        let command = command
            .unwrap_or_else(|| panic!("INVENTED: {record:?} at {time}; asked: {candidates:?}"));
        let right = verdict(sale, command, time);
        assert!(right == Verdict::New, "WRONG: {record:?} at {time} should be {right:?}");
        Some(command.clone())
    }
}

fn origin(record: &Record) -> Option<(AccountId, RequestId)> {
    let origin = match record {
        Record::Restocked(record) => &record.origin,
        Record::Held(record) => &record.origin,
        Record::Bought(record) => &record.origin,
        Record::Confirmed(record) => &record.origin,
        Record::Released(record) => &record.origin,
        Record::Extended(record) => &record.origin,
        Record::Cancelled(record) => &record.origin,
        Record::Fenced(record) => return Some((record.account, record.request)),
        _ => return None,
    };
    Some((origin.account, origin.request))
}

/// Whether the record says what the command makes happen.
fn is_effect(sale: Option<&Sale>, command: &Command, record: &Record, time: TimeMs) -> bool {
    let next = OrderNumber(sale.map_or(0, |sale| sale.orders.len()) as u32 + 1);
    let longest = sale.map(|sale| sale.terms.hold_ttl).unwrap_or_default();
    let are = |lines: Option<&[Line]>, logged: &RecordLines| lines.unwrap_or(&[]) == &logged[..];
    match (command, record) {
        (Command::DefineSale { terms, .. }, Record::SaleDefined(record)) => *terms == record.terms,
        (Command::DefineItem { item, terms, .. }, Record::ItemDefined(record)) => {
            (*item, *terms) == (record.item, record.terms)
        }
        (Command::Restock { item, by, .. }, Record::Restocked(record)) => {
            (*item, *by) == (record.item, record.by)
        }
        (Command::OpenSale { .. }, Record::SaleStateSet(set)) => set.state == SaleState::Open,
        (Command::PauseSale { .. }, Record::SaleStateSet(set)) => set.state == SaleState::Paused,
        (Command::CloseSale { .. }, Record::SaleStateSet(set)) => set.state == SaleState::Closed,
        (Command::ArchiveSale { .. }, Record::SaleArchived(_)) => true,
        (Command::Hold { lines, ttl, .. }, Record::Held(held)) => {
            let expires_at = time.after(ttl.unwrap_or(longest));
            are(Some(lines.lines().as_slice()), &held.lines)
                && (held.order, held.expires_at) == (next, expires_at)
        }
        (Command::Buy { lines, payment, .. }, Record::Bought(bought)) => {
            are(Some(lines.lines().as_slice()), &bought.lines)
                && (bought.order, &bought.payment) == (next, payment)
        }
        (Command::Confirm { order, payment, lines, .. }, Record::Confirmed(confirmed)) => {
            are(lines.as_ref().map(Lines::as_slice), &confirmed.lines)
                && (confirmed.order, &confirmed.payment) == (*order, payment)
        }
        (Command::Release { order, .. }, Record::Released(released)) => released.order == *order,
        (Command::Extend { order, .. }, Record::Extended(extended)) => {
            (extended.order, extended.expires_at) == (*order, time.after(longest))
        }
        (Command::Cancel { order, lines, .. }, Record::Cancelled(cancelled)) => {
            are(lines.as_ref().map(Lines::as_slice), &cancelled.lines) && cancelled.order == *order
        }
        (Command::Fence { .. }, Record::Fenced(_)) => true,
        _ => false,
    }
}

impl Sale {
    /// Does what a record says; what its request is answered, where it has one.
    fn carry_out(&mut self, record: &Record) -> Option<Outcome> {
        let state = OrderState::Confirmed;
        match record {
            Record::SaleDefined(_) => {}
            Record::ItemDefined(defined) => {
                self.items.insert(defined.item, defined.terms);
            }
            Record::SaleStateSet(set) => self.state = set.state,
            Record::SaleArchived(_) => {
                self.state = SaleState::Archived;
                self.last_stats = Some(self.stats(TimeMs(0)));
            }
            Record::Restocked(restocked) => {
                let terms = self.items.get_mut(&restocked.item).expect("it was judged");
                let capacity = i64::from(terms.capacity.0) + restocked.by;
                terms.capacity = Quantity(u32::try_from(capacity).expect("it was judged"));
                return Some(Outcome::Done);
            }
            Record::Held(held) => {
                let expires_at = held.expires_at;
                self.add(held.origin.account, OrderState::Held, &held.lines, expires_at);
                return Some(Outcome::Held { order: held.order, expires_at });
            }
            Record::Bought(bought) => {
                self.add(bought.origin.account, state, &bought.lines, TimeMs(0));
                return Some(Outcome::Confirmed { order: bought.order });
            }
            Record::Confirmed(confirmed) => {
                let order = self.order_mut(confirmed.order);
                order.state = state;
                if !confirmed.lines.is_empty() {
                    let chosen = |line: &Line| units(&confirmed.lines, *line);
                    order.lines = order.lines.iter().filter_map(chosen).collect();
                }
                return Some(Outcome::Confirmed { order: confirmed.order });
            }
            Record::Released(released) => {
                self.order_mut(released.order).state = OrderState::Released;
                return Some(Outcome::Released { order: released.order });
            }
            Record::Extended(extended) => {
                let expires_at = extended.expires_at;
                let order = self.order_mut(extended.order);
                (order.deadline, order.extended) = (expires_at, true);
                return Some(Outcome::Extended { order: extended.order, expires_at });
            }
            Record::Cancelled(cancelled) => {
                self.cancel(cancelled.order, &cancelled.lines);
                return Some(Outcome::Cancelled { order: cancelled.order });
            }
            Record::Expired(expired) => {
                self.order_mut(expired.order).state = OrderState::Expired;
            }
            Record::Fenced(_) => return Some(Outcome::Fenced),
        }
        None
    }

    fn add(&mut self, account: AccountId, state: OrderState, lines: &[Line], deadline: TimeMs) {
        let lines = lines.to_vec();
        self.orders.push(Order { account, state, lines, deadline, extended: false });
    }

    fn order_mut(&mut self, number: OrderNumber) -> &mut Order {
        &mut self.orders[number.0 as usize - 1]
    }

    /// What is left of an order whose lines are all cancelled is what it had last.
    fn cancel(&mut self, number: OrderNumber, lines: &[Line]) {
        let order = self.order_mut(number);
        let mut left = Vec::new();
        for line in &order.lines {
            let cancelled = units(lines, *line).map_or(0, |line| line.quantity.0);
            if line.quantity.0 > cancelled {
                left.push(Line { quantity: Quantity(line.quantity.0 - cancelled), ..*line });
            }
        }
        if lines.is_empty() || left.is_empty() {
            order.state = OrderState::Cancelled;
        } else {
            order.lines = left;
        }
    }
}

/// The line of the same item.
fn units(lines: &[Line], of: Line) -> Option<Line> {
    lines.iter().copied().find(|line| line.item == of.item)
}
