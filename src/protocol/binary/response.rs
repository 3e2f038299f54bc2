//! Answers as a client reads them. Lists are allocated here: a client keeps what it asked for.

use std::num::NonZeroU16;

use super::answer::{ITEM_COUNTS_BYTES, ORDER_BYTES_MIN, SUMMARY_BYTES};
use super::frame::{
    DecodeError, ErrorCode, FLAGS_OFFSET, FRAME_BYTES_MAX, Frame, HEADER_BYTES, OPCODE_OFFSET,
};
use super::opcode::Opcode;
use super::payload::Reader;
use super::request::line;
use crate::model::lines::LINES_MAX;
use crate::model::outcome::{ORDERS_PAGE_MAX, SALES_PAGE_MAX};
use crate::model::sale::ITEMS_MAX;
use crate::model::{
    AccountId, Answer, ItemCounts, ItemId, OrderNumber, OrderPage, OrderView, Outcome, Price,
    Quantity, Refusal, RefusalCode, SaleId, SalePage, SaleStats, SaleSummary, Scopes, ShardIndex,
    TimeMs,
};
use crate::protocol::codes::WireCode;

/// The most shards that a `WELCOME` can map.
pub const SHARDS_MAX: usize = 1024;

const _: () = assert!(HEADER_BYTES + 22 + 2 * SHARDS_MAX <= FRAME_BYTES_MAX);

/// The flag of an answer that had been given before.
pub(super) const REPLAYED: u16 = 1;

const SCOPE_BUY: u8 = 1;
const SCOPE_ADMIN: u8 = 2;

/// The answer to `HELLO`: what the server grants and where its shards listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version that is spoken from now on.
    pub version: u8,
    /// What the key allows.
    pub scopes: Scopes,
    /// The shard that answers; it has a port below.
    pub shard: ShardIndex,
    /// The largest frame that the server takes, in bytes.
    pub frame_bytes_max: u32,
    /// The most unanswered requests of one connection; the server reads no further than that.
    /// At least 1.
    pub in_flight_max: u32,
    /// Another one after each start of the server.
    pub boot: u64,
    /// The port of each shard, on the address that was connected to. 1 to [`SHARDS_MAX`].
    pub ports: Vec<u16>,
}

impl Welcome {
    /// The number of shards.
    #[must_use]
    pub fn shards(&self) -> NonZeroU16 {
        self.assert_sound();
        NonZeroU16::new(self.ports.len() as u16).expect("there is a shard")
    }

    pub(super) fn assert_sound(&self) {
        assert!(self.ports.len() <= SHARDS_MAX, "{} shards", self.ports.len());
        assert!(usize::from(self.shard.0) < self.ports.len(), "shard {} has no port", self.shard);
        assert!(self.in_flight_max > 0, "a connection needs room for a request");
    }
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The answer to `HELLO`.
    Welcome(Welcome),
    /// The answer to a command, a query, or a `HELLO` that was refused.
    Answer(Result<Answer, Refusal>),
    /// The end: the server took a frame for malformed and closes the connection.
    Error(DecodeError),
}

impl Response {
    /// The response that `frame` carries.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, DecodeError> {
        let opcode = Opcode::from_wire(u16::from(frame.opcode))
            .ok_or(DecodeError::at(OPCODE_OFFSET, ErrorCode::UnknownOpcode))?;
        let flags = match opcode {
            Opcode::Welcome | Opcode::Refused | Opcode::Error => 0,
            _ => REPLAYED,
        };
        if frame.flags & !flags != 0 {
            return Err(DecodeError::at(FLAGS_OFFSET, ErrorCode::NotZero));
        }
        let mut reader = Reader::new(frame);
        let response = match opcode {
            Opcode::Welcome => Self::Welcome(welcome(&mut reader)?),
            Opcode::Refused => Self::Answer(Err(refusal(&mut reader)?)),
            Opcode::Error => {
                Self::Error(DecodeError { code: reader.wide_code()?, offset: reader.u32()? })
            }
            _ => Self::Answer(Ok(Answer {
                outcome: outcome(opcode, &mut reader)?,
                replayed: frame.flags == REPLAYED,
            })),
        };
        reader.finish()?;
        Ok(response)
    }
}

