//! What the rush asked for and what it was answered: the customer's side of the books.
//!
//! It shares nothing with the server. Each buyer has one intent or two (a hold and what becomes
//! of it), each under a request id that is derived, so that it can be asked again after a crash.

use std::collections::HashMap;

use crate::load::Nanos;
use crate::model::{
    AccountId, DurationMs, Intent, ItemId, Line, OrderNumber, Outcome, Quantity, RequestId, SaleId,
    TimeMs,
};

/// How long a hold lives in the demo.
pub(super) const HOLD_TTL: DurationMs = DurationMs(2_000);

/// The most units of one account.
pub(super) const ACCOUNT_LIMIT: Quantity = Quantity(8);

/// Items of the sale; the first ones are those that four of five buyers want.
pub(super) const ITEMS: u32 = 8;
pub(super) const HOT_ITEMS: u32 = 2;

/// The most lines of a buyer's basket.
pub(super) const BASKET_LINES_MAX: usize = 2;

/// What a buyer is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Buys at once.
    Buy,
    /// Holds, then confirms.
    Confirm,
    /// Holds, then gives back.
    Release,
    /// Holds, and forgets about it.
    Abandon,
}

/// A buyer's first or second intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The hold or the purchase.
    First,
    /// The confirmation or the release.
    Second,
}

/// An acknowledged answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Held { order: OrderNumber, expires_at: TimeMs },
    Confirmed { order: OrderNumber },
    Released { order: OrderNumber },
}

/// What is known of an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was never sent.
    Nothing,
    /// It was sent. Without an answer, either may be true.
    Asked,
    /// It was refused the last time.
    Refused,
    /// It was done.
    Done(Fact),
}

/// A buyer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buyer {
    pub account: AccountId,
    pub plan: Plan,
    basket: [Line; BASKET_LINES_MAX],
    lines: u8,
    pub first: Known,
    pub second: Known,
    /// When the first grant of the hold or the purchase was heard.
    pub granted_at: Nanos,
}

/// All buyers, and what contradicts itself.
#[derive(Debug)]
pub(super) struct Ledger {
    pub seed: u64,
    pub buyers: Vec<Buyer>,
    /// Answers to one request id that differ.
    pub contradictions: u64,
    capacities: Vec<(ItemId, Quantity)>,
}

impl Fact {
    /// The fact behind an outcome of the demo's commands.
    pub(super) fn of(outcome: &Outcome) -> Option<Self> {
        match *outcome {
            Outcome::Held { order, expires_at } => Some(Self::Held { order, expires_at }),
            Outcome::Confirmed { order } => Some(Self::Confirmed { order }),
            Outcome::Released { order } => Some(Self::Released { order }),
            _ => None,
        }
    }

    pub(super) const fn order(self) -> OrderNumber {
        match self {
            Self::Held { order, .. } | Self::Confirmed { order } | Self::Released { order } => {
                order
            }
        }
    }
}

impl Buyer {
    pub(super) fn new(account: AccountId, plan: Plan, basket: &[Line]) -> Self {
        let mut lines = [basket[0]; BASKET_LINES_MAX];
        lines[..basket.len()].copy_from_slice(basket);
        let count = basket.len() as u8;
        Self {
            account,
            plan,
            basket: lines,
            lines: count,
            first: Known::Nothing,
            second: Known::Nothing,
            granted_at: Nanos::MAX,
        }
    }

    pub(super) fn basket(&self) -> &[Line] {
        &self.basket[..usize::from(self.lines)]
    }

    pub(super) fn units(&self) -> u64 {
        self.basket().iter().map(|line| u64::from(line.quantity.0)).sum()
    }

    pub(super) const fn known(&mut self, step: Step) -> &mut Known {
        match step {
            Step::First => &mut self.first,
            Step::Second => &mut self.second,
        }
    }

    /// Whether the buyer was told to own the basket.
    pub(super) const fn owns(&self) -> bool {
        matches!(self.first, Known::Done(Fact::Confirmed { .. }))
            || matches!(self.second, Known::Done(Fact::Confirmed { .. }))
    }
}

impl Ledger {
    pub(super) fn new(seed: u64, capacities: &[(ItemId, Quantity)]) -> Self {
        Self { seed, buyers: Vec::new(), contradictions: 0, capacities: capacities.to_vec() }
    }

    /// The request of a buyer's step.
    pub(super) fn intent(&self, sale: SaleId, buyer: usize, step: Step) -> Intent {
        let number = (buyer as u128) << 1 | u128::from(step == Step::Second);
        let request = RequestId(u128::from(self.seed) << 64 | number);
        Intent { sale, account: self.buyers[buyer].account, request }
    }

    /// Units sold of each item, as buyers were told.
    pub(super) fn sold(&self) -> HashMap<ItemId, u64> {
        let mut sold: HashMap<ItemId, u64> =
            self.capacities.iter().map(|(item, _)| (*item, 0)).collect();
        for line in self.buyers.iter().filter(|buyer| buyer.owns()).flat_map(Buyer::basket) {
            *sold.entry(line.item).or_default() += u64::from(line.quantity.0);
        }
        sold
    }

    /// Accounts that were told to own more than the limit.
    pub(super) fn accounts_over_limit(&self) -> u64 {
        let mut owned: HashMap<AccountId, u64> = HashMap::new();
        for buyer in self.buyers.iter().filter(|buyer| buyer.owns()) {
            *owned.entry(buyer.account).or_default() += buyer.units();
        }
        owned.values().filter(|units| **units > u64::from(ACCOUNT_LIMIT.0)).count() as u64
    }

    /// Order numbers that two buyers were told to have.
    pub(super) fn orders_given_twice(&self) -> u64 {
        let mut orders: Vec<u32> = self
            .buyers
            .iter()
            .filter_map(|buyer| match buyer.first {
                Known::Done(fact) => Some(fact.order().0),
                _ => None,
            })
            .collect();
        orders.sort_unstable();
        orders.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64
    }

    /// Intents that were sent and never answered.
    pub(super) fn unanswered(&self) -> u64 {
        let steps = self.buyers.iter().flat_map(|buyer| [buyer.first, buyer.second]);
        steps.filter(|known| *known == Known::Asked).count() as u64
    }
}
