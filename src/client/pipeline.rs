//! The client: requests on their way, sent again where a connection breaks, until each has its
//! answer or its time is up.
//!
//! A request is queued, in flight on one lane, or settled. A lane that breaks queues its
//! requests again, in the order in which they were submitted. A request that runs out of time
//! takes its connection along, so no connection ever owes an answer that nobody expects.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::ToSocketAddrs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use super::Options;
use super::connection::{SLICE, Written};
use super::error::{Cause, ClientError};
use super::lanes::{FIRST, Lanes, Opened};
use crate::model::{Answer, Command, Query, Refusal, RequestId, Route};
use crate::protocol::binary::{
    ErrorCode, KEY_BYTES_MAX, NAME_BYTES_MAX, Response, Welcome, encode_command, encode_query,
};

/// The most answers that may lie with the client because nobody has waited for them yet.
pub const UNCLAIMED_MAX: usize = 65_536;

/// What became of a request.
type Settlement = Result<Result<Answer, Refusal>, ClientError>;

/// A connection to a server, or several: see the [module](super).
pub struct Client {
    /// Which client a [`Pending`] is of.
    id: u64,
    lanes: Lanes,
    next_ticket: u64,
    /// Requests without an answer. Tickets are also correlation ids, and the order in which
    /// deadlines pass.
    unanswered: BTreeMap<u64, Flight>,
    /// Those of them that are on no lane.
    queued: BTreeSet<u64>,
    settled: HashMap<u64, Settlement>,
    /// Tickets that nobody will wait for.
    dropped: Dropped,
    /// Why the last connection broke.
    last_cause: Option<Cause>,
}

/// Where a [`Pending`] that is dropped leaves its ticket, on whatever thread that is.
type Dropped = Arc<Mutex<Vec<u64>>>;

/// A request that was submitted. Its answer is kept until it is waited for. Where this is dropped,
/// the request goes its way all the same, and its answer is thrown away.
#[derive(Debug)]
#[must_use = "only waiting tells what became of the request"]
pub struct Pending {
    client: u64,
    ticket: u64,
    /// `None` once it is waited for.
    dropped: Option<Dropped>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            dropped.lock().unwrap_or_else(PoisonError::into_inner).push(self.ticket);
        }
    }
}

/// A request on its way.
struct Flight {
    frame: Box<[u8]>,
    route: Route,
    kind: Kind,
    deadline: Instant,
    /// Where it is in flight; `None` is queued.
    lane: Option<usize>,
    /// Whether some server may have seen it.
    was_sent: bool,
    /// Whether it was sent on a connection that broke since.
    is_resent: bool,
    /// Whether nobody will wait for its answer.
    is_dropped: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Command(Option<RequestId>),
    Query,
}

impl Client {
    /// Connects and says `HELLO`.
    pub fn connect(address: impl ToSocketAddrs, options: Options) -> Result<Self, ClientError> {
        static CLIENTS: AtomicU64 = AtomicU64::new(0);
        if options.key.len() > KEY_BYTES_MAX {
            return Err(ClientError::Definite(Cause::Options("the key is too long")));
        }
        if options.name.len() > NAME_BYTES_MAX {
            return Err(ClientError::Definite(Cause::Options("the client's name is too long")));
        }
        let addresses = address.to_socket_addrs().map_err(|error| unsent(error.into()))?;
        let mut client = Self {
            id: CLIENTS.fetch_add(1, Ordering::Relaxed),
            lanes: Lanes::new(addresses.collect(), options),
            next_ticket: 1,
            unanswered: BTreeMap::new(),
            queued: BTreeSet::new(),
            settled: HashMap::new(),
            dropped: Dropped::default(),
            last_cause: None,
        };
        client.lanes.open(FIRST, Instant::now()).map_err(unsent)?;
        Ok(client)
    }

    /// What the server granted when it was last connected to.
    #[must_use]
    pub fn welcome(&self) -> &Welcome {
        self.lanes.welcome().expect("a client has been welcomed")
    }

    /// Submits a command and returns before its answer. It leaves with the next
    /// [`flush`](Self::flush) or [`wait`](Self::wait), or when 64 KiB have come together. Blocks
    /// where the server takes no more requests for now, at most until the request's own
    /// deadline.
    pub fn submit(&mut self, command: &Command) -> Result<Pending, ClientError> {
        let kind = Kind::Command(command.request().map(|(_, request)| request));
        let route = Route::Sale(command.sale());
        self.launch(route, kind, |out, ticket| encode_command(out, ticket, command))
    }

