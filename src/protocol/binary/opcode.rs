//! Opcodes: what a frame is. Requests are below 0x80, answers from there on.

use crate::protocol::codes::codes;

/// What a frame is; the module's documentation draws each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named after the request or outcome that it carries")]
pub enum Opcode {
    Hello,
    DefineSale,
    DefineItem,
    Restock,
    OpenSale,
    PauseSale,
    CloseSale,
    ArchiveSale,
    Hold,
    Buy,
    Confirm,
    Release,
    Extend,
    Cancel,
    Fence,
    Order,
    Request,
    Availability,
    Stats,
    Sales,
    AccountOrders,
    Welcome,
    Done,
    Held,
    Confirmed,
    Released,
    Extended,
    Cancelled,
    Fenced,
    OrderIs,
    AvailabilityIs,
    StatsAre,
    SalesAre,
    AccountOrdersAre,
    Refused,
    Error,
}

codes! { Opcode {
    0x01 Hello            "HELLO"
    0x10 DefineSale       "DEFINE_SALE"
    0x11 DefineItem       "DEFINE_ITEM"
    0x12 Restock          "RESTOCK"
    0x13 OpenSale         "OPEN_SALE"
    0x14 PauseSale        "PAUSE_SALE"
    0x15 CloseSale        "CLOSE_SALE"
    0x16 ArchiveSale      "ARCHIVE_SALE"
    0x20 Hold             "HOLD"
    0x21 Buy              "BUY"
    0x22 Confirm          "CONFIRM"
    0x23 Release          "RELEASE"
    0x24 Extend           "EXTEND"
    0x25 Cancel           "CANCEL"
    0x26 Fence            "FENCE"
    0x30 Order            "ORDER"
    0x31 Request          "REQUEST"
    0x32 Availability     "AVAILABILITY"
    0x33 Stats            "STATS"
    0x34 Sales            "SALES"
    0x35 AccountOrders    "ACCOUNT_ORDERS"
    0x81 Welcome          "WELCOME"
    0x90 Done             "DONE"
    0xa0 Held             "HELD"
    0xa1 Confirmed        "CONFIRMED"
    0xa2 Released         "RELEASED"
    0xa3 Extended         "EXTENDED"
    0xa4 Cancelled        "CANCELLED"
    0xa5 Fenced           "FENCED"
    0xb0 OrderIs          "ORDER_IS"
    0xb2 AvailabilityIs   "AVAILABILITY_IS"
    0xb3 StatsAre         "STATS_ARE"
    0xb4 SalesAre         "SALES_ARE"
    0xb5 AccountOrdersAre "ACCOUNT_ORDERS_ARE"
    0xe0 Refused          "REFUSED"
    0xf0 Error            "ERROR"
} }
