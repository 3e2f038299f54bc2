//! The tokens that one shard has verified: a table of fixed size, never grown.
//!
//! The key is the SHA-256 of the whole token, signature included, and the whole digest is
//! compared, so two tokens cannot be taken for each other. The comparison need not be of constant
//! time: what it could tell is a digest, and that lets nobody in. Only tokens that hold come in,
//! so nobody without a key can push others out.
//!
//! A digest belongs to one set of [`WAYS`] entries. What has expired goes first; among the rest a
//! hand goes round and spares, once, what was used since it last came by (the CLOCK algorithm).

use super::Verified;
use crate::model::{AccountId, TimeMs};

/// A token's place in the table.
pub(super) type TokenDigest = [u8; 32];

/// Entries of a set; one bit for each in `Set::used`.
const WAYS: usize = 8;

/// The sets; a power of two.
const SETS: usize = 512;

/// The most tokens of one shard's cache.
const TOKENS_MAX: usize = SETS * WAYS;

const _: () = assert!(SETS.is_power_of_two() && WAYS == u8::BITS as usize && TOKENS_MAX == 4096);

/// The table.
pub(super) struct TokenCache(Box<[Set]>);

#[derive(Clone)]
struct Set {
    entries: [Entry; WAYS],
    /// Which entries were used since the hand last came by.
    used: u8,
    hand: u8,
}

/// One verified token; free where it never held.
#[derive(Clone, Copy)]
struct Entry {
    digest: TokenDigest,
    verified: Verified,
}

const FREE: Entry = Entry {
    digest: [0; 32],
    verified: Verified { account: AccountId::OPERATOR, holds_until: TimeMs(0) },
};

impl TokenCache {
    pub(super) fn new() -> Self {
        Self(vec![Set { entries: [FREE; WAYS], used: 0, hand: 0 }; SETS].into_boxed_slice())
    }

    /// What was found out about the token with this digest. It may have expired since.
    pub(super) fn find(&mut self, digest: &TokenDigest) -> Option<Verified> {
        let set = &mut self.0[set_of(digest)];
        let is_it = |entry: &Entry| entry.digest == *digest && entry.verified.holds_until.0 > 0;
        let at = set.entries.iter().position(is_it)?;
        set.used |= 1 << at;
        Some(set.entries[at].verified)
    }

    /// Keeps what was found out, in place of what is worth least.
    pub(super) fn insert(&mut self, digest: &TokenDigest, verified: Verified, now: TimeMs) {
        let set = &mut self.0[set_of(digest)];
        let is_over = |entry: &Entry| entry.verified.holds_until <= now;
        let at = set.entries.iter().position(is_over).unwrap_or_else(|| set.victim());
        set.entries[at] = Entry { digest: *digest, verified };
        set.used &= !(1 << at);
    }
}

impl Set {
    /// The first entry, from the hand on, that was not used since the hand last came by.
    fn victim(&mut self) -> usize {
        loop {
            let at = usize::from(self.hand);
            self.hand = ((at + 1) % WAYS) as u8;
            let bit = 1 << at;
            if self.used & bit == 0 {
                return at;
            }
            self.used &= !bit;
        }
    }
}

/// How many entries hold something, of all that there are.
impl std::fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entries = self.0.iter().flat_map(|set| &set.entries);
        let taken = entries.filter(|entry| entry.verified.holds_until.0 > 0).count();
        write!(f, "TokenCache({taken} of {TOKENS_MAX})")
    }
}

fn set_of(digest: &TokenDigest) -> usize {
    usize::from(u16::from_le_bytes([digest[0], digest[1]])) % SETS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(set: u8, tag: u8) -> TokenDigest {
        let mut digest = [tag; 32];
        (digest[0], digest[1]) = (set, 0);
        digest
    }

    fn verified(account: u8, holds_until: u64) -> Verified {
        Verified { account: AccountId(account.into()), holds_until: TimeMs(holds_until) }
    }

    const NOW: TimeMs = TimeMs(1000);

    #[test]
    fn what_was_put_in_is_found_by_its_whole_digest() {
        let mut cache = TokenCache::new();
        cache.insert(&digest(3, 7), verified(1, 2000), NOW);
        assert_eq!(cache.find(&digest(3, 7)), Some(verified(1, 2000)));
        for at in 0..32 {
            let mut other = digest(3, 7);
            other[at] ^= 1;
            assert_eq!(cache.find(&other), None, "byte {at} counts");
        }
        // A free entry is no token, whatever its digest.
        assert_eq!(cache.find(&[0; 32]), None);
    }

    #[test]
    fn the_expired_go_first() {
        let mut cache = TokenCache::new();
        for tag in 0..8 {
            cache.insert(&digest(1, tag), verified(tag, if tag == 5 { 1500 } else { 9000 }), NOW);
        }
        cache.insert(&digest(1, 100), verified(100, 9000), TimeMs(1500));
        assert_eq!(cache.find(&digest(1, 5)), None);
        for tag in [0, 1, 2, 3, 4, 6, 7, 100] {
            assert_eq!(cache.find(&digest(1, tag)), Some(verified(tag, 9000)), "{tag}");
        }
    }

    #[test]
    fn the_used_are_spared_and_the_table_stays_bounded() {
        let mut cache = TokenCache::new();
        for tag in 0..8 {
            cache.insert(&digest(1, tag), verified(tag, 9000), NOW);
        }
        for tag in [0, 2, 3] {
            assert!(cache.find(&digest(1, tag)).is_some());
        }
        // Takes the places of 1, 4, 5, 6 and 7.
        for tag in 10..15 {
            cache.insert(&digest(1, tag), verified(tag, 9000), NOW);
        }
        let found = |cache: &mut TokenCache, tag| cache.find(&digest(1, tag)).is_some();
        let tags: Vec<u8> = (0..20).filter(|tag| found(&mut cache, *tag)).collect();
        assert_eq!(tags, [0, 2, 3, 10, 11, 12, 13, 14]);
        assert_eq!(format!("{cache:?}"), "TokenCache(8 of 4096)");
    }

    #[test]
    fn where_all_are_used_one_still_goes() {
        let mut cache = TokenCache::new();
        for tag in 0..8 {
            cache.insert(&digest(1, tag), verified(tag, 9000), NOW);
            assert!(cache.find(&digest(1, tag)).is_some());
        }
        cache.insert(&digest(1, 99), verified(99, 9000), NOW);
        assert!(cache.find(&digest(1, 99)).is_some());
        assert_eq!(cache.find(&digest(1, 0)), None);
    }
}
