//! The bytes of a record.
//!
//! ```text
//!  0    1        3
//! ┌─────┬────────┬──────────────────────────────────┐
//! │ tag │ length │ the tag's struct, rkyv-archived  │   length: u16, of the archive alone
//! └─────┴────────┴──────────────────────────────────┘
//!
//! archive = [lines: item u32, quantity u32 each] [payment bytes] [struct, of fixed size]
//! ```
//!
//! Each struct is archived alone, so a small record takes its own size and not that of the
//! largest. Everything is little-endian and unaligned. A tag is never used for anything else
//! again; the golden bytes in `tests/data/wal` pin every encoding.
//!
//! Decoding trusts nothing: rkyv validates the archive, and what rkyv cannot know (bounds of
//! lists, lines distinct and not zero, no byte that belongs to nothing) is checked here. What a
//! record *means* for its sale is not judged here.

use rkyv::api::low::{LowDeserializer, LowSerializer, LowValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::ser::allocator::SubAllocator;
use rkyv::ser::writer::Buffer;
use rkyv::{Archive, Deserialize, Portable, Serialize};

use crate::model::lines::{ArchivedLine, LINES_MAX, PAYMENT_REF_BYTES_MAX};
use crate::model::record::{
    ArchivedBought, ArchivedCancelled, ArchivedConfirmed, ArchivedHeld, Bought, Cancelled,
    Confirmed, Expired, Extended, Fenced, Held, ItemDefined, Record, RecordLines, Released,
    Restocked, SaleArchived, SaleDefined, SaleStateSet,
};
use crate::model::{LinesError, PaymentRef};

/// Bytes before a record's archive.
pub const RECORD_HEADER_BYTES: usize = 3;

const LINE_BYTES: usize = size_of::<ArchivedLine>();

/// The most bytes of one record: a purchase with every line and the longest payment reference.
pub const RECORD_BYTES_MAX: usize = RECORD_HEADER_BYTES
    + size_of::<ArchivedBought>()
    + LINES_MAX * LINE_BYTES
    + PAYMENT_REF_BYTES_MAX;

const _: () = assert!(RECORD_BYTES_MAX - RECORD_HEADER_BYTES <= u16::MAX as usize);
const _: () = assert!(size_of::<ArchivedConfirmed>() <= size_of::<ArchivedBought>());

/// What kind of record follows. The numbers are the format: they are never used again.
mod tag {
    pub const SALE_DEFINED: u8 = 1;
    pub const ITEM_DEFINED: u8 = 2;
    pub const RESTOCKED: u8 = 3;
    pub const SALE_STATE_SET: u8 = 4;
    pub const HELD: u8 = 5;
    pub const BOUGHT: u8 = 6;
    pub const CONFIRMED: u8 = 7;
    pub const RELEASED: u8 = 8;
    pub const EXTENDED: u8 = 9;
    pub const CANCELLED: u8 = 10;
    pub const EXPIRED: u8 = 11;
    pub const FENCED: u8 = 12;
    pub const SALE_ARCHIVED: u8 = 13;
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end inside the record.
    #[error("the record is cut off")]
    Truncated,
    /// No record has this tag.
    #[error("no record has the tag {0}")]
    UnknownTag(u8),
    /// The archive is not one of its struct.
    #[error("the record's archive is not valid")]
    Archive,
    /// The record has bytes that belong to none of its fields, or too few.
    #[error("the record's length does not fit its content")]
    Length,
    /// The lines are not an order's lines.
    #[error("the record's lines are not valid: {0}")]
    Lines(LinesError),
}

/// Writes `record` to the start of `into` and returns its length.
///
/// # Panics
///
/// Where `into` is shorter than [`RECORD_BYTES_MAX`], or the lines break their invariants: a
/// record that could not be read back must not reach the disk.
#[inline]
pub fn encode(record: &Record, into: &mut [u8]) -> usize {
    let (header, body) = into[..RECORD_BYTES_MAX].split_at_mut(RECORD_HEADER_BYTES);
    let (tag, length) = match record {
        Record::SaleDefined(record) => (tag::SALE_DEFINED, archive(record, body)),
        Record::ItemDefined(record) => (tag::ITEM_DEFINED, archive(record, body)),
        Record::Restocked(record) => (tag::RESTOCKED, archive(record, body)),
        Record::SaleStateSet(record) => (tag::SALE_STATE_SET, archive(record, body)),
        Record::Held(record) => {
            assert_lines(&record.lines, 1);
            (tag::HELD, archive(record, body))
        }
        Record::Bought(record) => {
            assert_lines(&record.lines, 1);
            (tag::BOUGHT, archive(record, body))
        }
        Record::Confirmed(record) => {
            assert_lines(&record.lines, 0);
            (tag::CONFIRMED, archive(record, body))
        }
        Record::Released(record) => (tag::RELEASED, archive(record, body)),
        Record::Extended(record) => (tag::EXTENDED, archive(record, body)),
        Record::Cancelled(record) => {
            assert_lines(&record.lines, 0);
            (tag::CANCELLED, archive(record, body))
        }
        Record::Expired(record) => (tag::EXPIRED, archive(record, body)),
        Record::Fenced(record) => (tag::FENCED, archive(record, body)),
        Record::SaleArchived(record) => (tag::SALE_ARCHIVED, archive(record, body)),
    };
    header[0] = tag;
    header[1..3].copy_from_slice(&(length as u16).to_le_bytes());
    RECORD_HEADER_BYTES + length
}

/// Reads the record at the start of `bytes`, and says how many bytes it takes.
#[inline]
pub fn decode(bytes: &[u8]) -> Result<(Record, usize), RecordError> {
    let Some((header, rest)) = bytes.split_first_chunk::<RECORD_HEADER_BYTES>() else {
        return Err(RecordError::Truncated);
    };
    let length = usize::from(u16::from_le_bytes([header[1], header[2]]));
    let body = rest.get(..length).ok_or(RecordError::Truncated)?;
    let record = match header[0] {
        tag::SALE_DEFINED => Record::SaleDefined(fixed::<SaleDefined>(body)?),
        tag::ITEM_DEFINED => Record::ItemDefined(fixed::<ItemDefined>(body)?),
        tag::RESTOCKED => Record::Restocked(fixed::<Restocked>(body)?),
        tag::SALE_STATE_SET => Record::SaleStateSet(fixed::<SaleStateSet>(body)?),
        tag::HELD => Record::Held(held(body)?),
        tag::BOUGHT => Record::Bought(bought(body)?),
        tag::CONFIRMED => Record::Confirmed(confirmed(body)?),
        tag::RELEASED => Record::Released(fixed::<Released>(body)?),
        tag::EXTENDED => Record::Extended(fixed::<Extended>(body)?),
        tag::CANCELLED => Record::Cancelled(cancelled(body)?),
        tag::EXPIRED => Record::Expired(fixed::<Expired>(body)?),
        tag::FENCED => Record::Fenced(fixed::<Fenced>(body)?),
        tag::SALE_ARCHIVED => Record::SaleArchived(fixed::<SaleArchived>(body)?),
        unknown => return Err(RecordError::UnknownTag(unknown)),
    };
    Ok((record, RECORD_HEADER_BYTES + length))
}

/// Archives `value` to the start of `body`, without an allocation: no struct of a record needs
/// scratch space, which the empty allocator would refuse.
#[inline]
fn archive<'a, T>(value: &T, body: &'a mut [u8]) -> usize
where
    T: Serialize<LowSerializer<Buffer<'a>, SubAllocator<'a>, Failure>>,
{
    let writer = Buffer::from(body);
    let written = rkyv::api::low::to_bytes_in_with_alloc(value, writer, SubAllocator::empty())
        .map(|w| w.len());
    written.expect("a record fits RECORD_BYTES_MAX and needs no scratch space")
}

