//! What a shard tells about itself: its numbers, its stock, its slow requests.
//!
//! Counting happens where things happen; here is what is counted once a turn. None of it changes
//! what anybody is answered.

use std::sync::Arc;
use std::time::Duration;

use super::metrics::{
    Admission, CloseReason, Operation, Protocol, ShardMetrics, SlowRequest, StockScan, StockTable,
    Verdict,
};
use super::service::Service;
use crate::model::{Refusal, RefusalCode};
use crate::protocol::http::{HttpFault, HttpRefusal};

impl Service {
    /// The shard's numbers, for any thread to read.
    #[must_use]
    pub const fn metrics(&self) -> &Arc<ShardMetrics> {
        &self.metrics
    }

    /// Somebody asks for the stock of every sale. One scan at a time: where another is under way,
    /// that one is given up.
    pub fn handle_stock(&mut self, table: Box<StockTable>) {
        self.stock = Some(StockScan::new(table, &self.engine));
    }

    /// The stock, once all sales were looked at.
    pub fn poll_stock(&mut self) -> Option<Box<StockTable>> {
        self.stock_done.take()
    }

    /// The next slow request to be told of.
    pub fn poll_slow(&mut self) -> Option<SlowRequest> {
        self.slow.poll()
    }

    /// The turn is over: what it answered is with the ring.
    pub fn handle_turn_end(&mut self, monotonic: Duration) {
        let metrics = &*self.metrics;
        self.answered.record(monotonic, &metrics.answers);
        if self.log.is_in_flight() {
            self.write_started.get_or_insert(monotonic);
        }
        metrics.turns.add(1);
        metrics.turn_ns.add(monotonic.saturating_sub(self.monotonic).as_nanos() as u64);
        self.log.publish(metrics);
        self.publish_room();
        metrics.connections.set(self.connections.len() as u64);
        metrics.connections_stalled.set(self.stalled.len() as u64);
        let behind = self.log.now(self.clock).0.saturating_sub(self.wall.0);
        metrics.clock_behind_ms.set(behind);
        metrics.hops_in_flight.set(self.hops_in_flight);
        metrics.mail_waiting.set(self.mail.iter().map(|mail| mail.len() as u64).sum());
    }

    /// A step of the scan that somebody waits for.
    pub(super) fn scan_stock(&mut self) {
        let Some(scan) = self.stock.take() else { return };
        match scan.step(&self.engine, self.log.now(self.clock)) {
            Ok(table) => self.stock_done = Some(table),
            Err(rest) => self.stock = Some(rest),
        }
    }

    /// The frame in flight is durable, and its answers are about to go.
    pub(super) fn count_write(&mut self) {
        let took = self
            .write_started
            .take()
            .map_or(Duration::ZERO, |started| self.monotonic.saturating_sub(started));
        self.metrics.log_writes.record_time(took, 1);
        let slow = self.log.note_slow(self.monotonic, took, &mut self.slow);
        self.metrics.slow.add(slow);
    }

    /// What is asked now, for the answer that follows.
    #[inline]
    pub(super) fn asks(&mut self, protocol: Protocol, operation: Operation) {
        self.asking.protocol = protocol;
        self.asking.operation = operation;
    }

    /// What the request got that is being handled.
    #[inline]
    pub(super) fn count(&self, verdict: Verdict) {
        self.metrics.requests.count(self.asking.protocol, self.asking.operation, verdict);
    }

