//! The accounts of a sale: what they hold and own, the request ids that they used, and their
//! fences.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::rules::{Findings, Rule};
use super::stock::ItemRow;
use crate::model::{AccountId, OrderNumber, Quantity, RequestId};

/// The most request ids that one account may fence in a sale.
const FENCES_MAX: u32 = 16;

/// An account's place in its sale's books.
pub(super) type Buyer = u32;

#[derive(Debug, Default)]
pub(super) struct Buyers {
    rows: HashMap<AccountId, Buyer>,
    units: Vec<u64>,
    /// Units of items that have a limit of their own.
    item_units: HashMap<(Buyer, ItemRow), u64>,
    fences: HashMap<Buyer, u32>,
    requests: HashMap<(Buyer, [u32; 4]), Use>,
}

/// What a request id was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Record,
    Fence,
}

impl Buyers {
    pub(super) fn row(&mut self, account: AccountId) -> Buyer {
        let row = *self.rows.entry(account).or_insert(self.units.len() as Buyer);
        if row as usize == self.units.len() {
            self.units.push(0);
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

    /// Counts units against the limits. The sale's limit is the caller's to check, once all
    /// lines are counted.
    pub(super) fn take(
        &mut self,
        buyer: Buyer,
        (item, limit): (ItemRow, Option<Quantity>),
        quantity: u32,
    ) -> Result<(), u64> {
        self.units[buyer as usize] += u64::from(quantity);
        let Some(limit) = limit else { return Ok(()) };
        let has = self.item_units.entry((buyer, item)).or_default();
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
        self.units[buyer as usize] -= u64::from(quantity);
        if is_limited && let Entry::Occupied(mut has) = self.item_units.entry((buyer, item)) {
            *has.get_mut() = has.get().saturating_sub(u64::from(quantity));
            if *has.get() == 0 {
                has.remove();
            }
        }
    }

    /// What the account holds and owns over all items.
    pub(super) fn units(&self, buyer: Buyer) -> u64 {
        self.units[buyer as usize]
    }

    /// Notes the use of a request id, and says what it was used for before.
    fn claim(&mut self, buyer: Buyer, request: RequestId, now: Use) -> Option<Use> {
        // In four words the key has no padding, and there is one for every order.
        let words = [0, 32, 64, 96].map(|shift| (request.0 >> shift) as u32);
        match self.requests.entry((buyer, words)) {
            Entry::Occupied(before) => Some(*before.get()),
            Entry::Vacant(free) => {
                free.insert(now);
                None
            }
        }
    }
}
