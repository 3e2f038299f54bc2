//! The digest of what a request asks for, which tells a retry from another intent.
//!
//! XXH3-64, without a seed, over a canonical encoding of the command's kind and body, without its
//! scope. The digests lie in the log, so neither the encoding nor the function ever changes; a
//! test holds golden values. Nothing is secret here: whoever makes two bodies collide gets the
//! answer of the first for the second, under a request id of their own.
//!
//! ```text
//! kind 1 | body                                        integers are little-endian
//! 1 hold       lines, ttl?                             wanted lines: count 1, then each
//! 2 buy        lines, payment                            item 4, quantity 4, price? (8)
//! 3 confirm    order 4, payment, lines?                lines: count 1, then each
//! 4 release    order 4                                   item 4, quantity 4
//! 5 extend     order 4                                 payment: length 1, bytes
//! 6 cancel     order 4, lines?                         `?`: 0, or 1 and the value
//! 7 restock    item 4, by 8
//! ```
//!
//! Lines count in the order in which they were sent.

use arrayvec::ArrayVec;
use xxhash_rust::xxh3::xxh3_64;

use crate::model::lines::{LINES_MAX, PAYMENT_REF_BYTES_MAX};
use crate::model::{BodyDigest, Command, Line, Lines, PaymentRef, Wanted};

const WANTED_BYTES_MAX: usize = 1 + LINES_MAX * (4 + 4 + 9);
const LINES_BYTES_MAX: usize = 2 + LINES_MAX * (4 + 4);
const PAYMENT_BYTES_MAX: usize = 1 + PAYMENT_REF_BYTES_MAX;
const BODY_BYTES_MAX: usize = 1 + 5 + WANTED_BYTES_MAX + PAYMENT_BYTES_MAX;
const _: () = assert!(1 + 4 + PAYMENT_BYTES_MAX + LINES_BYTES_MAX <= BODY_BYTES_MAX);

/// The digest of a command that has a request id; zero for a fence, whose body is empty.
///
/// # Panics
///
/// Where the command has no request id: administration is idempotent by its content.
pub(super) fn digest(command: &Command) -> BodyDigest {
    let mut body = Body(ArrayVec::new());
    match command {
        Command::Hold { lines, ttl, .. } => {
            body.byte(1);
            body.wanted(lines);
            body.optional(ttl.as_ref(), |body, ttl| body.bytes(&ttl.0.to_le_bytes()));
        }
        Command::Buy { lines, payment, .. } => {
            body.byte(2);
            body.wanted(lines);
            body.payment(payment);
        }
        Command::Confirm { order, payment, lines, .. } => {
            body.byte(3);
            body.bytes(&order.0.to_le_bytes());
            body.payment(payment);
            body.optional(lines.as_ref(), Body::lines);
        }
        Command::Release { order, .. } => {
            body.byte(4);
            body.bytes(&order.0.to_le_bytes());
        }
        Command::Extend { order, .. } => {
            body.byte(5);
            body.bytes(&order.0.to_le_bytes());
        }
        Command::Cancel { order, lines, .. } => {
            body.byte(6);
            body.bytes(&order.0.to_le_bytes());
            body.optional(lines.as_ref(), Body::lines);
        }
        Command::Restock { item, by, .. } => {
            body.byte(7);
            body.bytes(&item.0.to_le_bytes());
            body.bytes(&by.to_le_bytes());
        }
        Command::Fence { .. } => return BodyDigest(0),
        Command::DefineSale { .. }
        | Command::DefineItem { .. }
        | Command::OpenSale { .. }
        | Command::PauseSale { .. }
        | Command::CloseSale { .. }
        | Command::ArchiveSale { .. } => unreachable!("the command has no request id"),
    }
    BodyDigest(xxh3_64(&body.0))
}

/// A canonical encoding in the making.
struct Body(ArrayVec<u8, BODY_BYTES_MAX>);

