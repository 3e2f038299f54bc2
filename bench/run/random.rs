//! Random numbers for the load: fast, and good enough to draw buyers and items.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// `SplitMix64` (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed that differs from run to run.
    pub fn seed() -> u64 {
        RandomState::new().build_hasher().finish()
    }

    #[inline]
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero. Without the last drop of uniformity
    /// (Lemire, 2019): a bias of `bound` / 2^64.
    #[inline]
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    /// The index of one of `weights`, which are not all zero.
    #[inline]
    pub fn weighted<const N: usize>(&mut self, weights: [u32; N]) -> usize {
        let total: u32 = weights.iter().sum();
        let mut rest = self.below(total.into()) as u32;
        for (index, weight) in weights.into_iter().enumerate() {
            if rest < weight {
                return index;
            }
            rest -= weight;
        }
        unreachable!("the draw is below the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_say_how_often() {
        let seed = Random::seed();
        let mut random = Random::new(seed);
        let mut drawn = [0_u32; 4];
        for _ in 0..40_000 {
            drawn[random.weighted([1, 0, 2, 1])] += 1;
        }
        assert_eq!(drawn[1], 0, "seed {seed}");
        for (index, expected) in [(0, 10_000), (2, 20_000), (3, 10_000)] {
            // Ten standard deviations.
            assert!(drawn[index].abs_diff(expected) < 1_000, "seed {seed}: {drawn:?}");
        }
    }
}
