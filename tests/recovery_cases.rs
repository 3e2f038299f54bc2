//! The table of recovery cases (`src/wal/recovery_cases.md`), completely: each row has a case
//! here, each case a row, and each image of a case the outcome of its row. Beyond the verdict: what
//! is read is a prefix of what was written, a log that is accepted can be repaired and goes on, and
//! a refused one is left as it was.

#[path = "support/log_image.rs"]
mod log_image;
#[path = "support/log_memory.rs"]
#[allow(dead_code, reason = "only the identity and the sample records are used")]
mod log_memory;

use std::collections::BTreeSet;

use boxoffice::model::{Lsn, Record};
use boxoffice::wal::{
    BLOCK_BYTES, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, LogStart, Position, SealedFrame, Segment,
    SegmentIndex, repair_torn_tail,
};
use log_image::{
    Call, Disk, Image, Outcome, Read, Sample, expired, first_of, further, many, outcome,
    outcome_of, recovery_table,
};
use log_memory::{IDENTITY, samples};

/// What a row stands for: an image, what must be read of it, and a word of the message.
struct Case {
    row: &'static str,
    image: Image,
    /// The snapshot behind which it is read.
    start: Option<LogStart>,
    /// The call of the storage that fails.
    failing: Option<Call>,
    /// What was written, and how much of it is read.
    truth: Vec<Read>,
    kept: usize,
    says: &'static str,
}

/// `[header f0 f1 f2 -] [header f3 f3 f4 -] [header -]`
fn sample() -> Sample {
    let records: Vec<Record> = samples().into_iter().map(|(_, record)| record).collect();
    // Two blocks, which do not fit the one that is left.
    let large = many(300);
    let commits = [
        (10, &records[..2]),
        (10, &records[2..4]),
        (10, &records[4..5]),
        (11, &large),
        (12, &records[5..]),
    ];
    Sample::new(IDENTITY, 5, &commits)
}

const FIRST: usize = 0;
const MIDDLE: usize = 1;
const ROLLED: usize = 3;
const LAST: usize = 4;

/// A change of a frame's or a header's bytes.
type Change = fn(&mut [u8]);

/// A builder of cases on one sample.
struct Cases {
    sample: Sample,
    cases: Vec<Case>,
}

impl Cases {
    /// A case in which all that was written is read.
    fn all(&mut self, row: &'static str, says: &'static str, change: impl FnOnce(&mut Image)) {
        self.kept(row, self.sample.truth.len(), says, change);
    }

    /// A case in which the records of the frames before this one are read.
    fn before(
        &mut self,
        row: &'static str,
        frame: usize,
        says: &'static str,
        change: impl FnOnce(&mut Image),
    ) {
        let kept = if frame == 0 { 0 } else { self.sample.records_through(frame - 1) };
        self.kept(row, kept, says, change);
    }

    fn kept(
        &mut self,
        row: &'static str,
        kept: usize,
        says: &'static str,
        change: impl FnOnce(&mut Image),
    ) {
        let sample = self.sample.clone();
        self.of(&sample, row, kept, says, change);
    }

    /// A case on another sample.
    fn of(
        &mut self,
        sample: &Sample,
        row: &'static str,
        kept: usize,
        says: &'static str,
        change: impl FnOnce(&mut Image),
    ) {
        let mut image = sample.image.clone();
        change(&mut image);
        let truth = sample.truth.clone();
        self.cases.push(Case { row, image, start: None, failing: None, truth, kept, says });
    }

    fn failing(&mut self, row: &'static str, call: Call, kept: usize, says: &'static str) {
        self.kept(row, kept, says, |_| ());
        self.cases.last_mut().expect("it was put in").failing = Some(call);
    }

    /// The last frame, and where it and the next one go.
    fn last(&self) -> (SealedFrame, Vec<u8>, Position) {
        let last = self.sample.frames[LAST];
        (last, self.sample.frame_bytes(LAST), further(last.position, 1))
    }
}

