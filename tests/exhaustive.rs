//! Every fault of a kind, on a small log: cut at every byte, every bit flipped, every crash point
//! with every torn length, every part of a frame that can be on disk without the others, every
//! frame written to every wrong place, and every call of the storage failing once.
//!
//! The judge is the table of recovery cases: where a fault hits says which row it is, and the row
//! says the outcome. Whatever the outcome, what is read is a prefix of what was written, and what
//! was acknowledged is there or the start is refused. Two cases alone are different, and named here
//! wherever they apply: a change in the very last frame cannot be told from a torn write, and a log
//! whose last files are gone not from one that ended there.
//!
//! `BOXOFFICE_EXHAUSTIVE=1 cargo test --test exhaustive` is the long form: also every bit of the
//! zeros, and every log repaired and continued.

#[path = "support/log_image.rs"]
mod log_image;
#[path = "support/log_memory.rs"]
#[allow(dead_code, reason = "only the identity and the sample records are used")]
mod log_memory;

use std::collections::BTreeMap;

use boxoffice::model::Record;
use boxoffice::wal::{BLOCK_BYTES, Position, Segment, SegmentIndex, repair_torn_tail};
use log_image::{
    BLOCK, Call, Disk, Image, Outcome, Sample, expired, first_of, further, many, outcome,
    outcome_of, recovery_table,
};
use log_memory::{IDENTITY, samples};

/// The sizes of a sector and of a block: what a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

fn is_long() -> bool {
    std::env::var_os("BOXOFFICE_EXHAUSTIVE").is_some()
}

/// The frames of the sample that are named here: `[header f0 f1 f2 -] [header f3 f3 f4 -]
/// [header - - - -]`. Between them they have a record of each kind; f1 and f4 fill their sectors.
const FULL: usize = 1;
const ROLLED: usize = 3;
const LAST: usize = 4;

fn sample() -> Sample {
    let records: Vec<Record> = samples().into_iter().map(|(_, record)| record).collect();
    let last = [&records[6..], &many(190)].concat();
    let (full, large) = (many(250), many(300));
    let commits =
        [(10, &records[..5]), (10, &full), (10, &records[5..6]), (11, &large), (12, &last)];
    let sample = Sample::new(IDENTITY, 5, &commits);
    let first = first_of(1);
    let places =
        [first, further(first, 1), further(first, 2), first_of(2), further(first_of(2), 2)];
    assert!(sample.frames.iter().zip(places).all(|(frame, place)| frame.position == place));
    sample
}

/// Holds what recovery makes of many images against the table, and counts them.
struct Judge {
    truth: Vec<log_image::Read>,
    outcomes: BTreeMap<String, Outcome>,
    seen: BTreeMap<String, u64>,
}

impl Judge {
    fn new(sample: &Sample) -> Self {
        let outcomes = recovery_table().into_iter().collect();
        Self { truth: sample.truth.clone(), outcomes, seen: BTreeMap::new() }
    }

    /// An image that has the outcome of this row, and of which `kept` records are read.
    #[track_caller]
    fn is(&mut self, row: &str, kept: usize, image: &Image, place: &dyn Fn() -> String) {
        if let Err(why) = self.judge(row, kept, image) {
            panic!("{row}, {}: {why}", place());
        }
    }

    fn judge(&mut self, row: &str, kept: usize, image: &Image) -> Result<(), String> {
        let seen = self.seen.entry(row.to_owned()).or_default();
        *seen += 1;
        let goes_on = is_long() || seen.is_multiple_of(64);
        let disk = Disk::new(image.clone());
        let (records, verdict) = disk.read();
        let expected = self.outcomes.get(row).ok_or("no such row")?;
        if outcome(&verdict) != *expected {
            return Err(format!("{verdict:?} in place of {expected:?}"));
        }
        if self.truth.get(..records.len()) != Some(&records[..]) {
            return Err("what is read is no prefix of what was written".into());
        }
        if records.len() != kept {
            return Err(format!("{} records are read, not {kept}", records.len()));
        }
        if disk.image() != *image {
            return Err("reading changed the log".into());
        }
        let Ok(recovered) = verdict else { return Ok(()) };
        if let Some(torn) = recovered.torn {
            repair_torn_tail(&disk, &torn).map_err(|error| error.to_string())?;
        }
        if goes_on { self.goes_on(disk.image(), kept) } else { Ok(()) }
    }

