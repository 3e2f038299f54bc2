//! Composition: one thread per shard around the sans-I/O layers.
//!
//! ```text
//! start ─▶ shard (ring, sockets, log files) ─▶ service (connections, engine, commit queue)
//! ```
//!
//! `service`, `request` (binary), `http`, `turn` and `ending` are one state machine without I/O;
//! `shard` is its driver; `start` opens the data directory, recovers the logs and starts the
//! threads.

mod asks;
pub mod calibrate;
mod caller;
mod commit;
pub mod config;
mod connection;
pub mod credentials;
pub mod datadir;
#[cfg(test)]
mod desk;
pub mod division;
pub mod documents;
mod ending;
pub mod error;
mod exchange;
mod form;
pub mod fullness;
mod http;
mod mail;
pub mod metrics;
mod observe;
mod page;
mod repartition;
mod request;
pub mod restore;
mod service;
pub mod shard;
pub mod space;
pub mod start;
mod turn;

pub use asks::{ASKS_MAX, AskId};
pub use commit::Beyond;
pub use config::ServerConfig;
pub use connection::Seats;
pub use error::ServerError;
pub use mail::{Frames, Mail, SentAsk};
pub use service::{IN_FLIGHT_MAX, Reading, Service, ServiceConfig, Wire};
