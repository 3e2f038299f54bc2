//! The slow-request log, as far as the shard has part in it: it notices and reports, and the
//! control plane writes the line.
//!
//! Only an answer that waited for the disk can be slow: any other leaves in the turn in which its
//! request came. What is reported is bounded per second; the rest is counted.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Operation, Protocol};

/// Reports of one second.
const REPORTS_PER_SECOND: u32 = 10;

/// The request that is being handled, for its numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::server) struct Asking {
    pub protocol: Protocol,
    pub operation: Operation,
    /// When it reached the shard.
    pub arrived: Duration,
}

/// An answer that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowRequest {
    /// What it spoke.
    pub protocol: Protocol,
    /// What was asked.
    pub operation: Operation,
    /// From its arrival until its answer could go.
    pub took: Duration,
    /// How much of that was the write of its batch; before it, the batch waited for another.
    pub log_write: Duration,
    /// Slow requests since the last report that were not reported.
    pub suppressed: u64,
}

/// Which slow requests are reported.
#[derive(Debug)]
pub(in crate::server) struct SlowLog {
    threshold: Duration,
    second: Duration,
    reported: u32,
    suppressed: u64,
    reports: VecDeque<SlowRequest>,
}

impl SlowLog {
    /// Without a threshold nothing is slow.
    pub(in crate::server) fn new(threshold: Option<Duration>) -> Self {
        Self {
            threshold: threshold.unwrap_or(Duration::MAX),
            second: Duration::ZERO,
            reported: 0,
            suppressed: 0,
            reports: VecDeque::new(),
        }
    }

    #[inline]
    pub(in crate::server) fn is_slow(&self, took: Duration) -> bool {
        took > self.threshold
    }

    /// Takes note of a slow request at `now`.
    pub(in crate::server) fn add(
        &mut self,
        now: Duration,
        (protocol, operation): (Protocol, Operation),
        took: Duration,
        log_write: Duration,
    ) {
        if now.saturating_sub(self.second) >= Duration::from_secs(1) {
            (self.second, self.reported) = (now, 0);
        }
        if self.reported == REPORTS_PER_SECOND {
            self.suppressed += 1;
            return;
        }
        self.reported += 1;
        let suppressed = std::mem::take(&mut self.suppressed);
        self.reports.push_back(SlowRequest { protocol, operation, took, log_write, suppressed });
    }

    /// The next one to be told.
    pub(in crate::server) fn poll(&mut self) -> Option<SlowRequest> {
        self.reports.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_are_reported_in_a_second_and_the_rest_is_counted() {
        let mut log = SlowLog::new(Some(Duration::from_millis(5)));
        assert!(!log.is_slow(Duration::from_millis(5)));
        assert!(log.is_slow(Duration::from_millis(6)));
        assert!(!SlowLog::new(None).is_slow(Duration::from_hours(1)));
        let write = Duration::from_millis(4);
        let told = |log: &mut SlowLog, second, slow: u64| {
            let now = Duration::from_secs(second);
            for _ in 0..slow {
                log.add(now, (Protocol::Http, Operation::Buy), 2 * write, write);
            }
            std::iter::from_fn(|| log.poll()).map(|slow| slow.suppressed).collect::<Vec<_>>()
        };
        assert_eq!(told(&mut log, 10, 25), [0; 10]);
        assert!(told(&mut log, 10, 2).is_empty());
        assert_eq!(told(&mut log, 11, 2), [17, 0]);
    }
}
