//! The crowd: what each thread asks, and what it makes of the answers.
//!
//! Every request is made once before the run; to ask is to write ids into it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use boxoffice::load::{Answered, Ask, Broken, Lane, Nanos, Planned, Script, Tag, Tally, Window};
use boxoffice::model::{
    AccountId, Command, Intent, ItemId, Line, OrderNumber, Outcome, PaymentRef, Quantity, Query,
    RequestId, SaleId, Wanted, WantedLine,
};

use super::options::Mix;
use super::random::Random;

/// What a payment is referred to by: as long as a short reference of a payment service.
const PAYMENT: &[u8] = b"pi_00000000";

/// The tag of a hold; other tags do not matter. Below it stands the buyer.
const HOLD: u64 = 1 << 63;

/// Draws for what is asked, in the order of the weights.
const BUY_DRAWN: usize = 0;
const HOLD_DRAWN: usize = 1;

/// What is the same for every thread of a run.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    pub sale: SaleId,
    pub items: u32,
    /// How many buyers; 0 is another one for each order.
    pub accounts: u64,
    pub mix: Mix,
    /// Random, so that no two runs share buyers or request ids.
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Confirm,
    Release,
}

/// A hold that waits for what becomes of it.
#[derive(Clone, Copy, Debug)]
struct Held {
    order: OrderNumber,
    buyer: u64,
    fate: Fate,
}

/// One thread's share of the crowd.
#[derive(Debug)]
pub struct Shopper {
    crowd: Crowd,
    lane: Lane,
    random: Random,
    /// Orders asked for so far.
    orders: u64,
    /// Requests made so far; part of the request ids.
    requests: u64,
    buys: Vec<Command>,
    holds: Vec<Command>,
    confirm: Command,
    release: Command,
    availability: Query,
    held: VecDeque<Held>,
    tally: Tally,
    /// Answers so far, for whoever shows the progress.
    progress: Arc<AtomicU64>,
}

impl Shopper {
    /// The share of `lane`, with at most `in_flight` requests at the same time.
    pub fn new(crowd: Crowd, lane: Lane, in_flight: usize, progress: Arc<AtomicU64>) -> Self {
        let nobody = Intent { sale: crowd.sale, account: AccountId(0), request: RequestId(0) };
        let payment = PaymentRef::new(PAYMENT).expect("the reference is short");
        let items: Vec<Wanted> = (1..=crowd.items).map(|item| one_of(ItemId(item))).collect();
        let buy = |lines: &Wanted| Command::Buy {
            intent: nobody,
            lines: lines.clone(),
            payment: payment.clone(),
        };
        let hold =
            |lines: &Wanted| Command::Hold { intent: nobody, lines: lines.clone(), ttl: None };
        Self {
            random: Random::new(crowd.seed ^ u64::from(lane.index) << 32),
            orders: 0,
            requests: 0,
            buys: items.iter().map(buy).collect(),
            holds: items.iter().map(hold).collect(),
            confirm: Command::Confirm {
                intent: nobody,
                order: OrderNumber(0),
                payment: payment.clone(),
                lines: None,
            },
            release: Command::Release { intent: nobody, order: OrderNumber(0) },
            availability: Query::Availability { sale: crowd.sale },
            held: VecDeque::with_capacity(in_flight),
            tally: Tally::new(Window::ALL),
            crowd,
            lane,
            progress,
        }
    }

    /// Counts from now on, and only what belongs to the window.
    pub fn count(&mut self, window: Window) {
        self.tally = Tally::new(window);
    }

    /// Counts no more of what is to come.
    pub fn count_until(&mut self, until: Nanos) {
        self.tally.end(until);
    }

    /// What was counted.
    pub fn into_tally(self) -> Tally {
        self.tally
    }

    /// Answers that will not come any more.
    pub fn give_up(&mut self, in_flight: usize) {
        (0..in_flight).for_each(|_| self.tally.error("UNANSWERED"));
    }

