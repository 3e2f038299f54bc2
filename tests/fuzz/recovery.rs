//! Recovery of a log that was tampered with. The input is a list of edits of eight bytes each; some
//! of them make the checksums fit again, so that the fuzzer comes past those.
//!
//! Nothing panics. Reading changes nothing and says the same twice. Without a forged checksum what
//! is read is a prefix of what was written. A log that is accepted is clean once its torn tail is
//! zeroed, has the same records still, and takes another one.

#![no_main]

#[path = "../support/log_image.rs"]
mod log_image;

use std::num::NonZeroU16;
use std::sync::LazyLock;

use boxoffice::model::{Lsn, ShardIndex};
use boxoffice::wal::{
    BLOCK_BYTES, Identity, LogId, Position, SealedFrame, Segment, SegmentIndex, repair_torn_tail,
};
use libfuzzer_sys::fuzz_target;
use log_image::{BLOCK, Disk, Image, Outcome, Sample, expired, many, outcome};

const IDENTITY: Identity =
    Identity { log: LogId(0xb0ff), shard: ShardIndex(0), shards: NonZeroU16::MIN };

/// `[header f0 f1 -] [header f2 f2 f3] [header - - -]`
static SAMPLE: LazyLock<Sample> = LazyLock::new(|| {
    let large = many(300);
    let commits = [(10, &large[..3]), (10, &large[3..9]), (11, &large), (12, &large[9..11])];
    Sample::new(IDENTITY, 4, &commits)
});

fuzz_target!(|edits: &[u8]| {
    let mut image = SAMPLE.image.clone();
    let mut forged = false;
    for edit in edits.chunks_exact(8).take(64) {
        forged |= apply(&mut image, edit.try_into().expect("eight bytes"));
    }
    let disk = Disk::new(image.clone());
    let (records, verdict) = disk.read();
    assert_eq!(disk.image(), image, "reading changes nothing");
    let (again, same) = disk.read();
    assert_eq!((&again, format!("{same:?}")), (&records, format!("{verdict:?}")));
    assert!(records.iter().zip(1..).all(|((lsn, ..), number)| *lsn == Lsn(number)));
    if !forged {
        assert_eq!(SAMPLE.truth.get(..records.len()), Some(&records[..]));
    }
    let Ok(recovered) = verdict else { return };
    assert_eq!(recovered.records, records.len() as u64);
    if let Some(torn) = recovered.torn {
        repair_torn_tail(&disk, &torn).expect("the storage works");
    }
    let mut image = disk.image();
    let (kept, verdict) = image.read();
    assert_eq!((outcome(&verdict), &kept), (Outcome::Clean, &records), "the repaired log");
    if recovered.prepared.is_empty() {
        image.prepare(Segment { index: recovered.segment.index.next(), bytes: 4 * BLOCK });
    }
    image.commit(recovered.last_time.0, &[expired(7)]);
    let (more, verdict) = image.read();
    assert_eq!((outcome(&verdict), more.len()), (Outcome::Clean, kept.len() + 1), "it goes on");
});

/// One edit: what to do, a segment, an offset, a length, and three bytes of content. Returns
/// whether a checksum was made to fit.
fn apply(image: &mut Image, edit: &[u8; 8]) -> bool {
    let [what, segment, low, high, length, value @ ..] = *edit;
    let index = 1 + u64::from(segment % 4);
    let Some(size) = image.segments.get(&index).map(Vec::len).filter(|size| *size > 0) else {
        return false;
    };
    let at = usize::from(u16::from_le_bytes([low, high])) % size;
    let block = at / BLOCK_BYTES;
    match what % 8 {
        0 => image.segment(index)[at] ^= value[0],
        1 => {
            let end = size.min(at + 512 * (1 + usize::from(length)));
            image.segment(index)[at..end].fill(0);
        }
        2 => {
            let from = 1 + u64::from(value[0] % 4);
            let blocks = 1 + usize::from(length % 3);
            copy(image, (from, usize::from(value[1] % 4)), (index, block), blocks);
        }
        3 => return forge_frame(image, index, block, usize::from(length), value),
        4 if size >= BLOCK_BYTES => {
            image.forge_header(index, |header| {
                header[usize::from(length) % 44..][..3].copy_from_slice(&value);
            });
            return true;
        }
        5 => image.segment(index).truncate(at),
        6 => {
            image.segments.remove(&index);
        }
        7 => {
            let end = size.min(at + value.len());
            image.segment(index)[at..end].copy_from_slice(&value[..end - at]);
        }
        _ => {}
    }
    false
}

/// Copies whole blocks, as far as there are any.
fn copy(image: &mut Image, from: (u64, usize), to: (u64, usize), blocks: usize) {
    for block in 0..blocks {
        let offset = |block: usize| block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES;
        let source =
            image.segments.get(&from.0).and_then(|bytes| bytes.get(offset(from.1 + block)));
        let Some(bytes) = source.map(<[u8]>::to_vec) else { return };
        let onto =
            image.segments.get_mut(&to.0).and_then(|onto| onto.get_mut(offset(to.1 + block)));
        let Some(onto) = onto else { return };
        onto.copy_from_slice(&bytes);
    }
}

/// Changes a frame where one may begin, and makes its checksum fit where its size can be.
fn forge_frame(image: &mut Image, index: u64, block: usize, at: usize, value: [u8; 3]) -> bool {
    let offset = block * BLOCK_BYTES;
    let rest = image.segment(index).len() - offset;
    let bytes = rest - rest % BLOCK_BYTES;
    if bytes == 0 {
        return false;
    }
    let position = Position { segment: SegmentIndex(index), offset: offset as u64 };
    let frame = image.at(position, bytes);
    frame[at..at + 3].copy_from_slice(&value);
    let payload = u32::from_le_bytes(frame[44..48].try_into().expect("four bytes")) as usize;
    if 56 + payload > bytes {
        return false;
    }
    let last_lsn = Lsn(0);
    image.forge(&SealedFrame { position, bytes, last_lsn, is_first_of_segment: false }, |_| ());
    true
}
