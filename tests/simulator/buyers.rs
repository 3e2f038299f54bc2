//! Buyers and the operator: what they ask, over which connections, and how they insist.
//!
//! A command is asked again, under the same request id, until it has a final answer: over another
//! connection, to another shard, after any number of crashes. Some are asked twice at once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use boxoffice::model::{
    AccountId, Answer, Command, DurationMs, Intent, ItemId, ItemTerms, Line, Lines, OrderNumber,
    Outcome, PaymentRef, Price, Quantity, Query, Refusal, RequestId, SaleId, SaleTerms, TimeMs,
    Wanted, WantedLine,
};
use boxoffice::protocol::binary::{Hello, Response, encode_hello, frame};

use crate::faults::Fault;
use crate::front::{Front, take_response};
use crate::judge::Ask;
use crate::plan::Plan;
use crate::random::Random;
use crate::world::{Event, World};

/// How long a buyer waits for an answer before they try another connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// How soon a buyer with nothing to do looks again.
const REST: Duration = Duration::from_millis(4);

/// The same where all has been asked.
const LONG_REST: Duration = Duration::from_millis(500);

/// How soon something is asked again that the server put off.
const PUT_OFF: Duration = Duration::from_millis(20);

/// The HTTP status of a request that took too long to arrive.
const REQUEST_TIMEOUT: u16 = 408;

/// Who asks, over one connection at a time.
pub struct Buyer {
    link: Option<u64>,
    front: Front,
    is_let_in: bool,
    received: Vec<u8>,
    in_flight: BTreeMap<u64, Ask>,
    /// The same in the order in which HTTP answers them.
    order: VecDeque<u64>,
    todo: VecDeque<Ask>,
    heard_at: Duration,
    /// When something that was put off is asked again.
    waits_until: Duration,
    looks_at: Duration,
}

impl Buyer {
    pub fn new() -> Self {
        Self {
            link: None,
            front: Front::Binary,
            is_let_in: false,
            received: Vec::new(),
            in_flight: BTreeMap::new(),
            order: VecDeque::new(),
            todo: VecDeque::new(),
            heard_at: Duration::ZERO,
            waits_until: Duration::ZERO,
            looks_at: Duration::ZERO,
        }
    }

    pub fn is_done(&self) -> bool {
        self.in_flight.is_empty() && self.todo.is_empty()
    }

    pub fn what_is_left(&self) -> String {
        let (waiting, todo) = (self.in_flight.len(), self.todo.len());
        format!("{waiting} unanswered and {todo} to ask, link {:?}", self.link)
    }
}

/// An order that was acknowledged.
#[derive(Clone)]
struct Known {
    sale: SaleId,
    account: AccountId,
    order: OrderNumber,
    lines: Vec<Line>,
}

/// What is to be asked, and what is known from the answers.
pub struct Workload {
    sales: Vec<SaleId>,
    items: u32,
    accounts: u128,
    setup: VecDeque<Ask>,
    setup_left: usize,
    left: u64,
    next_request: u128,
    orders: Vec<Known>,
    past: Vec<Command>,
}

impl Workload {
    pub fn new(plan: &Plan, random: &mut Random) -> Self {
        let mut setup = VecDeque::new();
        let sales: Vec<_> = (0..plan.sales).map(|_| SaleId(random.between(1, 1 << 40))).collect();
        let items = random.between(1, 4) as u32;
        for sale in sales.iter().copied() {
            setup.extend(define(sale, items, random).into_iter().map(Ask::Command));
        }
        Self {
            sales,
            items,
            accounts: u128::from(random.between(1, 12)),
            setup_left: setup.len(),
            setup,
            left: plan.requests,
            next_request: 0,
            orders: Vec::new(),
            past: Vec::new(),
        }
    }

    fn next(&mut self, random: &mut Random) -> Ask {
        let intent = self.intent(random);
        let kind = random.below(100);
        let command = match kind {
            0..30 => {
                let ttl = random.chance(400).then(|| DurationMs(random.between(900, 9_000) as u32));
                Command::Hold { intent, lines: self.wanted(random), ttl }
            }
            30..45 => {
                let (lines, payment) = (self.wanted(random), payment(random));
                Command::Buy { intent, lines, payment }
            }
            45..78 if !self.orders.is_empty() => self.touch(intent, random),
            78..81 => Command::Fence { intent },
            81..84 if !self.past.is_empty() => self.fence_of_old(random),
            84..90 if !self.past.is_empty() => random.pick(&self.past).clone(),
            90..92 if !self.past.is_empty() => self.conflict(random),
            92..95 => self.administration(intent, random),
            _ => return self.query(intent, random),
        };
        self.past.push(command.clone());
        Ask::Command(command)
    }