    /// Whether a log is clean with so many records, and takes another one.
    fn goes_on(&self, mut image: Image, kept: usize) -> Result<(), String> {
        let (records, verdict) = image.read();
        if outcome(&verdict) != Outcome::Clean || records != self.truth[..kept] {
            return Err(format!("the repaired log is {verdict:?}"));
        }
        let recovered = verdict.map_err(|error| error.to_string())?;
        if recovered.prepared.is_empty() {
            let index = recovered.segment.index.next();
            image.prepare(Segment { index, bytes: 5 * BLOCK });
        }
        image.commit(recovered.last_time.0, &[expired(7)]);
        let (records, verdict) = image.read();
        if outcome(&verdict) != Outcome::Clean || records.len() != kept + 1 {
            return Err(format!("the continued log is {verdict:?}"));
        }
        Ok(())
    }

    /// Prints how many images of each row there were, and whether all these rows were among them.
    #[track_caller]
    fn report(&self, rows: &[&str]) {
        println!("{} images: {:?}", self.seen.values().sum::<u64>(), self.seen);
        for row in rows {
            assert!(self.seen.contains_key(*row), "no image was a {row}");
        }
    }
}

/// The row of a frame of which some bytes are on disk, and how many records are read then.
fn torn_row(sample: &Sample, frame: usize, image: &Image) -> (&'static str, usize) {
    let before = if frame == 0 { 0 } else { sample.records_through(frame - 1) };
    let position = sample.frames[frame].position;
    let segment = &image.segments[&position.segment.0];
    let part = &segment[position.offset as usize..][..sample.frames[frame].bytes];
    let row = if part == sample.frame_bytes(frame) {
        return ("whole", sample.records_through(frame));
    } else if part.iter().all(|byte| *byte == 0) {
        return ("whole", before);
    } else if frame == 0 {
        "torn-first-frame"
    } else if position == first_of(position.segment.0) {
        "torn-rolled"
    } else if part[..BLOCK_BYTES].iter().all(|byte| *byte == 0) {
        "torn-later-blocks"
    } else if part[..BLOCK_BYTES] == sample.frame_bytes(frame)[..BLOCK_BYTES] {
        "torn-first-blocks"
    } else {
        "torn-inside-block"
    };
    (row, before)
}

/// The power goes while a frame is written: so many of its bytes are there, from its start or
/// from its end. Every frame before it was acknowledged.
#[test]
fn every_crash_point_with_every_torn_length() {
    let sample = sample();
    let mut judge = Judge::new(&sample);
    for (frame, sealed) in sample.frames.iter().enumerate() {
        let bytes = sample.frame_bytes(frame);
        let mut forward = sample.before(frame);
        let mut backward = forward.clone();
        for length in 0..=sealed.bytes {
            let last = sealed.bytes - length;
            for (image, range) in [(&forward, 0..length), (&backward, last..sealed.bytes)] {
                // A zero more is the same image.
                let newest = if range.start == 0 { length.max(1) - 1 } else { last };
                if length > 0 && bytes[newest] == 0 {
                    continue;
                }
                let (row, kept) = torn_row(&sample, frame, image);
                judge.is(row, kept, image, &|| format!("frame {frame}, bytes {range:?}"));
            }
            if length < sealed.bytes {
                forward.at(sealed.position, sealed.bytes)[length] = bytes[length];
                backward.at(sealed.position, sealed.bytes)[last - 1] = bytes[last - 1];
            }
        }
    }
    judge.report(&["whole", "torn-first-frame", "torn-rolled", "torn-inside-block"]);
}

/// A disk writes the parts of a frame in any order: every set of sectors of each frame of one
/// block, and every set of blocks of a large frame, with each of its sectors torn.
#[test]
fn every_subset_of_the_parts_of_a_frame() {
    let small = sample();
    let mut judge = Judge::new(&small);
    for frame in [FULL, LAST] {
        every_subset(&mut judge, &small, frame, SECTOR_BYTES, None);
    }
    judge.report(&["whole", "torn-inside-block"]);
    // Six blocks behind one.
    let large = Sample::new(IDENTITY, 10, &[(1, &many(3)), (2, &many(1500))]);
    assert_eq!(large.frames[1].bytes, 6 * BLOCK_BYTES);
    let mut judge = Judge::new(&large);
    every_subset(&mut judge, &large, 1, BLOCK_BYTES, None);
    for block in 0..6 {
        for sectors in 1..8 {
            every_subset(&mut judge, &large, 1, BLOCK_BYTES, Some((block, sectors)));
        }
    }
    judge.report(&["whole", "torn-first-blocks", "torn-later-blocks", "torn-inside-block"]);
}

