//! The numbers of one shard: written by its thread alone, read by whoever has a reference.
//!
//! Each field is one number that operators see; `control` gives it its public name. Counting
//! costs an addition in memory: there is no lock, no publishing step and no clock here, for the
//! shard's times are those of its turns. Nothing is counted by buyer.

mod cell;
mod slow;
mod stock;

use std::time::Duration;

pub use cell::{Counter, Gauge, Histogram, HistogramValues};
pub use slow::SlowRequest;
pub(super) use slow::{Asking, SlowLog};
pub(super) use stock::StockScan;
pub use stock::{ITEMS_LISTED_MAX, ItemStock, SALES_LISTED_MAX, SaleStock, StockTable, Units};

use crate::model::{Command, Query, RefusalCode};
use crate::protocol::codes::WireCode;

/// Microseconds from 8 µs to 16.8 s.
pub type Times = Histogram<3, 43>;

/// Records of one write: up to 8,192.
pub type BatchRecords = Histogram<1, 25>;

/// Bytes of one write: from one block to the largest frame.
pub type BatchBytes = Histogram<12, 17>;

/// What is known of a shard's snapshots. The thread that makes them is the only one that writes.
#[derive(Debug, Default)]
pub struct SnapshotMetrics {
    /// The last record inside the newest one.
    pub lsn: Gauge,
    /// The time of that record, in milliseconds since the Unix epoch.
    pub time_ms: Gauge,
    /// The size of the newest one.
    pub bytes: Gauge,
    /// How long making it took, in milliseconds.
    pub duration_ms: Gauge,
    /// How many were made.
    pub made: Counter,
    /// How often making one, or retiring what it made superfluous, failed.
    pub failures: Counter,
}

/// The numbers of one shard.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    /// Requests by protocol, operation and result, on the shard that decided them.
    pub requests: Requests,
    /// Frames or messages that the protocol does not allow, by protocol.
    pub faults: [Counter; Protocol::ALL.len()],
    /// From the turn in which a request reached this shard until its answer was handed to the
    /// ring or to the shard that asked.
    pub answers: Times,
    /// Answers that took longer than the threshold, where there is one.
    pub slow: Counter,
    /// From handing a write of the log to the ring until it was known to be durable.
    pub log_writes: Times,
    /// Records of each write.
    pub batch_records: BatchRecords,
    /// Bytes of each write.
    pub batch_bytes: BatchBytes,
    /// Answers that wait for the disk.
    pub parked: Gauge,
    /// The bytes of those answers.
    pub parked_bytes: Gauge,
    /// The last record that was appended.
    pub appended_lsn: Gauge,
    /// The last record that is durable.
    pub durable_lsn: Gauge,
    /// The segment that is written.
    pub segment: Gauge,
    /// Prepared segments behind it.
    pub segments_prepared: Gauge,
    /// Whether the log waits for its next segment: 0 or 1.
    pub starved: Gauge,
    /// Bytes that prepared segments, and the one that is written, have left.
    pub prepared_bytes: Gauge,
    /// Bytes that are allocated on the disk for further segments.
    pub secured_bytes: Gauge,
    /// Bytes that are free on the disk for further segments of this shard.
    pub unsecured_bytes: Gauge,
    /// Bytes of all these that are kept for the end of live holds and for governing sales.
    pub reserved_bytes: Gauge,
    /// Whether new stock is refused because only what is kept is left: 0 or 1.
    pub full: Gauge,
    /// The snapshots of its state; another thread writes these numbers.
    pub snapshots: SnapshotMetrics,
    /// Open connections.
    pub connections: Gauge,
    /// Those that backpressure holds back.
    pub connections_stalled: Gauge,
    /// How far the clock is behind the log's time.
    pub clock_behind_ms: Gauge,
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections that were closed at once, since there were too many or the server stops.
    pub turned_away: Counter,
    /// Connections that ended, by reason.
    pub closed: [Counter; CloseReason::ALL.len()],
    /// Greetings and tokens by what became of them.
    pub admissions: [Counter; Admission::ALL.len()],
    /// Requests that were sent to the shard that owns their sale.
    pub hops: Counter,
    /// Those of them that are not answered yet.
    pub hops_in_flight: Gauge,
    /// Messages to other shards that wait for room in a mailbox.
    pub mail_waiting: Gauge,
    /// Holds that expired.
    pub expired: Counter,
    /// Turns of the loop.
    pub turns: Counter,
    /// Nanoseconds of those turns, without what the kernel does in the ring.
    pub turn_ns: Counter,
}

