//! One shard of the simulated server: a [`Service`], driven in the place of its thread.
//!
//! What the real driver reaps from its ring waits here until the shard's next turn; a turn does
//! what the real one does, in its order.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use boxoffice::admission::peer::TrustedProxies;
use boxoffice::engine::Engine;
use boxoffice::model::{Scopes, ShardIndex, TimeMs};
use boxoffice::protocol::binary::{FRAME_BYTES_MAX, VERSION, Welcome};
use boxoffice::protocol::http::Cors;
use boxoffice::runtime::AlignedBuffer;
use boxoffice::runtime::file::SyncMethod;
use boxoffice::server::{
    AskId, Beyond, Frames, IN_FLIGHT_MAX, Mail, Reading, Seats, SentAsk, Service, ServiceConfig,
    Wire,
};
use boxoffice::wal::{LogWriter, SealedFrame, Segment};

/// What happened to a shard since its last turn.
pub enum Arrival {
    Received(u32, Vec<u8>),
    Ended(u32),
    Sent(u32, Vec<u8>, bool),
    Written(AlignedBuffer),
    Segment(Segment),
    /// The disk has room for so many blocks more.
    Space(u64),
    Asked(AskId, Box<SentAsk>),
}

/// A connection as its shard's driver sees it.
struct Socket {
    is_read: bool,
    is_sending: bool,
    is_closing: bool,
}

/// What a shard wants done after a turn.
pub enum Wish {
    Write(SealedFrame, AlignedBuffer),
    Send(u32, Vec<u8>),
    Resume(u32),
    Finish(u32),
    Closed(u32),
    /// Mail goes into the mailbox of another shard.
    Mail(usize, Mail),
    /// A message from another shard was taken out of its mailbox.
    Taken(usize),
    /// A mailbox is full, and mail waits.
    MailWaits,
    Answered(AskId, Frames),
}

pub struct Node {
    pub service: Service,
    pub arrivals: VecDeque<Arrival>,
    /// Mail that has arrived, by its sender.
    pub mail: Vec<VecDeque<Mail>>,
    /// How many messages more fit the mailbox to each other shard.
    pub room: Vec<usize>,
    /// When the next turn is.
    pub turn_at: Option<Duration>,
    sockets: BTreeMap<u32, Socket>,
    index: usize,
    mailbox: usize,
}

/// How every shard's writes become durable.
pub const SYNC: SyncMethod = SyncMethod::DataSync;

/// How soon mail is tried again that met a full mailbox.
const FULL_MAILBOX_PAUSE: Duration = Duration::from_micros(200);

impl Node {
    pub fn new(
        index: usize,
        shards: NonZeroU16,
        mailbox: usize,
        engine: Engine,
        log: LogWriter,
    ) -> Self {
        let config = config(ShardIndex(index as u16), shards, mailbox);
        Self {
            service: Service::new(config, engine, log),
            arrivals: VecDeque::new(),
            mail: (0..shards.get()).map(|_| VecDeque::new()).collect(),
            room: vec![mailbox; usize::from(shards.get())],
            turn_at: None,
            sockets: BTreeMap::new(),
            index,
            mailbox,
        }
    }

    /// A peer connects; its slot, where there is room.
    pub fn open(&mut self, wire: Wire) -> Option<u32> {
        let slot = self.service.handle_open(wire)?.slot;
        let socket = Socket { is_read: true, is_sending: false, is_closing: false };
        assert!(self.sockets.insert(slot, socket).is_none(), "a slot is used by one at a time");
        Some(slot)
    }

    /// Whether the driver reads this connection.
    pub fn is_read(&self, slot: u32) -> bool {
        self.sockets.get(&slot).is_some_and(|socket| socket.is_read && !socket.is_closing)
    }

    /// One turn of the shard.
    pub fn turn(&mut self, clock: TimeMs, now: Duration, mut wish: impl FnMut(Wish)) {
        self.service.handle_time(clock, now);
        self.service.prepare(self.arrivals.iter().filter_map(|arrival| match arrival {
            Arrival::Received(slot, bytes) => Some((*slot, &bytes[..])),
            _ => None,
        }));
        while let Some(arrival) = self.arrivals.pop_front() {
            self.arrived(arrival, &mut wish);
        }
        for from in 0..self.mail.len() {
            while self.service.may_take_mail() {
                let Some(mail) = self.mail[from].pop_front() else { break };
                self.service.handle_mail(ShardIndex(from as u16), mail);
                wish(Wish::Taken(from));
            }
        }
        self.service.handle_turn();
        self.push_work(&mut wish);
        self.service.handle_turn_end(now);
        while self.service.poll_slow().is_some() {}
    }

