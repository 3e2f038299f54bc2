//! Who is refused when the disk runs full, so that what was promised can still be kept.
//!
//! A live hold may be confirmed, released or expire, once: each is one record, which costs one
//! block of the log at most (see `wal::room`). So much room is kept for every live hold, on top
//! of a reserve for what has to go on beside them:
//!
//! ```text
//! room of the log: what is prepared, and what the disk has left for it
//! ├── one block for each live hold: confirm, release, expiry
//! ├── RESERVE_BLOCKS: cancel, fence; pause, open, close, archive
//! └── the rest: hold, extend, buy; define, restock
//! ```
//!
//! From the right, the first part that is used up refuses with `DISK_FULL`, after every other
//! rule of the request: a repeated request still gets its first answer. A hold raises what must
//! be kept by one block and is taken only where that is there; whatever ends a hold frees the
//! block that it takes. So the room lasts for the end of every hold, however they end.
//!
//! What is prepared, and what is allocated for further segments, cannot be lost. What is free on
//! the disk can: another process may take it. So the control plane looks every second, and
//! allocates what live holds need beyond the prepared segments. Where somebody was faster and
//! there is no room at all, the end of a hold is refused too, and an expiry waits: nothing is
//! decided that cannot be logged. Room that comes back is used at once.

use super::commit::Beyond;
use super::service::Service;
use crate::model::Record;
use crate::wal::{BLOCK_BYTES, RECORD_COST_MAX};

/// Kept beside the blocks of live holds.
const RESERVE_BLOCKS: u64 = 256;

/// What each log keeps beside the room for live holds, in bytes.
pub const RESERVE_BYTES: u64 = RESERVE_BLOCKS * BLOCK_BYTES as u64;

/// What each log keeps for a live hold, in bytes.
pub const HOLD_BYTES: u64 = BLOCK_BYTES as u64;

/// What a record is to the holds that live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It ends one.
    Ends,
    /// It gives stock back, or is needed to govern a sale.
    Governs,
    /// It takes stock, makes some, or lets a hold live longer.
    Takes,
}

const fn kind(record: &Record) -> Kind {
    match record {
        Record::Confirmed(_) | Record::Released(_) | Record::Expired(_) => Kind::Ends,
        Record::Cancelled(_)
        | Record::Fenced(_)
        | Record::SaleStateSet(_)
        | Record::SaleArchived(_) => Kind::Governs,
        Record::SaleDefined(_)
        | Record::ItemDefined(_)
        | Record::Restocked(_)
        | Record::Held(_)
        | Record::Bought(_)
        | Record::Extended(_) => Kind::Takes,
    }
}

/// The blocks that must be left before a record of this kind is taken, where so many holds live.
const fn needed(kind: Kind, holds: u64) -> u64 {
    match kind {
        Kind::Ends => RECORD_COST_MAX,
        // One block more, since the cost of a batch may run one ahead of its records.
        Kind::Governs => holds + 1 + RECORD_COST_MAX,
        // And one for the hold that it may make.
        Kind::Takes => holds + 2 + RESERVE_BLOCKS + RECORD_COST_MAX,
    }
}

impl Service {
    /// What there is for the log beyond its prepared segments.
    pub fn handle_space(&mut self, beyond: Beyond) {
        self.log.set_beyond(beyond);
    }

    /// Whether the log takes this record, with everything that must fit behind it.
    #[inline]
    pub(super) fn has_space_for(&self, record: &Record) -> bool {
        self.log.room_blocks() >= needed(kind(record), self.engine.live_holds())
    }

    /// Whether a hold may end.
    pub(super) fn may_end_holds(&self) -> bool {
        self.log.room_blocks() >= needed(Kind::Ends, 0)
    }