/// Logs that end as logs end.
fn endings(cases: &mut Cases) {
    cases.all("whole", "", |_| ());
    cases.before("empty", FIRST, "", |image| *image = Image::new(IDENTITY, 1, 5));
    let full = Sample::new(IDENTITY, 4, &[(1, &many(1)), (1, &many(2)), (1, &many(1))]);
    cases.of(&full, "full", 4, "", |image| {
        image.segments.retain(|index, _| *index == 1);
    });
    cases.before("last-files-gone", ROLLED, "", |image| {
        image.segments.retain(|index, _| *index == 1);
    });
}

/// What a crash leaves of the frame that was being written.
fn torn_tails(cases: &mut Cases) {
    let sample = cases.sample.clone();
    let large = sample.frame_bytes(ROLLED);
    let rolled = sample.frames[ROLLED].position;
    for (row, from, to) in [
        ("torn-rolled", 0, BLOCK_BYTES),
        ("torn-rolled", BLOCK_BYTES, BLOCK_BYTES + 100),
        ("torn-rolled", 700, 800),
    ] {
        cases.before(row, ROLLED, "", |image| {
            *image = sample.before(ROLLED);
            image.at(rolled, to)[from..].copy_from_slice(&large[from..to]);
        });
    }
    // The large frame where the segment has room for it.
    let roomy = Sample::new(IDENTITY, 9, &[(1, &[expired(1)]), (2, &many(300))]);
    let position = roomy.frames[1].position;
    let mut torn = |row, from, to| {
        let large = roomy.frame_bytes(1);
        cases.of(&roomy, row, 1, "", |image| {
            *image = roomy.before(1);
            image.at(position, to)[from..].copy_from_slice(&large[from..to]);
        });
    };
    torn("torn-first-blocks", 0, BLOCK_BYTES);
    torn("torn-later-blocks", BLOCK_BYTES, 2 * BLOCK_BYTES);
    torn("torn-inside-block", 0, 1);
    torn("torn-inside-block", 0, 60);
    torn("torn-inside-block", 512, 1024);
    cases.before("torn-first-frame", FIRST, "", |image| {
        *image = sample.before(FIRST);
        image.write(first_of(1), &sample.frame_bytes(FIRST)[..40]);
    });
}

/// What looks like a torn write, and may be one.
fn tails_that_look_torn(cases: &mut Cases) {
    let sample = cases.sample.clone();
    let (last, bytes, next) = cases.last();
    for at in [0, 4, 8, 30, 41, 45, 50, 53, FRAME_HEADER_BYTES, sample.used_bytes(LAST) - 1] {
        cases.before("flipped-last-frame", LAST, "", |image| {
            image.at(last.position, last.bytes)[at] ^= 1;
        });
    }
    cases.all("flipped-behind-end", "", |image| image.at(next, 300)[299] = 4);
    cases.all("flipped-behind-end", "", |image| image.at(first_of(3), 1)[0] = 1);
    cases.all("size-impossible", "", |image| {
        image.write(next, &bytes);
        image.at(next, 48)[44..].copy_from_slice(&(FRAME_BYTES_MAX as u32).to_le_bytes());
    });
    cases.all("size-beyond-segment", "", |image| {
        image.write(next, &bytes);
        image.at(next, 48)[44..].copy_from_slice(&9000_u32.to_le_bytes());
    });
}

/// What was durable is no longer what was written.
fn changed_frames(cases: &mut Cases) {
    let sample = cases.sample.clone();
    let last = sample.frames[LAST];
    for frame in [FIRST, MIDDLE, ROLLED] {
        let position = sample.frames[frame].position;
        for at in [0, 20, 60] {
            cases.before("flipped-frame", frame, "chain of frames ends here", |image| {
                image.at(position, 100)[at] ^= 0x10;
            });
        }
        let padding = sample.frames[frame].bytes - 1;
        cases.before("flipped-padding", frame, "padding is not zero", |image| {
            image.at(position, padding + 1)[padding] = 1;
        });
        let size = sample.frames[frame].bytes;
        cases.before("lost-frame", frame, "what lay before it is lost", |image| {
            image.at(position, size).fill(0);
        });
    }
    cases.before("flipped-padding", LAST, "padding is not zero", |image| {
        image.at(last.position, last.bytes)[BLOCK_BYTES - 1] = 1;
    });
    let unused = further(first_of(1), 3);
    cases.before("flipped-unused-end", ROLLED, "what lay before it is lost", |image| {
        image.at(unused, 1)[0] = 1;
    });
    let stale = sample.frame_bytes(FIRST);
    cases.before("stale-over-frame", MIDDLE, "was written here a second time", |image| {
        image.write(sample.frames[MIDDLE].position, &stale);
    });
}

