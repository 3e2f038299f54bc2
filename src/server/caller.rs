//! Who is at the other end of an HTTP connection, and who says each of its requests.
//!
//! A caller is an API key, a buyer with a signed token, or, where neither kind of key is
//! configured, anybody on loopback. A client's address is that of its socket, or what a trusted
//! proxy says: by the PROXY protocol before the first request, or by `X-Forwarded-For` with each.

use std::net::IpAddr;

use super::service::Service;
use crate::admission::peer::client_address;
use crate::admission::token::is_token_shaped;
use crate::model::Scopes;
use crate::protocol::http::{Caller, Request};
use crate::protocol::proxy::{self, ProxyHeader};

/// Why a request has no caller: `BAD_TOKEN`, and what to say about it.
pub(super) struct Unknown {
    /// One sentence for people, without its full stop.
    pub detail: &'static str,
    /// Whether a credential came that is wrong.
    pub is_bad: bool,
}

impl Unknown {
    const fn bad(detail: &'static str) -> Self {
        Self { detail, is_bad: true }
    }
}

const NO_CREDENTIAL: Unknown =
    Unknown { detail: "the request has no bearer credential", is_bad: false };
const NOT_LOCAL: Unknown = Unknown {
    detail: "without keys only loopback is let in, and the client is elsewhere",
    is_bad: false,
};
const WRONG_KEY: Unknown = Unknown::bad("the key is unknown");

impl Service {
    /// Who sends this request: the one place where HTTP credentials become a caller.
    pub(super) fn identify(&mut self, slot: u32, request: &Request<'_>) -> Result<Caller, Unknown> {
        if self.config.keys.is_none() && self.tokens.is_none() {
            // A proxy on loopback that names its client does not make the client local.
            let is_local = self.client(slot, request).is_loopback();
            return if is_local { Ok(Caller::Open) } else { Err(NOT_LOCAL) };
        }
        let presented = request.bearer().ok_or(NO_CREDENTIAL)?;
        let identified = match &mut self.tokens {
            Some(tokens) if is_token_shaped(presented) => {
                let checked = tokens.check(presented, self.clock);
                checked.map(Caller::Buyer).map_err(|bad_token| Unknown::bad(bad_token.reason()))
            }
            _ => self.verify_key(slot, presented).map(Caller::Key).ok_or(WRONG_KEY),
        };
        if let Err(unknown) = &identified {
            let (shard, client) = (self.config.index.0, self.client(slot, request));
            tracing::debug!(shard, %client, "let nobody in: {}", unknown.detail);
        }
        identified
    }

    fn verify_key(&mut self, slot: u32, presented: &[u8]) -> Option<Scopes> {
        let Self { config, connections, .. } = self;
        let keys = config.keys.as_ref()?;
        let exchange = connections.at(slot).http.as_mut()?;
        if let Some(scopes) = exchange.known_key(presented) {
            return Some(scopes);
        }
        let (_, scopes) = keys.verify(presented)?;
        exchange.remember_key(presented, scopes);
        Some(scopes)
    }

    /// The address that a request comes from, as far as anybody trusted vouches for it.
    fn client(&mut self, slot: u32, request: &Request<'_>) -> IpAddr {
        let client = self.exchange(slot).client;
        client_address(client, request.values("x-forwarded-for"), &self.config.trusted_proxies)
    }

    /// Whether a connection from this address has to begin with the header of the PROXY protocol.
    pub(super) fn awaits_proxy_header(&self, peer: IpAddr) -> bool {
        self.config.proxy_protocol && self.config.trusted_proxies.contains(peer)
    }

    /// Reads the header of the PROXY protocol where one is due; how many bytes it was. `None`:
    /// it is not whole, or it is none, and the connection is closed without a word, since its
    /// proxy speaks another protocol than the one that it was set up for.
    pub(super) fn take_proxy_header(&mut self, slot: u32, bytes: &[u8]) -> Option<usize> {
        let shard = self.config.index.0;
        let exchange = self.exchange(slot);
        if !exchange.awaits_proxy_header {
            return Some(0);
        }
        match proxy::decode(bytes) {
            Ok(ProxyHeader::Complete { consumed, source }) => {
                exchange.awaits_proxy_header = false;
                if let Some(source) = source {
                    exchange.client = source.ip().to_canonical();
                }
                return Some(consumed);
            }
            Ok(ProxyHeader::Incomplete) => self.await_rest(slot, false),
            Err(fault) => {
                tracing::debug!(shard, proxy = %exchange.client, "closed a connection: {fault}");
                self.close(slot);
            }
        }
        None
    }
}
