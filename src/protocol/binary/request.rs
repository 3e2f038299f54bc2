//! Requests: what a client sends.
//!
//! Decoding goes in two steps. The structure first: a payload that is cut off, goes on too long
//! or has a tag without meaning ends the connection. Then the meaning: bytes become the types
//! of the model, and what the model cannot hold (an empty basket, the operator's account) is a
//! refusal that names the field. What depends on the state of a sale is for the engine.

use std::num::NonZeroU16;

use super::frame::{
    DecodeError, ErrorCode, FLAGS_OFFSET, Frame, HEADER_BYTES, OPCODE_OFFSET, REQUEST_BYTES_MAX,
    append,
};
use super::opcode::Opcode;
use super::payload::{Reader, put_bytes, put_opt_u32, put_opt_u64, put_terms};
use crate::model::{
    AccountId, Command, DurationMs, Field, Intent, ItemId, ItemTerms, Line, Lines, LinesError,
    OrderNumber, PaymentRef, Price, Quantity, Query, Refusal, RequestId, SaleId, ShardIndex,
    Wanted, WantedLine,
};
use crate::protocol::codes::WireCode;

/// The longest API key.
pub const KEY_BYTES_MAX: usize = 128;

/// The longest name of a client.
pub const NAME_BYTES_MAX: usize = 64;

const INTENT_BYTES: usize = 40;
const WANTED_LINE_BYTES: usize = 17;
pub(super) const LINE_BYTES: usize = 8;

/// A hold of one line: header, intent, `ttl`, and one wanted line behind its count.
pub const HOLD_ONE_LINE_BYTES: usize = HEADER_BYTES + INTENT_BYTES + 5 + 1 + WANTED_LINE_BYTES;

const _: () = assert!(HOLD_ONE_LINE_BYTES <= 128);
// The most that count bytes can announce: a `BUY` of 255 lines and 255 bytes of payment.
const _: () = assert!(
    HEADER_BYTES + INTENT_BYTES + 1 + 255 * WANTED_LINE_BYTES + 1 + 255 <= REQUEST_BYTES_MAX
);

/// The first request of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The API key, at most [`KEY_BYTES_MAX`] bytes; empty is none.
    pub key: &'a [u8],
    /// What the client calls itself in the server's log, at most [`NAME_BYTES_MAX`] bytes; may
    /// be empty.
    pub name: &'a str,
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Opens the conversation.
    Hello(Hello<'a>),
    /// Asks for a change.
    Command(Command),
    /// Asks a question.
    Query(Query),
}

/// Why a frame is not a request that can be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The frame is malformed: answer `ERROR`, then close.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The frame is well formed and asks for what cannot be: answer `REFUSED` and go on.
    #[error("refused: {0:?}")]
    Refused(Refusal),
}

impl From<Field> for RequestError {
    #[cold]
    fn from(field: Field) -> Self {
        Self::Refused(Refusal::BadRequest { field })
    }
}

impl<'a> Request<'a> {
    /// The request that `frame` carries. Allocates nothing.
    #[inline]
    pub fn decode(frame: &Frame<'a>) -> Result<Self, RequestError> {
        if frame.flags != 0 {
            return Err(DecodeError::at(FLAGS_OFFSET, ErrorCode::NotZero).into());
        }
        let mut reader = Reader::new(frame);
        match Opcode::from_wire(u16::from(frame.opcode)) {
            Some(Opcode::Hello) => Ok(Self::Hello(hello(&mut reader)?)),
            Some(
                opcode @ (Opcode::Order
                | Opcode::Request
                | Opcode::Availability
                | Opcode::Stats
                | Opcode::Sales
                | Opcode::AccountOrders),
            ) => query(opcode, &mut reader).map(Self::Query),
            Some(
                opcode @ (Opcode::DefineSale
                | Opcode::DefineItem
                | Opcode::Restock
                | Opcode::OpenSale
                | Opcode::PauseSale
                | Opcode::CloseSale
                | Opcode::ArchiveSale),
            ) => Ok(Self::Command(administration(opcode, &mut reader)?)),
            Some(Opcode::Hold) => hold(&mut reader),
            Some(Opcode::Buy) => buy(&mut reader),
            Some(
                opcode @ (Opcode::Confirm
                | Opcode::Release
                | Opcode::Extend
                | Opcode::Cancel
                | Opcode::Fence),
            ) => follow_up(opcode, &mut reader),
            _ => Err(DecodeError::at(OPCODE_OFFSET, ErrorCode::UnknownOpcode).into()),
        }
    }
}