/// Which protocol a request spoke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// The binary one.
    #[default]
    Binary,
    /// HTTP/1.1.
    Http,
    /// None: administration asks.
    Admin,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer ended it, or was gone.
    #[default]
    Peer,
    /// It had asked nothing for too long.
    Idle,
    /// It did not take its answers.
    SlowReader,
    /// It broke the protocol.
    Fault,
    /// Its key was wrong.
    BadKey,
    /// The server stops.
    Stopping,
}

/// What became of somebody who wanted to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// A greeting was let in.
    Admitted,
    /// The key of a greeting is unknown.
    BadKey,
    /// The key or token of a request is missing, unknown or not valid.
    BadToken,
    /// The key is known and does not allow the request.
    Forbidden,
}

/// What is asked, as it is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named after the command or query that it counts")]
pub enum Operation {
    DefineSale,
    DefineItem,
    Restock,
    OpenSale,
    PauseSale,
    CloseSale,
    ArchiveSale,
    Hold,
    Buy,
    Confirm,
    Release,
    Extend,
    Cancel,
    Fence,
    Order,
    Request,
    Availability,
    Stats,
    Sales,
    AccountOrders,
    /// A document or the options of a path, over HTTP.
    Document,
    /// A request whose fields were wrong, before anybody knew what it asks.
    #[default]
    Unread,
}

/// Names of variants for labels, from rows of `Variant "name"`.
macro_rules! labels {
    ($enum:ident { $($variant:ident $name:literal)* }) => {
        impl $enum {
            /// Every variant, in the order in which they are counted.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name in metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

labels! { Protocol { Binary "binary" Http "http" Admin "admin" } }
labels! { CloseReason {
    Peer "peer" Idle "idle" SlowReader "slow_reader" Fault "fault" BadKey "bad_key"
    Stopping "stopping"
} }
labels! { Admission {
    Admitted "admitted" BadKey "bad_key" BadToken "bad_token" Forbidden "forbidden"
} }
labels! { Operation {
    DefineSale "define_sale" DefineItem "define_item" Restock "restock" OpenSale "open_sale"
    PauseSale "pause_sale" CloseSale "close_sale"
    ArchiveSale "archive_sale" Hold "hold" Buy "buy" Confirm "confirm"
    Release "release" Extend "extend" Cancel "cancel" Fence "fence" Order "order"
    Request "request" Availability "availability" Stats "stats" Sales "sales"
    AccountOrders "account_orders" Document "document"
    Unread "unread"
} }

impl From<&Command> for Operation {
    #[inline]
    fn from(command: &Command) -> Self {
        match command {
            Command::DefineSale { .. } => Self::DefineSale,
            Command::DefineItem { .. } => Self::DefineItem,
            Command::Restock { .. } => Self::Restock,
            Command::OpenSale { .. } => Self::OpenSale,
            Command::PauseSale { .. } => Self::PauseSale,
            Command::CloseSale { .. } => Self::CloseSale,
            Command::ArchiveSale { .. } => Self::ArchiveSale,
            Command::Hold { .. } => Self::Hold,
            Command::Buy { .. } => Self::Buy,
            Command::Confirm { .. } => Self::Confirm,
            Command::Release { .. } => Self::Release,
            Command::Extend { .. } => Self::Extend,
            Command::Cancel { .. } => Self::Cancel,
            Command::Fence { .. } => Self::Fence,
        }
    }
}

impl From<&Query> for Operation {
    #[inline]
    fn from(query: &Query) -> Self {
        match query {
            Query::Order { .. } => Self::Order,
            Query::Request { .. } => Self::Request,
            Query::Availability { .. } => Self::Availability,
            Query::Stats { .. } => Self::Stats,
            Query::Sales { .. } => Self::Sales,
            Query::AccountOrders { .. } => Self::AccountOrders,
        }
    }
}

/// What a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A success.
    Ok,
    /// The answer of an earlier success, again.
    Replayed,
    /// A refusal.
    Refused(RefusalCode),
}

/// Verdicts that are told apart: two successes, and each refusal.
const VERDICTS: usize = 2 + RefusalCode::ALL.len();

impl Verdict {
    #[inline]
    const fn place(self) -> usize {
        match self {
            Self::Ok => 0,
            Self::Replayed => 1,
            Self::Refused(code) => 2 + code as usize,
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        let refused = RefusalCode::ALL.iter().map(|code| Self::Refused(*code));
        [Self::Ok, Self::Replayed].into_iter().chain(refused)
    }

    /// The name in metrics: `ok`, `replayed`, or the refusal's name.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Replayed => "replayed",
            Self::Refused(code) => code.name(),
        }
    }
}

/// Requests by protocol, operation and verdict.
#[derive(Debug)]
pub struct Requests([[[Counter; VERDICTS]; Operation::ALL.len()]; Protocol::ALL.len()]);

impl Default for Requests {
    fn default() -> Self {
        let row = |_| std::array::from_fn(|_| Counter::default());
        Self(std::array::from_fn(|_| std::array::from_fn(row)))
    }
}

impl Requests {
    #[inline]
    pub(super) fn count(&self, protocol: Protocol, operation: Operation, verdict: Verdict) {
        self.0[protocol as usize][operation as usize][verdict.place()].add(1);
    }

    /// Every combination that occurred, and each operation's successes even where none did.
    pub fn counted(&self) -> impl Iterator<Item = (Protocol, Operation, Verdict, u64)> + '_ {
        let operations = |protocol: Protocol| {
            Operation::ALL.into_iter().map(move |operation| (protocol, operation))
        };
        let verdicts = |(protocol, operation)| {
            Verdict::all().map(move |verdict| (protocol, operation, verdict))
        };
        Protocol::ALL.into_iter().flat_map(operations).flat_map(verdicts).filter_map(
            |(protocol, operation, verdict)| {
                let counter = &self.0[protocol as usize][operation as usize][verdict.place()];
                let count = counter.value();
                let is_shown =
                    count > 0 || (verdict == Verdict::Ok && operation != Operation::Unread);
                is_shown.then_some((protocol, operation, verdict, count))
            },
        )
    }
}

