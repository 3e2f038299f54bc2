//! The one table of codes: refusal ⇄ wire code ⇄ HTTP status ⇄ name ⇄ title, and the wire codes of
//! every other enum that crosses a socket.
//!
//! A code is never reused for another meaning. The tables are total: each row becomes an arm of
//! an exhaustive `match`, so that a variant without a row does not compile, and a code given
//! twice is an unreachable arm.

use crate::model::lines::PAYMENT_REF_BYTES_MAX;
use crate::model::sale::{CAPACITY_MAX, HOLD_TTL_MAX, HOLD_TTL_MIN, ITEMS_MAX};
use crate::model::{Field, OrderState, RefusalCode, SaleState};

/// An enum whose variants have a code on the wire and a name in text.
pub trait WireCode: Copy + Sized + 'static {
    /// Every variant, in the order of the table.
    const ALL: &'static [Self];

    /// The code on the wire.
    fn wire(self) -> u16;

    /// The variant with this code, if there is one.
    fn from_wire(code: u16) -> Option<Self>;

    /// The name in JSON, metrics and messages.
    fn name(self) -> &'static str;

    /// The variant with this name, if there is one.
    #[must_use]
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|variant| variant.name() == name)
    }
}

/// Implements [`WireCode`] from rows of `code Variant "name"`.
macro_rules! codes {
    ($enum:ident { $($code:literal $variant:ident $name:literal)* }) => {
        impl $crate::protocol::codes::WireCode for $enum {
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            #[inline]
            fn wire(self) -> u16 {
                match self { $(Self::$variant => $code),* }
            }

            #[inline]
            fn from_wire(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}
pub(super) use codes;

/// Implements [`WireCode`], the HTTP status and the title from rows of
/// `code status Variant "NAME" "title"`.
macro_rules! refusal_codes {
    ($($code:literal $status:literal $variant:ident $name:literal $title:literal)*) => {
        codes! { RefusalCode { $($code $variant $name)* } }

        /// The HTTP status that goes with a refusal.
        #[must_use]
        pub const fn http_status(code: RefusalCode) -> u16 {
            match code { $(RefusalCode::$variant => $status),* }
        }

        /// One sentence for people, without its full stop.
        #[must_use]
        pub const fn title(code: RefusalCode) -> &'static str {
            match code { $(RefusalCode::$variant => $title),* }
        }

        /// The members that every problem of this code begins with, as JSON; the object stays
        /// open.
        #[must_use]
        pub const fn problem(code: RefusalCode) -> &'static str {
            match code {
                $(RefusalCode::$variant => members!("refusal", $name, $title, $status)),*
            }
        }
    };
}

/// The members that every `application/problem+json` begins with, as one literal.
macro_rules! members {
    ($kind:literal, $name:literal, $title:literal, $status:literal) => {
        concat!(
            r#"{"type":"urn:boxoffice:"#,
            $kind,
            ":",
            $name,
            r#"","title":""#,
            $title,
            r#"","status":"#,
            $status,
            r#","code":""#,
            $name,
            "\"",
        )
    };
}
pub(super) use members;

// Codes below 0x100 say what became of the request, those from 0x100 on who asks and how,
// those from 0x200 on that the server cannot take it now.
refusal_codes! {
    0x001 409 SoldOut       "SOLD_OUT"
        "Nothing is left"
    0x002 409 NoneNow       "NONE_NOW"
        "Not as many are free now; fewer may be, or more later"
    0x003 403 AccountLimit  "ACCOUNT_LIMIT"
        "The account would have more than it may"
    0x004 403 NotOpen       "NOT_OPEN"
        "The sale is not open yet"
    0x005 403 Paused        "PAUSED"
        "The sale is paused"
    0x006 403 Closed        "CLOSED"
        "The sale is closed"
    0x007 410 HoldExpired   "HOLD_EXPIRED"
        "The hold ran out of time"
    0x008 409 WrongState    "WRONG_STATE"
        "The state of the order does not allow it"
    0x009 422 KeyConflict   "KEY_CONFLICT"
        "The request id was used for another request, or refused for ever"
    0x00a 422 PriceMismatch "PRICE_MISMATCH"
        "The price is another one"
    0x00b 404 NotFound      "NOT_FOUND"
        "There is no such sale, order or request"
    0x00c 409 NotClosed     "NOT_CLOSED"
        "The sale is not closed yet"
    0x100 400 BadRequest    "BAD_REQUEST"
        "A part of the request is wrong"
    0x101 401 BadToken      "BAD_TOKEN"
        "The key or token is missing or not valid"
    0x102 403 Forbidden     "FORBIDDEN"
        "This caller may not do this"
    0x200 503 Overloaded    "OVERLOADED"
        "Too much to do; nothing was done"
    0x201 503 Draining      "DRAINING"
        "The server is stopping; this attempt did nothing"
    0x202 507 DiskFull      "DISK_FULL"
        "There is no room on the disk for this; nothing was done"
}

codes! { Field {
     1 Account  "account"
     2 Item     "item"
     3 Lines    "lines"
     4 Quantity "quantity"
     5 Ttl      "ttl"
     6 Window   "window"
     7 Capacity "capacity"
     8 Limit    "limit"
     9 Payment  "payment"
    10 Items    "items"
} }

/// What may stand in a field that is wrong, for people, without a full stop.
#[must_use]
pub const fn rule(field: Field) -> &'static str {
    match field {
        Field::Account => "a buyer's account is not the operator's",
        Field::Item => "the sale has no such item",
        Field::Lines => "the order does not have these units of these items",
        Field::Quantity => "a quantity is at least 1, and a restock is not 0",
        Field::Ttl => {
            "a hold lives for 1000 ms or more, and no longer than its sale says; that says \
             604800000 ms or less"
        }
        Field::Window => {
            "terms and items cannot change once the sale has opened; until then, its window lies \
             in the future and opens before it closes"
        }
        Field::Capacity => {
            "a capacity is at most 1000000000, and never below what is held and sold"
        }
        Field::Limit => "a limit is at least 1; without one there is none",
        Field::Payment => "a payment reference has at most 64 bytes",
        Field::Items => "a sale has at most 1024 items",
    }
}

