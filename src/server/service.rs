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
use super::ending::LINGER_BYTES_MAX;
use super::exchange::Exchange;
use super::mail::{Frames, Mail};
use super::metrics::{Arrivals, Asking, ShardMetrics, SlowLog, StockScan, StockTable};
use crate::admission::keys::Keys;
use crate::admission::peer::TrustedProxies;
use crate::admission::token::{TokenChecker, TokenRules};
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

/// Emptied buffers that are kept for the next answers.
const SPARE_BUFFERS_MAX: usize = 1024;

/// The largest of them.
const SPARE_BUFFER_BYTES_MAX: usize = 64 * 1024;

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
    /// The connections that there may be, over all shards.
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
    /// The wall clock, but never earlier than it was; decisions take their time from the commit
    /// queue.
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
    /// Whether more holds are due than one turn ends.
    pub(super) expiries_wait: bool,
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

    /// Whether a stopping server has answered everything.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let is_quiet = self.asks.is_done() && self.hops_in_flight == 0;
        self.draining && self.log.is_idle() && is_quiet && self.connections.len() == 0
    }

    pub(super) fn queue_send(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if !connection.queued {
            connection.queued = true;
            self.to_send.push_back(slot);
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
    use super::super::desk::Desk;
    use super::*;
    use crate::model::{Command, ItemId, ItemTerms, Price, Quantity, Query, SaleId};
    use crate::protocol::binary::{Hello, encode_command, encode_hello};

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
}
