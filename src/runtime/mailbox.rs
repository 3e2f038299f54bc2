//! Mailboxes between threads: bounded queues of one producer and one consumer, and the
//! wake-up of a consumer that sleeps in its ring.
//!
//! A consumer that is about to sleep says so first and then looks into its inboxes once more;
//! a producer pushes first and then looks whether the consumer sleeps. The fences between the
//! two steps of each side make it impossible that both miss the other.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes one thread that sleeps in its ring.
#[derive(Clone, Debug)]
pub struct Wakeup(Arc<Sleeper>);

#[derive(Debug)]
struct Sleeper {
    event: OwnedFd,
    asleep: AtomicBool,
}

impl Wakeup {
    /// A wake-up whose owner is awake.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(Sleeper { event, asleep: AtomicBool::new(false) })))
    }

    /// What the owner reads in its ring, to be woken.
    #[must_use]
    pub fn event(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }

    /// The owner is about to sleep. It must look into its inboxes after this.
    pub fn fall_asleep(&self) {
        self.0.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The owner is awake again.
    pub fn stay_awake(&self) {
        self.0.asleep.store(false, Ordering::Relaxed);
    }

    /// Wakes the owner where it sleeps.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.0.asleep.swap(false, Ordering::Relaxed) {
            let one = 1_u64.to_ne_bytes();
            rustix::io::write(&self.0.event, &one).expect("an eventfd takes 2^64 wake-ups");
        }
    }
}

/// The sending end of a mailbox.
#[derive(Debug)]
pub struct Outbox<T> {
    queue: rtrb::Producer<T>,
    wakeup: Wakeup,
}

/// The receiving end of a mailbox.
#[derive(Debug)]
pub struct Inbox<T> {
    queue: rtrb::Consumer<T>,
}

/// A mailbox of `capacity` messages, whose consumer is woken by `wakeup`.
#[must_use]
pub fn mailbox<T>(capacity: usize, wakeup: Wakeup) -> (Outbox<T>, Inbox<T>) {
    let (producer, consumer) = rtrb::RingBuffer::new(capacity);
    (Outbox { queue: producer, wakeup }, Inbox { queue: consumer })
}

impl<T> Outbox<T> {
    /// Puts a message in without waking the consumer; gives it back where the mailbox is full.
    pub fn push(&mut self, message: T) -> Result<(), T> {
        self.queue.push(message).map_err(|rtrb::PushError::Full(message)| message)
    }

    /// Whether a message would be given back now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.queue.is_full()
    }

    /// Wakes the consumer where it sleeps. Once after several messages is enough.
    pub fn wake(&self) {
        self.wakeup.wake();
    }
}

impl<T> Inbox<T> {
    /// The oldest message.
    pub fn pop(&mut self) -> Option<T> {
        self.queue.pop().ok()
    }

    /// Whether there is no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_gives_the_message_back() {
        let (mut outbox, mut inbox) = mailbox(2, Wakeup::new().expect("an eventfd"));
        assert_eq!(outbox.push(1), Ok(()));
        assert_eq!(outbox.push(2), Ok(()));
        assert!(outbox.is_full());
        assert_eq!(outbox.push(3), Err(3));
        assert_eq!((inbox.pop(), inbox.pop(), inbox.pop()), (Some(1), Some(2), None));
    }

    #[test]
    fn a_sleeper_misses_no_message() {
        const MESSAGES: u32 = 200_000;
        let wakeup = Wakeup::new().expect("an eventfd");
        let (mut outbox, mut inbox) = mailbox(64, wakeup.clone());
        let producer = std::thread::spawn(move || {
            for message in 0..MESSAGES {
                while outbox.push(message).is_err() {
                    outbox.wake();
                    std::thread::yield_now();
                }
                outbox.wake();
            }
        });
        let mut next = 0;
        while next < MESSAGES {
            wakeup.fall_asleep();
            if inbox.is_empty() {
                rustix::io::read(wakeup.event(), &mut [0_u8; 8]).expect("an eventfd reads");
            }
            wakeup.stay_awake();
            while let Some(message) = inbox.pop() {
                assert_eq!(message, next, "messages keep their order");
                next += 1;
            }
        }
        producer.join().expect("the producer ends");
    }
}
