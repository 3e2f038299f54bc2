//! What lies behind a cut, as far as it can be read: how much, of which sales, from when.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::Serialize;

use super::super::moment::Moment;
use crate::model::{Lsn, OrderNumber, Record, TimeMs};
use crate::wal::Entry;

/// How many sales are named in text; JSON has them all.
const SALES_SHOWN_MAX: usize = 20;

/// The records behind a cut.
#[derive(Debug, Serialize)]
pub(super) struct Loss {
    /// The first LSN that is lost.
    from_lsn: u64,
    /// The highest LSN that was seen behind the cut.
    to_lsn: Option<u64>,
    /// How many of them can be read.
    records: u64,
    /// How many up to the highest one cannot; there may be more behind it.
    unreadable: u64,
    /// When the first and the last of them were decided, as far as they can be read.
    from_time_ms: Option<Moment>,
    to_time_ms: Option<Moment>,
    /// How many orders they are about.
    orders: u64,
    /// By sale.
    sales: Vec<SaleLoss>,
    #[serde(skip)]
    books: BTreeMap<u64, Book>,
}

/// What one sale loses.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct SaleLoss {
    sale: u64,
    records: u64,
    orders: u64,
    held: u64,
    bought: u64,
    confirmed: u64,
}

#[derive(Debug, Default)]
struct Book {
    counts: SaleLoss,
    orders: HashSet<OrderNumber>,
}

impl Loss {
    /// Nothing yet behind this LSN.
    pub(super) const fn from(lsn: Lsn) -> Self {
        Self {
            from_lsn: lsn.0,
            to_lsn: None,
            records: 0,
            unreadable: 0,
            from_time_ms: None,
            to_time_ms: None,
            orders: 0,
            sales: Vec::new(),
            books: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, entry: &Entry<'_>) {
        self.records += 1;
        self.to_lsn = Some(self.to_lsn.unwrap_or(0).max(entry.lsn.0));
        self.add_time(entry.time);
        let sale = entry.record.sale().0;
        let book = self.books.entry(sale).or_default();
        book.counts.sale = sale;
        book.counts.records += 1;
        let order = match entry.record {
            Record::Held(held) => {
                book.counts.held += 1;
                held.order
            }
            Record::Bought(bought) => {
                book.counts.bought += 1;
                bought.order
            }
            Record::Confirmed(confirmed) => {
                book.counts.confirmed += 1;
                confirmed.order
            }
            Record::Released(released) => released.order,
            Record::Extended(extended) => extended.order,
            Record::Cancelled(cancelled) => cancelled.order,
            Record::Expired(expired) => expired.order,
            Record::SaleDefined(_)
            | Record::ItemDefined(_)
            | Record::Restocked(_)
            | Record::SaleStateSet(_)
            | Record::Fenced(_)
            | Record::SaleArchived(_) => return,
        };
        book.orders.insert(order);
    }

    fn add_time(&mut self, time: TimeMs) {
        let time = Moment(time);
        self.from_time_ms = Some(self.from_time_ms.map_or(time, |from| from.min(time)));
        self.to_time_ms = Some(self.to_time_ms.map_or(time, |to| to.max(time)));
    }

    /// Sums up once every record was added.
    pub(super) fn sum_up(mut self) -> Self {
        let books = std::mem::take(&mut self.books).into_values();
        let sales = books.map(|book| SaleLoss { orders: book.orders.len() as u64, ..book.counts });
        self.sales = sales.collect();
        self.orders = self.sales.iter().map(|sale| sale.orders).sum();
        let numbers = self.to_lsn.map_or(0, |to| (to + 1).saturating_sub(self.from_lsn));
        self.unreadable = numbers.saturating_sub(self.records);
        self
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(to), Some(from_time), Some(to_time)) =
            (self.to_lsn, self.from_time_ms, self.to_time_ms)
        else {
            return write!(f, "from LSN {} on: none of it can be read", self.from_lsn);
        };
        let Self { from_lsn, records, unreadable, orders, .. } = self;
        write!(
            f,
            "LSN {from_lsn} to {to}: {records} records about {orders} orders can be read, from \
             {from_time} to {to_time}; {unreadable} cannot"
        )?;
        for sale in self.sales.iter().take(SALES_SHOWN_MAX) {
            let SaleLoss { sale, records, orders, held, bought, confirmed } = sale;
            write!(
                f,
                "\n    sale {sale}: {records} records about {orders} orders ({held} holds made, \
                 {bought} bought, {confirmed} confirmed)"
            )?;
        }
        let more = self.sales.len().saturating_sub(SALES_SHOWN_MAX);
        if more > 0 { write!(f, "\n    and {more} more sales") } else { Ok(()) }
    }
}
