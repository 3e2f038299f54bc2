//! What ends the server, and how it comes back: faults, crashes, stops, recovery, inspection.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::time::Duration;

use boxoffice::engine::{Engine, Replay};
use boxoffice::model::{Answer, Intent, OrderNumber, Query, Record, Refusal, SaleId, TimeMs};
use boxoffice::server::{AskId, SentAsk};
use boxoffice::wal::{
    LogWriter, Recovered, SegmentIndex, WalError, recover_from, repair_torn_tail,
};

use crate::faults::Fault;
use crate::front::Front;
use crate::judge::Ask;
use crate::model::Sale;
use crate::node::{Arrival, Node};
use crate::tear::Left;
use crate::world::{Ahead, Event, World};

/// Questions of the control plane to one shard that are unanswered at most.
const UNDER_WAY_MAX: usize = 12;

/// How long a stopping server may take.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// How often it is looked whether it has stopped.
const STOP_TICK: Duration = Duration::from_millis(10);

/// Orders and requests of a sale that are looked at behind a restart.
const SAMPLE: usize = 5;

/// The control plane asks for all that a shard knows, to be held against the books.
pub struct Inspection {
    waiting: Vec<VecDeque<Query>>,
    under_way: Vec<BTreeSet<u64>>,
}

impl Inspection {
    pub fn new(shards: usize) -> Self {
        Self { waiting: vec![VecDeque::new(); shards], under_way: vec![BTreeSet::new(); shards] }
    }

    pub fn is_over(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty) && self.under_way.iter().all(BTreeSet::is_empty)
    }
}

impl World {
    /// Something happens that no request brought about.
    pub fn fault(&mut self) {
        if !self.are_faults_on {
            return;
        }
        let every = self.plan.fault_every.as_micros() as u64;
        let next = self.random.micros(every / 2, every * 3 / 2);
        self.schedule(next, Event::Fault);
        if self.nodes.is_empty() {
            return;
        }
        if self.happens(self.plan.clock_jump) {
            self.jump_clock();
        }
        if self.happens(self.plan.cut) && !self.links.is_empty() {
            let links: Vec<u64> = self.links.keys().copied().collect();
            let link = *self.random.pick(&links);
            self.cut(link);
        }
        if self.happens(self.plan.no_space) {
            let left = self.random.below(600);
            self.set_room(self.scarce_blocks.is_none().then_some(left));
        }
        if self.happens(self.plan.snapshot) {
            let shard = self.random.index(self.disks.len());
            self.take_snapshot(shard);
        }
        if self.happens(self.plan.spoiled_snapshot) {
            let disk = self.random.index(self.disks.len());
            self.disks[disk].spoil_snapshot(&mut self.random);
        }
        if self.happens(self.plan.flip) {
            let disk = self.random.index(self.disks.len());
            self.disks[disk].flip(&mut self.random);
        }
        if self.happens(self.plan.crash) {
            if self.random.chance(600) {
                self.is_cut_due = true;
            } else {
                self.crash_and_return();
            }
        } else if self.happens(self.plan.stop) && !self.judge.is_stopping() {
            self.stop();
        }
    }

    fn jump_clock(&mut self) {
        let most = *self.random.pick(&[2_000, 60_000, 600_000]);
        let by = self.random.between(0, 2 * most).cast_signed() - most.cast_signed();
        self.wall_offset += by;
        if by > 0 {
            self.judge.tally.faults.count(Fault::ClockAhead);
        } else if self.wall_clock() < self.judge.latest_time() {
            self.judge.tally.faults.count(Fault::ClockBack);
        }
    }

    /// The server asks its shards to stop.
    fn stop(&mut self) {
        self.judge.stopping();
        for node in 0..self.nodes.len() {
            self.nodes[node].service.handle_drain();
            self.wake(node);
        }
        self.stop_by = self.now + STOP_TIME_MAX;
        self.schedule(STOP_TICK, Event::Stopped);
    }