/// The intents of the buyers' commands at the start of `bytes`, as far as whole frames go.
///
/// Nothing is verified: this is a hint of what will be asked, so that a server can have its
/// tables at hand when it decodes the frames one by one.
pub fn intents(bytes: &[u8]) -> impl Iterator<Item = Intent> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        loop {
            let header = rest.first_chunk::<HEADER_BYTES>()?;
            let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
            let payload = rest.get(HEADER_BYTES..length)?;
            rest = &rest[length..];
            let is_purchase = (Opcode::Hold.wire()..=Opcode::Fence.wire())
                .contains(&u16::from(header[OPCODE_OFFSET]));
            if let (true, Some(intent)) = (is_purchase, payload.first_chunk::<INTENT_BYTES>()) {
                return Some(intent_of(intent));
            }
        }
    })
}

fn intent_of(bytes: &[u8; INTENT_BYTES]) -> Intent {
    let (sale, ids) = bytes.split_at(8);
    let (account, request) = ids.split_at(16);
    let id = |bytes: &[u8]| u128::from_le_bytes(bytes.try_into().expect("an id has 16 bytes"));
    Intent {
        sale: SaleId(u64::from_le_bytes(sale.try_into().expect("a sale has 8 bytes"))),
        account: AccountId(id(account)),
        request: RequestId(id(request)),
    }
}

fn hello<'a>(reader: &mut Reader<'a>) -> Result<Hello<'a>, DecodeError> {
    let key = reader.bytes()?;
    if key.len() > KEY_BYTES_MAX {
        return Err(reader.bad_value(key.len() + 1));
    }
    let name = reader.bytes()?;
    let wrong_name = reader.bad_value(name.len() + 1);
    reader.finish()?;
    match str::from_utf8(name) {
        Ok(name) if name.len() <= NAME_BYTES_MAX => Ok(Hello { key, name }),
        _ => Err(wrong_name),
    }
}

fn query(opcode: Opcode, reader: &mut Reader<'_>) -> Result<Query, RequestError> {
    match opcode {
        Opcode::Request => {
            let intent = reader.array()?;
            reader.finish()?;
            return Ok(Query::Request { intent: buyer(&intent)? });
        }
        Opcode::Sales | Opcode::AccountOrders => return listing(opcode, reader),
        _ => {}
    }
    let sale = SaleId(reader.u64()?);
    let query = match opcode {
        Opcode::Order => Query::Order { sale, order: OrderNumber(reader.u32()?) },
        Opcode::Availability => Query::Availability { sale },
        _ => Query::Stats { sale },
    };
    reader.finish()?;
    Ok(query)
}

/// The queries whose answers come in pages.
fn listing(opcode: Opcode, reader: &mut Reader<'_>) -> Result<Query, RequestError> {
    if opcode == Opcode::Sales {
        let shard = ShardIndex(reader.u16()?);
        let after = reader.opt_u64()?.map(SaleId);
        let limit = reader.u16()?;
        reader.finish()?;
        let limit = NonZeroU16::new(limit).ok_or(Field::Limit)?;
        return Ok(Query::Sales { shard, after, limit });
    }
    let (sale, account) = (SaleId(reader.u64()?), AccountId(reader.u128()?));
    let (after, limit) = (OrderNumber(reader.u32()?), reader.u16()?);
    reader.finish()?;
    if account == AccountId::OPERATOR {
        return Err(Field::Account.into());
    }
    let limit = NonZeroU16::new(limit).ok_or(Field::Limit)?;
    Ok(Query::AccountOrders { sale, account, after, limit })
}

