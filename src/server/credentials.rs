//! Who is let in, as one value that can be replaced while the server serves.
//!
//! From the turn in which other credentials arrive, every HTTP request is judged by them, and every
//! greeting of the binary protocol. A connection whose key is among them stays, with what that key
//! allows now; one whose key was taken away is read no more, and ends once all that it had asked is
//! answered. Whether there are keys at all is a setting, and does not change here.

use std::sync::Arc;

use super::connection::Phase;
use super::metrics::CloseReason;
use super::service::Service;
use crate::admission::keys::Keys;
use crate::admission::token::{TokenChecker, TokenRules};

/// The keys of back ends, and the rules for buyers' tokens.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The API keys, where keys are configured.
    pub keys: Option<Arc<Keys>>,
    /// Which buyers' tokens hold, where keys for them are configured.
    pub token_rules: Option<Arc<TokenRules>>,
}

impl Service {
    /// Judges by these credentials from now on.
    pub fn handle_credentials(&mut self, credentials: Credentials) {
        let old = std::mem::replace(&mut self.config.keys, credentials.keys);
        self.tokens = credentials.token_rules.map(TokenChecker::new);
        for slot in 0..self.connections.slots() {
            self.judge_again(slot, old.as_deref());
        }
    }

    fn judge_again(&mut self, slot: u32, old: Option<&Keys>) {
        if self.connections.get(slot).is_none() {
            return;
        }
        let connection = self.connections.at(slot);
        if let Some(exchange) = &mut connection.http {
            exchange.forget_key();
            return;
        }
        let (Phase::Serving(_), Some(key)) = (connection.phase, connection.key) else { return };
        let keys = self.config.keys.as_deref();
        let kept = keys.zip(old).and_then(|(keys, old)| keys.find_same(old, key));
        if let Some((key, scopes)) = kept {
            (connection.key, connection.phase) = (Some(key), Phase::Serving(scopes));
        } else {
            (connection.phase, connection.reason) = (Phase::Ending(None), CloseReason::BadKey);
            self.settle(slot);
        }
    }
}
