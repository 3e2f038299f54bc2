//! The judge: what was acknowledged is truth.
//!
//! It sees what buyers ask, what they are answered, and every frame on its way to the disk; and
//! after each restart it is handed what recovery read. It holds all of them against its own
//! [books](crate::books) and panics at the first thing that does not fit.
//!
//! A refusal is right where the model would have given it at some moment between the request and
//! the answer. For that, each attempt keeps every verdict that the model had of it meanwhile.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use boxoffice::model::{
    Answer, Command, Outcome, Query, Record, Refusal, SaleId, SaleState, TimeMs,
};

use crate::books::{Asked, Books};
use crate::faults::{Fault, Faults};
use crate::front::Front;
use crate::model::{Sale, Verdict, verdict};

/// What a buyer asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    Command(Command),
    Query(Query),
}

impl Ask {
    pub fn sale(&self) -> SaleId {
        match self {
            Self::Command(command) => command.sale(),
            Self::Query(Query::Request { intent }) => intent.sale,
            Self::Query(
                Query::Order { sale, .. }
                | Query::Availability { sale }
                | Query::Stats { sale }
                | Query::AccountOrders { sale, .. },
            ) => *sale,
            Self::Query(Query::Sales { .. }) => unreachable!("nobody here asks for all sales"),
        }
    }
}

/// A request on its way, or waited for.
struct Attempt {
    ask: Ask,
    front: Front,
    /// Refusals that were right meanwhile.
    refusals: Vec<Refusal>,
    /// Whether it was so already.
    was_so: bool,
    /// Whether the server was stopping meanwhile.
    was_stopping: bool,
    /// Whether the disk was full meanwhile.
    was_full: bool,
    /// The version of the sale, and the time, when it was made.
    began: (u64, TimeMs),
}

/// What a run amounts to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub seeds: u64,
    pub steps: u64,
    pub restarts: u64,
    pub answers: u64,
    pub acknowledged: u64,
    pub acknowledged_orders: u64,
    pub records: u64,
    pub damaged: u64,
    pub refused_damage: u64,
    pub snapshots: u64,
    pub snapshot_starts: u64,
    pub faults: Faults,
}

pub struct Judge {
    shards: NonZeroU16,
    books: Vec<Books>,
    /// The books of each shard when the state was last divided anew.
    first_books: Vec<Books>,
    /// The last LSN of before that.
    first_lsn: u64,
    /// Each shard's log since: what was handed to the disk.
    written: Vec<Vec<(TimeMs, Record)>>,
    /// How many of them the disk said that it has.
    durable: Vec<usize>,
    clocks: Vec<TimeMs>,
    asked: Asked,
    attempts: BTreeMap<u64, Attempt>,
    next_attempt: u64,
    is_stopping: bool,
    is_full: bool,
    pub tally: Tally,
}

impl Judge {
    pub fn new(shards: NonZeroU16) -> Self {
        let count = usize::from(shards.get());
        Self {
            shards,
            books: vec![Books::default(); count],
            first_books: vec![Books::default(); count],
            first_lsn: 0,
            written: vec![Vec::new(); count],
            durable: vec![0; count],
            clocks: vec![TimeMs(0); count],
            asked: Asked::default(),
            attempts: BTreeMap::new(),
            next_attempt: 0,
            is_stopping: false,
            is_full: false,
            tally: Tally::default(),
        }
    }

    pub fn shard_of(&self, sale: SaleId) -> usize {
        usize::from(sale.shard(self.shards).0)
    }

    pub fn sale(&self, sale: SaleId) -> Option<&Sale> {
        self.books[self.shard_of(sale)].sale(sale)
    }

    pub fn sales(&self, shard: usize) -> impl Iterator<Item = (SaleId, &Sale)> {
        self.books[shard].sales.iter().map(|(id, sale)| (*id, sale))
    }

    /// The time of a decision that the shard makes now.
    pub fn now(&self, shard: usize) -> TimeMs {
        self.books[shard].time.max(self.clocks[shard])
    }

