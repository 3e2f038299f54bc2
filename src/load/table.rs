//! The requests in flight, by correlation id, and which connection may send next.
//!
//! Connection `c` owns `pipeline` slots from `c × pipeline` on, so what a broken connection
//! leaves behind is found without a search. Free slots wait in one queue over all connections:
//! the one that was free for longest is next, which spreads requests evenly. Nothing here
//! allocates after the start.
//!
//! ```text
//! correlation id   generation u32 ‖ slot u32
//! ```
//!
//! The generation changes each time a slot is taken, so an answer that comes twice, or to a
//! request of a connection that is gone, finds nothing.

use std::collections::VecDeque;

use super::{ConnectionIndex, Nanos, Tag};

/// A request that has no answer yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The script's word for it.
    pub tag: Tag,
    /// When it was meant to leave.
    pub intended: Nanos,
    /// When it left.
    pub sent: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its connection does not live.
    Closed,
    Free,
    Taken(Pending),
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    generation: u32,
    state: State,
    /// Whether the slot waits in the queue; also while its connection is away.
    queued: bool,
}

/// The slots of all connections of one driver.
#[derive(Debug)]
pub struct Table {
    slots: Vec<Slot>,
    free: VecDeque<u32>,
    pipeline: usize,
    taken: usize,
}

impl Table {
    /// `pipeline` slots for each of `connections`, all of them closed.
    #[must_use]
    pub fn new(connections: usize, pipeline: usize) -> Self {
        let slots = connections * pipeline;
        assert!(u32::try_from(slots).is_ok_and(|slots| slots > 0), "slots have 32-bit numbers");
        Self {
            slots: vec![Slot { generation: 0, state: State::Closed, queued: false }; slots],
            free: VecDeque::with_capacity(slots),
            pipeline,
            taken: 0,
        }
    }

