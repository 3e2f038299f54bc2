//! Errors by what the caller can do about them, and what went wrong on the wire.

use std::io;
use std::time::Duration;

use crate::model::{Refusal, RequestId};
use crate::protocol::binary::DecodeError;
use crate::protocol::codes::WireCode;

/// Why a call did not succeed. The variants are what it means for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The server's definite "no". Nothing changed.
    #[error("refused: {}", refusal_text(.0))]
    Refused(Refusal),
    /// Certainly not executed, or only a question: another try may succeed.
    #[error("not executed, and safe to try again: {0}")]
    NotExecuted(Cause),
    /// Another try of the same will fail the same way: something must be mended first.
    #[error("cannot work: {0}")]
    Definite(Cause),
    /// It was sent, and whether it was executed is not known.
    #[error(
        "outcome unknown: {cause}. {}",
        match request {
            Some(_) => "Send it again under the same request id, or settle it: a fence of that \
                        request id tells its outcome, or makes sure that it never has one",
            None => "Send it again: it has the same effect once or twice",
        }
    )]
    UnknownOutcome {
        /// The request id; administration mostly has none.
        request: Option<RequestId>,
        /// What broke.
        cause: Cause,
    },
}

impl ClientError {
    /// Whether the very same call may succeed later, and cannot do harm meanwhile.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::NotExecuted(_)
                | Self::Refused(Refusal::Overloaded | Refusal::Draining | Refusal::DiskFull)
        )
    }
}

fn refusal_text(refusal: &Refusal) -> String {
    let name = refusal.code().name();
    match refusal {
        Refusal::NotOpen { opens_at: Some(time) } => format!("{name} (opens at {time} ms)"),
        Refusal::WrongState { state } => format!("{name} (the order is {})", state.name()),
        Refusal::BadRequest { field } => format!("{name} ({})", field.name()),
        _ => name.to_owned(),
    }
}

/// What went wrong on the wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The operating system said no.
    #[error("{0}")]
    Io(io::ErrorKind),
    /// The address names no host.
    #[error("the address has no host behind it")]
    NoAddress,
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// The connection was silent for too long.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// The server's bytes are no frame.
    #[error("the server's bytes make no sense: {0}")]
    Malformed(DecodeError),
    /// The server answered what was not asked, or answered it twice.
    #[error("the server answered what was not asked, with correlation id {0}")]
    Unsolicited(u64),
    /// The server answered with an outcome that does not go with the request.
    #[error("the server answered with another kind of outcome than the request has")]
    OtherOutcome,
    /// The server took the client's bytes for malformed.
    #[error("the server does not understand the client: {0}")]
    Misunderstood(DecodeError),
    /// The server speaks another version of the protocol.
    #[error("the server speaks version {0} of the protocol")]
    OtherVersion(u8),
    /// The server refused the key, or any client for now.
    #[error("the server refused the connection: {}", refusal_text(.0))]
    HelloRefused(Refusal),
    /// An option is out of range.
    #[error("{0}")]
    Options(&'static str),
    /// Too many answers lie unclaimed.
    #[error("too many answers are not waited for")]
    Unclaimed,
}

impl Cause {
    /// Whether the next connection would end the same way.
    pub(super) const fn is_definite(&self) -> bool {
        match self {
            Self::OtherVersion(_)
            | Self::NoAddress
            | Self::OtherOutcome
            | Self::Options(_)
            | Self::Unclaimed => true,
            Self::HelloRefused(refusal) => {
                matches!(refusal, Refusal::BadToken | Refusal::Forbidden)
            }
            Self::Io(_)
            | Self::Closed
            | Self::Stopping
            | Self::Silent(_)
            | Self::Malformed(_)
            | Self::Unsolicited(_)
            | Self::Misunderstood(_) => false,
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

impl From<DecodeError> for Cause {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}
