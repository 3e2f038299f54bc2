//! Warms the caches for requests that are about to be decided.
//!
//! With millions of orders each index search begins with a read that misses every cache, and one
//! request's reads depend on each other. Those of different requests do not: read together before
//! the first is decided, they overlap, and a batch waits about as long as one request would.

use std::hint::black_box;

use arrayvec::ArrayVec;

use super::Engine;
use crate::model::Intent;

/// Requests whose reads are issued together: about what a core can have under way.
const TOGETHER: usize = 16;

/// Where one request will look.
struct Places {
    sale: u32,
    account_hash: u32,
    request_hash: u32,
}

impl Engine {
    /// Reads what the requests of these intents will look up, so that deciding and applying them
    /// finds it in the cache. Changes nothing and decides nothing; worth calling for two requests
    /// or more, which need not be checked nor even decoded but for their intents.
    pub fn prepare(&self, intents: impl IntoIterator<Item = Intent>) {
        let mut together = ArrayVec::<Places, TOGETHER>::new();
        for intent in intents {
            let Some(places) = self.places(intent) else { continue };
            together.push(places);
            if together.is_full() {
                self.touch(&together);
                together.clear();
            }
        }
        self.touch(&together);
    }

    /// Hashing is done first for all, so that nothing stands between the reads.
    #[inline]
    fn places(&self, intent: Intent) -> Option<Places> {
        let sale = self.find_sale(intent.sale)?;
        if self.sales[sale as usize].is_archived() {
            return None;
        }
        Some(Places {
            sale,
            account_hash: self.hash.account(intent.account),
            request_hash: self.hash.request(intent.account, intent.request),
        })
    }

    #[inline]
    fn touch(&self, together: &[Places]) {
        let mut touched = ArrayVec::<_, TOGETHER>::new();
        let mut read = 0;
        for places in together {
            let sale = &self.sales[places.sale as usize];
            let account = sale.accounts.touch(places.account_hash);
            let request = sale.requests.touch(places.request_hash);
            touched.push((sale, account, request));
        }
        // A sixth of all searches goes on to a second bucket. By now the first ones are there.
        for (sale, account, request) in touched {
            read ^= sale.accounts.touch_overflow(account);
            read ^= sale.requests.touch_overflow(request);
        }
        black_box(read);
    }
}
