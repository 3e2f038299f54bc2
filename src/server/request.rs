//! From a connection's bytes to answers: frames, keys, routing, decisions.

use super::commit::Destination;
use super::connection::{ConnectionId, Fault, Phase, ReplyTo};
use super::form::Form;
use super::mail::{Ask, Mail};
use super::metrics::{Admission, CloseReason, Operation, Protocol, Verdict};
use super::service::{Service, deliver};
use crate::engine::{self, Decision};
use crate::model::{
    Answer, Command, Outcome, Query, Record, Refusal, RefusalCode, Route, Scopes, ShardIndex,
};
use crate::protocol::binary::{
    DecodeError, Frame, Hello, Request, RequestError, encode_refusal, encode_welcome, request_frame,
};
use crate::protocol::http::Site;

/// Why a buyer is refused what a back end would be granted.
const FOR_THE_BACK_END: &str =
    "what costs money is confirmed, bought and cancelled by the shop, with its API key";

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
        if self.connections.at(slot).http.is_some() {
            return self.take_http_requests(slot, bytes);
        }
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
                self.stall(slot);
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
    pub(super) fn may_take(&self, slot: u32) -> bool {
        self.is_within_bounds(slot) && self.log.has_room() && self.mail_has_room()
    }

    pub(super) fn stall(&mut self, slot: u32) {
        let monotonic = self.monotonic;
        let connection = self.connections.at(slot);
        connection.stalled = true;
        connection.stalled_at = monotonic;
        self.stalled.push_back(slot);
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
                    self.take_binary(slot, frame.correlation, Ask::Command(command));
                } else {
                    self.refuse(slot, frame.correlation, Refusal::Forbidden);
                }
            }
            (Phase::Serving(_), Ok(Request::Query(query))) => {
                self.asks(Protocol::Binary, query.into());
                self.take_binary(slot, frame.correlation, Ask::Query(query));
            }
            (Phase::Serving(_), Err(RequestError::Refused(refusal))) => {
                self.asks(Protocol::Binary, Operation::Unread);
                self.refuse(slot, frame.correlation, *refusal);
            }
            (Phase::Serving(_), Ok(Request::Hello(_))) => {
                self.fail(slot, frame.correlation, DecodeError::HELLO_REPEATED);
            }
            (Phase::Greeting | Phase::Ending(_) | Phase::Lingering { .. } | Phase::Closing, _) => {
                self.fail(slot, frame.correlation, DecodeError::HELLO_EXPECTED);
            }
        }
    }

    fn handle_hello(&mut self, slot: u32, correlation: u64, hello: &Hello<'_>) {
        let admitted = match &self.config.keys {
            None => Some(("", None, Scopes::ALL)),
            Some(keys) => keys
                .verify(hello.key)
                .map(|(index, scopes)| (keys.name(index), Some(index), scopes)),
        };
        let connection = self.connections.at(slot);
        if let Some((key, index, scopes)) = admitted {
            // The name is the peer's: quoted, so that it cannot pass for a line of this log.
            tracing::debug!(shard = self.config.index.0, key, client = ?hello.name, "let in");
            self.config.welcome.scopes = scopes;
            encode_welcome(&mut connection.output, correlation, &self.config.welcome);
            (connection.phase, connection.key) = (Phase::Serving(scopes), index);
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
        connection.phase = Phase::Ending(Some(Fault::Binary { correlation, error }));
        connection.reason = CloseReason::Fault;
        self.settle(slot);
    }

    /// Refuses a request that no state had to be read for.
    fn refuse(&mut self, slot: u32, correlation: u64, refusal: Refusal) {
        self.count_refused(refusal);
        encode_refusal(&mut self.connections.at(slot).output, correlation, refusal);
        self.queue_send(slot);
    }

    fn take_binary(&mut self, slot: u32, correlation: u64, ask: Ask<'_>) {
        if self.draining {
            return self.refuse(slot, correlation, Refusal::Draining);
        }
        if let Route::Shard(shard) = ask.route()
            && shard.0 >= self.config.shards.get()
        {
            return self.refuse(slot, correlation, Refusal::NotFound);
        }
        self.take(slot, 0, Form::Binary { correlation }, ask);
    }

    /// Executes a request here, or sends it to the shard that owns its sale. Where the request
    /// names a shard, there is one.
    pub(super) fn take(&mut self, slot: u32, sequence: u32, form: Form, ask: Ask<'_>) {
        let reserved = form.reserved(ask);
        let connection = self.connections.at(slot);
        connection.in_flight += 1;
        connection.reserved += reserved;
        let id = ConnectionId { slot, generation: connection.generation };
        let reply_to = ReplyTo { connection: id, reserved, sequence };
        let owner = ask.route().shard(self.config.shards);
        if owner == self.config.index {
            self.execute(Destination::Local(reply_to), form, ask);
        } else {
            let mail = Mail::Request { reply_to, form, ask: ask.to_sent() };
            self.mail[usize::from(owner.0)].push_back(mail);
            self.metrics.hops.add(1);
            self.hops_in_flight += 1;
        }
    }

    /// Mail from another shard. Its requests are carried out also where this one was told first
    /// that the server stops: they were taken before, and their peers wait for what became of them.
    pub fn handle_mail(&mut self, from: ShardIndex, mail: Mail) {
        match mail {
            Mail::Request { reply_to, form, ask } => {
                let to = Destination::Remote(from, reply_to);
                let ask = ask.as_ask();
                self.asks(form.protocol(), ask.operation());
                self.execute(to, form, ask);
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

    pub(super) fn execute(&mut self, to: Destination, form: Form, ask: Ask<'_>) {
        match ask {
            Ask::Command(command) => self.execute_command(to, form, command),
            Ask::Query(query) => self.execute_query(to, form, query),
        }
    }

    fn execute_command(&mut self, to: Destination, form: Form, command: &Command) {
        let now = self.log.now(self.clock);
        match self.engine.decide(command, now) {
            Ok(Decision::Commit(record)) if !self.may_settle(form, &record) => {
                self.count(Verdict::Refused(RefusalCode::Forbidden));
                self.answer(to, |out, site| form.encode_forbidden(out, site, FOR_THE_BACK_END));
            }
            Ok(Decision::Commit(record)) if !self.has_space_for(&record) => {
                self.refuse_at(to, form, Refusal::DiskFull);
            }
            Ok(Decision::Commit(record)) => {
                self.log.append(now, &record);
                self.engine.apply(&record);
                self.count(Verdict::Ok);
                let answer = Answer { outcome: engine::outcome(&record), replayed: false };
                self.answer(to, |out, site| form.encode_answer(out, site, &answer));
            }
            Ok(Decision::Replayed(outcome)) => {
                self.count(Verdict::Replayed);
                let answer = Answer { outcome, replayed: true };
                self.answer(to, |out, site| form.encode_answer(out, site, &answer));
            }
            Err(refusal) => self.refuse_at(to, form, refusal),
        }
    }

    /// Whether whoever asks may have this decision. A buyer is not let off with what costs money
    /// unless the settings say so: whether it was paid, the back end knows alone. What was granted
    /// once is repeated to anybody who may see it, since that changes nothing.
    fn may_settle(&self, form: Form, record: &Record) -> bool {
        !form.is_buyers() || self.config.buyers_confirm || !self.engine.is_paid_for(record)
    }

    fn execute_query(&mut self, to: Destination, form: Form, query: &Query) {
        let now = self.log.now(self.clock);
        let mut out = std::mem::take(&mut self.scratch);
        let site = &self.site;
        let read = match *query {
            Query::Availability { sale } => self.engine.availability(sale).map(|items| {
                form.encode_availability(&mut out, site, items);
            }),
            Query::Order { sale, order } => self.engine.order(sale, order, now).map(|order| {
                form.encode_order(&mut out, site, &order);
            }),
            Query::Request { intent } => self.engine.request(intent).map(|answer| {
                form.encode_answer(&mut out, site, &answer);
            }),
            Query::Stats { sale } => self.engine.stats(sale, now).map(|stats| {
                let answer = Answer { outcome: Outcome::Stats(stats), replayed: false };
                form.encode_answer(&mut out, site, &answer);
            }),
            Query::Sales { after, limit, .. } => {
                let page = self.engine.sales_page(after, limit, now);
                let answer = Answer { outcome: Outcome::Sales(page), replayed: false };
                form.encode_answer(&mut out, site, &answer);
                Ok(())
            }
            Query::AccountOrders { sale, account, after, limit } => {
                self.engine.account_orders((sale, account), after, limit, now).map(|page| {
                    let answer = Answer { outcome: Outcome::Orders(page), replayed: false };
                    form.encode_answer(&mut out, site, &answer);
                })
            }
        };
        match read {
            Ok(()) => {
                self.count(Verdict::Ok);
                self.answer(to, |waiting, _| waiting.extend_from_slice(&out));
            }
            Err(refusal) => self.refuse_at(to, form, refusal),
        }
        out.clear();
        self.scratch = out;
    }

    pub(super) fn refuse_at(&mut self, to: Destination, form: Form, refusal: Refusal) {
        self.count(Verdict::Refused(refusal.code()));
        self.answer(to, |out, site| form.encode_refusal(out, site, refusal));
    }

    /// Gives an answer as soon as the state that it saw is durable.
    pub(super) fn answer(&mut self, to: Destination, encode: impl FnOnce(&mut Vec<u8>, &Site)) {
        let Self { log, connections, site, asking, answered, .. } = self;
        if let Some(parked) = log.parking() {
            parked.push(to, asking, |out| encode(out, site));
            return;
        }
        answered.add(asking.arrived);
        if let Destination::Local(reply_to) = to {
            let slot = reply_to.connection.slot;
            if connections.at(slot).take_answer(reply_to, |out| encode(out, site)) {
                self.queue_send(slot);
            }
        } else {
            let mut out = Vec::new();
            encode(&mut out, site);
            self.deliver(to, &out);
        }
    }

    fn deliver(&mut self, to: Destination, bytes: &[u8]) {
        let Self { connections, to_send, mail, asks, .. } = self;
        deliver(connections, to_send, mail, asks, to, bytes);
    }
}
