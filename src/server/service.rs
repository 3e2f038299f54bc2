//! One shard without its I/O: connections in, decisions, group commits, answers out.
//!
//! The driver that owns the ring and the sockets (or a simulator in its place) tells what
//! happened by the `handle_*` methods and asks what to do by the `poll_*` ones, until those
//! have nothing more. Nothing here blocks, reads a clock or makes a system call.
//!
//! Work per turn is bounded: a connection is read only as far as its requests in flight, the
//! filling batch and the mailboxes allow, and the rest of its bytes wait ([`Service::may_take`]).

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use super::commit::{CommitQueue, Destination, Write};
use super::connection::{ConnectionId, Connections, Phase};
use super::mail::{Frames, MAILBOX_MESSAGES, Mail};
use crate::admission::keys::Keys;
use crate::engine::Engine;
use crate::model::{Lsn, ShardIndex, TimeMs};
use crate::protocol::binary::{REQUEST_BYTES_MAX, Welcome, encode_error};
use crate::runtime::AlignedBuffer;
use crate::wal::{LogWriter, Segment};

/// Requests of one connection that may be unanswered; then it is not read.
pub const IN_FLIGHT_MAX: u32 = 1024;

/// Unsent answers of one connection, in bytes; then it is not read.
pub(super) const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// Bytes of one connection that wait for backpressure to end; then its socket is not read.
pub(super) const INPUT_BYTES_MAX: usize = 4 * REQUEST_BYTES_MAX;

/// Holds that expire in one turn, at most: a wave is spread over many turns.
const EXPIRIES_PER_TURN: usize = 256;

/// Connections whose time-outs are looked at in one turn, at most.
const SWEEP_PER_TURN: u32 = 512;

/// How often every connection's time-outs are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Emptied buffers that are kept for the next answers.
const SPARE_BUFFERS_MAX: usize = 1024;

/// What a shard is told at its start.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// Which shard it is.
    pub index: ShardIndex,
    /// Of how many.
    pub shards: NonZeroU16,
    /// The most connections at once.
    pub connections_max: usize,
    /// A connection that sends no whole request for so long, with nothing in flight, is closed.
    pub idle_timeout: Duration,
    /// A connection that does not take its answers for so long is closed.
    pub send_timeout: Duration,
    /// The answer to Hello, but for the scopes.
    pub welcome: Welcome,
    /// The keys; without any, everybody who can connect may do everything.
    pub keys: Option<Arc<Keys>>,
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
    pub(super) clock: TimeMs,
    pub(super) monotonic: Duration,
    pub(super) draining: bool,
    pub(super) to_send: VecDeque<u32>,
    pub(super) stalled: VecDeque<u32>,
    pub(super) reading: VecDeque<(u32, Reading)>,
    pub(super) closing: VecDeque<u32>,
    /// Mail for each shard, in order; the one for this shard stays empty.
    pub(super) mail: Vec<VecDeque<Mail>>,
    pub(super) scratch: Vec<u8>,
    spare_buffers: Vec<Vec<u8>>,
    sweep_next: u32,
    sweep_due: Duration,
    expiries_wait: bool,
}

impl Service {
    /// A shard that goes on where its log ends.
    #[must_use]
    pub fn new(config: ServiceConfig, engine: Engine, log: LogWriter) -> Self {
        let shards = usize::from(config.shards.get());
        Self {
            connections: Connections::new(config.connections_max),
            config,
            engine,
            log: CommitQueue::new(log),
            clock: TimeMs(0),
            monotonic: Duration::ZERO,
            draining: false,
            to_send: VecDeque::new(),
            stalled: VecDeque::new(),
            reading: VecDeque::new(),
            closing: VecDeque::new(),
            mail: (0..shards).map(|_| VecDeque::new()).collect(),
            scratch: Vec::new(),
            spare_buffers: Vec::new(),
            sweep_next: 0,
            sweep_due: Duration::ZERO,
            expiries_wait: false,
        }
    }

    /// The time, once a turn and before anything else of the turn.
    pub fn handle_time(&mut self, clock: TimeMs, monotonic: Duration) {
        self.clock = clock;
        self.monotonic = monotonic;
    }

    /// A peer connected. `None`: there are too many, close its socket.
    pub fn handle_open(&mut self) -> Option<ConnectionId> {
        if self.draining { None } else { self.connections.open(self.monotonic) }
    }

