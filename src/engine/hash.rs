//! Keyed hashes of ids, so that nobody who chooses ids can crowd an index.
//!
//! SipHash-1-3 (Aumasson and Bernstein, 2012) under a secret seed. The seed comes from outside:
//! the engine reads no randomness. Nothing observable depends on it, so a log can be replayed
//! under another seed.

use std::cell::Cell;

use siphasher::sip::SipHasher13;

use crate::model::{AccountId, RequestId, SaleId};

/// The secret of an engine's index tables: any 128 random bits.
#[derive(Clone, Copy)]
pub struct HashSeed(pub [u64; 2]);

/// Hashes that are remembered: some more than the requests of one turn.
const REMEMBERED: usize = 128;

/// The hash functions of one engine.
///
/// A request's ids are hashed when it is prepared, decided and applied, so the last hashes are
/// remembered by their ids. This cache is no state: it only saves time.
pub(super) struct IdHash {
    keyed: SipHasher13,
    accounts: Box<[Cell<(AccountId, u32)>]>,
    requests: Box<[Cell<(AccountId, RequestId, u32)>]>,
}

impl IdHash {
    pub(super) fn new(seed: HashSeed) -> Self {
        let keyed = SipHasher13::new_with_keys(seed.0[0], seed.0[1]);
        // Every entry starts out true, with the ids zero.
        let (account, request) = (AccountId(0), RequestId(0));
        let account_hash = hash_account(&keyed, account);
        let request_hash = hash_request(&keyed, account, request);
        Self {
            keyed,
            accounts: vec![Cell::new((account, account_hash)); REMEMBERED].into(),
            requests: vec![Cell::new((account, request, request_hash)); REMEMBERED].into(),
        }
    }

    /// The hash of an account inside its sale.
    #[inline]
    pub(super) fn account(&self, account: AccountId) -> u32 {
        let place = &self.accounts[place(account.0)];
        let (remembered, hash) = place.get();
        if remembered == account {
            return hash;
        }
        let hash = hash_account(&self.keyed, account);
        place.set((account, hash));
        hash
    }

    /// The hash of a request id inside its sale; its scope is the account.
    #[inline]
    pub(super) fn request(&self, account: AccountId, request: RequestId) -> u32 {
        let place = &self.requests[place(account.0 ^ request.0)];
        let (of_account, of_request, hash) = place.get();
        if of_account == account && of_request == request {
            return hash;
        }
        let hash = hash_request(&self.keyed, account, request);
        place.set((account, request, hash));
        hash
    }

    /// The hash of a sale.
    #[inline]
    pub(super) fn sale(&self, sale: SaleId) -> u32 {
        self.keyed.hash(&sale.0.to_le_bytes()) as u32
    }
}

fn hash_account(keyed: &SipHasher13, account: AccountId) -> u32 {
    keyed.hash(&account.0.to_le_bytes()) as u32
}

fn hash_request(keyed: &SipHasher13, account: AccountId, request: RequestId) -> u32 {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&account.0.to_le_bytes());
    key[16..].copy_from_slice(&request.0.to_le_bytes());
    keyed.hash(&key) as u32
}

/// Where an id's hash is remembered: folded, since ids may differ in any of their bits.
#[inline]
const fn place(id: u128) -> usize {
    let folded = (id as u64 ^ (id >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (folded >> 32) as usize % REMEMBERED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remembered_hash_is_the_hash() {
        let hash = IdHash::new(HashSeed([7, 8]));
        for round in 0..2 {
            for id in 0..1_000_u128 {
                let (account, request) = (AccountId(id << 60), RequestId(id ^ round));
                assert_eq!(hash.account(account), hash_account(&hash.keyed, account));
                let expected = hash_request(&hash.keyed, account, request);
                assert_eq!(hash.request(account, request), expected);
                assert_eq!(hash.request(account, request), expected);
            }
        }
    }
}
