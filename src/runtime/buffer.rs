//! Memory for the kernel: page-aligned buffers, and the ring of buffers that receives fill.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// The alignment of direct I/O on every file system that the server supports.
pub const PAGE_BYTES: usize = 4096;

/// Zero-initialised memory on a page boundary, of fixed length.
#[derive(Debug)]
pub struct AlignedBuffer {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to this value alone, as a `Box<[u8]>` would.
unsafe impl Send for AlignedBuffer {}

impl AlignedBuffer {
    /// A buffer of `len` bytes; `len` is a positive multiple of [`PAGE_BYTES`].
    #[must_use]
    pub fn new(len: usize) -> Self {
        let layout = Self::layout(len);
        // SAFETY: the layout's size is positive, which `layout` asserts.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Self { start, len }
    }

    fn layout(len: usize) -> Layout {
        assert!(len > 0 && len.is_multiple_of(PAGE_BYTES), "a buffer is made of whole pages");
        Layout::from_size_align(len, PAGE_BYTES).expect("a buffer is far smaller than memory")
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points at `len` initialised bytes that live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // SAFETY: `new` allocated this memory with the same layout, and nothing else frees it.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.len)) }
    }
}

/// The ring of buffers from which the kernel takes one for each receive.
///
/// A buffer belongs to the kernel from `give` until a completion names it, and to the caller
/// from then until the next `give`.
#[derive(Debug)]
pub(super) struct BufferRing {
    entries: AlignedBuffer,
    memory: AlignedBuffer,
    buffer_bytes: usize,
    count: u16,
    tail: u16,
}

impl BufferRing {
    /// `count` buffers (a power of two) of `buffer_bytes` each, none given yet.
    pub(super) fn new(count: u16, buffer_bytes: usize) -> Self {
        assert!(count.is_power_of_two(), "the kernel masks with the number of buffers");
        let entry_bytes = usize::from(count) * size_of::<BufRingEntry>();
        Self {
            entries: AlignedBuffer::new(entry_bytes.next_multiple_of(PAGE_BYTES)),
            memory: AlignedBuffer::new(
                (usize::from(count) * buffer_bytes).next_multiple_of(PAGE_BYTES),
            ),
            buffer_bytes,
            count,
            tail: 0,
        }
    }

    /// Where the ring of entries lies, for its registration.
    pub(super) fn address(&self) -> u64 {
        self.entries.start.as_ptr() as u64
    }

    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// The first `len` bytes of a buffer that the kernel filled.
    pub(super) fn filled(&self, id: u16, len: usize) -> &[u8] {
        assert!(len <= self.buffer_bytes, "the kernel filled more than a buffer");
        let start = usize::from(id) * self.buffer_bytes;
        &self.memory[start..start + len]
    }

    /// Gives a buffer (back) to the kernel.
    pub(super) fn give(&mut self, id: u16) {
        assert!(id < self.count, "no such buffer");
        let address = self.memory[usize::from(id) * self.buffer_bytes..].as_ptr() as u64;
        let base = self.entries.start.cast::<BufRingEntry>();
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot` is below `count`, and `entries` has room for `count` entries.
        let place = unsafe { base.add(slot) };
        // SAFETY: the kernel does not read an entry before the tail passes it, so this one is
        // ours. The first entry's spare field is the tail itself, and the setters leave it alone.
        let entry = unsafe { &mut *place.as_ptr() };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `base` is the start of a registered ring's entries.
        let tail = unsafe { BufRingEntry::tail(base.as_ptr()) };
        // SAFETY: the tail lies inside `entries`, is aligned, and both sides access it atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_start_on_a_page_and_are_zero() {
        let mut buffer = AlignedBuffer::new(2 * PAGE_BYTES);
        assert_eq!(buffer.as_ptr() as usize % PAGE_BYTES, 0);
        assert!(buffer.iter().all(|byte| *byte == 0));
        buffer[2 * PAGE_BYTES - 1] = 7;
        assert_eq!(buffer.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 7);
    }
}