    fn intent(&mut self, random: &mut Random) -> Intent {
        self.next_request += 1;
        let account = AccountId(1 + u128::from(random.next()) % self.accounts);
        let sale = *random.pick(&self.sales);
        Intent { sale, account, request: RequestId(self.next_request) }
    }

    fn wanted(&self, random: &mut Random) -> Wanted {
        let mut items: Vec<u32> = (1..=self.items + u32::from(random.chance(10))).collect();
        let count = if random.chance(700) { 1 } else { random.index(items.len()) + 1 };
        let lines = (0..count).map(|_| {
            let item = ItemId(items.swap_remove(random.index(items.len())));
            let quantity = Quantity(random.between(1, 3) as u32);
            WantedLine { line: Line { item, quantity }, price: None }
        });
        Wanted::new(lines.collect::<Vec<_>>()).expect("distinct items")
    }

    /// A step with an order that was made before, most often the last ones.
    fn touch(&self, intent: Intent, random: &mut Random) -> Command {
        let first = if random.chance(700) { self.orders.len().saturating_sub(8) } else { 0 };
        let known = random.pick(&self.orders[first..]).clone();
        let account = if random.chance(30) { intent.account } else { known.account };
        let intent = Intent { sale: known.sale, account, ..intent };
        let order = known.order;
        let lines = random.chance(300).then(|| some_of(&known.lines, random)).flatten();
        match random.below(10) {
            0..5 => Command::Confirm { intent, order, payment: payment(random), lines },
            5..7 => Command::Release { intent, order },
            7 => Command::Extend { intent, order },
            _ => Command::Cancel { intent, order, lines },
        }
    }

    fn fence_of_old(&self, random: &mut Random) -> Command {
        let old = random.pick(&self.past);
        match old.request() {
            Some((account, request)) if account != AccountId::OPERATOR => {
                Command::Fence { intent: Intent { sale: old.sale(), account, request } }
            }
            _ => old.clone(),
        }
    }

    /// Another body under a request id that was used.
    fn conflict(&self, random: &mut Random) -> Command {
        let old = random.pick(&self.past);
        match old.request() {
            Some((account, request)) if account != AccountId::OPERATOR => {
                let intent = Intent { sale: old.sale(), account, request };
                Command::Buy { intent, lines: self.wanted(random), payment: payment(random) }
            }
            _ => old.clone(),
        }
    }

    fn administration(&self, intent: Intent, random: &mut Random) -> Command {
        let sale = intent.sale;
        match random.below(100) {
            0..60 => {
                let item = ItemId(random.between(1, u64::from(self.items)) as u32);
                let by = random.between(0, 10).cast_signed() - 4;
                Command::Restock { sale, request: intent.request, item, by }
            }
            60..70 => Command::PauseSale { sale },
            70..95 => Command::OpenSale { sale },
            95..97 => Command::CloseSale { sale },
            _ => Command::ArchiveSale { sale },
        }
    }

    fn query(&self, intent: Intent, random: &mut Random) -> Ask {
        let sale = intent.sale;
        Ask::Query(match random.below(4) {
            0 => Query::Stats { sale },
            1 if !self.orders.is_empty() => {
                let known = random.pick(&self.orders);
                Query::Order { sale: known.sale, order: known.order }
            }
            2 => Query::Request {
                intent: Intent { request: RequestId(1 + random.index(50) as u128), ..intent },
            },
            _ => Query::Availability { sale },
        })
    }

    fn learn(&mut self, ask: &Ask, answer: &Answer) {
        let (
            Ask::Command(Command::Hold { intent, lines, .. } | Command::Buy { intent, lines, .. }),
            Outcome::Held { order, .. } | Outcome::Confirmed { order },
        ) = (ask, &answer.outcome)
        else {
            return;
        };
        let lines = lines.lines().as_slice().to_vec();
        self.orders.push(Known {
            sale: intent.sale,
            account: intent.account,
            order: *order,
            lines,
        });
    }
}

