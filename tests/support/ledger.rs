//! What buyers know about their own orders, and a checker that holds a server to it.
//!
//! Every request that was sent is written down before it goes out, and every answer when it
//! arrives. The checker asks the server about each of them and then computes, from the requests
//! that had an effect, what every order, every counter and every total must be: exactly, since a
//! request without an answer either had its effect or had none, and the server must say which.

use std::collections::BTreeMap;

use boxoffice::model::{
    Answer, Command, Intent, Line, OrderNumber, OrderState, Outcome, Query, Refusal, SaleId,
};
use boxoffice::protocol::binary::Request;

use crate::peer::{Got, Peer};

/// Requests in one write.
const CHUNK: usize = 500;

/// A request and what its sender knows of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was asked.
    pub command: Command,
    /// What was answered; `None` where the connection ended first.
    pub got: Option<Got>,
    /// What is known to have happened: by an answer, or because the server said so later.
    effect: Option<Outcome>,
}

impl Entry {
    /// A request that is about to be sent.
    pub fn new(command: Command) -> Self {
        Self { command, got: None, effect: None }
    }

    fn intent(&self) -> Intent {
        match &self.command {
            Command::Hold { intent, .. }
            | Command::Buy { intent, .. }
            | Command::Confirm { intent, .. }
            | Command::Release { intent, .. }
            | Command::Cancel { intent, .. } => *intent,
            other => panic!("no buyer sends {other:?}"),
        }
    }

    /// The answer arrived.
    pub fn answered(&mut self, got: Got) {
        self.effect = got.as_ref().ok().map(|answer| answer.outcome.clone());
        self.got = Some(got);
    }
}

/// The requests of all buyers.
#[derive(Debug, Default)]
pub struct Ledger {
    pub entries: Vec<Entry>,
}

/// An order as the ledger says that it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Expected {
    state: OrderState,
    lines: Vec<Line>,
}

type Orders = BTreeMap<(SaleId, OrderNumber), Expected>;

impl Ledger {
    /// Asks the server about every request from `start` on, and holds the whole of it to the
    /// books. Learns what became of the requests without an answer.
    pub fn check(&mut self, peer: &mut Peer, start: usize, sales: &[SaleId]) -> Result<(), String> {
        self.check_lookups(peer, start)?;
        self.check_totals(peer, sales)?;
        self.check_orders(peer)
    }

    /// What was acknowledged is known to the server, in the same words.
    fn check_lookups(&mut self, peer: &mut Peer, start: usize) -> Result<(), String> {
        for entries in self.entries[start..].chunks_mut(CHUNK) {
            let lookups: Vec<_> = entries
                .iter()
                .map(|entry| Request::Query(Query::Request { intent: entry.intent() }))
                .collect();
            for (entry, found) in entries.iter_mut().zip(peer.ask_all(&lookups)) {
                match (&entry.effect, found) {
                    (Some(effect), Ok(Answer { outcome, replayed: true }))
                        if *effect == outcome => {}
                    (None, Ok(Answer { outcome, replayed: true })) if entry.got.is_none() => {
                        entry.effect = Some(outcome);
                    }
                    (None, Err(Refusal::NotFound)) => {}
                    (_, found) => return Err(format!("{entry:?} is looked up as {found:?}")),
                }
            }
        }
        Ok(())
    }

    /// Asks for everything from `start` on a second time. What had its effect has it no more
    /// than once; what had none may have it now.
    pub fn resend(&mut self, peer: &mut Peer, start: usize) -> Result<(), String> {
        for entries in self.entries[start..].chunks_mut(CHUNK) {
            let requests: Vec<_> =
                entries.iter().map(|entry| Request::Command(entry.command.clone())).collect();
            for (entry, got) in entries.iter_mut().zip(peer.ask_all(&requests)) {
                match (&entry.effect, got) {
                    (Some(effect), Ok(Answer { outcome, replayed: true }))
                        if *effect == outcome => {}
                    (None, Ok(Answer { outcome, replayed: false })) => entry.effect = Some(outcome),
                    (None, Err(_)) => {}
                    (_, got) => return Err(format!("{entry:?} is answered again by {got:?}")),
                }
            }
        }
        Ok(())
    }

    /// What every order must be. A buyer asks for one end of an order at most.
    fn orders(&self) -> Result<Orders, String> {
        let mut orders = Orders::new();
        let effective = || self.entries.iter().filter(|entry| entry.effect.is_some());
        for entry in effective() {
            let (state, lines) = match &entry.command {
                Command::Hold { lines, .. } => (OrderState::Held, lines.lines()),
                Command::Buy { lines, .. } => (OrderState::Confirmed, lines.lines()),
                _ => continue,
            };
            let Some(Outcome::Held { order, .. } | Outcome::Confirmed { order }) = entry.effect
            else {
                return Err(format!("{entry:?} made no order"));
            };
            let expected = Expected { state, lines: lines.as_slice().to_vec() };
            if orders.insert((entry.intent().sale, order), expected).is_some() {
                return Err(format!("order {order} was made twice, by {entry:?} as well"));
            }
        }
        for entry in effective() {
            let (order, state) = match &entry.command {
                Command::Confirm { order, .. } => (*order, OrderState::Confirmed),
                Command::Release { order, .. } => (*order, OrderState::Released),
                Command::Cancel { order, .. } => (*order, OrderState::Cancelled),
                _ => continue,
            };
            let known = orders.get_mut(&(entry.intent().sale, order));
            known.ok_or_else(|| format!("{entry:?} is about no order"))?.state = state;
        }
        Ok(orders)
    }

    /// Units and orders add up, to the last one.
    fn check_totals(&self, peer: &mut Peer, sales: &[SaleId]) -> Result<(), String> {
        let orders = self.orders()?;
        for &sale in sales {
            let own = || orders.iter().filter(move |((of, _), _)| *of == sale).map(|(_, own)| own);
            let stats = peer.stats(sale);
            if stats.orders as usize != own().count() {
                return Err(format!("{} orders of {sale}, not {stats:?}", own().count()));
            }
            for item in peer.availability(sale) {
                let units = |state: OrderState| -> u32 {
                    own()
                        .filter(|order| order.state == state)
                        .flat_map(|order| &order.lines)
                        .filter(|line| line.item == item.item)
                        .map(|line| line.quantity.0)
                        .sum()
                };
                let (held, sold) = (units(OrderState::Held), units(OrderState::Confirmed));
                let sum = item.available.0 + item.held.0 + item.sold.0;
                if (item.held.0, item.sold.0, item.capacity.0) != (held, sold, sum) {
                    return Err(format!("{held} held and {sold} sold, not {item:?}"));
                }
            }
        }
        Ok(())
    }

    fn check_orders(&self, peer: &mut Peer) -> Result<(), String> {
        let orders: Vec<_> = self.orders()?.into_iter().collect();
        for orders in orders.chunks(CHUNK) {
            let queries: Vec<_> = orders
                .iter()
                .map(|((sale, order), _)| {
                    Request::Query(Query::Order { sale: *sale, order: *order })
                })
                .collect();
            for ((number, expected), got) in orders.iter().zip(peer.ask_all(&queries)) {
                let Ok(Answer { outcome: Outcome::Order(view), .. }) = got else {
                    return Err(format!("{number:?} should be {expected:?}: {got:?}"));
                };
                if (view.state, &view.lines) != (expected.state, &expected.lines) {
                    return Err(format!("{number:?} should be {expected:?}: {view:?}"));
                }
            }
        }
        Ok(())
    }
}