/// Whole frames where no write of this log puts them.
fn wrong_places(cases: &mut Cases) {
    let sample = cases.sample.clone();
    let (last, bytes, next) = cases.last();
    let following = sample.truth.len() as u64 + 1;
    let stray = "none of this log's";
    let mut next_frame = |row, change: fn(&mut [u8])| {
        cases.all(row, stray, |image| {
            image.write(next, &bytes);
            image.forge(&SealedFrame { position: next, ..last }, |frame| {
                frame[24..32].copy_from_slice(&following.to_le_bytes());
                change(frame);
            });
        });
    };
    next_frame("foreign-frame", |frame| frame[8] ^= 1);
    next_frame("version-zero", |frame| frame[4] = 0);
    for (row, change) in [("foreign-frame", 8), ("version-zero", 4)] {
        cases.before(row, LAST, stray, |image| image.forge(&last, |frame| frame[change] ^= 1));
        cases.before(row, MIDDLE, stray, |image| {
            image.forge(&sample.frames[MIDDLE], |frame| frame[change] ^= 1);
        });
    }
    let again = "was written here a second time";
    for stale in [FIRST, MIDDLE, LAST] {
        let stale = sample.frame_bytes(stale);
        cases.all("stale-frame", again, |image| image.write(next, &stale));
        cases.all("stale-frame", again, |image| image.write(first_of(3), &stale));
    }
    let stale = sample.frame_bytes(FIRST);
    cases.before("stale-frame", LAST, again, |image| image.write(last.position, &stale));
    cases.before("next-misplaced", LAST, "what lay before it is lost", |image| {
        image.at(last.position, last.bytes).fill(0);
        image.write(next, &bytes);
    });
    cases.before("later-behind-torn", LAST, "what lay before it is lost", |image| {
        image.at(last.position, last.bytes)[100..].fill(0);
        image.write(next, &bytes);
    });
}

/// Bytes where no write can have gone.
fn junk(cases: &mut Cases) {
    let (_, _, next) = cases.last();
    cases.all("junk-in-two-segments", "nothing was written yet", |image| {
        image.at(next, 1)[0] = 1;
        image.at(first_of(3), 1)[0] = 1;
    });
    cases.all("junk-in-second-segment", "nothing was written yet", |image| {
        image.prepare(Segment { index: SegmentIndex(4), bytes: 5 * 4096 });
        image.at(first_of(4), 1)[0] = 1;
    });
    let wide = Sample::new(IDENTITY, FRAME_BYTES_MAX as u64 / 4096 + 9, &[(1, &many(3))]);
    let far = further(first_of(1), 1 + FRAME_BYTES_MAX as u64 / 4096);
    let near = further(first_of(1), FRAME_BYTES_MAX as u64 / 4096);
    let mut distant = |row, says, position, bytes: &[u8]| {
        cases.of(&wide, row, 3, says, |image| image.write(position, bytes));
    };
    distant("junk-out-of-reach", "nothing was written yet", far, &[1]);
    distant("stale-frame", "was written here a second time", far, &wide.frame_bytes(0));
    distant("flipped-behind-end", "", near, &[1]);
}