const _: () = assert!(
    HOLD_TTL_MIN.0 == 1000
        && HOLD_TTL_MAX.0 == 604_800_000
        && CAPACITY_MAX.0 == 1_000_000_000
        && PAYMENT_REF_BYTES_MAX == 64
        && ITEMS_MAX == 1024,
    "the rules above name these numbers"
);

codes! { OrderState {
    1 Held      "held"
    2 Confirmed "confirmed"
    3 Released  "released"
    4 Expired   "expired"
    5 Cancelled "cancelled"
} }

codes! { SaleState {
    1 Scheduled "scheduled"
    2 Open      "open"
    3 Paused    "paused"
    4 Closed    "closed"
    5 Archived  "archived"
} }

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fmt::Debug;

    use super::*;
    use crate::protocol::binary::{ErrorCode, Opcode};

    /// Every row comes back from its code and from its name, and no two rows share either.
    fn assert_one_to_one<C: WireCode + PartialEq + Debug>(variants: usize, code_max: u16) {
        assert_eq!(C::ALL.len(), variants);
        let (mut codes, mut names) = (HashSet::new(), HashSet::new());
        for &variant in C::ALL {
            assert_eq!(C::from_wire(variant.wire()), Some(variant));
            assert_eq!(C::from_name(variant.name()), Some(variant));
            assert!(codes.insert(variant.wire()), "{variant:?} shares its code");
            assert!(names.insert(variant.name()), "{variant:?} shares its name");
            assert!((1..=code_max).contains(&variant.wire()), "{variant:?} is out of range");
        }
        assert_eq!(C::from_wire(0), None);
        assert_eq!(C::from_name(""), None);
    }

    #[test]
    fn every_table_is_total_and_one_to_one() {
        assert_one_to_one::<RefusalCode>(18, u16::MAX);
        assert_one_to_one::<ErrorCode>(10, u16::MAX);
        // One byte on the wire.
        assert_one_to_one::<Field>(10, 0xff);
        assert_one_to_one::<OrderState>(5, 0xff);
        assert_one_to_one::<SaleState>(5, 0xff);
        assert_one_to_one::<Opcode>(36, 0xff);
    }

    #[test]
    fn every_refusal_is_an_http_error_and_named_like_one() {
        for &code in RefusalCode::ALL {
            assert!((400..600).contains(&http_status(code)), "{code:?}");
            assert!(title(code).starts_with(|first: char| first.is_ascii_uppercase()), "{code:?}");
            assert!(!title(code).contains(['"', '\\', '.']), "{code:?} is one plain sentence");
            assert!(code.name().bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'));
        }
    }
}