    pub fn latest_time(&self) -> TimeMs {
        (0..self.books.len()).map(|shard| self.now(shard)).max().unwrap_or_default()
    }

    /// A shard reads its clock.
    pub fn tick(&mut self, shard: usize, clock: TimeMs) {
        self.clocks[shard] = self.clocks[shard].max(clock);
    }

    /// The number of the next request.
    pub fn next_attempt(&self) -> u64 {
        self.next_attempt + 1
    }

    /// A request leaves; its number is to be given back with its answer.
    pub fn ask(&mut self, ask: Ask, front: Front) -> u64 {
        if let Ask::Command(command) = &ask {
            self.asked.add(command);
        }
        let sale = self.sale(ask.sale());
        let began = (sale.map_or(0, |sale| sale.version), self.now(self.shard_of(ask.sale())));
        let was_stopping = self.is_stopping;
        let was_full = self.is_full;
        let refusals = Vec::new();
        let was_so = false;
        let attempt = Attempt { ask, front, refusals, was_so, was_stopping, was_full, began };
        self.next_attempt += 1;
        self.attempts.insert(self.next_attempt, attempt);
        self.note(self.next_attempt, began.1);
        self.next_attempt
    }

    /// Nobody will hear the answer.
    pub fn forget(&mut self, attempt: u64) {
        self.attempts.remove(&attempt);
    }

    fn note(&mut self, attempt: u64, now: TimeMs) {
        let attempt = self.attempts.get_mut(&attempt).expect("it is waited for");
        let sale = attempt.ask.sale();
        let shard = usize::from(sale.shard(self.shards).0);
        attempt.note(self.books[shard].sale(sale), now);
    }

    /// A frame is on its way to the disk.
    pub fn written(&mut self, shard: usize, time: TimeMs, records: Vec<Record>) {
        // What was refused while the frame filled was judged at its time.
        self.note_sales(shard, time);
        for record in records {
            self.note_all(shard, record.sale(), time);
            self.written[shard].push((time, record.clone()));
            let lsn = self.first_lsn + self.written[shard].len() as u64;
            self.books[shard].enter(lsn, time, &record, &self.asked);
            self.note_all(shard, record.sale(), time);
            self.tally.records += 1;
        }
        // What was decided behind the last record had that time, or the clock's.
        self.note_sales(shard, time);
        self.note_sales(shard, self.now(shard));
    }

    fn note_sales(&mut self, shard: usize, now: TimeMs) {
        for attempt in self.attempts.values_mut() {
            let sale = attempt.ask.sale();
            if usize::from(sale.shard(self.shards).0) == shard {
                attempt.note(self.books[shard].sale(sale), now);
            }
        }
    }

    fn note_all(&mut self, shard: usize, sale: SaleId, now: TimeMs) {
        let book = self.books[shard].sale(sale);
        for attempt in self.attempts.values_mut().filter(|attempt| attempt.ask.sale() == sale) {
            attempt.note(book, now);
        }
    }

    /// The disk says that it has the frame in flight.
    pub fn durable(&mut self, shard: usize) {
        self.durable[shard] = self.written[shard].len();
    }

    /// The server is asked to stop: it refuses what comes from now on.
    pub fn stopping(&mut self) {
        self.is_stopping = true;
        for attempt in self.attempts.values_mut() {
            attempt.was_stopping = true;
        }
    }