/// Every set of parts of one frame; where one is `torn`, it has so many sectors of its own.
fn every_subset(
    judge: &mut Judge,
    sample: &Sample,
    frame: usize,
    part_bytes: usize,
    torn: Option<(usize, usize)>,
) {
    let sealed = sample.frames[frame];
    let bytes = sample.frame_bytes(frame);
    for set in 0..1_u32 << (sealed.bytes / part_bytes) {
        let mut image = sample.before(frame);
        let onto = image.at(sealed.position, sealed.bytes);
        for part in (0..sealed.bytes / part_bytes).filter(|part| set >> part & 1 == 1) {
            let start = part * part_bytes;
            let length = match torn {
                Some((torn, sectors)) if torn == part => sectors * SECTOR_BYTES,
                _ => part_bytes,
            };
            onto[start..start + length].copy_from_slice(&bytes[start..start + length]);
        }
        let (row, kept) = torn_row(sample, frame, &image);
        judge.is(row, kept, &image, &|| format!("frame {frame}, parts {set:b}, torn {torn:?}"));
    }
}

/// The row of a log in which one bit is another, and how many records are read then.
fn flip_row(sample: &Sample, position: Position, bit: u32) -> (&'static str, usize) {
    let all = sample.truth.len();
    let Position { segment, offset } = position;
    // Headers are read when the segment is reached.
    let reached = [0, sample.records_through(ROLLED - 1), all][segment.0 as usize - 1];
    match offset {
        0..8 => return ("header-not-ours", reached),
        // Format 1 becomes format 0, which never was, or a newer one.
        8 if bit == 0 => return ("header-flipped", reached),
        8..10 => return ("header-newer", reached),
        10..BLOCK => return ("header-flipped", reached),
        _ => {}
    }
    let hit = sample.frames.iter().position(|frame| {
        let end = frame.position.offset + frame.bytes as u64;
        frame.position.segment == segment && (frame.position.offset..end).contains(&offset)
    });
    let Some(frame) = hit else {
        let is_behind_end = position >= further(sample.frames[LAST].position, 1);
        return if is_behind_end {
            ("flipped-behind-end", all)
        } else {
            ("flipped-unused-end", reached_before(sample, segment.0))
        };
    };
    let before = if frame == 0 { 0 } else { sample.records_through(frame - 1) };
    let at = (offset - sample.frames[frame].position.offset) as usize;
    match () {
        () if at >= sample.used_bytes(frame) => ("flipped-padding", before),
        // The one change that no log can tell from a torn write.
        () if frame == LAST => ("flipped-last-frame", before),
        () => ("flipped-frame", before),
    }
}

/// Records in the segments up to this one.
fn reached_before(sample: &Sample, segment: u64) -> usize {
    let frames = sample.frames.iter().rposition(|frame| frame.position.segment.0 <= segment);
    sample.records_through(frames.expect("every segment in use has a frame"))
}

#[test]
fn every_bit_flipped() {
    let sample = sample();
    let mut judge = Judge::new(&sample);
    for (index, bytes) in &sample.image.segments {
        for (offset, byte) in bytes.iter().enumerate() {
            // Zeros are alike; the large frame is uniform: one bit of each byte stands for all.
            let is_large = *index == 2 && (BLOCK_BYTES + 256..3 * BLOCK_BYTES).contains(&offset);
            let stands_for_all = *byte == 0 || is_large;
            if stands_for_all && !is_long() && !offset.is_multiple_of(5) {
                continue;
            }
            let one = offset as u32 % 8;
            let bits = if stands_for_all && !is_long() { one..one + 1 } else { 0..8 };
            for bit in bits {
                let mut image = sample.image.clone();
                image.segment(*index)[offset] ^= 1 << bit;
                let position = Position { segment: SegmentIndex(*index), offset: offset as u64 };
                let (row, kept) = flip_row(&sample, position, bit);
                judge.is(row, kept, &image, &|| format!("{position:?}, bit {bit}"));
            }
        }
    }
    judge.report(&[
        "flipped-behind-end",
        "flipped-frame",
        "flipped-last-frame",
        "flipped-padding",
        "flipped-unused-end",
        "header-flipped",
        "header-newer",
        "header-not-ours",
    ]);
}

