//! Which place of the interface a request is for.

use super::fault::{HttpFault, Methods};
use super::problem::HttpRefusal;
use super::request::{Method, Request};
use super::request_id::{self, RULE};
use super::target::{Unescaped, unescape};
use crate::model::{OrderNumber, RequestId, SaleId};

/// A place, and by its method what is wanted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Hold or buy.
    Orders(SaleId),
    /// Confirm a hold.
    Confirm(SaleId, OrderNumber),
    /// Give a hold back.
    Release(SaleId, OrderNumber),
    /// Take tickets back into stock.
    Cancel(SaleId, OrderNumber),
    /// Extend a hold.
    Extend(SaleId, OrderNumber),
    /// Read an order.
    Order(SaleId, OrderNumber),
    /// Look a request id up, or fence it.
    Request(SaleId, RequestId),
    /// Read the counters of a sale's items.
    Availability(SaleId),
    /// Read the totals of a sale.
    Stats(SaleId),
    /// A path outside `/v1/`, with any method: the caller looks the document up. Not there: it
    /// is [`HttpFault::NoSuchPath`]. A method outside [`Methods::Read`]: 405.
    Document,
    /// `OPTIONS` of a place that takes these: answer with
    /// [`encode_options`](super::encode_options), whoever asks.
    Options(Methods),
}

/// What a place is made of, without its ids.
#[derive(Clone, Copy)]
enum Place {
    Orders,
    Order,
    Action(Action),
    Request,
    Availability,
    Stats,
}

#[derive(Clone, Copy)]
enum Action {
    Confirm,
    Release,
    Cancel,
    Extend,
}

impl Place {
    const fn methods(self) -> Methods {
        match self {
            Self::Orders | Self::Action(_) => Methods::Write,
            Self::Order | Self::Request | Self::Availability | Self::Stats => Methods::Read,
        }
    }
}

/// The place of `request`. An id that is no id is refused like a field of a body.
pub fn route(request: &Request<'_>) -> Result<Route, HttpRefusal> {
    if request.method == Method::Unknown {
        return Err(HttpFault::MethodUnknown.into());
    }
    if request.path == "*" {
        return Ok(Route::Options(Methods::Any));
    }
    let Some(path) = request.path.strip_prefix("/v1/") else { return Ok(Route::Document) };
    let segments = Segments::of(path).ok_or(HttpFault::NoSuchPath)?;
    let place = segments.place().ok_or(HttpFault::NoSuchPath)?;
    let methods = place.methods();
    if request.method == Method::Options {
        return Ok(Route::Options(methods));
    }
    if !methods.contains(request.method) {
        return Err(HttpFault::MethodNotAllowed(methods).into());
    }
    let sale = SaleId(number("sale", segments.sale)?);
    let order = || number("order", segments.id).map(OrderNumber);
    Ok(match place {
        Place::Orders => Route::Orders(sale),
        Place::Order => Route::Order(sale, order()?),
        Place::Action(Action::Confirm) => Route::Confirm(sale, order()?),
        Place::Action(Action::Release) => Route::Release(sale, order()?),
        Place::Action(Action::Cancel) => Route::Cancel(sale, order()?),
        Place::Action(Action::Extend) => Route::Extend(sale, order()?),
        Place::Request => Route::Request(sale, request_id(segments.id)?),
        Place::Availability => Route::Availability(sale),
        Place::Stats => Route::Stats(sale),
    })
}

/// The segments behind `/v1/`: `sales`, the sale, and up to three more, empty where not there.
struct Segments<'a> {
    sale: &'a str,
    collection: &'a str,
    id: &'a str,
    action: &'a str,
    count: usize,
}

impl<'a> Segments<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let mut parts = [""; 5];
        let mut count = 0;
        let mut rest = Some(path);
        while let Some(path) = rest {
            // Segments are short: a search made for long texts costs more than it finds.
            let end = path.bytes().position(|byte| byte == b'/');
            *parts.get_mut(count)? = &path[..end.unwrap_or(path.len())];
            count += 1;
            rest = end.map(|end| &path[end + 1..]);
        }
        let [sales, sale, collection, id, action] = parts;
        is(sales, "sales").then_some(Self { sale, collection, id, action, count })
    }

    fn place(&self) -> Option<Place> {
        let place = match self.count {
            3 if is(self.collection, "orders") => Place::Orders,
            3 if is(self.collection, "availability") => Place::Availability,
            3 if is(self.collection, "stats") => Place::Stats,
            4 if is(self.collection, "orders") => Place::Order,
            4 if is(self.collection, "requests") => Place::Request,
            5 if is(self.collection, "orders") => Place::Action(match self.action {
                action if is(action, "confirm") => Action::Confirm,
                action if is(action, "release") => Action::Release,
                action if is(action, "cancel") => Action::Cancel,
                action if is(action, "extend") => Action::Extend,
                _ => return None,
            }),
            _ => return None,
        };
        Some(place)
    }
}