impl Body {
    #[inline]
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.try_extend_from_slice(bytes).expect("the longest body fits");
    }

    #[inline]
    fn optional<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    #[inline]
    fn line(&mut self, line: Line) {
        // Item and quantity, one after the other.
        let both = u64::from(line.item.0) | u64::from(line.quantity.0) << 32;
        self.bytes(&both.to_le_bytes());
    }

    fn lines(&mut self, lines: &Lines) {
        self.byte(lines.as_slice().len() as u8);
        for &line in lines.as_slice() {
            self.line(line);
        }
    }

    #[inline]
    fn wanted(&mut self, lines: &Wanted) {
        self.byte(lines.as_slice().len() as u8);
        for wanted in lines.as_slice() {
            self.line(wanted.line);
            self.optional(wanted.price.as_ref(), |body, price| body.bytes(&price.0.to_le_bytes()));
        }
    }

    #[inline]
    fn payment(&mut self, payment: &PaymentRef) {
        self.byte(payment.as_bytes().len() as u8);
        self.bytes(payment.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        AccountId, DurationMs, Intent, ItemId, OrderNumber, Price, Quantity, RequestId, SaleId,
        WantedLine,
    };

    fn intent() -> Intent {
        Intent { sale: SaleId(1), account: AccountId(2), request: RequestId(3) }
    }

    fn line(item: u32, quantity: u32) -> Line {
        Line { item: ItemId(item), quantity: Quantity(quantity) }
    }

    fn wanted(price: Option<Price>) -> Wanted {
        let lines =
            [WantedLine { line: line(7, 2), price }, WantedLine { line: line(8, 1), price }];
        Wanted::new(lines).expect("valid lines")
    }

    /// One command of each kind, and of each shape of its optional parts.
    fn commands() -> Vec<Command> {
        let (intent, order) = (intent(), OrderNumber(9));
        let payment = PaymentRef::new(b"pay-1").expect("a short reference");
        let lines = Some(Lines::new([line(7, 1)]).expect("valid lines"));
        let hold = |price, ttl| Command::Hold { intent, lines: wanted(price), ttl };
        vec![
            hold(None, None),
            hold(Some(Price(500)), None),
            hold(None, Some(DurationMs(5_000))),
            Command::Buy { intent, lines: wanted(None), payment: PaymentRef::default() },
            Command::Buy { intent, lines: wanted(Some(Price(500))), payment: payment.clone() },
            Command::Confirm { intent, order, payment: payment.clone(), lines: None },
            Command::Confirm { intent, order, payment, lines: lines.clone() },
            Command::Release { intent, order },
            Command::Extend { intent, order },
            Command::Cancel { intent, order, lines: None },
            Command::Cancel { intent, order, lines },
            Command::Restock { sale: SaleId(1), request: RequestId(3), item: ItemId(7), by: -4 },
        ]
    }

    /// These values are in logs: they never change.
    #[test]
    fn golden_digests() {
        let digests: Vec<u64> = commands().iter().map(|command| digest(command).0).collect();
        let golden: [u64; 12] = [
            0xa735_a914_4724_20b4,
            0xd4fc_8e89_d323_6022,
            0x8219_cdc6_276a_ac28,
            0x862c_bbc0_37fd_7374,
            0x2ff2_ebac_f3dd_1142,
            0xbe55_e29e_8b71_ef91,
            0xbc85_afbc_5521_5a82,
            0x7b45_86cc_3f99_7ba1,
            0x10a5_74ea_d48e_9e1e,
            0xfa4d_655e_2fca_c409,
            0x0576_5d49_73f8_6883,
            0x871a_5f34_1cdd_d1a1,
        ];
        assert_eq!(digests, golden);
    }

    #[test]
    fn every_kind_and_shape_has_its_own_digest() {
        let mut digests: Vec<u64> = commands().iter().map(|command| digest(command).0).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), commands().len());
    }

    #[test]
    fn the_longest_bodies_fit() {
        let price = Some(Price(u64::MAX));
        let many = |item| WantedLine { line: line(item, u32::MAX), price };
        let lines = Wanted::new((0..16).map(many)).expect("16 lines fit");
        let payment = PaymentRef::new(&[0xff; PAYMENT_REF_BYTES_MAX]).expect("a long reference");
        let chosen = Some(lines.lines());
        let confirm = Command::Confirm {
            intent: intent(),
            order: OrderNumber(u32::MAX),
            payment: payment.clone(),
            lines: chosen,
        };
        let buy = Command::Buy { intent: intent(), lines, payment };
        assert_ne!(digest(&buy), digest(&confirm));
    }

    #[test]
    fn the_scope_is_no_part_of_the_body() {
        let release = |sale| {
            let intent = Intent { sale: SaleId(sale), ..intent() };
            digest(&Command::Release { intent, order: OrderNumber(1) })
        };
        assert_eq!(release(1), release(2));
    }
}