    /// Ends the server where its shards have stopped.
    pub fn stopped(&mut self) {
        let is_over = self.nodes.iter().all(|node| node.service.is_drained());
        if is_over || self.now >= self.stop_by {
            self.crash_and_return();
        } else {
            self.schedule(STOP_TICK, Event::Stopped);
        }
    }

    /// The server is gone, and will be back.
    pub fn crash_and_return(&mut self) {
        self.crash();
        let down = self.random.micros(1_000, 60_000);
        self.schedule(down, Event::Restart);
    }

    /// The server is gone, with all that was in memory.
    pub fn crash(&mut self) {
        self.note(0xdead);
        self.nodes.clear();
        self.flying.iter_mut().for_each(|flying| *flying = None);
        self.is_cut_due = false;
        for build in &mut self.builds {
            if build.take().is_some() {
                self.judge.tally.faults.count(Fault::CutSnapshot);
            }
        }
        for disk in &mut self.disks {
            match disk.crash(&mut self.random) {
                Some(Left::Nothing) => self.judge.tally.faults.count(Fault::LostWrite),
                Some(Left::All) => self.judge.tally.faults.count(Fault::KeptWrite),
                Some(Left::Part) | None => {}
            }
        }
        self.drop_server_events();
        self.cut_all();
        for number in self.inspection.under_way.iter_mut().flat_map(std::mem::take) {
            self.judge.forget(number);
        }
        self.inspection.waiting.iter_mut().for_each(VecDeque::clear);
        self.judge.crashed();
    }

    /// Recovers every log, and serves; now and then with another number of shards.
    pub fn start_server(&mut self) {
        let mut recovered = self.recover_all();
        if self.happens(self.plan.repartition) {
            let shards = NonZeroU16::new(self.random.between(1, 3) as u16).expect("at least one");
            if usize::from(shards.get()) != self.disks.len() {
                self.repartition(shards, recovered);
                recovered = self.recover_all();
            }
        }
        for (shard, (engine, recovered)) in recovered.into_iter().enumerate() {
            let shards = recovered.identity.shards;
            let current = recovered.segment.index.0;
            let last = current + recovered.prepared.len() as u64;
            self.ahead[shard] = Ahead { current, last, is_preparing: false };
            let log = LogWriter::new(&recovered);
            let mailbox = self.plan.mailbox;
            self.nodes.push(Node::new(shard, shards, mailbox, engine, log));
        }
        self.set_room(self.scarce_blocks);
        for shard in 0..self.disks.len() {
            self.wake(shard);
            self.prepare(shard);
        }
        self.inspect(SAMPLE);
    }

    fn recover_all(&mut self) -> Vec<(Engine, Recovered)> {
        let mut all = Vec::new();
        for shard in 0..self.disks.len() {
            self.mix_up(shard);
            all.push(loop {
                if let Some(found) = self.recover(shard) {
                    break found;
                }
            });
        }
        all
    }

    /// Somebody mixes up the files of the logs.
    fn mix_up(&mut self, shard: usize) {
        if !self.happens(self.plan.stale) {
            return;
        }
        let other = self.random.index(self.disks.len());
        let is_old = self.random.chance(300);
        let stranger = match &self.replaced {
            Some(replaced) if is_old => Some(replaced.clone()),
            _ if other == shard => None,
            _ => Some(self.disks[other].some_segment(&mut self.random)),
        };
        self.disks[shard].mix_up(stranger.as_deref(), &mut self.random);
    }

