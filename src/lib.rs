//! Boxoffice: a single-node ticketing appliance.
//!
//! # The map of the house
//!
//! ```text
//! cli ─▶ control ─▶ server ─▶ { protocol, admission, engine, wal } ─▶ model
//!                     └──────▶ runtime  (knows no tickets)
//! client ─▶ protocol ─▶ model
//! load   ─▶ client, runtime (a customer, never an insider)
//! ```

#[cfg(feature = "server")]
pub mod load;
pub mod model;
#[cfg(feature = "client")]
pub mod protocol;
#[cfg(feature = "server")]
pub mod runtime;