/// The validated archive of a `T` that fills `body`.
#[inline]
fn access<T>(body: &[u8]) -> Result<&T, RecordError>
where
    T: Portable + for<'a> CheckBytes<LowValidator<'a, Failure>>,
{
    if body.len() < size_of::<T>() {
        return Err(RecordError::Length);
    }
    rkyv::api::low::access::<T, Failure>(body).map_err(|_| RecordError::Archive)
}

/// A struct without lists, whose archive has one size.
#[inline]
fn fixed<T>(body: &[u8]) -> Result<T, RecordError>
where
    T: Archive,
    T::Archived:
        for<'a> CheckBytes<LowValidator<'a, Failure>> + Deserialize<T, LowDeserializer<Failure>>,
{
    if body.len() != size_of::<T::Archived>() {
        return Err(RecordError::Length);
    }
    thaw(access::<T::Archived>(body)?)
}

#[inline]
fn thaw<T>(archived: &impl Deserialize<T, LowDeserializer<Failure>>) -> Result<T, RecordError> {
    rkyv::api::low::deserialize::<T, Failure>(archived).map_err(|_| RecordError::Archive)
}

#[inline]
fn held(body: &[u8]) -> Result<Held, RecordError> {
    let archived = access::<ArchivedHeld>(body)?;
    exact_length::<ArchivedHeld>(body, archived.lines.len(), 0)?;
    Ok(Held {
        origin: thaw(&archived.origin)?,
        order: thaw(&archived.order)?,
        expires_at: thaw(&archived.expires_at)?,
        lines: lines(&archived.lines, 1)?,
    })
}

