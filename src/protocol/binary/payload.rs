//! Reading and appending the parts of payloads.
//!
//! A [`Reader`] fails with the offset at which it stood. It accepts one encoding of each value:
//! an absent option is all zero, a tag is 0 or 1, and nothing stands behind the end.

use super::frame::{DecodeError, ErrorCode, Frame, HEADER_BYTES};
use crate::model::{DurationMs, Quantity, SaleTerms, TimeMs};
use crate::protocol::codes::WireCode;

/// A place in the payload of a frame.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
}

/// Declares a reader of each integer.
macro_rules! integers {
    ($($int:ident)*) => {
        $(
            #[inline]
            pub fn $int(&mut self) -> Result<$int, DecodeError> {
                self.array().map($int::from_le_bytes)
            }
        )*
    };
}

impl<'a> Reader<'a> {
    #[inline]
    pub const fn new(frame: &Frame<'a>) -> Self {
        Self { rest: frame.payload, len: frame.len }
    }

    integers! { u8 u16 u32 u64 u128 i64 }

    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((head, rest)) = self.rest.split_first_chunk() else {
            return Err(self.truncated());
        };
        self.rest = rest;
        Ok(*head)
    }

    /// The next `count` elements of `N` bytes each.
    #[inline]
    pub fn elements<const N: usize>(&mut self, count: usize) -> Result<&'a [[u8; N]], DecodeError> {
        let Some((head, rest)) = self.rest.split_at_checked(count * N) else {
            return Err(self.truncated());
        };
        self.rest = rest;
        Ok(head.as_chunks().0)
    }

    /// That at least this many bytes are left.
    pub fn require(&self, bytes: usize) -> Result<(), DecodeError> {
        if self.rest.len() < bytes { Err(self.truncated()) } else { Ok(()) }
    }

    /// The bytes behind a length byte.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u8()?;
        self.elements::<1>(usize::from(len)).map(<[[u8; 1]]>::as_flattened)
    }

    /// A 0 or a 1.
    #[inline]
    pub fn tag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.bad_value(1)),
        }
    }

    #[inline]
    pub fn opt_u32(&mut self) -> Result<Option<u32>, DecodeError> {
        let (present, value) = (self.tag()?, self.u32()?);
        self.option(present, value)
    }

    #[inline]
    pub fn opt_u64(&mut self) -> Result<Option<u64>, DecodeError> {
        let (present, value) = (self.tag()?, self.u64()?);
        self.option(present, value)
    }

    #[inline]
    fn option<T: Copy + PartialEq + Default>(
        &self,
        present: bool,
        value: T,
    ) -> Result<Option<T>, DecodeError> {
        if !present && value != T::default() {
            return Err(self.bad_value(size_of::<T>()));
        }
        Ok(present.then_some(value))
    }

    /// A one-byte code of an enum.
    pub fn code<C: WireCode>(&mut self) -> Result<C, DecodeError> {
        let code = self.u8()?;
        C::from_wire(u16::from(code)).ok_or_else(|| self.bad_value(1))
    }

    /// A two-byte code of an enum.
    pub fn wide_code<C: WireCode>(&mut self) -> Result<C, DecodeError> {
        let code = self.u16()?;
        C::from_wire(code).ok_or_else(|| self.bad_value(2))
    }

    pub fn terms(&mut self) -> Result<SaleTerms, DecodeError> {
        Ok(SaleTerms {
            opens_at: self.opt_u64()?.map(TimeMs),
            closes_at: self.opt_u64()?.map(TimeMs),
            hold_ttl: DurationMs(self.u32()?),
            account_limit: self.opt_u32()?.map(Quantity),
        })
    }

    /// The end: nothing may be left.
    #[inline]
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::at(self.offset(), ErrorCode::TrailingBytes))
        }
    }

    /// That the value which took the last `bytes` bytes has no meaning.
    #[cold]
    pub fn bad_value(&self, bytes: usize) -> DecodeError {
        DecodeError::at(self.offset() - bytes, ErrorCode::BadValue)
    }

    #[cold]
    fn truncated(&self) -> DecodeError {
        DecodeError::at(self.offset(), ErrorCode::Truncated)
    }

    #[inline]
    const fn offset(&self) -> usize {
        debug_assert!(self.len >= HEADER_BYTES);
        self.len - self.rest.len()
    }
}

/// Appends an option: its tag, and its value or zeros.
#[inline]
pub(super) fn put_opt_u32(out: &mut Vec<u8>, value: Option<u32>) {
    let mut bytes = [0; 5];
    bytes[0] = u8::from(value.is_some());
    bytes[1..].copy_from_slice(&value.unwrap_or(0).to_le_bytes());
    out.extend_from_slice(&bytes);
}

/// Appends an option: its tag, and its value or zeros.
#[inline]
pub(super) fn put_opt_u64(out: &mut Vec<u8>, value: Option<u64>) {
    let mut bytes = [0; 9];
    bytes[0] = u8::from(value.is_some());
    bytes[1..].copy_from_slice(&value.unwrap_or(0).to_le_bytes());
    out.extend_from_slice(&bytes);
}

/// Appends a length byte and the bytes.
///
/// # Panics
///
/// Where there are more than 255.
#[inline]
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(u8::try_from(bytes.len()).expect("the caller bounds its bytes"));
    out.extend_from_slice(bytes);
}

pub(super) fn put_terms(out: &mut Vec<u8>, terms: &SaleTerms) {
    put_opt_u64(out, terms.opens_at.map(|time| time.0));
    put_opt_u64(out, terms.closes_at.map(|time| time.0));
    out.extend_from_slice(&terms.hold_ttl.0.to_le_bytes());
    put_opt_u32(out, terms.account_limit.map(|limit| limit.0));
}