/// The next frame, with a fitting CRC over what the writer never writes.
fn impossible_frames(cases: &mut Cases) {
    let (last, ..) = cases.last();
    let forgeries: [(&str, &str, Change); 9] = [
        ("later-behind-gap", "what lay before it is lost", |frame| frame[24] += 1),
        ("overlap", "what lay before it is lost", |frame| frame[24] -= 1),
        ("other-segment", "written for segment 3", |frame| frame[16] = 3),
        ("other-previous", "does not follow the frame before", |frame| frame[48] ^= 1),
        ("time-back", "is before the last one", |frame| frame[32] -= 2),
        ("count-wrong", "records, not", |frame| frame[40] += 1),
        ("count-zero", "records, not 0", |frame| frame[40..44].fill(0)),
        ("record-unknown", "no record has the tag 200", |frame| frame[FRAME_HEADER_BYTES] = 200),
        ("record-cut", "the record is cut off", |frame| frame[FRAME_HEADER_BYTES + 2] = 0xff),
    ];
    for (row, says, change) in forgeries {
        // The records of a frame are handed out before they are counted.
        let kept = if row.starts_with("count") { LAST + 1 } else { LAST };
        cases.before(row, kept, says, |image| image.forge(&last, change));
    }
    cases.before("frame-newer", LAST, "log format 2", |image| {
        image.forge(&last, |frame| frame[4] = 2);
    });
}

/// Files that are missing, cut, or something else.
fn files(cases: &mut Cases) {
    cases.before("no-segment", FIRST, "needs segment 1", |image| image.segments.clear());
    cases.before("first-missing", FIRST, "needs segment 1", |image| {
        image.segments.remove(&1);
    });
    cases.before("gap", FIRST, "needs segment 2", |image| {
        image.segments.remove(&2);
    });
    // What is wrong with a segment is found when it is read, behind those before it; so it is the
    // same for segments in use and for prepared ones.
    for (index, kept) in [(1, FIRST), (2, ROLLED), (3, LAST + 1)] {
        let mut wrong = |row, says, change: &dyn Fn(&mut Image)| {
            cases.before(row, kept, says, change);
        };
        for bytes in [0, 1, BLOCK_BYTES - 1] {
            wrong("cut-in-header", "bytes", &|image| image.segment(index).truncate(bytes));
        }
        for bytes in [BLOCK_BYTES, 2 * BLOCK_BYTES + 1, 5 * BLOCK_BYTES - 1] {
            wrong("cut-behind-header", "header is that of segment", &|image| {
                image.segment(index).truncate(bytes);
            });
        }
        for bytes in [5 * BLOCK_BYTES + 1, 6 * BLOCK_BYTES] {
            wrong("grown", "header is that of segment", &|image| {
                image.segment(index).resize(bytes, 0);
            });
        }
        wrong("header-not-ours", "is not a segment", &|image| image.segment(index)[..8].fill(0));
        wrong("header-not-ours", "is not a segment", &|image| image.segment(index)[0] ^= 1);
        wrong("header-newer", "log format 2", &|image| image.segment(index)[8] = 2);
        for at in [10, 16, 24, 32, 100, BLOCK_BYTES - 1] {
            wrong("header-flipped", "header is not intact", &|image| {
                image.segment(index)[at] ^= 1;
            });
        }
        let impossible: [Change; 5] = [
            |header| header[8] = 0,
            |header| header[10] = 2,
            |header| header[12..14].fill(0),
            |header| header[32..40].copy_from_slice(&4096_u64.to_le_bytes()),
            |header| header[32] = 1,
        ];
        for change in impossible {
            wrong("header-impossible", "header is not intact", &|image| {
                image.forge_header(index, change);
            });
        }
    }
}

/// Whole segments that are not the ones that belong there.
fn other_segments(cases: &mut Cases) {
    for (index, kept) in [(1, FIRST), (2, ROLLED), (3, LAST + 1)] {
        let mut wrong = |row, says, change: Change| {
            cases.before(row, kept, says, |image| image.forge_header(index, change));
        };
        wrong("header-other-index", "that of segment 9", |header| header[24] = 9);
        wrong("header-other-log", "two data directories", |header| header[16] ^= 1);
        let other = "by shard 0 of 2, not by shard 1 of 2";
        wrong("header-other-shard", other, |header| header[10] = 0);
        let other = "by shard 1 of 3, not by shard 1 of 2";
        wrong("header-other-count", other, |header| header[12] = 3);
    }
}

