//! The current second as the `Date` header writes it.

use crate::model::TimeMs;

/// Length of an IMF-fixdate (RFC 9110, 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
const DATE_BYTES: usize = 29;

/// A point in time and its text. Made once a second, used by every answer of that second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateText {
    now: TimeMs,
    text: [u8; DATE_BYTES],
}

impl DateText {
    /// The text of `now`. Behind the year 9999 it is the last second of that year: the format has
    /// four digits.
    #[must_use]
    pub fn new(now: TimeMs) -> Self {
        const END: u64 = 253_402_300_800;
        let seconds = (now.0 / 1000).min(END - 1);
        let (days, in_day) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        let mut text = *b"Thu, 00 Jan 0000 00:00:00 GMT";
        // The first of January 1970 was a Thursday.
        text[..3].copy_from_slice(&WEEKDAYS[(days % 7) as usize]);
        put_two(&mut text[5..7], day);
        text[8..11].copy_from_slice(&MONTHS[month as usize]);
        put_two(&mut text[12..14], year / 100);
        put_two(&mut text[14..16], year % 100);
        put_two(&mut text[17..19], in_day / 3600);
        put_two(&mut text[20..22], in_day / 60 % 60);
        put_two(&mut text[23..25], in_day % 60);
        Self { now, text }
    }

    /// Whether `now` is in another second, so that the text has to be made anew.
    #[must_use]
    pub const fn is_stale(&self, now: TimeMs) -> bool {
        self.now.0 / 1000 != now.0 / 1000
    }

    /// The time that it was made of.
    #[must_use]
    pub const fn now(&self) -> TimeMs {
        self.now
    }

    /// The text.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.text
    }
}

const WEEKDAYS: [[u8; 3]; 7] = [*b"Thu", *b"Fri", *b"Sat", *b"Sun", *b"Mon", *b"Tue", *b"Wed"];

const MONTHS: [[u8; 3]; 12] = [
    *b"Jan", *b"Feb", *b"Mar", *b"Apr", *b"May", *b"Jun", *b"Jul", *b"Aug", *b"Sep", *b"Oct",
    *b"Nov", *b"Dec",
];

/// Year, month from 0 and day from 1 of a day counted from 1 January 1970 (Gregorian calendar).
fn civil(days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // 400 years have 146,097 days: whole cycles first, so that the loop below is short.
    let (mut year, mut rest) = (1970 + days / 146_097 * 400, days % 146_097);
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if rest < length {
            break;
        }
        rest -= length;
        year += 1;
    }
    let mut month = 0;
    for length in [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
}

fn put_two(place: &mut [u8], number: u64) {
    place[0] = b'0' + (number / 10) as u8;
    place[1] = b'0' + (number % 10) as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // From `date -u -d @N`.
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            let date = DateText::new(TimeMs(seconds * 1000 + 999));
            assert_eq!(date.as_bytes(), text.as_bytes());
            assert!(!date.is_stale(TimeMs(seconds * 1000)));
            assert!(date.is_stale(TimeMs(seconds * 1000 + 1000)));
        }
        let end = DateText::new(TimeMs(u64::MAX));
        assert_eq!(end.as_bytes(), b"Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
