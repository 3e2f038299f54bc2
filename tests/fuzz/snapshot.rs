//! Arbitrary bytes as a snapshot, as they are, and with every checksum and count made to fit: what
//! is read to its end can be written, and is read as the same again. Nothing panics, and what is
//! cut is never read to its end.

#![no_main]

use boxoffice::model::snapshot::Part;
use boxoffice::wal::snapshot::{
    SnapshotError, SnapshotHeader, SnapshotReader, SnapshotTotals, SnapshotWriter,
};
use libfuzzer_sys::fuzz_target;

const HEADER_BYTES: usize = 64;
const SECTION_HEADER_BYTES: usize = 12;

/// The kind of the trailer's section, and the bytes of its archive up to the totals.
const TRAILER: u32 = 6;
const TRAILER_HEAD_BYTES: usize = 20;

fuzz_target!(|bytes: &[u8]| {
    judge(bytes);
    let mut sealed = bytes.to_vec();
    seal(&mut sealed);
    judge(&sealed);
});

fn judge(bytes: &[u8]) {
    let Ok((header, parts, totals)) = read(bytes) else { return };
    let mut writer = SnapshotWriter::new(Vec::new(), &header).expect("memory takes it");
    for part in &parts {
        writer.part(part).expect("memory takes it");
    }
    let (again, written) = writer.finish().expect("memory takes it");
    assert_eq!(written, totals);
    let same = read(&again).expect("what was written is whole");
    assert_eq!(same, (header, parts, totals));
    assert!(read(&bytes[..bytes.len() - 1]).is_err(), "a snapshot that is cut is none");
}

fn read(bytes: &[u8]) -> Result<(SnapshotHeader, Vec<Part>, SnapshotTotals), SnapshotError> {
    let mut reader = SnapshotReader::new(bytes)?;
    let mut parts = Vec::new();
    while let Some(part) = reader.next_part()? {
        parts.push(part);
    }
    assert_eq!(reader.bytes(), bytes.len() as u64);
    Ok((*reader.header(), parts, *reader.totals().expect("it was read to its end")))
}

/// Makes the checksums of header and sections fit, and what the trailer says of them.
fn seal(bytes: &mut [u8]) {
    let Some(header) = bytes.first_chunk_mut::<HEADER_BYTES>() else { return };
    let crc = crc32fast::hash(&header[..60]).to_le_bytes();
    header[60..].copy_from_slice(&crc);
    let mut chain = crc32fast::Hasher::new();
    chain.update(header);
    let (mut at, mut sections) = (HEADER_BYTES, 0_u64);
    while let Some((head, rest)) = bytes[at..].split_first_chunk_mut::<SECTION_HEADER_BYTES>() {
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let length = word(4) as usize;
        let Some(archive) = rest.get_mut(..length) else { return };
        if word(0) == TRAILER && length >= TRAILER_HEAD_BYTES {
            archive[..8].copy_from_slice(&sections.to_le_bytes());
            archive[8..16].copy_from_slice(&(at as u64).to_le_bytes());
            archive[16..20].copy_from_slice(&chain.clone().finalize().to_le_bytes());
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head[..8]);
        crc.update(archive);
        head[8..].copy_from_slice(&crc.finalize().to_le_bytes());
        chain.update(head);
        sections += 1;
        at += SECTION_HEADER_BYTES + length;
    }
}
