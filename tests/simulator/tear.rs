//! What a write leaves that was cut off: any of its pieces, in any order; and one that came short.
//!
//! A disk promises nothing about a write that has not ended. What it takes over as a whole may be
//! a sector, a page or a line of some cache, so the size of the pieces is drawn for each write.
//! Each piece is lost, or is there, or holds bytes of an earlier write.

use crate::random::Random;

/// The pieces in which a write may arrive.
const PIECE_BYTES: [usize; 4] = [16, 64, 512, 4096];

/// How the pieces of one write fare.
#[derive(Clone, Copy)]
enum Fate {
    AllLost,
    AllThere,
    First,
    Last,
    Any,
    AnyOrStale,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Nothing,
    Part,
    All,
}

/// Replaces pieces of `disk` by those of `bytes`, or by some of `stale` where there is any.
///
/// Only what the write changes is torn. (Other bytes in the padding of a frame are damage by the
/// rules of the log: no torn write leaves a whole frame with more behind it.) Stale bytes come
/// from the middle of a frame, so that no block begins with the head of an earlier one: a whole
/// frame in a wrong place is a misdirected write, which is another fault.
pub fn tear(disk: &mut [u8], bytes: &[u8], stale: &[u8], random: &mut Random) -> Left {
    let changed = disk.iter().zip(bytes).rposition(|(old, new)| old != new);
    let used = changed.map_or(0, |last| last + 1);
    let piece_bytes = *random.pick(&PIECE_BYTES);
    let pieces = used.div_ceil(piece_bytes);
    let split = random.index(pieces + 1);
    let fates = [Fate::AllLost, Fate::AllThere, Fate::First, Fate::Last, Fate::Any];
    let fate = if random.chance(400) { Fate::AnyOrStale } else { *random.pick(&fates) };
    let old = disk[..used].to_vec();
    for piece in 0..pieces {
        let place = piece * piece_bytes..used.min((piece + 1) * piece_bytes);
        let is_stale = matches!(fate, Fate::AnyOrStale) && random.chance(300);
        let is_there = match fate {
            Fate::AllLost => false,
            Fate::AllThere => true,
            Fate::First => piece < split,
            Fate::Last => piece >= split,
            Fate::Any | Fate::AnyOrStale => random.chance(500),
        };
        if is_stale && !stale.is_empty() {
            let from = random.index(stale.len());
            let old = stale[from..].iter().chain(stale.iter().cycle());
            disk[place].iter_mut().zip(old).for_each(|(byte, old)| *byte = *old);
        } else if is_there {
            disk[place.clone()].copy_from_slice(&bytes[place]);
        }
    }
    left(disk, bytes, &old)
}

/// Leaves the first `len` bytes of a write, and nothing behind them.
pub fn cut(disk: &mut [u8], bytes: &[u8], len: usize) -> Left {
    let old = disk.to_vec();
    disk[..len].copy_from_slice(&bytes[..len]);
    left(disk, bytes, &old)
}

/// What became of the write of `bytes`, where its first bytes replaced `old`.
fn left(disk: &[u8], bytes: &[u8], old: &[u8]) -> Left {
    if disk == bytes {
        Left::All
    } else if disk.starts_with(old) {
        Left::Nothing
    } else {
        Left::Part
    }
}

/// Every size of pieces and every fate of one comes up, and nothing but the pieces changes.
#[test]
fn every_way_to_tear_comes_up() {
    let mut random = Random::new(1);
    let (old, mut new) = (vec![0; 8192], vec![1; 8192]);
    new[6000..].fill(0);
    let mut lefts = [0; 3];
    let mut edges = std::collections::BTreeSet::new();
    let mut is_stale = false;
    for _ in 0..2_000 {
        let mut disk = old.clone();
        lefts[tear(&mut disk, &new, &[2, 3], &mut random) as usize] += 1;
        assert_eq!(disk[6000..], old[6000..], "what it leaves as it was is not torn");
        is_stale |= disk.contains(&3);
        let changes = disk[..6000]
            .windows(2)
            .enumerate()
            .filter(|(_, pair)| pair[0] != pair[1] && pair.iter().all(|byte| *byte < 2));
        edges.extend(changes.map(|(at, _)| (at + 1).trailing_zeros().min(12)));
    }
    let mut disk = old.clone();
    assert_eq!(cut(&mut disk, &new, 0), Left::Nothing);
    assert_eq!(cut(&mut disk, &new, 4096), Left::Part);
    assert_eq!((disk[4095], disk[4096]), (1, 0));
    assert_eq!(cut(&mut disk, &new, 6144), Left::All, "what lies behind was to stay as it was");
    assert!(lefts.iter().all(|count| *count > 100), "{lefts:?}");
    assert!(is_stale);
    assert!(edges.first() == Some(&4) && edges.last() == Some(&12), "{edges:?}");
}
