//! The engine: the deterministic state machine of one shard's sales.
//!
//! [`Engine::decide`] judges a command and changes nothing; its record goes to the log, and
//! [`Engine::apply`] is the only change, the very call that a replay of the log makes. The time
//! comes in as an argument. There is deliberately no I/O, no clock and no randomness here.
//!
//! # The rooms
//!
//! | file | story |
//! |---|---|
//! | `administration` | decides what operators ask for |
//! | `purchase` | decides what buyers ask for |
//! | `payment` | which decisions money has a part in |
//! | `prepare` | warms the caches for requests that are about to be decided |
//! | `limits` | the purchase rules, one function each |
//! | `apply` | carries records out |
//! | `replay` | carries the records of a log out, some together |
//! | `archive` | forgets a closed sale, and frees its memory a little at a time |
//! | `export`, `import` | the whole state, as rows that know no index, and back |
//! | `query` | what a reader sees of one sale |
//! | `listing` | what a reader sees page by page |
//! | `sale` | one sale: terms, state, and the tables below |
//! | `stock`, `accounts`, `orders`, `requests` | the tables of a sale |
//! | `wheel` | the deadlines of live holds |
//! | `digest`, `hash` | digests of bodies, keyed hashes of ids |
//! | `arena`, `index` | rows that never move, and an index that grows a little at a time |
//!
//! # Rules
//!
//! - The order of one request: duplicate check, state of the sale, body against the terms, limits,
//!   stock. A refusal changes nothing and stores nothing.
//! - `now` never goes back; the caller clamps it to the last logged time.
//! - A hold whose time is up is expired for every decision and view at once. Its stock comes back
//!   with the logged `Expired` record, which [`Engine::poll_expired`] makes.
//! - After every record, `available + held + sold == capacity` for each item that it touched. A
//!   broken invariant ends the process, in release too.
//! - Work per call is bounded: an insertion never rebuilds more than one small partition of an
//!   index, rows never move, and a wave of expiries is handed out one by one.

mod accounts;
mod administration;
mod apply;
mod archive;
mod arena;
mod digest;
mod export;
mod hash;
mod import;
mod index;
mod limits;
mod listing;
mod orders;
mod payment;
mod prepare;
mod purchase;
mod query;
mod replay;
mod requests;
mod sale;
mod stock;
mod wheel;

use std::cell::Cell;

use crate::model::record::{Expired, Record};
use crate::model::{Command, Intent, OrderNumber, Outcome, Refusal, SaleId, TimeMs};

use accounts::AccountIndex;
use archive::Garbage;
use hash::IdHash;
use index::RowIndex;
use sale::Sale;
use wheel::Wheel;

pub use hash::HashSeed;
pub use import::{ImportError, Importer};
pub use limits::{FENCES_PER_ACCOUNT_MAX, SALES_MAX};
pub use listing::ORDERS_SCANNED_MAX;
pub use query::OrderRef;
pub use replay::Replay;

/// All sales of one shard. See the module.
pub struct Engine {
    hash: IdHash,
    wheel: Wheel,
    sales: Vec<Sale>,
    sale_index: RowIndex,
    /// The rows of all sales, in the order of their ids.
    by_id: Vec<(SaleId, u32)>,
    /// The tables of archived sales, until they are freed.
    garbage: Garbage,
    /// The row of the sale that was asked for last: on-sales come one at a time.
    last_sale: Cell<u32>,
    /// What the last decision found, until the next record is applied: mostly its own.
    last_search: Cell<Option<Search>>,
}

/// What a search for a request's buyer found.
#[derive(Clone, Copy)]
struct Search {
    intent: Intent,
    account_hash: u32,
    account: Option<AccountIndex>,
}

/// What became of a command that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This record is to be logged and applied; [`outcome`] says what to answer then.
    Commit(Record),
    /// Nothing is left to do: the same request was answered so before, or administration finds
    /// things as it wants them.
    Replayed(Outcome),
}

impl Engine {
    /// An engine without sales, whose index tables hash under this secret.
    #[must_use]
    pub fn new(seed: HashSeed) -> Self {
        Self {
            hash: IdHash::new(seed),
            wheel: Wheel::new(),
            sales: Vec::new(),
            sale_index: RowIndex::new(),
            by_id: Vec::new(),
            garbage: Garbage::new(),
            last_sale: Cell::new(0),
            last_search: Cell::new(None),
        }
    }

