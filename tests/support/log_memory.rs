//! A log in memory: segments as byte vectors, written through the real writer, free to be
//! damaged by a test; and one record of every kind.

use std::io;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Mutex;

use boxoffice::model::record::{
    Bought, Cancelled, Confirmed, Expired, Extended, Fenced, Held, ItemDefined, Origin,
    RecordLines, Released, Restocked, SaleArchived, SaleDefined, SaleStateSet,
};
use boxoffice::model::{
    AccountId, BodyDigest, DurationMs, ItemId, ItemTerms, Line, Lsn, OrderNumber, PaymentRef,
    Price, Quantity, Record, RequestId, SaleId, SaleState, SaleTerms, ShardIndex, TimeMs,
};
use boxoffice::wal::{
    BLOCK_BYTES, Batch, Identity, LogId, LogStorage, LogWriter, Position, Recovered, SealedFrame,
    Segment, SegmentHeader, SegmentIndex, WalError, recover,
};

pub const IDENTITY: Identity = Identity {
    log: LogId(0x0123_4567_89ab_cdef),
    shard: ShardIndex(1),
    shards: NonZeroU16::new(2).unwrap(),
};

/// A record as it was read back.
pub type Read = (Lsn, TimeMs, Record);

/// The segments of a log, the first one being number 1.
pub struct MemoryLog(Mutex<Vec<Vec<u8>>>);

impl Clone for MemoryLog {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.image()))
    }
}

impl MemoryLog {
    /// Prepared segments of `blocks` blocks, header included.
    pub fn new(segments: u64, blocks: u64) -> Self {
        let log = Self(Mutex::default());
        for index in 1..=segments {
            log.prepare(Segment { index: SegmentIndex(index), bytes: blocks * BLOCK_BYTES as u64 });
        }
        log
    }

    pub fn prepare(&self, segment: Segment) {
        let mut bytes = SegmentHeader { identity: IDENTITY, segment }.encode().to_vec();
        bytes.resize(segment.bytes as usize, 0);
        self.0.lock().unwrap().push(bytes);
    }

    pub fn image(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }

    /// Changes bytes behind the log's back.
    pub fn tamper(&self, segment: u64, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.0.lock().unwrap()[segment as usize - 1]);
    }

    pub fn write(&self, position: Position, bytes: &[u8]) {
        let at = position.offset as usize;
        self.tamper(position.segment.0, |segment| {
            segment[at..at + bytes.len()].copy_from_slice(bytes);
        });
    }

    /// Everything that can be read, and the verdict.
    pub fn read(&self) -> (Vec<Read>, Result<Recovered, WalError>) {
        let mut records = Vec::new();
        let verdict = recover(self, Some(IDENTITY), |entry| {
            records.push((entry.lsn, entry.time, entry.record.clone()));
        });
        (records, verdict)
    }

    /// A writer at the end of the log.
    pub fn writer(&self) -> LogWriter {
        LogWriter::new(&self.read().1.expect("the log is whole"))
    }

    /// Writes one frame of these records.
    pub fn commit(&self, writer: &mut LogWriter, time: u64, records: &[Record]) -> SealedFrame {
        let mut batch = Batch::new(vec![0xee; 64 * BLOCK_BYTES]);
        for record in records {
            writer.append(&mut batch, TimeMs(time), record).expect("the batch has room");
        }
        let sealed = writer.seal(&mut batch).expect("a segment is there");
        self.write(sealed.position, &batch.buffer()[..sealed.bytes]);
        writer.complete();
        sealed
    }
}

impl LogStorage for MemoryLog {
    fn segments(&self) -> io::Result<Vec<Segment>> {
        let segments = self.0.lock().unwrap();
        let numbered = segments.iter().zip(1..);
        Ok(numbered
            .map(|(segment, index)| Segment {
                index: SegmentIndex(index),
                bytes: segment.len() as u64,
            })
            .collect())
    }

    fn read_at(&self, position: Position, into: &mut [u8]) -> io::Result<()> {
        let at = position.offset as usize;
        into.copy_from_slice(
            &self.0.lock().unwrap()[position.segment.0 as usize - 1][at..at + into.len()],
        );
        Ok(())
    }

    fn zero_and_sync(&self, position: Position, bytes: u64) -> io::Result<()> {
        self.write(position, &vec![0; bytes as usize]);
        Ok(())
    }

    fn path(&self, segment: SegmentIndex) -> PathBuf {
        PathBuf::from(format!("memory/{segment}.wal"))
    }
}

pub fn line(item: u32, quantity: u32) -> Line {
    Line { item: ItemId(item), quantity: Quantity(quantity) }
}

pub fn origin(request: u128) -> Origin {
    Origin {
        sale: SaleId(0x5a1e),
        account: AccountId(0xacc0_0000_0000_0000_0000_0000_0000_0001),
        request: RequestId(request),
        digest: BodyDigest(0xd1_6e57),
    }
}

/// One record of every kind by its name, in the order of the tags; fields differ from each other.
pub fn samples() -> Vec<(&'static str, Record)> {
    let sale = SaleId(0x5a1e);
    let order = OrderNumber(77);
    let terms = SaleTerms {
        opens_at: Some(TimeMs(1_000)),
        closes_at: None,
        hold_ttl: DurationMs(60_000),
        account_limit: Some(Quantity(8)),
    };
    let item_terms =
        ItemTerms { capacity: Quantity(50_000), price: Price(9_900), account_limit: None };
    let lines = RecordLines::from_iter([line(3, 2), line(9, 1)]);
    let expires_at = TimeMs(1_700_000_600_000);
    let payment = PaymentRef::new(b"pay-1").unwrap();
    vec![
        ("SaleDefined", Record::SaleDefined(SaleDefined { sale, terms })),
        (
            "ItemDefined",
            Record::ItemDefined(ItemDefined { sale, item: ItemId(3), terms: item_terms }),
        ),
        (
            "Restocked",
            Record::Restocked(Restocked { origin: origin(1), item: ItemId(3), by: -500 }),
        ),
        ("SaleStateSet", Record::SaleStateSet(SaleStateSet { sale, state: SaleState::Paused })),
        ("Held", Record::Held(Held { origin: origin(2), order, expires_at, lines: lines.clone() })),
        (
            "Bought",
            Record::Bought(Bought {
                origin: origin(3),
                order,
                lines: lines.clone(),
                payment: payment.clone(),
            }),
        ),
        (
            "Confirmed",
            Record::Confirmed(Confirmed {
                origin: origin(4),
                order,
                lines: RecordLines::new(),
                payment,
            }),
        ),
        ("Released", Record::Released(Released { origin: origin(5), order })),
        ("Extended", Record::Extended(Extended { origin: origin(6), order, expires_at })),
        ("Cancelled", Record::Cancelled(Cancelled { origin: origin(7), order, lines })),
        ("Expired", Record::Expired(Expired { sale, order })),
        (
            "Fenced",
            Record::Fenced(Fenced { sale, account: origin(8).account, request: RequestId(8) }),
        ),
        ("SaleArchived", Record::SaleArchived(SaleArchived { sale })),
    ]
}

/// The smallest record.
pub fn expired(order: u32) -> Record {
    Record::Expired(Expired { sale: SaleId(1), order: OrderNumber(order) })
}

/// The place so many bytes further.
pub fn padded(position: Position, bytes: u64) -> Position {
    Position { offset: position.offset + bytes, ..position }
}