    /// A refusal that no state had to be read for.
    pub(super) fn count_refused(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::Forbidden => self.count_admission(Admission::Forbidden),
            Refusal::BadToken => self.count_admission(Admission::BadToken),
            _ => {}
        }
        self.count(Verdict::Refused(refusal.code()));
        self.answered.add(self.asking.arrived);
    }

    /// The same over HTTP, where a request can be wrong without ending its connection: a path that
    /// nobody has is not found, and all else is a bad request.
    pub(super) fn count_http_refusal(&mut self, refusal: &HttpRefusal) {
        let code = match refusal {
            HttpRefusal::Refusal(refusal) => return self.count_refused(*refusal),
            HttpRefusal::Fault(fault) if fault.closes() => {
                return self.metrics.faults[Protocol::Http as usize].add(1);
            }
            HttpRefusal::Fault(HttpFault::NoSuchPath) => RefusalCode::NotFound,
            HttpRefusal::Fault(_) | HttpRefusal::Field { .. } => RefusalCode::BadRequest,
        };
        self.count(Verdict::Refused(code));
        self.answered.add(self.asking.arrived);
    }

    /// An answer over HTTP that no sale has part in.
    pub(super) fn count_document(&mut self) {
        self.asks(Protocol::Http, Operation::Document);
        self.count(Verdict::Ok);
        self.answered.add(self.asking.arrived);
    }

    pub(super) fn count_admission(&self, admission: Admission) {
        self.metrics.admissions[admission as usize].add(1);
    }

    pub(super) fn count_closed(&self, reason: CloseReason) {
        self.metrics.closed[reason as usize].add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::desk::{Desk, SECOND, SLOW};
    use super::*;
    use crate::model::{Query, SaleId, TimeMs};

    const SALE: SaleId = SaleId(1);

    const STATS: Query = Query::Stats { sale: SALE };

    #[test]
    fn every_answer_is_counted_once_and_timed_from_its_arrival() {
        let mut desk = Desk::new();
        let metrics = Arc::clone(desk.service.metrics());
        desk.receive_command(SALE);
        desk.poll();
        desk.service.handle_turn_end(SECOND);
        desk.receive_queries(3, STATS);
        desk.poll();
        desk.service.handle_time(TimeMs(1), SECOND + SLOW);
        desk.receive_queries(2, STATS);
        desk.service.handle_turn_end(SECOND + SLOW);
        assert_eq!((metrics.parked.value(), metrics.answers.values().count), (6, 0));
        assert_eq!((metrics.appended_lsn.value(), metrics.durable_lsn.value()), (1, 0));
        desk.service.handle_time(TimeMs(1), SECOND + SLOW + SLOW);
        desk.written();
        desk.poll();
        desk.service.handle_turn_end(SECOND + SLOW + SLOW);
        assert_eq!((metrics.parked.value(), metrics.durable_lsn.value()), (0, 1));
        let answers = metrics.answers.values();
        assert_eq!((answers.count, answers.sum), (6, 4 * 10_000 + 2 * 5_000));
        let writes = metrics.log_writes.values();
        assert_eq!((writes.count, writes.sum), (1, 10_000), "until the disk had it");
        assert_eq!(metrics.batch_records.values().sum, 1);
        // An answer of exactly the threshold is not slow.
        assert_eq!(metrics.slow.value(), 4);
        let told: Vec<_> = std::iter::from_fn(|| desk.service.poll_slow()).collect();
        assert_eq!(told.len(), 4);
        assert_eq!(told[0].operation, Operation::DefineSale);
        assert_eq!((told[3].operation, told[3].took), (Operation::Stats, 2 * SLOW));
        // Nothing to wait for: the answer leaves in the turn.
        desk.sent();
        desk.receive_queries(1, STATS);
        desk.poll();
        desk.service.handle_turn_end(SECOND + SLOW + SLOW);
        assert_eq!(metrics.answers.values().count, 7);
        let counted: Vec<_> =
            metrics.requests.counted().filter(|row| row.3 > 0).map(|row| (row.1, row.3)).collect();
        assert_eq!(counted, [(Operation::DefineSale, 1), (Operation::Stats, 6)]);
    }

    #[test]
    fn stock_is_told_while_nothing_else_happens() {
        let mut desk = Desk::new();
        desk.receive_command(SALE);
        desk.service.handle_stock(Box::new(StockTable::with_room()));
        assert!(desk.service.is_busy(), "somebody waits");
        while desk.service.is_busy() {
            desk.service.handle_turn();
        }
        let table = desk.service.poll_stock().expect("the scan is over");
        assert_eq!(table.sales.iter().map(|sale| sale.sale).collect::<Vec<_>>(), [SALE]);
        assert!(desk.service.poll_stock().is_none());
    }
}
