//! Load: many pipelined connections from one ring per thread, on a schedule.
//!
//! A [`Driver`] is one thread's share: its ring, its connections, its [`Load`] (open loop,
//! closed loop or none). A [`Script`] says what to ask and hears what became of it; a [`Tally`]
//! counts. Latency counts from the moment at which a request was *meant* to leave, so neither a
//! slow server nor a slow driver can hide.
//!
//! A customer of the server, never an insider: nothing here knows how the server works. There
//! is no retry here either; the script hears of each request that was lost and decides.

mod connection;
mod driver;
mod pace;
mod table;
mod tally;
mod traffic;

use crate::model::{Answer, Command, Query, Refusal};
use crate::protocol::binary::DecodeError;

pub use driver::{Driver, DriverConfig, DriverError, Load};
pub use pace::{Lane, Pace};
pub use tally::{LATE, Latencies, Refusals, Tally, Window};
pub use traffic::Traffic;

/// Nanoseconds since the origin of the driver's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The end of time.
    pub const MAX: Self = Self(u64::MAX);

    /// The time `by` later.
    #[must_use]
    pub fn after(self, by: std::time::Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How much later this is than `earlier`, in nanoseconds; zero where it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A script's word for a request, which comes back with its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag(pub u64);

/// A connection's place among those of its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionIndex(pub u32);

/// What to ask. It is encoded at once, so a script changes one value over and over rather than
/// making each anew.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// A change.
    Command(&'a Command),
    /// A question.
    Query(&'a Query),
}

/// A request to send now.
#[derive(Clone, Copy, Debug)]
pub struct Planned<'a> {
    /// The script's word for it.
    pub tag: Tag,
    /// The request.
    pub ask: Ask<'a>,
}

/// An answer, and when.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// The script's word for the request.
    pub tag: Tag,
    /// When the request was meant to leave.
    pub intended: Nanos,
    /// When it left.
    pub sent: Nanos,
    /// When the answer was there.
    pub now: Nanos,
    /// The answer.
    pub answer: &'a Result<Answer, Refusal>,
}

impl Answered<'_> {
    /// From the moment at which the request was meant to leave, in nanoseconds.
    #[must_use]
    pub const fn latency(&self) -> u64 {
        self.now.since(self.intended)
    }
}

/// What to ask, and what to make of the answers.
pub trait Script {
    /// The request that is meant to leave at `intended` and leaves now, on whichever connection
    /// is free. `None`: there is nothing to ask. In an open loop this intended time then passes
    /// unused; in a closed loop the driver asks again in the next turn, a millisecond later at
    /// most.
    fn next(&mut self, intended: Nanos, now: Nanos) -> Option<Planned<'_>>;

    /// A request was answered. What follows from that, such as the confirmation of a hold, the
    /// script keeps for its [`next`](Self::next).
    fn answered(&mut self, answered: &Answered<'_>);

    /// A request will not be answered, as its connection broke: nobody knows what became of it.
    fn lost(&mut self, tag: Tag);

    /// A connection broke, or could not be made; what it had in flight is lost next. The driver
    /// connects again by itself.
    fn broken(&mut self, cause: &Broken);
}

/// Why a connection broke or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// There was no way to connect.
    #[error("no connection: {0}")]
    Unreachable(std::io::Error),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Failed(std::io::Error),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The server refused the greeting.
    #[error("the server refused the key ({0:?})")]
    Unwelcome(Refusal),
    /// The server took what it got for malformed.
    #[error("the server found a malformed request: {0}")]
    Rejected(DecodeError),
    /// What the server sent cannot be decoded.
    #[error("the server's answer is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// The server answered what was not asked.
    #[error("the server answered a request that is not in flight")]
    Unasked,
}

impl Broken {
    /// The cause in one word, as reports count it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "UNREACHABLE",
            Self::Failed(_) => "CONNECTION_FAILED",
            Self::Closed => "CONNECTION_CLOSED",
            Self::Unwelcome(_) => "UNWELCOME",
            Self::Rejected(_) => "REJECTED",
            Self::Malformed(_) => "MALFORMED_ANSWER",
            Self::Unasked => "UNASKED_ANSWER",
        }
    }
}
