//! The body of an order in the form in which nearly every one comes, read in one pass.
//!
//! It takes a part of the language that [`body`](super::body) takes, and means the same by it: an
//! object of the known fields, each at most once and in any order, with plain texts and plain
//! whole numbers, and white space wherever JSON has it. For everything else it says nothing: an
//! escape, a character beyond ASCII, a number with a sign or a fraction or of twenty digits, an
//! unknown or repeated field, a mistake. Such a body is read by the general reader, whose refusals
//! name the field.

use std::borrow::Cow;

use super::body::{Action, OrdersBody, Text};
use crate::model::lines::{LINES_MAX, Unchecked};
use crate::model::{ItemId, Line, Price, Quantity, WantedLine};

/// The order that a body asks for; `None` leaves it to the general reader.
pub(super) fn read_plain(body: &[u8]) -> Option<OrdersBody<'_>> {
    let mut reader = Reader { rest: body };
    let order = reader.order()?;
    reader.skip_space();
    reader.rest.is_empty().then_some(order)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn order(&mut self) -> Option<OrdersBody<'a>> {
        let (mut account, mut action) = (None, None);
        let (mut ttl_ms, mut payment_ref) = (None, None);
        // Filled in place: it is large to move, and an empty one is none.
        let mut lines = Unchecked::new();
        self.object(|reader| {
            if reader.takes(b"\"account\"") {
                once(&mut account, reader.text()?)
            } else if reader.takes(b"\"action\"") {
                once(&mut action, reader.action()?)
            } else if reader.takes(b"\"lines\"") {
                reader.lines(&mut lines)
            } else if reader.takes(b"\"ttl_ms\"") {
                once(&mut ttl_ms, reader.short_number()?)
            } else if reader.takes(b"\"payment_ref\"") {
                once(&mut payment_ref, reader.text()?)
            } else {
                None
            }
        })?;
        if lines.is_empty() {
            return None;
        }
        let text = |text: &'a str| Text(Cow::Borrowed(text));
        Some(OrdersBody {
            account: account.map(text),
            action: action?,
            lines,
            ttl_ms,
            payment_ref: payment_ref.map(text),
        })
    }

    fn action(&mut self) -> Option<Action> {
        self.skip_space();
        let (rest, action) = match self.rest {
            [b'"', b'b', b'u', b'y', b'"', rest @ ..] => (rest, Action::Buy),
            [b'"', b'h', b'o', b'l', b'd', b'"', rest @ ..] => (rest, Action::Hold),
            _ => return None,
        };
        self.rest = rest;
        Some(action)
    }

    fn lines(&mut self, lines: &mut Unchecked<WantedLine>) -> Option<()> {
        if !lines.is_empty() {
            return None;
        }
        self.expect(b'[')?;
        // An empty list is left to the general reader, as all that is refused.
        loop {
            if lines.len() == LINES_MAX {
                return None;
            }
            lines.push(self.line()?);
            match self.next()? {
                b',' => {}
                b']' => return Some(()),
                _ => return None,
            }
        }
    }

    fn line(&mut self) -> Option<WantedLine> {
        let (mut item, mut quantity, mut price) = (None, None, None);
        self.object(|reader| {
            if reader.takes(b"\"item\"") {
                once(&mut item, reader.short_number()?)
            } else if reader.takes(b"\"quantity\"") {
                once(&mut quantity, reader.short_number()?)
            } else if reader.takes(b"\"price\"") {
                once(&mut price, reader.number()?)
            } else {
                None
            }
        })?;
        let line = Line { item: ItemId(item?), quantity: Quantity(quantity?) };
        Some(WantedLine { line, price: price.map(Price) })
    }

    /// Reads an object that has fields; `field` reads each with its value.
    #[inline]
    fn object(&mut self, mut field: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        loop {
            self.skip_space();
            field(self)?;
            match self.next()? {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    /// Takes a field's name, given in its quotes, and the colon behind it, if they come next.
    #[inline]
    fn takes<const N: usize>(&mut self, name: &[u8; N]) -> bool {
        let Some(rest) = self.rest.strip_prefix(name) else { return false };
        let mut behind = Reader { rest };
        let is_field = behind.next() == Some(b':');
        if is_field {
            *self = behind;
        }
        is_field
    }

    #[inline]
    fn text(&mut self) -> Option<&'a str> {
        str::from_utf8(self.ascii()?).ok()
    }

    /// A text without an escape, of ASCII alone.
    #[inline]
    fn ascii(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let end = self.rest.iter().position(|&byte| !PLAIN_BYTES[usize::from(byte)])?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest.strip_prefix(b"\"")?;
        Some(text)
    }

    #[inline]
    fn short_number(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    /// A whole number as JSON writes it: no leading zero.
    #[inline]
    fn number(&mut self) -> Option<u64> {
        self.skip_space();
        let (mut value, mut digits) = (0_u64, 0);
        while let Some(byte @ b'0'..=b'9') = self.rest.get(digits) {
            value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            digits += 1;
        }
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        let is_plain = matches!(number, [_] | [b'1'..=b'9', ..]) && digits <= DIGITS_MAX;
        // Nothing else may follow that would make it another number.
        let is_alone = !matches!(rest.first(), Some(b'.' | b'e' | b'E'));
        (is_plain && is_alone).then_some(value)
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// The next byte that is no white space.
    #[inline]
    fn next(&mut self) -> Option<u8> {
        self.skip_space();
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    #[inline]
    fn skip_space(&mut self) {
        // One comparison tells that there is none, as mostly there is not.
        while let Some((&byte, rest)) = self.rest.split_first()
            && byte <= b' '
            && matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
        {
            self.rest = rest;
        }
    }
}

/// Digits of a number that cannot be past `u64`.
const DIGITS_MAX: usize = 19;

/// The bytes of a text that stand for themselves: ASCII that can be seen, and the space.
const PLAIN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b' ';
    while byte <= b'~' {
        table[byte as usize] = !matches!(byte, b'"' | b'\\');
        byte += 1;
    }
    table
};

/// Keeps a field's value, unless the field was there before.
#[inline]
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODIES: [&str; 6] = [
        r#"{"account":"a-1","action":"buy","lines":[{"item":1,"quantity":2}]}"#,
        r#"{"account":"late","action":"hold","lines":[{"item":2,"quantity":1,"price":0}],
            "ttl_ms":5}"#,
        "{ \"action\" : \"buy\" ,\n\t\"lines\" : \
            [ { \"quantity\" : 4294967295 , \"item\" : 10 } ] }\r\n",
        r#"{"payment_ref":"p","lines":[{"price":9999999999999999999,"item":0,"quantity":1}],
            "action":"buy"}"#,
        r#"{"action":"buy","lines":[{"item":1,"quantity":2},{"item":3,"quantity":4}],
            "account":""}"#,
        r#"{"account":"a.b~!","payment_ref":"","action":"hold","ttl_ms":0,
            "lines":[{"item":7,"quantity":7}]}"#,
    ];

    /// What is put into bodies, so that nearly valid ones come up often.
    const PIECES: [&str; 32] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u0061",
        "null",
        "true",
        "-",
        "0",
        "01",
        "1.0",
        "1e2",
        "9",
        "9999999999999999999",
        "18446744073709551615",
        "99999999999999999999",
        " ",
        "\n",
        "\u{b}",
        "é",
        "\u{1}",
        "\"item\":1,",
        "\"action\":\"buy\",",
        "\"price\":3,",
        "\"account\":\"x\",",
        "\"other\":1,",
        "hold",
        "4294967296",
    ];

    fn shown(body: &OrdersBody<'_>) -> String {
        let text = |text: &Option<Text<'_>>| text.as_ref().map(|text| text.0.clone().into_owned());
        let lines = &body.lines;
        let action = match body.action {
            Action::Hold => "hold",
            Action::Buy => "buy",
        };
        format!("{:?} {action} {lines:?} {:?} {:?}", text(&body.account), body.ttl_ms, {
            text(&body.payment_ref)
        })
    }

    /// Whether the two readers agree, as far as this one says anything; whether it did.
    fn agrees(body: &[u8]) -> bool {
        let Some(plain) = read_plain(body) else { return false };
        let text = str::from_utf8(body).expect("only ASCII is read here");
        let general: OrdersBody<'_> = serde_json::from_str(text)
            .unwrap_or_else(|error| panic!("{text:?} is taken here, but {error}"));
        assert_eq!(shown(&plain), shown(&general), "{text:?}");
        true
    }

    #[test]
    fn usual_bodies_are_read_here() {
        for body in BODIES {
            assert!(agrees(body.as_bytes()), "{body}");
        }
        let line = r#"{"item":1,"quantity":2},"#;
        let many = |count| {
            let lines = line.repeat(count);
            format!(r#"{{"action":"buy","lines":[{}]}}"#, lines.trim_end_matches(','))
        };
        assert!(agrees(many(LINES_MAX).as_bytes()));
        assert!(!agrees(many(LINES_MAX + 1).as_bytes()));
    }

    #[test]
    fn a_body_that_is_cut_off_is_not_read_here() {
        for body in BODIES.map(str::trim_end) {
            for end in 0..body.len() {
                assert!(!agrees(&body.as_bytes()[..end]), "{}", &body[..end]);
            }
        }
    }

    /// Each piece in the place of each stretch of up to three bytes of each body.
    #[test]
    fn what_is_read_here_means_what_the_general_reader_says() {
        let (mut tried, mut read) = (0, 0);
        for body in BODIES.map(str::as_bytes) {
            for at in 0..body.len() {
                for cut in 0..=3.min(body.len() - at) {
                    for piece in PIECES {
                        let changed = [&body[..at], piece.as_bytes(), &body[at + cut..]].concat();
                        tried += 1;
                        read += u32::from(agrees(&changed));
                    }
                }
            }
        }
        assert!(read > 1_000 && read < tried / 2, "{read} of {tried} were read");
    }
}
