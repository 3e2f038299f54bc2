//! Connections of one shard: their buffers, their phase, and what they still wait for.
//!
//! No socket here: the driver that owns the sockets names a connection by its slot. A slot is
//! used again only after the driver has closed its socket, and its generation then differs, so
//! that an answer which comes back from another shard late meets no stranger.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::exchange::Exchange;
use super::metrics::CloseReason;
use crate::admission::keys::KeyIndex;
use crate::model::Scopes;
use crate::protocol::binary::DecodeError;
use crate::protocol::http::{CONTINUE, HttpFault, announce_close};

/// A connection of one shard, over all time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    /// Its place in the table; the token of its operations in the ring.
    pub slot: u32,
    /// Which user of the slot it is.
    pub generation: u32,
}

/// Where the answer to a request goes, on the shard that took the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The connection.
    pub connection: ConnectionId,
    /// What the connection has reserved for a large answer, in bytes; zero for others.
    pub reserved: u32,
    /// Which of the connection's HTTP requests it is: HTTP answers go out in their order. Binary
    /// ones are told apart by their correlation ids, and have zero.
    pub sequence: u32,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not said Hello.
    Greeting,
    /// It may send requests: binary ones of these scopes, or HTTP ones, each of which names its
    /// own caller.
    Serving(Scopes),
    /// Nothing more is read; once every answer is out, the fault (if any) is told.
    Ending(Option<Fault>),
    /// All is said, and the sending side closed. What still comes is thrown away until the peer
    /// ends too: to close a socket with unread bytes would reset the connection, and the reset
    /// may overtake the answers.
    Lingering {
        /// How much was thrown away.
        discarded_bytes: u32,
    },
    /// The driver was told to close the socket.
    Closing,
}

impl Phase {
    /// Whether nothing more is read, so that it has ended for a reason already.
    pub(super) const fn is_over(self) -> bool {
        matches!(self, Self::Ending(_) | Self::Lingering { .. } | Self::Closing)
    }
}

/// What a peer did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Binary { correlation: u64, error: DecodeError },
    Http(HttpFault),
}

/// One connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, not a state")]
pub(super) struct Connection {
    pub generation: u32,
    pub phase: Phase,
    /// Bytes that arrived and were not taken: the start of a frame, or what backpressure left.
    pub input: Vec<u8>,
    /// Answers to be sent.
    pub output: Vec<u8>,
    /// Whether a send is in flight.
    pub sending: bool,
    /// Whether it is in the queue of connections with something to send.
    pub queued: bool,
    /// Whether it is in the queue of connections that backpressure holds back.
    pub stalled: bool,
    /// Whether reading was paused.
    pub paused: bool,
    /// Whether the peer sends nothing more; its last requests may still wait in `input`.
    pub ended: bool,
    /// Requests that were taken and not answered.
    pub in_flight: u32,
    /// Bytes that the large ones among their answers may have.
    pub reserved: u32,
    /// When the last whole request arrived, or the last send ended.
    pub active_at: Duration,
    /// When the last send began.
    pub sent_at: Duration,
    /// When backpressure last held it back.
    pub stalled_at: Duration,
    /// The key that let it in, where one did: a binary connection says it once.
    pub key: Option<KeyIndex>,
    /// Why it ends, once it does.
    pub reason: CloseReason,
    /// What only an HTTP connection has.
    pub http: Option<Box<Exchange>>,
}

impl Connection {
    /// Takes the answer to a request, and whatever of later ones it held back. Whether there is
    /// something to send.
    pub(super) fn take_answer(&mut self, to: ReplyTo, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        if let Some(exchange) = &mut self.http
            && !exchange.is_next(to.sequence)
        {
            exchange.park(to, encode);
            return false;
        }
        let start = self.output.len();
        encode(&mut self.output);
        self.in_flight -= 1;
        self.reserved -= to.reserved;
        if let Some(exchange) = &mut self.http {
            exchange.last_answer_start = start;
            let (released, reserved) = exchange.release(&mut self.output);
            self.in_flight -= released;
            self.reserved -= reserved;
            self.pay_continue();
            self.announce_end();
        }
        true
    }

