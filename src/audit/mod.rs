//! The judge: reads the logs of a data directory and checks every rule of a sale at every record.
//!
//! It shares no code with the engine, on purpose: the two were written from the same promises,
//! and a mistake in one shows as a violation in the other. It knows the log alone, changes
//! nothing, takes no lock, and goes on past what it finds, so that one broken record does not
//! hide the next.
//!
//! | file | owns |
//! |---|---|
//! | `rules` | the names of the rules |
//! | `book` | the books of one sale, kept record by record |
//! | `stock`, `buyers` | its items' counters; its accounts' limits, request ids and fences |
//! | `report` | what was found, for people and for `--json` |

mod book;
mod buyers;
mod report;
mod rules;
mod stock;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::{Record, SaleId, ShardIndex};
use crate::wal::{
    Entry, FileStorage, Identity, LogStorage, WalError, log_identity, recover, shard_dirs,
};

use book::SaleBook;
use rules::Findings;

pub use report::{
    ItemReport, OrderCounts, Report, SaleReport, ShardReport, TornReport, VIOLATIONS_LISTED_MAX,
    Violation,
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
    let mut books = Books { identity, sales: BTreeMap::new() };
    let mut findings = Findings::default();
    let outcome = recover(storage, Some(identity), |entry| {
        shard_report.records += 1;
        books.enter(&entry, &mut findings);
        for finding in findings.drain() {
            report.add_violation(finding, &entry, identity.shard, storage);
        }
    });
    match outcome {
        Ok(recovered) => {
            shard_report.frames = Some(recovered.frames);
            shard_report.torn = recovered.torn.map(|torn| TornReport {
                file: storage.path(torn.start.segment),
                offset: torn.start.offset,
                bytes: torn.bytes,
            });
        }
        Err(error) => shard_report.failure = Some(error.to_string()),
    }
    report
        .sales
        .extend(books.sales.into_iter().map(|(sale, book)| book.report(sale, identity.shard)));
}

/// The sales of one shard.
struct Books {
    identity: Identity,
    sales: BTreeMap<SaleId, SaleBook>,
}

impl Books {
    fn enter(&mut self, entry: &Entry<'_>, findings: &mut Findings) {
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
