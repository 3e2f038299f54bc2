//! HTTP on a connection: what it keeps beside the buffers, and the order of its answers.
//!
//! Requests of one connection may be decided on several shards and wait for different writes of
//! the log, but HTTP answers go out in the order of the requests. Each request has a sequence
//! number; an answer that is early is parked here until those before it are out. There are never
//! more of them than requests in flight, [`HTTP_IN_FLIGHT_MAX`].

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use subtle::ConstantTimeEq;

use super::connection::ReplyTo;
use crate::canary::{Canary, planted};
use crate::model::Scopes;
use crate::protocol::http::Decoder;

/// Requests of one HTTP connection that may be unanswered; then it is not read.
pub const HTTP_IN_FLIGHT_MAX: u32 = 64;

/// The longest key that is kept. Generated ones are far shorter.
const KEY_BYTES_MAX: usize = 256;

/// What an HTTP connection has beside what every connection has.
#[derive(Debug)]
pub(super) struct Exchange {
    /// How far the request at the front of the input was looked at.
    pub decoder: Decoder,
    /// Who is at the other end: its socket's address, or whom its proxy named.
    pub client: IpAddr,
    /// The header of the PROXY protocol has to come first.
    pub awaits_proxy_header: bool,
    /// When the first byte of a request arrived that is not whole yet.
    pub began_at: Option<Duration>,
    /// The peer waits for `100 Continue`.
    pub owes_continue: bool,
    /// The server stops, and the last answer that is due has to say that the connection ends.
    pub is_last_due: bool,
    /// Where the last answer begins in the connection's output, while it is there.
    pub last_answer_start: usize,
    /// The API key that was checked last, and what it allows: to digest it again for each request
    /// would cost more than the request.
    known_key: Option<(Box<[u8]>, Scopes)>,
    /// The sequence number of the next request.
    next_request: u32,
    /// That of the next answer to go out.
    next_answer: u32,
    /// Answers behind the next one, in order; `None` where one is not there yet.
    early: VecDeque<Option<Early>>,
}

/// An answer that waits for those before it.
#[derive(Debug)]
struct Early {
    bytes: Vec<u8>,
    reserved: u32,
}

impl Exchange {
    pub(super) fn new(peer: SocketAddr, awaits_proxy_header: bool) -> Self {
        Self {
            decoder: Decoder::default(),
            client: peer.ip().to_canonical(),
            awaits_proxy_header,
            began_at: None,
            owes_continue: false,
            is_last_due: false,
            last_answer_start: 0,
            known_key: None,
            next_request: 0,
            next_answer: 0,
            early: VecDeque::new(),
        }
    }

    /// What the key allows, where it is the one that was checked last. The time that it takes
    /// tells nothing about that one: a proxy may send the requests of many here.
    pub(super) fn known_key(&self, presented: &[u8]) -> Option<Scopes> {
        let (known, scopes) = self.known_key.as_ref()?;
        bool::from(known.ct_eq(presented)).then_some(*scopes)
    }

    /// Keeps a key that was checked.
    pub(super) fn remember_key(&mut self, key: &[u8], scopes: Scopes) {
        if key.len() <= KEY_BYTES_MAX {
            self.known_key = Some((key.into(), scopes));
        }
    }

    /// Forgets the key that was checked last: it may be one no more.
    pub(super) fn forget_key(&mut self) {
        self.known_key = None;
    }

    /// Whether a request was begun that is not whole.
    pub(super) const fn has_begun(&self) -> bool {
        self.began_at.is_some() && !self.awaits_proxy_header
    }

    /// The sequence number of a request that was taken.
    pub(super) fn number(&mut self) -> u32 {
        let sequence = self.next_request;
        self.next_request = sequence.wrapping_add(1);
        sequence
    }

    /// Whether this answer is the next to go out.
    pub(super) fn is_next(&self, sequence: u32) -> bool {
        planted(Canary::AnswerOutOfTurn) || sequence == self.next_answer
    }

    /// Keeps an answer that is early.
    pub(super) fn park(&mut self, to: ReplyTo, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        let behind = to.sequence.wrapping_sub(self.next_answer) as usize;
        assert!((1..HTTP_IN_FLIGHT_MAX as usize).contains(&behind), "an answer to a known request");
        if self.early.len() < behind {
            self.early.resize_with(behind, || None);
        }
        let earlier = self.early[behind - 1].replace(Early { bytes, reserved: to.reserved });
        assert!(earlier.is_none(), "a request is answered once");
    }

    /// The next answer is out: appends those that only waited for it. How many they were, and
    /// what was reserved for them.
    pub(super) fn release(&mut self, output: &mut Vec<u8>) -> (u32, u32) {
        let (mut count, mut reserved) = (0, 0);
        loop {
            self.next_answer = self.next_answer.wrapping_add(1);
            let Some(Some(early)) = self.early.pop_front() else { return (count, reserved) };
            self.last_answer_start = output.len();
            output.extend_from_slice(&early.bytes);
            count += 1;
            reserved += early.reserved;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::ConnectionId;
    use super::*;

    /// Answers in every order of arrival leave in the order of the requests, across the wrap of
    /// the sequence numbers.
    #[test]
    fn answers_leave_in_the_order_of_the_requests() {
        let peer = "127.0.0.1:1".parse().expect("an address");
        let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1], [3, 0, 1, 2]];
        for order in orders {
            let mut exchange = Exchange::new(peer, false);
            (exchange.next_request, exchange.next_answer) = (u32::MAX - 1, u32::MAX - 1);
            let numbers: Vec<_> = (0..4).map(|_| exchange.number()).collect();
            let (mut output, mut released) = (Vec::new(), 0);
            for arrived in order {
                let connection = ConnectionId { slot: 0, generation: 0 };
                let to = ReplyTo { connection, reserved: 1, sequence: numbers[arrived] };
                if exchange.is_next(to.sequence) {
                    output.push(arrived as u8);
                    let (count, reserved) = exchange.release(&mut output);
                    assert_eq!(count, reserved, "each reserved one byte");
                    released += 1 + count;
                } else {
                    exchange.park(to, |out| out.push(arrived as u8));
                }
            }
            assert_eq!((output, released), (vec![0, 1, 2, 3], 4), "arrived as {order:?}");
            assert!(exchange.early.is_empty());
        }
    }
}