    /// Where the server stops: the last answer that is due, if it is still here, says that the
    /// connection ends behind it, so that its peer asks elsewhere from then on. Where more was
    /// asked or begun, that is the last one.
    pub(super) fn announce_end(&mut self) {
        let Some(exchange) = &self.http else { return };
        let is_awaited = self.in_flight > 0 || self.stalled || !self.input.is_empty();
        let is_serving = matches!(self.phase, Phase::Serving(_));
        if exchange.is_last_due && is_serving && !is_awaited && !self.output.is_empty() {
            announce_close(&mut self.output, exchange.last_answer_start);
            self.phase = Phase::Ending(None);
            self.reason = CloseReason::Stopping;
        }
    }

    /// Tells a peer to go on that waits for it, once all answers before are given. Whether there
    /// is something to send.
    pub(super) fn pay_continue(&mut self) -> bool {
        match &mut self.http {
            Some(exchange) if exchange.owes_continue && self.in_flight == 0 => {
                exchange.owes_continue = false;
                self.output.extend_from_slice(CONTINUE);
                true
            }
            _ => false,
        }
    }

    /// Whether requests or answers of this connection are on their way.
    pub(super) fn is_waited_for(&self) -> bool {
        self.in_flight > 0 || self.stalled || self.sending || !self.output.is_empty()
    }
}

/// How many more connections there may be, over all shards.
#[derive(Clone, Debug)]
pub struct Seats(Arc<AtomicUsize>);

impl Seats {
    /// As many as this.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(count)))
    }

    /// Takes one, if there is one.
    fn take(&self) -> bool {
        // The count guards nothing but itself.
        let less = |left: usize| left.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn give_back(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The connections of one shard.
#[derive(Debug)]
pub(super) struct Connections {
    slots: Vec<Option<Connection>>,
    free: Vec<u32>,
    generation: u32,
    seats: Seats,
}

impl Connections {
    pub(super) fn new(seats: Seats) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), generation: 0, seats }
    }

    /// A new connection; `None` where there are as many as may be.
    pub(super) fn open(
        &mut self,
        http: Option<Box<Exchange>>,
        now: Duration,
    ) -> Option<ConnectionId> {
        if !self.seats.take() {
            return None;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.generation = self.generation.wrapping_add(1);
        self.slots[slot as usize] = Some(Connection {
            generation: self.generation,
            phase: match http {
                None => Phase::Greeting,
                Some(_) => Phase::Serving(Scopes::default()),
            },
            input: Vec::new(),
            output: Vec::new(),
            sending: false,
            queued: false,
            stalled: false,
            paused: false,
            ended: false,
            in_flight: 0,
            reserved: 0,
            active_at: now,
            sent_at: now,
            stalled_at: now,
            key: None,
            reason: CloseReason::default(),
            http,
        });
        Some(ConnectionId { slot, generation: self.generation })
    }

    /// Forgets a connection whose socket is closed.
    pub(super) fn close(&mut self, slot: u32) -> Connection {
        self.free.push(slot);
        self.seats.give_back();
        self.slots[slot as usize].take().expect("the driver closes a connection once")
    }

    pub(super) fn at(&mut self, slot: u32) -> &mut Connection {
        self.slots[slot as usize].as_mut().expect("the driver names an open connection")
    }

    /// The connection, unless it was closed meanwhile.
    pub(super) fn find(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let connection = self.slots.get_mut(id.slot as usize)?.as_mut()?;
        (connection.generation == id.generation).then_some(connection)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Slots below this may be in use.
    pub(super) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Connection> {
        self.slots[slot as usize].as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots[slot as usize].as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_back_under_another_generation() {
        let mut connections = Connections::new(Seats::new(1));
        let first = connections.open(None, Duration::ZERO).expect("there is room");
        assert!(connections.open(None, Duration::ZERO).is_none());
        connections.close(first.slot);
        let second = connections.open(None, Duration::ZERO).expect("there is room again");
        assert_eq!(first.slot, second.slot);
        assert!(connections.find(first).is_none());
        assert!(connections.find(second).is_some());
    }
}
