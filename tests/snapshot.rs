//! The snapshot format: golden bytes, and that nothing but what was written is ever read.

use std::fmt::Write;
use std::num::NonZeroU16;

use boxoffice::model::snapshot::{
    AccountRow, AccountsPart, Effect, ItemRow, LastTotals, OrderRow, OrdersPart, Part, RequestRow,
    RequestsPart, SalePart, TalliesPart, TallyOf, TallyRow,
};
use boxoffice::model::{
    AccountId, BodyDigest, ItemId, ItemTerms, Line, Lsn, OrderNumber, OrderState, Price, Quantity,
    RequestId, SaleId, SaleState, SaleTerms, ShardIndex, TimeMs,
};
use boxoffice::wal::snapshot::{
    SnapshotError, SnapshotHeader, SnapshotReader, SnapshotTotals, SnapshotWriter,
    read_snapshot_ahead,
};
use boxoffice::wal::{Identity, LogId, Position, SegmentIndex};

/// The bytes of [`parts`] behind [`HEADER`]: what this version writes, and every later one reads.
const GOLDEN: &str = include_str!("data/wal/snapshot.hex");

const HEADER: SnapshotHeader = SnapshotHeader {
    identity: Identity {
        log: LogId(0x0123_4567_89ab_cdef),
        shard: ShardIndex(1),
        shards: NonZeroU16::new(2).unwrap(),
    },
    last_lsn: Lsn(7),
    position: Position { segment: SegmentIndex(3), offset: 4096 },
    previous_crc: 0xfeed_beef,
    last_time: TimeMs(1_800_000_000_000),
};

const SALE: SaleId = SaleId(11);

fn item(id: u32, account_limit: Option<u32>) -> ItemRow {
    let account_limit = account_limit.map(Quantity);
    let terms = ItemTerms { capacity: Quantity(9), price: Price(500), account_limit };
    ItemRow {
        item: ItemId(id),
        terms,
        available: Quantity(4),
        held: Quantity(3),
        sold: Quantity(2),
    }
}

fn order(request: u128, state: OrderState, is_bought: bool, is_extended: bool) -> OrderRow {
    let (digest, lines) = (BodyDigest(0xd0 + request as u64), 1);
    let request = RequestId(request);
    OrderRow { request, digest, account: 0, state, is_bought, is_extended, lines }
}

fn request(request: u128, effect: Effect) -> RequestRow {
    RequestRow { request: RequestId(request), digest: BodyDigest(request as u64), effect }
}

/// One part of each kind, with each kind of row, and an archived sale.
fn parts() -> Vec<Part> {
    let sale = SalePart {
        sale: SALE,
        terms: SaleTerms { account_limit: Some(Quantity(8)), ..SaleTerms::default() },
        state: SaleState::Open,
        items: vec![item(1, None), item(5, Some(4))],
        accounts: 2,
        tallies: 2,
        orders: 4,
        requests: 6,
        last: None,
    };
    let archived = SalePart {
        sale: SaleId(12),
        terms: SaleTerms::default(),
        state: SaleState::Archived,
        items: vec![item(1, None)],
        accounts: 0,
        tallies: 0,
        orders: 0,
        requests: 0,
        last: Some(LastTotals {
            accounts: 5,
            orders: 6,
            confirmed: 3,
            released: 2,
            expired: 1,
            cancelled: 0,
        }),
    };
    let account =
        |account, units| AccountRow { account: AccountId(account), units: Quantity(units) };
    let line = |item, quantity| Line { item: ItemId(item), quantity: Quantity(quantity) };
    let several = OrderRow { lines: 2, account: 1, ..order(2, OrderState::Confirmed, true, false) };
    vec![
        Part::Sale(sale),
        Part::Accounts(AccountsPart { sale: SALE, rows: vec![account(1 << 70, 5), account(2, 0)] }),
        Part::Tallies(TalliesPart {
            sale: SALE,
            rows: vec![
                TallyRow { account: 0, of: TallyOf::Item(ItemId(5)), count: 2 },
                TallyRow { account: 1, of: TallyOf::Fences, count: 1 },
            ],
        }),
        Part::Orders(OrdersPart {
            sale: SALE,
            rows: vec![
                order(1, OrderState::Held, false, true),
                several,
                order(3, OrderState::Expired, false, false),
                order(4, OrderState::Confirmed, false, false),
            ],
            lines: vec![line(1, 3), line(5, 1), line(1, 1), line(1, 2), line(5, 7)],
            deadlines: [600, 700, 800].map(|ms| TimeMs(1_800_000_000_000 + ms)).to_vec(),
            extensions: vec![TimeMs(1_800_000_000_900)],
        }),
        Part::Requests(RequestsPart {
            sale: SALE,
            rows: vec![
                request(21, Effect::Confirmed(OrderNumber(4))),
                request(22, Effect::Released(OrderNumber(3))),
                request(23, Effect::Cancelled(OrderNumber(2))),
                request(24, Effect::Extended(OrderNumber(1))),
                request(25, Effect::Restocked),
                request(26, Effect::Fenced(1)),
            ],
        }),
        Part::Sale(archived),
    ]
}

