//! The JSON bodies of requests, and which field is wrong where one is.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::problem::HttpRefusal;
use crate::model::lines::{LINES_MAX, Unchecked};
use crate::model::{ItemId, Line, Price, Quantity, WantedLine};

/// `POST …/orders`
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrdersBody<'a> {
    #[serde(borrow, default, deserialize_with = "given")]
    pub account: Option<Text<'a>>,
    pub action: Action,
    #[serde(deserialize_with = "wanted_lines")]
    pub lines: Unchecked<WantedLine>,
    #[serde(default, deserialize_with = "given")]
    pub ttl_ms: Option<u32>,
    #[serde(borrow, default, deserialize_with = "given")]
    pub payment_ref: Option<Text<'a>>,
}

/// What an order begins as.
#[derive(Clone, Copy)]
pub(super) enum Action {
    Hold,
    Buy,
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(ActionVisitor)
    }
}

struct ActionVisitor;

impl Visitor<'_> for ActionVisitor {
    type Value = Action;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`hold` or `buy`")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Action, E> {
        match name {
            "hold" => Ok(Action::Hold),
            "buy" => Ok(Action::Buy),
            _ => Err(E::unknown_variant(name, &["hold", "buy"])),
        }
    }
}

/// One line that is wanted.
#[derive(Clone, Copy, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedBody {
    item: u32,
    quantity: u32,
    #[serde(default, deserialize_with = "given")]
    price: Option<u64>,
}

impl From<WantedBody> for WantedLine {
    fn from(body: WantedBody) -> Self {
        let line = Line { item: ItemId(body.item), quantity: Quantity(body.quantity) };
        Self { line, price: body.price.map(Price) }
    }
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

/// An object as a `T`. What is derived alone would take a list of the fields' values as well: a
/// second form that nobody documents, and that a field put in between would change in silence.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// Up to [`LINES_MAX`] objects.
pub(super) struct Few<T>(pub Unchecked<T>);

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
        let mut few = Unchecked::new();
        while let Some(Object(element)) = list.next_element()? {
            if few.len() == LINES_MAX {
                return Err(A::Error::custom(format_args!("at most {LINES_MAX} are possible")));
            }
            few.push(element);
        }
        Ok(Few(few))
    }
}

/// The lines of an order that is to be.
fn wanted_lines<'de, D: Deserializer<'de>>(from: D) -> Result<Unchecked<WantedLine>, D::Error> {
    let Few(bodies) = Few::<WantedBody>::deserialize(from)?;
    Ok(bodies.into_iter().map(WantedLine::from).collect())
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
    // One look at the whole costs less than one at each text in it.
    let Ok(body) = str::from_utf8(body) else {
        return Err(HttpRefusal::field("body", "it is not UTF-8"));
    };
    let read: Result<Object<T>, _> = serde_json::from_str(body);
    read.map(|Object(body)| body).map_err(|error| explain::<T>(body, &error))
}

/// Reads a wrong body once more, now with an eye on where it is wrong.
#[cold]
fn explain<'a, T: Deserialize<'a>>(body: &'a str, error: &serde_json::Error) -> HttpRefusal {
    let message = error.to_string();
    if !error.is_data() {
        return refusal("body".to_owned(), &message);
    }
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(text, _)| text);
    let mut deserializer = serde_json::Deserializer::from_str(body);
    let path = match serde_path_to_error::deserialize::<_, Object<T>>(&mut deserializer) {
        Err(error) => error.path().to_string(),
        Ok(_) => String::new(),
    };
    let path = if path == "." { "" } else { path.as_str() };
    refusal(with_named(path, message), &in_plain_words(message))
}

/// What kinds of numbers are possible, for those who do not know the names that they have here.
fn in_plain_words(message: &str) -> Cow<'_, str> {
    let numbers = [
        ("u32", "a whole number from 0 to 4294967295"),
        ("u64", "a whole number from 0 to 18446744073709551615"),
        ("i64", "a whole number"),
    ];
    let told = numbers.into_iter().find_map(|(kind, words)| {
        let start = message.strip_suffix(kind)?;
        start.ends_with("expected ").then(|| format!("{start}{words}").into())
    });
    told.unwrap_or(message.into())
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
