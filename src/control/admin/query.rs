//! The parameters behind the `?` of a path: each at most once, escapes decoded.

use std::str::FromStr;

use super::reply::Problem;

/// Parameters of one request.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// The parameters of a query such as `account=a%20b&after=7`.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut params = Self::default();
        for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let decoded = decode(name).zip(decode(value));
            let (name, value) =
                decoded.ok_or_else(|| Problem::field(name, "its escapes are no text"))?;
            if params.text(&name).is_some() {
                return Err(Problem::field(name, "it came twice"));
            }
            params.0.push((name, value));
        }
        Ok(params)
    }

    /// Refuses parameters of other names.
    pub(super) fn allow(&self, names: &[&str]) -> Result<(), Problem> {
        match self.0.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) if names.is_empty() => {
                Err(Problem::field(name, "there are no parameters here"))
            }
            Some((name, _)) => {
                Err(Problem::field(name, format!("not one of {}", names.join(", "))))
            }
        }
    }

    /// The value of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that is a number.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        let number = |text: &str| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|_| is_plain);
            number.ok_or_else(|| Problem::field(name, "not a number, or too large"))
        };
        self.text(name).map(number).transpose()
    }
}

/// A text without its percent escapes, and with spaces for `+`. `None` where an escape is broken,
/// or the bytes are not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'+' {
            bytes.push(b' ');
        } else if byte == b'%' {
            let mut nibble = || char::from(rest.next()?).to_digit(16);
            let (high, low) = (nibble()?, nibble()?);
            bytes.push((high << 4 | low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http::HttpRefusal;

    fn parse(query: &str) -> Result<Params, String> {
        Params::parse(Some(query)).map_err(|problem| match problem {
            Problem::Http(HttpRefusal::Field { field, .. }) => field.into_owned(),
            other => panic!("a parameter is named: {other:?}"),
        })
    }

    #[test]
    fn parameters_are_found_by_name() {
        let params = parse("account=j%C3%BCrgen+1&after=7&&fence").expect("sound");
        assert_eq!(params.text("account"), Some("jürgen 1"));
        assert_eq!(params.text("fence"), Some(""));
        assert_eq!(params.number::<u32>("after").expect("a number"), Some(7));
        assert_eq!(params.number::<u32>("limit").expect("none"), None);
        assert!(params.allow(&["account", "after", "fence"]).is_ok());
        assert!(params.allow(&["account", "after"]).is_err());
        assert!(Params::parse(None).expect("none is fine").0.is_empty());
    }

    #[test]
    fn broken_parameters_are_named() {
        for (query, name) in [("a=%", "a"), ("a=%4", "a"), ("a=%zz", "a"), ("a=%ff", "a")] {
            assert_eq!(parse(query).expect_err(query), name);
        }
        assert_eq!(parse("a=1&b=2&a=1").expect_err("twice"), "a");
        for value in ["", "-1", "+1", "1.0", "x", "256"] {
            let params = parse(&format!("n={value}")).expect("sound");
            assert!(params.number::<u8>("n").is_err(), "{value:?}");
        }
    }
}
