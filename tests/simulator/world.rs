//! The world: virtual time, the events in it, and the server in the middle.
//!
//! Everything that happens is an [`Event`] at a time; the run takes the earliest, again and
//! again. Nothing else passes time. Each event goes into the trace, so that two runs of a seed
//! can be held against each other.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use boxoffice::model::{Record, ShardIndex, TimeMs};
use boxoffice::protocol::binary::{Response, frame};
use boxoffice::runtime::AlignedBuffer;
use boxoffice::server::Mail;
use boxoffice::wal::codec::decode;
use boxoffice::wal::{BLOCK_BYTES, FRAME_HEADER_BYTES, Identity, LogId, SealedFrame};

use crate::buyers::{Buyer, Workload};
use crate::disk::Disk;
use crate::faults::Fault;
use crate::judge::Judge;
use crate::network::Link;
use crate::node::{Arrival, Node, SYNC, Wish};
use crate::plan::Plan;
use crate::random::Random;
use crate::restart::Inspection;
use crate::snapshots::Build;

/// Wall clocks start here.
const START_MS: u64 = 1_800_000_000_000;

/// The room of a disk that is not full, in blocks: more than the holds of any run need.
pub const ROOM_BLOCKS: u64 = 4_000;

/// Segments that are kept ready behind the one that is written.
const SEGMENTS_AHEAD: u64 = 2;

/// How long faults may go on. A seed whose buyers are slow ends by this.
const SAFETY_TIME_MAX: Duration = Duration::from_mins(30);

/// How long it may take, without faults, until every request has its answer and every hold has
/// ended.
const LIVENESS_TIME_MAX: Duration = Duration::from_mins(5);

/// What happens at a time.
pub enum Event {
    /// A shard wakes.
    Turn(usize),
    /// A write ends.
    Written(usize),
    /// A segment is prepared, or could not be.
    Prepared(usize),
    /// Mail arrives at the first shard from the second.
    Mail(usize, usize, Box<Mail>),
    /// Bytes reach the server.
    Up(u64),
    /// Bytes reach a buyer.
    Down(u64),
    /// A send of the server ends.
    Sent(u64),
    /// A buyer looks what to do.
    Buyer(usize),
    /// A step with a snapshot that is being made.
    Build(usize),
    /// Something happens that nobody asked for.
    Fault,
    /// The server crashes.
    Crash,
    /// The server starts.
    Restart,
    /// A stopping server has waited long enough.
    Stopped,
}

/// What the control plane knows of a log.
#[derive(Clone, Copy, Default)]
pub struct Ahead {
    pub current: u64,
    pub last: u64,
    pub is_preparing: bool,
}

