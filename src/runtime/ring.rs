//! One thread's io_uring, with every buffer in flight owned by the ring.
//!
//! Callers push operations, then `enter` once a turn, then read the events. Safe code cannot
//! free memory that the kernel works on: a send takes its `Vec`, a write its
//! [`AlignedBuffer`], and both come back with their event. A ring that is dropped with
//! operations in flight leaks their memory rather than freeing it under the kernel.
//!
//! There is no retry, no queue of its own and no callback here: what happened becomes an
//! [`Event`], and nothing recurses.

use std::io;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::io::Errno;
use socket2::SockAddr;

use super::buffer::{AlignedBuffer, BufferRing};
use super::file::SyncMethod;
use super::slots::Slots;

/// The group of the only buffer ring.
const BUFFER_GROUP: u16 = 0;

/// `IORING_ENTER_GETEVENTS`: run the completions' deferred work even without waiting.
const ENTER_GETEVENTS: u32 = 1;

/// What a completion is told by: chosen by the caller, one for each thing that it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub u32);

/// An operation in flight that can be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation(u64);

/// The sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub struct RingConfig {
    /// Submissions that fit between two enters before one is forced.
    pub submissions: u32,
    /// Completions that fit before the kernel has to keep them aside.
    pub completions: u32,
    /// Receive buffers, a power of two.
    pub receive_buffers: u16,
    /// The size of a receive buffer.
    pub receive_buffer_bytes: usize,
}

/// Why there is no ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The kernel has no io_uring.
    #[error("this kernel has no io_uring; run a Linux kernel of 6.1 or later")]
    Missing,
    /// A policy forbids it.
    #[error(
        "io_uring is forbidden here: check `sysctl kernel.io_uring_disabled` (0 allows it), \
         the container's seccomp profile and the unit's SystemCallFilter"
    )]
    Forbidden,
    /// The limit on locked memory is too low.
    #[error(
        "the limit on locked memory is too low for the ring ({}): raise it \
         (`ulimit -l`, or LimitMEMLOCK= in the unit)",
        .limit.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{bytes} bytes"))
    )]
    LockedMemory {
        /// The limit in force.
        limit: Option<u64>,
    },
    /// The kernel is too old for a feature.
    #[error("the kernel lacks {feature} ({source}); run a Linux kernel of 6.1 or later")]
    TooOld {
        /// Which one.
        feature: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another error.
    #[error("io_uring cannot be set up: {0}")]
    Other(io::Error),
}

/// How long `enter` may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until a completion, or this long.
    AtMost(Duration),
    /// Until a completion.
    Forever,
}

/// Bytes in a receive buffer. They are the ring's until [`Ring::recycle`] takes this back.
#[derive(Debug)]
#[must_use = "a buffer that is not recycled is lost to the ring"]
pub struct Received {
    buffer: u16,
    len: usize,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A connection was accepted, or accepting failed. Without `more`, accepting has ended.
    Accepted {
        /// The listener's token.
        token: Token,
        /// The connection.
        socket: io::Result<OwnedFd>,
        /// Whether the operation goes on.
        more: bool,
    },
    /// A connection was made, or could not be.
    Connected {
        /// The connection's token.
        token: Token,
        /// Whether it was made.
        result: io::Result<()>,
    },
    /// Bytes arrived (`None` is the end of the stream), or receiving failed. Without `more`,
    /// receiving has ended.
    Received {
        /// The connection's token.
        token: Token,
        /// The bytes.
        bytes: io::Result<Option<Received>>,
        /// Whether the operation goes on.
        more: bool,
    },
    /// A send ended.
    Sent {
        /// The connection's token.
        token: Token,
        /// The buffer, as it was given.
        buffer: Vec<u8>,
        /// How many bytes went out.
        result: io::Result<usize>,
    },
    /// A write ended, durably where it succeeded. One that came short is a failure.
    Written {
        /// The writer's token.
        token: Token,
        /// The buffer, as it was given.
        buffer: AlignedBuffer,
        /// How many bytes were written.
        result: io::Result<usize>,
    },
    /// The thread was woken.
    Woken,
}

/// What the kernel works on.
#[derive(Debug)]
enum InFlight {
    Accept,
    Connect {
        #[expect(dead_code, reason = "the kernel reads it")]
        address: Box<SockAddr>,
    },
    Receive,
    Send(Vec<u8>),
    Write {
        buffer: AlignedBuffer,
        len: usize,
        flushes: bool,
        written: Option<io::Result<usize>>,
    },
    Wake(Box<[u8; 8]>),
    Cancel,
}