fn administration(opcode: Opcode, reader: &mut Reader<'_>) -> Result<Command, DecodeError> {
    let sale = SaleId(reader.u64()?);
    let command = match opcode {
        Opcode::DefineSale => Command::DefineSale { sale, terms: reader.terms()? },
        Opcode::DefineItem => Command::DefineItem {
            sale,
            item: ItemId(reader.u32()?),
            terms: ItemTerms {
                capacity: Quantity(reader.u32()?),
                price: Price(reader.u64()?),
                account_limit: reader.opt_u32()?.map(Quantity),
            },
        },
        Opcode::Restock => Command::Restock {
            sale,
            request: RequestId(reader.u128()?),
            item: ItemId(reader.u32()?),
            by: reader.i64()?,
        },
        Opcode::OpenSale => Command::OpenSale { sale },
        Opcode::PauseSale => Command::PauseSale { sale },
        Opcode::CloseSale => Command::CloseSale { sale },
        _ => Command::ArchiveSale { sale },
    };
    reader.finish()?;
    Ok(command)
}

#[inline]
fn hold<'a>(reader: &mut Reader<'_>) -> Result<Request<'a>, RequestError> {
    let (intent, ttl) = (reader.array()?, reader.opt_u32()?);
    let lines = wanted_bytes(reader)?;
    reader.finish()?;
    Ok(Request::Command(Command::Hold {
        intent: buyer(&intent)?,
        lines: wanted(lines)?,
        ttl: ttl.map(DurationMs),
    }))
}

#[inline]
fn buy<'a>(reader: &mut Reader<'_>) -> Result<Request<'a>, RequestError> {
    let intent = reader.array()?;
    let lines = wanted_bytes(reader)?;
    let payment = reader.bytes()?;
    reader.finish()?;
    Ok(Request::Command(Command::Buy {
        intent: buyer(&intent)?,
        lines: wanted(lines)?,
        payment: payment_ref(payment)?,
    }))
}

/// The commands on an order that exists, or on a request id.
fn follow_up<'a>(opcode: Opcode, reader: &mut Reader<'_>) -> Result<Request<'a>, RequestError> {
    let intent = reader.array()?;
    let order = OrderNumber(if opcode == Opcode::Fence { 0 } else { reader.u32()? });
    let payment = if opcode == Opcode::Confirm { reader.bytes()? } else { &[] };
    let lines = if matches!(opcode, Opcode::Confirm | Opcode::Cancel) && reader.tag()? {
        let count = reader.u8()?;
        Some(reader.elements(usize::from(count))?)
    } else {
        None
    };
    reader.finish()?;
    let intent = buyer(&intent)?;
    let lines = lines.map(plain).transpose()?;
    Ok(Request::Command(match opcode {
        Opcode::Confirm => {
            Command::Confirm { intent, order, payment: payment_ref(payment)?, lines }
        }
        Opcode::Release => Command::Release { intent, order },
        Opcode::Extend => Command::Extend { intent, order },
        Opcode::Cancel => Command::Cancel { intent, order, lines },
        _ => Command::Fence { intent },
    }))
}

/// The intent of a buyer, who is never the operator.
#[inline]
fn buyer(bytes: &[u8; INTENT_BYTES]) -> Result<Intent, Field> {
    let intent = Intent {
        sale: SaleId(u64::from_le_bytes(part(bytes, 0))),
        account: AccountId(u128::from_le_bytes(part(bytes, 8))),
        request: RequestId(u128::from_le_bytes(part(bytes, 24))),
    };
    if intent.account == AccountId::OPERATOR { Err(Field::Account) } else { Ok(intent) }
}

/// The bytes of wanted lines, each with a price that is a sound option.
#[inline]
fn wanted_bytes<'a>(reader: &mut Reader<'a>) -> Result<&'a [[u8; WANTED_LINE_BYTES]], DecodeError> {
    let count = reader.u8()?;
    let lines = reader.elements::<WANTED_LINE_BYTES>(usize::from(count))?;
    for (index, line) in lines.iter().enumerate() {
        let sound = match line[8] {
            0 => part::<8, _>(line, 9) == [0; 8],
            tag => tag == 1,
        };
        if !sound {
            return Err(reader.bad_value((lines.len() - index) * WANTED_LINE_BYTES - 8));
        }
    }
    Ok(lines)
}