#[inline]
fn bought(body: &[u8]) -> Result<Bought, RecordError> {
    let archived = access::<ArchivedBought>(body)?;
    let payment = archived.payment.as_bytes();
    exact_length::<ArchivedBought>(body, archived.lines.len(), payment.len())?;
    Ok(Bought {
        origin: thaw(&archived.origin)?,
        order: thaw(&archived.order)?,
        lines: lines(&archived.lines, 1)?,
        payment: PaymentRef::new(payment).ok_or(RecordError::Length)?,
    })
}

#[inline]
fn confirmed(body: &[u8]) -> Result<Confirmed, RecordError> {
    let archived = access::<ArchivedConfirmed>(body)?;
    let payment = archived.payment.as_bytes();
    exact_length::<ArchivedConfirmed>(body, archived.lines.len(), payment.len())?;
    Ok(Confirmed {
        origin: thaw(&archived.origin)?,
        order: thaw(&archived.order)?,
        lines: lines(&archived.lines, 0)?,
        payment: PaymentRef::new(payment).ok_or(RecordError::Length)?,
    })
}

#[inline]
fn cancelled(body: &[u8]) -> Result<Cancelled, RecordError> {
    let archived = access::<ArchivedCancelled>(body)?;
    exact_length::<ArchivedCancelled>(body, archived.lines.len(), 0)?;
    Ok(Cancelled {
        origin: thaw(&archived.origin)?,
        order: thaw(&archived.order)?,
        lines: lines(&archived.lines, 0)?,
    })
}

/// Whether struct and lists fill `body`, with no byte that belongs to nothing.
#[inline]
fn exact_length<T>(body: &[u8], lines: usize, payment_bytes: usize) -> Result<(), RecordError> {
    // rkyv has verified that the lists lie inside the body, so the sum is small.
    if body.len() == size_of::<T>() + lines * LINE_BYTES + payment_bytes {
        Ok(())
    } else {
        Err(RecordError::Length)
    }
}

/// The lines of a record, at least `least` of them. Bounded before they are copied: the bounded
/// list's own deserialization panics on too many.
#[inline]
fn lines(archived: &[ArchivedLine], least: usize) -> Result<RecordLines, RecordError> {
    if archived.len() > LINES_MAX {
        return Err(RecordError::Lines(LinesError::TooMany));
    }
    let mut lines = RecordLines::new();
    for line in archived {
        lines.push(thaw(line)?);
    }
    check_lines(&lines, least)?;
    Ok(lines)
}

/// Whether these are an order's lines, at least `least` of them.
#[inline]
fn check_lines(lines: &RecordLines, least: usize) -> Result<(), RecordError> {
    if lines.len() < least {
        return Err(RecordError::Lines(LinesError::Empty));
    }
    for (index, line) in lines.iter().enumerate() {
        if line.quantity.0 == 0 {
            return Err(RecordError::Lines(LinesError::ZeroQuantity));
        }
        if lines[..index].iter().any(|earlier| earlier.item == line.item) {
            return Err(RecordError::Lines(LinesError::RepeatedItem));
        }
    }
    Ok(())
}

#[inline]
fn assert_lines(lines: &RecordLines, least: usize) {
    assert_eq!(check_lines(lines, least), Ok(()), "a record's lines keep their invariants");
}
