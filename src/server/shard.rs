//! The driver of one shard: its ring, its sockets and its log files around its [`Service`].
//!
//! A turn: one `io_uring_enter`, the events of it, the mail, what is due, and then everything
//! that the service wants done. The next enter submits it all.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;

use super::asks::AskId;
use super::commit::Beyond;
use super::credentials::Credentials;
use super::error::ServerError;
use super::mail::{Frames, Mail, SentAsk};
use super::metrics::{SlowRequest, StockTable};
use super::service::{Reading, Service, Wire};
use crate::model::{ShardIndex, TimeMs};
use crate::runtime::file::SyncMethod;
use crate::runtime::{
    Clock, Event, Inbox, Operation, Outbox, Received, Ring, Token, Wait, Wakeup, net,
};
use crate::wal::{SealedFrame, Segment, SegmentIndex, segment_path};

/// How long accepting pauses after an error such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a stopping shard waits for peers that do not take their answers.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// How often a stopping shard looks whether it is done.
const DRAIN_TICK: Duration = Duration::from_millis(10);

/// How soon mail is tried again that met a full mailbox.
const FULL_MAILBOX_PAUSE: Duration = Duration::from_micros(200);

/// Events whose requests are prepared together. More would push the first ones out of the cache
/// again before their turn.
const PREPARED_TOGETHER: usize = 4;

/// The token of the log's writes; connections and listeners have theirs.
const LOG_TOKEN: Token = Token(u32::MAX);

/// What the control plane tells a shard.
#[derive(Debug)]
pub enum Order {
    /// The log's next segment is prepared, and open for its writes.
    Segment(Segment, File),
    /// What there is for the log beyond its prepared segments.
    Space(Beyond),
    /// Fill this table with the stock of the shard's sales.
    Stock(Box<StockTable>),
    /// Let in whom these say, from now on.
    Credentials(Credentials),
    /// A command or a query, for a sale of this shard.
    Ask(AskId, Box<SentAsk>),
    /// Answer what was asked, refuse what comes, and say when that is done.
    Drain,
    /// End: no shard has anything left to do, for itself or for another.
    Stop,
}

/// What a shard tells the control plane.
#[derive(Debug)]
pub enum Report {
    /// The log reached this segment: the one behind those prepared is to be prepared.
    SegmentReached(ShardIndex, SegmentIndex),
    /// The log has no segment to go on in.
    Starved(ShardIndex),
    /// The stock that was asked for.
    Stock(ShardIndex, Box<StockTable>),
    /// An answer took longer than the threshold.
    Slow(ShardIndex, SlowRequest),
    /// The credentials count.
    CredentialsTaken,
    /// The answer to what was asked, as the binary protocol encodes it.
    Answered(AskId, Frames),
    /// The shard has answered everything, or has waited for its peers long enough.
    Drained(ShardIndex),
}

/// A shard's line to another shard.
#[derive(Debug)]
pub struct Peer {
    /// The other one.
    pub shard: ShardIndex,
    /// To it.
    pub outbox: Outbox<Mail>,
    /// From it.
    pub inbox: Inbox<Mail>,
}

/// Tells the control plane something and rings its bell.
pub type Reporter = Box<dyn FnMut(Report) + Send>;

/// A socket on which connections arrive.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: OwnedFd,
    /// Whether HTTP is spoken on it; else the binary protocol.
    pub is_http: bool,
}

/// A connection's socket, and what is in flight on it.
#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    receiving: Option<Operation>,
    sending: bool,
    is_read: bool,
    is_closing: bool,
}

/// Everything that a shard's thread owns.
pub struct Shard<C> {
    /// Which one.
    pub index: ShardIndex,
    /// The thread's ring.
    pub ring: Ring,
    /// The shard itself.
    pub service: Service,
    /// The clock.
    pub clock: C,
    /// Wakes this thread.
    pub wakeup: Wakeup,
    /// The listening sockets.
    pub listeners: Vec<Listener>,
    /// The directory of the log.
    pub log_dir: PathBuf,
    /// The log's open segments, the one that is written first.
    pub segments: VecDeque<(SegmentIndex, File)>,
    /// How writes become durable.
    pub sync: SyncMethod,
    /// The other shards.
    pub peers: Vec<Peer>,
    /// From the control plane.
    pub orders: Inbox<Order>,
    /// To the control plane.
    pub report: Reporter,
    /// What only the loop knows.
    pub state: LoopState,
}