    /// Submits a query, as [`submit`](Self::submit) does a command.
    pub fn submit_query(&mut self, query: &Query) -> Result<Pending, ClientError> {
        let encode = |out: &mut Vec<u8>, ticket| encode_query(out, ticket, query);
        self.launch(query.route(), Kind::Query, encode)
    }

    /// Sends what was submitted.
    pub fn flush(&mut self) {
        self.dispatch();
        (0..self.lanes.count()).for_each(|lane| self.flush_lane(lane));
    }

    /// Waits for an answer, at most until the request's deadline. What was submitted is sent.
    ///
    /// # Panics
    ///
    /// Where `pending` comes from another client.
    pub fn wait(&mut self, mut pending: Pending) -> Result<Result<Answer, Refusal>, ClientError> {
        assert_eq!(pending.client, self.id, "a pending request of another client");
        pending.dropped = None;
        let ticket = pending.ticket;
        loop {
            if let Some(settlement) = self.settled.remove(&ticket) {
                return settlement;
            }
            self.step(ticket);
        }
    }

    fn launch(
        &mut self,
        route: Route,
        kind: Kind,
        encode: impl FnOnce(&mut Vec<u8>, u64),
    ) -> Result<Pending, ClientError> {
        self.forget_dropped();
        if self.settled.len() >= UNCLAIMED_MAX {
            return Err(ClientError::Definite(Cause::Unclaimed));
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let mut frame = Vec::with_capacity(128);
        encode(&mut frame, ticket);
        let frame = frame.into_boxed_slice();
        let deadline = Instant::now() + self.lanes.options().request_timeout;
        let (lane, was_sent, is_resent, is_dropped) = (None, false, false, false);
        let flight = Flight { frame, route, kind, deadline, lane, was_sent, is_resent, is_dropped };
        self.unanswered.insert(ticket, flight);
        self.queued.insert(ticket);
        self.dispatch();
        while self.queued.contains(&ticket) {
            self.step(ticket);
        }
        Ok(Pending { client: self.id, ticket, dropped: Some(Arc::clone(&self.dropped)) })
    }

    /// Throws away what nobody will wait for.
    fn forget_dropped(&mut self) {
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        for ticket in dropped.drain(..) {
            self.settled.remove(&ticket);
            if let Some(flight) = self.unanswered.get_mut(&ticket) {
                flight.is_dropped = true;
            }
        }
    }

    /// Moves everything on a little, and `ticket` in particular. Blocks for [`SLICE`] at most,
    /// unless it connects.
    fn step(&mut self, ticket: u64) {
        self.flush();
        if let Some(flight) = self.unanswered.get(&ticket) {
            let now = Instant::now();
            // A queued request waits for room on its lane, or for a connection.
            let lane = flight.lane.unwrap_or_else(|| self.lanes.route(flight.route, now));
            if self.lanes.connection(lane).is_some() {
                self.read(lane);
            } else {
                let rest = self.lanes.retry_at().map(|at| at.saturating_duration_since(now));
                thread::sleep(rest.unwrap_or(SLICE).min(SLICE));
            }
        }
        self.expire();
    }

    /// Puts queued requests on their lanes, as far as there is room.
    fn dispatch(&mut self) {
        let mut from = 0;
        while let Some(&ticket) = self.queued.range(from..).next() {
            from = ticket + 1;
            let now = Instant::now();
            let lane = self.lanes.route(self.unanswered[&ticket].route, now);
            match self.lanes.open(lane, now) {
                Ok(Opened::Yes) => self.send(ticket, lane),
                Ok(Opened::Remapped) => {
                    self.requeue(|lane| lane != FIRST);
                    from = 0;
                }
                // A shard's lane that has just failed: the route goes over the first one now.
                Ok(Opened::Resting) if lane != FIRST => from = ticket,
                Ok(Opened::Resting) => {}
                Err(cause) => self.cannot_connect(cause),
            }
        }
    }

    fn send(&mut self, ticket: u64, lane: usize) {
        let Some(connection) = self.lanes.connection(lane) else { return };
        if !connection.has_room() {
            return;
        }
        let flight = self.unanswered.get_mut(&ticket).expect("what is queued is unanswered");
        connection.queue(&flight.frame);
        flight.lane = Some(lane);
        flight.was_sent = true;
        self.queued.remove(&ticket);
        if connection.is_full() {
            self.flush_lane(lane);
        }
    }

    /// Writes all that a lane has queued. Where the peer takes no more, it may be waiting for us
    /// to take its answers, so those are read in between.
    fn flush_lane(&mut self, lane: usize) {
        while let Some(connection) = self.lanes.connection(lane) {
            match connection.write() {
                Ok(Written::All) => return,
                Ok(Written::Blocked) => {
                    while self.read(lane) {}
                    self.expire();
                }
                Err(cause) => {
                    // The peer may have said why before it went.
                    self.read(lane);
                    self.broke(lane, cause);
                }
            }
        }
    }

    /// Reads a lane once and settles what is answered. Whether any bytes came.
    fn read(&mut self, lane: usize) -> bool {
        let Some(connection) = self.lanes.connection(lane) else { return false };
        let read = connection.read();
        // What came before the end still counts, and tells more than the end.
        let taken = self.take_responses(lane);
        match taken.and(read) {
            Ok(came) => came,
            Err(cause) => {
                self.broke(lane, cause);
                false
            }
        }
    }

    fn take_responses(&mut self, lane: usize) -> Result<(), Cause> {
        let Some(connection) = self.lanes.connection(lane) else { return Ok(()) };
        while let Some((ticket, response)) = connection.next_response()? {
            let flight = self.unanswered.get(&ticket).filter(|flight| flight.lane == Some(lane));
            let (is_expected, is_resent) = (flight.is_some(), flight.is_some_and(|f| f.is_resent));
            match response {
                // It was not executed this time, which says nothing of the time before. The next
                // server knows.
                Response::Answer(Err(Refusal::Draining)) if is_resent => {
                    return Err(Cause::Stopping);
                }
                Response::Answer(answer) if is_expected => {
                    connection.count_answer();
                    let flight = self.unanswered.remove(&ticket);
                    if flight.is_some_and(|flight| !flight.is_dropped) {
                        self.settled.insert(ticket, Ok(answer));
                    }
                }
                Response::Error(error) => {
                    let cause = Cause::Misunderstood(error);
                    // Bytes damaged on the way may do better next time; others will not.
                    if is_expected && error.code != ErrorCode::BadCrc {
                        self.fail_with(ticket, ClientError::Definite(cause.clone()));
                    }
                    return Err(cause);
                }
                Response::Answer(_) | Response::Welcome(_) => {
                    return Err(Cause::Unsolicited(ticket));
                }
            }
        }
        Ok(())
    }

    /// Gives up a lane's connection and queues its requests again.
    fn broke(&mut self, lane: usize, cause: Cause) {
        self.lanes.close(lane);
        self.requeue(|of_flight| of_flight == lane);
        self.last_cause = Some(cause);
    }

    fn requeue(&mut self, is_lost: impl Fn(usize) -> bool) {
        for (&ticket, flight) in &mut self.unanswered {
            if flight.lane.is_some_and(&is_lost) {
                (flight.lane, flight.is_resent) = (None, true);
                self.queued.insert(ticket);
            }
        }
    }

    /// Nobody can be reached. Where that will stay so, waiting for the deadlines is in vain.
    fn cannot_connect(&mut self, cause: Cause) {
        if cause.is_definite() {
            while let Some(ticket) = self.queued.first().copied() {
                self.fail(ticket, cause.clone());
            }
        }
        self.last_cause = Some(cause);
    }

    /// Settles the requests whose time is up, unless their answers only wait to be read.
    fn expire(&mut self) {
        let now = Instant::now();
        while let Some((&ticket, flight)) = self.unanswered.first_key_value() {
            if now < flight.deadline {
                return;
            }
            let lane = flight.lane;
            let timeout = Cause::Silent(self.lanes.options().request_timeout);
            let cause = match lane {
                Some(lane) if self.read(lane) => continue,
                Some(lane) => {
                    self.broke(lane, timeout.clone());
                    timeout
                }
                None => self.last_cause.clone().unwrap_or(timeout),
            };
            self.fail(ticket, cause);
        }
    }

    /// Settles a request without an answer.
    fn fail(&mut self, ticket: u64, cause: Cause) {
        let Some(flight) = self.unanswered.get(&ticket) else { return };
        let error = match flight.kind {
            Kind::Command(request) if flight.was_sent => {
                ClientError::UnknownOutcome { request, cause }
            }
            Kind::Command(_) | Kind::Query => unsent(cause),
        };
        self.fail_with(ticket, error);
    }

    fn fail_with(&mut self, ticket: u64, error: ClientError) {
        self.queued.remove(&ticket);
        let flight = self.unanswered.remove(&ticket);
        if flight.is_some_and(|flight| !flight.is_dropped) {
            self.settled.insert(ticket, Err(error));
        }
    }
}

/// The error of what changed nothing.
const fn unsent(cause: Cause) -> ClientError {
    if cause.is_definite() { ClientError::Definite(cause) } else { ClientError::NotExecuted(cause) }
}
