//! The body of an order in the form in which nearly every one comes, read in one pass.
//!
//! It takes a part of the language that [`body`](super::body) takes, and means the same by it: an
//! object of the known fields, each at most once and in any order, with plain texts and plain
//! whole numbers, and white space wherever JSON has it. For everything else it says nothing: an
//! escape, a character beyond ASCII, a number with a sign or a fraction, an unknown or repeated
//! field, a mistake. Such a body is read by the general reader, whose refusals name the field.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::body::{Action, Few, OrdersBody, Text, WantedBody};
use crate::model::lines::LINES_MAX;

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
        let (mut account, mut action, mut lines) = (None, None, None);
        let (mut ttl_ms, mut payment_ref) = (None, None);
        self.object(|reader, field| match field {
            b"account" => once(&mut account, reader.text()?),
            b"action" => once(&mut action, reader.action()?),
            b"lines" => once(&mut lines, reader.lines()?),
            b"ttl_ms" => once(&mut ttl_ms, reader.short_number()?),
            b"payment_ref" => once(&mut payment_ref, reader.text()?),
            _ => None,
        })?;
        let text = |text: &'a str| Text(Cow::Borrowed(text));
        Some(OrdersBody {
            account: account.map(text),
            action: action?,
            lines: lines?,
            ttl_ms,
            payment_ref: payment_ref.map(text),
        })
    }

    fn action(&mut self) -> Option<Action> {
        match self.ascii()? {
            b"buy" => Some(Action::Buy),
            b"hold" => Some(Action::Hold),
            _ => None,
        }
    }

    fn lines(&mut self) -> Option<Few<WantedBody>> {
        let mut lines = SmallVec::new();
        self.expect(b'[')?;
        // An empty list is left to the general reader, as all that is refused.
        loop {
            if lines.len() == LINES_MAX {
                return None;
            }
            lines.push(self.line()?);
            match self.next()? {
                b',' => {}
                b']' => return Some(Few(lines)),
                _ => return None,
            }
        }
    }

    fn line(&mut self) -> Option<WantedBody> {
        let (mut item, mut quantity, mut price) = (None, None, None);
        self.object(|reader, field| match field {
            b"item" => once(&mut item, reader.short_number()?),
            b"quantity" => once(&mut quantity, reader.short_number()?),
            b"price" => once(&mut price, reader.number()?),
            _ => None,
        })?;
        Some(WantedBody { item: item?, quantity: quantity?, price })
    }

    /// Reads an object that has fields; `value` reads what belongs to each.
    #[inline]
    fn object(&mut self, mut value: impl FnMut(&mut Self, &[u8]) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        loop {
            let field = self.ascii()?;
            self.expect(b':')?;
            value(self, field)?;
            match self.next()? {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    #[inline]
    fn text(&mut self) -> Option<&'a str> {
        str::from_utf8(self.ascii()?).ok()
    }

    /// A text without an escape, of ASCII alone.
    #[inline]
    fn ascii(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        let end = self.rest.iter().position(|byte| !is_plain(byte))?;
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
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.rest.split_at(digits);
        // Nothing else may follow that would make it another number.
        let is_alone = !matches!(rest.first(), Some(b'.' | b'e' | b'E'));
        let is_plain = matches!(number, [_] | [b'1'..=b'9', ..]);
        if !is_alone || !is_plain {
            return None;
        }
        self.rest = rest;
        number.iter().try_fold(0_u64, |value, &digit| {
            value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })
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
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }
}

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
        r#"{"payment_ref":"p","lines":[{"price":18446744073709551615,"item":0,"quantity":1}],
            "action":"buy"}"#,
        r#"{"action":"buy","lines":[{"item":1,"quantity":2},{"item":3,"quantity":4}],
            "account":""}"#,
        r#"{"account":"a.b~!","payment_ref":"","action":"hold","ttl_ms":0,
            "lines":[{"item":7,"quantity":7}]}"#,
    ];

    /// What is put into bodies, so that nearly valid ones come up often.
    const PIECES: [&str; 30] = [
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
        let lines: Vec<_> =
            body.lines.0.iter().map(|line| (line.item, line.quantity, line.price)).collect();
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
