//! What an order asks for and holds: lines of (item, quantity), and the payment's reference.
//!
//! Lines are parsed once: a [`Lines`] has 1 to [`LINES_MAX`] lines of distinct items, none of
//! them zero.

use arrayvec::ArrayVec;
use smallvec::SmallVec;

use super::id::{ItemId, Price, Quantity};

/// The most lines of one order.
pub const LINES_MAX: usize = 16;

/// Lines that a command holds in place. Orders with more are rare, and pay for an allocation;
/// room for all would make each command half a kilobyte to move.
const LINES_IN_PLACE: usize = 4;

/// The longest payment reference, in bytes.
pub const PAYMENT_REF_BYTES_MAX: usize = 64;

/// Units of one item in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "server", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
pub struct Line {
    /// The item.
    pub item: ItemId,
    /// How many units; never zero.
    pub quantity: Quantity,
}

/// A line as a buyer asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedLine {
    /// The item and how many units of it.
    pub line: Line,
    /// The unit price that the buyer saw; another one is `PRICE_MISMATCH`.
    pub price: Option<Price>,
}

/// Why lines are not an order's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinesError {
    /// There is no line.
    #[error("an order has at least one line")]
    Empty,
    /// There are too many lines.
    #[error("an order has at most {LINES_MAX} lines")]
    TooMany,
    /// A line asks for nothing.
    #[error("a line's quantity is at least 1")]
    ZeroQuantity,
    /// Two lines name the same item.
    #[error("two lines name the same item")]
    RepeatedItem,
}

/// Anything that has an order's line inside.
pub trait AsLine: Copy {
    /// The line.
    fn line(&self) -> Line;
}

impl AsLine for Line {
    fn line(&self) -> Line {
        *self
    }
}

impl AsLine for WantedLine {
    fn line(&self) -> Line {
        self.line
    }
}

/// Lines that are not judged yet.
pub type Unchecked<L> = SmallVec<[L; LINES_IN_PLACE]>;

/// 1 to [`LINES_MAX`] lines of distinct items, each of at least one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked<L: AsLine>(Unchecked<L>);

/// The lines of an order.
pub type Lines = Checked<Line>;

/// The lines that a buyer asks for.
pub type Wanted = Checked<WantedLine>;

impl<L: AsLine> Checked<L> {
    /// Takes lines that satisfy the invariants above.
    pub fn new(lines: impl IntoIterator<Item = L>) -> Result<Self, LinesError> {
        let mut checked = Unchecked::<L>::new();
        for line in lines {
            check_next(&checked, line)?;
            checked.push(line);
        }
        if checked.is_empty() { Err(LinesError::Empty) } else { Ok(Self(checked)) }
    }

    /// Takes lines that are in their place already, or gives them back with what is wrong.
    pub fn from_unchecked(lines: Unchecked<L>) -> Result<Self, (LinesError, Unchecked<L>)> {
        match check(&lines) {
            Ok(()) => Ok(Self(lines)),
            Err(error) => Err((error, lines)),
        }
    }

    /// The lines in the order in which they were given.
    #[must_use]
    pub fn as_slice(&self) -> &[L] {
        &self.0
    }

    /// The units of all lines together. A sum past `u64` cannot happen: 16 lines of `u32`.
    #[must_use]
    pub fn units(&self) -> u64 {
        self.0.iter().map(|line| u64::from(line.line().quantity.0)).sum()
    }
}

fn check<L: AsLine>(lines: &[L]) -> Result<(), LinesError> {
    for (index, line) in lines.iter().enumerate() {
        check_next(&lines[..index], *line)?;
    }
    if lines.is_empty() { Err(LinesError::Empty) } else { Ok(()) }
}

/// Whether a line may stand behind these.
#[inline]
fn check_next<L: AsLine>(earlier: &[L], line: L) -> Result<(), LinesError> {
    let Line { item, quantity } = line.line();
    if quantity == Quantity(0) {
        return Err(LinesError::ZeroQuantity);
    }
    if earlier.iter().any(|earlier| earlier.line().item == item) {
        return Err(LinesError::RepeatedItem);
    }
    if earlier.len() == LINES_MAX { Err(LinesError::TooMany) } else { Ok(()) }
}

impl Wanted {
    /// The lines without what the buyer thought they cost.
    #[must_use]
    pub fn lines(&self) -> Lines {
        Checked(self.0.iter().map(|wanted| wanted.line).collect())
    }
}

/// The operator's reference to a payment: any bytes, up to [`PAYMENT_REF_BYTES_MAX`]. It is
/// kept in the log, not in memory.
#[derive(Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "server", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
pub struct PaymentRef(ArrayVec<u8, PAYMENT_REF_BYTES_MAX>);

impl PaymentRef {
    /// A reference of these bytes; `None` where they are too many.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        ArrayVec::try_from(bytes).ok().map(Self)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Clone for PaymentRef {
    /// Copies the bytes at once; a list's own clone goes one by one.
    fn clone(&self) -> Self {
        let mut bytes = ArrayVec::new();
        bytes.try_extend_from_slice(&self.0).expect("the bytes fit as they did");
        Self(bytes)
    }
}

#[cfg(feature = "server")]
impl ArchivedPaymentRef {
    /// The bytes as they lie in the log: however many, for nothing has bounded them yet.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(item: u32, quantity: u32) -> Line {
        Line { item: ItemId(item), quantity: Quantity(quantity) }
    }

    #[test]
    fn lines_keep_their_invariants() {
        assert_eq!(Lines::new([]), Err(LinesError::Empty));
        assert_eq!(Lines::new([line(1, 0)]), Err(LinesError::ZeroQuantity));
        assert_eq!(Lines::new([line(1, 1), line(1, 2)]), Err(LinesError::RepeatedItem));
        assert_eq!(Lines::new((0..17).map(|item| line(item, 1))), Err(LinesError::TooMany));
        let full = Lines::new((0..16).map(|item| line(item, u32::MAX))).expect("16 lines fit");
        assert_eq!(full.units(), 16 * u64::from(u32::MAX));
    }

    #[test]
    fn a_payment_reference_is_bounded() {
        assert!(PaymentRef::new(&[7; PAYMENT_REF_BYTES_MAX]).is_some());
        assert!(PaymentRef::new(&[7; PAYMENT_REF_BYTES_MAX + 1]).is_none());
    }
}
