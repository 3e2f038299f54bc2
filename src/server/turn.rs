//! What a shard does by itself, turn by turn: it tells the time, ends holds, lets those go on whom
//! backpressure held back, and knows whether there is more to do or how long it may sleep.

use std::time::Duration;

use super::exchange::HTTP_IN_FLIGHT_MAX;
use super::service::{IN_FLIGHT_MAX, INPUT_BYTES_MAX, OUTPUT_BYTES_MAX, Reading, Service};
use crate::canary::{Canary, planted};
use crate::model::TimeMs;
use crate::protocol::http::DateText;

/// Holds that expire in one turn, at most: a wave is spread over many turns.
const EXPIRIES_PER_TURN: usize = 256;

/// A clock that goes back by less is being adjusted.
pub(super) const CLOCK_STEP_MS: u64 = 1000;

/// What it means that the clock is behind, and what to do.
pub(super) const TIME_STANDS_STILL: &str = "until it is there again no hold ends and no sale opens \
                                            by its time: check the machine's time (timedatectl)";

impl Service {
    /// The time, once a turn and before anything else of the turn. A wall clock that is set back
    /// stands still here until it has caught up: what is over stays over.
    pub fn handle_time(&mut self, clock: TimeMs, monotonic: Duration) {
        if clock.0 + CLOCK_STEP_MS < self.wall.0 {
            let (shard, ms) = (self.config.index.0, self.wall.0 - clock.0);
            tracing::warn!(shard, "the clock went back by {ms} ms; {TIME_STANDS_STILL}");
        }
        self.wall = clock;
        self.clock = self.clock.max(clock);
        self.monotonic = monotonic;
        self.asking.arrived = monotonic;
        if self.site.date.is_stale(self.clock) {
            self.site.date = DateText::new(self.clock);
        }
    }

    /// What is due by itself, once a turn: expired holds, what the control plane asked, memory of
    /// archived sales, stalled connections, time-outs.
    pub fn handle_turn(&mut self) {
        self.expire_holds();
        self.take_asks();
        self.engine.reclaim();
        for _ in 0..self.stalled.len() {
            if !self.log.has_room() {
                break;
            }
            let Some(slot) = self.stalled.pop_front() else { break };
            let connection = self.connections.at(slot);
            connection.stalled = false;
            self.asking.arrived = connection.stalled_at;
            self.take_input(slot);
            self.asking.arrived = self.monotonic;
            self.resume_reading(slot);
        }
        self.sweep();
        self.scan_stock();
    }