#[inline]
fn wanted(lines: &[[u8; WANTED_LINE_BYTES]]) -> Result<Wanted, Field> {
    let lines = lines.iter().map(|bytes| WantedLine {
        line: line(part(bytes, 0)),
        price: (bytes[8] == 1).then(|| Price(u64::from_le_bytes(part(bytes, 9)))),
    });
    Wanted::new(lines).map_err(lines_field)
}

fn plain(lines: &[[u8; LINE_BYTES]]) -> Result<Lines, Field> {
    Lines::new(lines.iter().copied().map(line)).map_err(lines_field)
}

#[inline]
pub(super) fn line(bytes: [u8; LINE_BYTES]) -> Line {
    Line {
        item: ItemId(u32::from_le_bytes(part(&bytes, 0))),
        quantity: Quantity(u32::from_le_bytes(part(&bytes, 4))),
    }
}

#[cold]
const fn lines_field(error: LinesError) -> Field {
    match error {
        LinesError::ZeroQuantity => Field::Quantity,
        LinesError::Empty | LinesError::TooMany | LinesError::RepeatedItem => Field::Lines,
    }
}

#[inline]
fn payment_ref(bytes: &[u8]) -> Result<PaymentRef, Field> {
    PaymentRef::new(bytes).ok_or(Field::Payment)
}

/// `N` bytes of an array, from `at` on.
#[inline]
pub(super) fn part<const N: usize, const M: usize>(bytes: &[u8; M], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("the part lies inside")
}

/// Appends a request.
///
/// # Panics
///
/// As [`encode_hello`].
pub fn encode_request(out: &mut Vec<u8>, correlation: u64, request: &Request<'_>) {
    match request {
        Request::Hello(hello) => encode_hello(out, correlation, hello),
        Request::Command(command) => encode_command(out, correlation, command),
        Request::Query(query) => encode_query(out, correlation, query),
    }
}

/// Appends a `HELLO`.
///
/// # Panics
///
/// Where the key or the name is too long.
pub fn encode_hello(out: &mut Vec<u8>, correlation: u64, hello: &Hello<'_>) {
    assert!(hello.key.len() <= KEY_BYTES_MAX, "a key has at most {KEY_BYTES_MAX} bytes");
    assert!(hello.name.len() <= NAME_BYTES_MAX, "a name has at most {NAME_BYTES_MAX} bytes");
    append(out, correlation, Opcode::Hello, 0, |out| {
        put_bytes(out, hello.key);
        put_bytes(out, hello.name.as_bytes());
    });
}

/// Appends a query.
pub fn encode_query(out: &mut Vec<u8>, correlation: u64, query: &Query) {
    let opcode = match query {
        Query::Order { .. } => Opcode::Order,
        Query::Request { .. } => Opcode::Request,
        Query::Availability { .. } => Opcode::Availability,
        Query::Stats { .. } => Opcode::Stats,
        Query::Sales { .. } => Opcode::Sales,
        Query::AccountOrders { .. } => Opcode::AccountOrders,
    };
    append(out, correlation, opcode, 0, |out| match query {
        Query::Order { sale, order } => {
            out.extend_from_slice(&sale.0.to_le_bytes());
            out.extend_from_slice(&order.0.to_le_bytes());
        }
        Query::Request { intent } => put_intent(out, intent),
        Query::Availability { sale } | Query::Stats { sale } => {
            out.extend_from_slice(&sale.0.to_le_bytes());
        }
        Query::Sales { shard, after, limit } => {
            out.extend_from_slice(&shard.0.to_le_bytes());
            put_opt_u64(out, after.map(|sale| sale.0));
            out.extend_from_slice(&limit.get().to_le_bytes());
        }
        Query::AccountOrders { sale, account, after, limit } => {
            out.extend_from_slice(&sale.0.to_le_bytes());
            out.extend_from_slice(&account.0.to_le_bytes());
            out.extend_from_slice(&after.0.to_le_bytes());
            out.extend_from_slice(&limit.get().to_le_bytes());
        }
    });
}

