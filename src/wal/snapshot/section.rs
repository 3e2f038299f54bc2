//! Sections: one part of a state each, or the trailer.

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Portable, Serialize};

use super::super::field;
use super::SnapshotTotals;
use crate::model::snapshot::{
    AccountsPart, ArchivedAccountsPart, ArchivedOrdersPart, ArchivedRequestsPart, ArchivedSalePart,
    ArchivedTalliesPart, OrdersPart, Part, RequestsPart, SalePart, TalliesPart,
};

/// Bytes of a section's archive at most.
pub const SECTION_BYTES_MAX: usize = 1 << 20;

/// Bytes before a section's archive.
pub(super) const SECTION_HEADER_BYTES: usize = 12;

const CRC_AT: usize = SECTION_HEADER_BYTES - 4;

/// What kind of section follows. The numbers are the format: they are never used again.
mod kind {
    pub const SALE: u32 = 1;
    pub const ACCOUNTS: u32 = 2;
    pub const TALLIES: u32 = 3;
    pub const ORDERS: u32 = 4;
    pub const REQUESTS: u32 = 5;
    pub const TRAILER: u32 = 6;
}

/// What closes a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub(super) struct Trailer {
    /// Sections before this one.
    pub(super) sections: u64,
    /// Bytes before this section.
    pub(super) bytes: u64,
    /// The CRC of the header and of the headers of all sections before this one.
    pub(super) chain: u32,
    /// The rows.
    pub(super) totals: SnapshotTotals,
}

/// A section, decoded.
#[derive(Debug)]
pub(super) enum Section {
    Part(Part),
    Trailer(Trailer),
}

/// What a section's header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct SectionHeader {
    kind: u32,
    pub(super) bytes: usize,
    crc: u32,
}

impl SectionHeader {
    /// Reads it; `None` where there is no such section.
    pub(super) fn decode(header: &[u8; SECTION_HEADER_BYTES]) -> Option<Self> {
        let kind = u32::from_le_bytes(field(header, 0));
        let bytes = u32::from_le_bytes(field(header, 4)) as usize;
        let crc = u32::from_le_bytes(field(header, CRC_AT));
        let is_known = (kind::SALE..=kind::TRAILER).contains(&kind);
        (is_known && bytes <= SECTION_BYTES_MAX).then_some(Self { kind, bytes, crc })
    }

    fn encode(kind: u32, archive: &[u8]) -> [u8; SECTION_HEADER_BYTES] {
        let mut header = [0; SECTION_HEADER_BYTES];
        header[0..4].copy_from_slice(&kind.to_le_bytes());
        header[4..8].copy_from_slice(&(archive.len() as u32).to_le_bytes());
        let crc = section_crc(&header, archive);
        header[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// Whether header and archive are as they were written.
    pub(super) fn is_intact(&self, header: &[u8; SECTION_HEADER_BYTES], archive: &[u8]) -> bool {
        self.crc == section_crc(header, archive)
    }

    /// The archive's content; `None` where it is not one of its kind.
    pub(super) fn thaw(&self, archive: &[u8]) -> Option<Section> {
        let section = match self.kind {
            kind::SALE => Section::Part(Part::Sale(thaw::<SalePart>(archive)?)),
            kind::ACCOUNTS => Section::Part(Part::Accounts(thaw::<AccountsPart>(archive)?)),
            kind::TALLIES => Section::Part(Part::Tallies(thaw::<TalliesPart>(archive)?)),
            kind::ORDERS => Section::Part(Part::Orders(thaw::<OrdersPart>(archive)?)),
            kind::REQUESTS => Section::Part(Part::Requests(thaw::<RequestsPart>(archive)?)),
            _ => Section::Trailer(thaw::<Trailer>(archive)?),
        };
        Some(section)
    }
}

/// The bytes of a part's section.
///
/// # Panics
///
/// Where the part has more rows than a part may have.
pub(super) fn encode_part(part: &Part) -> ([u8; SECTION_HEADER_BYTES], AlignedVec) {
    let (kind, archive) = match part {
        Part::Sale(part) => (kind::SALE, freeze(part)),
        Part::Accounts(part) => (kind::ACCOUNTS, freeze(part)),
        Part::Tallies(part) => (kind::TALLIES, freeze(part)),
        Part::Orders(part) => (kind::ORDERS, freeze(part)),
        Part::Requests(part) => (kind::REQUESTS, freeze(part)),
    };
    assert!(archive.len() <= SECTION_BYTES_MAX, "a part fits a section");
    (SectionHeader::encode(kind, &archive), archive)
}

/// The bytes of the trailer's section.
pub(super) fn encode_trailer(trailer: &Trailer) -> ([u8; SECTION_HEADER_BYTES], AlignedVec) {
    let archive = freeze(trailer);
    (SectionHeader::encode(kind::TRAILER, &archive), archive)
}

fn section_crc(header: &[u8; SECTION_HEADER_BYTES], archive: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..CRC_AT]);
    hasher.update(archive);
    hasher.finalize()
}

fn freeze<T>(value: &T) -> AlignedVec
where
    T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Failure>>,
{
    rkyv::to_bytes::<Failure>(value).expect("rows are archived in memory")
}

/// The value that an archive is of, validated.
fn thaw<T>(archive: &[u8]) -> Option<T>
where
    T: Archive,
    T::Archived: Portable
        + for<'a> CheckBytes<HighValidator<'a, Failure>>
        + Deserialize<T, HighDeserializer<Failure>>,
{
    rkyv::from_bytes::<T, Failure>(archive).ok()
}

// The largest part of each kind fits a section.
const _: () = {
    use crate::model::lines::ArchivedLine;
    use crate::model::sale::ITEMS_MAX;
    use crate::model::snapshot::{
        ArchivedAccountRow, ArchivedItemRow, ArchivedOrderRow, ArchivedRequestRow,
        ArchivedTallyRow, LINES_PER_PART_MAX, ORDERS_PER_PART_MAX, ROWS_PER_PART_MAX,
    };
    assert!(
        size_of::<ArchivedSalePart>() + ITEMS_MAX * size_of::<ArchivedItemRow>()
            <= SECTION_BYTES_MAX
    );
    assert!(
        size_of::<ArchivedAccountsPart>() + ROWS_PER_PART_MAX * size_of::<ArchivedAccountRow>()
            <= SECTION_BYTES_MAX
    );
    assert!(
        size_of::<ArchivedTalliesPart>() + ROWS_PER_PART_MAX * size_of::<ArchivedTallyRow>()
            <= SECTION_BYTES_MAX
    );
    let order_bytes = size_of::<ArchivedOrderRow>() + 2 * size_of::<u64>();
    assert!(
        size_of::<ArchivedOrdersPart>()
            + ORDERS_PER_PART_MAX * order_bytes
            + LINES_PER_PART_MAX * size_of::<ArchivedLine>()
            <= SECTION_BYTES_MAX
    );
    assert!(
        size_of::<ArchivedRequestsPart>() + ROWS_PER_PART_MAX * size_of::<ArchivedRequestRow>()
            <= SECTION_BYTES_MAX
    );
};