/// What the loop itself keeps.
#[derive(Debug, Default)]
pub struct LoopState {
    sockets: Vec<Option<Socket>>,
    accepting: Vec<Option<Operation>>,
    accept_again: Vec<(Duration, usize)>,
    drain_until: Option<Duration>,
    is_drained: bool,
    is_stopped: bool,
    is_starved: bool,
    /// The frame that was last handed to the ring.
    writing: Option<SealedFrame>,
}

impl<C: Clock> Shard<C> {
    /// Serves until the control plane says stop, or the log fails.
    pub fn run(mut self) -> Result<(), ServerError> {
        self.state.accepting.resize(self.listeners.len(), None);
        for listener in 0..self.listeners.len() {
            self.accept(listener);
        }
        self.ring.await_wake(self.wakeup.event());
        let mut events = Vec::new();
        let mut wait = Wait::No;
        loop {
            self.ring.enter(wait).map_err(ServerError::Ring)?;
            self.wakeup.stay_awake();
            self.ring.take_events(&mut events);
            let monotonic = self.clock.monotonic();
            self.service.handle_time(TimeMs(self.clock.wall_ms()), monotonic);
            // Oldest first, from the end of the list.
            events.reverse();
            while !events.is_empty() {
                let rest = events.len().saturating_sub(PREPARED_TOGETHER);
                self.prepare(&events[rest..]);
                for event in events.drain(rest..).rev() {
                    self.handle_event(event, monotonic)?;
                }
            }
            self.take_orders(monotonic);
            self.stop_listening();
            self.take_mail();
            self.service.handle_turn();
            self.push_work();
            self.service.handle_turn_end(self.clock.monotonic());
            self.report_observed();
            self.accept_again(monotonic);
            self.report_drained(monotonic);
            if self.state.is_stopped {
                return Ok(());
            }
            wait = self.next_wait();
        }
    }

    fn accept(&mut self, listener: usize) {
        // Listeners' tokens count down below the log's.
        let token = Token(LOG_TOKEN.0 - 1 - listener as u32);
        let accepting = self.ring.accept(self.listeners[listener].socket.as_fd(), token);
        self.state.accepting[listener] = Some(accepting);
    }

    /// Has the tables at hand for everything that arrived together.
    fn prepare(&self, events: &[Event]) {
        self.service.prepare(events.iter().filter_map(|event| match event {
            Event::Received { token, bytes: Ok(Some(received)), .. } => {
                Some((token.0, self.ring.received(received)))
            }
            _ => None,
        }));
    }

    fn handle_event(&mut self, event: Event, monotonic: Duration) -> Result<(), ServerError> {
        match event {
            Event::Accepted { token, socket, more } => {
                let listener = (LOG_TOKEN.0 - 1 - token.0) as usize;
                match socket {
                    Ok(socket) => self.open(socket, self.listeners[listener].is_http),
                    // The server stops, and accepts no more.
                    Err(_) if self.state.drain_until.is_some() => {}
                    Err(error) => tracing::warn!(%error, "cannot accept a connection"),
                }
                if !more {
                    self.state.accepting[listener] = None;
                    if self.state.drain_until.is_none() {
                        self.state.accept_again.push((monotonic + ACCEPT_PAUSE, listener));
                    }
                }
            }
            Event::Received { token, bytes, more } => self.received(token.0, bytes, more),
            Event::Sent { token, buffer, result } => {
                let succeeded = result.is_ok_and(|sent| sent == buffer.len());
                self.socket(token.0).sending = false;
                self.service.handle_sent(token.0, buffer, succeeded);
                self.finish_closing(token.0);
            }
            Event::Written { token: _, buffer, result } => {
                // Never tried again: after a failed sync nobody knows what the disk has.
                result.map_err(|source| self.write_failed(source))?;
                self.service.handle_written(buffer);
                self.report_reached();
            }
            Event::Connected { .. } => unreachable!("a server connects to nobody"),
            Event::Woken => self.ring.await_wake(self.wakeup.event()),
        }
        Ok(())
    }

    fn open(&mut self, socket: OwnedFd, is_http: bool) {
        let wire = if is_http {
            // Without an address the peer is gone already.
            let Ok(peer) = net::peer(&socket) else { return };
            Wire::Http { peer }
        } else {
            Wire::Binary
        };
        // Without room the socket is dropped, and so closed.
        let Some(id) = self.service.handle_open(wire) else { return };
        let receiving = Some(self.ring.receive(socket.as_fd(), Token(id.slot)));
        let slot = id.slot as usize;
        if self.state.sockets.len() <= slot {
            self.state.sockets.resize_with(slot + 1, || None);
        }
        self.state.sockets[slot] = Some(Socket {
            fd: socket,
            receiving,
            sending: false,
            is_read: true,
            is_closing: false,
        });
    }