    /// Bytes arrived.
    pub fn handle_bytes(&mut self, slot: u32, bytes: &[u8]) {
        let connection = self.connections.at(slot);
        match connection.phase {
            Phase::Ending(_) | Phase::Closing => return,
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
        if matches!(connection.phase, Phase::Greeting | Phase::Serving(_)) {
            if connection.stalled {
                // Its last requests wait in its input; the end comes behind them.
                connection.ended = true;
                return;
            }
            connection.phase = Phase::Ending(None);
        }
        self.settle(slot);
    }

    /// A send ended. A failed one means that the peer is gone.
    pub fn handle_sent(&mut self, slot: u32, mut buffer: Vec<u8>, succeeded: bool) {
        buffer.clear();
        if self.spare_buffers.len() < SPARE_BUFFERS_MAX {
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
        let Self { log, connections, to_send, mail, .. } = self;
        log.handle_written(buffer, |to, bytes| deliver(connections, to_send, mail, to, bytes));
    }

    /// The next segment of the log is there.
    pub fn handle_segment(&mut self, segment: Segment) {
        self.log.add_segment(segment);
    }

    /// The driver closed the socket, and nothing of it is in flight.
    pub fn handle_closed(&mut self, slot: u32) {
        let connection = self.connections.close(slot);
        if connection.queued {
            self.to_send.retain(|queued| *queued != slot);
        }
        if connection.stalled {
            self.stalled.retain(|queued| *queued != slot);
        }
        self.reading.retain(|(queued, _)| *queued != slot);
    }

    /// The server stops: what was taken is answered, what comes is refused, then all is closed.
    pub fn handle_drain(&mut self) {
        self.draining = true;
    }

    /// What is due by itself, once a turn: expired holds, stalled connections, time-outs.
    pub fn handle_turn(&mut self) {
        self.expire_holds();
        for _ in 0..self.stalled.len() {
            if !self.log.has_room() {
                break;
            }
            let Some(slot) = self.stalled.pop_front() else { break };
            self.connections.at(slot).stalled = false;
            self.take_input(slot);
            self.resume_reading(slot);
        }
        self.sweep();
    }

    /// The next frame for the log.
    pub fn poll_write(&mut self) -> Option<Write> {
        self.log.poll_write()
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
            connection.active_at = self.monotonic;
            let spare = self.spare_buffers.pop().unwrap_or_default();
            return Some((slot, std::mem::replace(&mut connection.output, spare)));
        }
    }

    /// The next connection that is to be read or not to be read any more.
    pub fn poll_reading(&mut self) -> Option<(u32, Reading)> {
        self.reading.pop_front()
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
        let can_resume = !self.stalled.is_empty() && self.log.has_room() && self.mail_has_room();
        !self.log.is_starved() && (can_resume || (self.expiries_wait && self.log.has_room()))
    }

    /// How long the driver may sleep where nothing happens.
    #[must_use]
    pub fn sleep(&self) -> Option<Duration> {
        let sweep =
            (self.connections.len() > 0).then(|| self.sweep_due.saturating_sub(self.monotonic));
        let expiry = self
            .engine
            .next_expiry()
            .map(|due| Duration::from_millis(due.0.saturating_sub(self.clock.0)));
        match (sweep, expiry) {
            (Some(sweep), Some(expiry)) => Some(sweep.min(expiry)),
            (sweep, expiry) => sweep.or(expiry),
        }
    }

    /// Whether a stopping server has answered everything.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.draining && self.log.is_idle() && self.connections.len() == 0
    }

    /// The last record that is on disk.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.log.durable_lsn()
    }

    fn expire_holds(&mut self) {
        self.expiries_wait = false;
        for _ in 0..EXPIRIES_PER_TURN {
            if !self.log.has_room() {
                self.expiries_wait = true;
                return;
            }
            let now = self.log.now(self.clock);
            let Some(record) = self.engine.poll_expired(now) else { return };
            self.log.append(now, &record);
            self.engine.apply(&record);
        }
        self.expiries_wait = true;
    }

    /// Whether requests may be taken as far as the other shards are concerned.
    pub(super) fn mail_has_room(&self) -> bool {
        self.mail.iter().all(|queue| queue.len() < MAILBOX_MESSAGES)
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

    /// Moves an ending connection on: its last answers out, its fault told, its socket closed.
    pub(super) fn settle(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let Phase::Ending(fault) = connection.phase else { return };
        if connection.in_flight > 0 || connection.sending {
            return;
        }
        if let Some(fault) = fault {
            encode_error(&mut connection.output, fault.correlation, fault.error);
            connection.phase = Phase::Ending(None);
        }
        if connection.output.is_empty() { self.close(slot) } else { self.queue_send(slot) }
    }

    pub(super) fn close(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if connection.phase != Phase::Closing {
            connection.phase = Phase::Closing;
            self.closing.push_back(slot);
        }
    }

    /// Closes connections that are idle or that do not take their answers.
    fn sweep(&mut self) {
        if self.monotonic < self.sweep_due {
            return;
        }
        let end = self.connections.slots().min(self.sweep_next.saturating_add(SWEEP_PER_TURN));
        for slot in self.sweep_next..end {
            let Some(connection) = self.connections.get(slot) else { continue };
            let since = self.monotonic.saturating_sub(connection.active_at);
            let is_waiting = connection.in_flight > 0 || connection.stalled;
            let is_over = if connection.sending {
                since >= self.config.send_timeout
            } else {
                !is_waiting && (since >= self.config.idle_timeout || self.draining)
            };
            if is_over {
                self.close(slot);
            }
        }
        self.sweep_next = end;
        if end == self.connections.slots() {
            self.sweep_next = 0;
            self.sweep_due = self.monotonic
                + if self.draining { Duration::from_millis(10) } else { SWEEP_INTERVAL };
        }
    }
}

/// Hands an answer over whose time has come.
pub(super) fn deliver(
    connections: &mut Connections,
    to_send: &mut VecDeque<u32>,
    mail: &mut [VecDeque<Mail>],
    to: Destination,
    bytes: &[u8],
) {
    match to {
        Destination::Local(id) => {
            // Its peer may have gone without waiting for the answer.
            let Some(connection) = connections.find(id) else { return };
            connection.output.extend_from_slice(bytes);
            connection.in_flight -= 1;
            if !connection.queued {
                connection.queued = true;
                to_send.push_back(id.slot);
            }
        }
        Destination::Remote(shard, connection) => {
            let frames = Frames::copy_of(bytes);
            mail[usize::from(shard.0)].push_back(Mail::Answer { connection, frames });
        }
    }
}
