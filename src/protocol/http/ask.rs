//! From a routed request to what the engine is asked.

use super::body::{
    AccountBody, Action, CancelBody, ConfirmBody, Few, LineBody, OrdersBody, Text, read,
};
use super::fault::HttpFault;
use super::order_body::read_plain;
use super::problem::HttpRefusal;
use super::reply::Reply;
use super::request::{Method, Request};
use super::request_id::{RULE, request_id};
use super::route::Route;
use super::target::{Unescaped, unescape};
use crate::model::lines::{PAYMENT_REF_BYTES_MAX, Unchecked};
use crate::model::{
    AccountId, Command, DurationMs, Intent, ItemId, Line, Lines, LinesError, PaymentRef, Quantity,
    Query, Refusal, RequestId, SaleId, Scopes, Wanted, WantedLine, account_from_text,
};

/// Who asks, as far as the caller of this layer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A trusted back end with an API key: it names the account in each request.
    Key(Scopes),
    /// A buyer with a token of their own: acts for this account alone, sees its orders alone,
    /// and not the totals of a sale.
    Buyer(AccountId),
    /// Anyone on loopback, where no key is configured.
    Open,
}

/// What the engine is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To change something.
    Command(Command),
    /// To read something.
    Query(Query),
}

/// What `request` at `route` means when `caller` says it. Fills in what `reply` has to know of
/// it, also where it is refused.
///
/// # Panics
///
/// For [`Route::Document`] and [`Route::Options`], which ask the engine nothing.
pub fn to_ask(
    route: Route,
    request: &Request<'_>,
    caller: Caller,
    reply: &mut Reply,
) -> Result<Ask, HttpRefusal> {
    if let Caller::Buyer(account) = caller {
        reply.viewer = Some(account);
    }
    if let Route::Request(sale, id) = route {
        reply.sale = sale;
        return look_up(sale, id, request, caller);
    }
    let parameter = request.query.and_then(|query| pairs(query).next());
    if let Some((name, _)) = parameter {
        return Err(unknown_parameter(name));
    }
    let (sale, query) = match route {
        Route::Order(sale, order) => (sale, Some(Query::Order { sale, order })),
        Route::Availability(sale) => (sale, Some(Query::Availability { sale })),
        Route::Stats(sale) => (sale, Some(Query::Stats { sale })),
        Route::Orders(sale)
        | Route::Confirm(sale, _)
        | Route::Release(sale, _)
        | Route::Cancel(sale, _)
        | Route::Extend(sale, _) => (sale, None),
        Route::Document | Route::Options(_) | Route::Request(..) => {
            unreachable!("{route:?} asks the engine nothing here")
        }
    };
    reply.sale = sale;
    match query {
        Some(Query::Stats { .. }) if matches!(caller, Caller::Buyer(_)) => {
            Err(Refusal::Forbidden.into())
        }
        Some(query) => Ok(Ask::Query(query)),
        None => {
            reply.creates = matches!(route, Route::Orders(_));
            // Made where it is returned from, and not taken apart again: it is large to move.
            let ask = command(sale, route, request, caller);
            if let Ok(Ask::Command(command)) = &ask {
                permit(command, caller)?;
            }
            ask
        }
    }
}

/// Looks a request id up, or with `fence=true` settles it for ever.
fn look_up(
    sale: SaleId,
    id: RequestId,
    request: &Request<'_>,
    caller: Caller,
) -> Result<Ask, HttpRefusal> {
    let (mut account, mut fence) = (None, None);
    for (name, value) in pairs(request.query.unwrap_or_default()) {
        let place = match name {
            "account" => &mut account,
            "fence" => &mut fence,
            _ => return Err(unknown_parameter(name)),
        };
        if place.replace(value).is_some() {
            return Err(unknown_parameter(name));
        }
    }
    let is_fence = match fence {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(HttpRefusal::field("fence", "it is true or false")),
    };
    let mut buffer = Unescaped::new();
    let account = match account.map(|text| unescape(text, true, &mut buffer)) {
        Some(None) => return Err(HttpRefusal::field("account", "it is not UTF-8")),
        Some(text) => text,
        None => None,
    };
    let intent = Intent { sale, account: resolve(caller, account)?, request: id };
    if !is_fence {
        return Ok(Ask::Query(Query::Request { intent }));
    }
    if request.method == Method::Head {
        return Err(HttpRefusal::field("fence", "a HEAD request changes nothing: use GET"));
    }
    let command = Command::Fence { intent };
    permit(&command, caller)?;
    Ok(Ask::Command(command))
}

