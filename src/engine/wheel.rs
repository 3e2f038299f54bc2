//! The deadlines of live holds: a hierarchical timing wheel.
//!
//! After Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987). Level `l` has 64
//! slots of 64^l milliseconds. A timer lies at the level of the highest bit in which its deadline
//! differs from the wheel's time; when the wheel's time reaches a slot above level 0, its timers
//! cascade to lower levels. A bitmap per level finds the next slot, so the wheel leaps over any
//! stretch of time without looking at empty slots.
//!
//! Timers are removed at once when their hold ends, and their memory is used again, so the wheel
//! is as large as the most holds that ever lived at once. Starting, moving and removing a timer
//! take constant time; [`Wheel::poll`] cascades at most [`CASCADES_PER_POLL`] timers per call.
//!
//! A live order gives its timer number in place of its own `kept` value (see `orders`), and gets
//! it back when the timer is removed.

use super::arena::Arena;
use crate::model::Refusal;
use crate::model::sale::HOLD_TTL_MAX;

/// Timers that one call of [`Wheel::poll`] moves down at most.
pub(super) const CASCADES_PER_POLL: u32 = 64;

/// Deadlines fit this many bits: milliseconds until the year 10889.
pub(super) const DEADLINE_BITS: u32 = 48;
/// The last deadline.
pub(super) const DEADLINE_MAX: u64 = (1 << DEADLINE_BITS) - 1;

const LEVEL_BITS: u32 = 6;
const SLOTS: usize = 1 << LEVEL_BITS;
const LEVELS: usize = (DEADLINE_BITS / LEVEL_BITS) as usize;
const _: () = assert!(LEVELS as u32 * LEVEL_BITS == DEADLINE_BITS);

/// No timer.
const NONE: u32 = u32::MAX;
/// Set in `Timer::before` where no timer is before this one: the rest is the list's number.
const FIRST: u32 = 1 << 31;

/// A running timer. While it is free, only `after` has a meaning: the next free one.
struct Timer {
    deadline: u64,
    kept: u64,
    sale: u32,
    order: u32,
    before: u32,
    after: u32,
}

/// See the module.
pub(super) struct Wheel {
    /// No timer's slot lies before this time.
    time: u64,
    occupied: [u64; LEVELS],
    /// The first timer of each slot's list, level by level.
    lists: [u32; LEVELS * SLOTS],
    timers: Arena<Timer>,
    free: u32,
    running: u32,
}

/// A hold whose time is up: its sale's row and its order's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) sale: u32,
    pub(super) order: u32,
}

impl Wheel {
    pub(super) const fn new() -> Self {
        Self {
            time: 0,
            occupied: [0; LEVELS],
            lists: [NONE; LEVELS * SLOTS],
            timers: Arena::new(),
            free: NONE,
            running: 0,
        }
    }

    /// How many timers run.
    pub(super) const fn running(&self) -> u64 {
        self.running as u64
    }

    /// One more timer can run.
    pub(super) const fn check_room(&self) -> Result<(), Refusal> {
        if self.running < FIRST { Ok(()) } else { Err(Refusal::Overloaded) }
    }

    /// Starts a timer and returns its number.
    pub(super) fn start(&mut self, deadline: u64, kept: u64, hold: Due) -> u32 {
        assert!(deadline <= DEADLINE_MAX, "a deadline fits {DEADLINE_BITS} bits");
        let Due { sale, order } = hold;
        let timer = Timer { deadline, kept, sale, order, before: NONE, after: NONE };
        let number = if self.free == NONE {
            self.timers.push(timer)
        } else {
            let number = self.free;
            let slot = self.timers.at_mut(number);
            self.free = slot.after;
            *slot = timer;
            number
        };
        assert!(number < FIRST, "the number of timers fits 31 bits");
        self.running += 1;
        self.link(number);
        number
    }

    /// Moves a running timer to another deadline and hands it another value to keep.
    pub(super) fn restart(&mut self, number: u32, deadline: u64, kept: u64) {
        assert!(deadline <= DEADLINE_MAX, "a deadline fits {DEADLINE_BITS} bits");
        self.unlink(number);
        let timer = self.timers.at_mut(number);
        timer.deadline = deadline;
        timer.kept = kept;
        self.link(number);
    }

    /// Ends a running timer and gives back what it kept.
    pub(super) fn stop(&mut self, number: u32) -> u64 {
        self.unlink(number);
        self.running -= 1;
        let free = std::mem::replace(&mut self.free, number);
        let timer = self.timers.at_mut(number);
        timer.after = free;
        timer.kept
    }

