//! From a connection's bytes to answers: frames, keys, routing, decisions.

use super::commit::Destination;
use super::connection::{ConnectionId, Fault, Phase, ReplyTo};
use super::mail::{Ask, Mail};
use super::metrics::{Admission, CloseReason, Operation, Protocol, Verdict};
use super::service::{Service, deliver};
use crate::engine::{self, Decision};
use crate::model::{Answer, Command, Outcome, Query, Refusal, Scopes, ShardIndex};
use crate::protocol::binary::{
    DecodeError, Frame, Hello, OrderHead, Request, RequestError, encode_answer,
    encode_availability, encode_order, encode_refusal, encode_welcome, request_frame,
};

impl Service {
    /// Takes the requests that a connection's waiting input holds.
    pub(super) fn take_input(&mut self, slot: u32) {
        let mut input = std::mem::take(&mut self.connections.at(slot).input);
        let taken = self.take_requests(slot, &input);
        input.drain(..taken);
        let connection = self.connections.at(slot);
        if input.is_empty() {
            // The memory goes: ten thousand idle connections keep no buffers.
            input = Vec::new();
        }
        connection.input = input;
        if connection.ended && !connection.stalled {
            self.handle_end(slot);
        }
    }

    /// Takes as many whole requests as backpressure allows; returns how many bytes they were.
    pub(super) fn take_requests(&mut self, slot: u32, bytes: &[u8]) -> usize {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            if rest.is_empty() {
                return taken;
            }
            // Whatever the last request, or the end of a send, made of the connection.
            if !matches!(self.connections.at(slot).phase, Phase::Greeting | Phase::Serving(_)) {
                return bytes.len();
            }
            if !self.may_take(slot) {
                let monotonic = self.monotonic;
                let connection = self.connections.at(slot);
                connection.stalled = true;
                connection.stalled_at = monotonic;
                self.stalled.push_back(slot);
                return taken;
            }
            match request_frame(rest) {
                Ok(None) => return taken,
                Ok(Some(frame)) => {
                    taken += frame.len;
                    self.handle_frame(slot, &frame);
                }
                Err(error) => self.fail(slot, 0, error),
            }
        }
    }

    /// Whether one more request of this connection may be taken. If not, the connection stalls:
    /// nothing is dropped, and its peer feels the pressure.
    fn may_take(&self, slot: u32) -> bool {
        self.is_within_bounds(slot) && self.log.has_room() && self.mail_has_room()
    }

    fn handle_frame(&mut self, slot: u32, frame: &Frame<'_>) {
        let monotonic = self.monotonic;
        let connection = self.connections.at(slot);
        connection.active_at = monotonic;
        let phase = connection.phase;
        // Matched by reference: a command has room for sixteen lines, too much to move about.
        match (phase, &Request::decode(frame)) {
            (_, Err(RequestError::Malformed(error))) => self.fail(slot, frame.correlation, *error),
            (Phase::Greeting, Ok(Request::Hello(hello))) => {
                self.handle_hello(slot, frame.correlation, hello);
            }
            (Phase::Serving(scopes), Ok(Request::Command(command))) => {
                self.asks(Protocol::Binary, command.into());
                if scopes.allow(command) {
                    self.take(slot, frame.correlation, Ask::Command(command));
                } else {
                    self.refuse(slot, frame.correlation, Refusal::Forbidden);
                }
            }
            (Phase::Serving(_), Ok(Request::Query(query))) => {
                self.asks(Protocol::Binary, query.into());
                self.take(slot, frame.correlation, Ask::Query(query));
            }
            (Phase::Serving(_), Err(RequestError::Refused(refusal))) => {
                self.asks(Protocol::Binary, Operation::Unread);
                self.refuse(slot, frame.correlation, *refusal);
            }
            (Phase::Serving(_), Ok(Request::Hello(_))) => {
                self.fail(slot, frame.correlation, DecodeError::HELLO_REPEATED);
            }
            (Phase::Greeting | Phase::Ending(_) | Phase::Closing, _) => {
                self.fail(slot, frame.correlation, DecodeError::HELLO_EXPECTED);
            }
        }
    }

    fn handle_hello(&mut self, slot: u32, correlation: u64, hello: &Hello<'_>) {
        let admitted = match &self.config.keys {
            None => Some(("", Scopes::ALL)),
            Some(keys) => keys.verify(hello.key).map(|(index, scopes)| (keys.name(index), scopes)),
        };
        let connection = self.connections.at(slot);
        if let Some((key, scopes)) = admitted {
            // The name is the peer's: quoted, so that it cannot pass for a line of this log.
            tracing::debug!(shard = self.config.index.0, key, client = ?hello.name, "let in");
            self.config.welcome.scopes = scopes;
            encode_welcome(&mut connection.output, correlation, &self.config.welcome);
            connection.phase = Phase::Serving(scopes);
            self.count_admission(Admission::Admitted);
        } else {
            tracing::debug!(shard = self.config.index.0, client = ?hello.name, "a wrong key");
            encode_refusal(&mut connection.output, correlation, Refusal::BadToken);
            connection.phase = Phase::Ending(None);
            connection.reason = CloseReason::BadKey;
            self.count_admission(Admission::BadKey);
        }
        self.queue_send(slot);
    }

    /// The peer broke the protocol: nothing more of it is read.
    fn fail(&mut self, slot: u32, correlation: u64, error: DecodeError) {
        self.metrics.faults[Protocol::Binary as usize].add(1);
        let connection = self.connections.at(slot);
        connection.phase = Phase::Ending(Some(Fault { correlation, error }));
        connection.reason = CloseReason::Fault;
        self.settle(slot);
    }

    /// Refuses a request that no state had to be read for.
    fn refuse(&mut self, slot: u32, correlation: u64, refusal: Refusal) {
        self.count_refused(refusal);
        encode_refusal(&mut self.connections.at(slot).output, correlation, refusal);
        self.queue_send(slot);
    }

    /// Executes a request here, or sends it to the shard that owns its sale.
    fn take(&mut self, slot: u32, correlation: u64, ask: Ask<'_>) {
        let connection = self.connections.at(slot);
        if self.draining {
            return self.refuse(slot, correlation, Refusal::Draining);
        }
        connection.in_flight += 1;
        let reserved = ask.reserved();
        connection.reserved += reserved;
        let id = ConnectionId { slot, generation: connection.generation };
        let reply_to = ReplyTo { connection: id, reserved };
        let owner = ask.sale().shard(self.config.shards);
        if owner == self.config.index {
            self.execute(Destination::Local(reply_to), correlation, ask);
        } else {
            let mail = Mail::Request { reply_to, correlation, ask: ask.to_sent() };
            self.mail[usize::from(owner.0)].push_back(mail);
            self.metrics.hops.add(1);
            self.hops_in_flight += 1;
        }
    }

    /// Mail from another shard.
    pub fn handle_mail(&mut self, from: ShardIndex, mail: Mail) {
        match mail {
            Mail::Request { reply_to, correlation, ask } => {
                let to = Destination::Remote(from, reply_to);
                let ask = ask.as_ask();
                self.asks(Protocol::Binary, ask.operation());
                if self.draining {
                    let refused = Refusal::Draining;
                    self.count(Verdict::Refused(refused.code()));
                    self.answer(to, |out| encode_refusal(out, correlation, refused));
                } else {
                    self.execute(to, correlation, ask);
                }
            }
            Mail::Answer { reply_to, frames } => {
                self.hops_in_flight -= 1;
                self.deliver(Destination::Local(reply_to), frames.as_bytes());
            }
        }
    }

    /// Whether mail may be handled: a request in it may need room in the batch.
    #[must_use]
    pub fn may_take_mail(&self) -> bool {
        self.log.has_room()
    }

    fn execute(&mut self, to: Destination, correlation: u64, ask: Ask<'_>) {
        match ask {
            Ask::Command(command) => self.execute_command(to, correlation, command),
            Ask::Query(query) => self.execute_query(to, correlation, query),
        }
    }

    fn execute_command(&mut self, to: Destination, correlation: u64, command: &Command) {
        let now = self.log.now(self.clock);
        match self.engine.decide(command, now) {
            Ok(Decision::Commit(record)) => {
                self.log.append(now, &record);
                self.engine.apply(&record);
                self.count(Verdict::Ok);
                let answer = Answer { outcome: engine::outcome(&record), replayed: false };
                self.answer(to, |out| encode_answer(out, correlation, &answer));
            }
            Ok(Decision::Replayed(outcome)) => {
                self.count(Verdict::Replayed);
                let answer = Answer { outcome, replayed: true };
                self.answer(to, |out| encode_answer(out, correlation, &answer));
            }
            Err(refusal) => {
                self.count(Verdict::Refused(refusal.code()));
                self.answer(to, |out| encode_refusal(out, correlation, refusal));
            }
        }
    }

    fn execute_query(&mut self, to: Destination, correlation: u64, query: &Query) {
        let now = self.log.now(self.clock);
        let mut out = std::mem::take(&mut self.scratch);
        let read = match *query {
            Query::Availability { sale } => self.engine.availability(sale).map(|items| {
                encode_availability(&mut out, correlation, items);
            }),
            Query::Order { sale, order } => self.engine.order(sale, order, now).map(|order| {
                let head = OrderHead {
                    order: order.order(),
                    account: order.account(),
                    state: order.state(),
                    expires_at: order.expires_at(),
                };
                encode_order(&mut out, correlation, false, &head, order.lines());
            }),
            Query::Request { intent } => self.engine.request(intent).map(|answer| {
                encode_answer(&mut out, correlation, &answer);
            }),
            Query::Stats { sale } => self.engine.stats(sale, now).map(|stats| {
                let answer = Answer { outcome: Outcome::Stats(stats), replayed: false };
                encode_answer(&mut out, correlation, &answer);
            }),
        };
        match read {
            Ok(()) => {
                self.count(Verdict::Ok);
                self.answer(to, |waiting| waiting.extend_from_slice(&out));
            }
            Err(refusal) => {
                self.count(Verdict::Refused(refusal.code()));
                self.answer(to, |out| encode_refusal(out, correlation, refusal));
            }
        }
        out.clear();
        self.scratch = out;
    }

    /// Gives an answer as soon as the state that it saw is durable.
    fn answer(&mut self, to: Destination, encode: impl FnOnce(&mut Vec<u8>)) {
        if let Some(parked) = self.log.parking() {
            parked.push(to, &self.asking, encode);
            return;
        }
        self.answered.add(self.asking.arrived);
        if let Destination::Local(reply_to) = to {
            let slot = reply_to.connection.slot;
            let connection = self.connections.at(slot);
            encode(&mut connection.output);
            connection.in_flight -= 1;
            connection.reserved -= reply_to.reserved;
            self.queue_send(slot);
        } else {
            let mut out = Vec::new();
            encode(&mut out);
            self.deliver(to, &out);
        }
    }

    fn deliver(&mut self, to: Destination, bytes: &[u8]) {
        let Self { connections, to_send, mail, .. } = self;
        deliver(connections, to_send, mail, to, bytes);
    }
}