/// The commands that put a sale up.
fn define(sale: SaleId, items: u32, random: &mut Random) -> Vec<Command> {
    let start = 1_800_000_001_000;
    let limit =
        |random: &mut Random| random.chance(300).then(|| Quantity(random.between(1, 40) as u32));
    let terms = SaleTerms {
        opens_at: random.chance(200).then(|| TimeMs(start + random.between(1, 5_000))),
        closes_at: random.chance(150).then(|| TimeMs(start + random.between(5_001, 60_000))),
        hold_ttl: DurationMs(random.between(1_000, 30_000) as u32),
        account_limit: limit(random),
    };
    let opens_itself = terms.opens_at.is_some();
    let mut commands = vec![Command::DefineSale { sale, terms }];
    for item in (1..=items).map(ItemId) {
        let most = *random.pick(&[5, 60, 400]);
        let capacity = Quantity(random.between(0, most) as u32);
        let price = Price(random.between(0, 9_900));
        let terms = ItemTerms { capacity, price, account_limit: limit(random) };
        commands.push(Command::DefineItem { sale, item, terms });
    }
    if !opens_itself || random.chance(500) {
        commands.push(Command::OpenSale { sale });
    }
    commands
}

/// Some of these units.
fn some_of(lines: &[Line], random: &mut Random) -> Option<Lines> {
    let mut chosen = Vec::new();
    for line in lines {
        let units = random.between(0, u64::from(line.quantity.0)) as u32;
        if units > 0 {
            chosen.push(Line { quantity: Quantity(units), ..*line });
        }
    }
    Lines::new(chosen).ok()
}

/// Most often a text, since HTTP takes no other; some of its characters need an escape there.
fn payment(random: &mut Random) -> PaymentRef {
    let len = random.index(17);
    let is_text = random.chance(900);
    let bytes: Vec<u8> = if is_text {
        let characters = ['a', 'Z', '7', '-', ' ', '"', '\\', '/', '\n', '\0', 'é', '€'];
        (0..len).map(|_| *random.pick(&characters)).collect::<String>().into_bytes()
    } else {
        (0..len).map(|_| random.next() as u8).collect()
    };
    PaymentRef::new(&bytes).expect("it is short")
}

impl World {
    /// Whether every request was made that the run has.
    pub fn is_work_done(&self) -> bool {
        self.workload.left == 0 && self.workload.setup_left == 0
    }

    /// A buyer looks what to do, and says when they look again.
    pub fn buyer_looks(&mut self, number: usize) {
        if self.buyers[number].looks_at != self.now {
            // Something happened since, and another look was arranged.
            return;
        }
        let was_busy = self.buyer_acts(number);
        let think = self.random.micros(20, self.plan.think_us.max(21));
        let rest = match was_busy {
            true => think,
            false if self.buyers[number].is_done() && self.is_work_done() => LONG_REST,
            false => think.max(REST),
        };
        self.look_again(number, rest);
    }

    pub fn look_again(&mut self, number: usize, rest: Duration) {
        self.buyers[number].looks_at = self.now + rest;
        self.schedule(rest, Event::Buyer(number));
    }

    /// Whether the buyer found something to do.
    fn buyer_acts(&mut self, number: usize) -> bool {
        let Some(link) = self.buyers[number].link else { return self.buyer_connects(number) };
        let buyer = &self.buyers[number];
        if !buyer.in_flight.is_empty() && self.now > buyer.heard_at + PATIENCE {
            self.hang_up(link);
            self.link_lost(number);
            return true;
        }
        if buyer.waits_until > self.now {
            return false;
        }
        let is_setting_up = self.workload.setup_left > 0;
        let most = if is_setting_up { 1 } else { self.plan.pipeline };
        if !self.buyers[number].is_let_in || self.buyers[number].in_flight.len() >= most {
            return false;
        }
        let Some(ask) = self.next_ask(number) else { return false };
        self.buyer_asks(number, link, ask);
        true
    }

    fn buyer_asks(&mut self, number: usize, link: u64, ask: Ask) {
        let front = self.buyers[number].front;
        let Some(bytes) = front.encode(self.judge.next_attempt(), &ask) else {
            // It takes the other front, once this one has said all.
            self.buyers[number].todo.push_front(ask);
            if self.buyers[number].in_flight.is_empty() {
                self.hang_up(link);
                self.link_lost(number);
            }
            return;
        };
        let is_asked = |buyer: &Buyer| buyer.in_flight.values().any(|other| *other == ask);
        if matches!(ask, Ask::Command(_)) && self.buyers.iter().any(is_asked) {
            self.judge.tally.faults.count(Fault::DuplicateSend);
        }
        let attempt = self.judge.ask(ask.clone(), front);
        let buyer = &mut self.buyers[number];
        if buyer.in_flight.is_empty() {
            buyer.heard_at = self.now;
        }
        buyer.in_flight.insert(attempt, ask);
        buyer.order.push_back(attempt);
        self.send_up(link, &bytes);
    }

