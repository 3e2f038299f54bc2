//! An allocator that asks for huge pages behind large allocations.
//!
//! A shard's tables are read at random: with pages of 4 KiB nearly every read of a large table
//! also misses the address translation, which in a virtual machine costs more than the read.
//! Allocations that fill a huge page, or miss it by less than a small one, are made of whole huge
//! pages and marked `MADV_HUGEPAGE`, which also works where transparent huge pages are set to
//! `madvise`. Where they are off, the mark is ignored. Smaller allocations are the system
//! allocator's as ever.

use std::alloc::{GlobalAlloc, Layout, System};

use rustix::mm::{Advice, madvise};

/// The size of a huge page on the machines that the server supports.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The system allocator, with huge pages behind large allocations.
#[derive(Clone, Copy, Debug, Default)]
pub struct HugePages;

/// From here on an allocation gets huge pages. A chunk of rows need not divide a huge page.
const LARGE_BYTES: usize = HUGE_PAGE_BYTES - 4096;

/// The layout that is really allocated for a large one: whole huge pages.
fn widened(layout: Layout) -> Option<Layout> {
    if layout.size() < LARGE_BYTES {
        return None;
    }
    let bytes = layout.size().checked_next_multiple_of(HUGE_PAGE_BYTES)?;
    Layout::from_size_align(bytes, HUGE_PAGE_BYTES.max(layout.align())).ok()
}

/// Marks fresh huge pages.
fn mark(start: *mut u8, bytes: usize) {
    if !start.is_null() {
        // SAFETY: the range was just allocated, and the advice changes no byte of it. An error
        // leaves small pages, which are as good but for speed.
        let _ = unsafe { madvise(start.cast(), bytes, Advice::LinuxHugepage) };
    }
}

// SAFETY: every method passes on to the system allocator, with a layout that depends on the
// given one alone, so that memory is freed with the layout that it was allocated with.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(wide) = widened(layout) else {
            // SAFETY: the caller keeps the contract of `alloc`, which is the same one.
            return unsafe { System.alloc(layout) };
        };
        // SAFETY: the wider layout has no smaller size, so it is not zero.
        let start = unsafe { System.alloc(wide) };
        mark(start, wide.size());
        start
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(wide) = widened(layout) else {
            // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same one.
            return unsafe { System.alloc_zeroed(layout) };
        };
        // SAFETY: the wider layout has no smaller size, so it is not zero.
        let start = unsafe { System.alloc_zeroed(wide) };
        mark(start, wide.size());
        start
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: `alloc` got `start` from the system allocator by this very layout.
        unsafe { System.dealloc(start, widened(layout).unwrap_or(layout)) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Ok(new) = Layout::from_size_align(size, layout.align()) else {
            return std::ptr::null_mut();
        };
        if widened(layout).is_none() && widened(new).is_none() {
            // SAFETY: neither size is widened, so the system allocator knows both layouts.
            return unsafe { System.realloc(start, layout, size) };
        }
        // SAFETY: the caller promises that `size` is not zero.
        let moved = unsafe { self.alloc(new) };
        if !moved.is_null() {
            let kept = layout.size().min(size);
            // SAFETY: both blocks have `kept` bytes, and they are different blocks.
            unsafe { std::ptr::copy_nonoverlapping(start, moved, kept) };
            // SAFETY: `start` was allocated by this allocator with `layout`.
            unsafe { self.dealloc(start, layout) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_blocks_are_whole_huge_pages_and_keep_their_bytes() {
        let small = Layout::from_size_align(HUGE_PAGE_BYTES / 2, 8).expect("a layout");
        // SAFETY: the size is not zero.
        let start = unsafe { HugePages.alloc_zeroed(small) };
        assert!(!start.is_null());
        // SAFETY: the block has more than one byte.
        unsafe { start.write(7) };
        // SAFETY: the block was allocated with this layout.
        let grown = unsafe { HugePages.realloc(start, small, 2 * HUGE_PAGE_BYTES) };
        assert!(!grown.is_null() && (grown as usize).is_multiple_of(HUGE_PAGE_BYTES));
        // SAFETY: the block holds what the smaller one held.
        assert_eq!(unsafe { grown.read() }, 7);
        let large = Layout::from_size_align(2 * HUGE_PAGE_BYTES, 8).expect("a layout");
        // SAFETY: the block was allocated with this size and alignment.
        let shrunk = unsafe { HugePages.realloc(grown, large, 100) };
        // SAFETY: as above.
        assert_eq!(unsafe { shrunk.read() }, 7);
        let tiny = Layout::from_size_align(100, 8).expect("a layout");
        // SAFETY: the block was allocated with this layout.
        unsafe { HugePages.dealloc(shrunk, tiny) };
    }
}
