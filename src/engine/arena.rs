//! Rows in chunks: a growing table that never moves what it already holds.
//!
//! Rows are only ever added, and a row's number is its place for ever. The first chunk grows by
//! doubling, so that a small sale stays small; every later chunk is allocated whole. The work of
//! one push is therefore bounded by half a chunk. There is deliberately no removal: what ends is
//! a row's state, not the row.

/// About how many bytes one chunk has.
const CHUNK_BYTES: usize = 512 * 1024;

/// Rows of `T`, numbered from 0.
pub(super) struct Arena<T> {
    chunks: Vec<Vec<T>>,
    len: u32,
}

impl<T> Arena<T> {
    /// Rows of one chunk, as a power of two.
    const CHUNK_SHIFT: u32 = (CHUNK_BYTES / size_of::<T>()).ilog2();
    const CHUNK_ROWS: usize = 1 << Self::CHUNK_SHIFT;

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
        &self.chunks[(row >> Self::CHUNK_SHIFT) as usize][row as usize & (Self::CHUNK_ROWS - 1)]
    }

    /// The row of this number, which must exist.
    #[inline]
    pub(super) fn at_mut(&mut self, row: u32) -> &mut T {
        &mut self.chunks[(row >> Self::CHUNK_SHIFT) as usize][row as usize & (Self::CHUNK_ROWS - 1)]
    }

    /// Adds a row behind the last and returns its number.
    #[inline]
    pub(super) fn push(&mut self, value: T) -> u32 {
        let row = self.len;
        if row as usize & (Self::CHUNK_ROWS - 1) == 0 {
            self.add_chunk();
        }
        self.chunks[(row >> Self::CHUNK_SHIFT) as usize].push(value);
        self.len = row.checked_add(1).expect("the number of rows fits 32 bits");
        row
    }

    #[cold]
    fn add_chunk(&mut self) {
        let rows = if self.chunks.is_empty() { 4 } else { Self::CHUNK_ROWS };
        self.chunks.push(Vec::with_capacity(rows));
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
