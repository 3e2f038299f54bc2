//! One shard without its I/O: connections in, decisions, group commits, answers out.
//!
//! The driver that owns the ring and the sockets (or a simulator in its place) tells what
//! happened by the `handle_*` methods and asks what to do by the `poll_*` ones, until those
//! have nothing more. Nothing here blocks, reads a clock or makes a system call.
//!
//! Work per turn is bounded: a connection is read only as far as its requests in flight, the
//! filling batch and the mailboxes allow, and the rest of its bytes wait ([`Service::may_take`]).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use super::asks::Asks;
use super::commit::{CommitQueue, Destination, Write};
use super::connection::{ConnectionId, Connections, Phase, Seats};
use super::documents::Documents;
use super::exchange::{Exchange, HTTP_IN_FLIGHT_MAX};
use super::mail::{Frames, Mail};
use super::metrics::{Arrivals, Asking, ShardMetrics, SlowLog, StockScan, StockTable};
use crate::admission::keys::Keys;
use crate::admission::peer::TrustedProxies;
use crate::admission::token::{TokenChecker, TokenRules};
use crate::canary::{Canary, planted};
use crate::engine::Engine;
use crate::model::{ShardIndex, TimeMs};
use crate::protocol::binary::{REQUEST_BYTES_MAX, Welcome, intents};
use crate::protocol::http::{Cors, DateText, Site};
use crate::runtime::AlignedBuffer;
use crate::wal::{LogWriter, Segment};

/// Requests of one binary connection that may be unanswered; then it is not read.
pub const IN_FLIGHT_MAX: u32 = 1024;

/// Unsent answers of one connection, in bytes, with what is reserved for large ones that are
/// under way; then it is not read.
pub(super) const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// Bytes of one connection that wait for backpressure to end; then its socket is not read.
pub(super) const INPUT_BYTES_MAX: usize = 4 * REQUEST_BYTES_MAX;

/// Holds that expire in one turn, at most: a wave is spread over many turns.
const EXPIRIES_PER_TURN: usize = 256;

/// What is thrown away of it meanwhile, in bytes; then the connection is closed hard.
const LINGER_BYTES_MAX: u32 = 1 << 20;

/// Emptied buffers that are kept for the next answers.
const SPARE_BUFFERS_MAX: usize = 1024;

/// The largest of them.
const SPARE_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// A clock that goes back by less is being adjusted.
pub(super) const CLOCK_STEP_MS: u64 = 1000;

/// What it means that the clock is behind, and what to do.
pub(super) const TIME_STANDS_STILL: &str = "until it is there again no hold ends and no sale opens \
                                            by its time: check the machine's time (timedatectl)";

/// What a shard is told at its start.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// Which shard it is.
    pub index: ShardIndex,
    /// Of how many.
    pub shards: NonZeroU16,
    /// Messages that fit a mailbox between two shards; where as many requests of this shard wait
    /// for other ones' answers, it takes no further one.
    pub mailbox_messages: usize,
    /// The most connections at once.
    pub seats: Seats,
    /// A connection that sends no whole request for so long, with nothing in flight, is closed.
    pub idle_timeout: Duration,
    /// An HTTP request that was begun and is not whole after so long is refused.
    pub request_timeout: Duration,
    /// A connection that does not take its answers for so long is closed.
    pub send_timeout: Duration,
    /// The answer to Hello, but for the scopes.
    pub welcome: Welcome,
    /// The keys; without any, everybody who can connect may do everything, but that over HTTP a
    /// buyer needs a token where there are rules for them.
    pub keys: Option<Arc<Keys>>,
    /// An answer that takes longer than this is reported; without it, none is.
    pub slow_request: Option<Duration>,
    /// Which buyers' tokens hold; without any, none does.
    pub token_rules: Option<Arc<TokenRules>>,
    /// Whether buyers themselves may confirm, buy and cancel what costs money.
    pub buyers_confirm: bool,
    /// The proxies whose word on a client's address counts.
    pub trusted_proxies: TrustedProxies,
    /// Whether each HTTP connection of such a proxy starts with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// The web origins that may read answers over HTTP.
    pub cors: Cors,
    /// What is served over HTTP as it is.
    pub documents: Arc<Documents>,
}

/// What is spoken on a connection; its listener says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// The binary protocol.
    Binary,
    /// HTTP/1.1.
    Http {
        /// The address of the socket's other end.
        peer: SocketAddr,
    },
}

/// Whether a connection's socket is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Stop reading; what arrives stays with the kernel and slows the peer down.
    Pause,
    /// Read on.
    Resume,
}

