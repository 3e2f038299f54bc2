//! The accounts of a sale: what they hold and own, the request ids that they used, and their
//! fences.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hasher, RandomState};

use arrayvec::ArrayVec;
use xxhash_rust::xxh3::xxh3_128;

use super::rules::{Findings, Rule};
use super::stock::ItemRow;
use crate::model::{AccountId, OrderNumber, Quantity, RequestId};

/// The most request ids that one account may fence in a sale.
const FENCES_MAX: u32 = 16;

/// An account's place in its sale's books.
pub(super) type Buyer = u32;

#[derive(Debug, Default)]
pub(super) struct Buyers {
    rows: HashMap<Words, Buyer, SeededBuild>,
    accounts: Vec<Account>,
    /// Units of items with a limit, where [`Account`] has no place for them.
    more_units: HashMap<(Buyer, ItemRow), u64, SeededBuild>,
    /// Request ids for which [`Account`] has no place.
    more_requests: HashMap<(Buyer, Words), Use, SeededBuild>,
    fences: HashMap<Buyer, u32, SeededBuild>,
}

/// A 128-bit id in words, which leaves no padding in tables of millions.
type Words = [u32; 4];

/// Request ids in an account's own row: a hold and its confirm.
const REQUESTS_IN_ROW: usize = 2;

/// What an account holds, owns and asked. With the common case in its row, judging a record
/// touches one cold place of memory for the account and not three.
#[derive(Clone, Debug, Default)]
struct Account {
    /// Units over all items.
    units: u64,
    /// Units of the first item with a limit that the account took.
    first_item: Option<(ItemRow, u64)>,
    requests: ArrayVec<(Words, Use), REQUESTS_IN_ROW>,
}

/// What a request id was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Record,
    Fence,
}

impl Buyers {
    pub(super) fn row(&mut self, account: AccountId) -> Buyer {
        let row = *self.rows.entry(words(account.0)).or_insert(self.accounts.len() as Buyer);
        if row as usize == self.accounts.len() {
            self.accounts.push(Account::default());
        }
        row
    }

    /// The request behind a record: used by nothing before.
    pub(super) fn use_request(
        &mut self,
        buyer: Buyer,
        request: RequestId,
        order: Option<OrderNumber>,
        findings: &mut Findings,
    ) {
        match self.claim(buyer, request, Use::Record) {
            None => {}
            Some(Use::Record) => findings.add(Rule::RequestReused, order, || {
                format!("the request id {:032x} was used before by this account", request.0)
            }),
            Some(Use::Fence) => findings.add(Rule::FencedRequest, order, || {
                format!("the request id {:032x} was fenced before", request.0)
            }),
        }
    }

    pub(super) fn fence(&mut self, buyer: Buyer, request: RequestId, findings: &mut Findings) {
        match self.claim(buyer, request, Use::Fence) {
            None => {}
            Some(Use::Record) => findings.add(Rule::FencedRequest, None, || {
                format!("the request id {:032x} is fenced after its use", request.0)
            }),
            Some(Use::Fence) => findings.add(Rule::RequestReused, None, || {
                format!("the request id {:032x} is fenced twice", request.0)
            }),
        }
        let fences = self.fences.entry(buyer).or_default();
        *fences += 1;
        if *fences > FENCES_MAX {
            let fences = *fences;
            findings.add(Rule::TooManyFences, None, || {
                format!("this is fence {fences} of its account")
            });
        }
    }

    /// Counts units against the limits, and says where the item's own is broken. The sale's limit
    /// is the caller's to check, once all lines are counted.
    pub(super) fn take(
        &mut self,
        buyer: Buyer,
        (item, limit): (ItemRow, Option<Quantity>),
        quantity: u32,
    ) -> Result<(), u64> {
        self.accounts[buyer as usize].units += u64::from(quantity);
        let Some(limit) = limit else { return Ok(()) };
        let has = self.units_of(buyer, item);
        *has += u64::from(quantity);
        if *has > u64::from(limit.0) { Err(*has) } else { Ok(()) }
    }

