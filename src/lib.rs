//! Boxoffice: a single-node ticketing appliance.
//!
//! One Linux process sells out an on-sale without selling a unit twice. Each request gets one
//! immediate, final answer, and an answer of success is on disk before it leaves the machine.
//!
//! # The map of the house
//!
//! The third column is the law: a test (`tests/tidy.rs`) reads this very table and fails on any
//! import, in code or in tests, that is not drawn here. To draw an arrow is to change this file.
//!
//! | layer | owns | may import |
//! |---|---|---|
//! | `canary` | planted bugs for tests; nothing, in a build for use | nothing |
//! | `model` | ids, commands, outcomes, refusals, records: words, no bytes, no I/O | nothing |
//! | `protocol` | bytes ⇄ model; the one table of refusals and wire codes | `model` |
//! | `admission` | who may ask, and how much at once | `model` |
//! | `engine` | the state machine of sales: decides, then applies | `model`, `canary` |
//! | `wal` | the log: records, frames, batches, segments, recovery, snapshots | `model`, `canary` |
//! | `runtime` | ring, mailboxes, CPU placement, clock; the only `unsafe` | `canary` |
//! | `server` | shards | `protocol`, `admission`, `engine`, `wal`, `model`, `runtime`, `canary` |
//! | `control` | the cold plane: what is slow, rare or sequential | `server` and what it may |
//! | `audit` | an independent judge, from log and snapshots alone | `wal`, `model` |
//! | `client` | the SDK | `protocol`, `model` |
//! | `load` | the load generator: a customer | `client`, `protocol`, `model`, `runtime` |
//! | `cli` | the programs: flags, texts, exit codes | anything |
//! | `bench/main.rs` | `boxoffice-bench` | `client`, `load`, `protocol`, `model`, `runtime` |
//! | `bench/memory.rs` | bytes of memory for an order | `engine`, `model` |
//! | `bench/log.rs` | appending, recovery, audit | `wal`, `audit`, `engine`, `runtime`, `model` |
//! | `bench/restart.rs` | starts from snapshots | `server`, `engine`, `wal`, `runtime`, `model` |
//! | `bench/protocol.rs` | encoding and decoding | `protocol`, `model` |
//! | `bench/token.rs` | checking buyers' tokens | `admission`, `model` |
//!
//! With `default-features = false, features = ["client"]` only `model`, `protocol` and `client`
//! are built, without any dependency of the server.
//!
//! # The two planes
//!
//! ```text
//!   HOT: per shard one thread, one CPU, one ring           COLD: one executor
//!   ─────────────────────────────────────────────          ────────────────────────
//!
//!        bytes in ──▶ decode ──▶ admit ──▶ decide           makes the next segment
//!           ▲                                │              before it is needed
//!           │                                ▼
//!     ┌─ the ring ─┐                       apply            waits for signals
//!     │ completions│                         │
//!     │ submissions│                         ▼              starts and stops the shards
//!     └────────────┘       parked     batch being filled   has snapshots made
//!        │       ▲         answers           │  one batch      │            ▲
//!        ▼       └────┐       ▲              ▼  in flight      │ messages   │ published
//!     bytes out ◀─ encode ◀── durable ◀── log on disk          ▼            │ numbers
//!                                                            mailboxes, one for each pair
//! ```
//!
//! **Hot.** A shard owns its connections, its sales, its part of the log and one `io_uring`, and
//! shares none of them. A turn of its loop reaps the completions, decodes what has come, decides
//! and applies each request, appends the records to the batch that is being filled, submits that
//! batch if none is in flight, submits the sends, and waits: one system call. There is no future,
//! no lock, and, once warm, no allocation for a request.
//!
//! **Cold.** One executor of asynchronous tasks does what may take its time. It never touches the
//! state of a shard; it talks to shards through mailboxes and reads what they publish.
//!
//! **The core does no I/O.** `model`, `protocol`, `admission`, `engine` and the decisions of
//! `wal` take time, randomness and bytes as arguments and give effects back as values. What runs
//! under the ring runs the same in a test, in which a seed decides every fault.
//!
//! # What makes it correct
//!
//! 1. **The order of a request** is: duplicate, sale window, limits, stock. A refusal changes
//!    nothing and stores nothing, so that memory is bounded by stock, not by traffic.
//! 2. **No answer runs ahead of the disk.** A success waits until its own record is durable. A
//!    refusal or a read waits for the last record of the state that it saw.
//! 3. **A failed write or sync ends the process**, with an exit code of its own. It is never
//!    tried again: after a failed sync nobody knows what the disk holds.
//! 4. **Time never runs backwards**: it is the later of the clock and the last logged time. The
//!    expiry of a hold is a record, and replay never looks at a clock.
//! 5. **A torn tail is not damage.** What a crash leaves behind the last whole frame is cut off.
//!    Anything else that does not read as it was written is damage: the server refuses to start,
//!    says where and what to do, and changes nothing.
//! 6. **The shard key is the sale.** All items and accounts of a sale live on one shard, so a
//!    basket needs no step between cores. A request on another shard makes one hop by mailbox;
//!    the client asks the right shard at once.
//! 7. **Everything is bounded** by a constant or a setting with a name: connections, requests in
//!    flight, buffers, batches, queues, tables, and the work of one turn. Where a bound is
//!    reached, reading stops or the answer is a clear refusal.
//! 8. **Units are conserved** after every record: `available + held + sold == capacity`.
//!
//! # What is not here, on purpose
//!
//! - No queue behind the buyer's back: nobody is told "perhaps" now and "no" later.
//! - No second copy of the truth: no cache, no database, no page cache beneath the log.
//! - No retry and no fallback after a failed write; no repair without being asked.
//! - No lock, no work stealing, no thread pool on the hot plane; no `async` there either.
//! - No clock, no randomness and no global state in the core.
//! - No payments and no identities: both come from the operator, as opaque values.
//! - No replication: one node, one disk. A backup is a copy of the log and its snapshots.
//! - No module for what has no better place.

#[cfg(feature = "server")]
pub mod admission;
#[cfg(feature = "server")]
pub mod audit;
#[cfg(feature = "server")]
pub mod canary;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod control;
#[cfg(feature = "server")]
pub mod engine;
#[cfg(feature = "server")]
pub mod load;
pub mod model;
#[cfg(feature = "client")]
pub mod protocol;
#[cfg(feature = "server")]
pub mod runtime;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod wal;