    /// One attempt to read a log; `None` where it failed or was interrupted as it should.
    fn recover(&mut self, shard: usize) -> Option<(Engine, Recovered)> {
        let failing_read = self.happens(self.plan.read_error).then(|| self.random.below(3));
        let is_cut_short = self.happens(self.plan.crash_in_recovery);
        let (engine, start) = self.load_snapshot(shard);
        let first = start.map_or(SegmentIndex::FIRST, |start| start.position.segment);
        let skipped = start.map_or(0, |start| start.next_lsn.0 as usize - 1);
        let disk = &mut self.disks[shard];
        let (identity, damage, fault) = (disk.identity(), disk.damage(), disk.fault());
        let is_mixed = disk.is_mixed_from(first);
        let open = disk.open(failing_read);
        let mut replay = Replay::new(engine);
        let mut records: Vec<(TimeMs, Record)> = Vec::new();
        let read = recover_from(&open, Some(identity), start, |entry| {
            replay.push(entry.record);
            records.push((entry.time, entry.record.clone()));
        });
        let engine = replay.finish();
        let is_unchanged = open.is_unchanged();
        assert!(is_unchanged, "CHANGED by being read: shard {shard}");
        match read {
            Ok(recovered) => {
                assert!(!is_mixed, "ACCEPTED another segment's content");
                if let Some(torn) = &recovered.torn {
                    if is_cut_short {
                        self.judge.tally.faults.count(Fault::CutRepair);
                        open.zero_some(torn, &mut self.random);
                        return None;
                    }
                    self.judge.tally.faults.count(Fault::TornTail);
                    repair_torn_tail(&open, torn).expect("this disk can be written");
                }
                self.judge.tally.damaged += u64::from(damage.is_some());
                self.judge.tally.snapshot_starts += u64::from(start.is_some());
                self.judge.recovered(shard, skipped, &records);
                self.disks[shard].accept(first, recovered.end);
                self.note(recovered.next_lsn.0);
                Some((engine, recovered))
            }
            Err(WalError::Io { .. }) if failing_read.is_some() => {
                self.judge.tally.faults.count(Fault::ReadError);
                None
            }
            Err(error) => {
                assert!(damage.is_some(), "REFUSED shard {shard}, which is as written: {error}");
                self.judge.tally.damaged += 1;
                self.judge.tally.refused_damage += 1;
                if let Some(fault) = fault {
                    self.judge.tally.faults.count(fault);
                }
                self.disks[shard].restore();
                None
            }
        }
    }

    /// Asks every shard for its sales, and for so many orders and requests of each.
    pub fn inspect(&mut self, sample: usize) {
        for shard in 0..self.nodes.len() {
            let mut queries = Vec::new();
            for (id, sale) in self.judge.sales(shard) {
                queries.extend([Query::Availability { sale: id }, Query::Stats { sale: id }]);
                queries.extend(questions(id, sale, sample, self.judge.tally.steps as usize));
            }
            self.inspection.waiting[shard].extend(queries);
            self.inspect_on(shard);
        }
    }

    fn inspect_on(&mut self, shard: usize) {
        while self.inspection.under_way[shard].len() < UNDER_WAY_MAX {
            let Some(query) = self.inspection.waiting[shard].pop_front() else { return };
            let number = self.judge.ask(Ask::Query(query), Front::Binary);
            self.inspection.under_way[shard].insert(number);
            let asked = Arrival::Asked(AskId(number), Box::new(SentAsk::Query(query)));
            self.nodes[shard].arrivals.push_back(asked);
            self.wake(shard);
        }
    }

    /// The control plane is answered.
    pub fn inspected(&mut self, shard: usize, number: u64, answer: &Result<Answer, Refusal>) {
        assert!(self.inspection.under_way[shard].remove(&number), "it was asked once");
        self.judge.answered(number, answer);
        self.inspect_on(shard);
    }
}

/// Some orders and requests of a sale, spread over all of them.
fn questions(sale: SaleId, book: &Sale, sample: usize, start: usize) -> Vec<Query> {
    let (orders, requests) = (book.orders.len(), book.done.len());
    let spread = |len: usize| {
        let every = len.div_ceil(sample).max(1);
        (start % every..len).step_by(every)
    };
    let mut queries = Vec::new();
    for order in spread(orders) {
        queries.push(Query::Order { sale, order: OrderNumber(order as u32 + 1) });
    }
    let keys: Vec<_> = book.done.keys().copied().collect();
    for place in spread(requests) {
        let (account, request) = keys[place];
        if account != boxoffice::model::AccountId::OPERATOR {
            queries.push(Query::Request { intent: Intent { sale, account, request } });
        }
    }
    queries
}