/// A thread's ring.
pub struct Ring {
    uring: ManuallyDrop<IoUring>,
    buffers: ManuallyDrop<BufferRing>,
    in_flight: ManuallyDrop<Slots<InFlight>>,
    /// Read off the queue and not yet turned into events; empty between calls.
    completions: Vec<cqueue::Entry>,
    /// Those that a full queue forced count as well.
    enters: u64,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("in_flight", &self.in_flight.len()).finish_non_exhaustive()
    }
}

impl Ring {
    /// A ring for the calling thread, which alone may use it.
    pub fn new(config: &RingConfig) -> Result<Self, RingError> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(config.completions)
            .build(config.submissions)
            .map_err(|source| setup_error(source, "DEFER_TASKRUN rings"))?;
        let mut buffers = BufferRing::new(config.receive_buffers, config.receive_buffer_bytes);
        // SAFETY: the entries stay where they are until the ring is gone: `Drop` sees to it.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                buffers.address(),
                buffers.count(),
                BUFFER_GROUP,
                0,
            )
        }
        .map_err(|source| setup_error(source, "provided buffer rings"))?;
        for id in 0..buffers.count() {
            buffers.give(id);
        }
        Ok(Self {
            uring: ManuallyDrop::new(ring),
            buffers: ManuallyDrop::new(buffers),
            in_flight: ManuallyDrop::new(Slots::with_capacity(config.completions as usize)),
            completions: Vec::with_capacity(config.completions as usize),
            enters: 0,
        })
    }

    /// Whether a ring like this can be set up here, and entered; it is gone when this returns.
    pub fn probe(config: &RingConfig) -> Result<(), RingError> {
        let entered = Self::new(config)?.enter(Wait::No);
        entered.map_err(|source| setup_error(source, "waiting for completions"))
    }

    /// Accepts connections until the operation ends.
    pub fn accept(&mut self, listener: BorrowedFd<'_>, token: Token) -> Operation {
        let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd()))
            .flags(rustix::net::SocketFlags::CLOEXEC.bits().cast_signed())
            .build();
        let slot = self.push(entry, token, InFlight::Accept);
        Operation(user_data(slot, token))
    }

    /// Connects a socket that [`net::socket`](super::net::socket) made.
    pub fn connect(&mut self, socket: BorrowedFd<'_>, token: Token, address: SocketAddr) {
        let address = Box::new(SockAddr::from(address));
        let fd = Fd(socket.as_raw_fd());
        let entry = opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build();
        self.push(entry, token, InFlight::Connect { address });
    }

    /// Receives from a connection until the operation ends.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, token: Token) -> Operation {
        let entry = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), BUFFER_GROUP).build();
        let slot = self.push(entry, token, InFlight::Receive);
        Operation(user_data(slot, token))
    }

    /// Ends an operation: its last event comes soon, without `more`.
    pub fn cancel(&mut self, operation: Operation) {
        let entry = opcode::AsyncCancel::new(operation.0).build();
        self.push(entry, Token(0), InFlight::Cancel);
    }

    /// Sends a whole buffer.
    pub fn send(&mut self, socket: BorrowedFd<'_>, token: Token, buffer: Vec<u8>) {
        let flags = rustix::net::SendFlags::NOSIGNAL.bits() | MSG_WAITALL;
        let entry = opcode::Send::new(
            Fd(socket.as_raw_fd()),
            buffer.as_ptr(),
            u32::try_from(buffer.len()).expect("answers are bounded far below 4 GiB"),
        )
        .flags(flags.cast_signed())
        .build();
        self.push(entry, token, InFlight::Send(buffer));
    }

    /// Writes the first `len` bytes of a buffer durably.
    pub fn write(
        &mut self,
        file: BorrowedFd<'_>,
        token: Token,
        (buffer, len): (AlignedBuffer, usize),
        offset: u64,
        method: SyncMethod,
    ) {
        assert!(len <= buffer.len(), "a write stays inside its buffer");
        let file = Fd(file.as_raw_fd());
        let entry = opcode::Write::new(file, buffer.as_ptr(), len as u32).offset(offset).build();
        let flushes = method.flushes();
        let write = InFlight::Write { buffer, len, flushes, written: None };
        if flushes {
            self.make_room(2);
            let slot = self.push(entry.flags(squeue::Flags::IO_LINK), token, write);
            let sync = opcode::Fsync::new(file).flags(FsyncFlags::DATASYNC).build();
            self.push_entry(&sync.user_data(user_data(slot, token)));
        } else {
            self.push(entry, token, write);
        }
    }

    /// Waits for the thread's wake-up, once.
    pub fn await_wake(&mut self, event: BorrowedFd<'_>) {
        let mut word = Box::new([0_u8; 8]);
        let entry = opcode::Read::new(Fd(event.as_raw_fd()), word.as_mut_ptr(), 8).build();
        self.push(entry, Token(0), InFlight::Wake(word));
    }

    /// Submits what was pushed, and waits for completions as long as `wait` says.
    pub fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.enters += 1;
        let submitter = self.uring.submitter();
        let result = match wait {
            Wait::Forever => self.uring.submit_and_wait(1),
            Wait::AtMost(time) => {
                let time = Timespec::from(time);
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
            Wait::No => {
                let pushed = self.uring.submission_shared_len();
                // SAFETY: no argument is passed, and the pushed entries are sound by themselves.
                unsafe { submitter.enter::<()>(pushed, 0, ENTER_GETEVENTS, None) }
            }
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::TIME | Errno::INTR | Errno::BUSY | Errno::AGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// The events since the last call, oldest first.
    pub fn take_events(&mut self, events: &mut Vec<Event>) {
        let mut completions = std::mem::take(&mut self.completions);
        completions.extend(self.uring.completion());
        events.extend(completions.drain(..).filter_map(|completion| self.complete(&completion)));
        self.completions = completions;
    }

    /// The bytes that were received.
    #[must_use]
    pub fn received(&self, received: &Received) -> &[u8] {
        self.buffers.filled(received.buffer, received.len)
    }

    /// Gives a receive buffer back to the kernel.
    #[expect(clippy::needless_pass_by_value, reason = "whoever gave a buffer back has it no more")]
    pub fn recycle(&mut self, received: Received) {
        let Received { buffer, len: _ } = received;
        self.buffers.give(buffer);
    }

    /// How often the thread entered the kernel through this ring.
    #[must_use]
    pub const fn enters(&self) -> u64 {
        self.enters
    }

    fn complete(&mut self, completion: &cqueue::Entry) -> Option<Event> {
        let (slot, token) = split(completion.user_data());
        let more = cqueue::more(completion.flags());
        let result = completion.result();
        match self.in_flight.peek_mut(slot) {
            InFlight::Accept => {
                // SAFETY: a successful accept made this descriptor, and nothing else owns it.
                let socket = outcome(result).map(|_| unsafe { OwnedFd::from_raw_fd(result) });
                self.end_unless(more, slot);
                Some(Event::Accepted { token, socket, more })
            }
            InFlight::Receive => {
                let bytes = outcome(result).map(|len| {
                    cqueue::buffer_select(completion.flags()).map(|buffer| Received { buffer, len })
                });
                self.end_unless(more, slot);
                Some(Event::Received { token, bytes, more })
            }
            InFlight::Write { flushes: true, written: written @ None, .. } => {
                *written = Some(outcome(result));
                None
            }
            InFlight::Connect { .. }
            | InFlight::Send(_)
            | InFlight::Write { .. }
            | InFlight::Wake(_)
            | InFlight::Cancel => {
                let ended = self.in_flight.take(slot);
                ended_event(ended, token, outcome(result))
            }
        }
    }

    fn end_unless(&mut self, more: bool, slot: u32) {
        if !more {
            self.in_flight.take(slot);
        }
    }

    fn push(&mut self, entry: squeue::Entry, token: Token, owner: InFlight) -> u32 {
        let slot = self.in_flight.insert(owner);
        self.push_entry(&entry.user_data(user_data(slot, token)));
        slot
    }

    fn push_entry(&mut self, entry: &squeue::Entry) {
        self.make_room(1);
        // SAFETY: the memory that the entry names is owned by its slot until its completion.
        unsafe { self.uring.submission().push(entry) }.expect("room was made");
    }

    /// Submits early where the queue is too full for `entries` more.
    fn make_room(&mut self, entries: usize) {
        let queue = self.uring.submission();
        if queue.capacity() - queue.len() < entries {
            drop(queue);
            self.enters += 1;
            self.uring.submit().expect("the kernel takes a full queue of sound entries");
        }
    }
}

/// `MSG_WAITALL`: a send completes when all of it has gone out.
const MSG_WAITALL: u32 = 0x100;

/// Extension of the crate's ring: what is pushed and not yet submitted.
trait PushedLen {
    fn submission_shared_len(&self) -> u32;
}

impl PushedLen for IoUring {
    fn submission_shared_len(&self) -> u32 {
        // SAFETY: this thread alone touches the queue, and it does so through no other handle.
        let queue = unsafe { self.submission_shared() };
        queue.len() as u32
    }
}

fn ended_event(ended: InFlight, token: Token, result: io::Result<usize>) -> Option<Event> {
    match ended {
        InFlight::Connect { .. } => Some(Event::Connected { token, result: result.map(|_| ()) }),
        InFlight::Send(buffer) => Some(Event::Sent { token, buffer, result }),
        InFlight::Write { buffer, len, written, .. } => {
            // Behind a write that failed or came short, its flush is cancelled: the write's own
            // result says more.
            let (written, flushed) = match written {
                Some(written) => (written, result.map(|_| ())),
                None => (result, Ok(())),
            };
            let result = written.and_then(|written| whole(written, len)).and(flushed);
            Some(Event::Written { token, buffer, result: result.map(|()| len) })
        }
        InFlight::Wake(count) => {
            assert_ne!(*count, [0; 8], "an eventfd is read only once it was written");
            Some(Event::Woken)
        }
        InFlight::Accept | InFlight::Receive | InFlight::Cancel => None,
    }
}

/// A write that was cut short left a frame that cannot be read.
fn whole(written: usize, len: usize) -> io::Result<()> {
    if written == len {
        return Ok(());
    }
    let message = format!("only {written} of {len} bytes were written");
    Err(io::Error::new(io::ErrorKind::WriteZero, message))
}

fn user_data(slot: u32, token: Token) -> u64 {
    u64::from(slot) << 32 | u64::from(token.0)
}

fn split(user_data: u64) -> (u32, Token) {
    ((user_data >> 32) as u32, Token(user_data as u32))
}

fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

fn setup_error(error: io::Error, feature: &'static str) -> RingError {
    match Errno::from_io_error(&error) {
        Some(Errno::NOSYS) => RingError::Missing,
        Some(Errno::PERM | Errno::ACCESS) => RingError::Forbidden,
        Some(Errno::NOMEM) => RingError::LockedMemory { limit: super::limits::locked_bytes() },
        Some(Errno::INVAL) => RingError::TooOld { feature, source: error },
        _ => RingError::Other(error),
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let idle = self.in_flight.len() == 0;
        // SAFETY: nothing uses the ring after this.
        unsafe { ManuallyDrop::drop(&mut self.uring) };
        // The kernel ends what is in flight some time after the ring is closed, so the memory
        // may be freed only where nothing was.
        if idle {
            // SAFETY: nothing uses the buffers after this, the kernel included.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
            // SAFETY: likewise.
            unsafe { ManuallyDrop::drop(&mut self.in_flight) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::fd::AsFd;

    use super::*;
    use crate::runtime::{file, net};

    const CONFIG: RingConfig = RingConfig {
        submissions: 8,
        completions: 64,
        receive_buffers: 8,
        receive_buffer_bytes: 4096,
    };

    fn next_events(ring: &mut Ring) -> Vec<Event> {
        let mut events = Vec::new();
        while events.is_empty() {
            ring.enter(Wait::AtMost(Duration::from_secs(5))).expect("the ring enters");
            ring.take_events(&mut events);
        }
        events
    }

    #[test]
    fn it_accepts_receives_sends_and_sees_the_end() {
        let mut ring = Ring::new(&CONFIG).expect("a ring");
        let listeners = net::listen("127.0.0.1:0".parse().expect("an address"), 1).expect("free");
        ring.accept(listeners.sockets[0].as_fd(), Token(1));
        let mut peer = TcpStream::connect(listeners.address).expect("it listens");
        let [Event::Accepted { token: Token(1), socket: Ok(socket), more: true }] =
            <[Event; 1]>::try_from(next_events(&mut ring)).expect("one event")
        else {
            panic!("the connection was not accepted")
        };
        ring.receive(socket.as_fd(), Token(2));
        peer.write_all(b"ping").expect("it sends");
        let [Event::Received { token: Token(2), bytes: Ok(Some(bytes)), more: true }] =
            <[Event; 1]>::try_from(next_events(&mut ring)).expect("one event")
        else {
            panic!("nothing was received")
        };
        assert_eq!(ring.received(&bytes), b"ping");
        ring.recycle(bytes);
        ring.send(socket.as_fd(), Token(2), b"pong".to_vec());
        let mut answer = [0; 4];
        assert!(matches!(next_events(&mut ring)[..], [Event::Sent { result: Ok(4), .. }]));
        peer.read_exact(&mut answer).expect("it answers");
        assert_eq!(&answer, b"pong");
        drop(peer);
        let events = next_events(&mut ring);
        assert!(matches!(events[..], [Event::Received { bytes: Ok(None), more: false, .. }]));
    }

    #[test]
    fn it_connects_or_says_why_not() {
        let mut ring = Ring::new(&CONFIG).expect("a ring");
        let listeners = net::listen("127.0.0.1:0".parse().expect("an address"), 1).expect("free");
        let address = listeners.address;
        let mut connect = || {
            let socket = net::socket(address).expect("a socket");
            ring.connect(socket.as_fd(), Token(6), address);
            let [Event::Connected { token: Token(6), result }] =
                <[Event; 1]>::try_from(next_events(&mut ring)).expect("one event")
            else {
                panic!("no end of connecting")
            };
            result.map_err(|error| error.kind())
        };
        assert_eq!(connect(), Ok(()));
        drop(listeners);
        assert_eq!(connect(), Err(io::ErrorKind::ConnectionRefused));
    }

    #[test]
    fn a_cancelled_receive_ends() {
        let mut ring = Ring::new(&CONFIG).expect("a ring");
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let receive = ring.receive(ours.as_fd(), Token(3));
        ring.cancel(receive);
        let events = next_events(&mut ring);
        assert!(matches!(events[..], [Event::Received { bytes: Err(_), more: false, .. }]));
    }

    #[test]
    fn writes_reach_the_file_by_either_method() {
        let directory = tempfile::tempdir_in(".").expect("a directory on a real disk");
        let path = directory.path().join("log");
        for (fill, method) in [(1, SyncMethod::DataSync), (2, SyncMethod::Flush)] {
            std::fs::write(&path, [0; 8192]).expect("it writes");
            let file = file::open_direct(&path, method).expect("direct I/O");
            let mut ring = Ring::new(&CONFIG).expect("a ring");
            let mut buffer = AlignedBuffer::new(8192);
            buffer.fill(fill);
            ring.write(file.as_fd(), Token(4), (buffer, 4096), 4096, method);
            let events = next_events(&mut ring);
            assert!(matches!(events[..], [Event::Written { result: Ok(4096), .. }]));
            let bytes = std::fs::read(&path).expect("it reads");
            assert!(bytes[..4096].iter().all(|byte| *byte == 0));
            assert!(bytes[4096..].iter().all(|byte| *byte == fill));
        }
    }

    /// A pipe takes as much as it has room for, as a disk or a limit on file sizes may.
    #[test]
    fn a_write_that_comes_short_has_failed() {
        for method in [SyncMethod::DataSync, SyncMethod::Flush] {
            let mut ring = Ring::new(&CONFIG).expect("a ring");
            let (_reader, writer) = io::pipe().expect("a pipe");
            let buffer = AlignedBuffer::new(1 << 20);
            ring.write(writer.as_fd(), Token(5), (buffer, 1 << 20), 0, method);
            let [Event::Written { result: Err(error), .. }] =
                <[Event; 1]>::try_from(next_events(&mut ring)).expect("one event")
            else {
                panic!("a pipe has no room for so much")
            };
            assert_eq!(error.kind(), io::ErrorKind::WriteZero, "{error}");
        }
    }

    #[test]
    fn a_failed_write_says_why() {
        for method in [SyncMethod::DataSync, SyncMethod::Flush] {
            let mut ring = Ring::new(&CONFIG).expect("a ring");
            let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it opens");
            ring.write(full.as_fd(), Token(5), (AlignedBuffer::new(4096), 4096), 0, method);
            let [Event::Written { result: Err(error), .. }] =
                <[Event; 1]>::try_from(next_events(&mut ring)).expect("one event")
            else {
                panic!("the write did not fail")
            };
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
    }
}