    /// The number of the buyer of the next order.
    #[inline]
    fn buyer(&mut self) -> u64 {
        self.orders += 1;
        match self.crowd.accounts {
            0 => self.orders * u64::from(self.lane.count.get()) + u64::from(self.lane.index),
            accounts => self.random.below(accounts),
        }
    }

    #[inline]
    fn intent(&mut self, buyer: u64) -> Intent {
        self.requests += 1;
        let unique = self.requests << 16 | u64::from(self.lane.index);
        Intent {
            sale: self.crowd.sale,
            account: AccountId(u128::from(self.crowd.seed | 1) << 64 | u128::from(buyer)),
            request: RequestId(u128::from(self.random.next()) << 64 | u128::from(unique)),
        }
    }

    /// Settles a hold as it was drawn.
    fn settle(&mut self, held: Held) -> Planned<'_> {
        let new_intent = self.intent(held.buyer);
        let command = match held.fate {
            Fate::Confirm => &mut self.confirm,
            Fate::Release => &mut self.release,
        };
        if let Command::Confirm { intent, order, .. } | Command::Release { intent, order } = command
        {
            (*intent, *order) = (new_intent, held.order);
        }
        Planned { tag: Tag(held.buyer), ask: Ask::Command(command) }
    }

    /// Asks for one unit of an item.
    fn order(&mut self, drawn: usize) -> Planned<'_> {
        let buyer = self.buyer();
        let new_intent = self.intent(buyer);
        let item = self.random.below(self.crowd.items.into()) as usize;
        let (command, tag) = match drawn {
            BUY_DRAWN => (&mut self.buys[item], Tag(buyer)),
            _ => (&mut self.holds[item], Tag(buyer | HOLD)),
        };
        if let Command::Buy { intent, .. } | Command::Hold { intent, .. } = command {
            *intent = new_intent;
        }
        Planned { tag, ask: Ask::Command(command) }
    }
}

impl Script for Shopper {
    #[inline]
    fn next(&mut self, intended: Nanos, now: Nanos) -> Option<Planned<'_>> {
        self.tally.sending(intended, now);
        if let Some(held) = self.held.pop_front() {
            return Some(self.settle(held));
        }
        let Mix { buy, hold, availability, .. } = self.crowd.mix;
        match self.random.weighted([buy, hold, availability]) {
            drawn @ (BUY_DRAWN | HOLD_DRAWN) => Some(self.order(drawn)),
            _ => Some(Planned { tag: Tag(0), ask: Ask::Query(&self.availability) }),
        }
    }

    #[inline]
    fn answered(&mut self, answered: &Answered<'_>) {
        self.tally.answered(answered);
        self.progress.store(self.progress.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let Tag(tag) = answered.tag;
        if let (true, Ok(answer)) = (tag & HOLD != 0, answered.answer) {
            let Outcome::Held { order, .. } = answer.outcome else { return };
            let Mix { confirm, release, leave, .. } = self.crowd.mix;
            let fate = match self.random.weighted([confirm, release, leave]) {
                0 => Fate::Confirm,
                1 => Fate::Release,
                _ => return,
            };
            self.held.push_back(Held { order, buyer: tag & !HOLD, fate });
        }
    }

    fn lost(&mut self, _tag: Tag) {
        self.tally.error("LOST");
    }

    fn broken(&mut self, cause: &Broken) {
        self.tally.error(cause.code());
    }
}

