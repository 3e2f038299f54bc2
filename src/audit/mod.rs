//! The judge: reads the logs of a data directory and checks every rule of a sale at every record.
//!
//! It shares no code with the engine, on purpose: the two were written from the same promises,
//! and a mistake in one shows as a violation in the other. It knows the log alone, changes
//! nothing, takes no lock, and goes on past what it finds, so that one broken record does not
//! hide the next.
//!
//! A log whose beginning is gone is judged from its oldest sound snapshot on, after the snapshot
//! itself. Where the log has what a snapshot covers, the two must say the same.
//!
//! | file | owns |
//! |---|---|
//! | `rules` | the names of the rules |
//! | `book` | the books of one sale, kept record by record |
//! | `snapshot`, `trace` | books made of a snapshot, and held against those of the log |
//! | `stock`, `buyers` | its items' counters; its accounts' limits, request ids and fences |
//! | `report` | what was found, for people and for `--json` |

mod book;
mod buyers;
mod report;
mod rules;
mod snapshot;
mod stock;
mod trace;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::{Lsn, Record, SaleId, ShardIndex, TimeMs};
use crate::wal::snapshot::{SnapshotError, SnapshotFile, SnapshotHeader, open_snapshot, snapshots};
use crate::wal::{
    Entry, FileStorage, Identity, LogStart, LogStorage, SegmentIndex, WalError, log_identity,
    recover_from, shard_dirs,
};

use book::SaleBook;
use rules::{Finding, Findings};
use snapshot::{Loaded, Loader, differences};

pub use report::{
    ItemReport, OrderCounts, Report, SaleReport, ShardReport, SnapshotReport, TornReport,
    VIOLATIONS_LISTED_MAX, Violation,
};
pub use rules::Rule;

/// Why there is nothing to audit.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The directory has no shard.
    #[error(
        "{} has no log: there is no directory shard-000 in it. Give the data directory that \
         `boxoffice serve` was started with",
        dir.display()
    )]
    NoLog {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory cannot be read.
    #[error(transparent)]
    Unreadable(#[from] WalError),
}

/// Audits every shard in `data_dir`.
///
/// A log that is damaged is read up to there: its shard's report says so, and the report is not
/// clean. The time and memory grow with the orders and request ids in the log.
pub fn audit(data_dir: &Path) -> Result<Report, AuditError> {
    let shards = shard_dirs(data_dir)?;
    if shards.is_empty() {
        return Err(AuditError::NoLog { dir: data_dir.to_path_buf() });
    }
    let mut report = Report::default();
    for (shard, dir) in &shards {
        audit_shard(&mut report, *shard, dir)?;
    }
    report.add_missing_shards();
    Ok(report)
}

fn audit_shard(report: &mut Report, shard: ShardIndex, dir: &Path) -> Result<(), AuditError> {
    let storage = FileStorage::open_read_only(dir)?;
    let mut shard_report = ShardReport::new(shard);
    match log_identity(&storage) {
        Ok(found) => {
            let identity = Identity { shard, ..found };
            shard_report.shards = Some(identity.shards.get());
            read_log(report, &mut shard_report, &storage, identity);
        }
        Err(error) => shard_report.failure = Some(error.to_string()),
    }
    report.shards.push(shard_report);
    Ok(())
}

fn read_log(
    report: &mut Report,
    shard_report: &mut ShardReport,
    storage: &FileStorage,
    identity: Identity,
) {
    let mut judge = Judge {
        report,
        shard_report,
        identity,
        sales: BTreeMap::new(),
        last: Lsn(0),
        last_time: TimeMs(0),
        findings: Findings::default(),
    };
    let begun = judge.begin(storage);
    let (start, mut snapshots) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            judge.shard_report.failure = Some(error.to_string());
            return;
        }
    };
    let outcome = recover_from(storage, Some(identity), start, |entry| {
        while snapshots.last().is_some_and(|next| next.lsn < entry.lsn) {
            judge.compare(&snapshots.pop().expect("there is a next one"));
        }
        judge.enter(&entry, storage);
    });
    while let Some(next) = snapshots.pop() {
        // Where the log cannot be read to there, that is what is reported.
        if outcome.is_ok() || next.lsn <= judge.last {
            judge.compare(&next);
        }
    }
    match outcome {
        Ok(recovered) => {
            judge.shard_report.frames = Some(recovered.frames);
            judge.shard_report.torn = recovered.torn.map(|torn| TornReport {
                file: storage.path(torn.start.segment),
                offset: torn.start.offset,
                bytes: torn.bytes,
            });
        }
        Err(error) => judge.shard_report.failure = Some(error.to_string()),
    }
    let books = judge.sales.into_iter();
    report.sales.extend(books.map(|(sale, book)| book.report(sale, identity.shard)));
}

/// The books of one shard, and what is found in them.
struct Judge<'r> {
    report: &'r mut Report,
    shard_report: &'r mut ShardReport,
    identity: Identity,
    sales: BTreeMap<SaleId, SaleBook>,
    /// The last record that was entered, and its time.
    last: Lsn,
    last_time: TimeMs,
    findings: Findings,
}

