//! A record as `wal dump` shows it: one line of text, or one of JSON. The keys are a promise.

use std::fmt;

use serde::Serialize;

use super::super::moment::Moment;
use crate::model::record::{Origin, RecordLines};
use crate::model::{AccountId, ItemTerms, PaymentRef, Record, RequestId, SaleTerms, UuidText};
use crate::wal::Entry;

/// One record, with where it lies. Absent is what the record does not have.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    shard: u16,
    lsn: u64,
    time_ms: Moment,
    segment: u64,
    offset: u64,
    /// Behind damage: readable, but no part of the log that a server would accept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    beyond: bool,
    record: &'static str,
    sale: u64,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Default, Serialize)]
#[serde(default)]
struct Rest {
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<Vec<ShownLine>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at_ms: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    opens_at_ms: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closes_at_ms: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_ttl_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ShownLine {
    item: u32,
    quantity: u32,
}

impl Shown {
    pub(super) fn new(shard: u16, entry: &Entry<'_>, beyond: bool) -> Self {
        let (record, rest) = rest(entry.record);
        Self {
            shard,
            lsn: entry.lsn.0,
            time_ms: Moment(entry.time),
            segment: entry.position.segment.0,
            offset: entry.position.offset,
            beyond,
            record,
            sale: entry.record.sale().0,
            rest,
        }
    }
}

fn rest(record: &Record) -> (&'static str, Rest) {
    match record {
        Record::SaleDefined(defined) => ("sale_defined", Rest::of_sale(defined.terms)),
        Record::ItemDefined(defined) => {
            let rest = Rest::of_item(defined.terms);
            ("item_defined", Rest { item: Some(defined.item.0), ..rest })
        }
        Record::Restocked(restocked) => {
            let item = Some(restocked.item.0);
            let rest = Rest { item, by: Some(restocked.by), ..Rest::of(&restocked.origin) };
            ("restocked", rest)
        }
        Record::SaleStateSet(set) => {
            let state = format!("{:?}", set.state).to_lowercase();
            ("sale_state_set", Rest { state: Some(state), ..Rest::default() })
        }
        Record::Held(held) => {
            let rest = Rest::of(&held.origin).order(held.order.0).lines(&held.lines);
            ("held", Rest { expires_at_ms: Some(Moment(held.expires_at)), ..rest })
        }
        Record::Bought(bought) => {
            let rest = Rest::of(&bought.origin).order(bought.order.0).lines(&bought.lines);
            ("bought", rest.payment(&bought.payment))
        }
        Record::Confirmed(confirmed) => {
            let rest = Rest::of(&confirmed.origin).order(confirmed.order.0);
            ("confirmed", rest.lines(&confirmed.lines).payment(&confirmed.payment))
        }
        Record::Released(released) => {
            ("released", Rest::of(&released.origin).order(released.order.0))
        }
        Record::Extended(extended) => {
            let expires_at_ms = Some(Moment(extended.expires_at));
            let rest = Rest::of(&extended.origin).order(extended.order.0);
            ("extended", Rest { expires_at_ms, ..rest })
        }
        Record::Cancelled(cancelled) => {
            let rest = Rest::of(&cancelled.origin).order(cancelled.order.0);
            ("cancelled", rest.lines(&cancelled.lines))
        }
        Record::Expired(expired) => ("expired", Rest::default().order(expired.order.0)),
        Record::Fenced(fenced) => ("fenced", Rest::of_ids(fenced.account, fenced.request)),
        Record::SaleArchived(_) => ("sale_archived", Rest::default()),
    }
}

impl Rest {
    fn of(origin: &Origin) -> Self {
        Self::of_ids(origin.account, origin.request)
    }

    fn of_ids(account: AccountId, request: RequestId) -> Self {
        Self {
            account: Some(UuidText::from(account).to_string()),
            request: Some(UuidText::new(request.0).to_string()),
            ..Self::default()
        }
    }

    fn of_sale(terms: SaleTerms) -> Self {
        Self {
            opens_at_ms: terms.opens_at.map(Moment),
            closes_at_ms: terms.closes_at.map(Moment),
            hold_ttl_ms: Some(terms.hold_ttl.0),
            account_limit: terms.account_limit.map(|limit| limit.0),
            ..Self::default()
        }
    }

    fn of_item(terms: ItemTerms) -> Self {
        Self {
            capacity: Some(terms.capacity.0),
            price: Some(terms.price.0),
            account_limit: terms.account_limit.map(|limit| limit.0),
            ..Self::default()
        }
    }

    fn order(self, order: u32) -> Self {
        Self { order: Some(order), ..self }
    }

    /// Lines that are not there mean all that the order has.
    fn lines(self, lines: &RecordLines) -> Self {
        let shown =
            |line: &crate::model::Line| ShownLine { item: line.item.0, quantity: line.quantity.0 };
        let lines = (!lines.is_empty()).then(|| lines.iter().map(shown).collect());
        Self { lines, ..self }
    }

    fn payment(self, payment: &PaymentRef) -> Self {
        let bytes = payment.as_bytes();
        let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control));
        let hex = || bytes.iter().fold("0x".to_owned(), |hex, byte| format!("{hex}{byte:02x}"));
        let payment_ref = (!bytes.is_empty()).then(|| text.map_or_else(hex, str::to_owned));
        Self { payment_ref, ..self }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, lsn, time_ms, record, sale, rest, .. } = self;
        if self.beyond {
            write!(f, "beyond ")?;
        }
        write!(f, "shard {shard} lsn {lsn} {time_ms} {record} sale {sale}")?;
        show(f, "order", rest.order.as_ref())?;
        show(f, "item", rest.item.as_ref())?;
        if let Some(lines) = &rest.lines {
            let lines: Vec<String> =
                lines.iter().map(|line| format!("{}x{}", line.item, line.quantity)).collect();
            write!(f, " lines {}", lines.join(","))?;
        }
        show(f, "by", rest.by.as_ref())?;
        show(f, "state", rest.state.as_ref())?;
        show(f, "capacity", rest.capacity.as_ref())?;
        show(f, "price", rest.price.as_ref())?;
        show(f, "opens_at", rest.opens_at_ms.as_ref())?;
        show(f, "closes_at", rest.closes_at_ms.as_ref())?;
        show(f, "hold_ttl_ms", rest.hold_ttl_ms.as_ref())?;
        show(f, "account_limit", rest.account_limit.as_ref())?;
        show(f, "expires_at", rest.expires_at_ms.as_ref())?;
        show(f, "payment_ref", rest.payment_ref.as_ref())?;
        show(f, "account", rest.account.as_ref())?;
        show(f, "request", rest.request.as_ref())
    }
}

fn show(f: &mut fmt::Formatter<'_>, key: &str, value: Option<&impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " {key} {value}"))
}