/// One shard without its I/O.
pub struct Service {
    pub(super) config: ServiceConfig,
    pub(super) engine: Engine,
    pub(super) log: CommitQueue,
    pub(super) connections: Connections,
    /// The clock as it was last told; decisions take their time from the commit queue.
    /// The wall clock, but never earlier than it was.
    pub(super) clock: TimeMs,
    /// The wall clock as it is.
    pub(super) wall: TimeMs,
    pub(super) monotonic: Duration,
    pub(super) draining: bool,
    /// When the server was told to stop.
    pub(super) drain_began: Duration,
    /// Checks buyers' tokens.
    pub(super) tokens: Option<TokenChecker>,
    /// What every HTTP answer says.
    pub(super) site: Site,
    pub(super) to_send: VecDeque<u32>,
    pub(super) stalled: VecDeque<u32>,
    pub(super) reading: VecDeque<(u32, Reading)>,
    pub(super) finishing: VecDeque<u32>,
    pub(super) closing: VecDeque<u32>,
    /// Mail for each shard, in order; the one for this shard stays empty.
    pub(super) mail: Vec<VecDeque<Mail>>,
    pub(super) asks: Asks,
    pub(super) scratch: Vec<u8>,
    pub(super) metrics: Arc<ShardMetrics>,
    /// The request that is being handled.
    pub(super) asking: Asking,
    /// The answers of this turn.
    pub(super) answered: Arrivals,
    pub(super) slow: SlowLog,
    /// When the write in flight was handed to the ring.
    pub(super) write_started: Option<Duration>,
    pub(super) stock: Option<StockScan>,
    pub(super) stock_done: Option<Box<StockTable>>,
    /// Requests that were sent to other shards and are not answered.
    pub(super) hops_in_flight: u64,
    spare_buffers: Vec<Vec<u8>>,
    pub(super) sweep_next: u32,
    pub(super) sweep_due: Duration,
    expiries_wait: bool,
}

impl Service {
    /// A shard that goes on where its log ends.
    #[must_use]
    pub fn new(config: ServiceConfig, engine: Engine, log: LogWriter) -> Self {
        let shards = usize::from(config.shards.get());
        Self {
            connections: Connections::new(config.seats.clone()),
            engine,
            log: CommitQueue::new(log),
            clock: TimeMs(0),
            wall: TimeMs(0),
            monotonic: Duration::ZERO,
            draining: false,
            drain_began: Duration::ZERO,
            tokens: config.token_rules.clone().map(TokenChecker::new),
            slow: SlowLog::new(config.slow_request),
            site: Site { date: DateText::new(TimeMs(0)), cors: config.cors.clone() },
            to_send: VecDeque::new(),
            stalled: VecDeque::new(),
            reading: VecDeque::new(),
            finishing: VecDeque::new(),
            closing: VecDeque::new(),
            mail: (0..shards).map(|_| VecDeque::new()).collect(),
            asks: Asks::default(),
            scratch: Vec::new(),
            metrics: Arc::default(),
            asking: Asking::default(),
            answered: Arrivals::default(),
            write_started: None,
            stock: None,
            stock_done: None,
            hops_in_flight: 0,
            spare_buffers: Vec::new(),
            sweep_next: 0,
            sweep_due: Duration::ZERO,
            expiries_wait: false,
            config,
        }
    }

    /// The time, once a turn and before anything else of the turn. A wall clock that is set back
    /// stands still here until it has caught up: what is over stays over.
    pub fn handle_time(&mut self, clock: TimeMs, monotonic: Duration) {
        if clock.0 + CLOCK_STEP_MS < self.wall.0 {
            let (shard, ms) = (self.config.index.0, self.wall.0 - clock.0);
            tracing::warn!(shard, "the clock went back by {ms} ms; {TIME_STANDS_STILL}");
        }
        self.wall = clock;
        self.clock = self.clock.max(clock);
        self.monotonic = monotonic;
        self.asking.arrived = monotonic;
        if self.site.date.is_stale(self.clock) {
            self.site.date = DateText::new(self.clock);
        }
    }

    /// A peer connected. `None`: there are too many, close its socket. One that connected just
    /// before the server stopped listening is told that it stops, like every other.
    pub fn handle_open(&mut self, wire: Wire) -> Option<ConnectionId> {
        let opened = self.open(wire);
        let count =
            if opened.is_some() { &self.metrics.accepted } else { &self.metrics.turned_away };
        count.add(1);
        opened
    }

    fn open(&mut self, wire: Wire) -> Option<ConnectionId> {
        let http = match wire {
            Wire::Binary => None,
            Wire::Http { peer } => {
                let awaits_proxy_header = self.awaits_proxy_header(peer.ip());
                let mut exchange = Exchange::new(peer, awaits_proxy_header);
                exchange.is_last_due = self.draining;
                Some(Box::new(exchange))
            }
        };
        self.connections.open(http, self.monotonic)
    }

