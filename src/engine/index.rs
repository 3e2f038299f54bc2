//! An index from hashes to row numbers: extendible hashing over small partitions.
//!
//! The keys lie in the rows; the index holds a row's number and 32 bits of its key's hash. The
//! hash's leading bits choose a partition through a directory, the bits behind them a bucket in
//! it. A bucket is one cache line of eight slots; a full one overflows into the next.
//!
//! ```text
//! directory ──▶ partition: 1 to 8 pages ──▶ page: 16 buckets ──▶ bucket: 8 × hash, 8 × row
//! ```
//!
//! A partition that fills up gets one page more, and one with all its pages splits in two, so
//! the work of one insertion is bounded by one partition (some 900 entries, from the hashes that
//! the index holds, without a look at a row) plus, once per doubling of the whole index, a copy
//! of the directory (4 bytes for some 450 entries). Slots are between 4/5 and 7/8 full at most
//! sizes: about 10 bytes per entry.
//!
//! Invariants: a bucket's slots fill from the front; a partition always has a free slot, where
//! each search ends. There is deliberately no removal, because no row is ever removed.

use arrayvec::ArrayVec;

use super::arena::Arena;

const SLOTS_PER_BUCKET: usize = 8;
const BUCKETS_PER_PAGE: u32 = 16;
const PAGES_MAX: usize = 8;
const BUCKETS_MAX: usize = PAGES_MAX * BUCKETS_PER_PAGE as usize;
/// Entries that a page of 128 slots takes before its partition grows.
const ENTRIES_PER_PAGE: u32 = 112;
/// The hash bits that choose a partition; 24 are enough for four billion rows.
const DEPTH_MAX: u32 = 26;
/// Marks a slot without an entry; no row has this number.
const FREE: u32 = u32::MAX;

const _: () = assert!(ENTRIES_PER_PAGE < BUCKETS_PER_PAGE * SLOTS_PER_BUCKET as u32);
const _: () = assert!(size_of::<Bucket>() == 64, "a bucket is one cache line");

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    hashes: [u32; SLOTS_PER_BUCKET],
    rows: [u32; SLOTS_PER_BUCKET],
}

type Page = [Bucket; BUCKETS_PER_PAGE as usize];

impl Bucket {
    const EMPTY: Self = Self { hashes: [0; SLOTS_PER_BUCKET], rows: [FREE; SLOTS_PER_BUCKET] };

    #[inline]
    const fn is_full(&self) -> bool {
        self.rows[SLOTS_PER_BUCKET - 1] != FREE
    }

    /// Whether any slot has this hash; free slots have some hash, too.
    #[inline]
    fn may_have(&self, hash: u32) -> bool {
        // Without an early exit the eight comparisons are two vector instructions.
        self.hashes.iter().fold(0, |any, &stored| any | u32::from(stored == hash)) != 0
    }

    /// The first free slot of a bucket that is not full: a binary search, since slots fill from
    /// the front.
    #[inline]
    fn free_slot(&self) -> usize {
        let mut slot = 0;
        for step in [4, 2, 1] {
            if self.rows[slot + step - 1] != FREE {
                slot += step;
            }
        }
        slot
    }
}

/// A share of the hashes: those that begin with the same `depth` bits.
#[derive(Clone, Copy)]
struct Partition {
    pages: [u32; PAGES_MAX],
    page_count: u8,
    depth: u8,
    entries: u16,
}

impl Partition {
    const fn buckets(&self) -> u32 {
        self.page_count as u32 * BUCKETS_PER_PAGE
    }

    const fn is_full(&self) -> bool {
        self.entries as u32 >= self.page_count as u32 * ENTRIES_PER_PAGE
    }

    /// The bucket where a search for `hash` starts.
    #[inline]
    fn home(&self, hash: u32) -> u32 {
        let behind_the_prefix = hash << self.depth;
        ((u64::from(behind_the_prefix) * u64::from(self.buckets())) >> 32) as u32
    }

    #[inline]
    const fn bucket_after(&self, bucket: u32) -> u32 {
        if bucket + 1 == self.buckets() { 0 } else { bucket + 1 }
    }
}

/// See the module.
pub(super) struct RowIndex {
    /// The partition of each prefix of `depth` bits.
    directory: Vec<u32>,
    depth: u32,
    partitions: Arena<Partition>,
    pages: Arena<Page>,
}

impl RowIndex {
    /// An index without entries.
    pub(super) fn new() -> Self {
        let mut index =
            Self { directory: vec![0], depth: 0, partitions: Arena::new(), pages: Arena::new() };
        let mut root = Partition { pages: [0; PAGES_MAX], page_count: 1, depth: 0, entries: 0 };
        root.pages[0] = index.pages.push([Bucket::EMPTY; BUCKETS_PER_PAGE as usize]);
        index.partitions.push(root);
        index
    }

