//! Numbers with one writer: the shard's thread changes them, any thread reads them.
//!
//! A single writer needs no read-modify-write instruction: a relaxed load, an addition and a
//! relaxed store are what a plain integer costs. A reader sees each number whole, and numbers
//! beside each other perhaps of two moments of the same turn.

use std::array::from_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds, on the only thread that writes.
    #[inline]
    pub fn add(&self, by: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }

    /// Its value, on any thread.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it, on the only thread that writes.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Its value, on any thread.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often values of each size occurred: two buckets to each doubling.
///
/// Bucket 0 takes what is at most `2^FIRST`, and the upper bounds go on by 1.5 and 2 times each
/// power of two: with `FIRST` 3 they are 8, 12, 16, 24, 32 and so on. What is larger than the
/// last bound is counted apart.
#[derive(Debug)]
pub struct Histogram<const FIRST: u32, const BUCKETS: usize> {
    counts: [Counter; BUCKETS],
    beyond: Counter,
    sum: Counter,
}

/// A histogram as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramValues {
    /// The upper bound of each bucket, and how many values are at most that.
    pub at_most: Vec<(u64, u64)>,
    /// How many values there are.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
}

impl<const FIRST: u32, const BUCKETS: usize> Default for Histogram<FIRST, BUCKETS> {
    fn default() -> Self {
        const { assert!(FIRST > 0 && BUCKETS > 0 && FIRST as usize + BUCKETS / 2 < 63) };
        let counts = from_fn(|_| Counter::default());
        Self { counts, beyond: Counter::default(), sum: Counter::default() }
    }
}

impl<const FIRST: u32, const BUCKETS: usize> Histogram<FIRST, BUCKETS> {
    /// Counts a value so many times, on the only thread that writes.
    #[inline]
    pub fn record(&self, value: u64, times: u64) {
        self.counts.get(Self::bucket(value)).unwrap_or(&self.beyond).add(times);
        self.sum.add(value.wrapping_mul(times));
    }

    /// Counts a time in whole microseconds, rounded up.
    #[inline]
    pub fn record_time(&self, time: Duration, times: u64) {
        self.record(time.as_nanos().div_ceil(1_000) as u64, times);
    }

    /// What it has counted, on any thread.
    #[must_use]
    pub fn values(&self) -> HistogramValues {
        let mut count = 0;
        let at_most = self.counts.iter().enumerate().map(|(bucket, counter)| {
            count += counter.value();
            (Self::bound(bucket), count)
        });
        let at_most = at_most.collect();
        count += self.beyond.value();
        HistogramValues { at_most, count, sum: self.sum.value() }
    }

    #[inline]
    const fn bucket(value: u64) -> usize {
        let below = value.saturating_sub(1);
        if below >> FIRST == 0 {
            return 0;
        }
        let doubling = below.ilog2();
        let half = (below >> (doubling - 1)) & 1;
        1 + 2 * (doubling - FIRST) as usize + half as usize
    }

    const fn bound(bucket: usize) -> u64 {
        let power = 1 << (FIRST as usize + bucket / 2);
        if bucket.is_multiple_of(2) { power } else { power + power / 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        type Sizes = Histogram<3, 9>;
        let bounds: Vec<u64> = (0..9).map(Sizes::bound).collect();
        assert_eq!(bounds, [8, 12, 16, 24, 32, 48, 64, 96, 128]);
        for value in 0..=130 {
            let expected = bounds.iter().position(|bound| value <= *bound).unwrap_or(9);
            assert_eq!(Sizes::bucket(value), expected, "{value}");
        }
        assert!(Sizes::bucket(u64::MAX) > 9);
    }

    #[test]
    fn what_is_read_is_cumulative_and_complete() {
        let sizes = Histogram::<3, 3>::default();
        sizes.record(1, 2);
        sizes.record(16, 1);
        sizes.record(1_000, 3);
        let values = sizes.values();
        assert_eq!(values.at_most, [(8, 2), (12, 2), (16, 3)]);
        assert_eq!((values.count, values.sum), (6, 2 + 16 + 3_000));
        sizes.record_time(Duration::from_nanos(8_001), 1);
        assert_eq!(sizes.values().at_most[1], (12, 3), "times are rounded up");
    }
}
