//! Building an index for rows that are all there: much faster than row by row.
//!
//! Row by row, each insertion of a large index begins with a read that misses every cache, and
//! partitions fill up and split again and again. Here the entries are divided by the leading bits
//! of their hashes first, in two passes that each write to few enough places to stay in the
//! caches; then every partition is filled where it lies, front to back. Rows that come to an index
//! all at once are divided in the same way, and inserted one partition after the other.

use super::{DEPTH_MAX, ENTRIES_PER_PAGE, Filling, HALF_SLACK, PAGES_MAX, Partition, RowIndex};
use crate::engine::arena::Arena;

/// Entries per partition on average at most: a partition that is as full grows by splitting, soon.
/// There is room for 3,584, so that hashes spread evenly fit; those that do not are inserted
/// afterwards.
const ENTRIES_PER_PARTITION: usize = 2_560;

/// The hash bits of the first pass: the places that a core can write to side by side.
const FIRST_PASS_BITS: u32 = 8;

/// A row and the hash of its key.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Entry(u64);

impl Entry {
    #[inline]
    pub(in crate::engine) const fn new(hash: u32, row: u32) -> Self {
        Self((hash as u64) << 32 | row as u64)
    }

    const fn hash(self) -> u32 {
        (self.0 >> 32) as u32
    }

    const fn row(self) -> u32 {
        self.0 as u32
    }

    /// `bits` of the hash, behind the first `skipped` ones.
    #[inline]
    const fn digit(self, skipped: u32, bits: u32) -> usize {
        // In two steps: all 64 bits cannot be shifted out at once.
        (((self.0 << skipped) >> 1) >> (63 - bits)) as usize
    }
}

impl RowIndex {
    /// The index of these entries, whose keys all differ.
    pub(in crate::engine) fn build(mut entries: Vec<Entry>) -> Self {
        let depth = depth(entries.len());
        if depth == 0 {
            let mut index = Self::new();
            for entry in entries {
                index.insert(entry.hash(), entry.row());
            }
            return index;
        }
        let mut index = Self {
            directory: (0..1 << depth).collect(),
            depth,
            partitions: Vec::with_capacity(1 << depth),
            pages: Arena::new(),
        };
        let mut rest = Vec::new();
        let mut start = 0;
        for end in group(&mut entries, depth) {
            index.push_partition(&entries[start..end], &mut rest);
            start = end;
        }
        for entry in rest {
            index.insert(entry.hash(), entry.row());
        }
        index
    }

    /// Adds these entries, whose keys all differ and are not in the index yet.
    pub(in crate::engine) fn insert_all(&mut self, mut entries: Vec<Entry>) {
        if self.is_empty() {
            *self = Self::build(entries);
            return;
        }
        // A partition is read once for all of its entries; for few it does not pay.
        if entries.len() > self.directory.len() {
            group(&mut entries, self.depth);
        }
        for entry in entries {
            self.insert(entry.hash(), entry.row());
        }
    }

    /// Adds the next partition with as many of these entries as it holds; the others go to `rest`.
    fn push_partition(&mut self, group: &[Entry], rest: &mut Vec<Entry>) {
        let page_count = (group.len() + HALF_SLACK).div_ceil(ENTRIES_PER_PAGE as usize);
        let page_count = page_count.min(PAGES_MAX);
        let own = group.len().min(page_count * ENTRIES_PER_PAGE as usize);
        rest.extend_from_slice(&group[own..]);
        let mut partition = Partition {
            pages: [0; PAGES_MAX],
            page_count: page_count as u8,
            depth: self.depth as u8,
            entries: 0,
        };
        for page in &mut partition.pages[..page_count] {
            *page = self.new_page();
        }
        let mut filling = Filling::new(partition);
        for entry in &group[..own] {
            filling.push(entry.hash(), entry.row());
        }
        let number = self.partitions.len() as u32;
        self.partitions.push(partition);
        self.store(number, &mut filling);
    }
}