/// Answers by when their requests arrived: one entry for each turn, not for each request.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Vec<(Duration, u32)>);

impl Arrivals {
    /// One more answer to a request that arrived then.
    #[inline]
    pub(super) fn add(&mut self, arrived: Duration) {
        match self.0.last_mut() {
            Some((last, answers)) if *last == arrived => *answers += 1,
            _ => self.0.push((arrived, 1)),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Duration, usize)> + '_ {
        self.0.iter().map(|(arrived, answers)| (*arrived, *answers as usize))
    }

    /// Takes all of the others.
    pub(super) fn append(&mut self, others: &mut Self) {
        self.0.append(&mut others.0);
    }

    /// Records how long each answer took until `now`, and forgets them.
    pub(super) fn record(&mut self, now: Duration, times: &Times) {
        for (arrived, answers) in self.0.drain(..) {
            times.record_time(now.saturating_sub(arrived), u64::from(answers));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verdict_has_a_place_of_its_own() {
        let mut places: Vec<usize> = Verdict::all().map(Verdict::place).collect();
        places.sort_unstable();
        assert_eq!(places, (0..VERDICTS).collect::<Vec<_>>());
    }

    #[test]
    fn labels_are_in_the_order_of_their_counters() {
        assert!(Operation::ALL.iter().enumerate().all(|(place, it)| *it as usize == place));
        assert!(CloseReason::ALL.iter().enumerate().all(|(place, it)| *it as usize == place));
        assert!(Admission::ALL.iter().enumerate().all(|(place, it)| *it as usize == place));
        assert!(Protocol::ALL.iter().enumerate().all(|(place, it)| *it as usize == place));
    }

    #[test]
    fn a_count_is_found_under_its_names() {
        let requests = Requests::default();
        let sold_out = Verdict::Refused(RefusalCode::SoldOut);
        requests.count(Protocol::Binary, Operation::Hold, sold_out);
        requests.count(Protocol::Binary, Operation::Hold, sold_out);
        requests.count(Protocol::Http, Operation::Buy, Verdict::Ok);
        let counted: Vec<_> = requests.counted().filter(|row| row.3 > 0).collect();
        assert_eq!(
            counted,
            [
                (Protocol::Binary, Operation::Hold, sold_out, 2),
                (Protocol::Http, Operation::Buy, Verdict::Ok, 1),
            ]
        );
    }

    #[test]
    fn arrivals_of_one_turn_are_one_entry() {
        let mut arrivals = Arrivals::default();
        let turn = |micros| Duration::from_micros(micros);
        (0..1_000).for_each(|_| arrivals.add(turn(5)));
        arrivals.add(turn(9));
        assert_eq!(arrivals.iter().collect::<Vec<_>>(), [(turn(5), 1_000), (turn(9), 1)]);
        let times = Times::default();
        arrivals.record(turn(17), &times);
        assert_eq!(times.values().at_most[..2], [(8, 1), (12, 1_001)]);
        assert_eq!(arrivals.iter().count(), 0);
    }
}
