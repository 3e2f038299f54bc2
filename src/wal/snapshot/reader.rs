//! Reading a snapshot, part by part. Nothing is trusted.

use std::io::{self, Read};

use super::header::{HEADER_BYTES, SnapshotHeader};
use super::order::PartOrder;
use super::section::{SECTION_BYTES_MAX, SECTION_HEADER_BYTES, Section, SectionHeader, Trailer};
use super::{SnapshotError, SnapshotTotals};
use crate::model::snapshot::Part;

/// A snapshot that is being read.
#[derive(Debug)]
pub struct SnapshotReader<R> {
    from: R,
    header: SnapshotHeader,
    order: PartOrder,
    sections: u64,
    /// Bytes read so far.
    offset: u64,
    chain: crc32fast::Hasher,
    buffer: Vec<u8>,
    totals: Option<SnapshotTotals>,
}

impl<R: Read> SnapshotReader<R> {
    /// Reads the header.
    pub fn new(mut from: R) -> Result<Self, SnapshotError> {
        let mut bytes = [0; HEADER_BYTES];
        let read = read_whole(&mut from, &mut bytes)?;
        if read < HEADER_BYTES {
            return Err(SnapshotError::Cut { offset: read as u64 });
        }
        let header = SnapshotHeader::decode(&bytes)?;
        let mut chain = crc32fast::Hasher::new();
        chain.update(&bytes);
        Ok(Self {
            from,
            header,
            order: PartOrder::new(),
            sections: 0,
            offset: HEADER_BYTES as u64,
            chain,
            buffer: vec![0; SECTION_BYTES_MAX],
            totals: None,
        })
    }

    /// What the header says.
    #[must_use]
    pub const fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// What the whole snapshot holds, once [`Self::next_part`] has returned `None`.
    #[must_use]
    pub const fn totals(&self) -> Option<&SnapshotTotals> {
        self.totals.as_ref()
    }

    /// Bytes read so far; in the end those of the whole snapshot.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.offset
    }

    /// The next part; `None` behind the last one, and only of a snapshot that is whole.
    pub fn next_part(&mut self) -> Result<Option<Part>, SnapshotError> {
        if self.totals.is_some() {
            return Ok(None);
        }
        let start = self.offset;
        let mut bytes = [0; SECTION_HEADER_BYTES];
        self.fill(&mut bytes)?;
        let damaged = |what: &str| SnapshotError::Damaged { offset: start, what: what.to_owned() };
        let header = SectionHeader::decode(&bytes)
            .ok_or_else(|| damaged("there is no section of that kind and size"))?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = self.fill(&mut buffer[..header.bytes]);
        self.buffer = buffer;
        read?;
        let archive = &self.buffer[..header.bytes];
        if !header.is_intact(&bytes, archive) {
            return Err(damaged("the section is not intact"));
        }
        match header.thaw(archive) {
            Some(Section::Part(part)) => {
                self.order.check(&part).map_err(damaged)?;
                self.chain.update(&bytes);
                self.sections += 1;
                Ok(Some(part))
            }
            Some(Section::Trailer(trailer)) => self.end(start, &trailer).map(|()| None),
            None => Err(damaged("the section's archive is not valid")),
        }
    }

    /// Reads it to its end, and fails unless it says this and nothing else. Returns its bytes.
    pub fn compare(
        mut self,
        header: &SnapshotHeader,
        parts: impl IntoIterator<Item = Part>,
    ) -> Result<u64, SnapshotError> {
        let mut expected = parts.into_iter();
        let differs =
            |offset, what: &str| Err(SnapshotError::Damaged { offset, what: what.to_owned() });
        if self.header != *header {
            return differs(0, "the header is another one");
        }
        loop {
            let offset = self.offset;
            let part = self.next_part()?;
            if part != expected.next() {
                return differs(offset, "the part is another one");
            }
            if part.is_none() {
                return Ok(self.offset);
            }
        }
    }

    /// Whether everything was there, and nothing else is.
    fn end(&mut self, start: u64, trailer: &Trailer) -> Result<(), SnapshotError> {
        let damaged = |offset, what: &str| SnapshotError::Damaged { offset, what: what.to_owned() };
        let totals = self.order.finish().map_err(|what| damaged(start, what))?;
        let chain = self.chain.clone().finalize();
        let read = Trailer { sections: self.sections, bytes: start, chain, totals };
        if *trailer != read {
            return Err(damaged(start, "the trailer does not close these sections"));
        }
        if read_whole(&mut self.from, &mut [0])? != 0 {
            return Err(damaged(self.offset, "there are bytes behind the trailer"));
        }
        self.totals = Some(totals);
        Ok(())
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), SnapshotError> {
        let read = read_whole(&mut self.from, into)?;
        self.offset += read as u64;
        if read < into.len() { Err(SnapshotError::Cut { offset: self.offset }) } else { Ok(()) }
    }
}

/// Fills `into` as far as there are bytes.
fn read_whole(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match from.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