fn outcome(opcode: Opcode, reader: &mut Reader<'_>) -> Result<Outcome, DecodeError> {
    Ok(match opcode {
        Opcode::Done => Outcome::Done,
        Opcode::Fenced => Outcome::Fenced,
        Opcode::Held => Outcome::Held { order: order(reader)?, expires_at: time(reader)? },
        Opcode::Extended => Outcome::Extended { order: order(reader)?, expires_at: time(reader)? },
        Opcode::Confirmed => Outcome::Confirmed { order: order(reader)? },
        Opcode::Released => Outcome::Released { order: order(reader)? },
        Opcode::Cancelled => Outcome::Cancelled { order: order(reader)? },
        Opcode::OrderIs => Outcome::Order(order_view(reader)?),
        Opcode::AvailabilityIs => Outcome::Availability(availability(reader)?),
        Opcode::StatsAre => Outcome::Stats(stats(reader)?),
        Opcode::SalesAre => Outcome::Sales(sales(reader)?),
        Opcode::AccountOrdersAre => Outcome::Orders(orders(reader)?),
        _ => return Err(DecodeError::at(OPCODE_OFFSET, ErrorCode::UnknownOpcode)),
    })
}

fn order(reader: &mut Reader<'_>) -> Result<OrderNumber, DecodeError> {
    reader.u32().map(OrderNumber)
}

fn time(reader: &mut Reader<'_>) -> Result<TimeMs, DecodeError> {
    reader.u64().map(TimeMs)
}

fn quantity(reader: &mut Reader<'_>) -> Result<Quantity, DecodeError> {
    reader.u32().map(Quantity)
}

fn order_view(reader: &mut Reader<'_>) -> Result<OrderView, DecodeError> {
    Ok(OrderView {
        order: order(reader)?,
        account: AccountId(reader.u128()?),
        state: reader.code()?,
        expires_at: reader.opt_u64()?.map(TimeMs),
        lines: {
            let count = usize::from(reader.u8()?);
            if count > LINES_MAX {
                return Err(reader.bad_value(1));
            }
            reader.elements(count)?.iter().copied().map(line).collect()
        },
    })
}

fn availability(reader: &mut Reader<'_>) -> Result<Vec<ItemCounts>, DecodeError> {
    let count = count(reader, ITEMS_MAX, ITEM_COUNTS_BYTES)?;
    (0..count)
        .map(|_| {
            Ok(ItemCounts {
                item: ItemId(reader.u32()?),
                price: Price(reader.u64()?),
                account_limit: reader.opt_u32()?.map(Quantity),
                capacity: quantity(reader)?,
                available: quantity(reader)?,
                held: quantity(reader)?,
                sold: quantity(reader)?,
            })
        })
        .collect()
}

fn sales(reader: &mut Reader<'_>) -> Result<SalePage, DecodeError> {
    let next = reader.opt_u64()?.map(SaleId);
    let count = count(reader, usize::from(SALES_PAGE_MAX), SUMMARY_BYTES)?;
    let summary = |_| Ok(SaleSummary { sale: SaleId(reader.u64()?), stats: stats(reader)? });
    let sales = (0..count).map(summary).collect::<Result<_, _>>()?;
    Ok(SalePage { sales, next })
}

fn orders(reader: &mut Reader<'_>) -> Result<OrderPage, DecodeError> {
    let next = reader.opt_u32()?.map(OrderNumber);
    let count = count(reader, usize::from(ORDERS_PAGE_MAX), ORDER_BYTES_MIN)?;
    let orders = (0..count).map(|_| order_view(reader)).collect::<Result<_, _>>()?;
    Ok(OrderPage { orders, next })
}

