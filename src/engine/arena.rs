//! Rows in chunks: a growing table that never moves what it already holds.
//!
//! Rows are only ever added, and a row's number is its place for ever. The first chunk grows by
//! doubling, so that a small sale stays small; every later chunk is allocated whole. A whole chunk
//! has as many rows as fit into 2 MiB, the size of a huge page. The work of one push is therefore
//! bounded by half a chunk. There is deliberately no removal: what ends is a row's state, not the
//! row. A whole table that is not needed any more is freed chunk by chunk.

/// How many bytes one whole chunk has, up to the rest that is smaller than a row.
const CHUNK_BYTES: usize = 2 << 20;

/// Rows that the first chunk begins with, unless they are large.
const FIRST_ROWS: usize = 4;

/// Bytes that it begins with at most, but for one row.
const FIRST_BYTES: usize = 4096;

/// Rows of `T`, numbered from 0.
pub(super) struct Arena<T> {
    chunks: Vec<Vec<T>>,
    len: u32,
}

impl<T> Arena<T> {
    /// Rows of one whole chunk.
    const CHUNK_ROWS: u32 = (CHUNK_BYTES / size_of::<T>()) as u32;

    /// No rows, and no memory yet.
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }

    /// How many rows there are; also the number of the next one.
    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// The row of this number, which must exist.
    #[inline]
    pub(super) fn at(&self, row: u32) -> &T {
        &self.chunks[(row / Self::CHUNK_ROWS) as usize][(row % Self::CHUNK_ROWS) as usize]
    }

    /// The row of this number, which must exist.
    #[inline]
    pub(super) fn at_mut(&mut self, row: u32) -> &mut T {
        &mut self.chunks[(row / Self::CHUNK_ROWS) as usize][(row % Self::CHUNK_ROWS) as usize]
    }

    /// Adds a row behind the last and returns its number.
    #[inline]
    pub(super) fn push(&mut self, value: T) -> u32 {
        let row = self.len;
        if self.chunks.last().is_none_or(|chunk| chunk.len() == chunk.capacity()) {
            self.add_room();
        }
        let chunk = self.chunks.last_mut().expect("there is room");
        chunk.push(value);
        self.len = row.checked_add(1).expect("the number of rows fits 32 bits");
        row
    }

    /// Frees the last chunk of a table that is not used any more; whether there was one.
    pub(super) fn free_chunk(&mut self) -> bool {
        self.chunks.pop().is_some()
    }

    /// Room for one more row behind full chunks.
    #[cold]
    fn add_room(&mut self) {
        let whole = Self::CHUNK_ROWS as usize;
        match self.chunks.as_mut_slice() {
            [] => {
                let rows = FIRST_ROWS.min(FIRST_BYTES / size_of::<T>()).clamp(1, whole);
                self.chunks.push(Vec::with_capacity(rows));
            }
            [first] if first.len() < whole => {
                first.reserve_exact(first.len().min(whole - first.len()));
            }
            _ => self.chunks.push(Vec::with_capacity(whole)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_numbers_across_chunks() {
        let mut arena = Arena::<[u64; 512]>::new();
        for row in 0..1_000 {
            assert_eq!(arena.push([u64::from(row); 512]), row);
        }
        arena.at_mut(700)[0] = 7;
        assert_eq!(arena.len(), 1_000);
        assert!((0..1_000).all(|row| arena.at(row)[511] == u64::from(row)));
        assert_eq!((arena.at(700)[0], arena.at(699)[0]), (7, 699));
        assert!(arena.chunks.len() > 1, "the test crosses a chunk");
    }
}
