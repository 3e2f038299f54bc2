//! Moments as people write them: RFC 3339 in UTC, or milliseconds since the Unix epoch.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::model::TimeMs;

const DAY_MS: u64 = 86_400_000;

/// A point in time. Shown as `2026-11-23T20:00:00.000Z`; in JSON, its milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) TimeMs);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0.0)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(TimeMs(ms)) = *self;
        let (days, in_day) = (ms / DAY_MS, ms % DAY_MS);
        // Behind the year 9999 the form has no place for the year.
        if days >= days_before(10_000) {
            return write!(f, "{ms} ms");
        }
        let mut year = 1970 + days / 366;
        while days_before(year + 1) <= days {
            year += 1;
        }
        let mut day = days - days_before(year);
        let mut month = 1;
        for length in month_lengths(year) {
            if day < length {
                break;
            }
            day -= length;
            month += 1;
        }
        let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
        let (second, ms) = (in_day / 1000 % 60, in_day % 1000);
        let day = day + 1;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ms) = text.parse() {
            return Ok(Self(TimeMs(ms)));
        }
        parse(text).map(|ms| Self(TimeMs(ms))).ok_or_else(|| {
            "a time is written as 2026-11-23T20:00:00Z, or in milliseconds since the Unix epoch"
                .to_owned()
        })
    }
}

/// The milliseconds of `YYYY-MM-DDTHH:MM:SS[.fff]Z`.
fn parse(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once(['T', ' '])?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    if year < 1970 {
        return None;
    }
    let lengths = month_lengths(year);
    let in_month = *lengths.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    let is_time = hour < 24 && minute < 60 && second < 60;
    let is_fraction = (1..=3).contains(&fraction.len());
    let is_digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !(1..=in_month).contains(&day) || !is_time || !is_fraction || !is_digits {
        return None;
    }
    let ms: u64 = format!("{fraction:0<3}").parse().ok()?;
    let days = days_before(year) + lengths[..month as usize - 1].iter().sum::<u64>() + day - 1;
    Some(days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

fn numbers(text: &str, between: char, lengths: [usize; 3]) -> Option<[u64; 3]> {
    let mut numbers = [0; 3];
    let mut parts = text.split(between);
    for (number, length) in numbers.iter_mut().zip(lengths) {
        let part = parts.next().filter(|part| part.len() == length)?;
        *number = part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(numbers)
}

/// Days from 1 January 1970 to that of `year` (Gregorian calendar).
const fn days_before(year: u64) -> u64 {
    const fn leap_days(year: u64) -> u64 {
        let last = year - 1;
        last / 4 - last / 100 + last / 400
    }
    (year - 1970) * 365 + leap_days(year) - leap_days(1970)
}

const fn month_lengths(year: u64) -> [u64; 12] {
    let february = 28 + days_before(year + 1) - days_before(year) - 365;
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        // From `date -u -d @N`.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000Z"),
        ] {
            let moment = Moment(TimeMs(seconds * 1000));
            assert_eq!(moment.to_string(), text);
            assert_eq!(text.parse(), Ok(moment));
        }
        assert_eq!("1500".parse(), Ok(Moment(TimeMs(1500))));
        assert_eq!("1970-01-01 00:00:01.5Z".parse(), Ok(Moment(TimeMs(1500))));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "yesterday",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00+01:00",
            "2024-1-01T00:00:00Z",
            "2024-01-01T00:00:00.1234Z",
            "2024-01-01T00:00:00.Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_moment_is_read_as_it_is_written(ms in 0_u64..253_402_300_800_000) {
            let moment = Moment(TimeMs(ms));
            prop_assert_eq!(moment.to_string().parse(), Ok(moment));
        }
    }
}