    /// Judges a command at the time `now`, which never goes back. Changes nothing.
    pub fn decide(&self, command: &Command, now: TimeMs) -> Result<Decision, Refusal> {
        match command {
            Command::DefineSale { sale, terms } => self.define_sale(*sale, terms, now),
            Command::DefineItem { sale, item, terms } => self.define_item(*sale, *item, terms, now),
            Command::Restock { sale, request, item, by } => {
                self.restock(*sale, *request, (*item, *by), command, now)
            }
            Command::OpenSale { sale } => self.open_sale(*sale, now),
            Command::PauseSale { sale } => self.pause_sale(*sale, now),
            Command::CloseSale { sale } => self.close_sale(*sale, now),
            Command::ArchiveSale { sale } => self.archive_sale(*sale, now),
            Command::Fence { intent } => self.fence(*intent),
            Command::Hold { intent, .. }
            | Command::Buy { intent, .. }
            | Command::Confirm { intent, .. }
            | Command::Release { intent, .. }
            | Command::Extend { intent, .. }
            | Command::Cancel { intent, .. } => self.purchase(*intent, command, now),
        }
    }

    /// A hold whose time is up at `now`, as a record to be logged and applied. It is handed out
    /// again until it is applied.
    ///
    /// Each call does a bounded share of work, so `None` means that nothing is due or that there
    /// is more to do: then [`Engine::next_expiry`] is not later than `now`, and the caller goes
    /// on as its budget allows.
    pub fn poll_expired(&mut self, now: TimeMs) -> Option<Record> {
        let due = self.wheel.poll(now.0)?;
        let sale = self.sales[due.sale as usize].id;
        Some(Record::Expired(Expired { sale, order: OrderNumber(due.order + 1) }))
    }

    /// When [`Engine::poll_expired`] next has something to do; `None` where no hold lives. It is
    /// never late. It may be early, since the wheel's coarse slots start before the deadlines in
    /// them; the call then moves holds to finer slots, a handful of times in a hold's life.
    #[must_use]
    pub fn next_expiry(&self) -> Option<TimeMs> {
        self.wheel.next().map(TimeMs)
    }

    /// The holds that live: each will be confirmed, released or expire, which is one record.
    #[must_use]
    #[inline]
    pub const fn live_holds(&self) -> u64 {
        self.wheel.running()
    }

    /// The row of a sale.
    #[inline]
    fn find_sale(&self, id: SaleId) -> Option<u32> {
        let last = self.last_sale.get();
        if self.sales.get(last as usize).is_some_and(|sale| sale.id == id) {
            return Some(last);
        }
        let hash = self.hash.sale(id);
        let row = self.sale_index.find(hash, |row| self.sales[row as usize].id == id)?;
        self.last_sale.set(row);
        Some(row)
    }

    /// The sale that a command or a query names. Of an archived one nothing is known but its
    /// totals: `CLOSED` says so, where `NOT_FOUND` would say that a request never did anything.
    #[inline]
    fn sale(&self, id: SaleId) -> Result<&Sale, Refusal> {
        let sale = self.any_sale(id)?;
        if sale.is_archived() { Err(Refusal::Closed) } else { Ok(sale) }
    }

    /// The sale of this id, archived or not.
    #[inline]
    fn any_sale(&self, id: SaleId) -> Result<&Sale, Refusal> {
        self.find_sale(id).map(|row| &self.sales[row as usize]).ok_or(Refusal::NotFound)
    }
}

/// What the caller of a command is told once its record is durable.
///
/// # Panics
///
/// On an expiry, which nobody asked for.
#[must_use]
pub fn outcome(record: &Record) -> Outcome {
    match record {
        Record::SaleDefined(_)
        | Record::ItemDefined(_)
        | Record::Restocked(_)
        | Record::SaleStateSet(_)
        | Record::SaleArchived(_) => Outcome::Done,
        Record::Held(held) => Outcome::Held { order: held.order, expires_at: held.expires_at },
        Record::Bought(bought) => Outcome::Confirmed { order: bought.order },
        Record::Confirmed(confirmed) => Outcome::Confirmed { order: confirmed.order },
        Record::Released(released) => Outcome::Released { order: released.order },
        Record::Extended(extended) => {
            Outcome::Extended { order: extended.order, expires_at: extended.expires_at }
        }
        Record::Cancelled(cancelled) => Outcome::Cancelled { order: cancelled.order },
        Record::Expired(_) => unreachable!("an expiry has no caller"),
        Record::Fenced(_) => Outcome::Fenced,
    }
}
