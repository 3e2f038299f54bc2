//! HTTP requests of a connection: from its bytes to the engine, or to a direct answer.
//!
//! The syntax and the meaning of a request are the protocol layer's; here they meet the
//! connection, its bounds and its caller. Every request, also one that is refused at once, has a
//! number and is answered in its turn (see [`Exchange`](super::exchange::Exchange)).

use super::connection::{ConnectionId, Fault, Phase, ReplyTo};
use super::exchange::Exchange;
use super::form::Form;
use super::mail::Ask;
use super::service::Service;
use crate::model::Refusal;
use crate::protocol::http::{
    self, Caller, Decoded, Document, HttpFault, HttpRefusal, Methods, Reply, Request, Route, Site,
    encode_document, encode_http_refusal, encode_options, route, to_ask,
};

/// Bytes of a document's answer besides the document.
const DOCUMENT_HEAD_BYTES_MAX: usize = 1024;

impl Service {
    /// Takes as many whole requests as backpressure allows; returns how many bytes they were.
    pub(super) fn take_http_requests(&mut self, slot: u32, bytes: &[u8]) -> usize {
        let mut decoder = std::mem::take(&mut self.exchange(slot).decoder);
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            if !matches!(self.connections.at(slot).phase, Phase::Serving(_)) {
                taken = bytes.len();
                break;
            }
            if rest.is_empty() {
                break;
            }
            if !self.may_take(slot) {
                // The time that a request may take is not the server's to use up.
                self.exchange(slot).began_at = None;
                self.stall(slot);
                break;
            }
            match decoder.decode(rest) {
                Ok(Decoded::Complete { consumed, request }) => {
                    taken += consumed;
                    self.handle_request(slot, &request);
                }
                Ok(Decoded::Incomplete { wants_continue }) => {
                    self.await_rest(slot, wants_continue);
                    break;
                }
                Err(fault) => self.fail_http(slot, fault),
            }
        }
        self.exchange(slot).decoder = decoder;
        taken
    }

    /// Notes that a request was begun, and lets its peer go on that waits to be told.
    fn await_rest(&mut self, slot: u32, wants_continue: bool) {
        let monotonic = self.monotonic;
        let exchange = self.exchange(slot);
        exchange.began_at.get_or_insert(monotonic);
        if wants_continue {
            exchange.owes_continue = true;
            if self.connections.at(slot).pay_continue() {
                self.queue_send(slot);
            }
        }
    }

    /// Whether a connection's request has taken too long to arrive.
    pub(super) fn is_overdue(&self, slot: u32) -> bool {
        self.connections.get(slot).is_some_and(|connection| {
            let began_at = connection.http.as_ref().and_then(|exchange| exchange.began_at);
            let is_late =
                |began| self.monotonic.saturating_sub(began) >= self.config.request_timeout;
            matches!(connection.phase, Phase::Serving(_)) && began_at.is_some_and(is_late)
        })
    }

    /// Nobody knows where the next request begins: nothing more is read.
    pub(super) fn fail_http(&mut self, slot: u32, fault: HttpFault) {
        self.connections.at(slot).phase = Phase::Ending(Some(Fault::Http(fault)));
        self.settle(slot);
    }

    fn handle_request(&mut self, slot: u32, request: &Request<'_>) {
        let monotonic = self.monotonic;
        let mut reply = Reply::to(request, &self.site.cors);
        reply.keep_alive &= !self.draining;
        let connection = self.connections.at(slot);
        connection.active_at = monotonic;
        if !reply.keep_alive {
            connection.phase = Phase::Ending(None);
        }
        let exchange = self.exchange(slot);
        exchange.began_at = None;
        exchange.owes_continue = false;
        let sequence = exchange.number();
        if let Err(refusal) = self.take_request(slot, sequence, request, &mut reply) {
            self.answer_at_once(slot, sequence, 0, |out, site| {
                encode_http_refusal(out, site, &reply, &refusal);
            });
        }
    }

    fn take_request(
        &mut self,
        slot: u32,
        sequence: u32,
        request: &Request<'_>,
        reply: &mut Reply,
    ) -> Result<(), HttpRefusal> {
        let route = route(request)?;
        match route {
            Route::Document => return self.take_document(slot, sequence, request, reply),
            Route::Options(methods) => {
                self.answer_at_once(slot, sequence, 0, |out, site| {
                    encode_options(out, site, reply, methods);
                });
                return Ok(());
            }
            _ => {}
        }
        if self.draining {
            return Err(Refusal::Draining.into());
        }
        let caller = self.identify(slot, request)?;
        let ask = to_ask(route, request, caller, reply)?;
        let ask = match &ask {
            http::Ask::Command(command) => Ask::Command(command),
            http::Ask::Query(query) => Ask::Query(query),
        };
        self.take(slot, sequence, Form::Http(*reply), ask);
        Ok(())
    }

    /// Who sends this request: the one place where HTTP credentials become a caller.
    fn identify(&mut self, slot: u32, request: &Request<'_>) -> Result<Caller, Refusal> {
        let Some(keys) = self.config.keys.clone() else { return Ok(Caller::Open) };
        let presented = request.bearer().ok_or(Refusal::BadToken)?;
        let exchange = self.exchange(slot);
        if let Some(scopes) = exchange.known_key(presented) {
            return Ok(Caller::Key(scopes));
        }
        let Some((_, scopes)) = keys.verify(presented) else {
            tracing::debug!(client = %exchange.client, "a wrong key");
            return Err(Refusal::BadToken);
        };
        exchange.remember_key(presented, scopes);
        Ok(Caller::Key(scopes))
    }

    fn take_document(
        &mut self,
        slot: u32,
        sequence: u32,
        request: &Request<'_>,
        reply: &Reply,
    ) -> Result<(), HttpRefusal> {
        let documents = self.config.documents.clone();
        let document = documents.find(request.path).ok_or(HttpFault::NoSuchPath)?;
        if !Methods::Read.contains(request.method) {
            return Err(HttpFault::MethodNotAllowed(Methods::Read).into());
        }
        let document = Document {
            content_type: document.content_type(),
            cache_control: document.cache_control(),
            etag: document.etag(),
            body: document.body(),
        };
        let reserved = document.body.len() + DOCUMENT_HEAD_BYTES_MAX;
        self.answer_at_once(slot, sequence, reserved as u32, |out, site| {
            encode_document(out, site, reply, &document, request.values("if-none-match"));
        });
        Ok(())
    }

    /// Answers a request that no state had to be read for. In its turn all the same.
    fn answer_at_once(
        &mut self,
        slot: u32,
        sequence: u32,
        reserved: u32,
        encode: impl FnOnce(&mut Vec<u8>, &Site),
    ) {
        let Self { connections, site, .. } = self;
        let connection = connections.at(slot);
        connection.in_flight += 1;
        connection.reserved += reserved;
        let id = ConnectionId { slot, generation: connection.generation };
        let to = ReplyTo { connection: id, reserved, sequence };
        if connection.take_answer(to, |out| encode(out, site)) {
            self.queue_send(slot);
        }
    }

    fn exchange(&mut self, slot: u32) -> &mut Exchange {
        let http = self.connections.at(slot).http.as_mut();
        http.expect("only an HTTP connection has HTTP requests")
    }
}
