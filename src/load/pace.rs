//! When requests are meant to leave in an open loop.
//!
//! The schedule is fixed before the run and knows nothing of the answers, so a slow server
//! cannot slow it down: a request that leaves late was still meant to leave on time, and its
//! latency counts from then.

use std::num::{NonZeroU32, NonZeroU64};

use super::Nanos;

/// A second in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// The place of one thread among those that share a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Which one, from 0.
    pub index: u32,
    /// How many share the rate.
    pub count: NonZeroU32,
}

impl Lane {
    /// The only lane.
    pub const ONLY: Self = Self { index: 0, count: NonZeroU32::MIN };
}

/// The intended send times of one lane: request number `n` of all lanes together is meant to
/// leave `n / rate` seconds after the start, and lane `i` of `k` takes every `k`-th of them from
/// the `i`-th on. Exact: the times do not drift however long the run.
#[derive(Clone, Debug)]
pub struct Pace {
    rate: u64,
    next: Nanos,
    /// What `next` leaves out, in nanoseconds / `rate`.
    fraction: u64,
    step: u64,
    step_fraction: u64,
}

impl Pace {
    /// A schedule of `rate` requests a second over all lanes.
    #[must_use]
    pub fn new(rate: NonZeroU32, start: Nanos, lane: Lane) -> Self {
        assert!(lane.index < lane.count.get(), "a lane is one of them");
        let rate = NonZeroU64::from(rate);
        let offset = u64::from(lane.index) * SECOND;
        let step = u64::from(lane.count.get()) * SECOND;
        Self {
            rate: rate.get(),
            next: Nanos(start.0 + offset / rate),
            fraction: offset % rate,
            step: step / rate,
            step_fraction: step % rate,
        }
    }

    /// The oldest intended time that was not taken yet.
    #[must_use]
    pub const fn next(&self) -> Nanos {
        self.next
    }

    /// Takes the oldest intended time, if it has come.
    pub fn take(&mut self, now: Nanos) -> Option<Nanos> {
        let next = self.next;
        (next <= now).then(|| {
            self.advance();
            next
        })
    }

    /// How many intended times before `until` were not taken.
    #[must_use]
    pub fn missed(&self, until: Nanos) -> u64 {
        let mut rest = self.clone();
        let mut missed = 0;
        while rest.next < until {
            missed += 1;
            rest.advance();
        }
        missed
    }

    fn advance(&mut self) {
        self.next.0 += self.step;
        self.fraction += self.step_fraction;
        if self.fraction >= self.rate {
            self.fraction -= self.rate;
            self.next.0 += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(rate: u32, start: Nanos, count: u32) -> Vec<Pace> {
        let rate = NonZeroU32::new(rate).expect("a rate");
        let count = NonZeroU32::new(count).expect("a lane");
        (0..count.get()).map(|index| Pace::new(rate, start, Lane { index, count })).collect()
    }

    /// The intended times of all lanes before `until`, each driven by turns at odd moments.
    fn taken(mut lanes: Vec<Pace>, until: Nanos) -> Vec<u64> {
        let mut times = Vec::new();
        for (lane, pace) in lanes.iter_mut().enumerate() {
            let mut now = Nanos(0);
            while now < until {
                now = Nanos((now.0 + 7_001 + 977 * lane as u64).min(until.0 - 1));
                while let Some(intended) = pace.take(now) {
                    assert!(intended <= now, "nothing leaves before its time");
                    times.push(intended.0);
                }
                if now.0 == until.0 - 1 {
                    break;
                }
            }
        }
        times.sort_unstable();
        times
    }

    /// What is wrong with the intended times of a run; the checker of the tests below.
    fn fault(times: &[u64], rate: u32, start: u64, until: u64) -> Option<String> {
        let exact = |n: u64| {
            start + u64::try_from(u128::from(n) * 1_000_000_000 / u128::from(rate)).expect("fits")
        };
        let expected = (0..).map(exact).take_while(|time| *time < until);
        for (n, expected) in expected.clone().enumerate() {
            match times.get(n) {
                Some(time) if *time == expected => {}
                other => return Some(format!("send {n} at {other:?}, not at {expected}")),
            }
        }
        (times.len() != expected.count()).then(|| "too many sends".to_owned())
    }

    #[test]
    fn no_intended_send_is_missed_doubled_or_adrift() {
        let (start, until) = (12_345, 400_000_000);
        for rate in [1, 3, 7, 999, 1_000, 99_999, 333_333] {
            for count in [1, 2, 3, 8] {
                let times = taken(lanes(rate, Nanos(start), count), Nanos(until));
                assert_eq!(fault(&times, rate, start, until), None, "{rate}/s over {count} lanes");
            }
        }
    }

    #[test]
    fn the_checker_sees_a_missed_a_doubled_and_a_late_send() {
        let times = taken(lanes(999, Nanos(0), 2), Nanos(400_000_000));
        assert_eq!(fault(&times, 999, 0, 400_000_000), None);
        let mut missed = times.clone();
        missed.remove(200);
        let mut doubled = times.clone();
        doubled.insert(200, times[200]);
        let mut adrift = times.clone();
        adrift.iter_mut().skip(300).for_each(|time| *time += 1);
        for wrong in [missed, doubled, adrift, times[..times.len() - 1].to_vec()] {
            assert!(fault(&wrong, 999, 0, 400_000_000).is_some());
        }
    }

    #[test]
    fn what_was_never_taken_is_missed() {
        let mut pace = lanes(1_000, Nanos(0), 1).remove(0);
        while pace.take(Nanos(3_999_999_999)).is_some() {}
        assert_eq!(pace.missed(Nanos(4_000_000_000)), 0);
        assert_eq!(pace.missed(Nanos(4_000_000_001)), 1);
        assert_eq!(pace.missed(Nanos(10_000_000_000)), 6_000);
    }
}
