//! What each request id got: the memory of idempotency.
//!
//! The request that made an order lies in the order's own row; every other one has a row of 29
//! bytes here. One index covers both. A key is (account, request id); the account of a row that
//! names an order is the order's.
//!
//! ```text
//! request id 16 | digest 8 | value 4 | kind 1
//! ```

use super::accounts::AccountIndex;
use super::arena::Arena;
use super::index::{Aim, Entry, ROW_MAX, RowIndex};
use super::orders::{ORDERS_MAX, Orders};
use super::wheel::Wheel;
use crate::model::{BodyDigest, OrderNumber, Outcome, Refusal, RequestId};

/// In the place of an account's row: the operator, who has none.
pub(super) const OPERATOR: AccountIndex = u32::MAX;

/// Rows that a sale's requests have at most: they fit 31 bits, less what the index reserves.
pub(super) const REQUESTS_MAX: u32 = ROW_MAX & !IS_REQUEST;

/// Set in an index entry that names a row of this module, not an order's.
const IS_REQUEST: u32 = 1 << 31;
const _: () = assert!(ORDERS_MAX <= IS_REQUEST && REQUESTS_MAX <= IS_REQUEST);

/// What a request did, and where its answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Confirmed(OrderNumber),
    Released(OrderNumber),
    Cancelled(OrderNumber),
    /// The row of the extension.
    Extended(u32),
    Restocked,
    Fenced(AccountIndex),
}

struct RequestRow {
    request: [u8; 16],
    digest: [u8; 8],
    value: [u8; 4],
    kind: u8,
}

const _: () = assert!(size_of::<RequestRow>() == 29);

impl RequestRow {
    fn effect(&self) -> Effect {
        let value = u32::from_le_bytes(self.value);
        match self.kind {
            0 => Effect::Confirmed(OrderNumber(value)),
            1 => Effect::Released(OrderNumber(value)),
            2 => Effect::Cancelled(OrderNumber(value)),
            3 => Effect::Extended(value),
            4 => Effect::Restocked,
            _ => Effect::Fenced(value),
        }
    }
}

/// A request id that was used.
#[derive(Clone, Copy)]
pub(super) struct Known(u32);

/// See the module.
pub(super) struct Requests {
    rows: Arena<RequestRow>,
    index: RowIndex,
    /// Entries on their way into the index, while nobody looks for any: see [`Self::set_aside`].
    aside: Option<Vec<Entry>>,
}

/// Entries that wait for the index at most.
const ASIDE_MAX: usize = 4 << 20;

impl Requests {
    pub(super) fn new() -> Self {
        Self { rows: Arena::new(), index: RowIndex::new(), aside: None }
    }

    /// In the place of requests that are forgotten.
    pub(super) const fn gone() -> Self {
        Self { rows: Arena::new(), index: RowIndex::gone(), aside: None }
    }

    /// Frees a chunk of forgotten requests; whether there was one.
    pub(super) fn free_chunk(&mut self) -> bool {
        self.rows.free_chunk() || self.index.free_chunk()
    }

    /// One more request can be stored.
    pub(super) fn check_room(&self) -> Result<(), Refusal> {
        if self.rows.len() < REQUESTS_MAX { Ok(()) } else { Err(Refusal::Overloaded) }
    }