fn write(parts: &[Part]) -> Vec<u8> {
    let mut writer = SnapshotWriter::new(Vec::new(), &HEADER).expect("memory takes it");
    for part in parts {
        writer.part(part).expect("memory takes it");
    }
    writer.finish().expect("memory takes it").0
}

fn read(bytes: &[u8]) -> Result<(SnapshotHeader, Vec<Part>, SnapshotTotals), SnapshotError> {
    let mut reader = SnapshotReader::new(bytes)?;
    let mut parts = Vec::new();
    while let Some(part) = reader.next_part()? {
        parts.push(part);
    }
    let totals = *reader.totals().expect("it was read to its end");
    assert_eq!(reader.bytes(), bytes.len() as u64);
    Ok((*reader.header(), parts, totals))
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(48) {
        for byte in line {
            write!(text, "{byte:02x}").expect("memory takes it");
        }
        text.push('\n');
    }
    text
}

#[test]
fn golden_bytes_are_written_and_read() {
    let written = write(&parts());
    assert_eq!(to_hex(&written), to_hex(&from_hex(GOLDEN)), "the format of version 1 is fixed");
    let (header, read, totals) = read(&from_hex(GOLDEN)).expect("version 1 is read for ever");
    assert_eq!((header, read), (HEADER, parts()));
    assert_eq!(totals, SnapshotTotals { sales: 2, accounts: 2, orders: 4, requests: 6 });
}

#[test]
fn a_state_without_sales_is_a_snapshot_too() {
    let (header, parts, totals) = read(&write(&[])).expect("it is whole");
    assert_eq!((header, parts, totals), (HEADER, vec![], SnapshotTotals::default()));
}

#[test]
fn a_cut_at_any_byte_is_noticed() {
    let whole = write(&parts());
    for bytes in 0..whole.len() {
        match read(&whole[..bytes]) {
            Err(SnapshotError::Cut { offset }) => assert_eq!(offset, bytes as u64),
            other => panic!("cut at {bytes}: {other:?}"),
        }
    }
}

#[test]
fn a_flip_of_any_bit_is_noticed() {
    let whole = write(&parts());
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&flipped).is_err(), "bit {bit} was flipped");
    }
}

#[test]
fn bytes_behind_the_trailer_are_noticed() {
    let mut longer = write(&parts());
    longer.push(0);
    assert!(matches!(read(&longer), Err(SnapshotError::Damaged { .. })));
}

/// The places where sections start, the trailer's and the end included.
fn section_starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![64];
    while let Some(&start) = starts.last().filter(|&&start| start < bytes.len()) {
        let length = u32::from_le_bytes(bytes[start + 4..start + 8].try_into().unwrap());
        starts.push(start + 12 + length as usize);
    }
    starts
}

#[test]
fn sections_are_not_lost_repeated_or_moved() {
    let whole = write(&parts());
    let starts = section_starts(&whole);
    assert_eq!(starts.len(), parts().len() + 2, "one of each part, the trailer, the end");
    for pair in starts.windows(2).take(parts().len()) {
        let (before, section, behind) =
            (&whole[..pair[0]], &whole[pair[0]..pair[1]], &whole[pair[1]..]);
        let lost = [before, behind].concat();
        assert!(matches!(read(&lost), Err(SnapshotError::Damaged { .. })));
        let repeated = [before, section, section, behind].concat();
        assert!(matches!(read(&repeated), Err(SnapshotError::Damaged { .. })));
    }
    // Two sales change places, each of them whole.
    let [first, second, trailer] = [starts[0], starts[5], starts[6]];
    let moved =
        [&whole[..first], &whole[second..trailer], &whole[first..second], &whole[trailer..]];
    assert!(matches!(read(&moved.concat()), Err(SnapshotError::Damaged { .. })));
}

