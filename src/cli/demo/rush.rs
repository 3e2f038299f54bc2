//! The rush: buyers, bots and second thoughts, as a script of the load driver.
//!
//! Four of five want a hot item; some are greedy accounts that ask again and again; one in ten
//! sends everything twice under the same request id; some hold and confirm, some give back, some
//! forget. What was lost in a crash is asked again under the same request id.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

use super::ledger::{Buyer, Fact, HOT_ITEMS, ITEMS, Known, Ledger, Plan, Step};
use crate::load::{Answered, Ask, Broken, Nanos, Planned, Script, Tag, Tally, Window};
use crate::model::{
    AccountId, Command, Intent, ItemId, Line, PaymentRef, Quantity, Query, Refusal, RequestId,
    SaleId, Wanted, WantedLine,
};
use crate::runtime::{Clock, SystemClock};

/// How long a buyer thinks between the hold and what becomes of it.
const THINKING: Duration = Duration::from_millis(200);

/// Greedy accounts; everybody else has an account of their own.
const GREEDY_ACCOUNTS: u64 = 64;

/// Where accounts of single buyers start.
const ACCOUNTS_FROM: u128 = 1_000;

/// One request in so many only looks.
const LOOK_EVERY: u64 = 12;

/// The tag of a look.
const LOOK: Tag = Tag(u64::MAX);

/// What the rush is made of, and what it counts.
pub(super) struct Rush<'a> {
    ledger: &'a mut Ledger,
    sale: SaleId,
    counts: Counts,
    /// To be asked (again) at once: lost ones and duplicates.
    again: VecDeque<(usize, Step)>,
    /// Holds that are thought about, and until when.
    thinking: VecDeque<(Nanos, usize)>,
    is_stopping: bool,
    command: Command,
    query: Query,
}

/// What is counted over all parts of the rush.
pub(super) struct Counts {
    pub tally: Tally,
    pub asked: u64,
    pub duplicates: u64,
    pub resent: u64,
    pub units_sold: u64,
    pub sending: Duration,
    in_flight: u64,
    random: u64,
    scarce: [bool; ITEMS as usize],
    sold_out: [bool; ITEMS as usize],
}

impl Counts {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            tally: Tally::new(Window::ALL),
            asked: 0,
            duplicates: 0,
            resent: 0,
            units_sold: 0,
            sending: Duration::ZERO,
            in_flight: 0,
            random: seed,
            scarce: [false; ITEMS as usize],
            sold_out: [false; ITEMS as usize],
        }
    }
}

impl<'a> Rush<'a> {
    /// Begins, or goes on after a kill: first with what has no answer yet, then with what was on
    /// somebody's mind.
    pub(super) fn new(ledger: &'a mut Ledger, sale: SaleId, counts: Counts) -> Self {
        let nobody = Intent { sale, account: AccountId(1), request: RequestId(0) };
        let mut again = VecDeque::new();
        for (index, buyer) in ledger.buyers.iter().enumerate() {
            if buyer.first == Known::Asked {
                again.push_back((index, Step::First));
            }
            let is_thinking = matches!(buyer.first, Known::Done(Fact::Held { .. }))
                && buyer.second == Known::Nothing
                && buyer.plan != Plan::Abandon;
            if buyer.second == Known::Asked || is_thinking {
                again.push_back((index, Step::Second));
            }
        }
        let resent = counts.resent + again.len() as u64;
        Self {
            ledger,
            sale,
            counts: Counts { resent, in_flight: 0, ..counts },
            again,
            thinking: VecDeque::new(),
            is_stopping: false,
            command: Command::Fence { intent: nobody },
            query: Query::Availability { sale },
        }
    }

    /// Ends this part of the rush.
    pub(super) fn pause(self) -> Counts {
        self.counts
    }

    /// Only finishes what was begun.
    pub(super) fn stop_asking(&mut self) {
        self.is_stopping = true;
    }

    pub(super) fn sent_for(&mut self, time: Duration) {
        self.counts.sending += time;
    }

    pub(super) fn asked(&self) -> u64 {
        self.counts.asked
    }