impl Judge<'_> {
    /// Begins with the log, or, where its beginning is gone, with the oldest snapshot that is
    /// sound. Gives back where the log goes on, and the snapshots to compare, the next one last.
    fn begin(
        &mut self,
        storage: &FileStorage,
    ) -> Result<(Option<LogStart>, Vec<SnapshotFile>), WalError> {
        let io = |doing| {
            let path = storage.path(SegmentIndex::FIRST);
            let path = path.parent().map_or_else(|| path.clone(), Path::to_path_buf);
            move |source| WalError::Io { path, doing, source }
        };
        let segments = storage.segments().map_err(io("list the segments"))?;
        let dir = storage.path(SegmentIndex::FIRST);
        let mut files = snapshots(dir.parent().expect("a segment lies in a directory"))
            .map_err(io("list the snapshots"))?;
        let first = segments.first().map_or(SegmentIndex::FIRST, |first| first.index);
        if first == SegmentIndex::FIRST {
            return Ok((None, files));
        }
        while let Some(file) = files.pop() {
            match self.load(&file) {
                // What came behind it is gone, too.
                Ok(header) if header.position.segment < first => self.sales.clear(),
                Ok(header) => {
                    self.note(&file, true, None);
                    (self.last, self.last_time) = (header.last_lsn, header.last_time);
                    return Ok((Some(header.log_start()), files));
                }
                Err(error) => {
                    self.sales.clear();
                    self.note(&file, false, Some(error.to_string()));
                }
            }
        }
        Ok((None, files))
    }

    /// Takes the books of a snapshot for those of the log up to there.
    fn load(&mut self, file: &SnapshotFile) -> Result<SnapshotHeader, SnapshotError> {
        let mut all = Vec::new();
        let header = self.read(file, |_, loaded| all.push(loaded))?;
        for Loaded { sale, book, findings } in all {
            for finding in findings {
                self.report.add_snapshot_violation(finding, sale, file, self.identity.shard);
            }
            self.sales.insert(sale, book);
        }
        Ok(header)
    }

    /// Holds a snapshot against the books.
    fn compare(&mut self, file: &SnapshotFile) {
        let mut found = Vec::new();
        let mut sales = Vec::new();
        let read = self.read(file, |judge, Loaded { sale, book, findings }| {
            found.extend(findings.into_iter().map(|finding| (sale, finding)));
            let differ = match judge.sales.get(&sale) {
                Some(log) => differences(log, &book),
                None => vec!["the snapshot has a sale that the log does not have".to_owned()],
            };
            let rule = Rule::SnapshotDiffers;
            let differ = differ.into_iter().map(|what| Finding { rule, order: None, what });
            found.extend(differ.map(|finding| (sale, finding)));
            sales.push(sale);
        });
        let fault = match read {
            Err(error) => Some(error.to_string()),
            Ok(header) if header.last_lsn != self.last || header.last_time != self.last_time => {
                Some(format!(
                    "it is of a time or an LSN at which the log has no record; the last one before is {}",
                    self.last
                ))
            }
            Ok(_) => None,
        };
        if fault.is_none() {
            for missing in self.sales.keys().filter(|sale| !sales.contains(sale)) {
                let what = "the snapshot lacks a sale that the log has".to_owned();
                let rule = Rule::SnapshotDiffers;
                found.push((*missing, Finding { rule, order: None, what }));
            }
            for (sale, finding) in found {
                self.report.add_snapshot_violation(finding, sale, file, self.identity.shard);
            }
        }
        self.note(file, false, fault);
    }

    /// Reads a snapshot to its end, and hands out the books of each sale.
    fn read(
        &self,
        file: &SnapshotFile,
        mut on_sale: impl FnMut(&Self, Loaded),
    ) -> Result<SnapshotHeader, SnapshotError> {
        let mut reader = open_snapshot(file, |file| file)?;
        let header = *reader.header();
        if header.identity != self.identity {
            let what = "it belongs to another log".to_owned();
            return Err(SnapshotError::Damaged { offset: 0, what });
        }
        let mut loader = Loader::default();
        while let Some(part) = reader.next_part()? {
            if let Some(loaded) = loader.part(part) {
                on_sale(self, loaded);
            }
        }
        if let Some(loaded) = loader.end() {
            on_sale(self, loaded);
        }
        Ok(header)
    }

    fn note(&mut self, file: &SnapshotFile, is_base: bool, fault: Option<String>) {
        let snapshot = SnapshotReport { lsn: file.lsn.0, is_base, fault };
        self.shard_report.snapshots.push(snapshot);
    }

    fn enter(&mut self, entry: &Entry<'_>, storage: &FileStorage) {
        self.shard_report.records += 1;
        (self.last, self.last_time) = (entry.lsn, entry.time);
        self.judge(entry);
        for finding in self.findings.drain() {
            self.report.add_violation(finding, entry, self.identity.shard, storage);
        }
    }

    fn judge(&mut self, entry: &Entry<'_>) {
        let findings = &mut self.findings;
        let sale = entry.record.sale();
        if let Some(book) = self.sales.get_mut(&sale) {
            book.enter(entry.time, entry.record, findings);
            return;
        }
        let Record::SaleDefined(defined) = entry.record else {
            findings.add(Rule::UnknownSale, None, || "the sale was never defined".into());
            return;
        };
        let owner = sale.shard(self.identity.shards);
        if owner != self.identity.shard {
            findings.add(Rule::WrongShard, None, || format!("the sale belongs to shard {owner}"));
        }
        let book = SaleBook::new(defined.terms);
        book.check_terms(findings);
        self.sales.insert(sale, book);
    }
}
