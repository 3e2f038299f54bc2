//! An index from hashes to row numbers: extendible hashing over small partitions.
//!
//! The keys lie in the rows; the index holds a row's number and 32 bits of its key's hash. The
//! hash's leading bits choose a partition through a directory, the bits behind them a bucket in
//! it. A bucket is one cache line of eight slots; a full one overflows into the next.
//!
//! ```text
//! directory ──▶ partition: 1 to 8 pages ──▶ page: 64 buckets ──▶ bucket: 8 × hash, 8 × row
//! ```
//!
//! A bucket that is not full keeps the count of its entries in the place of its last row, as the
//! complement; that is why the eight greatest numbers are no rows.
//!
//! A partition that fills up gets a page or two more, and one with all its pages splits in two, so
//! the work of one insertion is bounded by one partition (some 3,600 entries, from the hashes that
//! the index holds, without a look at a row) plus, once per doubling of the whole index, a copy
//! of the directory (4 bytes for some 1,800 entries) and of the partitions (40 bytes). Slots are
//! between 2/3 and 7/8 full: about 10 bytes per entry. Partitions are as large as that so that
//! those of ten million entries, and the directory, stay in the caches: a search misses them for
//! its bucket alone.
//!
//! Invariants: a bucket's slots fill from the front, and what lies behind them has no meaning; a
//! partition always has a free slot, where each search ends. There is deliberately no removal,
//! because no row is ever removed.

mod bulk;

use super::arena::Arena;

pub(super) use bulk::Entry;

const SLOTS_PER_BUCKET: usize = 8;
const BUCKETS_PER_PAGE: u32 = 64;
const PAGES_MAX: usize = 8;
const BUCKETS_MAX: usize = PAGES_MAX * BUCKETS_PER_PAGE as usize;
/// Entries that a page of 512 slots takes before its partition grows.
const ENTRIES_PER_PAGE: u32 = 448;
/// The hash bits that choose a partition; 24 are enough for four billion rows.
const DEPTH_MAX: u32 = 26;
/// The greatest row number; a greater one in the last slot is the complement of a count.
pub(super) const ROW_MAX: u32 = !(SLOTS_PER_BUCKET as u32);
/// Entries that a partition's half may take before it grows again, for which it has room at once.
const HALF_SLACK: usize = 64;

const _: () = assert!(ENTRIES_PER_PAGE < BUCKETS_PER_PAGE * SLOTS_PER_BUCKET as u32);
const _: () = assert!(size_of::<Bucket>() == 64, "a bucket is one cache line");
const _: () = assert!(BUCKETS_MAX.is_power_of_two());

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    hashes: [u32; SLOTS_PER_BUCKET],
    rows: [u32; SLOTS_PER_BUCKET],
}

type Page = [Bucket; BUCKETS_PER_PAGE as usize];

const EMPTY_PAGE: Page = [Bucket::EMPTY; BUCKETS_PER_PAGE as usize];

impl Bucket {
    const LAST: usize = SLOTS_PER_BUCKET - 1;
    const EMPTY: Self = Self { hashes: [0; SLOTS_PER_BUCKET], rows: [!0; SLOTS_PER_BUCKET] };

    #[inline]
    const fn is_full(&self) -> bool {
        self.rows[Self::LAST] <= ROW_MAX
    }

    /// How many entries there are; the complement of a row number is greater.
    #[inline]
    fn len(&self) -> usize {
        (!self.rows[Self::LAST] as usize).min(SLOTS_PER_BUCKET)
    }

    /// Adds an entry, unless the bucket is full.
    #[inline]
    fn push(&mut self, hash: u32, row: u32) -> bool {
        let slot = !self.rows[Self::LAST] as usize;
        if slot >= SLOTS_PER_BUCKET {
            return false;
        }
        // The row comes second: in the last slot it takes the place of the count.
        self.rows[Self::LAST] = !(slot as u32 + 1);
        self.rows[slot] = row;
        self.hashes[slot] = hash;
        true
    }