    fn received(&mut self, slot: u32, bytes: io::Result<Option<Received>>, more: bool) {
        if !more {
            self.socket(slot).receiving = None;
        }
        match bytes {
            Ok(Some(received)) => {
                if !self.socket(slot).is_closing {
                    self.service.handle_bytes(slot, self.ring.received(&received));
                }
                self.ring.recycle(received);
            }
            Ok(None) => self.ended(slot),
            Err(error) => match Errno::from_io_error(&error) {
                // No receive buffer was free, or reading was paused.
                Some(Errno::NOBUFS | Errno::CANCELED) => {}
                _ => self.ended(slot),
            },
        }
        self.finish_closing(slot);
        self.read_on(slot);
    }

    fn ended(&mut self, slot: u32) {
        let socket = self.socket(slot);
        socket.is_read = false;
        if !socket.is_closing {
            self.service.handle_end(slot);
        }
    }

    /// Receives again where a receive ended and the connection is to be read.
    fn read_on(&mut self, slot: u32) {
        let Some(socket) = &mut self.state.sockets[slot as usize] else { return };
        if socket.is_read && !socket.is_closing && socket.receiving.is_none() {
            socket.receiving = Some(self.ring.receive(socket.fd.as_fd(), Token(slot)));
        }
    }

    fn take_orders(&mut self, monotonic: Duration) {
        while let Some(order) = self.orders.pop() {
            match order {
                Order::Segment(segment, file) => {
                    self.segments.push_back((segment.index, file));
                    self.service.handle_segment(segment);
                }
                Order::Space(beyond) => self.service.handle_space(beyond),
                Order::Stock(table) => self.service.handle_stock(table),
                Order::Credentials(credentials) => {
                    self.service.handle_credentials(credentials);
                    (self.report)(Report::CredentialsTaken);
                }
                Order::Ask(id, ask) => self.service.handle_ask(id, ask),
                Order::Drain => {
                    self.service.handle_drain();
                    self.state.drain_until = Some(monotonic + DRAIN_TIME_MAX);
                    let accepting = self.state.accepting.iter().flatten();
                    accepting.for_each(|accepting| self.ring.cancel(*accepting));
                    self.state.accept_again.clear();
                }
                Order::Stop => self.state.is_stopped = true,
            }
        }
    }

    /// Closes the listeners of a server that stops, once the ring has let go of them. Who connected
    /// before is let in, and told.
    fn stop_listening(&mut self) {
        let is_held = self.state.accepting.iter().any(Option::is_some);
        if self.state.drain_until.is_none() || is_held {
            return;
        }
        for listener in std::mem::take(&mut self.listeners) {
            for socket in net::accept_waiting(&listener.socket) {
                self.open(socket, listener.is_http);
            }
        }
    }

    /// A shard with nothing left to do goes on until every other one is as far: their peers'
    /// last requests may be for its sales.
    fn report_drained(&mut self, monotonic: Duration) {
        let is_over = self.state.drain_until.is_some_and(|end| monotonic > end);
        let is_drained = self.service.is_drained() && self.listeners.is_empty();
        if !self.state.is_drained && (is_drained || is_over) {
            self.state.is_drained = true;
            (self.report)(Report::Drained(self.index));
        }
    }

    /// What the control plane is told for people to see.
    fn report_observed(&mut self) {
        if let Some(table) = self.service.poll_stock() {
            (self.report)(Report::Stock(self.index, table));
        }
        while let Some(slow) = self.service.poll_slow() {
            (self.report)(Report::Slow(self.index, slow));
        }
    }

    fn take_mail(&mut self) {
        for peer in &mut self.peers {
            while self.service.may_take_mail() {
                let Some(mail) = peer.inbox.pop() else { break };
                self.service.handle_mail(peer.shard, mail);
            }
        }
    }

