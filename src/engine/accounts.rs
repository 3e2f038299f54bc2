//! The accounts of a sale, and what counts against their limits.
//!
//! A row has 24 bytes: the id, the units over all items, and a tally. Nearly every account needs
//! one tally at most (the units of one item that has a limit of its own), which lies in the row;
//! others lie in a list. Units are counted only against limits that exist: where the sale has no
//! account limit, nobody reads the sum, and it might not fit.
//!
//! ```text
//! tally, bit 31 clear: item (10 bits) | units (21 bits), zero units being none
//! tally, bit 31 set:   the first entry of a list (31 bits)
//! ```

use super::arena::Arena;
use super::index::{Aim, Entry, ROW_MAX, RowIndex};
use super::stock::ItemRow;
use crate::model::lines::LINES_MAX;
use crate::model::sale::ITEMS_MAX;
use crate::model::{AccountId, Refusal};

/// An account's place among the accounts of its sale.
pub(super) type AccountIndex = u32;

/// What a tally counts: the units of an item with its own limit, or fences.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TallyKey(u16);

impl TallyKey {
    /// The fences of an account.
    pub(super) const FENCES: Self = Self(u16::MAX);

    /// The units of an item.
    pub(super) const fn item(item: ItemRow) -> Self {
        Self(item)
    }

    /// The item whose units are counted; `None` of fences.
    pub(super) const fn as_item(self) -> Option<ItemRow> {
        if self.0 == Self::FENCES.0 { None } else { Some(self.0) }
    }
}

const IS_LIST: u32 = 1 << 31;
const INLINE_COUNT_BITS: u32 = 21;
const INLINE_COUNT_MAX: u32 = (1 << INLINE_COUNT_BITS) - 1;
const _: () = assert!(ITEMS_MAX <= 1 << (31 - INLINE_COUNT_BITS));

/// Accounts that a sale has at most; a number behind them stands for the operator.
pub(super) const ACCOUNTS_MAX: u32 = ROW_MAX;

/// Tallies that a sale has at most, less those of one more order and of the row before it.
pub(super) const TALLIES_MAX: u32 = !IS_LIST - LINES_MAX as u32 - 1;

/// The end of a list of tallies; as a row's tally, a list without an entry.
const END: u32 = u32::MAX;

struct AccountRow {
    id: [u64; 2],
    units: u32,
    tally: u32,
}

const _: () = assert!(size_of::<AccountRow>() == 24);

struct TallyRow {
    count: u32,
    next: u32,
    key: TallyKey,
}

/// See the module.
pub(super) struct Accounts {
    rows: Arena<AccountRow>,
    index: RowIndex,
    tallies: Arena<TallyRow>,
}

impl Accounts {
    pub(super) fn new() -> Self {
        Self { rows: Arena::new(), index: RowIndex::new(), tallies: Arena::new() }
    }

    /// In the place of accounts that are forgotten.
    pub(super) const fn gone() -> Self {
        Self { rows: Arena::new(), index: RowIndex::gone(), tallies: Arena::new() }
    }

    /// Frees a chunk of forgotten accounts; whether there was one.
    pub(super) fn free_chunk(&mut self) -> bool {
        self.rows.free_chunk() || self.index.free_chunk() || self.tallies.free_chunk()
    }

    /// How many accounts have an order or a fence.
    pub(super) const fn len(&self) -> u32 {
        self.rows.len()
    }

    /// One more account with an order or a fence can be stored.
    pub(super) fn check_room(&self) -> Result<(), Refusal> {
        let has_room = self.rows.len() < ACCOUNTS_MAX && self.tallies.len() < TALLIES_MAX;
        if has_room { Ok(()) } else { Err(Refusal::Overloaded) }
    }

    /// Adds an account that [`Self::set_index`] makes findable.
    #[inline]
    pub(super) fn load(&mut self, id: AccountId, units: u32) -> AccountIndex {
        self.rows.push(AccountRow { id: halves(id), units, tally: 0 })
    }

    /// Makes all accounts findable at once.
    pub(super) fn set_index(&mut self, entries: Vec<Entry>) {
        self.index = RowIndex::build(entries);
    }

