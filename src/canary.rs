//! Planted bugs, for the tests that must catch them.
//!
//! A checker that never failed proves nothing. Each [`Canary`] is one bug at one place in the
//! product; the test program `canaries` plants them one by one and expects each to be caught.
//!
//! Without the feature `canaries`, which no build for use has, [`planted`] is a constant `false`
//! and nothing of them is compiled. With it, the environment variable [`VARIABLE`] names the one
//! that is planted; it is read once. This layer imports nothing.

/// The environment variable that names the planted bug.
pub const VARIABLE: &str = "BOXOFFICE_CANARY";

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// The log is written without `O_DIRECT`, `O_DSYNC` and `fdatasync`.
    SkipSync,
    /// Recovery takes every frame's CRC for right.
    SkipCrc,
    /// Answers leave before their record is durable.
    AckBeforeDurable,
    /// A sale that is read back from the log has no limits.
    ForgetLimitOnReplay,
    /// A confirmed hold still runs out of time.
    ExpireConfirmed,
    /// Recovery does not ask whose a segment is, or which.
    AcceptStaleSegment,
    /// An order may ask for more units than there are.
    SkipStockCheck,
    /// A cancellation is logged and answered, and changes nothing.
    DropCancelled,
    /// Recovery passes over the extensions of holds.
    SkipRecord,
    /// A release that is asked for again is judged anew.
    ForgetRequest,
    /// Answers over HTTP go out as they come, and not in the order of their requests.
    AnswerOutOfTurn,
    /// Requests are taken although the mailbox to another shard is full.
    OverfillMailbox,
    /// A log that begins with another number of shards knows no time.
    ForgetTimeOnDivision,
}

impl Canary {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 13] = [
        Self::SkipSync,
        Self::SkipCrc,
        Self::AckBeforeDurable,
        Self::ForgetLimitOnReplay,
        Self::ExpireConfirmed,
        Self::AcceptStaleSegment,
        Self::SkipStockCheck,
        Self::DropCancelled,
        Self::SkipRecord,
        Self::ForgetRequest,
        Self::AnswerOutOfTurn,
        Self::OverfillMailbox,
        Self::ForgetTimeOnDivision,
    ];

    /// Its name in [`VARIABLE`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SkipSync => "skip-sync",
            Self::SkipCrc => "skip-crc",
            Self::AckBeforeDurable => "ack-before-durable",
            Self::ForgetLimitOnReplay => "forget-limit-on-replay",
            Self::ExpireConfirmed => "expire-confirmed",
            Self::AcceptStaleSegment => "accept-stale-segment",
            Self::SkipStockCheck => "skip-stock-check",
            Self::DropCancelled => "drop-cancelled",
            Self::SkipRecord => "skip-record",
            Self::ForgetRequest => "forget-request",
            Self::AnswerOutOfTurn => "answer-out-of-turn",
            Self::OverfillMailbox => "overfill-mailbox",
            Self::ForgetTimeOnDivision => "forget-time-on-division",
        }
    }
}

/// Whether this bug is planted: never, in a build for use.
#[cfg(not(feature = "canaries"))]
#[inline]
#[must_use]
pub const fn planted(_: Canary) -> bool {
    false
}

/// Whether this bug is planted.
///
/// # Panics
///
/// Where [`VARIABLE`] names none: a test that plants nothing would prove nothing.
#[cfg(feature = "canaries")]
#[must_use]
pub fn planted(canary: Canary) -> bool {
    static PLANTED: std::sync::LazyLock<Option<Canary>> = std::sync::LazyLock::new(|| {
        let name = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty())?;
        let found = Canary::ALL.into_iter().find(|canary| canary.name() == name);
        assert!(found.is_some(), "{VARIABLE}={name} names no planted bug");
        found
    });
    *PLANTED == Some(canary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let names: std::collections::BTreeSet<_> = Canary::ALL.map(Canary::name).into();
        assert_eq!(names.len(), Canary::ALL.len());
    }

    #[test]
    #[cfg(not(feature = "canaries"))]
    fn a_build_for_use_has_none() {
        const { assert!(!planted(Canary::SkipSync)) };
        assert!(Canary::ALL.into_iter().all(|canary| !planted(canary)));
    }
}
