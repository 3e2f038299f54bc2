//! An allocator that asks for huge pages behind large allocations.
//!
//! A shard's tables are read at random: with pages of 4 KiB nearly every read of a large table
//! also misses the address translation, which in a virtual machine costs more than the read.
//! Allocations that fill a huge page, or miss it by less than a small one, are made of whole huge
//! pages and marked `MADV_HUGEPAGE`, which also works where transparent huge pages are set to
//! `madvise`. Where they are off, the mark is ignored. Smaller allocations are the system
//! allocator's as ever.
//!
//! The first touch of a huge page makes the kernel clear it, which takes a tenth of a millisecond
//! and, in a virtual machine whose host has to find the memory first, several: too long for a
//! thread that answers requests. So a thread in the background keeps a few blocks of one huge page
//! warm ([`start_warming`]), and an allocation of that size takes one of those while there are any.
//!
//! Several milliseconds in the kernel are also too long for a thread in the background that shares
//! a CPU with one that answers. Such a thread touches a block as small pages first and gives them
//! back: the host has found the memory then, bit by bit, and the huge page that the kernel makes of
//! it is cleared at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::thread::{self, Thread};

use rustix::mm::{Advice, madvise};

use super::background;

/// The size of a huge page on the machines that the server supports.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The size of a small page.
const PAGE_BYTES: usize = 4096;

/// Blocks that are kept warm: 64 MiB, the memory of some half a million orders.
const WARM_BLOCKS: usize = 32;

/// A block of one huge page.
const BLOCK: Layout = match Layout::from_size_align(HUGE_PAGE_BYTES, HUGE_PAGE_BYTES) {
    Ok(layout) => layout,
    Err(_) => panic!("a huge page is a layout"),
};

/// Blocks that were touched and belong to nobody; their bytes are arbitrary. Null: taken.
static WARM: [AtomicPtr<u8>; WARM_BLOCKS] = [const { AtomicPtr::new(null_mut()) }; WARM_BLOCKS];

/// The thread that fills them.
static WARMER: OnceLock<Thread> = OnceLock::new();

/// Starts the thread that keeps blocks warm, once in a process. It only runs when nobody else
/// wants its CPU.
pub fn start_warming() -> io::Result<()> {
    if WARMER.get().is_none() {
        let warmer = thread::Builder::new().name("warmer".to_owned()).spawn(warm)?;
        // Of two starters one loses, and its thread finds nothing to do.
        let _ = WARMER.set(warmer.thread().clone());
    }
    Ok(())
}

fn warm() {
    background::enter();
    loop {
        for place in &WARM {
            if place.load(Ordering::Relaxed).is_null() {
                place.store(patient_block(), Ordering::Release);
            }
        }
        background::wait(thread::park);
    }
}

/// A touched block, made in small pieces; null where there is no memory.
fn patient_block() -> *mut u8 {
    // SAFETY: the layout's size is not zero.
    let block = unsafe { System.alloc(BLOCK) };
    if block.is_null() {
        return block;
    }
    for advice in [Advice::LinuxNoHugepage, Advice::LinuxHugepage] {
        advise(block, BLOCK.size(), advice);
        for at in (0..BLOCK.size()).step_by(PAGE_BYTES) {
            let page = block.wrapping_add(at);
            // SAFETY: the block has that many bytes and belongs to this function. A volatile write
            // is one that is really made.
            unsafe { page.write_volatile(0) };
        }
        if matches!(advice, Advice::LinuxNoHugepage) {
            // Its bytes become zeros, as good as those that were there.
            advise(block, BLOCK.size(), Advice::LinuxDontNeed);
        }
    }
    block
}

/// A warm block, if there is one.
fn take_warm() -> Option<*mut u8> {
    let taken = WARM.iter().find_map(|place| {
        // Most places that look empty are.
        let looks_full = !place.load(Ordering::Relaxed).is_null();
        looks_full.then(|| place.swap(null_mut(), Ordering::Acquire)).filter(|b| !b.is_null())
    });
    if taken.is_some()
        && let Some(warmer) = WARMER.get()
    {
        warmer.unpark();
    }
    taken
}

/// The system allocator, with huge pages behind large allocations.
#[derive(Clone, Copy, Debug, Default)]
pub struct HugePages;

/// From here on an allocation gets huge pages. A chunk of rows need not divide a huge page.
const LARGE_BYTES: usize = HUGE_PAGE_BYTES - PAGE_BYTES;

/// The layout that is really allocated for a large one: whole huge pages.
fn widened(layout: Layout) -> Option<Layout> {
    if layout.size() < LARGE_BYTES {
        return None;
    }
    let bytes = layout.size().checked_next_multiple_of(HUGE_PAGE_BYTES)?;
    Layout::from_size_align(bytes, HUGE_PAGE_BYTES.max(layout.align())).ok()
}

/// Says how fresh memory is to be had, where there is some.
fn advise(start: *mut u8, bytes: usize, advice: Advice) {
    if !start.is_null() {
        // SAFETY: the range was just allocated, and nothing in it is of use yet. An error leaves
        // pages of another size, which are as good but for speed.
        let _ = unsafe { madvise(start.cast(), bytes, advice) };
    }
}

/// Marks fresh memory as huge pages. A thread in the background is left with small ones.
fn mark(start: *mut u8, bytes: usize) {
    if !background::is_here() {
        advise(start, bytes, Advice::LinuxHugepage);
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
        if wide == BLOCK {
            if background::is_here() {
                return patient_block();
            }
            if let Some(block) = take_warm() {
                return block;
            }
        }
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
            return null_mut();
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
    fn a_warm_block_is_given_once_and_its_place_is_filled_again() {
        WARM[0].store(patient_block(), Ordering::Release);
        let filled = WARM[0].load(Ordering::Relaxed);
        assert!((filled as usize).is_multiple_of(HUGE_PAGE_BYTES) && !filled.is_null());
        // SAFETY: the size is not zero.
        let first = unsafe { HugePages.alloc(BLOCK) };
        // SAFETY: as above.
        let second = unsafe { HugePages.alloc(BLOCK) };
        assert_eq!(first, filled, "the warm one is taken");
        assert_ne!(first, second, "and by nobody else");
        assert!(WARM[0].load(Ordering::Relaxed).is_null());
        for block in [first, second] {
            // SAFETY: both were allocated with this layout.
            unsafe { HugePages.dealloc(block, BLOCK) };
        }
        start_warming().expect("a thread can start");
        while WARM.iter().any(|place| place.load(Ordering::Relaxed).is_null()) {
            thread::yield_now();
        }
    }

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