    fn push_work(&mut self) {
        if let Some(write) = self.service.poll_write() {
            self.push_write(write);
        }
        let is_starved = self.service.is_starved();
        if is_starved && !self.state.is_starved {
            (self.report)(Report::Starved(self.index));
        }
        self.state.is_starved = is_starved;
        while let Some((slot, buffer)) = self.service.poll_send() {
            let socket = self.state.sockets[slot as usize].as_mut().expect("an open socket");
            socket.sending = true;
            self.ring.send(socket.fd.as_fd(), Token(slot), buffer);
        }
        while let Some((slot, reading)) = self.service.poll_reading() {
            let socket = self.socket(slot);
            socket.is_read = reading == Reading::Resume;
            match (reading, socket.receiving) {
                (Reading::Pause, Some(receiving)) => self.ring.cancel(receiving),
                _ => self.read_on(slot),
            }
        }
        while let Some(slot) = self.service.poll_finish() {
            net::finish(&self.socket(slot).fd);
        }
        while let Some(slot) = self.service.poll_close() {
            let socket = self.socket(slot);
            socket.is_closing = true;
            net::finish(&socket.fd);
            if let Some(receiving) = socket.receiving {
                // Not by ending that direction too: it would keep the peer from learning that
                // there is room again, and one that floods would wait for it instead of failing.
                self.ring.cancel(receiving);
            }
            self.finish_closing(slot);
        }
        while let Some((id, frames)) = self.service.poll_answered() {
            (self.report)(Report::Answered(id, frames));
        }
        self.push_mail();
    }

    fn push_write(&mut self, write: super::commit::Write) {
        let position = write.frame.position;
        self.state.writing = Some(write.frame);
        if write.frame.is_first_of_segment {
            while self.segments.front().is_some_and(|(index, _)| *index != position.segment) {
                self.segments.pop_front();
            }
        }
        let (index, file) = self.segments.front().expect("the writer's segment is open");
        assert_eq!(*index, position.segment, "segments are written in their order");
        let buffer = (write.buffer, write.frame.bytes);
        self.ring.write(file.as_fd(), LOG_TOKEN, buffer, position.offset, self.sync);
    }

    /// With its first frame durable no start goes on in the segment before any more: that one is
    /// complete.
    fn report_reached(&mut self) {
        let frame = self.state.writing.expect("a write that ended was begun");
        if frame.is_first_of_segment {
            (self.report)(Report::SegmentReached(self.index, frame.position.segment));
        }
    }

    fn write_failed(&self, source: io::Error) -> ServerError {
        let frame = self.state.writing.expect("a write that ended was begun");
        ServerError::LogWrite {
            path: segment_path(&self.log_dir, frame.position.segment),
            offset: frame.position.offset,
            lsn: frame.last_lsn,
            source,
        }
    }

    fn push_mail(&mut self) {
        for peer in &mut self.peers {
            let mut pushed = false;
            let waiting = self.service.mail_for(peer.shard);
            while !waiting.is_empty() && !peer.outbox.is_full() {
                let mail = waiting.pop_front().expect("there is some");
                peer.outbox.push(mail).unwrap_or_else(|_| unreachable!("there was room"));
                pushed = true;
            }
            if pushed {
                peer.outbox.wake();
            }
        }
    }

    fn finish_closing(&mut self, slot: u32) {
        let socket = self.socket(slot);
        if socket.is_closing && socket.receiving.is_none() && !socket.sending {
            self.state.sockets[slot as usize] = None;
            self.service.handle_closed(slot);
        }
    }

    fn accept_again(&mut self, monotonic: Duration) {
        if self.state.accept_again.first().is_some_and(|(due, _)| *due <= monotonic) {
            let (_, listener) = self.state.accept_again.remove(0);
            self.accept(listener);
        }
    }

    fn next_wait(&self) -> Wait {
        if self.service.is_busy() {
            return Wait::No;
        }
        self.wakeup.fall_asleep();
        let mail_waits =
            self.service.may_take_mail() && self.peers.iter().any(|peer| !peer.inbox.is_empty());
        if mail_waits || !self.orders.is_empty() {
            self.wakeup.stay_awake();
            return Wait::No;
        }
        let accept = (!self.state.accept_again.is_empty()).then_some(ACCEPT_PAUSE);
        let drain = self.state.drain_until.map(|_| DRAIN_TICK);
        let mail = self.service.has_mail().then_some(FULL_MAILBOX_PAUSE);
        [self.service.sleep(), accept, drain, mail]
            .into_iter()
            .flatten()
            .min()
            .map_or(Wait::Forever, Wait::AtMost)
    }

    fn socket(&mut self, slot: u32) -> &mut Socket {
        self.state.sockets[slot as usize].as_mut().expect("an event names an open socket")
    }
}