    /// All bytes that are going to be handled in this turn, for a first look: what they will ask
    /// for is read into the caches together, rather than one miss after the other.
    pub fn prepare<'a>(&self, received: impl Iterator<Item = (u32, &'a [u8])>) {
        let is_binary =
            |slot| self.connections.get(slot).is_some_and(|connection| connection.http.is_none());
        let binary = received.filter(|(slot, _)| is_binary(*slot));
        self.engine.prepare(binary.flat_map(|(_, bytes)| intents(bytes)));
    }

    /// Bytes arrived.
    pub fn handle_bytes(&mut self, slot: u32, bytes: &[u8]) {
        let connection = self.connections.at(slot);
        match connection.phase {
            Phase::Ending(_) | Phase::Closing => return,
            Phase::Lingering { discarded_bytes } => {
                let discarded_bytes = discarded_bytes.saturating_add(bytes.len() as u32);
                connection.phase = Phase::Lingering { discarded_bytes };
                if discarded_bytes > LINGER_BYTES_MAX {
                    self.close(slot);
                }
                return;
            }
            Phase::Greeting | Phase::Serving(_) => {}
        }
        if connection.input.is_empty() {
            let taken = self.take_requests(slot, bytes);
            let left = &bytes[taken..];
            if !left.is_empty() {
                self.connections.at(slot).input.extend_from_slice(left);
            }
        } else {
            connection.input.extend_from_slice(bytes);
            if !connection.stalled {
                self.take_input(slot);
            }
        }
        let connection = self.connections.at(slot);
        if connection.stalled && !connection.paused && connection.input.len() > INPUT_BYTES_MAX {
            connection.paused = true;
            self.reading.push_back((slot, Reading::Pause));
        }
    }

    /// The peer sends nothing more, or receiving failed. What it asked is still answered.
    pub fn handle_end(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        connection.ended = true;
        match connection.phase {
            // Its last requests wait in its input; the end comes behind them.
            Phase::Greeting | Phase::Serving(_) if connection.stalled => {}
            Phase::Greeting | Phase::Serving(_) => {
                connection.phase = Phase::Ending(None);
                self.settle(slot);
            }
            Phase::Ending(_) => self.settle(slot),
            Phase::Lingering { .. } | Phase::Closing => self.close(slot),
        }
    }

    /// A send ended. A failed one means that the peer is gone.
    pub fn handle_sent(&mut self, slot: u32, mut buffer: Vec<u8>, succeeded: bool) {
        buffer.clear();
        let is_kept = buffer.capacity() <= SPARE_BUFFER_BYTES_MAX;
        if is_kept && self.spare_buffers.len() < SPARE_BUFFERS_MAX {
            self.spare_buffers.push(buffer);
        }
        let monotonic = self.monotonic;
        let connection = self.connections.at(slot);
        connection.sending = false;
        connection.active_at = monotonic;
        if succeeded {
            if connection.output.is_empty() {
                self.settle(slot);
            } else {
                self.queue_send(slot);
            }
        } else {
            self.close(slot);
        }
    }

    /// The frame in flight is durable.
    pub fn handle_written(&mut self, buffer: AlignedBuffer) {
        self.count_write();
        let Self { log, connections, to_send, mail, asks, answered, .. } = self;
        log.handle_written(buffer, answered, |to, bytes| {
            deliver(connections, to_send, mail, asks, to, bytes);
        });
    }

    /// The next segment of the log is there.
    pub fn handle_segment(&mut self, segment: Segment) {
        self.log.add_segment(segment);
    }

    /// The driver closed the socket, and nothing of it is in flight.
    pub fn handle_closed(&mut self, slot: u32) {
        let connection = self.connections.close(slot);
        self.count_closed(connection.reason);
        if connection.queued {
            self.to_send.retain(|queued| *queued != slot);
        }
        if connection.stalled {
            self.stalled.retain(|queued| *queued != slot);
        }
        self.reading.retain(|(queued, _)| *queued != slot);
        self.finishing.retain(|queued| *queued != slot);
    }

    /// The server stops: what was taken is answered, what comes is refused, then all is closed.
    /// Over HTTP the last answer of each connection says so.
    pub fn handle_drain(&mut self) {
        self.draining = true;
        self.drain_began = self.monotonic;
        self.sweep_due = self.monotonic;
        for slot in 0..self.connections.slots() {
            let Some(connection) = self.connections.get_mut(slot) else { continue };
            if let Some(exchange) = &mut connection.http {
                exchange.is_last_due = true;
                connection.announce_end();
            }
        }
    }

    /// What is due by itself, once a turn: expired holds, what the control plane asked, memory of
    /// archived sales, stalled connections, time-outs.
    pub fn handle_turn(&mut self) {
        self.expire_holds();
        self.take_asks();
        self.engine.reclaim();
        for _ in 0..self.stalled.len() {
            if !self.log.has_room() {
                break;
            }
            let Some(slot) = self.stalled.pop_front() else { break };
            let connection = self.connections.at(slot);
            connection.stalled = false;
            self.asking.arrived = connection.stalled_at;
            self.take_input(slot);
            self.asking.arrived = self.monotonic;
            self.resume_reading(slot);
        }
        self.sweep();
        self.scan_stock();
    }

    /// The next frame for the log.
    pub fn poll_write(&mut self) -> Option<Write> {
        self.log.poll_write(&self.metrics)
    }

    /// The next buffer to be sent whole; [`Self::handle_sent`] gives it back.
    pub fn poll_send(&mut self) -> Option<(u32, Vec<u8>)> {
        loop {
            let slot = self.to_send.pop_front()?;
            let connection = self.connections.at(slot);
            connection.queued = false;
            if connection.sending || connection.phase == Phase::Closing {
                continue;
            }
            if connection.output.is_empty() {
                self.settle(slot);
                continue;
            }
            connection.sending = true;
            connection.sent_at = self.monotonic;
            let spare = self.spare_buffers.pop().unwrap_or_default();
            return Some((slot, std::mem::replace(&mut connection.output, spare)));
        }
    }

    /// The next connection that is to be read or not to be read any more.
    pub fn poll_reading(&mut self) -> Option<(u32, Reading)> {
        self.reading.pop_front()
    }

    /// The next connection whose sending side is to be ended.
    pub fn poll_finish(&mut self) -> Option<u32> {
        self.finishing.pop_front()
    }

    /// The next connection whose socket is to be closed; [`Self::handle_closed`] follows.
    pub fn poll_close(&mut self) -> Option<u32> {
        self.closing.pop_front()
    }

    /// The mail for another shard, oldest first. The driver takes what its mailbox has room for.
    pub fn mail_for(&mut self, shard: ShardIndex) -> &mut VecDeque<Mail> {
        &mut self.mail[usize::from(shard.0)]
    }

    /// Whether the log waits for its next segment.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.log.is_starved()
    }

    /// Whether mail waits for room in a mailbox.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.mail.iter().any(|queue| !queue.is_empty())
    }

    /// Whether there is work that waits for nothing but the next turn.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let has_room = self.log.has_room() && self.mail_has_room();
        let can_resume = has_room && self.stalled.iter().any(|slot| self.is_within_bounds(*slot));
        let is_due = self.expiries_wait || !self.asks.is_empty();
        let may_go_on = can_resume || (is_due && self.log.has_room());
        let is_scanned = self.stock.is_some() || self.engine.has_garbage();
        is_scanned || (!self.log.is_starved() && may_go_on)
    }

    /// How long the driver may sleep where nothing happens.
    #[must_use]
    pub fn sleep(&self) -> Option<Duration> {
        let sweep =
            (self.connections.len() > 0).then(|| self.sweep_due.saturating_sub(self.monotonic));
        // Without room in the log a hold cannot expire, and the disk's answer wakes the driver, or
        // the control plane does. So it is where the filling batch keeps the time at that of its
        // first record.
        let may_expire = self.log.has_room() && self.may_end_holds();
        let expiry = self.engine.next_expiry().filter(|_| may_expire);
        let now = self.log.now(self.clock);
        let expiry = expiry.map(|due| Duration::from_millis(due.0.saturating_sub(now.0)));
        match (sweep, expiry) {
            (Some(sweep), Some(expiry)) => Some(sweep.min(expiry)),
            (sweep, expiry) => sweep.or(expiry),
        }
    }

    /// Whether a stopping server has answered everything.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let is_quiet = self.asks.is_done() && self.hops_in_flight == 0;
        self.draining && self.log.is_idle() && is_quiet && self.connections.len() == 0
    }

    fn expire_holds(&mut self) {
        self.expiries_wait = false;
        for _ in 0..EXPIRIES_PER_TURN {
            if !self.log.has_room() {
                self.expiries_wait = true;
                return;
            }
            // Its stock comes back later; to everybody who asks it is over already.
            if !self.may_end_holds() {
                return;
            }
            let now = self.log.now(self.clock);
            let Some(record) = self.engine.poll_expired(now) else { return };
            self.log.append(now, &record);
            self.engine.apply(&record);
            self.metrics.expired.add(1);
        }
        self.expiries_wait = true;
    }

    /// Whether a connection has room for one more request and its answer.
    pub(super) fn is_within_bounds(&self, slot: u32) -> bool {
        self.connections.get(slot).is_some_and(|connection| {
            let output = connection.output.len() + connection.reserved as usize;
            let in_flight_max =
                if connection.http.is_some() { HTTP_IN_FLIGHT_MAX } else { IN_FLIGHT_MAX };
            connection.in_flight < in_flight_max && output < OUTPUT_BYTES_MAX
        })
    }

    /// Whether requests may be taken as far as the other shards are concerned. Only what this shard
    /// asks counts, so that its own peers don't wait for those that take its answers.
    pub(super) fn mail_has_room(&self) -> bool {
        planted(Canary::OverfillMailbox)
            || self.hops_in_flight < self.config.mailbox_messages as u64
    }

    pub(super) fn queue_send(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if !connection.queued {
            connection.queued = true;
            self.to_send.push_back(slot);
        }
    }

    fn resume_reading(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if connection.paused && connection.input.len() < INPUT_BYTES_MAX / 2 {
            connection.paused = false;
            self.reading.push_back((slot, Reading::Resume));
        }
    }
}

