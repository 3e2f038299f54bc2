//! What an answer has to know about its request, small enough to travel between shards.

use super::cors::{Cors, Sharing};
use super::date::DateText;
use super::request::{Method, Request, Version};
use crate::model::{AccountId, SaleId};

/// What every answer of a shard says, whatever was asked. Kept by the shard.
#[derive(Clone, Debug)]
pub struct Site {
    /// The current second; made anew when [`DateText::is_stale`].
    pub date: DateText,
    /// Which origins may read answers.
    pub cors: Cors,
}

/// What an answer has to know about its request.
///
/// [`Reply::to`] makes it of what every request has, [`to_ask`](super::to_ask) adds the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The sale of the request.
    pub sale: SaleId,
    /// The only account whose orders the caller may see; `None` sees all.
    pub viewer: Option<AccountId>,
    /// Whether success made an order: 201 and its `Location`.
    pub creates: bool,
    /// Whether the answer goes without its body.
    pub is_head: bool,
    /// Whether the connection goes on behind the answer. A server that is stopping clears it.
    pub keep_alive: bool,
    /// The version of the request.
    pub version: Version,
    /// How the answer is shared with the request's origin.
    pub sharing: Sharing,
}

impl Reply {
    /// The reply to `request`, as far as its head says.
    #[must_use]
    pub fn to(request: &Request<'_>, cors: &Cors) -> Self {
        Self {
            is_head: request.method == Method::Head,
            keep_alive: request.keep_alive,
            version: request.version,
            sharing: cors.sharing(request.origin),
            ..Self::LAST
        }
    }

    /// The reply to what is no request: the last one of its connection.
    pub const LAST: Self = Self {
        sale: SaleId(0),
        viewer: None,
        creates: false,
        is_head: false,
        keep_alive: false,
        version: Version::Http11,
        sharing: Sharing::Private,
    };
}
