//! HTTP requests of a connection: from its bytes to the engine, or to a direct answer.
//!
//! The syntax and the meaning of a request are the protocol layer's; here they meet the
//! connection, its bounds and its caller. Every request, also one that is refused at once, has a
//! number and is answered in its turn (see [`Exchange`](super::exchange::Exchange)).

use super::caller::Unknown;
use super::connection::{ConnectionId, Fault, Phase, ReplyTo};
use super::exchange::Exchange;
use super::form::Form;
use super::mail::Ask;
use super::metrics::{CloseReason, Operation, Protocol};
use super::service::Service;
use crate::model::Refusal;
use crate::protocol::http::{
    self, Decoded, Document, HttpFault, HttpRefusal, Method, Methods, Reply, Request, Route, Site,
    encode_document, encode_http_refusal, encode_options, encode_refusal, encode_unknown_caller,
    route, to_ask,
};

/// Bytes of a document's answer besides the document.
const DOCUMENT_HEAD_BYTES_MAX: usize = 2048;

impl Service {
    /// Takes as many whole requests as backpressure allows; returns how many bytes they were.
    pub(super) fn take_http_requests(&mut self, slot: u32, bytes: &[u8]) -> usize {
        let Some(mut taken) = self.take_proxy_header(slot, bytes) else { return 0 };
        let mut decoder = std::mem::take(&mut self.exchange(slot).decoder);
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
    pub(super) fn await_rest(&mut self, slot: u32, wants_continue: bool) {
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
        self.metrics.faults[Protocol::Http as usize].add(1);
        let connection = self.connections.at(slot);
        connection.phase = Phase::Ending(Some(Fault::Http(fault)));
        connection.reason = CloseReason::Fault;
        self.settle(slot);
    }

    /// The server stops: what was begun and is not whole will not be carried out, whatever it is.
    pub(super) fn refuse_begun(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        connection.phase = Phase::Ending(None);
        let sequence = self.exchange(slot).number();
        self.asks(Protocol::Http, Operation::Unread);
        self.count_refused(Refusal::Draining);
        self.answer_at_once(slot, sequence, 0, |out, site| {
            encode_refusal(out, site, &Reply::LAST, Refusal::Draining, None);
        });
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
        if self.draining {
            connection.reason = CloseReason::Stopping;
        }
        let exchange = self.exchange(slot);
        exchange.began_at = None;
        exchange.owes_continue = false;
        let sequence = exchange.number();
        self.asks(Protocol::Http, Operation::Unread);
        if let Err(refusal) = self.take_request(slot, sequence, request, &mut reply) {
            self.count_http_refusal(&refusal);
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
                self.count_document();
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
        let caller = match self.identify(slot, request) {
            Ok(caller) => caller,
            Err(Unknown { detail, is_bad }) => {
                self.count_refused(Refusal::BadToken);
                self.answer_at_once(slot, sequence, 0, |out, site| {
                    if is_bad {
                        encode_refusal(out, site, reply, Refusal::BadToken, Some(detail));
                    } else {
                        encode_unknown_caller(out, site, reply, detail);
                    }
                });
                return Ok(());
            }
        };
        let ask = to_ask(route, request, caller, reply)?;
        let ask = match &ask {
            http::Ask::Command(command) => Ask::Command(command),
            http::Ask::Query(query) => Ask::Query(query),
        };
        self.asks(Protocol::Http, ask.operation());
        self.take(slot, sequence, Form::Http(*reply), ask);
        Ok(())
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
        self.count_document();
        if request.method == Method::Options {
            self.answer_at_once(slot, sequence, 0, |out, site| {
                encode_options(out, site, reply, Methods::Read);
            });
            return Ok(());
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

    pub(super) fn exchange(&mut self, slot: u32) -> &mut Exchange {
        let http = self.connections.at(slot).http.as_mut();
        http.expect("only an HTTP connection has HTTP requests")
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;
    use std::sync::Arc;

    use super::super::desk::{Desk, SECOND};
    use super::super::documents::{Document, Documents};
    use super::super::exchange::HTTP_IN_FLIGHT_MAX;
    use super::super::form::Form;
    use super::super::mail::{Frames, Mail, SentAsk};
    use super::super::service::Wire;
    use crate::model::{
        Answer, Command, ItemId, ItemTerms, Outcome, Price, Quantity, SaleId, SaleTerms,
        ShardIndex, TimeMs,
    };
    use crate::protocol::binary::encode_command;

    const SALE: SaleId = SaleId(1);
    const TWO: NonZeroU16 = NonZeroU16::new(2).expect("it is not zero");

    /// With an open sale, and one more connection, which speaks HTTP.
    fn http_desk(shards: NonZeroU16, sale: SaleId, documents: Documents) -> Desk {
        let mut desk = Desk::with(shards, |config| config.documents = Arc::new(documents));
        let terms = ItemTerms { capacity: Quantity(9), price: Price(1), account_limit: None };
        for command in [
            Command::DefineSale { sale, terms: SaleTerms::default() },
            Command::DefineItem { sale, item: ItemId(1), terms },
            Command::OpenSale { sale },
        ] {
            desk.receive(|out| encode_command(out, 2, &command));
        }
        desk.poll();
        desk.written();
        desk.poll();
        assert_eq!(desk.sent().len(), 3);
        let peer = "127.0.0.1:1".parse().expect("an address");
        desk.slot = desk.service.handle_open(Wire::Http { peer }).expect("there is room").slot;
        desk
    }

    /// A sale of this shard of two.
    fn sale_on(shard: u16) -> SaleId {
        let mut sales = (1..100).map(SaleId);
        sales.find(|sale| sale.shard(TWO) == ShardIndex(shard)).expect("each shard has sales")
    }

    fn receive(desk: &mut Desk, text: &str) {
        desk.receive(|out| out.extend_from_slice(text.as_bytes()));
    }

    /// What was sent since, as text.
    fn sent(desk: &mut Desk) -> String {
        desk.poll();
        let Some(buffer) = desk.sending.take() else { return String::new() };
        let text = String::from_utf8(buffer.clone()).expect("it is text");
        desk.service.handle_sent(desk.slot, buffer, true);
        text
    }

    fn statuses(text: &str) -> Vec<u16> {
        let lines = text.split("HTTP/1.1 ").skip(1);
        lines.map(|line| line[..3].parse().expect("a status")).collect()
    }

    fn get(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
    }

    fn buy(sale: SaleId) -> String {
        let body = r#"{"account":"a","action":"buy","lines":[{"item":1,"quantity":1}]}"#;
        format!(
            "POST /v1/sales/{sale}/orders HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    #[test]
    fn no_answer_runs_ahead_of_the_disk() {
        let mut desk = http_desk(NonZeroU16::MIN, SALE, Documents::default());
        let path = format!("/v1/sales/{SALE}/stats");
        receive(&mut desk, &(buy(SALE) + &get(&path) + &get("/nothing") + &buy(SaleId(9))));
        assert_eq!(sent(&mut desk), "", "all of them wait with the first");
        desk.written();
        assert_eq!(statuses(&sent(&mut desk)), [201, 200, 404, 404]);
        receive(&mut desk, &get(&path));
        assert_eq!(statuses(&sent(&mut desk)), [200], "what is durable waits for nothing");
    }

    /// The answer of another shard comes last, and goes out first.
    #[test]
    fn answers_that_are_early_wait_for_their_turn() {
        let own = sale_on(0);
        let away = sale_on(1);
        let mut desk = http_desk(TWO, own, Documents::default());
        receive(&mut desk, &(buy(away) + &buy(own) + &get("/nothing")));
        let Some(Mail::Request { reply_to, form: Form::Http(reply), .. }) =
            desk.service.mail_for(ShardIndex(1)).pop_front()
        else {
            panic!("the first request is for the other shard")
        };
        assert_eq!(sent(&mut desk), "");
        desk.written();
        assert_eq!(sent(&mut desk), "", "they wait for the first");
        let order = crate::model::OrderNumber(77);
        let answer = Answer { outcome: Outcome::Confirmed { order }, replayed: false };
        let mut bytes = Vec::new();
        Form::Http(reply).encode_answer(&mut bytes, &desk.service.site, &answer);
        let frames = Frames::copy_of(&bytes);
        desk.service.handle_mail(ShardIndex(1), Mail::Answer { reply_to, frames });
        let text = sent(&mut desk);
        assert_eq!(statuses(&text), [201, 201, 404]);
        assert!(text.find("77").expect("the first") < text.find("404").expect("the last"));
        assert!(!desk.service.is_busy());
    }

    #[test]
    fn a_connection_has_so_many_requests_in_flight_and_no_more() {
        let away = sale_on(1);
        let own = sale_on(0);
        let mut desk = http_desk(TWO, own, Documents::default());
        let requests = 3 * HTTP_IN_FLIGHT_MAX as usize;
        receive(&mut desk, &buy(away).repeat(requests));
        assert_eq!(desk.service.mail_for(ShardIndex(1)).len(), HTTP_IN_FLIGHT_MAX as usize);
        let mut answered = 0;
        while answered < requests {
            // The other shard answers the latest first.
            let mut asked: Vec<_> = desk.service.mail_for(ShardIndex(1)).drain(..).collect();
            assert!(!asked.is_empty(), "it goes on after {answered}");
            while let Some(Mail::Request { reply_to, .. }) = asked.pop() {
                let frames = Frames::copy_of(b"HTTP/1.1 201 \r\n\r\n");
                desk.service.handle_mail(ShardIndex(1), Mail::Answer { reply_to, frames });
            }
            answered += statuses(&sent(&mut desk)).len();
            desk.service.handle_turn();
        }
        assert_eq!(answered, requests);
    }

    /// Connects once more.
    fn connect(desk: &mut Desk) {
        let peer = "127.0.0.1:1".parse().expect("an address");
        desk.slot = desk.service.handle_open(Wire::Http { peer }).expect("there is room").slot;
    }

    /// Each answer: its status, and whether the connection ends behind it.
    fn answers(text: &str) -> Vec<(u16, bool)> {
        let answers = text.split("HTTP/1.1 ").skip(1);
        let closes = |answer: &str| {
            let head = answer.split_once("\r\n\r\n").expect("a head").0;
            let count = head.matches("\r\nConnection: ").count();
            assert!(count <= 1, "{head}");
            head.contains("\r\nConnection: close")
        };
        answers.map(|answer| (answer[..3].parse().expect("a status"), closes(answer))).collect()
    }

    /// What goes out behind the moment at which the server was told to stop, was asked before.
    #[test]
    fn the_last_answer_of_a_server_that_stops_says_so() {
        let stats = get(&format!("/v1/sales/{SALE}/stats"));
        let kept = stats.replace("HTTP/1.1", "HTTP/1.0\r\nConnection: keep-alive");
        for (requests, expected) in [
            // One that waits for the disk, several of which one does, and some that only wait to
            // be sent.
            (buy(SALE), vec![(201, true)]),
            (buy(SALE) + &stats + &stats, vec![(201, false), (200, false), (200, true)]),
            (stats.repeat(2), vec![(200, false), (200, true)]),
            (kept, vec![(200, true)]),
        ] {
            let mut desk = http_desk(NonZeroU16::MIN, SALE, Documents::default());
            receive(&mut desk, &requests);
            desk.service.handle_drain();
            let mut text = sent(&mut desk);
            if desk.writing.is_some() {
                desk.written();
                text += &sent(&mut desk);
            }
            assert_eq!(answers(&text), expected, "{text}");
            let body = text.rsplit_once("\r\n\r\n").expect("a head and a body").1;
            let parsed: serde_json::Value = serde_json::from_str(body).expect("the body is whole");
            assert_eq!(parsed["sale"], SALE.0);
            assert_eq!(desk.service.poll_finish(), Some(desk.slot), "and so it does");
            receive(&mut desk, &stats);
            assert_eq!(sent(&mut desk), "", "what comes behind is asked elsewhere");
        }
    }

    /// Of the answers that are due, another shard gives the one that goes out last.
    #[test]
    fn an_answer_of_another_shard_says_that_the_server_stops() {
        let mut desk = http_desk(TWO, sale_on(0), Documents::default());
        receive(&mut desk, &(get("/nothing") + &buy(sale_on(1)) + &buy(sale_on(1))));
        assert_eq!(answers(&sent(&mut desk)), [(404, false)], "it was on its way before");
        desk.service.handle_drain();
        let asked: Vec<_> = desk.service.mail_for(ShardIndex(1)).drain(..).collect();
        for mail in asked.into_iter().rev() {
            let Mail::Request { reply_to, .. } = mail else { panic!("requests are sent") };
            let frames = Frames::copy_of(b"HTTP/1.1 201 Created\r\nDate: now\r\n\r\n");
            desk.service.handle_mail(ShardIndex(1), Mail::Answer { reply_to, frames });
        }
        assert_eq!(answers(&sent(&mut desk)), [(201, false), (201, true)]);
    }

    /// The shards of a server are told to stop one after the other.
    #[test]
    fn what_another_shard_took_is_carried_out_by_one_that_stops() {
        let own = sale_on(0);
        let mut desk = http_desk(TWO, own, Documents::default());
        desk.service.handle_drain();
        let connection = super::ConnectionId { slot: 3, generation: 4 };
        let reply_to = super::ReplyTo { connection, reserved: 0, sequence: 5 };
        let form = Form::Http(super::Reply { keep_alive: true, sale: own, ..super::Reply::LAST });
        let ask = SentAsk::Command(Command::PauseSale { sale: own });
        desk.service.handle_mail(ShardIndex(1), Mail::Request { reply_to, form, ask });
        assert!(!desk.service.is_drained(), "somebody waits for it");
        desk.poll();
        desk.written();
        let Some(Mail::Answer { frames, .. }) = desk.service.mail_for(ShardIndex(1)).pop_front()
        else {
            panic!("it is answered")
        };
        assert!(frames.as_bytes().starts_with(b"HTTP/1.1 200 "), "{frames:?}");
    }

    #[test]
    fn whoever_asks_a_server_that_stops_is_told_so() {
        let mut desk = http_desk(NonZeroU16::MIN, SALE, Documents::default());
        let first = desk.slot;
        receive(&mut desk, &(buy(SALE) + &buy(SALE)[..20]));
        desk.service.handle_drain();
        assert_eq!(sent(&mut desk), "");
        desk.written();
        assert_eq!(answers(&sent(&mut desk)), [(201, false)], "one more was begun");
        // Connected before the server stopped listening: one says nothing, one asks.
        connect(&mut desk);
        let silent = desk.slot;
        connect(&mut desk);
        receive(&mut desk, &get("/v1/sales/1/stats").repeat(2));
        assert_eq!(answers(&sent(&mut desk)), [(503, true)]);
        assert_eq!(desk.service.poll_finish(), Some(desk.slot));
        // What is not whole by now is not waited for.
        desk.service.handle_time(TimeMs(1), SECOND + SECOND / 10);
        desk.service.handle_turn();
        desk.slot = first;
        let text = sent(&mut desk);
        assert_eq!(answers(&text), [(503, true)]);
        assert!(text.contains("\"DRAINING\"") && text.contains("\r\nRetry-After: 1\r\n"), "{text}");
        let finished: Vec<_> = std::iter::from_fn(|| desk.service.poll_finish()).collect();
        assert!([first, silent].iter().all(|slot| finished.contains(slot)), "{finished:?}");
        // A peer that ends its side is done with; the others are given a while.
        desk.service.handle_end(silent);
        assert_eq!(desk.service.poll_close(), Some(silent));
        desk.service.handle_time(TimeMs(1), 3 * SECOND);
        desk.service.handle_turn();
        let closed: Vec<_> = std::iter::from_fn(|| desk.service.poll_close()).collect();
        assert!(closed.contains(&first), "{closed:?}");
    }

    #[test]
    fn documents_are_served_as_they_are() {
        let page = Document::new("/sales/*", "text/html", "max-age=60", b"<!doctype html>");
        let tag = page.etag().to_owned();
        let mut desk = http_desk(NonZeroU16::MIN, SALE, Documents::new([page]));
        receive(&mut desk, &get("/sales/7"));
        let text = sent(&mut desk).to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200") && text.ends_with("\r\n\r\n<!doctype html>"));
        for line in
            ["content-type: text/html", "cache-control: max-age=60", &*format!("etag: {tag}")]
        {
            assert!(text.contains(&format!("\r\n{line}\r\n")), "{line} is not in {text}");
        }
        let known = get("/sales/7").replace("Host:", &format!("If-None-Match: {tag}\r\nHost:"));
        receive(&mut desk, &known);
        let text = sent(&mut desk);
        assert!(statuses(&text) == [304] && text.ends_with("\r\n\r\n"), "{text}");
        receive(&mut desk, &get("/sales/7").replace("GET", "HEAD"));
        let text = sent(&mut desk);
        assert!(statuses(&text) == [200] && text.ends_with("\r\n\r\n"), "{text}");
        receive(&mut desk, &get("/sales/7").replace("GET", "DELETE"));
        receive(&mut desk, &get("/sales/8/9"));
        assert_eq!(statuses(&sent(&mut desk)), [405, 404]);
    }
}
