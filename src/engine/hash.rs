//! Keyed hashes of ids, so that nobody who chooses ids can crowd an index.
//!
//! SipHash-1-3 (Aumasson and Bernstein, 2012) under a secret seed. The seed comes from outside:
//! the engine reads no randomness. Nothing observable depends on it, so a log can be replayed
//! under another seed.

use siphasher::sip::SipHasher13;

use crate::model::{AccountId, RequestId, SaleId};

/// The secret of an engine's index tables: any 128 random bits.
#[derive(Clone, Copy)]
pub struct HashSeed(pub [u64; 2]);

/// The hash functions of one engine.
pub(super) struct IdHash {
    keyed: SipHasher13,
}

impl IdHash {
    pub(super) fn new(seed: HashSeed) -> Self {
        Self { keyed: SipHasher13::new_with_keys(seed.0[0], seed.0[1]) }
    }

    /// The hash of an account inside its sale.
    #[inline]
    pub(super) fn account(&self, account: AccountId) -> u32 {
        self.keyed.hash(&account.0.to_le_bytes()) as u32
    }

    /// The hash of a request id inside its sale; its scope is the account.
    #[inline]
    pub(super) fn request(&self, account: AccountId, request: RequestId) -> u32 {
        let mut key = [0; 32];
        key[..16].copy_from_slice(&account.0.to_le_bytes());
        key[16..].copy_from_slice(&request.0.to_le_bytes());
        self.keyed.hash(&key) as u32
    }

    /// The hash of a sale.
    #[inline]
    pub(super) fn sale(&self, sale: SaleId) -> u32 {
        self.keyed.hash(&sale.0.to_le_bytes()) as u32
    }
}