    fn entries(&self) -> impl Iterator<Item = (u32, u32)> {
        self.hashes.iter().copied().zip(self.rows.iter().copied()).take(self.len())
    }

    /// Whether any slot has this hash; free slots have some hash, too.
    #[inline]
    fn may_have(&self, hash: u32) -> bool {
        // Without an early exit the eight comparisons are two vector instructions.
        self.hashes.iter().fold(0, |any, &stored| any | u32::from(stored == hash)) != 0
    }

    /// The row with this hash for which `is_it` holds.
    #[inline]
    fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        if !self.may_have(hash) {
            return None;
        }
        let mut rows = self.entries().filter(|entry| entry.0 == hash).map(|entry| entry.1);
        rows.find(|&row| is_it(row))
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

    /// Where one of this partition's buckets lies.
    #[inline]
    const fn place(&self, bucket: u32) -> Place {
        let page = self.pages[(bucket / BUCKETS_PER_PAGE) as usize % PAGES_MAX];
        Place { page, bucket: bucket % BUCKETS_PER_PAGE }
    }

    #[inline]
    const fn bucket_after(&self, bucket: u32) -> u32 {
        if bucket + 1 == self.buckets() { 0 } else { bucket + 1 }
    }
}

/// Where a bucket lies.
#[derive(Clone, Copy)]
struct Place {
    page: u32,
    /// Its number in the page.
    bucket: u32,
}

/// A search that is going to be made, on its way to its first bucket.
///
/// Each step reads one thing that the next one needs. The steps of many searches are taken
/// together, one step of all after the other, so that their misses overlap.
#[derive(Clone, Copy)]
pub(super) struct Aim<'a> {
    index: &'a RowIndex,
    hash: u32,
    partition: u32,
    place: Place,
}

impl<'a> Aim<'a> {
    /// Reads the directory.
    #[inline]
    pub(super) fn new(index: &'a RowIndex, hash: u32) -> Self {
        let partition = index.directory[index.prefix(hash)];
        Self { index, hash, partition, place: Place { page: 0, bucket: 0 } }
    }

    /// Reads the partition.
    #[inline]
    pub(super) fn approach(&mut self) {
        let of = &self.index.partitions[self.partition as usize];
        self.place = of.place(of.home(self.hash));
    }

    /// Reads the bucket, of which the value says nothing.
    #[inline]
    pub(super) fn touch(&self) -> u32 {
        self.index.bucket(self.place).hashes[0]
    }

    /// Reads the bucket where the search goes on, where the first one is full.
    #[inline]
    pub(super) fn touch_overflow(&self) -> u32 {
        if !self.index.bucket(self.place).is_full() {
            return 0;
        }
        let of = &self.index.partitions[self.partition as usize];
        let next = of.bucket_after(of.home(self.hash));
        self.index.bucket(of.place(next)).hashes[0]
    }

    /// A row of this hash in the first bucket, which the search is going to read.
    #[inline]
    pub(super) fn candidate(&self) -> Option<u32> {
        self.index.bucket(self.place).find(self.hash, |_| true)
    }
}

/// The entries of a partition on their way to another shape of it.
struct Filling {
    shape: Partition,
    buckets: [Bucket; BUCKETS_MAX],
    lens: [u8; BUCKETS_MAX],
}

impl Filling {
    #[inline]
    #[expect(clippy::large_stack_arrays, reason = "an insertion that grows allocates pages alone")]
    fn new(shape: Partition) -> Self {
        let shape = Partition { entries: 0, ..shape };
        Self { shape, buckets: [Bucket::EMPTY; BUCKETS_MAX], lens: [0; BUCKETS_MAX] }
    }

