//! The JSON bodies of requests, and which field is wrong where one is.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use arrayvec::ArrayVec;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor};

use super::problem::HttpRefusal;
use crate::model::lines::LINES_MAX;

/// `POST …/orders`
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrdersBody<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    pub account: Option<Text<'a>>,
    pub action: Action,
    pub lines: Few<WantedBody>,
    #[serde(default, deserialize_with = "given")]
    pub ttl_ms: Option<u32>,
    #[serde(borrow, default, deserialize_with = "given")]
    pub payment_ref: Option<Text<'a>>,
}

/// What an order begins as.
#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Hold,
    Buy,
}

/// One line that is wanted.
#[derive(Clone, Copy, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedBody {
    pub item: u32,
    pub quantity: u32,
    #[serde(default, deserialize_with = "given")]
    pub price: Option<u64>,
}

/// `POST …/confirm`
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmBody<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    pub account: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "given")]
    pub payment_ref: Option<Text<'a>>,
    #[serde(default, deserialize_with = "given")]
    pub lines: Option<Few<LineBody>>,
}

/// `POST …/cancel`
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelBody<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    pub account: Option<Text<'a>>,
    #[serde(default, deserialize_with = "given")]
    pub lines: Option<Few<LineBody>>,
}

/// `POST …/release` and `…/extend`
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountBody<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    pub account: Option<Text<'a>>,
}

/// One line of an order that exists.
#[derive(Clone, Copy, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LineBody {
    pub item: u32,
    pub quantity: u32,
}

/// A text, borrowed from the body unless it has escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// Up to [`LINES_MAX`] elements, without an allocation.
pub(super) struct Few<T>(pub ArrayVec<T, LINES_MAX>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FewVisitor(PhantomData))
    }
}

struct FewVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FewVisitor<T> {
    type Value = Few<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T>, A::Error> {
        let mut few = ArrayVec::new();
        while !few.is_full() {
            match list.next_element()? {
                Some(element) => few.push(element),
                None => return Ok(Few(few)),
            }
        }
        match list.next_element::<IgnoredAny>()? {
            None => Ok(Few(few)),
            Some(_) => Err(A::Error::custom(format_args!("at most {LINES_MAX} are possible"))),
        }
    }
}

/// A field that may be left out, but not be `null`.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// The longest texts of a refusal, in bytes: what is wrong may itself be as long as a body.
const FIELD_BYTES_MAX: usize = 64;
const DETAIL_BYTES_MAX: usize = 200;

/// Reads a body.
pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, HttpRefusal> {
    serde_json::from_slice(body).map_err(|error| explain::<T>(body, &error))
}

/// Reads a wrong body once more, now with an eye on where it is wrong.
#[cold]
fn explain<'a, T: Deserialize<'a>>(body: &'a [u8], error: &serde_json::Error) -> HttpRefusal {
    let message = error.to_string();
    if !error.is_data() {
        return refusal("body".to_owned(), &message);
    }
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(text, _)| text);
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let path = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Err(error) => error.path().to_string(),
        Ok(_) => String::new(),
    };
    let path = if path == "." { "" } else { path.as_str() };
    refusal(with_named(path, message), message)
}

/// The field that a message is about: at `path`, or the one in it that the message names.
fn with_named(path: &str, message: &str) -> String {
    let named = ["missing field `", "duplicate field `", "unknown field `"]
        .into_iter()
        .find_map(|start| message.strip_prefix(start)?.split('`').next())
        .filter(|name| !name.is_empty());
    match named {
        Some(name) if path.is_empty() => name.to_owned(),
        Some(name) if path != name && !path.ends_with(&format!(".{name}")) => {
            format!("{path}.{name}")
        }
        _ if path.is_empty() => "body".to_owned(),
        _ => path.to_owned(),
    }
}

fn refusal(mut field: String, detail: &str) -> HttpRefusal {
    field.truncate(field.floor_char_boundary(FIELD_BYTES_MAX));
    let detail = detail[..detail.floor_char_boundary(DETAIL_BYTES_MAX)].to_owned();
    HttpRefusal::Field { field: field.into(), detail: detail.into() }
}
