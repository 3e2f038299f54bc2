//! What a sale's requests were, in two numbers: sums of digests, which come out the same in
//! whatever order the requests are added. With them the books need not keep what a snapshot says
//! of each request in order to compare it.

use xxhash_rust::xxh3::xxh3_128;

use crate::model::snapshot::Effect;
use crate::model::{AccountId, BodyDigest, OrderNumber, RequestId, TimeMs};

/// The requests of a sale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trace {
    /// Requests that made an order.
    made: u128,
    /// All others, and how many they are.
    asked: u128,
    count: u64,
}

impl Trace {
    /// An order was made; its deadline as it was made, zero where it was bought.
    pub(super) fn made(
        &mut self,
        order: OrderNumber,
        account: AccountId,
        (request, digest): (RequestId, BodyDigest),
        deadline: TimeMs,
    ) {
        let words = [u128::from(order.0) << 64 | u128::from(deadline.0), account.0];
        self.made = self.made.wrapping_add(hash(words, request, digest.0));
    }

    /// A request did something else. A fence has no digest.
    pub(super) fn asked(&mut self, request: RequestId, digest: BodyDigest, did: Did) {
        let (kind, of) = match did {
            Did::Confirmed(order) => (1, u128::from(order.0)),
            Did::Released(order) => (2, u128::from(order.0)),
            Did::Cancelled(order) => (3, u128::from(order.0)),
            Did::Extended(order) => (4, u128::from(order.0)),
            Did::Restocked => (5, 0),
            Did::Fenced(account) => (6, account.0),
        };
        self.asked = self.asked.wrapping_add(hash([kind, of], request, digest.0));
        self.count += 1;
    }
}

/// What a request did that made no order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Did {
    Confirmed(OrderNumber),
    Released(OrderNumber),
    Cancelled(OrderNumber),
    Extended(OrderNumber),
    Restocked,
    Fenced(AccountId),
}

impl Did {
    /// What a snapshot says, with the account at a place.
    pub(super) fn of(effect: Effect, account: impl FnOnce(u32) -> Option<AccountId>) -> Self {
        match effect {
            Effect::Confirmed(order) => Self::Confirmed(order),
            Effect::Released(order) => Self::Released(order),
            Effect::Cancelled(order) => Self::Cancelled(order),
            Effect::Extended(order) => Self::Extended(order),
            Effect::Restocked => Self::Restocked,
            Effect::Fenced(place) => Self::Fenced(account(place).unwrap_or_default()),
        }
    }
}

fn hash(words: [u128; 2], request: RequestId, digest: u64) -> u128 {
    let mut bytes = [0; 56];
    bytes[..16].copy_from_slice(&words[0].to_le_bytes());
    bytes[16..32].copy_from_slice(&words[1].to_le_bytes());
    bytes[32..48].copy_from_slice(&request.0.to_le_bytes());
    bytes[48..].copy_from_slice(&digest.to_le_bytes());
    xxh3_128(&bytes)
}
