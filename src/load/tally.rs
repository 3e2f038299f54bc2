//! What a script counts: latencies of successes and of refusals apart, refusals by code, errors
//! by code, sends that left late. Tallies of several threads merge into one.
//!
//! A request counts if it left after the start of the window and was meant to leave before its
//! end: a warm-up leaves no trace, a backlog that it leaves behind is measured whole, and nothing
//! that should have been sent in time falls out at the end.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{Answered, Nanos};
use crate::model::RefusalCode;
use crate::protocol::codes::WireCode;

/// A send later than this behind its intended time, in nanoseconds, is a late one.
pub const LATE: u64 = 1_000_000;

/// The finest step of a histogram, in nanoseconds.
const LATENCY_MIN: u64 = 16;

/// The longest latency that a histogram tells, in nanoseconds: an hour. Longer ones count as that.
const LATENCY_MAX: u64 = 3_600 * 1_000_000_000;

/// How exact a histogram is, in decimal digits.
const DIGITS: u8 = 3;

/// What a tally looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its start: the end of the warm-up.
    pub from: Nanos,
    /// Its end.
    pub until: Nanos,
}

impl Window {
    /// Everything.
    pub const ALL: Self = Self { from: Nanos(0), until: Nanos::MAX };

    fn contains(self, time: Nanos) -> bool {
        self.from <= time && time < self.until
    }

    /// Whether a request counts: it left after the start, and was meant to leave before the end.
    fn counts(self, intended: Nanos, sent: Nanos) -> bool {
        self.from <= sent && intended < self.until
    }
}

/// Counters and histograms of one thread, or of all together.
#[derive(Clone, Debug)]
pub struct Tally {
    window: Window,
    success: Histogram<u64>,
    refused: Histogram<u64>,
    refused_by_code: [u64; RefusalCode::ALL.len()],
    errors: BTreeMap<&'static str, u64>,
    answered: u64,
    late_sends: u64,
}

impl Tally {
    /// An empty tally.
    #[must_use]
    pub fn new(window: Window) -> Self {
        let histogram = || {
            Histogram::new_with_bounds(LATENCY_MIN, LATENCY_MAX, DIGITS).expect("bounds are sound")
        };
        Self {
            window,
            success: histogram(),
            refused: histogram(),
            refused_by_code: [0; RefusalCode::ALL.len()],
            errors: BTreeMap::new(),
            answered: 0,
            late_sends: 0,
        }
    }

    /// Ends the window earlier than it was to end.
    pub fn end(&mut self, until: Nanos) {
        self.window.until = self.window.until.min(until);
    }

    /// A request leaves.
    #[inline]
    pub fn sending(&mut self, intended: Nanos, now: Nanos) {
        if now.since(intended) > LATE && self.window.counts(intended, now) {
            self.late_sends += 1;
        }
    }

    /// A request was answered.
    #[inline]
    pub fn answered(&mut self, answered: &Answered<'_>) {
        self.answered += u64::from(self.window.contains(answered.now));
        if !self.window.counts(answered.intended, answered.sent) {
            return;
        }
        match answered.answer {
            Ok(_) => self.success.saturating_record(answered.latency()),
            Err(refusal) => {
                self.refused_by_code[refusal.code() as usize] += 1;
                self.refused.saturating_record(answered.latency());
            }
        }
    }

    /// Something went wrong; errors count outside the window as well.
    pub fn error(&mut self, code: &'static str) {
        *self.errors.entry(code).or_default() += 1;
    }

    /// Adds what another thread counted.
    pub fn merge(&mut self, other: &Self) {
        self.success.add(&other.success).expect("all histograms have the same bounds");
        self.refused.add(&other.refused).expect("all histograms have the same bounds");
        for (mine, theirs) in self.refused_by_code.iter_mut().zip(other.refused_by_code) {
            *mine += theirs;
        }
        for (code, count) in &other.errors {
            *self.errors.entry(code).or_default() += count;
        }
        self.answered += other.answered;
        self.late_sends += other.late_sends;
    }

