//! The audit on snapshots of whatever an engine can come to: holds that were released, extended,
//! expired and confirmed in part, cancelled orders, fences, restocks, archived sales.
//!
//! The engine writes the log and the snapshots; the audit, which shares no code with it, must find
//! that they say the same. The cases are drawn from a fixed seed, so a failure is there again. That
//! the audit does find what differs is shown, field by field, in `tests/snapshot_tools.rs`.

#[path = "support/engine_steps.rs"]
#[allow(dead_code, reason = "each test program uses its own part of this")]
mod steps;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::mem::discriminant;
use std::num::NonZeroU16;
use std::os::unix::fs::FileExt;
use std::path::Path;

use boxoffice::audit::audit;
use boxoffice::engine::{Decision, Engine, HashSeed};
use boxoffice::model::{Command, Lsn, Record, ShardIndex, TimeMs};
use boxoffice::wal::snapshot::{SnapshotHeader, SnapshotWriter, snapshot_path};
use boxoffice::wal::{
    Batch, FRAME_BYTES_MAX, FileStorage, Identity, LogId, LogWriter, Position, Segment,
    SegmentIndex, prepare_segment, recover, segment_path, shard_dir,
};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use steps::{START, Step, prologue, send, steps};

const CASES: usize = 60;

const IDENTITY: Identity =
    Identity { log: LogId(7), shard: ShardIndex(0), shards: NonZeroU16::MIN };

/// What an engine decides when it takes these steps, and when.
fn records(steps: &[Step]) -> Vec<(TimeMs, Record)> {
    let mut engine = Engine::new(HashSeed([1, 2]));
    let mut now = START;
    let mut log = Vec::new();
    let mut sent: Vec<Command> = Vec::new();
    for step in steps {
        let command = match step {
            Step::Command(command) => {
                sent.push(command.as_ref().clone());
                sent.last().cloned()
            }
            Step::Again(index) if !sent.is_empty() => Some(index.get(&sent).clone()),
            Step::Again(_) => None,
            Step::Pass(ms) => {
                now.0 = now.0.saturating_add(*ms).min(START.0 * 2);
                None
            }
            Step::Expire(_) => None,
        };
        let decided = command.map(|command| engine.decide(&command, now));
        if let Some(Ok(Decision::Commit(record))) = decided {
            engine.apply(&record);
            log.push((now, record));
        }
        let Step::Expire(count) = step else { continue };
        for _ in 0..*count {
            while engine.next_expiry().is_some_and(|next| next <= now) {
                let Some(record) = engine.poll_expired(now) else { continue };
                engine.apply(&record);
                log.push((now, record));
                break;
            }
        }
    }
    log
}

/// Writes the log, a frame for each record, and a snapshot behind each of these.
fn write(data_dir: &Path, log: &[(TimeMs, Record)], snapshots_at: &BTreeSet<usize>) {
    let dir = shard_dir(data_dir, ShardIndex(0));
    fs::create_dir(&dir).expect("a directory");
    let segment = Segment { index: SegmentIndex::FIRST, bytes: 4096 * (log.len() as u64 + 2) };
    prepare_segment(&dir, IDENTITY, segment).expect("a segment");
    let storage = FileStorage::open(&dir).expect("a log");
    let recovered = recover(&storage, Some(IDENTITY), |_| ()).expect("an empty log");
    let mut writer = LogWriter::new(&recovered);
    let mut batch = Batch::new(vec![0; FRAME_BYTES_MAX]);
    let mut engine = Engine::new(HashSeed([3, 4]));
    let path = segment_path(&dir, SegmentIndex::FIRST);
    let file = OpenOptions::new().write(true).open(path).expect("it opens");
    for (index, (time, record)) in log.iter().enumerate() {
        let lsn = writer.append(&mut batch, *time, record).expect("room in the batch");
        let sealed = writer.seal(&mut batch).expect("room in the segment");
        let frame = &batch.buffer()[..sealed.bytes];
        file.write_all_at(frame, sealed.position.offset).expect("it is written");
        let previous_crc = u32::from_le_bytes(frame[52..56].try_into().expect("four bytes"));
        let offset = sealed.position.offset + sealed.bytes as u64;
        writer.complete();
        batch.clear();
        engine.apply(record);
        engine.reclaim();
        if snapshots_at.contains(&index) {
            let position = Position { segment: SegmentIndex::FIRST, offset };
            let (last_lsn, last_time) = (lsn, *time);
            let identity = IDENTITY;
            let header = SnapshotHeader { identity, last_lsn, position, previous_crc, last_time };
            snapshot(&dir, lsn, &header, &engine);
        }
    }
}

fn snapshot(dir: &Path, lsn: Lsn, header: &SnapshotHeader, engine: &Engine) {
    let file = fs::File::create(snapshot_path(dir, lsn)).expect("a file");
    let mut writer = SnapshotWriter::new(file, header).expect("a header");
    for part in engine.export() {
        writer.part(&part).expect("a part");
    }
    writer.finish().expect("a trailer");
}

#[test]
fn whatever_an_engine_comes_to_its_snapshot_and_its_log_agree() {
    let mut runner = TestRunner::deterministic();
    let mut kinds = Vec::new();
    for case in 0..CASES {
        let drawn = steps().new_tree(&mut runner).expect("steps are drawn").current();
        let all: Vec<Step> = prologue().into_iter().map(send).chain(drawn).collect();
        let log = records(&all);
        for (_, record) in &log {
            if !kinds.contains(&discriminant(record)) {
                kinds.push(discriminant(record));
            }
        }
        let last = log.len() - 1;
        let snapshots_at = BTreeSet::from([last / 3, last / 2, last * 3 / 4, last]);
        let home = tempfile::tempdir().expect("a directory");
        write(home.path(), &log, &snapshots_at);
        let report = audit(home.path()).expect("there is a log");
        assert!(report.is_clean(), "case {case}: {report}");
        assert_eq!(report.shards[0].snapshots.len(), snapshots_at.len(), "case {case}");
    }
    assert!(kinds.len() >= 12, "only {} kinds of records came", kinds.len());
}
