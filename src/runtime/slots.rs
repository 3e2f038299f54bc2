//! The operations in flight: a slot owns the memory that the kernel works on.

/// Values with small, reusable numbers.
#[derive(Debug)]
pub(super) struct Slots<T> {
    values: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { values: Vec::with_capacity(capacity), free: Vec::with_capacity(capacity) }
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.values[slot as usize] = Some(value);
            slot
        } else {
            self.values.push(Some(value));
            (self.values.len() - 1) as u32
        }
    }

    pub(super) fn peek_mut(&mut self, slot: u32) -> &mut T {
        self.values[slot as usize].as_mut().expect("a completion names an operation in flight")
    }

    pub(super) fn take(&mut self, slot: u32) -> T {
        let value = self.values[slot as usize].take();
        self.free.push(slot);
        value.expect("a completion names an operation in flight")
    }

    pub(super) fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }
}