    fn arrived(&mut self, arrival: Arrival, wish: &mut impl FnMut(Wish)) {
        match arrival {
            Arrival::Received(slot, bytes) => {
                if !self.socket(slot).is_closing {
                    self.service.handle_bytes(slot, &bytes);
                }
            }
            Arrival::Ended(slot) => {
                let socket = self.socket(slot);
                socket.is_read = false;
                if !socket.is_closing {
                    self.service.handle_end(slot);
                }
            }
            Arrival::Sent(slot, buffer, succeeded) => {
                self.socket(slot).is_sending = false;
                self.service.handle_sent(slot, buffer, succeeded);
                self.finish_closing(slot, wish);
            }
            Arrival::Written(buffer) => self.service.handle_written(buffer),
            Arrival::Space(blocks) => {
                self.service.handle_space(Beyond { secured: 0, free: blocks });
            }
            Arrival::Segment(segment) => self.service.handle_segment(segment),
            Arrival::Asked(id, ask) => self.service.handle_ask(id, ask),
        }
    }

    fn push_work(&mut self, wish: &mut impl FnMut(Wish)) {
        if let Some(write) = self.service.poll_write() {
            wish(Wish::Write(write.frame, write.buffer));
        }
        while let Some((slot, buffer)) = self.service.poll_send() {
            self.socket(slot).is_sending = true;
            wish(Wish::Send(slot, buffer));
        }
        while let Some((slot, reading)) = self.service.poll_reading() {
            let socket = self.socket(slot);
            socket.is_read = reading == Reading::Resume;
            if socket.is_read {
                wish(Wish::Resume(slot));
            }
        }
        while let Some(slot) = self.service.poll_finish() {
            wish(Wish::Finish(slot));
        }
        while let Some(slot) = self.service.poll_close() {
            self.socket(slot).is_closing = true;
            self.finish_closing(slot, wish);
        }
        while let Some((id, frames)) = self.service.poll_answered() {
            wish(Wish::Answered(id, frames));
        }
        for to in (0..self.mail.len()).filter(|to| *to != self.index) {
            let waiting = self.service.mail_for(ShardIndex(to as u16));
            let requests = waiting.iter().filter(|mail| matches!(mail, Mail::Request { .. }));
            assert!(requests.count() <= self.mailbox, "TAKEN though the mailbox is full");
            while self.room[to] > 0
                && let Some(mail) = waiting.pop_front()
            {
                self.room[to] -= 1;
                wish(Wish::Mail(to, mail));
            }
        }
        if self.service.has_mail() {
            wish(Wish::MailWaits);
        }
    }

    fn finish_closing(&mut self, slot: u32, wish: &mut impl FnMut(Wish)) {
        let socket = self.socket(slot);
        if socket.is_closing && !socket.is_sending {
            self.sockets.remove(&slot);
            // What is still on its way to the slot would meet its next user.
            self.arrivals.retain(|arrival| match arrival {
                Arrival::Received(at, _) | Arrival::Ended(at) => *at != slot,
                _ => true,
            });
            self.service.handle_closed(slot);
            wish(Wish::Closed(slot));
        }
    }

    /// When the driver would wake by itself.
    pub fn next_wait(&self) -> Option<Duration> {
        let mail_waits =
            self.service.may_take_mail() && self.mail.iter().any(|mail| !mail.is_empty());
        if self.service.is_busy() || mail_waits || !self.arrivals.is_empty() {
            return Some(Duration::ZERO);
        }
        let mail = self.service.has_mail().then_some(FULL_MAILBOX_PAUSE);
        [self.service.sleep(), mail].into_iter().flatten().min()
    }

    fn socket(&mut self, slot: u32) -> &mut Socket {
        self.sockets.get_mut(&slot).expect("an open socket")
    }
}

fn config(index: ShardIndex, shards: NonZeroU16, mailbox_messages: usize) -> ServiceConfig {
    ServiceConfig {
        index,
        shards,
        mailbox_messages,
        seats: Seats::new(64),
        idle_timeout: Duration::from_mins(5),
        request_timeout: Duration::from_secs(10),
        send_timeout: Duration::from_secs(10),
        welcome: Welcome {
            version: VERSION,
            scopes: Scopes::ALL,
            shard: index,
            frame_bytes_max: FRAME_BYTES_MAX as u32,
            in_flight_max: IN_FLIGHT_MAX,
            boot: 1,
            ports: (1..=shards.get()).collect(),
        },
        keys: None,
        slow_request: None,
        token_rules: None,
        trusted_proxies: TrustedProxies::default(),
        proxy_protocol: false,
        cors: Cors::default(),
        documents: Arc::default(),
        buyers_confirm: false,
    }
}
