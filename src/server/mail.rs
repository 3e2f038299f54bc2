//! What shards say to each other: requests that arrived on the wrong shard, and their answers.

use super::connection::ReplyTo;
use super::form::Form;
use crate::model::{Command, Query, Route};

/// Requests and answers that fit one mailbox between two shards.
pub const MAILBOX_MESSAGES: usize = 2048;

/// Answers up to this size travel without an allocation; only listings are larger.
const INLINE_BYTES: usize = 96;

/// An encoded answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frames {
    /// A short one.
    Inline {
        /// Its bytes, followed by unused ones.
        bytes: [u8; INLINE_BYTES],
        /// How many count.
        len: u8,
    },
    /// A long one.
    Boxed(Box<[u8]>),
}

impl Frames {
    /// Takes a copy of encoded frames.
    #[must_use]
    pub fn copy_of(frames: &[u8]) -> Self {
        if frames.len() <= INLINE_BYTES {
            let mut bytes = [0; INLINE_BYTES];
            bytes[..frames.len()].copy_from_slice(frames);
            Self::Inline { bytes, len: frames.len() as u8 }
        } else {
            Self::Boxed(frames.into())
        }
    }

    /// The encoded frames.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { bytes, len } => &bytes[..usize::from(*len)],
            Self::Boxed(bytes) => bytes,
        }
    }
}

/// A request to a sale, where it was decoded.
#[derive(Clone, Copy, Debug)]
pub enum Ask<'a> {
    /// To change something.
    Command(&'a Command),
    /// To read something.
    Query(&'a Query),
}

/// A request to a sale that travels.
#[derive(Clone, Debug)]
pub enum SentAsk {
    /// To change something.
    Command(Command),
    /// To read something.
    Query(Query),
}

impl Ask<'_> {
    /// What decides the shard.
    #[must_use]
    pub const fn route(self) -> Route {
        match self {
            Self::Command(command) => Route::Sale(command.sale()),
            Self::Query(query) => query.route(),
        }
    }

    /// A copy that can travel.
    #[must_use]
    pub fn to_sent(self) -> SentAsk {
        match self {
            Self::Command(command) => SentAsk::Command(command.clone()),
            Self::Query(query) => SentAsk::Query(*query),
        }
    }
}

impl SentAsk {
    /// The request, where it arrived.
    #[must_use]
    pub const fn as_ask(&self) -> Ask<'_> {
        match self {
            Self::Command(command) => Ask::Command(command),
            Self::Query(query) => Ask::Query(query),
        }
    }
}

/// A message from one shard to another.
#[derive(Clone, Debug)]
pub enum Mail {
    /// A request for a sale of the receiver.
    Request {
        /// Where the answer goes, on the sender's side.
        reply_to: ReplyTo,
        /// What the answer is to look like.
        form: Form,
        /// What is asked.
        ask: SentAsk,
    },
    /// The answer to a request that the receiver sent.
    Answer {
        /// Where it goes, on the receiver's side.
        reply_to: ReplyTo,
        /// The answer.
        frames: Frames,
    },
}
