//! Mailboxes between threads: bounded queues of one producer and one consumer, and the
//! wake-up of a consumer that sleeps in its ring.
//!
//! A consumer that is about to sleep says so first and then looks into its inboxes once more;
//! a producer pushes first and then looks whether the consumer sleeps. Both do so by exchanging
//! the same flag, and exchanges come one behind the other: a producer that comes later finds the
//! consumer asleep, and of one that came earlier the consumer sees the message. A model checker
//! runs that handshake in every order that the memory model allows.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes one thread that sleeps in its ring.
#[derive(Clone, Debug)]
pub struct Wakeup(Arc<Sleeper>);

#[derive(Debug)]
struct Sleeper {
    event: OwnedFd,
    asleep: Asleep<AtomicBool>,
}

/// The handshake of a thread that sleeps with those that wake it. It is generic in its flag alone,
/// so that what the model checker tries in every order is this very code.
#[derive(Debug)]
struct Asleep<F>(F);

/// What the handshake does to its flag: it exchanges and never stores, so that all that happens
/// to it has one order.
trait Flag {
    fn swap(&self, value: bool, order: Ordering) -> bool;
}

impl Flag for AtomicBool {
    #[inline]
    fn swap(&self, value: bool, order: Ordering) -> bool {
        self.swap(value, order)
    }
}

impl<F: Flag> Asleep<F> {
    /// The owner is about to sleep. It must look into its inboxes after this.
    #[inline]
    fn fall_asleep(&self) {
        // Acquires what every producer released that found it awake.
        self.0.swap(true, Ordering::AcqRel);
    }

    /// The owner is awake again.
    #[inline]
    fn stay_awake(&self) {
        self.0.swap(false, Ordering::Relaxed);
    }

    /// Whether the owner sleeps and the caller, who has pushed a message before this, is the one
    /// to wake it.
    #[inline]
    fn must_be_woken(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

impl Wakeup {
    /// A wake-up whose owner is awake.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(Sleeper { event, asleep: Asleep(AtomicBool::new(false)) })))
    }

    /// What the owner reads in its ring, to be woken.
    #[must_use]
    pub fn event(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }

    /// The owner is about to sleep. It must look into its inboxes after this.
    pub fn fall_asleep(&self) {
        self.0.asleep.fall_asleep();
    }

    /// The owner is awake again.
    pub fn stay_awake(&self) {
        self.0.asleep.stay_awake();
    }

    /// Wakes the owner where it sleeps.
    pub fn wake(&self) {
        if self.0.asleep.must_be_woken() {
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

    mod handshake {
        //! The handshake in every order in which threads can be interrupted up to three times. The
        //! queue and the eventfd, which are not ours, are stood in for by what they promise.

        use std::sync::atomic::AtomicBool as Verdict;

        use loom::sync::Arc;
        use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
        use loom::thread;

        use super::super::{Asleep, Flag};

        impl Flag for AtomicBool {
            fn swap(&self, value: bool, order: Ordering) -> bool {
                self.swap(value, order)
            }
        }

        /// A planted bug: the exchanges carry nothing with them.
        struct Careless(AtomicBool);

        impl Flag for Careless {
            fn swap(&self, value: bool, _: Ordering) -> bool {
                self.0.swap(value, Ordering::Relaxed)
            }
        }

        /// A queue says how many messages were pushed; an eventfd keeps wake-ups until it is read.
        struct Shared<F> {
            asleep: Asleep<F>,
            pushed: Vec<AtomicUsize>,
            wakes: AtomicUsize,
        }

        impl<F: Flag> Shared<F> {
            fn new(flag: F, producers: usize) -> Self {
                let pushed = (0..producers).map(|_| AtomicUsize::new(0)).collect();
                Self { asleep: Asleep(flag), pushed, wakes: AtomicUsize::new(0) }
            }

            fn produce(&self, producer: usize, messages: usize) {
                for message in 1..=messages {
                    self.pushed[producer].store(message, Ordering::Release);
                    if self.asleep.must_be_woken() {
                        self.wakes.fetch_add(1, Ordering::Release);
                    }
                }
            }

            fn received(&self) -> usize {
                self.pushed.iter().map(|pushed| pushed.load(Ordering::Acquire)).sum()
            }

            /// Receives until it sleeps and nothing has woken it yet. Returns what it received.
            fn consume(&self, expected: usize, looks: Looks) -> usize {
                let mut received = 0;
                while received < expected {
                    let nothing_before = self.received() == received;
                    self.asleep.fall_asleep();
                    let has_nothing = match looks {
                        Looks::Afterwards => self.received() == received,
                        Looks::Before => nothing_before,
                    };
                    if has_nothing && self.wakes.swap(0, Ordering::Acquire) == 0 {
                        return received;
                    }
                    self.asleep.stay_awake();
                    received = self.received();
                }
                received
            }
        }

        /// When the consumer looks into its inboxes.
        #[derive(Clone, Copy)]
        enum Looks {
            /// As the shard's loop does.
            Afterwards,
            /// A planted bug: before it says that it sleeps.
            Before,
        }

        /// Whether there is an order in which a consumer sleeps, has a message, and nobody has
        /// woken it when all is over.
        fn misses_a_message<F: Flag + 'static>(
            flag: fn() -> F,
            producers: usize,
            messages: usize,
            looks: Looks,
        ) -> bool {
            let missed = std::sync::Arc::new(Verdict::new(false));
            let seen = std::sync::Arc::clone(&missed);
            let mut model = loom::model::Builder::new();
            model.preemption_bound = Some(3);
            model.check(move || {
                let shared = Arc::new(Shared::new(flag(), producers));
                let threads: Vec<_> = (0..producers)
                    .map(|producer| {
                        let shared = Arc::clone(&shared);
                        thread::spawn(move || shared.produce(producer, messages))
                    })
                    .collect();
                let received = shared.consume(producers * messages, looks);
                for thread in threads {
                    thread.join().expect("a producer ends");
                }
                let waits = received < producers * messages;
                if waits && shared.wakes.load(Ordering::Acquire) == 0 {
                    seen.store(true, Ordering::Relaxed);
                }
            });
            missed.load(Ordering::Relaxed)
        }

        #[test]
        fn no_message_is_missed_in_any_order() {
            assert!(!misses_a_message(|| AtomicBool::new(false), 1, 3, Looks::Afterwards));
            assert!(!misses_a_message(|| AtomicBool::new(false), 2, 1, Looks::Afterwards));
        }

        #[test]
        fn canary_a_handshake_without_order_misses_a_message() {
            let flag = || Careless(AtomicBool::new(false));
            assert!(misses_a_message(flag, 1, 1, Looks::Afterwards));
        }

        #[test]
        fn canary_a_consumer_that_looks_too_early_misses_a_message() {
            assert!(misses_a_message(|| AtomicBool::new(false), 1, 1, Looks::Before));
        }
    }
}