/// A file that ends too early, as a copy does that was cut short; now and then with the files
/// behind it missing, too.
#[test]
fn every_file_cut_at_every_byte() {
    let sample = sample();
    let mut judge = Judge::new(&sample);
    for index in 1..=3 {
        let reached =
            [0, sample.records_through(ROLLED - 1), sample.truth.len()][index as usize - 1];
        for bytes in 0..5 * BLOCK_BYTES {
            let row = if bytes < BLOCK_BYTES { "cut-in-header" } else { "cut-behind-header" };
            let mut image = sample.image.clone();
            image.segment(index).truncate(bytes);
            if bytes % SECTOR_BYTES == 0 {
                image.segments.retain(|other, _| *other <= index);
            }
            judge.is(row, reached, &image, &|| format!("the log cut at {index}:{bytes}"));
        }
        // Whole files that are missing: behind some file, or in between.
        let mut image = sample.image.clone();
        image.segments.retain(|other, _| *other <= index);
        let kept = reached_before(&sample, index);
        judge.is("last-files-gone", kept, &image, &|| format!("nothing behind {index}"));
        let mut image = sample.image.clone();
        image.segments.remove(&index);
        let row = ["first-missing", "gap", "last-files-gone"][index as usize - 1];
        let kept = if index == 3 { sample.truth.len() } else { 0 };
        judge.is(row, kept, &image, &|| format!("no segment {index}"));
    }
    judge.report(&["cut-in-header", "cut-behind-header", "gap", "last-files-gone"]);
}

/// Everything behind some byte was never written, prepared segments included: the order in which
/// a disk that lies about its syncs may lose them. Headers are synced before their segment has a
/// name, so a log without one is refused.
#[test]
fn every_byte_from_which_on_all_is_zero() {
    let sample = sample();
    let mut judge = Judge::new(&sample);
    let mut image = sample.image.clone();
    for index in [3, 2, 1] {
        for offset in (0..5 * BLOCK_BYTES).rev() {
            if image.segment(index)[offset] == 0 {
                continue;
            }
            image.segment(index)[offset] = 0;
            let (records, verdict) = image.read();
            assert_eq!(sample.truth[..records.len()], records[..], "{index}:{offset}");
            let in_header = offset < BLOCK_BYTES;
            let row = match index {
                _ if in_header && offset < 8 => "header-not-ours",
                _ if in_header => "header-flipped",
                // The header behind is not there.
                _ => "header-not-ours",
            };
            assert_eq!(outcome(&verdict), outcome_of(row), "{index}:{offset}: {verdict:?}");
            judge.seen.entry(row.into()).and_modify(|seen| *seen += 1).or_insert(1);
        }
    }
    judge.report(&["header-not-ours", "header-flipped"]);
}

/// A frame is written where it does not belong, in place of its own place or beside it.
#[test]
fn every_frame_written_to_every_wrong_place() {
    let sample = sample();
    let mut refused = 0;
    for (frame, sealed) in sample.frames.iter().enumerate() {
        let bytes = sample.frame_bytes(frame);
        for (index, segment) in &sample.image.segments {
            for block in 0..=(segment.len() - sealed.bytes) / BLOCK_BYTES {
                let to = Position { segment: SegmentIndex(*index), offset: block as u64 * BLOCK };
                if to == sealed.position {
                    continue;
                }
                let place = format!("frame {frame} at {to:?}");
                // It was written twice, or the disk took another address for it, at its time or
                // with all that came later behind it.
                for (image, is_lost) in [
                    (sample.image.clone(), false),
                    (sample.image.clone(), true),
                    (sample.before(frame), false),
                ] {
                    let mut image = image;
                    if is_lost {
                        image.at(sealed.position, sealed.bytes).fill(0);
                    }
                    image.write(to, &bytes);
                    let (records, verdict) = image.read();
                    let refusal = outcome(&verdict);
                    assert!(matches!(refusal, Outcome::Refused(_)), "{place}: {verdict:?}");
                    assert_eq!(sample.truth[..records.len()], records[..], "{place}");
                    refused += 1;
                }
            }
        }
    }
    println!("{refused} images, each refused");
    assert!(refused > 100);
}

