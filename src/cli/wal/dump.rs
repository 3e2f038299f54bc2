//! `boxoffice wal dump`: the records of the logs, one a line.

use std::collections::HashSet;
use std::fmt::Display;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::super::Failed;
use super::super::exit::ExitCode;
use super::super::moment::Moment;
use super::beside::read;
use super::facts::Verdict;
use super::logs::{Logs, ShardLog};
use super::record::Shown;
use crate::model::record::Origin;
use crate::model::text_id::account_from_text;
use crate::model::{AccountId, OrderNumber, Record, SaleId};
use crate::server::datadir::CUT_NOTE;
use crate::wal::Entry;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A data directory, also of a running server, or a backup.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Show this shard alone.
    #[arg(long, value_name = "N")]
    shard: Option<u16>,
    #[command(flatten)]
    filter: Filter,
    /// Also show what can be read behind damage, marked as such.
    #[arg(long)]
    past_damage: bool,
    /// Print JSON: a record a line, and one line at the end of each shard.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Filter {
    /// Only records of this sale.
    #[arg(long, value_name = "ID")]
    sale: Option<u64>,
    /// Only records about this order of the sale.
    #[arg(long, value_name = "N", requires = "sale")]
    order: Option<u32>,
    /// Only records of this account and about its orders: a UUID, or the text that stands for it.
    #[arg(long, value_name = "TEXT", value_parser = parse_account)]
    account: Option<AccountId>,
    /// Only records from this LSN on.
    #[arg(long, value_name = "LSN")]
    from_lsn: Option<u64>,
    /// Only records up to this LSN.
    #[arg(long, value_name = "LSN")]
    to_lsn: Option<u64>,
    /// Only records from this time on: RFC 3339 in UTC, or milliseconds since the Unix epoch.
    #[arg(long, value_name = "TIME")]
    from_time: Option<Moment>,
    /// Only records up to this time.
    #[arg(long, value_name = "TIME")]
    to_time: Option<Moment>,
}

fn parse_account(text: &str) -> Result<AccountId, String> {
    let account = account_from_text(text.as_bytes());
    account.ok_or_else(|| "an account is a UUID or a text of 1 to 64 bytes".to_owned())
}

/// The end of a shard's records.
#[derive(Debug, Serialize)]
struct End {
    shard: u16,
    verdict: Verdict,
    /// How many records were shown.
    shown: u64,
    /// What the server retired before it could be read; absent where there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    retired: Option<Missed>,
}

/// Records that are not shown because they were retired meanwhile.
#[derive(Clone, Copy, Debug, Serialize)]
struct Missed {
    first_lsn: u64,
    last_lsn: u64,
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    let mut logs = Logs::find(&args.dir, args.shard)?;
    if args.dir.join(CUT_NOTE).exists() {
        // A part of a log, whose first file may be what was given up.
        logs.shards.iter_mut().for_each(ShardLog::take_identity_of_any_segment);
    }
    let mut output = Output::new(args.json);
    let mut is_damaged = false;
    for log in &logs.shards {
        let mut selection = Selection { filter: &args.filter, orders: HashSet::new() };
        let mut shown = 0;
        let read = read(&args.dir, log, logs.is_in_use, |entry, is_beyond| {
            if (args.past_damage || !is_beyond) && selection.takes(entry) {
                shown += 1;
                output.line(&Shown::new(log.shard.0, entry, is_beyond));
            }
        })?;
        let facts = read.examined.facts;
        let retired =
            read.missed.map(|(first, last)| Missed { first_lsn: first.0, last_lsn: last.0 });
        let end = End { shard: facts.shard, verdict: facts.verdict, shown, retired };
        if args.json {
            output.line(&end);
        } else {
            output.comment(&facts);
            end.retired.iter().for_each(|missed| output.comment(missed));
        }
        is_damaged |= facts.verdict == Verdict::Damaged;
    }
    output.finish()?;
    if !is_damaged {
        return Ok(());
    }
    let dir = args.dir.display();
    Err(Failed::new(
        ExitCode::DamagedLog,
        format_args!(
            "the log is damaged, and was shown as far as it can be read{}; `boxoffice wal verify \
             {dir}` shows where, and each way out",
            if args.past_damage { "" } else { " without a gap" },
        ),
    ))
}

/// Which records are shown, and what has to be remembered for it.
struct Selection<'f> {
    filter: &'f Filter,
    /// The orders of the account that was asked for: an expiry names the order alone.
    orders: HashSet<(SaleId, OrderNumber)>,
}