    /// Answers that came inside the window, whenever they were asked for.
    #[must_use]
    pub const fn answers_in_window(&self) -> u64 {
        self.answered
    }

    /// Requests that left more than [`LATE`] behind their intended time.
    #[must_use]
    pub const fn late_sends(&self) -> u64 {
        self.late_sends
    }

    /// What went wrong, by code.
    #[must_use]
    pub const fn errors(&self) -> &BTreeMap<&'static str, u64> {
        &self.errors
    }

    /// The latencies of successes, in nanoseconds.
    #[must_use]
    pub const fn success_histogram(&self) -> &Histogram<u64> {
        &self.success
    }

    /// The latencies of refusals, in nanoseconds.
    #[must_use]
    pub const fn refused_histogram(&self) -> &Histogram<u64> {
        &self.refused
    }

    /// The latencies of successes.
    #[must_use]
    pub fn success(&self) -> Latencies {
        Latencies::of(&self.success)
    }

    /// The latencies of refusals, and how many of each code.
    #[must_use]
    pub fn refused(&self) -> Refusals {
        let named = RefusalCode::ALL.iter().map(|code| (code.name(), *code as usize));
        let by_code = named
            .map(|(name, index)| (name, self.refused_by_code[index]))
            .filter(|(_, count)| *count > 0)
            .collect();
        Refusals { latencies: Latencies::of(&self.refused), by_code }
    }
}

/// How long answers took, in microseconds from the intended send. All zero where there was none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latencies {
    /// How many answers.
    pub count: u64,
    /// The median.
    pub p50_us: f64,
    /// 90 of 100 are not longer.
    pub p90_us: f64,
    /// 99 of 100 are not longer.
    pub p99_us: f64,
    /// 999 of 1,000 are not longer.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Latencies {
    fn of(histogram: &Histogram<u64>) -> Self {
        let us = |nanos: u64| nanos as f64 / 1_000.0;
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(histogram.max()),
        }
    }
}