    /// The disk is nearly full, or is not any more.
    pub fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
        if is_full {
            for attempt in self.attempts.values_mut() {
                attempt.was_full = true;
            }
        }
    }

    pub fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// The process ended, whatever way.
    pub fn crashed(&mut self) {
        // What its clocks said may have been answered, and arrive behind this.
        for shard in 0..self.clocks.len() {
            self.note_sales(shard, self.now(shard));
        }
        self.is_stopping = false;
        self.tally.restarts += 1;
        self.clocks.fill(TimeMs(0));
    }

    /// The state was divided anew, right behind the recovery of every log: all of it is durable.
    pub fn divided(&mut self, shards: NonZeroU16) {
        let (count, time) = (usize::from(shards.get()), self.latest_time());
        let longest = self.written.iter().map(Vec::len).max().unwrap_or_default();
        self.first_lsn += longest as u64;
        self.shards = shards;
        let old = std::mem::replace(&mut self.books, vec![Books::default(); count]);
        for (id, sale) in old.into_iter().flat_map(|books| books.sales) {
            let shard = self.shard_of(id);
            self.books[shard].sales.insert(id, sale);
        }
        self.books.iter_mut().for_each(|books| books.time = time);
        self.first_books.clone_from(&self.books);
        self.written = vec![Vec::new(); count];
        self.durable = vec![0; count];
        self.clocks = vec![TimeMs(0); count];
    }

    /// What recovery read behind so many records of a snapshot: everything that was durable, and
    /// nothing that was never written.
    pub fn recovered(&mut self, shard: usize, skipped: usize, records: &[(TimeMs, Record)]) {
        let written = &mut self.written[shard];
        let skipped = skipped.checked_sub(self.first_lsn as usize);
        let skipped = skipped.expect("ACCEPTED a snapshot of before the division");
        let (durable, count) = (self.durable[shard], skipped + records.len());
        assert!(
            count >= durable,
            "LOST: shard {shard} recovered {count} records, and {durable} were durable"
        );
        assert!(
            count <= written.len() && *records == written[skipped..count],
            "CHANGED: shard {shard} recovered other records than it wrote"
        );
        written.truncate(count);
        self.durable[shard] = count;
        let first = self.first_books[shard].clone();
        let told = std::mem::replace(&mut self.books[shard], first);
        let books = &mut self.books[shard];
        for (lsn, (time, record)) in (self.first_lsn + 1..).zip(&*written) {
            books.enter(lsn, *time, record, &self.asked);
        }
        for (id, old) in told.sales {
            for (key, done) in old.done.into_iter().filter(|(_, done)| done.told_by.is_some()) {
                let sale = books.sales.get_mut(&id);
                let kept = sale.and_then(|sale| sale.done.get_mut(&key));
                let kept = kept.unwrap_or_else(|| panic!("LOST: {done:?}"));
                assert_eq!((kept.lsn, &kept.outcome), (done.lsn, &done.outcome), "CHANGED");
                (kept.told_by, kept.was_first) = (done.told_by, done.was_first);
            }
        }
    }

    /// The answer to a request.
    pub fn answered(&mut self, number: u64, answer: &Result<Answer, Refusal>) {
        let shard = self.shard_of(self.attempts[&number].ask.sale());
        self.note(number, self.now(shard));
        let attempt = self.attempts.remove(&number).expect("it is answered once");
        self.tally.answers += 1;
        match (&attempt.ask, answer) {
            (_, Err(refusal)) => {
                if *refusal == Refusal::DiskFull {
                    self.tally.faults.count(Fault::DiskFull);
                }
                let is_right = attempt.refusals.contains(refusal)
                    || (*refusal == Refusal::Draining && attempt.was_stopping)
                    || (*refusal == Refusal::DiskFull && attempt.was_full)
                    || self.is_read(&attempt, answer);
                let right = &attempt.refusals;
                assert!(is_right, "REFUSED {refusal:?}: {:?}; right were {right:?}", attempt.ask);
            }
            (Ask::Command(command), Ok(answer)) => {
                self.tally.acknowledged += 1;
                self.succeeded(shard, command, &attempt, answer);
            }
            (Ask::Query(_), Ok(_)) => {
                let is_right = self.is_read(&attempt, answer);
                assert!(is_right, "READ {answer:?}: {:?}", attempt.ask);
            }
        }
    }

    fn succeeded(&mut self, shard: usize, command: &Command, attempt: &Attempt, answer: &Answer) {
        let durable = self.first_lsn + self.durable[shard] as u64;
        let Some(key) = command.request() else {
            let is_right = answer.outcome == Outcome::Done && attempt.was_so;
            assert!(is_right, "ANSWERED {answer:?} though it is not so: {command:?}");
            return;
        };
        let sale = self.books[shard].sales.get_mut(&command.sale());
        let done = sale.and_then(|sale| sale.done.get_mut(&key));
        let done = done.unwrap_or_else(|| panic!("ANSWERED AHEAD of the log: {command:?}"));
        assert!(done.lsn <= durable, "ANSWERED AHEAD of the disk: {command:?}");
        let is_same = match &done.command {
            _ if matches!(command, Command::Fence { .. }) => true,
            Some(earlier) => earlier == command,
            None => false,
        };
        assert!(is_same, "ANOTHER REQUEST'S ANSWER: {command:?} got that of {done:?}");
        let front = attempt.front;
        assert_eq!(front.tells(&done.outcome), answer.outcome, "CHANGED ANSWER: {command:?}");
        let is_order = matches!(done.outcome, Outcome::Held { .. } | Outcome::Confirmed { .. });
        self.tally.acknowledged_orders += u64::from(is_order && done.told_by.is_none());
        if done.told_by.is_some_and(|told_by| told_by != front) {
            self.tally.faults.count(Fault::OtherFront);
        }
        assert!(answer.replayed || !done.was_first, "EXECUTED TWICE: {command:?}");
        done.told_by = Some(front);
        done.was_first |= !answer.replayed;
    }

    /// Whether a read says what the books say. Where the sale changed meanwhile, a read is only
    /// held against what is always so.
    fn is_read(&self, attempt: &Attempt, answer: &Result<Answer, Refusal>) -> bool {
        let Ask::Query(query) = &attempt.ask else { return false };
        let outcome = match answer {
            Ok(answer) => Ok(&answer.outcome),
            Err(refusal) => Err(*refusal),
        };
        if let Ok(Outcome::Availability(items)) = outcome {
            for counts in items {
                let sum = counts.available.0 + counts.held.0 + counts.sold.0;
                assert_eq!(sum, counts.capacity.0, "NOT CONSERVED: {counts:?}");
            }
        }
        let Some(sale) = self.sale(attempt.ask.sale()) else {
            return outcome == Err(Refusal::NotFound);
        };
        if sale.version != attempt.began.0 {
            return true;
        }
        let end = self.now(self.shard_of(attempt.ask.sale()));
        [attempt.began.1, end].into_iter().any(|now| match sale.read(query, now) {
            Ok(right) => outcome == Ok(&attempt.front.tells(&right)),
            Err(right) => outcome == Err(right),
        })
    }
}