impl Selection<'_> {
    fn takes(&mut self, entry: &Entry<'_>) -> bool {
        let filter = self.filter;
        let (order, account) = order_and_account(entry.record);
        let sale = entry.record.sale();
        let is_of_account = filter.account.is_none_or(|wanted| {
            if account == Some(wanted) {
                self.orders.extend(order.map(|order| (sale, order)));
                return true;
            }
            account.is_none() && order.is_some_and(|order| self.orders.contains(&(sale, order)))
        });
        let is_from = filter.from_lsn.is_none_or(|from| entry.lsn.0 >= from)
            && filter.from_time.is_none_or(|from| entry.time >= from.0);
        let is_to = filter.to_lsn.is_none_or(|to| entry.lsn.0 <= to)
            && filter.to_time.is_none_or(|to| entry.time <= to.0);
        is_of_account
            && filter.sale.is_none_or(|wanted| sale.0 == wanted)
            && filter.order.is_none_or(|wanted| order == Some(OrderNumber(wanted)))
            && is_from
            && is_to
    }
}

fn order_and_account(record: &Record) -> (Option<OrderNumber>, Option<AccountId>) {
    let of = |order: OrderNumber, origin: &Origin| (Some(order), Some(origin.account));
    match record {
        Record::Held(held) => of(held.order, &held.origin),
        Record::Bought(bought) => of(bought.order, &bought.origin),
        Record::Confirmed(confirmed) => of(confirmed.order, &confirmed.origin),
        Record::Released(released) => of(released.order, &released.origin),
        Record::Extended(extended) => of(extended.order, &extended.origin),
        Record::Cancelled(cancelled) => of(cancelled.order, &cancelled.origin),
        Record::Expired(expired) => (Some(expired.order), None),
        Record::Fenced(fenced) => (None, Some(fenced.account)),
        Record::Restocked(restocked) => (None, Some(restocked.origin.account)),
        Record::SaleDefined(_)
        | Record::ItemDefined(_)
        | Record::SaleStateSet(_)
        | Record::SaleArchived(_) => (None, None),
    }
}

/// Standard output, until somebody closes it.
struct Output {
    out: BufWriter<io::StdoutLock<'static>>,
    json: bool,
    error: Option<io::Error>,
}

impl Output {
    fn new(json: bool) -> Self {
        Self { out: BufWriter::with_capacity(1 << 16, io::stdout().lock()), json, error: None }
    }

    fn line(&mut self, facts: &(impl Display + Serialize)) {
        if self.error.is_some() {
            return;
        }
        let written = if self.json {
            let written = serde_json::to_writer(&mut self.out, facts).map_err(io::Error::from);
            written.and_then(|()| self.out.write_all(b"\n"))
        } else {
            writeln!(self.out, "{facts}")
        };
        self.error = written.err();
    }

    fn comment(&mut self, facts: &impl Display) {
        for line in facts.to_string().lines() {
            if self.error.is_none() {
                self.error = writeln!(self.out, "# {line}").err();
            }
        }
    }

    /// A reader that has seen enough, such as `head`, is no failure.
    fn finish(mut self) -> Result<(), Failed> {
        match self.error.or_else(|| self.out.flush().err()) {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                let message = format!("cannot write to stdout: {error}");
                Err(Failed::new(ExitCode::Failure, message))
            }
            _ => Ok(()),
        }
    }
}

impl Display for Missed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { first_lsn, last_lsn } = self;
        write!(f, "LSN {first_lsn} to {last_lsn} were retired meanwhile, and are not shown")
    }
}

impl Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "shard {}: {} records shown", self.shard, self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::{Expired, Held, RecordLines};
    use crate::model::{BodyDigest, Lsn, RequestId, TimeMs};
    use crate::wal::{Position, SegmentIndex};

    const SALE: SaleId = SaleId(7);

    fn held(account: u128, order: u32) -> Record {
        let (account, request) = (AccountId(account), RequestId(1));
        let origin = Origin { sale: SALE, account, request, digest: BodyDigest(0) };
        let (order, expires_at) = (OrderNumber(order), TimeMs(1));
        Record::Held(Held { origin, order, expires_at, lines: RecordLines::new() })
    }

    #[test]
    fn an_expiry_is_shown_with_the_account_of_its_order() {
        let expired = |order| Record::Expired(Expired { sale: SALE, order: OrderNumber(order) });
        let records = [held(1, 1), held(2, 2), expired(1), expired(2)];
        let filter = Filter {
            sale: None,
            order: None,
            account: Some(AccountId(2)),
            from_lsn: Some(3),
            to_lsn: None,
            from_time: None,
            to_time: None,
        };
        let mut selection = Selection { filter: &filter, orders: HashSet::new() };
        let position = Position { segment: SegmentIndex::FIRST, offset: 4096 };
        let (time, frame) = (TimeMs(1), position);
        let taken: Vec<u64> = (1..)
            .map(Lsn)
            .zip(&records)
            .filter(|(lsn, record)| {
                selection.takes(&Entry { lsn: *lsn, time, position, frame, record })
            })
            .map(|(lsn, _)| lsn.0)
            .collect();
        assert_eq!(taken, [4], "its hold came before what was asked for");
    }
}