    pub(super) fn units_sold(&self) -> u64 {
        self.counts.units_sold
    }

    /// Whether every item answered that nothing is available and nothing is held.
    pub(super) fn is_sold_out(&self) -> bool {
        self.counts.sold_out.iter().all(|sold_out| *sold_out)
    }

    /// Whether nothing is under way.
    pub(super) fn is_settled(&self) -> bool {
        self.again.is_empty() && self.thinking.is_empty() && self.counts.in_flight == 0
    }

    pub(super) fn unanswered(&self) -> u64 {
        self.ledger.unanswered()
    }

    /// `SplitMix64` (Steele, Lea and Flood, 2014), below `bound`.
    fn draw(&mut self, bound: u64) -> u64 {
        self.counts.random = self.counts.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.counts.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn draw_item(&mut self) -> ItemId {
        let is_hot = self.draw(5) < 4;
        let (from, count) =
            if is_hot { (1, HOT_ITEMS) } else { (1 + HOT_ITEMS, ITEMS - HOT_ITEMS) };
        ItemId(from + self.draw(u64::from(count)) as u32)
    }

    fn new_buyer(&mut self) -> usize {
        let item = self.draw_item();
        // Who comes for what is nearly gone takes one, and does not forget about it.
        let is_scarce = self.counts.scarce[item.0 as usize - 1];
        let is_greedy = self.draw(12) == 0;
        let quantity = match (is_scarce, is_greedy) {
            (true, _) => 1,
            (false, true) => 4,
            (false, false) => 1 + self.draw(2) as u32,
        };
        let mut basket = vec![Line { item, quantity: Quantity(quantity) }];
        let other = self.draw_item();
        if !is_scarce && other != item && self.draw(8) == 0 {
            basket.push(Line { item: other, quantity: Quantity(1) });
        }
        let plan = match self.draw(20) {
            0..4 => Plan::Buy,
            4..14 => Plan::Confirm,
            _ if is_scarce => Plan::Buy,
            14..17 => Plan::Release,
            _ => Plan::Abandon,
        };
        let index = self.ledger.buyers.len();
        let account = if is_greedy {
            AccountId(1 + u128::from(self.draw(GREEDY_ACCOUNTS)))
        } else {
            AccountId(ACCOUNTS_FROM + index as u128)
        };
        self.ledger.buyers.push(Buyer::new(account, plan, &basket));
        index
    }

    /// What to ask next, if anything.
    fn next_step(&mut self, now: Nanos) -> Option<(usize, Step)> {
        if let Some(again) = self.again.pop_front() {
            return Some(again);
        }
        if self.thinking.front().is_some_and(|(until, _)| *until <= now) {
            return self.thinking.pop_front().map(|(_, buyer)| (buyer, Step::Second));
        }
        if self.is_stopping {
            return None;
        }
        let buyer = self.new_buyer();
        if self.draw(10) == 0 {
            self.counts.duplicates += 1;
            self.again.push_back((buyer, Step::First));
        }
        Some((buyer, Step::First))
    }

    fn command(&self, buyer: usize, step: Step) -> Command {
        let intent = self.ledger.intent(self.sale, buyer, step);
        let asked = &self.ledger.buyers[buyer];
        let payment = PaymentRef::new(b"pay-demo").expect("it is short");
        if step == Step::First {
            let wanted = asked.basket().iter().map(|line| WantedLine { line: *line, price: None });
            let lines = Wanted::new(wanted).expect("a basket is an order's lines");
            return match asked.plan {
                Plan::Buy => Command::Buy { intent, lines, payment },
                _ => Command::Hold { intent, lines, ttl: None },
            };
        }
        let Known::Done(fact) = asked.first else { unreachable!("the first step was answered") };
        match asked.plan {
            Plan::Confirm => Command::Confirm { intent, order: fact.order(), payment, lines: None },
            _ => Command::Release { intent, order: fact.order() },
        }
    }

    fn asking(&mut self, intended: Nanos, now: Nanos) {
        self.counts.tally.sending(intended, now);
        self.counts.asked += 1;
        self.counts.in_flight += 1;
    }

    fn done(&mut self, index: usize, step: Step, fact: Fact, now: Nanos) {
        let buyer = &mut self.ledger.buyers[index];
        match std::mem::replace(buyer.known(step), Known::Done(fact)) {
            Known::Done(earlier) if earlier == fact => {}
            Known::Done(_) => self.ledger.contradictions += 1,
            Known::Nothing | Known::Asked | Known::Refused => {
                if matches!(fact, Fact::Confirmed { .. }) {
                    self.counts.units_sold += buyer.units();
                }
                if step == Step::First {
                    buyer.granted_at = now;
                }
                if step == Step::First && matches!(buyer.plan, Plan::Confirm | Plan::Release) {
                    self.thinking.push_back((now.after(THINKING), index));
                }
            }
        }
    }

    fn refused(&mut self, index: usize, step: Step, refusal: Refusal, sent: Nanos) {
        let buyer = &mut self.ledger.buyers[index];
        if matches!(buyer.known(step), Known::Done(_)) {
            // What was granted once cannot be refused under the same request id. Two copies that
            // are under way at once may be judged in one order and heard of in the other.
            let is_late = step == Step::Second || sent >= buyer.granted_at;
            self.ledger.contradictions += u64::from(is_late);
            return;
        }
        *buyer.known(step) = Known::Refused;
        if let [only] = buyer.basket() {
            let item = only.item.0 as usize - 1;
            let is_first = step == Step::First;
            let is_none_now = refusal == Refusal::NoneNow || refusal == Refusal::SoldOut;
            self.counts.scarce[item] |= is_first && is_none_now;
            self.counts.sold_out[item] |= refusal == Refusal::SoldOut && only.quantity.0 == 1;
        }
    }
}

impl Script for Rush<'_> {
    fn next(&mut self, intended: Nanos, now: Nanos) -> Option<Planned<'_>> {
        let is_look = !self.is_stopping && self.draw(LOOK_EVERY) == 0;
        if is_look {
            self.asking(intended, now);
            return Some(Planned { tag: LOOK, ask: Ask::Query(&self.query) });
        }
        let (buyer, step) = self.next_step(now)?;
        self.command = self.command(buyer, step);
        let known = self.ledger.buyers[buyer].known(step);
        if *known == Known::Nothing {
            *known = Known::Asked;
        }
        self.asking(intended, now);
        let tag = Tag((buyer as u64) << 1 | u64::from(step == Step::Second));
        Some(Planned { tag, ask: Ask::Command(&self.command) })
    }

    fn answered(&mut self, answered: &Answered<'_>) {
        self.counts.in_flight -= 1;
        self.counts.tally.answered(answered);
        if answered.tag == LOOK {
            return;
        }
        let (buyer, step) = parts(answered.tag);
        match answered.answer {
            Ok(answer) => match Fact::of(&answer.outcome) {
                Some(fact) => self.done(buyer, step, fact, answered.now),
                None => self.ledger.contradictions += 1,
            },
            Err(refusal) => self.refused(buyer, step, *refusal, answered.sent),
        }
    }

    fn lost(&mut self, tag: Tag) {
        self.counts.in_flight -= 1;
        if tag != LOOK {
            // An answer of "no" before the crash is not the last word on a second copy.
            let (buyer, step) = parts(tag);
            let known = self.ledger.buyers[buyer].known(step);
            if *known == Known::Refused {
                *known = Known::Asked;
            }
        }
    }

    fn broken(&mut self, cause: &Broken) {
        self.counts.tally.error(cause.code());
    }
}

fn parts(tag: Tag) -> (usize, Step) {
    let step = if tag.0 & 1 == 0 { Step::First } else { Step::Second };
    ((tag.0 >> 1) as usize, step)
}

/// A seed, so that no two demos are alike unless asked to be.
pub(super) fn draw_seed() -> u64 {
    let mut bytes = [0; 8];
    let drawn = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes));
    match drawn {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => SystemClock::new().wall_ms(),
    }
}