    /// The search that is going to be made for this hash.
    #[inline]
    pub(super) fn aim(&self, hash: u32) -> Aim<'_> {
        Aim::new(&self.index, hash)
    }

    /// The request with this scope, id and hash of both.
    #[inline]
    pub(super) fn find(
        &self,
        hash: u32,
        account: AccountIndex,
        request: RequestId,
        orders: &Orders,
    ) -> Option<Known> {
        let found = self.index.find(hash, |entry| {
            if entry & IS_REQUEST == 0 {
                let order = orders.at(entry);
                return order.account() == account && order.request() == request;
            }
            let row = self.rows.at(entry & !IS_REQUEST);
            row.request == request.0.to_le_bytes() && account_of(row.effect(), orders) == account
        });
        found.map(Known)
    }

    /// The digest of what a request asked for; `None` of a fenced one, which asked for nothing.
    pub(super) fn digest(&self, known: Known, orders: &Orders) -> Option<BodyDigest> {
        if known.0 & IS_REQUEST == 0 {
            return Some(orders.at(known.0).digest());
        }
        let row = self.rows.at(known.0 & !IS_REQUEST);
        match row.effect() {
            Effect::Fenced(_) => None,
            _ => Some(BodyDigest(u64::from_le_bytes(row.digest))),
        }
    }

    /// What a request got, in the very same words as the first time.
    pub(super) fn outcome(&self, known: Known, orders: &Orders, wheel: &Wheel) -> Outcome {
        if known.0 & IS_REQUEST == 0 {
            let row = orders.at(known.0);
            let order = OrderNumber(known.0 + 1);
            return if row.is_bought() {
                Outcome::Confirmed { order }
            } else {
                Outcome::Held { order, expires_at: orders.first_deadline(row, wheel) }
            };
        }
        match self.rows.at(known.0 & !IS_REQUEST).effect() {
            Effect::Confirmed(order) => Outcome::Confirmed { order },
            Effect::Released(order) => Outcome::Released { order },
            Effect::Cancelled(order) => Outcome::Cancelled { order },
            Effect::Extended(extension) => {
                let (order, expires_at) = orders.extension(extension);
                Outcome::Extended { order, expires_at }
            }
            Effect::Restocked => Outcome::Done,
            Effect::Fenced(_) => Outcome::Fenced,
        }
    }

    /// From now on new requests are not findable, until [`Self::settle`]: many at once are put
    /// into the index in a fraction of the time that one after the other takes.
    pub(super) fn set_aside(&mut self) {
        self.aside.get_or_insert_default();
    }

    /// Makes every request findable.
    pub(super) fn settle(&mut self) {
        if let Some(aside) = self.aside.take() {
            self.index.insert_all(aside);
        }
    }

    #[inline]
    fn insert(&mut self, hash: u32, entry: u32) {
        let Some(aside) = &mut self.aside else { return self.index.insert(hash, entry) };
        aside.push(Entry::new(hash, entry));
        if aside.len() == ASIDE_MAX {
            self.settle();
            self.set_aside();
        }
    }

    /// Remembers the request that made an order.
    #[inline]
    pub(super) fn add_order(&mut self, hash: u32, order_row: u32) {
        self.insert(hash, order_row);
    }

    /// Remembers any other request.
    pub(super) fn add(
        &mut self,
        hash: u32,
        request: RequestId,
        digest: BodyDigest,
        effect: Effect,
    ) {
        let entry = self.load(request, digest, effect);
        self.insert(hash, entry);
    }

    /// Adds a request that [`Self::set_index`] makes findable, and returns what names it there.
    pub(super) fn load(&mut self, request: RequestId, digest: BodyDigest, effect: Effect) -> u32 {
        let (kind, value) = match effect {
            Effect::Confirmed(order) => (0, order.0),
            Effect::Released(order) => (1, order.0),
            Effect::Cancelled(order) => (2, order.0),
            Effect::Extended(extension) => (3, extension),
            Effect::Restocked => (4, 0),
            Effect::Fenced(account) => (5, account),
        };
        assert!(self.rows.len() < REQUESTS_MAX, "a sale has at most {REQUESTS_MAX} requests");
        let row = self.rows.push(RequestRow {
            request: request.0.to_le_bytes(),
            digest: digest.0.to_le_bytes(),
            value: value.to_le_bytes(),
            kind,
        });
        row | IS_REQUEST
    }

    /// Makes all requests findable at once, with the orders' rows for those that made orders.
    pub(super) fn set_index(&mut self, entries: Vec<Entry>) {
        self.index = RowIndex::build(entries);
    }

    /// How many requests did not make an order.
    pub(super) const fn len(&self) -> u32 {
        self.rows.len()
    }

    /// A request that did not make an order: its id, the digest of its body, and what it did.
    pub(super) fn at(&self, row: u32) -> (RequestId, BodyDigest, Effect) {
        let row = self.rows.at(row);
        let request = RequestId(u128::from_le_bytes(row.request));
        (request, BodyDigest(u64::from_le_bytes(row.digest)), row.effect())
    }
}

/// Whose request it was.
pub(super) fn account_of(effect: Effect, orders: &Orders) -> AccountIndex {
    let order = match effect {
        Effect::Confirmed(order) | Effect::Released(order) | Effect::Cancelled(order) => order,
        Effect::Extended(extension) => orders.extension(extension).0,
        Effect::Restocked => return OPERATOR,
        Effect::Fenced(account) => return account,
    };
    orders.at(order.0 - 1).account()
}