    /// Tells the readers of the metrics how much of the room is kept.
    pub(super) fn publish_room(&self) {
        let (room, holds) = (self.log.room_blocks(), self.engine.live_holds());
        let reserved = needed(Kind::Takes, holds);
        self.metrics.reserved_bytes.set(reserved * BLOCK_BYTES as u64);
        self.metrics.full.set(u64::from(room < reserved));
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;
    use std::slice;
    use std::time::Duration;

    use super::super::desk::Desk;
    use super::*;
    use crate::model::{
        AccountId, Answer, Command, DurationMs, Intent, ItemId, ItemTerms, Line, Lines,
        OrderNumber, Outcome, PaymentRef, Price, Quantity, Refusal, RequestId, SaleId, SaleTerms,
        TimeMs, Wanted, WantedLine,
    };
    use crate::protocol::binary::{Response, encode_command};

    const SALE: SaleId = SaleId(1);
    const ITEM: ItemId = ItemId(1);
    const BUYER: AccountId = AccountId(1);
    const TTL: DurationMs = DurationMs(1_000);

    /// Buyers at work in a log of a few blocks, which gets no segment more.
    struct Rush {
        desk: Desk,
        random: u64,
        requests: u128,
        held: Vec<OrderNumber>,
        confirmed: Vec<OrderNumber>,
        now: u64,
        refused: u64,
    }

    impl Rush {
        fn new(seed: u64, blocks: u64) -> Self {
            let desk = Desk::with_log((blocks + 1) * BLOCK_BYTES as u64, NonZeroU16::MIN, |_| {});
            let (held, confirmed) = (vec![], vec![]);
            let mut rush =
                Self { desk, random: seed, requests: 0, held, confirmed, now: 1, refused: 0 };
            let terms =
                ItemTerms { capacity: Quantity(1_000_000), price: Price(1), account_limit: None };
            rush.ask(&[
                Command::DefineSale { sale: SALE, terms: SaleTerms::default() },
                Command::DefineItem { sale: SALE, item: ITEM, terms },
                Command::OpenSale { sale: SALE },
            ]);
            rush
        }

        fn below(&mut self, bound: usize) -> usize {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.random >> 33) as usize % bound
        }

        fn intent(&mut self) -> Intent {
            self.requests += 1;
            Intent { sale: SALE, account: BUYER, request: RequestId(self.requests) }
        }

        /// Asks together: what is accepted is one frame.
        fn ask(&mut self, commands: &[Command]) -> Vec<Result<Answer, Refusal>> {
            self.desk.receive(|out| {
                commands.iter().zip(2..).for_each(|(command, id)| encode_command(out, id, command));
            });
            self.turn();
            let mut answers = Vec::new();
            // What had to wait for the disk comes behind what had not.
            while self.desk.sending.is_some() {
                answers.extend(self.desk.sent().into_iter().map(|response| match response {
                    Response::Answer(answer) => answer,
                    other => panic!("not an answer: {other:?}"),
                }));
                self.desk.poll();
            }
            assert_eq!(answers.len(), commands.len());
            for (command, answer) in commands.iter().zip(&answers) {
                self.note(command, answer);
            }
            answers
        }

        /// What is due, and the log's write.
        fn turn(&mut self) {
            self.desk.service.handle_time(TimeMs(self.now), Duration::from_secs(1));
            self.desk.service.handle_turn();
            self.desk.poll();
            assert!(!self.desk.service.is_starved(), "the log has no room for what was decided");
            if self.desk.writing.is_some() {
                self.desk.written();
                self.desk.poll();
            }
        }

        fn note(&mut self, command: &Command, answer: &Result<Answer, Refusal>) {
            match (command, answer.as_ref().map(|answer| &answer.outcome)) {
                (Command::Hold { .. }, Ok(Outcome::Held { order, .. })) => self.held.push(*order),
                (Command::Confirm { order, .. } | Command::Release { order, .. }, got) => {
                    let is_over = got == Err(&Refusal::HoldExpired);
                    assert!(got.is_ok() || is_over, "a hold can be ended: {got:?}");
                    self.held.retain(|held| held != order);
                    if let Ok(Outcome::Confirmed { order }) = got {
                        self.confirmed.push(*order);
                    }
                }
                (_, Err(Refusal::DiskFull)) => self.refused += 1,
                (_, Err(refusal)) => panic!("{command:?}: {refusal:?}"),
                _ => {}
            }
        }

        fn hold(&mut self) -> Command {
            let line = Line { item: ITEM, quantity: Quantity(1) };
            let wanted = WantedLine { line, price: None };
            let lines = Wanted::new([wanted]).expect("one line");
            Command::Hold { intent: self.intent(), lines, ttl: Some(TTL) }
        }

        fn confirm(&mut self, order: OrderNumber) -> Command {
            let payment = PaymentRef::new(&[7; 64]).expect("it is short enough");
            Command::Confirm { intent: self.intent(), order, payment, lines: None::<Lines> }
        }

        /// A command that is allowed but for the room. Each order is named once in a frame.
        fn any(&mut self, held: &mut Vec<OrderNumber>) -> Command {
            match self.below(8) {
                0 | 1 if !held.is_empty() => {
                    let order = held.swap_remove(self.below(held.len()));
                    self.confirm(order)
                }
                2 if !held.is_empty() => {
                    let order = held.swap_remove(self.below(held.len()));
                    Command::Release { intent: self.intent(), order }
                }
                3 | 4 if !self.confirmed.is_empty() => {
                    let order = self.confirmed.swap_remove(0);
                    Command::Cancel { intent: self.intent(), order, lines: None }
                }
                _ => self.hold(),
            }
        }

        /// Until so many were refused, with frames of all sizes.
        fn until_refused(&mut self, times: u64) {
            while self.refused < times {
                let most = [1, 1, 3, 60][self.below(4)];
                let mut held = self.held.clone();
                let commands: Vec<_> =
                    (0..=self.below(most)).map(|_| self.any(&mut held)).collect();
                self.ask(&commands);
                self.now += self.below(20) as u64;
            }
        }
    }