/// One unit of an item, whatever it costs.
fn one_of(item: ItemId) -> Wanted {
    let line = Line { item, quantity: Quantity(1) };
    Wanted::new([WantedLine { line, price: None }]).expect("one line of one unit")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::num::NonZeroU32;

    use boxoffice::model::{Answer, Refusal, TimeMs};

    use super::*;

    fn shopper(mix: &str, accounts: u64, lane: Lane) -> Shopper {
        let mix = mix.parse().expect("a mix");
        let crowd = Crowd { sale: SaleId(9), items: 3, accounts, mix, seed: Random::seed() };
        Shopper::new(crowd, lane, 16, Arc::default())
    }

    /// The next command, and its tag.
    fn ask(shopper: &mut Shopper) -> (Command, Tag) {
        match shopper.next(Nanos(0), Nanos(0)) {
            Some(Planned { tag, ask: Ask::Command(command) }) => (command.clone(), tag),
            other => panic!("no command: {other:?}"),
        }
    }

    fn answer(shopper: &mut Shopper, tag: Tag, answer: &Result<Answer, Refusal>) {
        shopper.answered(&Answered {
            tag,
            intended: Nanos(0),
            sent: Nanos(0),
            now: Nanos(1),
            answer,
        });
    }

    fn held(order: u32) -> Answer {
        let outcome = Outcome::Held { order: OrderNumber(order), expires_at: TimeMs(1) };
        Answer { outcome, replayed: false }
    }

    #[test]
    fn a_hold_is_confirmed_by_its_own_buyer() {
        let mut shopper = shopper("hold=1,confirm=1", 0, Lane::ONLY);
        let (hold, tag) = ask(&mut shopper);
        let Command::Hold { intent: Intent { account: buyer, request, .. }, .. } = hold else {
            panic!("not a hold: {hold:?}")
        };
        answer(&mut shopper, tag, &Ok(held(7)));
        let (confirm, tag) = ask(&mut shopper);
        let Command::Confirm { intent, order: OrderNumber(7), lines: None, .. } = confirm else {
            panic!("not its confirmation: {confirm:?}")
        };
        assert_eq!((intent.account, intent.sale), (buyer, SaleId(9)));
        assert_ne!(intent.request, request, "another intent has another id");
        answer(&mut shopper, tag, &Err(Refusal::HoldExpired));
        assert!(matches!(ask(&mut shopper).0, Command::Hold { .. }), "it goes on with a hold");
    }

    #[test]
    fn a_refused_hold_and_one_that_is_left_have_no_sequel() {
        let mut refused = shopper("hold=1,confirm=1", 0, Lane::ONLY);
        let (_, tag) = ask(&mut refused);
        answer(&mut refused, tag, &Err(Refusal::SoldOut));
        assert!(matches!(ask(&mut refused).0, Command::Hold { .. }));

        let mut left = shopper("hold=1,leave=1", 0, Lane::ONLY);
        let (_, tag) = ask(&mut left);
        answer(&mut left, tag, &Ok(held(1)));
        assert!(matches!(ask(&mut left).0, Command::Hold { .. }));
    }

    #[test]
    fn no_two_requests_share_an_id_and_fresh_buyers_are_fresh() {
        let count = NonZeroU32::new(2).expect("two lanes");
        let (mut requests, mut accounts) = (HashSet::new(), HashSet::new());
        let mut seed = None;
        for index in 0..2 {
            let mut shopper = shopper("buy=1", 0, Lane { index, count });
            shopper.crowd.seed = *seed.get_or_insert(shopper.crowd.seed);
            for _ in 0..1_000 {
                let (Command::Buy { intent, .. }, _) = ask(&mut shopper) else {
                    panic!("not a purchase")
                };
                assert_ne!(intent.account, AccountId::OPERATOR);
                assert!(requests.insert(intent.request) && accounts.insert(intent.account));
            }
        }
    }

    #[test]
    fn buyers_and_items_are_drawn_from_all() {
        let mut shopper = shopper("buy=1", 5, Lane::ONLY);
        let (mut accounts, mut items) = (HashSet::new(), HashSet::new());
        for _ in 0..1_000 {
            let (Command::Buy { intent, lines, .. }, _) = ask(&mut shopper) else {
                panic!("not a purchase")
            };
            accounts.insert(intent.account);
            items.insert(lines.as_slice()[0].line.item);
        }
        assert_eq!((accounts.len(), items), (5, [1, 2, 3].map(ItemId).into()));
    }
}
