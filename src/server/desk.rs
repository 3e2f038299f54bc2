//! A shard at which a test sits: it says when a send ends and when the disk has what was written.
//!
//! For unit tests alone. What a whole server does under faults is the simulator's.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use super::commit::Write;
use super::connection::Seats;
use super::mail::MAILBOX_MESSAGES;
use super::service::{IN_FLIGHT_MAX, Service, ServiceConfig, Wire};
use crate::admission::peer::TrustedProxies;
use crate::engine::{Engine, HashSeed};
use crate::model::{Command, Query, SaleId, SaleTerms, Scopes, ShardIndex, TimeMs};
use crate::protocol::binary::{
    Hello, Response, Welcome, encode_command, encode_hello, encode_query, frame,
};
use crate::protocol::http::Cors;
use crate::wal::{Identity, LogId, LogWriter, Recovered, Segment, SegmentIndex};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// What an answer may take before it is slow.
pub(super) const SLOW: Duration = Duration::from_millis(5);

/// A shard whose sends and log writes end when the test says so.
pub(super) struct Desk {
    pub service: Service,
    pub slot: u32,
    pub sending: Option<Vec<u8>>,
    pub writing: Option<Write>,
}

impl Desk {
    /// With one connection that was let in.
    pub(super) fn new() -> Self {
        Self::with(NonZeroU16::MIN, |_| {})
    }

    /// The first of so many shards, set up differently.
    pub(super) fn with(shards: NonZeroU16, change: impl FnOnce(&mut ServiceConfig)) -> Self {
        Self::with_log(64 << 20, shards, change)
    }

    /// With so many bytes of log.
    pub(super) fn with_log(
        bytes: u64,
        shards: NonZeroU16,
        change: impl FnOnce(&mut ServiceConfig),
    ) -> Self {
        let segment = Segment { index: SegmentIndex::FIRST, bytes };
        let shard = ShardIndex(0);
        let identity = Identity { log: LogId(1), shard, shards };
        let log = LogWriter::new(&Recovered::empty(identity, segment));
        let welcome = Welcome {
            version: 1,
            scopes: Scopes::ALL,
            shard,
            frame_bytes_max: 65_536,
            in_flight_max: IN_FLIGHT_MAX,
            boot: 1,
            ports: vec![1],
        };
        let mut config = ServiceConfig {
            index: shard,
            shards,
            mailbox_messages: MAILBOX_MESSAGES,
            seats: Seats::new(101),
            idle_timeout: 300 * SECOND,
            request_timeout: 10 * SECOND,
            send_timeout: 10 * SECOND,
            welcome,
            keys: None,
            slow_request: Some(SLOW),
            token_rules: None,
            buyers_confirm: false,
            trusted_proxies: TrustedProxies::default(),
            proxy_protocol: false,
            cors: Cors::default(),
            documents: Arc::default(),
        };
        change(&mut config);
        let mut service = Service::new(config, Engine::new(HashSeed([1, 2])), log);
        service.handle_time(TimeMs(1), SECOND);
        let slot = service.handle_open(Wire::Binary).expect("there is room").slot;
        let mut desk = Self { service, slot, sending: None, writing: None };
        desk.receive(|out| encode_hello(out, 1, &Hello { key: b"", name: "" }));
        desk.poll();
        assert_eq!(desk.sent().len(), 1, "it is let in");
        desk
    }

    pub(super) fn receive(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        self.service.handle_bytes(self.slot, &bytes);
    }

    /// A command that has to be logged.
    pub(super) fn receive_command(&mut self, sale: SaleId) {
        let command = Command::DefineSale { sale, terms: SaleTerms::default() };
        self.receive(|out| encode_command(out, 2, &command));
    }

    pub(super) fn receive_queries(&mut self, count: u32, query: Query) {
        self.receive(|out| (0..count).for_each(|_| encode_query(out, 3, &query)));
    }

    /// Takes what is to be done.
    pub(super) fn poll(&mut self) {
        if self.writing.is_none() {
            self.writing = self.service.poll_write();
        }
        if let Some((slot, buffer)) = self.service.poll_send() {
            assert_eq!((slot, self.sending.replace(buffer)), (self.slot, None));
        }
    }

    /// Ends the send; what it sent.
    pub(super) fn sent(&mut self) -> Vec<Response> {
        let buffer = self.sending.take().expect("a send is in flight");
        let mut responses = Vec::new();
        let mut rest = &buffer[..];
        while let Some(frame) = frame(rest).expect("whole frames") {
            responses.push(Response::decode(&frame).expect("a response"));
            rest = &rest[frame.len..];
        }
        self.service.handle_sent(self.slot, buffer, true);
        responses
    }

    pub(super) fn written(&mut self) {
        let write = self.writing.take().expect("a write is in flight");
        self.service.handle_written(write.buffer);
    }
}