/// How long refusals took, and how many of each code.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refusals {
    /// How long they took.
    #[serde(flatten)]
    pub latencies: Latencies,
    /// How many of each code; codes without any are left out.
    pub by_code: BTreeMap<&'static str, u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Tag;
    use crate::model::{Answer, Outcome, Refusal};

    const SECOND: u64 = 1_000_000_000;

    fn tally() -> Tally {
        Tally::new(Window { from: Nanos(SECOND), until: Nanos(2 * SECOND) })
    }

    /// A request that leaves on time.
    fn answer(tally: &mut Tally, sent: u64, now: u64, answer: &Result<Answer, Refusal>) {
        let (sent, now) = (Nanos(sent), Nanos(now));
        tally.answered(&Answered { tag: Tag(0), intended: sent, sent, now, answer });
    }

    const DONE: Result<Answer, Refusal> = Ok(Answer { outcome: Outcome::Done, replayed: false });

    fn near(us: f64, expected: f64) -> bool {
        (us - expected).abs() <= expected / 100.0
    }

    #[test]
    fn latency_counts_from_the_intended_time_inside_the_window() {
        let mut tally = tally();
        // Each leaves on time and waits longer than the one before: 1 µs, 2 µs, … 1 ms.
        for n in 1..=1_000 {
            answer(&mut tally, SECOND + n, SECOND + n + n * 1_000, &DONE);
        }
        answer(&mut tally, SECOND - 1, SECOND + 500_000_000, &DONE);
        answer(&mut tally, 2 * SECOND, 3 * SECOND, &DONE);
        let Latencies { count, p50_us, p90_us, p99_us, p999_us, max_us } = tally.success();
        assert_eq!(count, 1_000, "neither the warm-up nor what is past the end counts");
        assert!(near(p50_us, 500.0) && near(p90_us, 900.0) && near(p99_us, 990.0));
        assert!(near(p999_us, 999.0) && near(max_us, 1_000.0));
        assert_eq!(tally.answers_in_window(), 1_001, "an answer counts when it comes");
        assert_eq!(tally.refused().latencies.count, 0);
    }

    #[test]
    fn a_backlog_from_the_warm_up_is_measured_whole() {
        let mut tally = tally();
        let (intended, sent, now) = (Nanos(0), Nanos(SECOND), Nanos(SECOND + 1_000));
        tally.sending(intended, sent);
        tally.answered(&Answered { tag: Tag(0), intended, sent, now, answer: &DONE });
        assert_eq!((tally.success().count, tally.late_sends()), (1, 1));
        assert!(near(tally.success().max_us, 1_000_001.0));
    }

    #[test]
    fn a_send_that_slips_over_the_end_counts() {
        let mut tally = tally();
        let (intended, sent) = (Nanos(2 * SECOND - 1), Nanos(2 * SECOND + 5_000));
        let now = Nanos(2 * SECOND + 9_000);
        tally.answered(&Answered { tag: Tag(0), intended, sent, now, answer: &DONE });
        assert_eq!((tally.success().count, tally.answers_in_window()), (1, 0));
    }

    #[test]
    fn refusals_stay_apart_and_are_told_by_code() {
        let mut tally = tally();
        answer(&mut tally, SECOND, SECOND + 5_000, &DONE);
        for refusal in [Refusal::SoldOut, Refusal::SoldOut, Refusal::NotOpen { opens_at: None }] {
            answer(&mut tally, SECOND, SECOND + 90_000, &Err(refusal));
        }
        let refused = tally.refused();
        assert_eq!(refused.by_code, BTreeMap::from([("NOT_OPEN", 1), ("SOLD_OUT", 2)]));
        assert_eq!((refused.latencies.count, tally.success().count), (3, 1));
        assert!(near(tally.success().max_us, 5.0) && near(refused.latencies.p50_us, 90.0));
        let json = serde_json::to_value(&refused).expect("it is plain");
        assert_eq!(json["count"], 3);
        assert_eq!(json["by_code"]["SOLD_OUT"], 2);
    }

    #[test]
    fn every_refusal_has_a_counter_of_its_own() {
        let mut indexes: Vec<_> = RefusalCode::ALL.iter().map(|code| *code as usize).collect();
        indexes.sort_unstable();
        assert_eq!(indexes, (0..RefusalCode::ALL.len()).collect::<Vec<_>>());
    }

    #[test]
    fn a_late_send_is_more_than_a_millisecond_behind() {
        let mut tally = tally();
        tally.sending(Nanos(SECOND), Nanos(SECOND + LATE));
        tally.sending(Nanos(SECOND - 5 * LATE), Nanos(SECOND - 1));
        assert_eq!(tally.late_sends(), 0);
        tally.sending(Nanos(SECOND), Nanos(SECOND + LATE + 1));
        assert_eq!(tally.late_sends(), 1);
    }

    #[test]
    fn merging_adds_everything() {
        let (mut one, mut two) = (tally(), tally());
        answer(&mut one, SECOND, SECOND + 1_000, &DONE);
        answer(&mut two, SECOND, SECOND + 9_000, &DONE);
        answer(&mut two, SECOND, SECOND + 9_000, &Err(Refusal::Paused));
        one.error("CONNECTION_CLOSED");
        two.error("CONNECTION_CLOSED");
        two.sending(Nanos(SECOND), Nanos(SECOND + 2 * LATE));
        one.merge(&two);
        assert_eq!((one.success().count, one.refused().latencies.count), (2, 1));
        assert_eq!((one.answers_in_window(), one.late_sends()), (3, 1));
        assert_eq!(one.errors()["CONNECTION_CLOSED"], 2);
        assert!(near(one.success().max_us, 9.0));
    }

    #[test]
    fn what_takes_for_ever_counts_as_the_longest() {
        let mut tally = Tally::new(Window::ALL);
        answer(&mut tally, 0, u64::MAX - 1, &DONE);
        assert_eq!(tally.success().count, 1);
    }
}
