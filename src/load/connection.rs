//! One connection: its phase, what waits to be sent, and answers cut out of received bytes.
//!
//! ```text
//! Away ──▶ Connecting ──▶ Greeting ──▶ Live
//!   ▲          │              │          │
//!   └──────── Closing ◀───────┴──────────┘
//! ```
//!
//! A connection stays `Closing` until the ring has nothing of it in flight, so an event never
//! meets the socket of another life.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::{ConnectionIndex, Nanos};
use crate::protocol::binary::{DecodeError, Frame, frame};
use crate::runtime::net;

/// The first pause before connecting again; each further one is twice as long.
const BACKOFF_MIN: Duration = Duration::from_millis(5);

/// The longest pause before connecting again.
const BACKOFF_MAX: Duration = Duration::from_millis(200);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not connected, and not before this time.
    Away {
        until: Nanos,
    },
    Connecting,
    /// Connected; the answer to the greeting is awaited.
    Greeting,
    /// Requests may be sent.
    Live,
    /// Broken; what the ring still has in flight is awaited.
    Closing,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) phase: Phase,
    pub(super) socket: Option<OwnedFd>,
    pub(super) inbound: Inbound,
    /// Requests for the next send.
    filling: Vec<u8>,
    /// The other buffer, while it is not being sent.
    spare: Option<Vec<u8>>,
    /// Operations of the ring that have not ended: connect, receive, send.
    operations: u8,
    attempts: u32,
}

impl Connection {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Away { until: Nanos(0) },
            socket: None,
            inbound: Inbound::default(),
            filling: Vec::new(),
            spare: Some(Vec::new()),
            operations: 0,
            attempts: 0,
        }
    }

    pub(super) const fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Greeting | Phase::Live)
    }

    /// Whether the ring has nothing of it in flight.
    pub(super) const fn is_unused(&self) -> bool {
        self.operations == 0
    }

    pub(super) const fn operation_started(&mut self) {
        self.operations += 1;
    }

    pub(super) const fn operation_ended(&mut self) {
        self.operations -= 1;
    }

    /// The ring connects this socket.
    pub(super) fn connecting(&mut self, socket: OwnedFd) {
        self.socket = Some(socket);
        self.phase = Phase::Connecting;
        self.operation_started();
    }

    /// Where the next request is encoded. Puts the connection among those that are `ready` to
    /// send, unless it is there or waits for a send to end.
    #[inline]
    pub(super) fn outbound(
        &mut self,
        index: ConnectionIndex,
        ready: &mut Vec<ConnectionIndex>,
    ) -> &mut Vec<u8> {
        if self.filling.is_empty() && self.spare.is_some() {
            ready.push(index);
        }
        &mut self.filling
    }

    /// Takes what waits to be sent; the caller sends it and brings the buffer to
    /// [`sent`](Self::sent).
    pub(super) fn start_sending(&mut self) -> Option<Vec<u8>> {
        if self.filling.is_empty() || !self.is_connected() {
            return None;
        }
        let spare = self.spare.take()?;
        self.operation_started();
        Some(std::mem::replace(&mut self.filling, spare))
    }

    /// A send ended.
    pub(super) fn sent(
        &mut self,
        mut buffer: Vec<u8>,
        index: ConnectionIndex,
        ready: &mut Vec<ConnectionIndex>,
    ) {
        buffer.clear();
        self.spare = Some(buffer);
        self.operation_ended();
        if !self.filling.is_empty() {
            ready.push(index);
        }
    }

    /// The server greeted back.
    pub(super) const fn greeted(&mut self) {
        self.phase = Phase::Live;
        self.attempts = 0;
    }

    /// Ends it: every operation that is in flight completes soon.
    pub(super) fn close(&mut self) {
        self.phase = Phase::Closing;
        self.filling.clear();
        self.inbound.clear();
        if let Some(socket) = &self.socket {
            net::shutdown(socket);
        }
    }

    /// The ring has let go of a broken connection: it pauses before it connects again.
    pub(super) fn rest(&mut self, now: Nanos) {
        assert!(self.is_unused(), "the socket is still in use");
        self.socket = None;
        let pause = BACKOFF_MIN.saturating_mul(1 << self.attempts.min(16)).min(BACKOFF_MAX);
        self.attempts += 1;
        self.phase = Phase::Away { until: now.after(pause) };
    }
}

/// Frames out of a stream of bytes that is cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// The start of a frame whose end has not come; shorter than one frame between calls.
    partial: Vec<u8>,
}

impl Inbound {
    /// Gives each whole frame to `take`. Bytes of whole frames are not copied unless the first
    /// of them began earlier.
    pub(super) fn feed<E: From<DecodeError>>(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(&Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.partial.is_empty() {
            let used = take_frames(bytes, &mut take)?;
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            self.partial.extend_from_slice(bytes);
            let used = take_frames(&self.partial, &mut take)?;
            self.partial.drain(..used);
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.partial.clear();
    }
}

fn take_frames<E: From<DecodeError>>(
    bytes: &[u8],
    take: &mut impl FnMut(&Frame<'_>) -> Result<(), E>,
) -> Result<usize, E> {
    let mut used = 0;
    while let Some(frame) = frame(&bytes[used..])? {
        take(&frame)?;
        used += frame.len;
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Refusal;
    use crate::protocol::binary::encode_refusal;

    fn stream(frames: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        (0..frames).for_each(|n| encode_refusal(&mut bytes, n, Refusal::SoldOut));
        bytes
    }

    fn correlations(inbound: &mut Inbound, bytes: &[u8]) -> Result<Vec<u64>, DecodeError> {
        let mut seen = Vec::new();
        inbound.feed::<DecodeError>(bytes, |frame| {
            seen.push(frame.correlation);
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn frames_come_out_wherever_the_stream_is_cut() {
        let bytes = stream(4);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut inbound = Inbound::default();
                let mut seen = Vec::new();
                for part in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    seen.extend(correlations(&mut inbound, part).expect("sound frames"));
                }
                assert_eq!(seen, [0, 1, 2, 3], "cut at {first} and {second}");
                assert!(inbound.partial.is_empty());
            }
        }
    }

    #[test]
    fn damage_is_seen_behind_sound_frames() {
        let mut bytes = stream(3);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(correlations(&mut Inbound::default(), &bytes).is_err());
    }

    #[test]
    fn each_pause_is_longer_up_to_a_bound_until_a_greeting() {
        let mut connection = Connection::new();
        let mut pause = || {
            connection.rest(Nanos(0));
            let Phase::Away { until } = connection.phase else { panic!("it is not away") };
            until.0
        };
        let pauses: Vec<_> = (0..8).map(|_| pause() / 1_000_000).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 200, 200]);
        connection.greeted();
        connection.rest(Nanos(0));
        assert_eq!(connection.phase, Phase::Away { until: Nanos(5_000_000) });
    }
}
