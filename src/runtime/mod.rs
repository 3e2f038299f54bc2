//! The machine below the server: rings, buffers, mailboxes, CPU placement, clocks, sockets.
//!
//! The only module with `unsafe` and with system calls of its own. It knows no tickets: tokens
//! are numbers that its caller chose, and bytes are bytes.

pub mod background;
pub mod buffer;
pub mod clock;
pub mod cpu;
pub mod disk;
pub mod file;
pub mod huge;
pub mod interrupt;
pub mod limits;
pub mod mailbox;
pub mod net;
pub mod probe;
pub mod process;
pub mod ring;
mod slots;
pub mod terminal;
pub mod unix;

pub use buffer::AlignedBuffer;
pub use clock::{Clock, SystemClock};
pub use mailbox::{Inbox, Outbox, Wakeup};
pub use ring::{Event, Operation, Received, Ring, RingConfig, RingError, Token, Wait};
