//! How connections end: with their last answers out and their fault told, or because nothing
//! more is heard of them.
//!
//! A connection that ends in order ends its sending side first and waits for its peer to end its
//! own: closing at once would reset the connection of one that still sends, and could take the
//! last answer from it.

use std::time::Duration;

use super::connection::{Fault, Phase};
use super::metrics::CloseReason;
use super::service::{Reading, Service};
use crate::protocol::binary::encode_error;
use crate::protocol::http::{HttpFault, Reply, encode_fault};

/// Connections whose time-outs are looked at in one turn, at most.
const SWEEP_PER_TURN: u32 = 512;

/// Those of them that are ended in one turn, at most: each is sent something or closed, which
/// whoever asks meanwhile has to wait for.
const ENDED_PER_TURN: u32 = 16;

/// How long a connection of a stopping server says nothing before it ends: what its peer had sent
/// when the server was told to stop has arrived by then.
const DRAIN_QUIET: Duration = Duration::from_millis(50);

/// How long a peer has to end its side after the server has ended its own.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// What it may send meanwhile, in bytes, which nobody reads; then it is closed hard.
pub(super) const LINGER_BYTES_MAX: u32 = 1 << 20;

/// [`LINGER_TIME`] where the server stops: somebody waits for its end.
const DRAIN_LINGER_TIME: Duration = Duration::from_millis(500);

/// How often every connection's time-outs are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The same where the server stops.
const DRAIN_INTERVAL: Duration = Duration::from_millis(10);

impl Service {
    /// Moves an ending connection on: its last answers out, its fault told, its socket closed.
    pub(super) fn settle(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let Phase::Ending(fault) = connection.phase else { return };
        if connection.in_flight > 0 || connection.sending {
            return;
        }
        match fault {
            Some(Fault::Binary { correlation, error }) => {
                encode_error(&mut connection.output, correlation, error);
            }
            Some(Fault::Http(fault)) => {
                encode_fault(&mut connection.output, &self.site, &Reply::LAST, fault);
            }
            None => {}
        }
        connection.phase = Phase::Ending(None);
        if !connection.output.is_empty() {
            self.queue_send(slot);
        } else if connection.ended {
            self.close(slot);
        } else {
            self.linger(slot);
        }
    }

    /// Ends the sending side and waits for the peer to end its own.
    fn linger(&mut self, slot: u32) {
        let monotonic = self.monotonic;
        let connection = self.connections.at(slot);
        connection.phase = Phase::Lingering { discarded_bytes: 0 };
        connection.active_at = monotonic;
        connection.input = Vec::new();
        if connection.paused {
            connection.paused = false;
            self.reading.push_back((slot, Reading::Resume));
        }
        self.finishing.push_back(slot);
    }

    pub(super) fn close(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if connection.phase != Phase::Closing {
            connection.phase = Phase::Closing;
            self.closing.push_back(slot);
        }
    }

    /// Closes connections that are idle or that do not take their answers.
    pub(super) fn sweep(&mut self) {
        if self.monotonic < self.sweep_due {
            return;
        }
        let end = self.connections.slots().min(self.sweep_next.saturating_add(SWEEP_PER_TURN));
        let mut ended = 0;
        while self.sweep_next < end && ended < ENDED_PER_TURN {
            ended += u32::from(self.sweep_one(self.sweep_next));
            self.sweep_next += 1;
        }
        if self.sweep_next == self.connections.slots() {
            self.sweep_next = 0;
            self.sweep_due =
                self.monotonic + if self.draining { DRAIN_INTERVAL } else { SWEEP_INTERVAL };
        }
    }