pub struct World {
    pub plan: Plan,
    pub random: Random,
    pub now: Duration,
    /// How far the wall clock is from the time that passed, in milliseconds.
    pub wall_offset: i64,
    pub are_faults_on: bool,
    /// The server crashes during the next write.
    pub is_cut_due: bool,
    events: BTreeMap<(Duration, u64), Event>,
    next_event: u64,
    /// The shards; none while the server is down.
    pub nodes: Vec<Node>,
    pub disks: Vec<Disk>,
    /// A segment of the shards before the last division.
    pub replaced: Option<Vec<u8>>,
    /// The snapshots that are being made.
    pub builds: Vec<Option<Build>>,
    pub flying: Vec<Option<AlignedBuffer>>,
    pub ahead: Vec<Ahead>,
    /// What the disk of all logs has left, in blocks, where it is nearly full.
    pub scarce_blocks: Option<u64>,
    mail_due: BTreeMap<(usize, usize), Duration>,
    pub links: BTreeMap<u64, Link>,
    pub next_link: u64,
    /// The links of each shard's slots.
    pub slots: Vec<BTreeMap<u32, u64>>,
    pub buyers: Vec<Buyer>,
    pub workload: Workload,
    pub inspection: Inspection,
    /// When a server that is to stop is ended.
    pub stop_by: Duration,
    pub judge: Judge,
    pub trace: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        let shards = NonZeroU16::new(plan.shards).expect("there is a shard");
        let disks = (0..plan.shards).map(|shard| {
            let log = LogId(random.next());
            Disk::new(Identity { log, shard: ShardIndex(shard), shards }, plan.segment_bytes)
        });
        let mut world = Self {
            disks: disks.collect(),
            replaced: None,
            workload: Workload::new(&plan, &mut random),
            buyers: (0..plan.buyers).map(|_| Buyer::new()).collect(),
            random,
            now: Duration::from_secs(1),
            wall_offset: 0,
            are_faults_on: true,
            is_cut_due: false,
            events: BTreeMap::new(),
            next_event: 0,
            nodes: Vec::new(),
            builds: Vec::new(),
            flying: Vec::new(),
            ahead: Vec::new(),
            scarce_blocks: None,
            mail_due: BTreeMap::new(),
            links: BTreeMap::new(),
            next_link: 0,
            slots: Vec::new(),
            inspection: Inspection::new(0),
            stop_by: Duration::ZERO,
            judge: Judge::new(shards),
            trace: 0xcbf2_9ce4_8422_2325,
            plan,
        };
        world.forget_shards();
        world
    }

    /// There is nothing in memory, of as many shards as there are disks.
    pub fn forget_shards(&mut self) {
        let count = self.disks.len();
        self.nodes.clear();
        self.builds = (0..count).map(|_| None).collect();
        self.flying = (0..count).map(|_| None).collect();
        self.ahead = vec![Ahead::default(); count];
        self.slots = vec![BTreeMap::new(); count];
        self.inspection = Inspection::new(count);
    }

    /// Runs until everything is over.
    pub fn run(&mut self) {
        self.start_server();
        for buyer in 0..self.buyers.len() {
            self.look_again(buyer, Duration::from_micros(1 + buyer as u64));
        }
        self.schedule(self.plan.fault_every, Event::Fault);
        while self.now < SAFETY_TIME_MAX && !(self.is_work_done() && self.is_quiet()) {
            self.step();
        }
        self.end_faults();
        let end = self.now + LIVENESS_TIME_MAX;
        while !(self.is_work_done() && self.is_quiet() && self.have_holds_ended()) {
            assert!(self.now < end, "NO LIVENESS: {}", self.what_is_left());
            self.step();
        }
        self.inspect(usize::MAX);
        self.run_inspection();
        self.crash();
        self.start_server();
        self.inspect(usize::MAX);
        self.run_inspection();
    }

    fn run_inspection(&mut self) {
        let end = self.now + LIVENESS_TIME_MAX;
        while !self.inspection.is_over() {
            assert!(self.now < end, "NO LIVENESS: the control plane is not answered");
            self.step();
        }
    }

    /// Faults stop: what is down comes up, and the clock is right and stays so.
    fn end_faults(&mut self) {
        self.are_faults_on = false;
        self.set_room(None);
        let behind = self.judge.latest_time().0.saturating_sub(self.wall_clock().0);
        self.wall_offset += i64::try_from(behind).expect("clocks differ by less than an age");
    }

    fn have_holds_ended(&self) -> bool {
        (0..self.disks.len()).all(|shard| {
            self.judge.sales(shard).all(|(_, sale)| {
                let is_held =
                    |order: &crate::model::Order| order.state == boxoffice::model::OrderState::Held;
                !sale.orders.iter().any(is_held)
            })
        })
    }

    fn is_quiet(&self) -> bool {
        !self.nodes.is_empty() && self.buyers.iter().all(Buyer::is_done)
    }

    fn what_is_left(&self) -> String {
        let waiting: Vec<_> = self.buyers.iter().map(Buyer::what_is_left).collect();
        format!(
            "up: {}, holds ended: {}, work done: {}, buyers: {waiting:?}",
            !self.nodes.is_empty(),
            self.have_holds_ended(),
            self.is_work_done()
        )
    }

    /// Whether something of this rate, per mille, happens; never once faults have stopped.
    pub fn happens(&mut self, rate: u64) -> bool {
        self.random.chance(rate) && self.are_faults_on
    }

    pub fn wall_clock(&self) -> TimeMs {
        let passed = START_MS + self.now.as_millis() as u64;
        TimeMs(passed.checked_add_signed(self.wall_offset).expect("clocks jump by hours at most"))
    }

    pub fn schedule(&mut self, delay: Duration, event: Event) {
        self.next_event += 1;
        self.events.insert((self.now + delay, self.next_event), event);
    }

    /// Forgets what was to happen inside of the server.
    pub fn drop_server_events(&mut self) {
        self.events.retain(|_, event| {
            matches!(event, Event::Buyer(_) | Event::Fault | Event::Down(_) | Event::Up(_))
        });
        self.mail_due.clear();
    }

    /// A shard is to take a turn soon.
    pub fn wake(&mut self, node: usize) {
        let delay = self.random.micros(1, 30);
        self.wake_in(node, delay);
    }

    fn wake_in(&mut self, node: usize, delay: Duration) {
        let at = self.now + delay;
        if self.nodes[node].turn_at.is_none_or(|due| due > at) {
            self.nodes[node].turn_at = Some(at);
            self.schedule(delay, Event::Turn(node));
        }
    }

    fn step(&mut self) {
        let ((at, number), event) = self.events.pop_first().expect("buyers never rest");
        self.now = at;
        self.judge.tally.steps += 1;
        self.note(at.as_nanos() as u64 ^ number);
        match event {
            Event::Turn(node) => {
                if self.nodes[node].turn_at == Some(at) {
                    self.turn(node);
                }
            }
            Event::Written(node) => self.write_ended(node),
            Event::Prepared(node) => self.prepared(node),
            Event::Mail(to, from, mail) => {
                self.nodes[to].mail[from].push_back(*mail);
                self.wake(to);
            }
            Event::Up(link) => self.up(link),
            Event::Down(link) => self.down(link),
            Event::Sent(link) => self.sent(link),
            Event::Buyer(buyer) => self.buyer_looks(buyer),
            Event::Build(shard) => self.build(shard),
            Event::Fault => self.fault(),
            Event::Crash if self.are_faults_on => self.crash_and_return(),
            Event::Crash => {}
            Event::Restart => self.start_server(),
            Event::Stopped => self.stopped(),
        }
    }

    /// Folds a number into the trace (FNV-1a, by words).
    pub fn note(&mut self, word: u64) {
        self.trace = (self.trace ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
    }

    fn turn(&mut self, node: usize) {
        let clock = self.wall_clock();
        self.judge.tick(node, clock);
        let mut wishes = Vec::new();
        self.nodes[node].turn_at = None;
        self.nodes[node].turn(clock, self.now, |wish| wishes.push(wish));
        for wish in wishes {
            self.grant(node, wish);
        }
        if let Some(wait) = self.nodes[node].next_wait() {
            let least = self.random.micros(2, 20);
            self.wake_in(node, wait.max(least));
        }
    }

    fn grant(&mut self, node: usize, wish: Wish) {
        match wish {
            Wish::Write(frame, buffer) => self.write(node, &frame, buffer),
            Wish::Send(slot, buffer) => self.server_sends(node, slot, buffer),
            Wish::Resume(slot) => self.resumed(node, slot),
            Wish::Finish(slot) => self.finished(node, slot),
            Wish::Closed(slot) => self.closed(node, slot),
            Wish::Mail(to, mail) => {
                let due = self.mail_due.get(&(node, to)).copied().unwrap_or_default();
                let due = due.max(self.now + self.random.micros(1, 40));
                self.mail_due.insert((node, to), due);
                let delay = due.saturating_sub(self.now);
                self.schedule(delay, Event::Mail(to, node, Box::new(mail)));
            }
            Wish::Taken(from) => self.nodes[from].room[node] += 1,
            Wish::MailWaits => self.judge.tally.faults.count(Fault::FullMailbox),
            Wish::Answered(id, frames) => {
                let frame = frame(frames.as_bytes()).expect("a frame").expect("a whole frame");
                assert_eq!(frame.correlation, id.0, "an answer to what was asked");
                let Ok(Response::Answer(answer)) = Response::decode(&frame) else {
                    panic!("no answer to the control plane");
                };
                self.inspected(node, id.0, &answer);
            }
        }
    }

    fn write(&mut self, node: usize, frame: &SealedFrame, buffer: AlignedBuffer) {
        let bytes = &buffer[..frame.bytes];
        self.note(u64::from(crc32fast::hash(bytes)));
        let (time, records) = read_frame(bytes);
        self.judge.written(node, time, records);
        self.disks[node].begin(frame.position, bytes);
        self.flying[node] = Some(buffer);
        let took = if self.happens(self.plan.stall) {
            self.judge.tally.faults.count(Fault::Stall);
            self.random.micros(10_000, 4_000_000)
        } else {
            self.random.micros(80, self.plan.write_us)
        };
        self.schedule(took, Event::Written(node));
        if std::mem::take(&mut self.is_cut_due) {
            let cut = self.random.micros(1, took.as_micros() as u64);
            self.schedule(cut, Event::Crash);
        }
        self.ahead[node].current = frame.position.segment.0;
        self.prepare(node);
    }

    fn write_ended(&mut self, node: usize) {
        if self.happens(self.plan.write_error) {
            // The server ends, and nobody knows what the disk has.
            self.judge.tally.faults.count(Fault::WriteError);
            return self.crash_and_return();
        }
        if self.happens(self.plan.short_write) {
            self.judge.tally.faults.count(Fault::ShortWrite);
            self.disks[node].come_short(&mut self.random);
            return self.crash_and_return();
        }
        if self.happens(self.plan.misdirect) {
            self.disks[node].finish_elsewhere(&mut self.random);
        } else {
            self.disks[node].finish(SYNC.is_durable());
        }
        self.judge.durable(node);
        let buffer = self.flying[node].take().expect("a write is in flight");
        self.nodes[node].arrivals.push_back(Arrival::Written(buffer));
        self.wake(node);
    }

    /// Begins to prepare a segment where there are too few.
    pub fn prepare(&mut self, node: usize) {
        let ahead = &mut self.ahead[node];
        if !ahead.is_preparing && ahead.last < ahead.current + SEGMENTS_AHEAD {
            ahead.is_preparing = true;
            let took = self.random.micros(200, 20_000);
            self.schedule(took, Event::Prepared(node));
        }
    }

    fn prepared(&mut self, node: usize) {
        let segment_blocks = self.plan.segment_bytes / BLOCK_BYTES as u64;
        if let Some(left) = &mut self.scarce_blocks {
            if *left < segment_blocks {
                // It is tried again every second, and the shard told to count on nothing.
                self.judge.tally.faults.count(Fault::NoSpace);
                self.tell_room(node, 0);
                return self.schedule(Duration::from_secs(1), Event::Prepared(node));
            }
            *left -= segment_blocks;
        }
        let segment = self.disks[node].prepare();
        self.nodes[node].arrivals.push_back(Arrival::Segment(segment));
        self.wake(node);
        (self.ahead[node].is_preparing, self.ahead[node].last) = (false, segment.index.0);
        self.prepare(node);
    }
}

impl World {
    /// The disk is full but for so many blocks, or is not any more.
    pub fn set_room(&mut self, blocks: Option<u64>) {
        self.scarce_blocks = blocks;
        self.judge.set_full(blocks.is_some());
        let shards = self.nodes.len() as u64;
        for node in 0..self.nodes.len() {
            self.tell_room(node, blocks.map_or(ROOM_BLOCKS, |blocks| blocks / shards));
        }
    }

    fn tell_room(&mut self, node: usize, blocks: u64) {
        self.nodes[node].arrivals.push_back(Arrival::Space(blocks));
        self.wake(node);
    }
}

/// The records of a frame, and their time.
fn read_frame(bytes: &[u8]) -> (TimeMs, Vec<Record>) {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let payload_bytes = (word(40) >> 32) as usize;
    let mut rest = &bytes[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + payload_bytes];
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (record, len) = decode(rest).expect("the server writes what can be read");
        records.push(record);
        rest = &rest[len..];
    }
    (TimeMs(word(32)), records)
}