/// Logs that are read behind a snapshot.
fn behind_a_snapshot(cases: &mut Cases) {
    let sample = cases.sample.clone();
    let mut from = |row, start: LogStart, says, change: &dyn Fn(&mut Image)| {
        // What is read is what comes behind the snapshot, and there may be none of it.
        let kept = match outcome_of(row) {
            Outcome::Refused(_) => 0,
            Outcome::Torn => sample.records_through(LAST - 1),
            Outcome::Clean => sample.truth.len(),
        };
        let kept = kept.saturating_sub(start.next_lsn.0 as usize - 1);
        cases.kept(row, kept, says, change);
        cases.cases.last_mut().expect("it was put in").start = Some(start);
    };
    for frame in [FIRST, MIDDLE, ROLLED - 1, ROLLED] {
        let start = sample.start_behind(frame);
        from("start-inside", start, "", &|_| ());
        from("start-alone", start, "", &|image| {
            image.segments.retain(|index, _| *index >= start.position.segment.0);
        });
        from("start-torn", start, "", &|image| {
            let last = sample.frames[LAST];
            image.at(last.position, last.bytes)[100] ^= 1;
        });
        from("start-segment-missing", start, "needs segment", &|image| {
            image.segments.remove(&start.position.segment.0);
        });
        let other = LogStart { previous_crc: !start.previous_crc, ..start };
        from("start-other", other, "does not follow the frame before", &|_| ());
        let next_lsn = start.next_lsn.next();
        from("start-earlier", LogStart { next_lsn, ..start }, "lost", &|_| ());
        let behind = sample.start_behind(LAST).next_lsn;
        let later = LogStart { next_lsn: behind, ..start };
        from("start-earlier", later, "", &|_| ());
        let next_lsn = Lsn(start.next_lsn.0 - 1);
        from("start-later", LogStart { next_lsn, ..start }, "lost", &|_| ());
        let position = Position { offset: 5 * BLOCK_BYTES as u64 + 1, ..start.position };
        from("start-outside", LogStart { position, ..start }, "ends before", &|_| ());
    }
    from("start-at-end", sample.start_behind(LAST), "", &|_| ());
}

fn cases() -> Vec<Case> {
    let mut cases = Cases { sample: sample(), cases: Vec::new() };
    let parts = [
        endings,
        torn_tails,
        tails_that_look_torn,
        changed_frames,
        wrong_places,
        junk,
        impossible_frames,
        files,
        other_segments,
        behind_a_snapshot,
    ];
    for part in parts {
        part(&mut cases);
    }
    cases.failing("list-fails", Call::List, 0, "list the segments");
    cases.failing("read-fails", Call::Read, 0, "read the log");
    let torn = cases.sample.records_through(LAST - 1);
    cases.failing("repair-fails", Call::Zero, torn, "zero the torn tail");
    let last = cases.sample.frames[LAST];
    let repair = cases.cases.last_mut().expect("it was put in");
    repair.image.at(last.position, last.bytes)[70] ^= 1;
    cases.cases
}

/// Recovers a case's image, repairs it where that is its way, and judges what comes of it.
fn judge(case: &Case) -> Result<(), String> {
    let disk = Disk::new(case.image.clone());
    let disk = match case.failing {
        None => disk,
        Some(Call::List) => disk.failing(0),
        Some(Call::Read) => disk.failing(1),
        // Behind the list and three segments.
        Some(Call::Zero) => disk.failing(4),
    };
    let (records, mut verdict) = disk.read_from(case.start);
    let torn = verdict.as_ref().ok().and_then(|recovered| recovered.torn);
    let repaired = torn.map(|torn| repair_torn_tail(&disk, &torn));
    if let Some(Err(error)) = repaired {
        verdict = Err(error);
    }
    let found = outcome(&verdict);
    let expected = outcome_of(case.row);
    if found != expected {
        return Err(format!("{found:?} in place of {expected:?}: {verdict:?}"));
    }
    let before = case.start.map_or(0, |start| start.next_lsn.0 as usize - 1);
    let written = case.truth.get(before..).unwrap_or_default();
    if written.get(..records.len()) != Some(&records[..]) || records.len() != case.kept {
        return Err(format!("{} records are read, not {}", records.len(), case.kept));
    }
    match verdict {
        Ok(_) => goes_on(&disk.image(), case),
        Err(error) if !error.to_string().contains(case.says) => Err(error.to_string()),
        Err(_) if disk.image() != case.image => Err("a refused log was changed".into()),
        Err(_) => Ok(()),
    }
}