    fn buyer_connects(&mut self, number: usize) -> bool {
        if self.buyers[number].is_done() && self.is_work_done() {
            return false;
        }
        let node = self.random.index(self.disks.len());
        let next = self.buyers[number].todo.front();
        let has_http = next.is_none_or(|ask| Front::Http.encode(0, ask).is_some());
        let is_set_up = self.workload.setup_left == 0;
        let is_http = self.random.chance(self.plan.http) && has_http && is_set_up;
        let front = if is_http { Front::Http } else { Front::Binary };
        let link = self.connect(number, node, front);
        let buyer = &mut self.buyers[number];
        (buyer.link, buyer.front, buyer.heard_at) = (link, front, self.now);
        buyer.is_let_in = front == Front::Http;
        let Some(link) = link else { return false };
        if front == Front::Http {
            return true;
        }
        let mut bytes = Vec::new();
        encode_hello(&mut bytes, 0, &Hello { key: b"", name: "buyer" });
        self.send_up(link, &bytes);
        true
    }

    fn next_ask(&mut self, number: usize) -> Option<Ask> {
        if let Some(ask) = self.buyers[number].todo.pop_front() {
            return Some(ask);
        }
        let workload = &mut self.workload;
        if workload.setup_left > 0 {
            return if number == 0 { workload.setup.pop_front() } else { None };
        }
        if workload.left == 0 {
            return None;
        }
        workload.left -= 1;
        let ask = workload.next(&mut self.random);
        if self.happens(self.plan.duplicate) && matches!(ask, Ask::Command(_)) {
            let other = self.random.index(self.buyers.len());
            self.buyers[other].todo.push_back(ask.clone());
        }
        Some(ask)
    }

    /// Bytes arrive at a buyer.
    pub fn buyer_received(&mut self, number: usize, bytes: &[u8]) {
        let mut received = std::mem::take(&mut self.buyers[number].received);
        received.extend_from_slice(bytes);
        let taken = match self.buyers[number].front {
            Front::Binary => self.take_frames(number, &received),
            Front::Http => self.take_responses(number, &received),
        };
        received.drain(..taken);
        self.buyers[number].received = received;
        self.look_again(number, Duration::from_micros(1));
    }

    fn take_frames(&mut self, number: usize, received: &[u8]) -> usize {
        let mut taken = 0;
        while let Some(frame) = frame(&received[taken..]).expect("the server sends frames") {
            taken += frame.len;
            match Response::decode(&frame).expect("the server sends answers") {
                Response::Welcome(_) => self.buyers[number].is_let_in = true,
                Response::Answer(answer) => self.buyer_answered(number, frame.correlation, &answer),
                Response::Error(error) => panic!("the server understood no request: {error}"),
            }
        }
        taken
    }

    fn take_responses(&mut self, number: usize, received: &[u8]) -> usize {
        let mut taken = 0;
        while let Some((len, response)) = take_response(&received[taken..]) {
            taken += len;
            if response.status == REQUEST_TIMEOUT {
                // The network was too slow with a part of it; the connection ends behind this.
                continue;
            }
            let buyer = &self.buyers[number];
            let attempt = *buyer.order.front().expect("an answer to what was asked");
            let answer = response.answer(&buyer.in_flight[&attempt]);
            self.buyer_answered(number, attempt, &answer);
        }
        taken
    }

    fn buyer_answered(&mut self, number: usize, attempt: u64, answer: &Result<Answer, Refusal>) {
        self.note(attempt);
        self.judge.answered(attempt, answer);
        let buyer = &mut self.buyers[number];
        buyer.heard_at = self.now;
        let ask = buyer.in_flight.remove(&attempt).expect("an answer to what was asked");
        buyer.order.retain(|waiting| *waiting != attempt);
        let is_put_off = match answer {
            Err(Refusal::Draining) => true,
            Err(Refusal::DiskFull) => self.workload.setup_left > 0,
            _ => false,
        };
        if is_put_off {
            buyer.waits_until = self.now + PUT_OFF;
            buyer.todo.push_front(ask);
            return;
        }
        if self.workload.setup_left > 0 && matches!(ask, Ask::Command(_)) {
            self.workload.setup_left -= 1;
        }
        if let Ok(answer) = answer {
            self.workload.learn(&ask, answer);
        }
    }

    /// A buyer's connection is gone: what was not answered is asked again.
    pub fn link_lost(&mut self, number: usize) {
        let buyer = &mut self.buyers[number];
        buyer.link = None;
        buyer.received.clear();
        buyer.order.clear();
        let unanswered = std::mem::take(&mut buyer.in_flight);
        for (attempt, ask) in unanswered.into_iter().rev() {
            self.judge.forget(attempt);
            self.buyers[number].todo.push_front(ask);
        }
    }
}
