//! The SDK: a blocking, pipelined client of the binary protocol.
//!
//! ```no_run
//! use boxoffice::client::{Client, Options, RequestIds};
//! use boxoffice::model::{
//!     AccountId, Intent, ItemId, Line, PaymentRef, Quantity, SaleId, Wanted, WantedLine,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = Options { key: "bo_…".into(), ..Options::default() };
//! let mut client = Client::connect("127.0.0.1:7400", options)?;
//! let mut request_ids = RequestIds::new();
//!
//! let (sale, account) = (SaleId(2026), AccountId(7));
//! let line = Line { item: ItemId(1), quantity: Quantity(2) };
//! let wanted = Wanted::new([WantedLine { line, price: None }])?;
//! let intent = Intent { sale, account, request: request_ids.next_id() };
//! let held = client.hold(intent, wanted, None)?;
//!
//! let intent = Intent { sale, account, request: request_ids.next_id() };
//! let payment = PaymentRef::new(b"pay-1").expect("short enough");
//! client.confirm(intent, held.order, payment, None)?;
//! # Ok(())
//! # }
//! ```
//!
//! **One intent, one request id.** A command whose answer does not come is sent again under the
//! same request id, over a new connection, until its answer comes or its time is up. That is
//! safe: the server executes a request id once and repeats its answer. Commands without a
//! request id (defining, opening, …) and queries are the same however often they are sent.
//!
//! **Errors say what happened to the stock** ([`ClientError`]): refused, not executed, cannot
//! work, or unknown. Only the last leaves work, and [`Client::fence`] does it.
//!
//! **Pipelining.** [`Client::submit`] returns before the answer, [`Client::wait`] fetches it.
//! `submit` holds back where the server's bound of unanswered requests is reached, and reads
//! answers meanwhile. Neither side can block the other for good: a write that the socket does
//! not take is given up after 10 milliseconds to read what has arrived, and then tried again.
//!
//! **Shards.** The client opens a connection to each shard that it has requests for, where the
//! ports that the server tells can be reached; otherwise the first address serves all.
//!
//! It needs neither threads nor `poll`, so it is as portable as [`std::net`]. One client belongs
//! to one thread at a time; an application with many threads gives each its own.

mod calls;
mod connection;
mod error;
mod lanes;
mod pipeline;
mod request_ids;

use std::time::Duration;

pub use calls::{Held, Settled};
pub use error::{Cause, ClientError};
pub use pipeline::{Client, Pending, UNCLAIMED_MAX};
pub use request_ids::RequestIds;

/// How a client connects and how long it tries.
#[derive(Clone)]
pub struct Options {
    /// The API key, at most 128 bytes; empty where the server asks for none.
    pub key: String,
    /// What the client calls itself in the server's log, at most 64 bytes.
    pub name: String,
    /// The most time for one connection, `HELLO` included.
    pub connect_timeout: Duration,
    /// A connection with unanswered requests that is silent for so long counts as broken.
    pub silence_timeout: Duration,
    /// From `submit` to giving up, with all reconnecting and resending in between.
    pub request_timeout: Duration,
    /// The wait before the second try to reconnect. It doubles with each failure, and each wait
    /// is shortened by up to half at random, so that clients do not come back in step.
    pub backoff_min: Duration,
    /// The longest wait between two tries.
    pub backoff_max: Duration,
    /// Whether to open a connection to each shard.
    pub shard_aware: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            key: String::new(),
            name: String::new(),
            connect_timeout: Duration::from_secs(2),
            silence_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_secs(1),
            shard_aware: true,
        }
    }
}

/// Everything but the key.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("name", &self.name)
            .field("connect_timeout", &self.connect_timeout)
            .field("silence_timeout", &self.silence_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("backoff_min", &self.backoff_min)
            .field("backoff_max", &self.backoff_max)
            .field("shard_aware", &self.shard_aware)
            .finish_non_exhaustive()
    }
}