/// Whether a log, repaired, is clean, has as many records as before, and takes another one.
fn goes_on(image: &Image, case: &Case) -> Result<(), String> {
    let (records, verdict) = Disk::new(image.clone()).read_from(case.start);
    if (records.len(), outcome(&verdict)) != (case.kept, Outcome::Clean) {
        return Err(format!("it is not repaired: {verdict:?}"));
    }
    let mut recovered = verdict.map_err(|error| error.to_string())?;
    let mut image = image.clone();
    if recovered.prepared.is_empty() {
        let index = recovered.segment.index.next();
        let next = Segment { index, bytes: 5 * BLOCK_BYTES as u64 };
        image.prepare(next);
        recovered.prepared.push(next);
    }
    image.commit_behind(&recovered, recovered.last_time.0, &[expired(1)]);
    let (records, verdict) = Disk::new(image).read_from(case.start);
    match (records.len(), outcome(&verdict)) {
        (again, Outcome::Clean) if again == case.kept + 1 => Ok(()),
        _ => Err(format!("it does not go on: {verdict:?}")),
    }
}

#[test]
fn every_case_has_the_outcome_of_its_row() {
    let failures: Vec<String> = cases()
        .iter()
        .filter_map(|case| judge(case).err().map(|why| format!("{}: {why}", case.row)))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_row_has_a_case_and_every_case_a_row() {
    let rows: Vec<String> = recovery_table().into_iter().map(|(row, _)| row).collect();
    let named: BTreeSet<&str> = rows.iter().map(String::as_str).collect();
    assert_eq!(named.len(), rows.len(), "a row is there once");
    let tested: BTreeSet<&str> = cases().iter().map(|case| case.row).collect();
    assert_eq!(tested, named);
}

/// Each way to end that the code has stands in the table.
#[test]
fn every_outcome_has_a_row() {
    let outcomes: Vec<Outcome> = recovery_table().into_iter().map(|(_, outcome)| outcome).collect();
    let errors = include_str!("../src/wal/error.rs");
    let variants = errors.lines().filter_map(|line| {
        let name = line.strip_prefix("    ")?.strip_suffix(" {")?;
        // Which snapshot to begin with is chosen before any of this; `tests/snapshots.rs` has that.
        if name == "NoSnapshot" {
            return None;
        }
        name.chars().all(char::is_alphanumeric).then(|| Outcome::Refused(name.to_owned()))
    });
    let all: Vec<Outcome> = [Outcome::Clean, Outcome::Torn].into_iter().chain(variants).collect();
    assert_eq!(all.len(), 9, "{all:?}");
    for outcome in &all {
        assert!(outcomes.contains(outcome), "{outcome:?} is in no row");
    }
    assert!(outcomes.iter().all(|outcome| all.contains(outcome)));
}

/// The judge sees each way in which a recovery can be wrong.
#[test]
fn canary_wrong_recoveries_are_seen() {
    let sample = sample();
    let last = sample.frames[LAST];
    let whole = |row, kept| {
        let image = sample.image.clone();
        let truth = sample.truth.clone();
        Case { row, image, start: None, failing: None, truth, kept, says: "" }
    };
    assert!(judge(&whole("whole", sample.truth.len())).is_ok());
    let wrong_verdict = judge(&whole("flipped-frame", sample.truth.len())).expect_err("seen");
    assert!(wrong_verdict.contains("in place of"), "{wrong_verdict}");
    let wrong_count = judge(&whole("whole", sample.truth.len() - 1)).expect_err("seen");
    assert!(wrong_count.contains("records are read"), "{wrong_count}");
    // As a recovery that does not look at the CRC would take it: an account's byte is another.
    let mut accepted = whole("whole", sample.truth.len());
    accepted.image.forge(&last, |frame| frame[FRAME_HEADER_BYTES + 40] ^= 1);
    let silent = judge(&accepted).expect_err("seen");
    assert!(silent.contains("records are read"), "{silent}");
    let mut unsaid = whole("header-flipped", 0);
    unsaid.image.segment(1)[100] = 1;
    unsaid.says = "something else";
    assert!(judge(&unsaid).is_err(), "a message that does not say it is seen");
}
