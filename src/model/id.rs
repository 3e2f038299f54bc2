//! Ids, amounts and times, each a type of its own, so that none is taken for another.

use std::fmt;

/// Declares a newtype over an integer with the traits that every id has.
macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "server", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

newtype! {
    /// One on-sale, chosen by the operator. The shard key.
    SaleId(u64)
}
newtype! {
    /// A kind of ticket inside its sale.
    ItemId(u32)
}
newtype! {
    /// A buyer, from the operator's identity system. Zero is [`AccountId::OPERATOR`].
    AccountId(u128)
}
newtype! {
    /// One intent of one account in one sale, made by the client.
    RequestId(u128)
}
newtype! {
    /// An order's place in its sale: dense, from 1.
    OrderNumber(u32)
}
newtype! {
    /// Units of one item, or over several.
    Quantity(u32)
}
newtype! {
    /// The price of one unit, in the minor unit of the sale's currency.
    Price(u64)
}
newtype! {
    /// Milliseconds since the Unix epoch.
    TimeMs(u64)
}
newtype! {
    /// A length of time in milliseconds.
    DurationMs(u32)
}
newtype! {
    /// The number of a record in its shard's log: dense, from 1. Zero stands before the first.
    Lsn(u64)
}
newtype! {
    /// A digest of what a request asks for, which tells a retry from another intent.
    BodyDigest(u64)
}
newtype! {
    /// A shard's place among the shards of one server, from 0.
    ShardIndex(u16)
}

impl AccountId {
    /// The account of administration. A buyer cannot have it.
    pub const OPERATOR: Self = Self(0);
}

impl TimeMs {
    /// The time `by` later; the end of time where that overflows.
    #[must_use]
    pub const fn after(self, by: DurationMs) -> Self {
        Self(self.0.saturating_add(by.0 as u64))
    }
}

impl SaleId {
    /// The shard that owns this sale where there are `shards` of them.
    ///
    /// The ids go through the finalizer of `SplitMix64` (Steele, Lea and Flood, 2014) first, so
    /// that strided ids spread as evenly as dense ones.
    #[must_use]
    pub const fn shard(self, shards: std::num::NonZeroU16) -> ShardIndex {
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ShardIndex((mixed % shards.get() as u64) as u16)
    }
}

impl Lsn {
    /// The LSN of the record behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