    /// Adds an entry. Those of a partition come in the order of their hashes, or nearly so: new
    /// buckets are walked from front to back.
    #[inline]
    fn push(&mut self, hash: u32, row: u32) {
        let mut at = self.shape.home(hash);
        // No shape has more buckets; said so, no index needs a check.
        while self.lens[at as usize % BUCKETS_MAX] as usize >= SLOTS_PER_BUCKET {
            at = self.shape.bucket_after(at);
        }
        let at = at as usize % BUCKETS_MAX;
        let slot = self.lens[at] as usize % SLOTS_PER_BUCKET;
        self.lens[at] += 1;
        self.buckets[at].hashes[slot] = hash;
        self.buckets[at].rows[slot] = row;
        self.shape.entries += 1;
    }

    /// The buckets of each page, in the pages' order.
    fn pages(&mut self) -> impl Iterator<Item = (u32, &[Bucket])> {
        for (bucket, &len) in self.buckets.iter_mut().zip(&self.lens) {
            if usize::from(len) < SLOTS_PER_BUCKET {
                bucket.rows[Bucket::LAST] = !u32::from(len);
            }
        }
        let pages = &self.shape.pages[..usize::from(self.shape.page_count)];
        pages.iter().copied().zip(self.buckets.chunks_exact(BUCKETS_PER_PAGE as usize))
    }
}

/// See the module.
pub(super) struct RowIndex {
    /// The partition of each prefix of `depth` bits.
    directory: Vec<u32>,
    depth: u32,
    partitions: Vec<Partition>,
    pages: Arena<Page>,
}

impl RowIndex {
    /// An index without entries.
    pub(super) fn new() -> Self {
        let mut index =
            Self { directory: vec![0], depth: 0, partitions: Vec::new(), pages: Arena::new() };
        let mut root = Partition { pages: [0; PAGES_MAX], page_count: 1, depth: 0, entries: 0 };
        root.pages[0] = index.pages.push(EMPTY_PAGE);
        index.partitions.push(root);
        index
    }

    /// In the place of an index that is not used any more: without memory, and not to be searched.
    pub(super) const fn gone() -> Self {
        Self { directory: Vec::new(), depth: 0, partitions: Vec::new(), pages: Arena::new() }
    }

    fn is_empty(&self) -> bool {
        self.partitions.iter().all(|partition| partition.entries == 0)
    }

    /// Frees a chunk of an index that is not used any more; whether there was one.
    pub(super) fn free_chunk(&mut self) -> bool {
        self.pages.free_chunk()
    }

