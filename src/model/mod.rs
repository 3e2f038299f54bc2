//! The vocabulary: ids, commands, outcomes, refusals and log records.
//!
//! Types only. No byte layout (that is `protocol` and `wal`), no I/O, no clock: every layer
//! speaks these words, so nothing here knows a layer.

pub mod command;
pub mod id;
pub mod lines;
pub mod outcome;
#[cfg(feature = "server")]
pub mod record;
pub mod refusal;
pub mod sale;
pub mod scopes;
#[cfg(feature = "server")]
pub mod snapshot;
#[cfg(feature = "server")]
pub mod text_id;

pub use command::{Command, Intent, Query, Route};
pub use id::{
    AccountId, BodyDigest, DurationMs, ItemId, Lsn, OrderNumber, Price, Quantity, RequestId,
    SaleId, ShardIndex, TimeMs,
};
pub use lines::{Line, Lines, LinesError, PaymentRef, Wanted, WantedLine};
pub use outcome::{
    Answer, ItemCounts, OrderPage, OrderState, OrderView, Outcome, SalePage, SaleStats, SaleSummary,
};
#[cfg(feature = "server")]
pub use record::Record;
pub use refusal::{Field, Refusal, RefusalCode};
pub use sale::{ItemTerms, SaleState, SaleTerms};
pub use scopes::Scopes;
#[cfg(feature = "server")]
pub use text_id::{UuidText, account_from_text, request_id_from_text};
