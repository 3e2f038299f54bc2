//! Warms the caches for requests that are about to be decided.
//!
//! With millions of orders each index search begins with a read that misses every cache, and one
//! request's reads depend on each other. Those of different requests do not: read together before
//! the first is decided, they overlap, and a batch waits about as long as one request would.

use std::hint::black_box;

use arrayvec::ArrayVec;

use super::Engine;
use super::index::Aim;
use super::sale::Sale;
use crate::model::{Intent, Record};

/// Requests whose reads are issued together. A core has some twenty misses under way, and what
/// was read for this many stays in the fastest cache until it is used.
pub(super) const TOGETHER: usize = 64;

/// Where one request will look.
struct Places<'a> {
    sale: &'a Sale,
    account: Aim<'a>,
    request: Aim<'a>,
}

impl Engine {
    /// Reads what the requests of these intents will look up, so that deciding and applying them
    /// finds it in the cache. Changes nothing and decides nothing; worth calling for two requests
    /// or more, which need not be checked nor even decoded but for their intents.
    pub fn prepare(&self, intents: impl IntoIterator<Item = Intent>) {
        let mut together = ArrayVec::<Places<'_>, TOGETHER>::new();
        for intent in intents {
            let Some(places) = self.places(intent) else { continue };
            together.push(places);
            if together.is_full() {
                touch(&mut together);
                together.clear();
            }
        }
        touch(&mut together);
    }

    /// Reads what carrying these records out will look up: accounts and orders. Requests are not
    /// looked up, and their index is not read.
    pub(super) fn prepare_records(&self, records: &[Record]) {
        let sale = |id| self.find_sale(id).map(|row| &self.sales[row as usize]);
        // Of an archived sale, and of one that these records make, there is nothing.
        let account = |record: &Record| {
            let buyer = record.intent().filter(|_| record.changed_order().is_none())?;
            let sale = sale(buyer.sale).filter(|sale| !sale.is_archived())?;
            Some((sale, sale.accounts.aim(self.hash.account(buyer.account))))
        };
        let order = |record: &Record| {
            let sale = sale(record.sale())?;
            sale.orders.find(record.changed_order()?).map(|order| (sale, order))
        };
        let mut aims: ArrayVec<_, TOGETHER> = records.iter().filter_map(account).collect();
        let orders: ArrayVec<_, TOGETHER> = records.iter().filter_map(order).collect();
        aims.iter_mut().for_each(|(_, aim)| aim.approach());
        let mut read = 0;
        for (_, aim) in &aims {
            read ^= aim.touch();
        }
        let accounts: ArrayVec<_, TOGETHER> =
            orders.iter().map(|(sale, order)| (sale, order.account())).collect();
        for (sale, aim) in &aims {
            read ^= aim.touch_overflow();
            read ^= aim.candidate().map_or(0, |row| sale.accounts.touch(row));
        }
        for (sale, account) in accounts {
            read ^= sale.accounts.touch(account);
        }
        black_box(read);
    }

    #[inline]
    fn places(&self, intent: Intent) -> Option<Places<'_>> {
        let sale = &self.sales[self.find_sale(intent.sale)? as usize];
        if sale.is_archived() {
            return None;
        }
        Some(Places {
            sale,
            account: sale.accounts.aim(self.hash.account(intent.account)),
            request: sale.requests.aim(self.hash.request(intent.account, intent.request)),
        })
    }
}

/// One step of all searches after the other: the loops have as little in them as they can, since
/// a core looks ahead for misses by so many instructions only.
fn touch(together: &mut [Places<'_>]) {
    for places in &mut *together {
        places.account.approach();
        places.request.approach();
    }
    let mut read = 0;
    for places in &*together {
        read ^= places.account.touch() ^ places.request.touch();
    }
    // A sixth of all searches goes on to a second bucket. By now the first ones are there, and
    // say where the buyer's row lies.
    for places in &*together {
        read ^= places.account.touch_overflow() ^ places.request.touch_overflow();
        read ^= places.account.candidate().map_or(0, |row| places.sale.accounts.touch(row));
    }
    black_box(read);
}
