//! Keyed hashes of ids, so that nobody who chooses ids can crowd an index.
//!
//! Multilinear hashing (Carter and Wegman 1979; Lemire and Kaser, "Strongly universal string
//! hashing is fast", 2014): each 32-bit word of an id is multiplied by a secret 64-bit key, and
//! the products are added up. Over the choice of the keys, any two ids have the same sum with a
//! probability of at most 2^-32, whoever chose them. A shift and a folded multiplication by one
//! more key then break the sum's linearity, which would let ids in arithmetic progression cluster.
//!
//! The seed of the keys comes from outside: the engine reads no randomness. Nothing observable
//! depends on it, so a log can be replayed under another seed.

use crate::model::{AccountId, RequestId, SaleId};

/// The secret of an engine's index tables: any 128 random bits.
#[derive(Clone, Copy)]
pub struct HashSeed(pub [u64; 2]);

/// The 32-bit words of a 128-bit id.
const WORDS: usize = 4;

/// The hash functions of one engine.
pub(super) struct IdHash {
    account: [u64; WORDS],
    request: [u64; WORDS],
    sale: [u64; 2],
    /// Odd, so that no two sums have the same low half of the product.
    spread: u64,
}

impl IdHash {
    pub(super) fn new(seed: HashSeed) -> Self {
        let [mut state, whiten] = seed.0;
        let mut key = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(mix(state) ^ whiten)
        };
        Self {
            account: std::array::from_fn(|_| key()),
            request: std::array::from_fn(|_| key()),
            sale: std::array::from_fn(|_| key()),
            spread: key() | 1,
        }
    }

    /// The hash of an account inside its sale.
    #[inline]
    pub(super) fn account(&self, account: AccountId) -> u32 {
        self.spread(sum(&self.account, account.0))
    }

    /// The hash of a request id inside its sale; its scope is the account.
    #[inline]
    pub(super) fn request(&self, account: AccountId, request: RequestId) -> u32 {
        let of_account = sum(&self.account, account.0);
        self.spread(of_account.wrapping_add(sum(&self.request, request.0)))
    }

    /// The hash of a sale.
    #[inline]
    pub(super) fn sale(&self, sale: SaleId) -> u32 {
        let [low, high] = [sale.0 & u64::from(u32::MAX), sale.0 >> 32];
        let [low_key, high_key] = self.sale;
        self.spread(low.wrapping_mul(low_key).wrapping_add(high.wrapping_mul(high_key)))
    }

    #[inline]
    fn spread(&self, sum: u64) -> u32 {
        let product = u128::from(sum ^ (sum >> 32)) * u128::from(self.spread);
        ((product as u64 ^ (product >> 64) as u64) >> 32) as u32
    }
}

#[inline]
fn sum(keys: &[u64; WORDS], id: u128) -> u64 {
    let word = |at: usize| u64::from((id >> (32 * at)) as u32);
    (0..WORDS).fold(0, |sum, at| sum.wrapping_add(word(at).wrapping_mul(keys[at])))
}

/// The finalizer of `SplitMix64`, which draws the keys from the seed.
const fn mix(value: u64) -> u64 {
    let mut mixed = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: u32 = 1 << 16;
    const BINS: usize = 1 << 10;

    /// The bins' fill, as the chi-squared statistic of an even spread: about `BINS`.
    fn unevenness(hash: impl Fn(u128) -> u32) -> f64 {
        let mut bins = vec![0_u32; BINS];
        for id in 0..IDS {
            bins[hash(u128::from(id)) as usize >> (32 - BINS.ilog2())] += 1;
        }
        let expected = f64::from(IDS) / BINS as f64;
        bins.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum()
    }

    #[test]
    fn ids_of_any_stride_spread_evenly() {
        for seed in 0..8 {
            let hash = IdHash::new(HashSeed([seed, !seed]));
            for shift in [0, 7, 16, 32, 55, 64, 96, 112] {
                let accounts = unevenness(|id| hash.account(AccountId(id << shift)));
                let of_account = |id| hash.request(AccountId(id << shift), RequestId(7));
                let of_request = |id| hash.request(AccountId(7), RequestId(id << shift));
                let (requests, scoped) = (unevenness(of_request), unevenness(of_account));
                for found in [accounts, requests, scoped] {
                    // Even hashing has a standard deviation of 45 here: this is ten of them.
                    let most = BINS as f64 + 450.0;
                    assert!(found < most, "seed {seed}, shift {shift}: {found} is uneven");
                }
            }
        }
    }

    #[test]
    fn the_bins_of_ids_depend_on_the_seed() {
        let [one, two] = [[1, 2], [1, 3]].map(|seed| IdHash::new(HashSeed(seed)));
        let same = (0..IDS).filter(|&id| {
            let id = AccountId(u128::from(id));
            one.account(id) >> 24 == two.account(id) >> 24
        });
        // One in 256 agrees by chance.
        assert!(same.count() < IDS as usize / 128);
    }
}
