//! What the control plane asks of a shard: commands and queries that came on no connection.
//!
//! They are judged, logged and answered by the very rules of every other request: an answer waits
//! for the disk, and a stopping shard refuses. They are taken where the log has room, at most
//! [`ASKS_MAX`] of them wait, and the control plane counts them; so nothing is ever dropped.

use std::collections::VecDeque;

use super::commit::Destination;
use super::form::Form;
use super::mail::{Frames, SentAsk};
use super::service::Service;
use crate::model::Refusal;

/// Asks of one shard that may be unanswered. The control plane keeps to it.
pub const ASKS_MAX: usize = 16;

/// One ask, over all time: chosen by the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AskId(pub u64);

/// Asks that wait for room in the log, and answers that wait to be reported.
#[derive(Debug, Default)]
pub(super) struct Asks {
    waiting: VecDeque<(AskId, Box<SentAsk>)>,
    pub(super) answered: VecDeque<(AskId, Frames)>,
}

impl Asks {
    /// Whether there is no ask to be judged.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether every ask that was judged is also reported, and none is to be judged.
    pub(super) fn is_done(&self) -> bool {
        self.is_empty() && self.answered.is_empty()
    }
}

impl Service {
    /// The control plane asks something.
    ///
    /// # Panics
    ///
    /// Where it has more than [`ASKS_MAX`] under way.
    pub fn handle_ask(&mut self, id: AskId, ask: Box<SentAsk>) {
        assert!(self.asks.waiting.len() < ASKS_MAX, "the control plane bounds what it asks");
        self.asks.waiting.push_back((id, ask));
    }

    /// Judges what was asked, as far as the log has room.
    pub(super) fn take_asks(&mut self) {
        while self.log.has_room() {
            let Some((id, ask)) = self.asks.waiting.pop_front() else { return };
            let (to, form) = (Destination::Control(id), Form::Binary { correlation: id.0 });
            if self.draining {
                self.refuse_at(to, form, Refusal::Draining);
            } else {
                self.execute(to, form, ask.as_ask());
            }
        }
    }

    /// The next answer for the control plane: an encoded frame, whose correlation id is the
    /// ask's.
    pub fn poll_answered(&mut self) -> Option<(AskId, Frames)> {
        self.asks.answered.pop_front()
    }
}