/// Each call of the storage fails once: it is told, nothing is changed, and the next start finds
/// everything.
#[test]
fn every_call_of_the_storage_failing() {
    let sample = sample();
    let mut images = vec![("whole", sample.truth.len(), sample.image.clone())];
    let last = sample.frames[LAST];
    let mut torn = sample.image.clone();
    torn.at(last.position, last.bytes)[300..].fill(0);
    images.push(("torn-inside-block", sample.records_through(LAST - 1), torn));
    let mut torn = sample.before(ROLLED);
    let large = sample.frame_bytes(ROLLED);
    torn.write(further(first_of(2), 1), &large[BLOCK_BYTES..]);
    torn.write(first_of(2), &large[..SECTOR_BYTES]);
    images.push(("torn-rolled", sample.records_through(ROLLED - 1), torn));
    let mut failed = BTreeMap::new();
    for (row, kept, image) in images {
        let mut judge = Judge::new(&sample);
        judge.is(row, kept, &image, &|| "without a failure".into());
        for call in 0.. {
            let disk = Disk::new(image.clone()).failing(call);
            let (records, verdict) = disk.read();
            assert_eq!(sample.truth[..records.len()], records[..]);
            let error = match verdict {
                Err(error) => error,
                Ok(recovered) => match recovered.torn.map(|torn| repair_torn_tail(&disk, &torn)) {
                    Some(Err(error)) => error,
                    // The last call was made, and none failed.
                    _ => break,
                },
            };
            let calls = disk.calls();
            let kind = *calls.last().expect("one failed");
            let row = match kind {
                Call::List => "list-fails",
                Call::Read => "read-fails",
                Call::Zero => "repair-fails",
            };
            assert_eq!(outcome(&Err(error)), outcome_of(row), "call {call}");
            assert!(calls.len() <= call + 2, "after a failure one read ahead may come, no more");
            assert_eq!(disk.image(), image);
            *failed.entry(row).or_insert(0) += 1;
        }
        every_repair_cut_short(&mut judge, kept, &image);
    }
    println!("{failed:?}");
    assert_eq!(failed.len(), 3, "{failed:?}");
}

/// The zeros over a torn tail are themselves cut short at every sector.
fn every_repair_cut_short(judge: &mut Judge, kept: usize, image: &Image) {
    let disk = Disk::new(image.clone());
    let Some(torn) = disk.read().1.expect("it is accepted").torn else { return };
    for sectors in 0..=torn.bytes as usize / SECTOR_BYTES {
        let disk = Disk::new(image.clone()).failing_behind(0, sectors * SECTOR_BYTES);
        repair_torn_tail(&disk, &torn).expect_err("it fails");
        let again = disk.image();
        let disk = Disk::new(again.clone());
        let (_, verdict) = disk.read();
        let torn = verdict.unwrap_or_else(|error| panic!("behind {sectors} sectors: {error}")).torn;
        if let Some(torn) = torn {
            repair_torn_tail(&disk, &torn).expect("it works now");
        }
        judge.goes_on(disk.image(), kept).unwrap_or_else(|why| panic!("{sectors} sectors: {why}"));
    }
}

/// As many reads as a log of several pieces takes, each failing once.
#[test]
fn every_read_of_a_long_log_failing() {
    let records = many(17_000);
    let image = {
        let mut image = Image::new(IDENTITY, 2, 1200);
        for time in 1..=9 {
            image.commit(time, &records);
        }
        image
    };
    let disk = Disk::new(image.clone());
    let (whole, verdict) = disk.read();
    assert_eq!(outcome(&verdict), Outcome::Clean);
    let calls = disk.calls().len();
    assert!(calls > 5, "{calls} calls");
    for call in 0..calls {
        let disk = Disk::new(image.clone()).failing(call);
        let (records, verdict) = disk.read();
        assert_eq!(outcome(&verdict), Outcome::Refused("Io".into()), "call {call}");
        assert_eq!(whole[..records.len()], records[..], "call {call}");
    }
}

/// The judge sees a wrong verdict, a lost record, a changed one, and a log that does not go on.
#[test]
fn canary_wrong_recoveries_are_seen() {
    let sample = sample();
    let all = sample.truth.len();
    let last = sample.frames[LAST];
    let mut judge = Judge::new(&sample);
    assert_eq!(judge.judge("whole", all, &sample.image), Ok(()));
    assert!(judge.judge("flipped-frame", all, &sample.image).is_err(), "a wrong verdict");
    assert!(judge.judge("whole", all, &sample.before(LAST)).is_err(), "a lost frame");
    // As a recovery would take it that does not look at the CRC.
    let mut changed = sample.image.clone();
    changed.forge(&last, |frame| frame[90] ^= 1);
    let why = judge.judge("whole", all, &changed).expect_err("a changed record");
    assert!(why.contains("no prefix"), "{why}");
    // A repair that leaves a byte behind.
    let mut left = sample.image.clone();
    left.at(further(last.position, 1), 100)[99] = 1;
    assert!(judge.goes_on(left, all).is_err(), "a torn tail that is left");
}