    /// The tallies of an account that are not zero, in no order.
    pub(super) fn tallies(&self, account: AccountIndex) -> impl Iterator<Item = (TallyKey, u32)> {
        let tally = self.rows.at(account).tally;
        let is_list = tally & IS_LIST != 0;
        let single = (!is_list).then(|| inline(tally));
        let mut at = if is_list { list_start(tally) } else { END };
        let listed = std::iter::from_fn(move || {
            let row = (at != END).then(|| self.tallies.at(at))?;
            at = row.next;
            Some((row.key, row.count))
        });
        single.into_iter().chain(listed).filter(|&(_, count)| count > 0)
    }

    /// The search that is going to be made for this hash.
    #[inline]
    pub(super) fn aim(&self, hash: u32) -> Aim<'_> {
        Aim::new(&self.index, hash)
    }

    /// Reads a row that may be there, of which the value says nothing.
    #[inline]
    pub(super) fn touch(&self, account: AccountIndex) -> u32 {
        self.rows.at(account).units
    }

    /// The account with this id and the hash of it.
    #[inline]
    pub(super) fn find(&self, hash: u32, id: AccountId) -> Option<AccountIndex> {
        let id = halves(id);
        self.index.find(hash, |row| self.rows.at(row).id == id)
    }

    /// Adds the account with this id, of which there is none, and the hash of it.
    #[inline]
    pub(super) fn add(&mut self, hash: u32, id: AccountId) -> AccountIndex {
        let row = self.rows.push(AccountRow { id: halves(id), units: 0, tally: 0 });
        self.index.insert(hash, row);
        row
    }

    pub(super) fn id(&self, account: AccountIndex) -> AccountId {
        let [low, high] = self.rows.at(account).id;
        AccountId(u128::from(low) | u128::from(high) << 64)
    }

    /// Units over all items.
    #[inline]
    pub(super) fn units(&self, account: AccountIndex) -> u32 {
        self.rows.at(account).units
    }

    #[inline]
    pub(super) fn add_units(&mut self, account: AccountIndex, units: u32) {
        let sum = &mut self.rows.at_mut(account).units;
        *sum = sum.checked_add(units).expect("units stay within the limit");
    }

    pub(super) fn subtract_units(&mut self, account: AccountIndex, units: u32) {
        let sum = &mut self.rows.at_mut(account).units;
        *sum = sum.checked_sub(units).expect("no unit comes back twice");
    }

    /// The count of a tally; zero where there is none.
    #[inline]
    pub(super) fn tally(&self, account: AccountIndex, key: TallyKey) -> u32 {
        let tally = self.rows.at(account).tally;
        if tally & IS_LIST == 0 {
            let (inline_key, count) = inline(tally);
            return if inline_key == key { count } else { 0 };
        }
        self.entry(tally, key).map_or(0, |entry| self.tallies.at(entry).count)
    }

    #[inline]
    pub(super) fn add_tally(&mut self, account: AccountIndex, key: TallyKey, units: u32) {
        let tally = &mut self.rows.at_mut(account).tally;
        let (inline_key, count) = inline(*tally);
        let sum = u64::from(count) + u64::from(units);
        // The tally that nearly every account has: in the row, of this item, or of none yet.
        let is_inline = *tally & IS_LIST == 0 && (inline_key == key || count == 0);
        if is_inline && key != TallyKey::FENCES && sum <= u64::from(INLINE_COUNT_MAX) {
            *tally = u32::from(key.0) << INLINE_COUNT_BITS | sum as u32;
            return;
        }
        let sum = self.tally(account, key).checked_add(units).expect("units stay within the limit");
        self.write_tally(account, key, sum);
    }

    pub(super) fn subtract_tally(&mut self, account: AccountIndex, key: TallyKey, units: u32) {
        let rest = self.tally(account, key).checked_sub(units).expect("no unit comes back twice");
        self.write_tally(account, key, rest);
    }

    fn write_tally(&mut self, account: AccountIndex, key: TallyKey, count: u32) {
        let tally = self.rows.at(account).tally;
        if tally & IS_LIST == 0 {
            let (inline_key, inline_count) = inline(tally);
            let is_free = inline_count == 0 || inline_key == key;
            if is_free && key != TallyKey::FENCES && count <= INLINE_COUNT_MAX {
                self.rows.at_mut(account).tally = u32::from(key.0) << INLINE_COUNT_BITS | count;
                return;
            }
            self.rows.at_mut(account).tally = END;
            if inline_count > 0 && inline_key != key {
                self.push_entry(account, inline_key, inline_count);
            }
        }
        match self.entry(self.rows.at(account).tally, key) {
            Some(entry) => self.tallies.at_mut(entry).count = count,
            None => self.push_entry(account, key, count),
        }
    }

    /// The entry for `key` in the list that a row's tally names.
    fn entry(&self, tally: u32, key: TallyKey) -> Option<u32> {
        let mut at = list_start(tally);
        while at != END {
            let row = self.tallies.at(at);
            if row.key == key {
                return Some(at);
            }
            at = row.next;
        }
        None
    }

    /// Puts an entry first in an account's list.
    fn push_entry(&mut self, account: AccountIndex, key: TallyKey, count: u32) {
        let next = list_start(self.rows.at(account).tally);
        let entry = self.tallies.push(TallyRow { count, next, key });
        assert!(entry < !IS_LIST, "the number of tallies fits 31 bits");
        self.rows.at_mut(account).tally = IS_LIST | entry;
    }
}