/// How many entries follow, of at least so many bytes each: what is announced must be there
/// before memory is taken for it.
fn count(reader: &mut Reader<'_>, most: usize, bytes_min: usize) -> Result<usize, DecodeError> {
    let count = usize::from(reader.u16()?);
    if count > most {
        return Err(reader.bad_value(2));
    }
    reader.require(count * bytes_min)?;
    Ok(count)
}

fn stats(reader: &mut Reader<'_>) -> Result<SaleStats, DecodeError> {
    Ok(SaleStats {
        state: reader.code()?,
        terms: reader.terms()?,
        items: reader.u32()?,
        orders: reader.u32()?,
        orders_held: reader.u32()?,
        orders_confirmed: reader.u32()?,
        orders_released: reader.u32()?,
        orders_expired: reader.u32()?,
        orders_cancelled: reader.u32()?,
        accounts: reader.u32()?,
        capacity: reader.u64()?,
        available: reader.u64()?,
        held: reader.u64()?,
        sold: reader.u64()?,
    })
}

fn refusal(reader: &mut Reader<'_>) -> Result<Refusal, DecodeError> {
    Ok(match reader.wide_code()? {
        RefusalCode::SoldOut => Refusal::SoldOut,
        RefusalCode::NoneNow => Refusal::NoneNow,
        RefusalCode::AccountLimit => Refusal::AccountLimit,
        RefusalCode::NotOpen => Refusal::NotOpen { opens_at: reader.opt_u64()?.map(TimeMs) },
        RefusalCode::Paused => Refusal::Paused,
        RefusalCode::Closed => Refusal::Closed,
        RefusalCode::NotClosed => Refusal::NotClosed,
        RefusalCode::HoldExpired => Refusal::HoldExpired,
        RefusalCode::WrongState => Refusal::WrongState { state: reader.code()? },
        RefusalCode::KeyConflict => Refusal::KeyConflict,
        RefusalCode::PriceMismatch => Refusal::PriceMismatch,
        RefusalCode::NotFound => Refusal::NotFound,
        RefusalCode::BadRequest => Refusal::BadRequest { field: reader.code()? },
        RefusalCode::BadToken => Refusal::BadToken,
        RefusalCode::Forbidden => Refusal::Forbidden,
        RefusalCode::Overloaded => Refusal::Overloaded,
        RefusalCode::Draining => Refusal::Draining,
        RefusalCode::DiskFull => Refusal::DiskFull,
    })
}

fn welcome(reader: &mut Reader<'_>) -> Result<Welcome, DecodeError> {
    let version = reader.u8()?;
    let scopes = match reader.u8()? {
        bits if bits & !(SCOPE_BUY | SCOPE_ADMIN) == 0 => {
            Scopes { buy: bits & SCOPE_BUY != 0, admin: bits & SCOPE_ADMIN != 0 }
        }
        _ => return Err(reader.bad_value(1)),
    };
    let shard = ShardIndex(reader.u16()?);
    let frame_bytes_max = reader.u32()?;
    let in_flight_max = reader.u32()?;
    if in_flight_max == 0 {
        return Err(reader.bad_value(4));
    }
    let boot = reader.u64()?;
    let shards = usize::from(reader.u16()?);
    if shards > SHARDS_MAX || usize::from(shard.0) >= shards {
        return Err(reader.bad_value(2));
    }
    let ports = reader.elements(shards)?.iter().map(|port| u16::from_le_bytes(*port)).collect();
    Ok(Welcome { version, scopes, shard, frame_bytes_max, in_flight_max, boot, ports })
}

pub(super) const fn scope_bits(scopes: Scopes) -> u8 {
    let mut bits = 0;
    if scopes.buy {
        bits |= SCOPE_BUY;
    }
    if scopes.admin {
        bits |= SCOPE_ADMIN;
    }
    bits
}