    /// Looks at one connection; whether it was ended.
    fn sweep_one(&mut self, slot: u32) -> bool {
        let Some(connection) = self.connections.get(slot) else { return false };
        let (is_sending, phase) = (connection.sending, connection.phase);
        let since = |moment: Duration| self.monotonic.saturating_sub(moment);
        let quiet = since(connection.active_at);
        let is_over = if is_sending {
            since(connection.sent_at) >= self.config.send_timeout
        } else if let Phase::Lingering { .. } = phase {
            quiet >= if self.draining { DRAIN_LINGER_TIME } else { LINGER_TIME }
        } else if connection.is_waited_for() {
            false
        } else if self.draining {
            quiet.min(since(self.drain_began)) >= DRAIN_QUIET
        } else {
            quiet >= self.config.idle_timeout
        };
        if !is_over {
            let is_overdue = self.is_overdue(slot);
            if is_overdue {
                self.fail_http(slot, HttpFault::Timeout);
            }
            return is_overdue;
        }
        let reason = match (is_sending, self.draining) {
            (true, _) => CloseReason::SlowReader,
            (false, _) if phase.is_over() => connection.reason,
            (false, true) => CloseReason::Stopping,
            (false, false) => CloseReason::Idle,
        };
        let has_begun = connection.http.as_ref().is_some_and(|exchange| exchange.has_begun());
        self.connections.at(slot).reason = reason;
        if is_sending || phase.is_over() {
            self.close(slot);
        } else if self.draining && has_begun {
            self.refuse_begun(slot);
        } else {
            self.linger(slot);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::desk::{Desk, SECOND};
    use super::super::metrics::Protocol;
    use super::super::service::Wire;
    use super::*;
    use crate::model::{Answer, Outcome, Query, Refusal, SaleId, TimeMs};
    use crate::protocol::binary::Response;

    const SALE: SaleId = SaleId(1);

    const STATS: Query = Query::Stats { sale: SALE };

    /// A request that crosses the end on its way meets no reset.
    #[test]
    fn an_idle_connection_ends_in_order() {
        let mut desk = Desk::new();
        desk.service.handle_time(TimeMs(1), 1_000 * SECOND);
        desk.service.handle_turn();
        assert_eq!(desk.service.poll_finish(), Some(desk.slot));
        desk.receive_command(SaleId(1));
        assert!(desk.service.poll_close().is_none() && desk.service.poll_write().is_none());
        desk.service.handle_end(desk.slot);
        assert_eq!(desk.service.poll_close(), Some(desk.slot));
    }

    /// A crowd that began its requests together and does not end them.
    #[test]
    fn a_crowd_is_sent_away_over_many_turns() {
        let mut desk = Desk::new();
        let peer = "127.0.0.1:1".parse().expect("an address");
        let mut crowd = 0;
        while let Some(id) = desk.service.handle_open(Wire::Http { peer }) {
            desk.service.handle_bytes(id.slot, b"GET");
            crowd += 1;
        }
        desk.service.handle_time(TimeMs(1), 20 * SECOND);
        let mut told = 0;
        for _ in 0..u32::div_ceil(crowd, ENDED_PER_TURN) {
            assert_eq!(desk.service.sleep(), Some(Duration::ZERO), "it goes on at once");
            desk.service.handle_turn();
            let of_turn = std::iter::from_fn(|| desk.service.poll_send()).count() as u32;
            assert!((1..=ENDED_PER_TURN).contains(&of_turn), "{of_turn} in a turn");
            told += of_turn;
        }
        assert_eq!((told, crowd), (100, 100));
    }

    #[test]
    fn a_stop_waits_for_the_answers_that_are_due() {
        let mut desk = Desk::new();
        desk.receive_command(SALE);
        desk.poll();
        desk.service.handle_drain();
        desk.service.handle_time(TimeMs(1), 3 * SECOND);
        desk.written();
        desk.service.handle_turn();
        desk.poll();
        let done = Answer { outcome: Outcome::Done, replayed: false };
        assert_eq!(desk.sent(), [Response::Answer(Ok(done))]);
        // What was on its way is refused, not cut off.
        desk.service.handle_turn();
        assert_eq!(desk.service.poll_close(), None);
        desk.receive_command(SaleId(2));
        desk.poll();
        assert_eq!(desk.sent(), [Response::Answer(Err(Refusal::Draining))]);
        desk.service.handle_time(TimeMs(1), 4 * SECOND);
        desk.service.handle_turn();
        assert_eq!(desk.service.poll_finish(), Some(desk.slot), "it ends in order");
        // Its peer ends too, or takes too long.
        assert_eq!(desk.service.poll_close(), None);
        desk.service.handle_time(TimeMs(1), 5 * SECOND);
        desk.service.handle_turn();
        assert_eq!(desk.service.poll_close(), Some(desk.slot));
    }

    #[test]
    fn requests_do_not_excuse_a_peer_that_takes_no_answers() {
        let mut desk = Desk::new();
        desk.receive_queries(1, STATS);
        desk.poll();
        for second in 2..=11 {
            desk.service.handle_turn();
            assert_eq!(desk.service.poll_close(), None, "it has 10 seconds");
            desk.service.handle_time(TimeMs(1), second * SECOND);
            desk.receive_queries(1, STATS);
        }
        desk.service.handle_turn();
        assert_eq!(desk.service.poll_close(), Some(desk.slot));
    }

    #[test]
    fn each_end_of_a_connection_is_counted_with_its_reason() {
        let mut desk = Desk::new();
        let metrics = Arc::clone(desk.service.metrics());
        let closed = |reason: CloseReason| metrics.closed[reason as usize].value();
        let end = |desk: &mut Desk| {
            while let Some((slot, buffer)) = desk.service.poll_send() {
                desk.service.handle_sent(slot, buffer, true);
            }
            let slot = desk.service.poll_close().unwrap_or_else(|| {
                // Where it was told of its fault, the peer goes first.
                desk.service.handle_end(desk.slot);
                desk.service.poll_close().expect("it is over")
            });
            desk.service.handle_closed(slot);
            desk.slot = desk.service.handle_open(Wire::Binary).expect("there is room").slot;
        };
        desk.service.handle_end(desk.slot);
        end(&mut desk);
        assert_eq!(closed(CloseReason::Peer), 1);
        desk.receive_queries(1, STATS);
        end(&mut desk);
        assert_eq!(closed(CloseReason::Fault), 1);
        assert_eq!(metrics.faults[Protocol::Binary as usize].value(), 1);
        desk.service.handle_time(TimeMs(1), 1_000 * SECOND);
        desk.service.handle_turn();
        end(&mut desk);
        assert_eq!(closed(CloseReason::Idle), 1);
        assert_eq!((metrics.accepted.value(), metrics.turned_away.value()), (4, 0));
        while desk.service.handle_open(Wire::Binary).is_some() {}
        assert_eq!((metrics.accepted.value(), metrics.turned_away.value()), (101 + 3, 1));
    }
}