    /// When a running timer is up.
    pub(super) fn deadline(&self, number: u32) -> u64 {
        self.timers.at(number).deadline
    }

    /// What a running timer keeps.
    pub(super) fn kept(&self, number: u32) -> u64 {
        self.timers.at(number).kept
    }

    /// A timer that is up at `now`; it stays until it is stopped. `None` where no timer is up or
    /// where the call has done its share: then [`Wheel::next`] is not later than `now`.
    pub(super) fn poll(&mut self, now: u64) -> Option<Due> {
        let now = now.min(DEADLINE_MAX);
        for _ in 0..=CASCADES_PER_POLL {
            let Some((level, slot, start)) = self.next_slot().filter(|next| next.2 <= now) else {
                self.time = self.time.max(now);
                return None;
            };
            self.time = self.time.max(start);
            let first = self.lists[level * SLOTS + slot];
            if level == 0 {
                let timer = self.timers.at(first);
                return Some(Due { sale: timer.sale, order: timer.order });
            }
            self.unlink(first);
            self.link(first);
        }
        None
    }

    /// The time at which `poll` next has something to do.
    pub(super) fn next(&self) -> Option<u64> {
        self.next_slot().map(|(_, _, start)| start)
    }

    /// The occupied slot that starts first: its level, its number and its start.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let mut next: Option<(usize, usize, u64)> = None;
        for (level, &occupied) in self.occupied.iter().enumerate() {
            // Behind the wheel's time no slot is occupied, so the lowest bit is the next slot.
            if occupied != 0 {
                let slot = occupied.trailing_zeros() as usize;
                let shift = level as u32 * LEVEL_BITS;
                let round = self.time >> (shift + LEVEL_BITS) << (shift + LEVEL_BITS);
                let start = round | (slot as u64) << shift;
                if next.is_none_or(|(_, _, earlier)| start < earlier) {
                    next = Some((level, slot, start));
                }
            }
        }
        next
    }

    /// Puts a timer first in the list of its slot.
    fn link(&mut self, number: u32) {
        if self.running == 1 {
            self.leap(self.timers.at(number).deadline);
        }
        // A deadline in the past is up at once: it lies in the slot of the wheel's time.
        let deadline = self.timers.at(number).deadline.max(self.time);
        let highest_difference = ((deadline ^ self.time) | 1).ilog2();
        let level = (highest_difference / LEVEL_BITS) as usize;
        let slot = (deadline >> (level as u32 * LEVEL_BITS)) as usize % SLOTS;
        let list = level * SLOTS + slot;

        let first = std::mem::replace(&mut self.lists[list], number);
        if first != NONE {
            self.timers.at_mut(first).before = number;
        }
        let timer = self.timers.at_mut(number);
        timer.before = FIRST | list as u32;
        timer.after = first;
        self.occupied[level] |= 1 << slot;
    }

    /// Takes a timer out of the list of its slot.
    fn unlink(&mut self, number: u32) {
        let &Timer { before, after, .. } = self.timers.at(number);
        if after != NONE {
            self.timers.at_mut(after).before = before;
        }
        if before & FIRST == 0 {
            self.timers.at_mut(before).after = after;
            return;
        }
        let list = (before & !FIRST) as usize;
        self.lists[list] = after;
        if after == NONE {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }

    /// Moves the time of a wheel without another timer near `deadline`, so that a wheel whose
    /// time began at zero does not cascade through half a century.
    fn leap(&mut self, deadline: u64) {
        let hold_ttl_max = u64::from(HOLD_TTL_MAX.0);
        self.time = self.time.max(deadline.saturating_sub(hold_ttl_max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const BASE: u64 = 1_800_000_000_000;

    fn hold(order: u32) -> Due {
        Due { sale: 0, order }
    }

    /// Polls and stops until nothing is due at `now`, and returns the orders.
    fn drain(wheel: &mut Wheel, numbers: &mut BTreeMap<u32, (u32, u64)>, now: u64) -> Vec<u32> {
        let mut orders = Vec::new();
        while wheel.next().is_some_and(|next| next <= now) {
            if let Some(due) = wheel.poll(now) {
                let (number, kept) = numbers.remove(&due.order).expect("a running timer");
                assert_eq!(wheel.stop(number), kept);
                orders.push(due.order);
            }
        }
        orders.sort_unstable();
        orders
    }

    #[test]
    fn a_timer_is_due_at_its_deadline_and_not_before() {
        for ttl in [0, 1, 63, 64, 65, 4_095, 4_096, 600_000, 604_800_000] {
            let mut wheel = Wheel::new();
            wheel.poll(BASE);
            let deadline = BASE + ttl;
            let number = wheel.start(deadline, 9, hold(1));
            if ttl > 0 {
                assert_eq!(wheel.poll(deadline - 1), None);
            }
            assert!(wheel.next().expect("a timer runs") <= deadline);
            let mut numbers = BTreeMap::from([(1, (number, 9))]);
            assert_eq!(drain(&mut wheel, &mut numbers, deadline), [1], "ttl {ttl}");
            assert_eq!(wheel.next(), None);
        }
    }

    #[test]
    fn polling_gives_the_same_timer_until_it_is_stopped() {
        let mut wheel = Wheel::new();
        let number = wheel.start(BASE, 0, hold(3));
        assert_eq!(wheel.poll(BASE), Some(hold(3)));
        assert_eq!(wheel.poll(BASE + 10_000_000), Some(hold(3)));
        wheel.stop(number);
        assert_eq!(wheel.poll(BASE + 10_000_000), None);
    }

    #[test]
    fn a_leap_over_a_week_finds_every_timer() {
        let mut wheel = Wheel::new();
        let mut numbers = BTreeMap::new();
        for order in 0..10_000 {
            let deadline = BASE + 1_000 + u64::from(order) * 60_000;
            numbers.insert(order, (wheel.start(deadline, order.into(), hold(order)), order.into()));
        }
        let due = drain(&mut wheel, &mut numbers, BASE + 604_800_000);
        assert_eq!(due, (0..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn one_call_moves_a_bounded_number_of_timers() {
        let mut wheel = Wheel::new();
        wheel.poll(BASE);
        for order in 0..10_000 {
            wheel.start(BASE + 5_000, 0, hold(order));
        }
        let calls = (0..10_001).take_while(|_| wheel.poll(BASE + 5_000).is_none()).count();
        assert!(calls >= 10_000 / (CASCADES_PER_POLL as usize + 1), "{calls} calls");
    }

    #[test]
    fn stopped_timers_give_their_memory_back() {
        let mut wheel = Wheel::new();
        for order in 0..10_000 {
            let kept = wheel.start(BASE + u64::from(order), 0, hold(order));
            let stopped = wheel.start(BASE + 7 * u64::from(order), 5, hold(order));
            assert_eq!(wheel.stop(stopped), 5);
            wheel.restart(kept, BASE + 1, 6);
            assert_eq!((wheel.deadline(kept), wheel.stop(kept)), (BASE + 1, 6));
        }
        assert_eq!(wheel.timers.len(), 2);
        assert_eq!(wheel.next(), None);
    }

    /// Timers that start, move, stop and fall due in a pseudo-random order against a map.
    #[test]
    fn the_wheel_agrees_with_a_sorted_map() {
        let (mut state, mut now) = (0x5eed_u64, BASE);
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let mut wheel = Wheel::new();
        let (mut numbers, mut deadlines) = (BTreeMap::new(), BTreeMap::new());
        for order in 0..20_000_u32 {
            let deadline = now + 1 + random(1 << 29) % (1 << (order % 30));
            numbers.insert(order, (wheel.start(deadline, 1, hold(order)), 1));
            deadlines.insert(order, deadline);
            if random(3) == 0 {
                let other = random(u64::from(order) + 1) as u32;
                if let Some(entry) = numbers.get_mut(&other) {
                    let deadline = now + 1 + random(1 << 29) % (1 << (order % 30));
                    wheel.restart(entry.0, deadline, 2);
                    entry.1 = 2;
                    deadlines.insert(other, deadline);
                }
            }
            if random(5) == 0 {
                now += random(1 << 24) % (1 << (order % 25));
                let due = drain(&mut wheel, &mut numbers, now);
                let expected: Vec<u32> = deadlines
                    .iter()
                    .filter(|entry| *entry.1 <= now)
                    .map(|entry| *entry.0)
                    .collect();
                deadlines.retain(|_, deadline| *deadline > now);
                assert_eq!(due, expected);
                let first = deadlines.values().min().copied();
                assert!(wheel.next() <= first || first.is_none());
            }
        }
    }
}