const fn halves(id: AccountId) -> [u64; 2] {
    [id.0 as u64, (id.0 >> 64) as u64]
}

const fn inline(tally: u32) -> (TallyKey, u32) {
    (TallyKey((tally >> INLINE_COUNT_BITS) as u16), tally & INLINE_COUNT_MAX)
}

const fn list_start(tally: u32) -> u32 {
    if tally == END { END } else { tally & !IS_LIST }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_their_whole_id() {
        let mut accounts = Accounts::new();
        let ids = [AccountId(1), AccountId(1 << 64), AccountId(u128::MAX)];
        for (row, id) in ids.into_iter().enumerate() {
            assert_eq!(accounts.find(7, id), None);
            assert_eq!(accounts.add(7, id), row as u32);
        }
        for (row, id) in ids.into_iter().enumerate() {
            assert_eq!(accounts.find(7, id), Some(row as u32));
            assert_eq!(accounts.id(row as u32), id);
        }
        assert_eq!(accounts.len(), 3);
    }

    #[test]
    fn tallies_overflow_from_the_row_into_a_list() {
        let mut accounts = Accounts::new();
        let account = accounts.add(1, AccountId(9));
        let last_item = TallyKey::item(ITEMS_MAX as ItemRow - 1);
        let keys = [last_item, TallyKey::item(0), TallyKey::FENCES];
        for (at, key) in keys.into_iter().enumerate() {
            assert_eq!(accounts.tally(account, key), 0);
            accounts.add_tally(account, key, 10 + at as u32);
        }
        accounts.add_tally(account, last_item, u32::MAX - 10);
        accounts.subtract_tally(account, keys[1], 11);
        assert_eq!(keys.map(|key| accounts.tally(account, key)), [u32::MAX, 0, 12]);
        assert_eq!(accounts.tallies.len(), 3);
    }

    #[test]
    fn a_tally_in_the_row_is_used_again() {
        let mut accounts = Accounts::new();
        let account = accounts.add(1, AccountId(9));
        for item in 0..9 {
            accounts.add_tally(account, TallyKey::item(item), INLINE_COUNT_MAX);
            accounts.subtract_tally(account, TallyKey::item(item), INLINE_COUNT_MAX);
        }
        assert_eq!(accounts.tallies.len(), 0);
        accounts.add_tally(account, TallyKey::item(3), INLINE_COUNT_MAX + 1);
        assert_eq!(accounts.tally(account, TallyKey::item(3)), INLINE_COUNT_MAX + 1);
        assert_eq!(accounts.tallies.len(), 1);
    }

    #[test]
    #[should_panic(expected = "no unit comes back twice")]
    fn units_below_zero_end_the_process() {
        let mut accounts = Accounts::new();
        let account = accounts.add(1, AccountId(9));
        accounts.subtract_units(account, 1);
    }
}