    #[test]
    fn every_hold_can_be_ended_alone_when_the_log_is_full() {
        for seed in 0..60 {
            let mut rush = Rush::new(seed, 600 + seed % 300);
            rush.until_refused(100);
            // One by one, each in a frame of its own: the dearest way.
            while let Some(order) = rush.held.pop() {
                let confirm = rush.confirm(order);
                rush.ask(&[confirm]);
            }
            rush.now += 2 * u64::from(TTL.0);
            rush.turn();
            assert_eq!(rush.desk.service.engine.live_holds(), 0, "seed {seed}");
        }
    }

    #[test]
    fn room_that_comes_back_is_used() {
        let mut rush = Rush::new(1, 400);
        rush.until_refused(1);
        let hold = rush.hold();
        assert_eq!(rush.ask(slice::from_ref(&hold)), [Err(Refusal::DiskFull)]);
        let full = &rush.desk.service.metrics().full;
        rush.desk.service.publish_room();
        assert_eq!(full.value(), 1);
        rush.desk.service.handle_space(Beyond { secured: 0, free: 1_000 });
        assert!(rush.ask(slice::from_ref(&hold))[0].is_ok());
        // What was answered once is answered again, whatever room there is.
        rush.desk.service.handle_space(Beyond::default());
        let again = rush.ask(&[hold]);
        assert!(matches!(again[..], [Ok(Answer { replayed: true, .. })]), "{again:?}");
    }

    /// The canary: a room that is not there is noticed.
    #[test]
    #[should_panic(expected = "the log has no room for what was decided")]
    fn a_promise_that_is_broken_starves_the_log() {
        let mut rush = Rush::new(1, 400);
        rush.desk.service.handle_space(Beyond { secured: 0, free: 100_000 });
        rush.until_refused(1);
    }
}