/// Hands an answer over whose time has come.
pub(super) fn deliver(
    connections: &mut Connections,
    to_send: &mut VecDeque<u32>,
    mail: &mut [VecDeque<Mail>],
    asks: &mut Asks,
    to: Destination,
    bytes: &[u8],
) {
    match to {
        Destination::Local(reply_to) => {
            // Its peer may have gone without waiting for the answer.
            let Some(connection) = connections.find(reply_to.connection) else { return };
            let is_sent = connection.take_answer(reply_to, |out| out.extend_from_slice(bytes));
            if is_sent && !connection.queued {
                connection.queued = true;
                to_send.push_back(reply_to.connection.slot);
            }
        }
        Destination::Remote(shard, reply_to) => {
            let frames = Frames::copy_of(bytes);
            mail[usize::from(shard.0)].push_back(Mail::Answer { reply_to, frames });
        }
        Destination::Control(id) => asks.answered.push_back((id, Frames::copy_of(bytes))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::ReplyTo;
    use super::super::desk::{Desk, SECOND, SLOW};
    use super::super::form::Form;
    use super::super::mail::SentAsk;
    use super::super::metrics::{CloseReason, Operation, Protocol};
    use super::*;
    use crate::model::{
        AccountId, Answer, Command, Intent, ItemId, ItemTerms, Line, OrderNumber, Outcome, Price,
        Quantity, Query, Refusal, RequestId, SaleId, SaleState, SaleTerms, Wanted, WantedLine,
    };
    use crate::protocol::binary::{Hello, Response, encode_command, encode_hello};

    const SALE: SaleId = SaleId(1);

    const STATS: Query = Query::Stats { sale: SALE };

    #[test]
    fn a_connection_that_failed_takes_no_more_of_what_it_sent() {
        let mut desk = Desk::new();
        desk.receive_queries(1, STATS);
        desk.poll();
        desk.receive_command(SALE);
        desk.poll();
        desk.receive_queries(2 * IN_FLIGHT_MAX, STATS);
        // The disk has everything in the very turn in which the peer goes.
        desk.written();
        let buffer = desk.sending.take().expect("a send is in flight");
        desk.service.handle_sent(desk.slot, buffer, false);
        desk.service.handle_turn();
        assert!(desk.service.poll_send().is_none(), "nobody is there to send to");
        assert_eq!(desk.service.poll_close(), Some(desk.slot));
        assert_eq!(desk.service.poll_close(), None, "a socket is closed once");
    }

    /// Another shard that is slow to take answers costs this shard's own peers nothing.
    #[test]
    fn answers_that_wait_for_another_shard_hold_nobody_up() {
        let two = NonZeroU16::new(2).expect("it is not zero");
        let mut desk = Desk::with(two, |config| config.mailbox_messages = 4);
        let sales = (1..100).map(SaleId);
        let [own, other] = [ShardIndex(0), ShardIndex(1)];
        let of = |shard| sales.clone().find(|sale| sale.shard(two) == shard).expect("there is one");
        let connection = ConnectionId { slot: 9, generation: 9 };
        let reply_to = ReplyTo { connection, reserved: 0, sequence: 0 };
        for correlation in 0..10 {
            let ask = SentAsk::Query(Query::Stats { sale: of(own) });
            let form = Form::Binary { correlation };
            desk.service.handle_mail(other, Mail::Request { reply_to, form, ask });
        }
        assert_eq!(desk.service.mail_for(other).len(), 10);
        desk.receive_queries(1, Query::Stats { sale: of(own) });
        desk.poll();
        assert_eq!(desk.sent().len(), 1);
        // What it asks itself is bounded.
        desk.receive_queries(10, Query::Stats { sale: of(other) });
        assert_eq!(desk.service.mail_for(other).len(), 10 + 4);
    }

    /// Somebody has to see that time stands still.
    #[test]
    fn a_clock_that_goes_back_is_told() {
        let mut desk = Desk::new();
        let behind = |desk: &mut Desk, clock_ms| {
            desk.service.handle_time(TimeMs(clock_ms), SECOND);
            desk.service.handle_turn();
            desk.service.handle_turn_end(SECOND);
            desk.service.metrics().clock_behind_ms.value()
        };
        assert_eq!(behind(&mut desk, 90_000), 0);
        assert_eq!(behind(&mut desk, 30_000), 60_000);
        desk.receive_command(SALE);
        desk.poll();
        assert_eq!(behind(&mut desk, 80_000), 10_000);
        desk.written();
        assert_eq!(behind(&mut desk, 90_001), 0);
    }

    /// The bound that `HELLO` tells: what is beyond it waits, and nothing is dropped.
    #[test]
    fn a_connection_has_as_many_requests_in_flight_as_it_was_told() {
        let mut desk = Desk::new();
        desk.receive_command(SALE);
        desk.poll();
        let query = Query::Order { sale: SALE, order: OrderNumber(1) };
        desk.receive_queries(2 * IN_FLIGHT_MAX, query);
        assert_eq!(desk.service.connections.at(desk.slot).in_flight, IN_FLIGHT_MAX);
        desk.written();
        let mut answers = 0;
        while answers < 1 + 2 * IN_FLIGHT_MAX as usize {
            desk.service.handle_turn();
            desk.poll();
            answers += desk.sent().len();
            assert!(desk.service.connections.at(desk.slot).in_flight <= IN_FLIGHT_MAX);
        }
        assert_eq!(answers, 1 + 2 * IN_FLIGHT_MAX as usize);
    }

    #[test]
    fn a_stop_waits_for_the_answers_that_are_due() {
        let mut desk = Desk::new();
        desk.receive_command(SALE);
        desk.poll();
        desk.service.handle_drain();
        desk.service.handle_time(TimeMs(1), 3 * SECOND);
        desk.written();
        desk.service.handle_turn();
        desk.poll();
        let done = Answer { outcome: Outcome::Done, replayed: false };
        assert_eq!(desk.sent(), [Response::Answer(Ok(done))]);
        // What was on its way is refused, not cut off.
        desk.service.handle_turn();
        assert_eq!(desk.service.poll_close(), None);
        desk.receive_command(SaleId(2));
        desk.poll();
        assert_eq!(desk.sent(), [Response::Answer(Err(Refusal::Draining))]);
        desk.service.handle_time(TimeMs(1), 4 * SECOND);
        desk.service.handle_turn();
        assert_eq!(desk.service.poll_finish(), Some(desk.slot), "it ends in order");
        // Its peer ends too, or takes too long.
        assert_eq!(desk.service.poll_close(), None);
        desk.service.handle_time(TimeMs(1), 5 * SECOND);
        desk.service.handle_turn();
        assert_eq!(desk.service.poll_close(), Some(desk.slot));
    }

    #[test]
    fn no_answer_runs_ahead_of_the_disk() {
        let mut desk = Desk::new();
        let item = ItemId(1);
        let terms = ItemTerms { capacity: Quantity(1), price: Price(1), account_limit: None };
        desk.receive_command(SALE);
        desk.poll();
        assert!(desk.writing.is_some() && desk.sending.is_none(), "a success waits");
        // These saw what is being written: a read, a refusal, and the same command again.
        desk.receive_queries(1, STATS);
        let unknown = Command::CloseSale { sale: SaleId(9) };
        desk.receive(|out| encode_command(out, 4, &unknown));
        desk.receive_command(SALE);
        desk.poll();
        assert!(desk.sending.is_none(), "they wait with it");
        let define = Command::DefineItem { sale: SALE, item, terms };
        desk.receive(|out| encode_command(out, 5, &define));
        desk.receive_queries(1, STATS);
        desk.written();
        desk.poll();
        assert_eq!(desk.sent().len(), 4, "what the first frame proves, and no more");
        desk.poll();
        assert!(desk.writing.is_some() && desk.sending.is_none(), "the second frame is on its way");
        desk.written();
        desk.poll();
        assert_eq!(desk.sent().len(), 2);
        // Now that all is durable, a read waits for nothing.
        desk.receive_queries(1, STATS);
        desk.poll();
        assert_eq!(desk.sent().len(), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_close_what_was_open() {
        let mut desk = Desk::new();
        let terms = SaleTerms { opens_at: Some(TimeMs(1_000)), ..SaleTerms::default() };
        let command = Command::DefineSale { sale: SALE, terms };
        desk.receive(|out| encode_command(out, 2, &command));
        desk.poll();
        desk.written();
        desk.poll();
        desk.sent();
        for (clock, expected) in
            [(999, SaleState::Scheduled), (1_000, SaleState::Open), (500, SaleState::Open)]
        {
            desk.service.handle_time(TimeMs(clock), SECOND);
            desk.receive_queries(1, STATS);
            desk.poll();
            let answers = desk.sent();
            let [Response::Answer(Ok(Answer { outcome: Outcome::Stats(stats), .. }))] = answers[..]
            else {
                panic!("no stats: {answers:?}")
            };
            assert_eq!(stats.state, expected, "at {clock}");
        }
    }

    #[test]
    fn a_hold_that_cannot_expire_before_the_disk_answers_leaves_the_shard_asleep() {
        let mut desk = Desk::new();
        let (item, intent) =
            (ItemId(1), Intent { sale: SALE, account: AccountId(1), request: RequestId(1) });
        let terms = ItemTerms { capacity: Quantity(1), price: Price(1), account_limit: None };
        let wanted = WantedLine { line: Line { item, quantity: Quantity(1) }, price: None };
        let lines = Wanted::new([wanted]).expect("one line");
        for command in [
            Command::DefineSale { sale: SALE, terms: SaleTerms::default() },
            Command::DefineItem { sale: SALE, item, terms },
            Command::OpenSale { sale: SALE },
            Command::Hold { intent, lines, ttl: Some(crate::model::sale::HOLD_TTL_MIN) },
        ] {
            desk.receive(|out| encode_command(out, 2, &command));
        }
        desk.poll();
        // One frame is in flight, and one more record waits behind it, of the same time.
        desk.receive_command(SaleId(2));
        desk.service.handle_time(TimeMs(10_000), SECOND);
        desk.service.handle_turn();
        assert!(!desk.service.is_busy());
        assert!(desk.service.sleep().is_some_and(|sleep| sleep > Duration::ZERO), "no spinning");
        desk.written();
        desk.poll();
        assert_eq!(desk.service.sleep(), Some(Duration::ZERO), "now it can expire");
        desk.service.handle_turn();
        desk.written();
        assert!(desk.service.poll_write().is_some(), "and does");
    }

    #[test]
    fn a_peer_that_does_not_read_leaves_the_shard_asleep() {
        let mut desk = Desk::new();
        desk.receive_queries(50_000, STATS);
        desk.poll();
        desk.service.handle_turn();
        assert!(!desk.service.stalled.is_empty(), "it has more to say than it may");
        assert!(!desk.service.is_busy(), "and has to read first");
        let mut answers = desk.sent().len();
        while answers < 50_000 {
            desk.poll();
            desk.service.handle_turn();
            answers += desk.sent().len();
        }
        assert!(desk.service.stalled.is_empty());
    }

    #[test]
    fn requests_do_not_excuse_a_peer_that_takes_no_answers() {
        let mut desk = Desk::new();
        desk.receive_queries(1, STATS);
        desk.poll();
        for second in 2..=11 {
            desk.service.handle_turn();
            assert_eq!(desk.service.poll_close(), None, "it has 10 seconds");
            desk.service.handle_time(TimeMs(1), second * SECOND);
            desk.receive_queries(1, STATS);
        }
        desk.service.handle_turn();
        assert_eq!(desk.service.poll_close(), Some(desk.slot));
    }

    #[test]
    fn large_answers_that_wait_for_the_disk_are_bounded() {
        let mut desk = Desk::new();
        desk.receive_command(SALE);
        let terms = ItemTerms { capacity: Quantity(1), price: Price(1), account_limit: None };
        for item in (0..1_024).map(ItemId) {
            let command = Command::DefineItem { sale: SALE, item, terms };
            desk.receive(|out| encode_command(out, 2, &command));
        }
        desk.poll();
        desk.poll();
        let answer_bytes = 64 * 1024;
        let query = Query::Availability { sale: SALE };
        for _ in 0..100 {
            desk.slot = desk.service.handle_open(Wire::Binary).expect("there is room").slot;
            desk.receive(|out| encode_hello(out, 1, &Hello { key: b"", name: "" }));
            let before = desk.service.log.parked_bytes();
            desk.receive_queries(IN_FLIGHT_MAX, query);
            let own = desk.service.log.parked_bytes() - before;
            assert!(own <= OUTPUT_BYTES_MAX + answer_bytes, "{own} for one connection");
        }
        let parked = desk.service.log.parked_bytes();
        assert!(parked <= super::super::commit::PARKED_BYTES_MAX + answer_bytes, "{parked}");
        assert!(parked > 0);
    }

    #[test]
    fn every_answer_is_counted_once_and_timed_from_its_arrival() {
        let mut desk = Desk::new();
        let metrics = Arc::clone(desk.service.metrics());
        desk.receive_command(SALE);
        desk.poll();
        desk.service.handle_turn_end(SECOND);
        desk.receive_queries(3, STATS);
        desk.poll();
        desk.service.handle_time(TimeMs(1), SECOND + SLOW);
        desk.receive_queries(2, STATS);
        desk.service.handle_turn_end(SECOND + SLOW);
        assert_eq!((metrics.parked.value(), metrics.answers.values().count), (6, 0));
        assert_eq!((metrics.appended_lsn.value(), metrics.durable_lsn.value()), (1, 0));
        desk.service.handle_time(TimeMs(1), SECOND + SLOW + SLOW);
        desk.written();
        desk.poll();
        desk.service.handle_turn_end(SECOND + SLOW + SLOW);
        assert_eq!((metrics.parked.value(), metrics.durable_lsn.value()), (0, 1));
        let answers = metrics.answers.values();
        assert_eq!((answers.count, answers.sum), (6, 4 * 10_000 + 2 * 5_000));
        let writes = metrics.log_writes.values();
        assert_eq!((writes.count, writes.sum), (1, 10_000), "until the disk had it");
        assert_eq!(metrics.batch_records.values().sum, 1);
        // An answer of exactly the threshold is not slow.
        assert_eq!(metrics.slow.value(), 4);
        let told: Vec<_> = std::iter::from_fn(|| desk.service.poll_slow()).collect();
        assert_eq!(told.len(), 4);
        assert_eq!(told[0].operation, Operation::DefineSale);
        assert_eq!((told[3].operation, told[3].took), (Operation::Stats, 2 * SLOW));
        // Nothing to wait for: the answer leaves in the turn.
        desk.sent();
        desk.receive_queries(1, STATS);
        desk.poll();
        desk.service.handle_turn_end(SECOND + SLOW + SLOW);
        assert_eq!(metrics.answers.values().count, 7);
        let counted: Vec<_> =
            metrics.requests.counted().filter(|row| row.3 > 0).map(|row| (row.1, row.3)).collect();
        assert_eq!(counted, [(Operation::DefineSale, 1), (Operation::Stats, 6)]);
    }

    #[test]
    fn each_end_of_a_connection_is_counted_with_its_reason() {
        let mut desk = Desk::new();
        let metrics = Arc::clone(desk.service.metrics());
        let closed = |reason: CloseReason| metrics.closed[reason as usize].value();
        let end = |desk: &mut Desk| {
            while let Some((slot, buffer)) = desk.service.poll_send() {
                desk.service.handle_sent(slot, buffer, true);
            }
            let slot = desk.service.poll_close().unwrap_or_else(|| {
                // Where it was told of its fault, the peer goes first.
                desk.service.handle_end(desk.slot);
                desk.service.poll_close().expect("it is over")
            });
            desk.service.handle_closed(slot);
            desk.slot = desk.service.handle_open(Wire::Binary).expect("there is room").slot;
        };
        desk.service.handle_end(desk.slot);
        end(&mut desk);
        assert_eq!(closed(CloseReason::Peer), 1);
        desk.receive_queries(1, STATS);
        end(&mut desk);
        assert_eq!(closed(CloseReason::Fault), 1);
        assert_eq!(metrics.faults[Protocol::Binary as usize].value(), 1);
        desk.service.handle_time(TimeMs(1), 1_000 * SECOND);
        desk.service.handle_turn();
        end(&mut desk);
        assert_eq!(closed(CloseReason::Idle), 1);
        assert_eq!((metrics.accepted.value(), metrics.turned_away.value()), (4, 0));
        while desk.service.handle_open(Wire::Binary).is_some() {}
        assert_eq!((metrics.accepted.value(), metrics.turned_away.value()), (101 + 3, 1));
    }

    #[test]
    fn stock_is_told_while_nothing_else_happens() {
        let mut desk = Desk::new();
        desk.receive_command(SALE);
        desk.service.handle_stock(Box::new(StockTable::with_room()));
        assert!(desk.service.is_busy(), "somebody waits");
        while desk.service.is_busy() {
            desk.service.handle_turn();
        }
        let table = desk.service.poll_stock().expect("the scan is over");
        assert_eq!(table.sales.iter().map(|sale| sale.sale).collect::<Vec<_>>(), [SALE]);
        assert!(desk.service.poll_stock().is_none());
    }
}