    /// Whether there is work that waits for nothing but the next turn.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let has_room = self.log.has_room() && self.mail_has_room();
        let can_resume = has_room && self.stalled.iter().any(|slot| self.is_within_bounds(*slot));
        let is_due = self.expiries_wait || !self.asks.is_empty();
        let may_go_on = can_resume || (is_due && self.log.has_room());
        let is_scanned = self.stock.is_some() || self.engine.has_garbage();
        is_scanned || (!self.log.is_starved() && may_go_on)
    }

    /// How long the driver may sleep where nothing happens.
    #[must_use]
    pub fn sleep(&self) -> Option<Duration> {
        let sweep =
            (self.connections.len() > 0).then(|| self.sweep_due.saturating_sub(self.monotonic));
        // Without room in the log a hold cannot expire, and the disk's answer wakes the driver, or
        // the control plane does. So it is where the filling batch keeps the time at that of its
        // first record.
        let may_expire = self.log.has_room() && self.may_end_holds();
        let expiry = self.engine.next_expiry().filter(|_| may_expire);
        let now = self.log.now(self.clock);
        let expiry = expiry.map(|due| Duration::from_millis(due.0.saturating_sub(now.0)));
        match (sweep, expiry) {
            (Some(sweep), Some(expiry)) => Some(sweep.min(expiry)),
            (sweep, expiry) => sweep.or(expiry),
        }
    }

    /// Whether a connection has room for one more request and its answer.
    pub(super) fn is_within_bounds(&self, slot: u32) -> bool {
        self.connections.get(slot).is_some_and(|connection| {
            let output = connection.output.len() + connection.reserved as usize;
            let in_flight_max =
                if connection.http.is_some() { HTTP_IN_FLIGHT_MAX } else { IN_FLIGHT_MAX };
            connection.in_flight < in_flight_max && output < OUTPUT_BYTES_MAX
        })
    }

    /// Whether requests may be taken as far as the other shards are concerned. Only what this shard
    /// asks counts, so that its own peers don't wait for those that take its answers.
    pub(super) fn mail_has_room(&self) -> bool {
        planted(Canary::OverfillMailbox)
            || self.hops_in_flight < self.config.mailbox_messages as u64
    }

    fn expire_holds(&mut self) {
        self.expiries_wait = false;
        for _ in 0..EXPIRIES_PER_TURN {
            if !self.log.has_room() {
                self.expiries_wait = true;
                return;
            }
            // Its stock comes back later; to everybody who asks it is over already.
            if !self.may_end_holds() {
                return;
            }
            let now = self.log.now(self.clock);
            let Some(record) = self.engine.poll_expired(now) else { return };
            self.log.append(now, &record);
            self.engine.apply(&record);
            self.metrics.expired.add(1);
        }
        self.expiries_wait = true;
    }

    fn resume_reading(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if connection.paused && connection.input.len() < INPUT_BYTES_MAX / 2 {
            connection.paused = false;
            self.reading.push_back((slot, Reading::Resume));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::super::connection::{ConnectionId, ReplyTo};
    use super::super::desk::{Desk, SECOND};
    use super::super::form::Form;
    use super::super::mail::{Mail, SentAsk};
    use super::*;
    use crate::model::{
        AccountId, Answer, Command, Intent, ItemId, ItemTerms, Line, OrderNumber, Outcome, Price,
        Quantity, Query, RequestId, SaleId, SaleState, SaleTerms, ShardIndex, Wanted, WantedLine,
    };
    use crate::protocol::binary::{Response, encode_command};

    const SALE: SaleId = SaleId(1);

    const STATS: Query = Query::Stats { sale: SALE };

    /// The bound that `HELLO` tells: what is beyond it waits, and nothing is dropped.
    #[test]
    fn a_connection_has_as_many_requests_in_flight_as_it_was_told() {
        let mut desk = Desk::new();
        desk.receive_command(SALE);
        desk.poll();
        let query = Query::Order { sale: SALE, order: OrderNumber(1) };
        desk.receive_queries(2 * IN_FLIGHT_MAX, query);
        assert_eq!(desk.service.connections.at(desk.slot).in_flight, IN_FLIGHT_MAX);
        desk.written();
        let mut answers = 0;
        while answers < 1 + 2 * IN_FLIGHT_MAX as usize {
            desk.service.handle_turn();
            desk.poll();
            answers += desk.sent().len();
            assert!(desk.service.connections.at(desk.slot).in_flight <= IN_FLIGHT_MAX);
        }
        assert_eq!(answers, 1 + 2 * IN_FLIGHT_MAX as usize);
    }

    /// Another shard that is slow to take answers costs this shard's own peers nothing.
    #[test]
    fn answers_that_wait_for_another_shard_hold_nobody_up() {
        let two = NonZeroU16::new(2).expect("it is not zero");
        let mut desk = Desk::with(two, |config| config.mailbox_messages = 4);
        let sales = (1..100).map(SaleId);
        let [own, other] = [ShardIndex(0), ShardIndex(1)];
        let of = |shard| sales.clone().find(|sale| sale.shard(two) == shard).expect("there is one");
        let connection = ConnectionId { slot: 9, generation: 9 };
        let reply_to = ReplyTo { connection, reserved: 0, sequence: 0 };
        for correlation in 0..10 {
            let ask = SentAsk::Query(Query::Stats { sale: of(own) });
            let form = Form::Binary { correlation };
            desk.service.handle_mail(other, Mail::Request { reply_to, form, ask });
        }
        assert_eq!(desk.service.mail_for(other).len(), 10);
        desk.receive_queries(1, Query::Stats { sale: of(own) });
        desk.poll();
        assert_eq!(desk.sent().len(), 1);
        // What it asks itself is bounded.
        desk.receive_queries(10, Query::Stats { sale: of(other) });
        assert_eq!(desk.service.mail_for(other).len(), 10 + 4);
    }

    /// Somebody has to see that time stands still.
    #[test]
    fn a_clock_that_goes_back_is_told() {
        let mut desk = Desk::new();
        let behind = |desk: &mut Desk, clock_ms| {
            desk.service.handle_time(TimeMs(clock_ms), SECOND);
            desk.service.handle_turn();
            desk.service.handle_turn_end(SECOND);
            desk.service.metrics().clock_behind_ms.value()
        };
        assert_eq!(behind(&mut desk, 90_000), 0);
        assert_eq!(behind(&mut desk, 30_000), 60_000);
        desk.receive_command(SALE);
        desk.poll();
        assert_eq!(behind(&mut desk, 80_000), 10_000);
        desk.written();
        assert_eq!(behind(&mut desk, 90_001), 0);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_close_what_was_open() {
        let mut desk = Desk::new();
        let terms = SaleTerms { opens_at: Some(TimeMs(1_000)), ..SaleTerms::default() };
        let command = Command::DefineSale { sale: SALE, terms };
        desk.receive(|out| encode_command(out, 2, &command));
        desk.poll();
        desk.written();
        desk.poll();
        desk.sent();
        for (clock, expected) in
            [(999, SaleState::Scheduled), (1_000, SaleState::Open), (500, SaleState::Open)]
        {
            desk.service.handle_time(TimeMs(clock), SECOND);
            desk.receive_queries(1, STATS);
            desk.poll();
            let answers = desk.sent();
            let [Response::Answer(Ok(Answer { outcome: Outcome::Stats(stats), .. }))] = answers[..]
            else {
                panic!("no stats: {answers:?}")
            };
            assert_eq!(stats.state, expected, "at {clock}");
        }
    }

    #[test]
    fn a_hold_that_cannot_expire_before_the_disk_answers_leaves_the_shard_asleep() {
        let mut desk = Desk::new();
        let (item, intent) =
            (ItemId(1), Intent { sale: SALE, account: AccountId(1), request: RequestId(1) });
        let terms = ItemTerms { capacity: Quantity(1), price: Price(1), account_limit: None };
        let wanted = WantedLine { line: Line { item, quantity: Quantity(1) }, price: None };
        let lines = Wanted::new([wanted]).expect("one line");
        for command in [
            Command::DefineSale { sale: SALE, terms: SaleTerms::default() },
            Command::DefineItem { sale: SALE, item, terms },
            Command::OpenSale { sale: SALE },
            Command::Hold { intent, lines, ttl: Some(crate::model::sale::HOLD_TTL_MIN) },
        ] {
            desk.receive(|out| encode_command(out, 2, &command));
        }
        desk.poll();
        // One frame is in flight, and one more record waits behind it, of the same time.
        desk.receive_command(SaleId(2));
        desk.service.handle_time(TimeMs(10_000), SECOND);
        desk.service.handle_turn();
        assert!(!desk.service.is_busy());
        assert!(desk.service.sleep().is_some_and(|sleep| sleep > Duration::ZERO), "no spinning");
        desk.written();
        desk.poll();
        assert_eq!(desk.service.sleep(), Some(Duration::ZERO), "now it can expire");
        desk.service.handle_turn();
        desk.written();
        assert!(desk.service.poll_write().is_some(), "and does");
    }

    #[test]
    fn a_peer_that_does_not_read_leaves_the_shard_asleep() {
        let mut desk = Desk::new();
        desk.receive_queries(50_000, STATS);
        desk.poll();
        desk.service.handle_turn();
        assert!(!desk.service.stalled.is_empty(), "it has more to say than it may");
        assert!(!desk.service.is_busy(), "and has to read first");
        let mut answers = desk.sent().len();
        while answers < 50_000 {
            desk.poll();
            desk.service.handle_turn();
            answers += desk.sent().len();
        }
        assert!(desk.service.stalled.is_empty());
    }
}
