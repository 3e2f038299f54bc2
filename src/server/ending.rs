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

/// The same where the server stops: somebody waits for its end.
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
    use super::super::desk::{Desk, SECOND};
    use super::super::service::Wire;
    use super::*;
    use crate::model::{SaleId, TimeMs};

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
}