/// Whether a segment is this word, however it is percent-encoded.
#[inline]
fn is(segment: &str, word: &str) -> bool {
    segment == word || segment.len() > word.len() && is_escaped(segment, word)
}

#[cold]
fn is_escaped(segment: &str, word: &str) -> bool {
    segment.contains('%') && unescape(segment, false, &mut Unescaped::new()) == Some(word)
}

/// An id of digits alone, without leading zeroes: each number has one path.
fn number<N: std::str::FromStr>(field: &'static str, segment: &str) -> Result<N, HttpRefusal> {
    let mut buffer = Unescaped::new();
    let text = unescape(segment, false, &mut buffer).unwrap_or_default();
    let is_canonical =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let parsed = if is_canonical { text.parse().ok() } else { None };
    parsed.ok_or_else(|| HttpRefusal::field(field, "the path needs a decimal number here"))
}

fn request_id(segment: &str) -> Result<RequestId, HttpRefusal> {
    let mut buffer = Unescaped::new();
    unescape(segment, false, &mut buffer)
        .and_then(|text| request_id::request_id(text.as_bytes()))
        .ok_or_else(|| HttpRefusal::field("request_id", RULE))
}

#[cfg(test)]
mod tests {
    use super::super::{Decoded, Decoder};
    use super::*;

    fn routed(line: &str) -> Result<Route, HttpRefusal> {
        let bytes = format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n");
        match Decoder::default().decode(bytes.as_bytes()) {
            Ok(Decoded::Complete { request, .. }) => route(&request),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_place_is_found() {
        let (sale, order) = (SaleId(7), OrderNumber(12));
        let request = crate::model::request_id_from_text(b"a/b").expect("an id");
        for (line, route) in [
            ("POST /v1/sales/7/orders", Route::Orders(sale)),
            ("POST /v1/sales/7/orders/12/confirm", Route::Confirm(sale, order)),
            ("POST /v1/sales/7/orders/12/release", Route::Release(sale, order)),
            ("POST /v1/sales/7/orders/12/cancel", Route::Cancel(sale, order)),
            ("POST /v1/sales/7/orders/12/extend", Route::Extend(sale, order)),
            ("GET /v1/sales/7/orders/12", Route::Order(sale, order)),
            ("HEAD /v1/sales/7/orders/12", Route::Order(sale, order)),
            ("GET /v1/%73ales/%37/orders/1%32?x=y", Route::Order(sale, order)),
            ("GET /v1/sales/7/requests/a%2Fb", Route::Request(sale, request)),
            ("GET /v1/sales/7/availability", Route::Availability(sale)),
            ("GET http://x/v1/sales/7/stats", Route::Stats(sale)),
            ("GET /openapi.json", Route::Document),
            ("DELETE /sales/7", Route::Document),
            ("OPTIONS *", Route::Options(Methods::Any)),
            ("OPTIONS /v1/sales/x/orders", Route::Options(Methods::Write)),
            ("OPTIONS /v1/sales/7/stats", Route::Options(Methods::Read)),
        ] {
            assert_eq!(routed(line), Ok(route), "{line}");
        }
    }

    #[test]
    fn what_is_no_place() {
        for path in [
            "",
            "sales",
            "sales/7",
            "sales/7/",
            "sales/7/order",
            "sales/7/orders/",
            "sales/7/orders/1/",
            "sales/7/orders/1/confirm/",
            "sales/7/orders/1/buy",
            "../v1/sales/7/stats",
            "sales//stats/",
            "Sales/7/stats",
        ] {
            let got = routed(&format!("GET /v1/{path}"));
            let is_missing = got == Err(HttpFault::NoSuchPath.into());
            let is_field = matches!(got, Err(HttpRefusal::Field { .. }));
            assert!(is_missing || is_field && path == "sales/7/orders/", "{path}: {got:?}");
        }
        for id in ["", "-1", "+1", "01", "1.0", "x", "18446744073709551616", "%00", "%ff", "1%20"] {
            let got = routed(&format!("GET /v1/sales/{id}/stats"));
            let Err(HttpRefusal::Field { field, .. }) = got else { panic!("{id}: {got:?}") };
            assert_eq!(field, "sale");
        }
    }

    #[test]
    fn methods_are_refused_with_what_is_allowed() {
        for (line, methods) in [
            ("GET /v1/sales/7/orders", Methods::Write),
            ("DELETE /v1/sales/7/orders/12", Methods::Read),
            ("GET /v1/sales/7/orders/12/confirm", Methods::Write),
            ("POST /v1/sales/7/availability", Methods::Read),
        ] {
            assert_eq!(routed(line), Err(HttpFault::MethodNotAllowed(methods).into()), "{line}");
        }
        assert_eq!(routed("BREW /v1/sales/7/stats"), Err(HttpFault::MethodUnknown.into()));
    }
}