impl Attempt {
    fn note(&mut self, sale: Option<&Sale>, now: TimeMs) {
        let Ask::Command(command) = &self.ask else { return };
        match verdict(sale, command, now) {
            Verdict::New => {}
            Verdict::Again(_) => self.was_so = true,
            Verdict::No(refusal) if self.refusals.contains(&refusal) => {}
            Verdict::No(refusal) => self.refusals.push(refusal),
        }
    }
}

impl Sale {
    /// What a query is to be answered.
    pub fn read(&self, query: &Query, now: TimeMs) -> Result<Outcome, Refusal> {
        let is_archived = self.state == SaleState::Archived;
        match query {
            Query::Availability { .. } => Ok(Outcome::Availability(self.availability())),
            Query::Stats { .. } => Ok(Outcome::Stats(self.stats(now))),
            _ if is_archived => Err(Refusal::Closed),
            Query::Order { order, .. } => {
                self.view(*order, now).map(Outcome::Order).ok_or(Refusal::NotFound)
            }
            Query::Request { intent } => {
                let done = self.done.get(&(intent.account, intent.request));
                done.map(|done| done.outcome.clone()).ok_or(Refusal::NotFound)
            }
            Query::AccountOrders { .. } | Query::Sales { .. } => {
                unreachable!("nobody here asks for pages")
            }
        }
    }
}