    pub(super) fn give_back(
        &mut self,
        buyer: Buyer,
        item: ItemRow,
        is_limited: bool,
        quantity: u32,
    ) {
        self.accounts[buyer as usize].units -= u64::from(quantity);
        if is_limited {
            let has = self.units_of(buyer, item);
            // A limit that came after the opening, against the rules, missed what was taken.
            *has = has.saturating_sub(u64::from(quantity));
        }
    }

    /// What the account holds and owns over all items.
    pub(super) fn units(&self, buyer: Buyer) -> u64 {
        self.accounts[buyer as usize].units
    }

    /// How many accounts there are, and the sum of digests of what each one holds and owns: the
    /// same in whatever order they came. The operator's is none of them.
    pub(super) fn sums(&self) -> (usize, u128) {
        let buyers = self.rows.iter().filter(|(id, _)| **id != words(AccountId::OPERATOR.0));
        buyers.fold((0, 0), |(count, sum), (id, buyer)| {
            let mut bytes = [0; 24];
            for (place, word) in bytes.chunks_mut(4).zip(id) {
                place.copy_from_slice(&word.to_le_bytes());
            }
            bytes[16..].copy_from_slice(&self.units(*buyer).to_le_bytes());
            (count + 1, sum.wrapping_add(xxh3_128(&bytes)))
        })
    }

    /// Fences, and units of items with a limit, above zero.
    pub(super) fn tallies(&self) -> impl Iterator<Item = (AccountId, Option<ItemRow>, u64)> {
        let accounts = self.accounts();
        let fences = self.fences.iter().map(|(buyer, count)| (*buyer, None, u64::from(*count)));
        let first = (0..).zip(&self.accounts).filter_map(|(buyer, account)| {
            let (item, units) = account.first_item?;
            Some((buyer, Some(item), units))
        });
        let more = self.more_units.iter();
        let more = more.map(|((buyer, item), units)| (*buyer, Some(*item), *units));
        let tallies = fences.chain(first).chain(more).filter(|(_, _, count)| *count > 0);
        tallies.map(move |(buyer, of, count)| (accounts[buyer as usize], of, count))
    }

    /// The account in each row.
    pub(super) fn accounts(&self) -> Vec<AccountId> {
        let mut accounts = vec![AccountId::OPERATOR; self.accounts.len()];
        for (id, buyer) in &self.rows {
            let id = id.iter().rev().fold(0, |id, word| id << 32 | u128::from(*word));
            accounts[*buyer as usize] = AccountId(id);
        }
        accounts
    }

    fn units_of(&mut self, buyer: Buyer, item: ItemRow) -> &mut u64 {
        let (first, units) = self.accounts[buyer as usize].first_item.get_or_insert((item, 0));
        if *first == item { units } else { self.more_units.entry((buyer, item)).or_default() }
    }

    /// Notes the use of a request id, and says what it was used for before.
    fn claim(&mut self, buyer: Buyer, request: RequestId, now: Use) -> Option<Use> {
        let request = words(request.0);
        let row = &mut self.accounts[buyer as usize].requests;
        if let Some((_, before)) = row.iter().find(|(known, _)| *known == request) {
            return Some(*before);
        }
        if !row.is_full() {
            row.push((request, now));
            return None;
        }
        match self.more_requests.entry((buyer, request)) {
            Entry::Occupied(before) => Some(*before.get()),
            Entry::Vacant(free) => {
                free.insert(now);
                None
            }
        }
    }
}

fn words(id: u128) -> Words {
    [0, 32, 64, 96].map(|shift| (id >> shift) as u32)
}

/// Hashes ids by folded multiplication under a seed that no buyer knows. The tables have an entry
/// for every account, and the standard hasher would take longer than the judging.
#[derive(Clone, Debug)]
struct SeededBuild(u64);

impl Default for SeededBuild {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for SeededBuild {
    type Hasher = Seeded;

    fn build_hasher(&self) -> Seeded {
        Seeded(self.0)
    }
}

struct Seeded(u64);

impl Hasher for Seeded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, word: u64) {
        // The fractional digits of the golden ratio: odd, and without a pattern.
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
}
