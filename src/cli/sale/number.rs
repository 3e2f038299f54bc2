//! Numbers on a command line: what is wrong with one, and what is meant, in words.

use std::fmt::Display;
use std::num::{IntErrorKind, ParseIntError};
use std::str::FromStr;

/// A whole number within the bounds of its type.
pub(super) trait Whole: FromStr<Err = ParseIntError> + Display {
    const LEAST: Self;
    const MOST: Self;
}

macro_rules! whole {
    ($($number:ty)*) => {
        $(impl Whole for $number {
            const LEAST: Self = Self::MIN;
            const MOST: Self = Self::MAX;
        })*
    };
}

whole!(u32 u64 i64);

/// A whole number.
pub(super) fn whole<N: Whole>(text: &str) -> Result<N, String> {
    text.parse().map_err(|error: ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => {
            format!("the number must lie between {} and {}", N::LEAST, N::MOST)
        }
        _ => "a whole number is expected, in digits alone, such as 250".to_owned(),
    })
}

/// A number, or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OrNone<N>(pub Option<N>);

/// A whole number, or the word `none`.
pub(super) fn whole_or_none<N: Whole>(text: &str) -> Result<OrNone<N>, String> {
    match text {
        "none" => Ok(OrNone(None)),
        text => whole(text).map(|number| OrNone(Some(number))),
    }
}

/// A price in the minor unit of its currency.
pub(super) fn price(text: &str) -> Result<u64, String> {
    whole(text).map_err(|problem| {
        format!("{problem}; a price is in the minor unit of the currency: 45.00 is 4500")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_told_in_words() {
        assert_eq!(
            (whole::<u32>("7"), whole::<i64>("-7"), price("4500")),
            (Ok(7), Ok(-7), Ok(4500))
        );
        assert_eq!(whole_or_none::<u32>("7"), Ok(OrNone(Some(7))));
        assert_eq!(whole_or_none::<u32>("none"), Ok(OrNone(None)));
        for text in ["x", "", "45.00", "-1", "1e3"] {
            let problem = price(text).expect_err(text);
            assert!(problem.contains("such as 250") && problem.contains("45.00 is 4500"));
        }
        let problem = whole::<u32>("4294967296").expect_err("it is too large");
        assert!(problem.contains("between 0 and 4294967295"), "{problem}");
    }
}