#[test]
fn a_newer_version_and_another_file_are_told_from_damage() {
    let mut newer = write(&parts());
    newer[8] = 2;
    assert!(matches!(read(&newer), Err(SnapshotError::NewerFormat { found: 2, supported: 1 })));
    newer[0] = b'x';
    assert!(matches!(read(&newer), Err(SnapshotError::NotASnapshot)));
}

/// A change to one part of those that [`parts`] makes.
type Change = fn(&mut Part);

#[test]
#[should_panic(expected = "a snapshot cannot have this part")]
fn rows_that_name_nothing_are_not_written() {
    let mut parts = parts();
    let Part::Requests(requests) = &mut parts[4] else { panic!("requests come fifth") };
    requests.rows[0].effect = Effect::Confirmed(OrderNumber(5));
    write(&parts);
}

#[test]
fn rows_that_do_not_fit_their_sale_are_refused() {
    fn sale(part: &mut Part, change: fn(&mut SalePart)) {
        let Part::Sale(part) = part else { panic!("it is a sale") };
        change(part);
    }
    fn orders(part: &mut Part, change: fn(&mut OrdersPart)) {
        let Part::Orders(part) = part else { panic!("they are orders") };
        change(part);
    }
    let changes: [(usize, Change); 12] = [
        (0, |part| sale(part, |sale| sale.accounts += 1)),
        (0, |part| sale(part, |sale| sale.orders -= 1)),
        (0, |part| sale(part, |sale| sale.items.swap(0, 1))),
        (0, |part| sale(part, |sale| sale.state = SaleState::Archived)),
        (5, |part| sale(part, |sale| sale.last = None)),
        (3, |part| orders(part, |orders| orders.sale = SaleId(12))),
        (3, |part| orders(part, |orders| orders.rows[0].account = 2)),
        (3, |part| orders(part, |orders| orders.rows[0].lines = 0)),
        (3, |part| orders(part, |orders| orders.rows[0].is_bought = true)),
        (3, |part| orders(part, |orders| orders.lines[1].item = ItemId(1))),
        (3, |part| orders(part, |orders| orders.lines[0].quantity = Quantity(0))),
        (3, |part| orders(part, |orders| orders.extensions.clear())),
    ];
    for (number, (at, change)) in changes.into_iter().enumerate() {
        let mut parts = parts();
        change(&mut parts[at]);
        let written = std::panic::catch_unwind(|| write(&parts));
        assert!(written.is_err(), "change {number}");
    }
}

#[test]
fn a_comparison_sees_any_difference() {
    let compare = |header: &SnapshotHeader, expected: Vec<Part>| {
        let bytes = write(&parts());
        SnapshotReader::new(&bytes[..]).expect("a header").compare(header, expected)
    };
    assert_eq!(compare(&HEADER, parts()).expect("it is the same"), write(&parts()).len() as u64);
    assert!(compare(&SnapshotHeader { last_lsn: Lsn(8), ..HEADER }, parts()).is_err());
    for at in 0..parts().len() {
        let mut fewer = parts();
        fewer.remove(at);
        assert!(compare(&HEADER, fewer).is_err(), "part {at} is not expected");
    }
    let mut more = parts();
    more.push(parts().remove(5));
    assert!(compare(&HEADER, more).is_err(), "a part is missing");
    let mut other = parts();
    let Part::Orders(orders) = &mut other[3] else { panic!("orders come fourth") };
    orders.rows[0].digest.0 ^= 1;
    assert!(compare(&HEADER, other).is_err(), "a row is another one");
}

#[test]
fn reading_ahead_hands_out_the_same_and_ends_at_the_first_error() {
    let whole = write(&parts());
    let collect = |bytes: &[u8]| {
        let mut read = Vec::new();
        let totals = read_snapshot_ahead(SnapshotReader::new(bytes)?, |part| {
            read.push(part);
            Ok::<(), SnapshotError>(())
        })?;
        Ok::<_, SnapshotError>((read, totals))
    };
    let (parts_read, totals) = collect(&whole).expect("it is whole");
    assert_eq!((parts_read, totals.orders), (parts(), 4));
    let cut = collect(&whole[..whole.len() - 1]);
    assert!(matches!(cut, Err(SnapshotError::Cut { .. })));
    let stopped: Result<_, SnapshotError> =
        read_snapshot_ahead(SnapshotReader::new(&whole[..]).expect("a header"), |_| {
            Err(SnapshotError::NotASnapshot)
        });
    assert!(matches!(stopped, Err(SnapshotError::NotASnapshot)));
}
