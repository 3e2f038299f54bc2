//! Clocks, injected wherever time matters, so that a test or a simulator can own it.

use std::io;
use std::num::NonZeroU64;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time.
pub trait Clock {
    /// Milliseconds since the Unix epoch. May jump either way.
    fn wall_ms(&self) -> u64;
    /// Time since some fixed point. Never goes back.
    fn monotonic(&self) -> Duration;
}

/// The operating system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

/// Lets the calling thread wake from a timed sleep when its time has come. The kernel may
/// otherwise let it sleep 50 µs longer, to wake several threads at once.
pub fn wake_on_time() -> io::Result<()> {
    Ok(rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?)
}

/// What the kernel knows of the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct ClockState {
    /// Whether something (NTP, PTP) keeps it right.
    pub is_synchronised: bool,
    /// How wrong it is at most, as whoever keeps it says.
    pub max_error: Duration,
}

/// Asks the kernel for the state of its clock, and changes nothing.
pub fn clock_state() -> io::Result<ClockState> {
    // SAFETY: the structure is plain numbers, for which zeros are values.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: without modes the call only fills the structure in, which lives on this stack.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    let max_error = Duration::from_micros(timex.maxerror.unsigned_abs());
    Ok(ClockState { is_synchronised: state != libc::TIME_ERROR, max_error })
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).expect("milliseconds fit 64 bits for ages")
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }
}
