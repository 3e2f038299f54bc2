//! Fresh request ids.

use std::hash::{BuildHasher, RandomState};

use crate::model::RequestId;

/// Makes request ids that no other generator makes: a random start of 128 bits, then one by one.
///
/// The start is the output of a keyed hash whose key the standard library takes from the
/// operating system. A process that forks makes a new generator afterwards.
#[derive(Clone, Debug)]
pub struct RequestIds {
    next: u128,
}

impl RequestIds {
    /// A generator with a start of its own.
    #[must_use]
    pub fn new() -> Self {
        let random = || u128::from(RandomState::new().hash_one(0_u64));
        Self { next: random() << 64 | random() }
    }

    /// The next id: one per intent, kept for every retry of it.
    pub const fn next_id(&mut self) -> RequestId {
        let id = RequestId(self.next);
        self.next = self.next.wrapping_add(1);
        id
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_ids_are_the_same() {
        let mut ids: Vec<RequestId> = (0..100)
            .flat_map(|_| {
                let mut generator = RequestIds::new();
                [generator.next_id(), generator.next_id(), generator.next_id()]
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 300);
    }
}