    /// How many requests have no answer yet.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.taken
    }

    /// A connection lives: its slots may be taken.
    pub fn open(&mut self, connection: ConnectionIndex) {
        for index in self.slots_of(connection) {
            let slot = &mut self.slots[index];
            slot.state = State::Free;
            if !slot.queued {
                slot.queued = true;
                self.free.push_back(index as u32);
            }
        }
    }

    /// A connection is gone, and `lost` gets what it had in flight.
    pub fn close(&mut self, connection: ConnectionIndex, mut lost: impl FnMut(Pending)) {
        for index in self.slots_of(connection) {
            let state = std::mem::replace(&mut self.slots[index].state, State::Closed);
            if let State::Taken(pending) = state {
                self.taken -= 1;
                lost(pending);
            }
        }
    }

    /// The connection that may send next.
    #[inline]
    pub fn next_free(&mut self) -> Option<ConnectionIndex> {
        loop {
            let index = *self.free.front()? as usize;
            if self.slots[index].state == State::Free {
                return Some(self.connection_of(index));
            }
            self.slots[index].queued = false;
            self.free.pop_front();
        }
    }

    /// Takes the slot of [`next_free`](Self::next_free), and gives the request its correlation id.
    #[inline]
    pub fn take(&mut self, pending: Pending) -> u64 {
        let index = self.free.pop_front().expect("`next_free` found a slot");
        let slot = &mut self.slots[index as usize];
        assert_eq!(slot.state, State::Free, "`next_free` found a slot");
        slot.queued = false;
        slot.state = State::Taken(pending);
        slot.generation = slot.generation.wrapping_add(1);
        self.taken += 1;
        u64::from(slot.generation) << 32 | u64::from(index)
    }

    /// The request that `connection` answers; `None` where it has none of that id in flight.
    #[inline]
    pub fn settle(&mut self, connection: ConnectionIndex, correlation: u64) -> Option<Pending> {
        let index = correlation as u32 as usize;
        if !self.slots_of(connection).contains(&index) {
            return None;
        }
        let slot = &mut self.slots[index];
        let State::Taken(pending) = slot.state else { return None };
        if slot.generation != (correlation >> 32) as u32 {
            return None;
        }
        slot.state = State::Free;
        slot.queued = true;
        self.free.push_back(index as u32);
        self.taken -= 1;
        Some(pending)
    }

    fn connection_of(&self, slot: usize) -> ConnectionIndex {
        ConnectionIndex((slot / self.pipeline) as u32)
    }

    fn slots_of(&self, connection: ConnectionIndex) -> std::ops::Range<usize> {
        let start = connection.0 as usize * self.pipeline;
        start..start + self.pipeline
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    fn pending(n: u64) -> Pending {
        Pending { tag: Tag(n), intended: Nanos(n * 10), sent: Nanos(n * 10 + 1) }
    }

    const A: ConnectionIndex = ConnectionIndex(0);
    const B: ConnectionIndex = ConnectionIndex(1);

    #[test]
    fn an_answer_finds_its_request_once_and_on_its_own_connection() {
        let mut table = Table::new(2, 1);
        assert_eq!(table.next_free(), None, "closed connections send nothing");
        table.open(A);
        table.open(B);
        assert_eq!(table.next_free(), Some(A));
        let first = table.take(pending(1));
        assert_eq!(table.next_free(), Some(B));
        assert_eq!(table.settle(B, first), None, "another connection's answer");
        assert_eq!(table.settle(A, first), Some(pending(1)));
        assert_eq!(table.settle(A, first), None, "a second answer");
        assert_eq!(table.settle(A, u64::MAX), None, "an id that was never given");
        let second = table.take(pending(2));
        assert_eq!(table.settle(B, second), Some(pending(2)));
        assert_eq!(table.next_free(), Some(A));
        let third = table.take(pending(3));
        assert_ne!(first, third, "an id is not given again");
        assert_eq!(table.settle(A, first), None, "a late answer to an older request");
        assert_eq!(table.in_flight(), 1);
    }

    #[test]
    fn a_broken_connection_gives_up_what_it_had() {
        let mut table = Table::new(2, 2);
        table.open(A);
        let ids = [1, 2].map(|n| {
            assert_eq!(table.next_free(), Some(A));
            table.take(pending(n))
        });
        assert_eq!(table.next_free(), None, "the pipeline is full");
        table.settle(A, ids[0]).expect("in flight");
        let mut lost = Vec::new();
        table.close(A, |pending| lost.push(pending));
        assert_eq!((lost, table.in_flight()), (vec![pending(2)], 0));
        assert_eq!(table.next_free(), None);
        table.open(A);
        assert_eq!(table.settle(A, ids[1]), None, "an answer to a lost request");
        assert_eq!(table.next_free(), Some(A));
    }

    proptest! {
        /// Against a plain map: whatever happens, a request is answered once or lost once, and
        /// each slot is offered as long as it is free.
        #[test]
        fn it_agrees_with_a_map(
            steps in prop::collection::vec((0_u8..8, 0_u32..3, any::<Index>()), 0..400),
        ) {
            const PIPELINE: usize = 2;
            let mut table = Table::new(3, PIPELINE);
            let mut live = [false; 3];
            let mut model: HashMap<u64, (ConnectionIndex, Pending)> = HashMap::new();
            for (n, (step, connection, pick)) in steps.into_iter().enumerate() {
                let connection = ConnectionIndex(connection);
                let up = &mut live[connection.0 as usize];
                match step {
                    0 if !*up => { table.open(connection); *up = true; }
                    1 if *up => {
                        let mut lost = 0;
                        table.close(connection, |_| lost += 1);
                        let before = model.len();
                        model.retain(|_, (owner, _)| *owner != connection);
                        prop_assert_eq!(lost, before - model.len());
                        *up = false;
                    }
                    2..5 => if let Some(owner) = table.next_free() {
                        prop_assert!(live[owner.0 as usize]);
                        let pending = pending(n as u64);
                        prop_assert!(model.insert(table.take(pending), (owner, pending)).is_none());
                    },
                    5..8 if !model.is_empty() => {
                        let mut ids: Vec<u64> = model.keys().copied().collect();
                        ids.sort_unstable();
                        let id = *pick.get(&ids);
                        let (owner, pending) = model.remove(&id).expect("picked from it");
                        prop_assert_eq!(table.settle(owner, id), Some(pending));
                    }
                    _ => {}
                }
                let slots = live.iter().filter(|live| **live).count() * PIPELINE;
                prop_assert_eq!(table.in_flight(), model.len());
                prop_assert_eq!(table.next_free().is_some(), model.len() < slots);
                prop_assert!(table.free.len() <= table.slots.len());
            }
        }
    }
}