    /// The row with this hash for which `is_it` holds.
    #[inline]
    pub(super) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let partition = self.partitions.at(self.directory[self.place(hash)]);
        let mut at = partition.home(hash);
        loop {
            let bucket = self.bucket(partition, at);
            if bucket.may_have(hash) {
                for (&stored, &row) in bucket.hashes.iter().zip(&bucket.rows) {
                    if stored == hash && row != FREE && is_it(row) {
                        return Some(row);
                    }
                }
            }
            if !bucket.is_full() {
                return None;
            }
            at = partition.bucket_after(at);
        }
    }

    /// Reads the bucket where a search for `hash` starts, so that it is in the cache.
    #[inline]
    pub(super) fn touch(&self, hash: u32) -> u32 {
        let partition = self.partitions.at(self.directory[self.place(hash)]);
        self.bucket(partition, partition.home(hash)).hashes[0]
    }

    /// Reads the bucket where that search goes on, where the first one, touched before, is full.
    #[inline]
    pub(super) fn touch_overflow(&self, hash: u32) -> u32 {
        let partition = self.partitions.at(self.directory[self.place(hash)]);
        let home = partition.home(hash);
        let is_full = self.bucket(partition, home).is_full();
        let at = if is_full { partition.bucket_after(home) } else { home };
        self.bucket(partition, at).hashes[0]
    }

    /// Adds a row that is not in the index yet.
    #[inline]
    pub(super) fn insert(&mut self, hash: u32, row: u32) {
        assert!(row != FREE, "the row number fits the index");
        let mut number = self.directory[self.place(hash)];
        while self.partitions.at(number).is_full() {
            self.grow(number, hash);
            number = self.directory[self.place(hash)];
        }
        let partition = *self.partitions.at(number);
        self.put(&partition, hash, row);
        self.partitions.at_mut(number).entries += 1;
    }

    #[inline]
    fn place(&self, hash: u32) -> usize {
        (u64::from(hash) >> (32 - self.depth)) as usize
    }

    #[inline]
    fn bucket(&self, partition: &Partition, at: u32) -> &Bucket {
        let page = partition.pages[(at / BUCKETS_PER_PAGE) as usize];
        &self.pages.at(page)[(at % BUCKETS_PER_PAGE) as usize]
    }

    /// Writes an entry into the first free slot from its home on.
    #[inline]
    fn put(&mut self, partition: &Partition, hash: u32, row: u32) {
        let mut at = partition.home(hash);
        loop {
            let page = partition.pages[(at / BUCKETS_PER_PAGE) as usize];
            let bucket = &mut self.pages.at_mut(page)[(at % BUCKETS_PER_PAGE) as usize];
            if !bucket.is_full() {
                let slot = bucket.free_slot();
                bucket.hashes[slot] = hash;
                bucket.rows[slot] = row;
                return;
            }
            at = partition.bucket_after(at);
        }
    }

    #[cold]
    fn grow(&mut self, number: u32, hash: u32) {
        let full = *self.partitions.at(number);
        let old = self.copy_buckets(&full);
        if usize::from(full.page_count) == PAGES_MAX {
            self.split(number, hash, &full, &old);
            return;
        }
        let mut wider = full;
        wider.pages[usize::from(wider.page_count)] = self.new_page();
        wider.page_count += 1;
        self.fill(number, wider, &old, |_| true);
    }

    /// The buckets of a partition, side by side.
    fn copy_buckets(&self, partition: &Partition) -> ArrayVec<Bucket, BUCKETS_MAX> {
        let mut buckets = ArrayVec::new();
        for &page in &partition.pages[..usize::from(partition.page_count)] {
            buckets.try_extend_from_slice(self.pages.at(page)).expect("a partition's pages fit");
        }
        buckets
    }

    /// Overwrites a partition with those of the old buckets' entries that belong to it.
    ///
    /// Old buckets are in the order of their hashes, or nearly so, and so are the new ones: both
    /// are walked from front to back.
    fn fill(
        &mut self,
        number: u32,
        mut partition: Partition,
        old: &[Bucket],
        belongs: impl Fn(u32) -> bool,
    ) {
        let mut new = [Bucket::EMPTY; BUCKETS_MAX];
        let mut taken = [0_u8; BUCKETS_MAX];
        let mut entries = 0;
        for bucket in old {
            for (&hash, &row) in bucket.hashes.iter().zip(&bucket.rows) {
                if row == FREE || !belongs(hash) {
                    continue;
                }
                let mut at = partition.home(hash) as usize % BUCKETS_MAX;
                while usize::from(taken[at]) == SLOTS_PER_BUCKET {
                    at = partition.bucket_after(at as u32) as usize % BUCKETS_MAX;
                }
                let slot = usize::from(taken[at]) % SLOTS_PER_BUCKET;
                new[at].hashes[slot] = hash;
                new[at].rows[slot] = row;
                taken[at] += 1;
                entries += 1;
            }
        }
        partition.entries = entries;
        let pages = &partition.pages[..usize::from(partition.page_count)];
        for (&page, buckets) in pages.iter().zip(new.chunks_exact(BUCKETS_PER_PAGE as usize)) {
            self.pages.at_mut(page).copy_from_slice(buckets);
        }
        *self.partitions.at_mut(number) = partition;
    }

    /// Gives the entries whose next hash bit is set to a new partition.
    fn split(&mut self, number: u32, hash: u32, full: &Partition, old: &[Bucket]) {
        let depth = u32::from(full.depth) + 1;
        assert!(depth <= DEPTH_MAX, "keyed hashes spread over the partitions");
        let is_upper = |hash: u32| (hash >> (32 - depth)) & 1 == 1;
        let entries = old.iter().flat_map(|bucket| bucket.hashes.iter().zip(&bucket.rows));
        let upper_entries = entries.filter(|&(&hash, &row)| row != FREE && is_upper(hash)).count();

        let mut spare = full.pages.to_vec();
        let lower = self.half(depth, usize::from(full.entries) - upper_entries, &mut spare);
        let upper = self.half(depth, upper_entries, &mut spare);
        assert!(spare.is_empty(), "two halves need at least the pages of the whole");

        let sibling = self.partitions.push(upper);
        self.point_to_sibling(hash, sibling, depth);
        self.fill(number, lower, old, |hash| !is_upper(hash));
        self.fill(sibling, upper, old, is_upper);
    }

    /// An empty partition with the pages for this many entries, from `spare` as far as it goes.
    fn half(&mut self, depth: u32, entries: usize, spare: &mut Vec<u32>) -> Partition {
        let page_count = entries.div_ceil(ENTRIES_PER_PAGE as usize).max(1);
        let mut pages = [0; PAGES_MAX];
        for page in &mut pages[..page_count] {
            *page = spare.pop().unwrap_or_else(|| self.new_page());
        }
        Partition { pages, page_count: page_count as u8, depth: depth as u8, entries: 0 }
    }

    /// Points the directory entries whose prefix is that of `hash`, its last bit set, to `sibling`.
    fn point_to_sibling(&mut self, hash: u32, sibling: u32, depth: u32) {
        if depth > self.depth {
            self.directory = self.directory.iter().flat_map(|&entry| [entry, entry]).collect();
            self.depth = depth;
        }
        let half = 1_usize << (self.depth - depth);
        let start = (self.place(hash) & !(2 * half - 1)) + half;
        self.directory[start..start + half].fill(sibling);
    }

    fn new_page(&mut self) -> u32 {
        self.pages.push([Bucket::EMPTY; BUCKETS_PER_PAGE as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence of well-mixed hashes (a Weyl sequence through a multiplicative mix).
    fn hash_of(row: u32) -> u32 {
        let mixed = u64::from(row + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) as u32
    }

    #[test]
    fn every_row_is_found_at_every_size() {
        let mut index = RowIndex::new();
        for row in 0..50_000 {
            assert_eq!(index.find(hash_of(row), |found| found == row), None);
            index.insert(hash_of(row), row);
            assert_eq!(index.find(hash_of(row), |found| found == row), Some(row));
        }
        for row in 0..50_000 {
            assert_eq!(index.find(hash_of(row), |found| found == row), Some(row));
        }
        let entries: u32 = (0..index.partitions.len())
            .map(|number| u32::from(index.partitions.at(number).entries))
            .sum();
        assert_eq!(entries, 50_000);
        assert!(index.depth > 4, "the test splits partitions");
        let slots = index.pages.len() * BUCKETS_PER_PAGE * SLOTS_PER_BUCKET as u32;
        assert!(slots < 50_000 * 14 / 10, "{slots} slots are too many for 50,000 entries");
    }

    #[test]
    fn rows_of_one_hash_are_told_apart() {
        let mut index = RowIndex::new();
        for row in 0..100 {
            index.insert(0xffff_ffff, row);
        }
        for row in 0..100 {
            assert_eq!(index.find(0xffff_ffff, |found| found == row), Some(row));
        }
        assert_eq!(index.find(0xffff_ffff, |found| found == 100), None);
        assert_eq!(index.find(0, |_| true), None);
    }

    #[test]
    fn a_skewed_share_of_the_hashes_splits_until_it_fits() {
        let mut index = RowIndex::new();
        for row in 0..5_000 {
            index.insert(hash_of(row) >> 6, row);
        }
        for row in 0..5_000 {
            assert_eq!(index.find(hash_of(row) >> 6, |found| found == row), Some(row));
        }
    }
}