    /// The row with this hash for which `is_it` holds.
    #[inline]
    pub(super) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let of = &self.partitions[self.directory[self.prefix(hash)] as usize];
        let mut at = of.home(hash);
        loop {
            let bucket = self.bucket(of.place(at));
            if let Some(row) = bucket.find(hash, &mut is_it) {
                return Some(row);
            }
            if !bucket.is_full() {
                return None;
            }
            at = of.bucket_after(at);
        }
    }

    /// Adds a row that is not in the index yet.
    #[inline]
    pub(super) fn insert(&mut self, hash: u32, row: u32) {
        assert!(row <= ROW_MAX, "the row number fits the index");
        let mut number = self.directory[self.prefix(hash)];
        while self.partitions[number as usize].is_full() {
            self.grow(number, hash);
            number = self.directory[self.prefix(hash)];
        }
        let of = &mut self.partitions[number as usize];
        of.entries += 1;
        // The first bucket from its home on that is not full: there a search ends.
        let mut at = of.home(hash);
        loop {
            let Place { page, bucket } = of.place(at);
            if self.pages.at_mut(page)[bucket as usize].push(hash, row) {
                return;
            }
            at = of.bucket_after(at);
        }
    }

    #[inline]
    fn prefix(&self, hash: u32) -> usize {
        (u64::from(hash) >> (32 - self.depth)) as usize
    }

    #[inline]
    fn bucket(&self, place: Place) -> &Bucket {
        &self.pages.at(place.page)[place.bucket as usize]
    }

    #[cold]
    fn grow(&mut self, number: u32, hash: u32) {
        let full = self.partitions[number as usize];
        if usize::from(full.page_count) == PAGES_MAX {
            self.split(number, hash, &full);
            return;
        }
        let mut wider = full;
        // The last two pages come together: that spares the most moves for the least memory.
        let step = if usize::from(full.page_count) == PAGES_MAX - 2 { 2 } else { 1 };
        for _ in 0..step {
            wider.pages[usize::from(wider.page_count)] = self.new_page();
            wider.page_count += 1;
        }
        let mut filling = Filling::new(wider);
        self.each_entry(&full, |hash, row| filling.push(hash, row));
        self.store(number, &mut filling);
    }

    /// Hands out a partition's entries, nearly in the order of their hashes.
    #[inline]
    fn each_entry(&self, partition: &Partition, mut take: impl FnMut(u32, u32)) {
        for &page in &partition.pages[..usize::from(partition.page_count)] {
            for bucket in self.pages.at(page) {
                for slot in 0..bucket.len() {
                    take(bucket.hashes[slot], bucket.rows[slot]);
                }
            }
        }
    }

    /// Overwrites a partition and its pages.
    fn store(&mut self, number: u32, filling: &mut Filling) {
        for (page, buckets) in filling.pages() {
            self.pages.at_mut(page).copy_from_slice(buckets);
        }
        self.partitions[number as usize] = filling.shape;
    }

    /// Gives the entries whose next hash bit is set to a new partition.
    fn split(&mut self, number: u32, hash: u32, full: &Partition) {
        let depth = u32::from(full.depth) + 1;
        assert!(depth <= DEPTH_MAX, "keyed hashes spread over the partitions");
        let is_upper = |hash: u32| (hash >> (32 - depth)) & 1 == 1;
        let mut upper_entries = 0;
        self.each_entry(full, |hash, _| upper_entries += usize::from(is_upper(hash)));

        let mut spare = full.pages.to_vec();
        let lower = self.half(depth, usize::from(full.entries) - upper_entries, &mut spare);
        let upper = self.half(depth, upper_entries, &mut spare);
        assert!(spare.is_empty(), "two halves need at least the pages of the whole");

        let sibling = self.partitions.len() as u32;
        self.partitions.push(upper);
        self.point_to_sibling(hash, sibling, depth);
        let mut lower = Filling::new(lower);
        let mut upper = Filling::new(upper);
        self.each_entry(full, |hash, row| {
            let half = if is_upper(hash) { &mut upper } else { &mut lower };
            half.push(hash, row);
        });
        self.store(number, &mut lower);
        self.store(sibling, &mut upper);
    }

    /// An empty partition with the pages for this many entries, from `spare` as far as it goes.
    fn half(&mut self, depth: u32, entries: usize, spare: &mut Vec<u32>) -> Partition {
        let page_count = (entries + HALF_SLACK).div_ceil(ENTRIES_PER_PAGE as usize).min(PAGES_MAX);
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
        let start = (self.prefix(hash) & !(2 * half - 1)) + half;
        self.directory[start..start + half].fill(sibling);
    }

    fn new_page(&mut self) -> u32 {
        self.pages.push(EMPTY_PAGE)
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
        for row in 0..200_000 {
            assert_eq!(index.find(hash_of(row), |found| found == row), None);
            index.insert(hash_of(row), row);
            assert_eq!(index.find(hash_of(row), |found| found == row), Some(row));
        }
        for row in 0..200_000 {
            assert_eq!(index.find(hash_of(row), |found| found == row), Some(row));
        }
        let entries: u32 =
            index.partitions.iter().map(|partition| u32::from(partition.entries)).sum();
        assert_eq!(entries, 200_000);
        assert!(index.depth > 4, "the test splits partitions");
        let slots = index.pages.len() * BUCKETS_PER_PAGE * SLOTS_PER_BUCKET as u32;
        assert!(slots < 200_000 * 14 / 10, "{slots} slots are too many for 200,000 entries");
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
        for row in 0..20_000 {
            index.insert(hash_of(row) >> 6, row);
        }
        for row in 0..20_000 {
            assert_eq!(index.find(hash_of(row) >> 6, |found| found == row), Some(row));
        }
    }
}