/// The parameters of a query. An empty one, as at the end of `a=b&`, is none.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
}

#[cold]
fn unknown_parameter(name: &str) -> HttpRefusal {
    let shown = if name.is_empty() { "query" } else { &name[..name.floor_char_boundary(64)] };
    let shown = shown.to_owned();
    HttpRefusal::Field {
        field: shown.into(),
        detail: "this parameter is unknown here, or came twice".into(),
    }
}

fn permit(command: &Command, caller: Caller) -> Result<(), HttpRefusal> {
    match caller {
        Caller::Key(scopes) if !scopes.allow(command) => Err(Refusal::Forbidden.into()),
        Caller::Key(_) | Caller::Buyer(_) | Caller::Open => Ok(()),
    }
}

fn command(
    sale: SaleId,
    route: Route,
    request: &Request<'_>,
    caller: Caller,
) -> Result<Ask, HttpRefusal> {
    let id = idempotency_key(request)?;
    let body = json(request, matches!(route, Route::Orders(_)))?;
    let intent = |account: Option<Text<'_>>| -> Result<Intent, HttpRefusal> {
        let named = account.as_ref().map(|text| &*text.0);
        Ok(Intent { sale, account: resolve(caller, named)?, request: id })
    };
    Ok(Ask::Command(match route {
        Route::Confirm(_, order) => {
            let body: ConfirmBody<'_> = read(body)?;
            Command::Confirm {
                intent: intent(body.account)?,
                order,
                payment: payment(body.payment_ref)?,
                lines: body.lines.map(|lines| plain(&lines)).transpose()?,
            }
        }
        Route::Cancel(_, order) => {
            let body: CancelBody<'_> = read(body)?;
            let lines = body.lines.map(|lines| plain(&lines)).transpose()?;
            Command::Cancel { intent: intent(body.account)?, order, lines }
        }
        Route::Release(_, order) => {
            let body: AccountBody<'_> = read(body)?;
            Command::Release { intent: intent(body.account)?, order }
        }
        Route::Extend(_, order) => {
            let body: AccountBody<'_> = read(body)?;
            Command::Extend { intent: intent(body.account)?, order }
        }
        _ => {
            let body = match read_plain(body) {
                Some(body) => body,
                None => read(body)?,
            };
            let OrdersBody { account, action, lines, ttl_ms, payment_ref } = body;
            return order(intent(account)?, action, lines, ttl_ms, payment_ref);
        }
    }))
}

/// A hold or a purchase.
fn order(
    intent: Intent,
    action: Action,
    lines: Unchecked<WantedLine>,
    ttl_ms: Option<u32>,
    payment_ref: Option<Text<'_>>,
) -> Result<Ask, HttpRefusal> {
    let lines = wanted(lines)?;
    Ok(Ask::Command(match action {
        Action::Hold if payment_ref.is_some() => {
            return Err(HttpRefusal::field("payment_ref", "a hold is paid when it is confirmed"));
        }
        Action::Buy if ttl_ms.is_some() => {
            return Err(HttpRefusal::field("ttl_ms", "a purchase does not expire"));
        }
        Action::Hold => Command::Hold { intent, lines, ttl: ttl_ms.map(DurationMs) },
        Action::Buy => Command::Buy { intent, lines, payment: payment(payment_ref)? },
    }))
}

fn idempotency_key(request: &Request<'_>) -> Result<RequestId, HttpRefusal> {
    const FIELD: &str = "Idempotency-Key";
    let key = request.idempotency_key.ok_or_else(|| {
        HttpRefusal::field(FIELD, "this header is missing: one id for each intent, kept on retries")
    })?;
    request_id(key).ok_or_else(|| HttpRefusal::field(FIELD, RULE))
}