/// Appends a command.
pub fn encode_command(out: &mut Vec<u8>, correlation: u64, command: &Command) {
    append(out, correlation, opcode_of(command), 0, |out| match command {
        Command::Hold { intent, lines, ttl } => {
            put_intent(out, intent);
            put_opt_u32(out, ttl.map(|ttl| ttl.0));
            put_wanted(out, lines);
        }
        Command::Buy { intent, lines, payment } => {
            put_intent(out, intent);
            put_wanted(out, lines);
            put_bytes(out, payment.as_bytes());
        }
        Command::Confirm { intent, order, payment, lines } => {
            put_intent(out, intent);
            out.extend_from_slice(&order.0.to_le_bytes());
            put_bytes(out, payment.as_bytes());
            put_lines(out, lines.as_ref());
        }
        Command::Release { intent, order } | Command::Extend { intent, order } => {
            put_intent(out, intent);
            out.extend_from_slice(&order.0.to_le_bytes());
        }
        Command::Cancel { intent, order, lines } => {
            put_intent(out, intent);
            out.extend_from_slice(&order.0.to_le_bytes());
            put_lines(out, lines.as_ref());
        }
        Command::Fence { intent } => put_intent(out, intent),
        Command::DefineSale { sale, terms } => {
            out.extend_from_slice(&sale.0.to_le_bytes());
            put_terms(out, terms);
        }
        Command::DefineItem { sale, item, terms } => {
            out.extend_from_slice(&sale.0.to_le_bytes());
            out.extend_from_slice(&item.0.to_le_bytes());
            out.extend_from_slice(&terms.capacity.0.to_le_bytes());
            out.extend_from_slice(&terms.price.0.to_le_bytes());
            put_opt_u32(out, terms.account_limit.map(|limit| limit.0));
        }
        Command::Restock { sale, request, item, by } => {
            out.extend_from_slice(&sale.0.to_le_bytes());
            out.extend_from_slice(&request.0.to_le_bytes());
            out.extend_from_slice(&item.0.to_le_bytes());
            out.extend_from_slice(&by.to_le_bytes());
        }
        Command::OpenSale { sale }
        | Command::PauseSale { sale }
        | Command::CloseSale { sale }
        | Command::ArchiveSale { sale } => {
            out.extend_from_slice(&sale.0.to_le_bytes());
        }
    });
}

const fn opcode_of(command: &Command) -> Opcode {
    match command {
        Command::DefineSale { .. } => Opcode::DefineSale,
        Command::DefineItem { .. } => Opcode::DefineItem,
        Command::Restock { .. } => Opcode::Restock,
        Command::OpenSale { .. } => Opcode::OpenSale,
        Command::PauseSale { .. } => Opcode::PauseSale,
        Command::CloseSale { .. } => Opcode::CloseSale,
        Command::ArchiveSale { .. } => Opcode::ArchiveSale,
        Command::Hold { .. } => Opcode::Hold,
        Command::Buy { .. } => Opcode::Buy,
        Command::Confirm { .. } => Opcode::Confirm,
        Command::Release { .. } => Opcode::Release,
        Command::Extend { .. } => Opcode::Extend,
        Command::Cancel { .. } => Opcode::Cancel,
        Command::Fence { .. } => Opcode::Fence,
    }
}

#[inline]
fn put_intent(out: &mut Vec<u8>, intent: &Intent) {
    let mut bytes = [0; INTENT_BYTES];
    bytes[..8].copy_from_slice(&intent.sale.0.to_le_bytes());
    bytes[8..24].copy_from_slice(&intent.account.0.to_le_bytes());
    bytes[24..].copy_from_slice(&intent.request.0.to_le_bytes());
    out.extend_from_slice(&bytes);
}

#[inline]
fn put_wanted(out: &mut Vec<u8>, wanted: &Wanted) {
    out.push(wanted.as_slice().len() as u8);
    for wanted in wanted.as_slice() {
        put_line(out, wanted.line);
        put_opt_u64(out, wanted.price.map(|price| price.0));
    }
}

fn put_lines(out: &mut Vec<u8>, lines: Option<&Lines>) {
    out.push(u8::from(lines.is_some()));
    if let Some(lines) = lines {
        out.push(lines.as_slice().len() as u8);
        lines.as_slice().iter().for_each(|&line| put_line(out, line));
    }
}

#[inline]
pub(super) fn put_line(out: &mut Vec<u8>, line: Line) {
    out.extend_from_slice(&line.item.0.to_le_bytes());
    out.extend_from_slice(&line.quantity.0.to_le_bytes());
}