/// How many hash bits divide so many entries.
fn depth(entries: usize) -> u32 {
    let partitions = entries.div_ceil(ENTRIES_PER_PARTITION).max(1);
    partitions.next_power_of_two().ilog2().min(DEPTH_MAX)
}

/// Puts entries into the order of the first `depth` bits of their hashes, and returns where each
/// group with the same ones ends.
fn group(entries: &mut [Entry], depth: u32) -> Vec<usize> {
    let first_bits = depth.min(FIRST_PASS_BITS);
    let mut divided = vec![Entry(0); entries.len()];
    let mut ends = Vec::with_capacity(1 << depth);
    let mut start = 0;
    for end in divide(entries, &mut divided, 0, first_bits) {
        let (from, into) = (&divided[start..end], &mut entries[start..end]);
        let second = divide(from, into, first_bits, depth - first_bits);
        ends.extend(second.into_iter().map(|end| start + end));
        start = end;
    }
    ends
}

/// Writes `from` into `into`, divided by `bits` of the hashes behind the first `skipped` ones, and
/// returns where each group ends.
fn divide(from: &[Entry], into: &mut [Entry], skipped: u32, bits: u32) -> Vec<usize> {
    let mut ends = vec![0; 1 << bits];
    for entry in from {
        ends[entry.digit(skipped, bits)] += 1;
    }
    let mut next = 0;
    for end in &mut ends {
        // Until the group is written this is where its next entry goes.
        next += std::mem::replace(end, next);
    }
    for &entry in from {
        let place = &mut ends[entry.digit(skipped, bits)];
        into[*place] = entry;
        *place += 1;
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::super::{BUCKETS_PER_PAGE, SLOTS_PER_BUCKET};
    use super::*;

    fn hash_of(row: u32) -> u32 {
        let mixed = u64::from(row + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) as u32
    }

    fn check(rows: u32, hash_of: impl Fn(u32) -> u32) {
        let mut index =
            RowIndex::build((0..rows).map(|row| Entry::new(hash_of(row), row)).collect());
        for row in 0..rows {
            assert_eq!(index.find(hash_of(row), |found| found == row), Some(row), "of {rows}");
        }
        // It goes on like any other index.
        for row in rows..rows + 2_000 {
            assert_eq!(index.find(hash_of(row), |found| found == row), None);
            index.insert(hash_of(row), row);
        }
        for row in 0..rows + 2_000 {
            assert_eq!(index.find(hash_of(row), |found| found == row), Some(row), "of {rows}");
        }
    }

    #[test]
    fn every_row_is_found_at_every_size() {
        for rows in [0, 1, 2_559, 2_560, 2_561, 5_120, 5_121, 100_000, 400_000] {
            check(rows, hash_of);
        }
    }

    #[test]
    fn whatever_is_added_at_once_is_found() {
        let entries = |rows: std::ops::Range<u32>| rows.map(|row| Entry::new(hash_of(row), row));
        let mut index = RowIndex::new();
        // None; built; a few alone; many in groups, over which partitions grow and split.
        for rows in [0..0, 0..40_000, 40_000..40_003, 40_003..200_000] {
            index.insert_all(entries(rows).collect());
        }
        for row in 0..200_000 {
            assert_eq!(index.find(hash_of(row), |found| found == row), Some(row));
        }
        assert_eq!(index.find(hash_of(200_000), |found| found == 200_000), None);
    }

    #[test]
    fn a_skewed_share_of_the_hashes_is_inserted_afterwards() {
        check(20_000, |row| hash_of(row) >> 3);
        check(10_000, |row| if row < 3_000 { 7 } else { hash_of(row) });
    }

    #[test]
    fn it_takes_no_more_room_than_an_index_that_grew() {
        let rows = 300_000;
        let index = RowIndex::build((0..rows).map(|row| Entry::new(hash_of(row), row)).collect());
        let slots = index.pages.len() * BUCKETS_PER_PAGE * SLOTS_PER_BUCKET as u32;
        assert!(slots < rows * 14 / 10, "{slots} slots are too many for {rows} entries");
    }
}