/// The JSON body of a request that has to have one, for other places that speak as these do.
pub fn json_body<'a, T: serde::Deserialize<'a>>(request: &Request<'a>) -> Result<T, HttpRefusal> {
    read(json(request, true)?)
}

/// The body as JSON. One that may be left out is then an empty object.
fn json<'a>(request: &Request<'a>, is_required: bool) -> Result<&'a [u8], HttpRefusal> {
    if request.body.is_empty() && !is_required {
        return Ok(b"{}");
    }
    if !request.has_length {
        return Err(HttpFault::LengthRequired.into());
    }
    let is_plain =
        request.content_encoding.is_none_or(|coding| coding.eq_ignore_ascii_case(b"identity"));
    if !is_plain || !request.content_type.is_some_and(is_json) {
        return Err(HttpFault::MediaType.into());
    }
    Ok(request.body)
}

/// Whether a media type is JSON in the one encoding that JSON has.
fn is_json(media_type: &[u8]) -> bool {
    let mut parts = media_type.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let is_json = |name: &[u8]| name.eq_ignore_ascii_case(b"application/json");
    parts.next().is_some_and(is_json)
        && parts.all(|parameter| {
            parameter.is_empty()
                || parameter.eq_ignore_ascii_case(b"charset=utf-8")
                || parameter.eq_ignore_ascii_case(b"charset=\"utf-8\"")
        })
}

/// The account that a request is for: a buyer's own, or the one that a back end names.
fn resolve(caller: Caller, named: Option<&str>) -> Result<AccountId, HttpRefusal> {
    let named = named.map(|text| {
        account_from_text(text.as_bytes()).ok_or_else(|| {
            HttpRefusal::field("account", "an account is a text of 1 to 64 bytes, not all zero")
        })
    });
    match (caller, named.transpose()?) {
        (Caller::Buyer(own), None) => Ok(own),
        (Caller::Buyer(own), Some(named)) if own == named => Ok(own),
        (Caller::Buyer(_), Some(_)) => Err(Refusal::Forbidden.into()),
        (Caller::Key(_) | Caller::Open, Some(named)) => Ok(named),
        (Caller::Key(_) | Caller::Open, None) => {
            Err(HttpRefusal::field("account", "a back end has to name the buyer's account"))
        }
    }
}

fn payment(reference: Option<Text<'_>>) -> Result<PaymentRef, HttpRefusal> {
    let Some(Text(text)) = reference else { return Ok(PaymentRef::default()) };
    PaymentRef::new(text.as_bytes()).ok_or_else(|| {
        let detail = format!("at most {PAYMENT_REF_BYTES_MAX} bytes are possible");
        HttpRefusal::Field { field: "payment_ref".into(), detail: detail.into() }
    })
}

fn wanted(lines: Unchecked<WantedLine>) -> Result<Wanted, HttpRefusal> {
    Wanted::from_unchecked(lines)
        .map_err(|(error, lines)| wrong_line(error, lines.iter().map(|wanted| wanted.line)))
}

fn plain(lines: &Few<LineBody>) -> Result<Lines, HttpRefusal> {
    let lines = lines.0.iter().map(|body| line(body.item, body.quantity));
    Lines::new(lines.clone()).map_err(|error| wrong_line(error, lines))
}

const fn line(item: u32, quantity: u32) -> Line {
    Line { item: ItemId(item), quantity: Quantity(quantity) }
}

/// Names the line that is wrong.
#[cold]
fn wrong_line(error: LinesError, lines: impl Iterator<Item = Line>) -> HttpRefusal {
    let lines: Vec<Line> = lines.collect();
    let is_repeated =
        |&index: &usize| lines[..index].iter().any(|earlier| earlier.item == lines[index].item);
    let mut indices = 0..lines.len();
    let field = match error {
        LinesError::Empty | LinesError::TooMany => None,
        LinesError::ZeroQuantity => indices
            .find(|&index| lines[index].quantity == Quantity(0))
            .map(|index| format!("lines[{index}].quantity")),
        LinesError::RepeatedItem => {
            indices.find(is_repeated).map(|index| format!("lines[{index}].item"))
        }
    };
    HttpRefusal::Field {
        field: field.map_or("lines".into(), Into::into),
        detail: error.to_string().into(),
    }
}
