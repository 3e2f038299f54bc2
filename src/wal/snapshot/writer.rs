//! Writing a snapshot, part by part.

use std::io::{self, Write};

use super::SnapshotTotals;
use super::header::SnapshotHeader;
use super::order::PartOrder;
use super::section::{Trailer, encode_part, encode_trailer};
use crate::model::snapshot::Part;

/// A snapshot in the making. Without [`Self::finish`] it has no trailer and is no snapshot.
#[derive(Debug)]
pub struct SnapshotWriter<W> {
    into: W,
    order: PartOrder,
    sections: u64,
    bytes: u64,
    chain: crc32fast::Hasher,
}

impl<W: Write> SnapshotWriter<W> {
    /// Writes the header.
    pub fn new(mut into: W, header: &SnapshotHeader) -> io::Result<Self> {
        let header = header.encode();
        into.write_all(&header)?;
        let mut chain = crc32fast::Hasher::new();
        chain.update(&header);
        let (order, bytes) = (PartOrder::new(), header.len() as u64);
        Ok(Self { into, order, sections: 0, bytes, chain })
    }

    /// Writes the next part.
    ///
    /// # Panics
    ///
    /// Where the part may not follow the one before, or names what is not there: what could not
    /// be read back must not be written.
    pub fn part(&mut self, part: &Part) -> io::Result<()> {
        if let Err(what) = self.order.check(part) {
            panic!("a snapshot cannot have this part of sale {}: {what}", part.sale());
        }
        let (header, archive) = encode_part(part);
        self.into.write_all(&header)?;
        self.into.write_all(&archive)?;
        self.chain.update(&header);
        self.bytes += (header.len() + archive.len()) as u64;
        self.sections += 1;
        Ok(())
    }

    /// Writes the trailer, and gives back where it was written to. Syncing is the caller's.
    ///
    /// # Panics
    ///
    /// Where rows of the last sale are missing.
    pub fn finish(mut self) -> io::Result<(W, SnapshotTotals)> {
        let totals = match self.order.finish() {
            Ok(totals) => totals,
            Err(what) => panic!("a snapshot cannot end here: {what}"),
        };
        let (sections, bytes) = (self.sections, self.bytes);
        let trailer = Trailer { sections, bytes, chain: self.chain.finalize(), totals };
        let (header, archive) = encode_trailer(&trailer);
        self.into.write_all(&header)?;
        self.into.write_all(&archive)?;
        self.into.flush()?;
        Ok((self.into, totals))
    }
}
