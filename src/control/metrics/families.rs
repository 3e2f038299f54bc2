//! Every number that the server exports: its name, what it means, and where it is read.
//!
//! One table, so that a name without numbers, or numbers without a name, cannot be written. Names
//! follow the Prometheus conventions: base units, `_total` for what only grows. No label is a
//! buyer's, and every label has a bounded set of values.

use super::text::{Kind, Samples};
use super::{Numbers, ShardNumbers, stock};
use crate::runtime::file::SyncMethod;
use crate::server::metrics::{
    Admission, CloseReason, Counter, Gauge, HistogramValues, Protocol, ShardMetrics,
};

/// Microseconds, as seconds.
const MICROS: f64 = 1e-6;

/// One exported name.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The name; of a histogram, without its suffixes.
    pub name: &'static str,
    /// What its numbers are.
    pub kind: Kind,
    /// What they mean.
    pub help: &'static str,
    /// Writes its samples.
    pub(super) samples: fn(&mut Samples<'_>, &Numbers<'_>),
}

/// The families of a shard, from rows of `Kind name, help, how it is read`.
macro_rules! families {
    ($($kind:ident $name:literal, $help:literal, $samples:expr;)*) => {
        [$(Family {
            name: concat!("boxoffice_", $name),
            kind: Kind::$kind,
            help: $help,
            samples: $samples,
        }),*]
    };
}

/// Every family, in the order in which it is exported.
pub static FAMILIES: [Family; 61] = families! {
    Gauge "build_info", "Always 1; the label is the version.",
        |out, _| out.whole(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    Gauge "shard_info", "Always 1; how the shard's log writes become durable.",
        |out, numbers| each(out, numbers, |out, shard, own| {
            let sync = match own.sync {
                SyncMethod::DataSync => "o_dsync",
                SyncMethod::Flush => "fdatasync",
            };
            out.whole(&[("shard", shard), ("sync", sync)], 1);
        });
    Counter "requests_total", "Requests that were answered, on the shard that decided them.",
        requests;
    Counter "faults_total", "Messages that the protocol does not allow; each ends its connection.",
        |out, numbers| each(out, numbers, |out, shard, own| {
            for protocol in Protocol::ALL {
                let labels = [("shard", shard), ("protocol", protocol.label())];
                out.whole(&labels, own.metrics.faults[protocol as usize].value());
            }
        });
    Histogram "answer_duration_seconds",
        "From a request's arrival on the shard that decides it to handing on its answer.",
        |out, numbers| histogram(out, numbers, MICROS, |own| own.answers.values());
    Counter "slow_requests_total", "Answers that took longer than --slow-request.",
        |out, numbers| counter(out, numbers, |own| &own.slow);
    Histogram "log_write_duration_seconds", "From submitting a log write until it was durable.",
        |out, numbers| histogram(out, numbers, MICROS, |own| own.log_writes.values());
    Histogram "log_batch_records", "Records that became durable in one write.",
        |out, numbers| histogram(out, numbers, 1.0, |own| own.batch_records.values());
    Histogram "log_batch_bytes", "Bytes of one log write.",
        |out, numbers| histogram(out, numbers, 1.0, |own| own.batch_bytes.values());
    Gauge "log_waiting_answers", "Answers that wait for the disk.",
        |out, numbers| gauge(out, numbers, |own| &own.parked);
    Gauge "log_waiting_answers_bytes", "Bytes of the answers that wait for the disk.",
        |out, numbers| gauge(out, numbers, |own| &own.parked_bytes);
    Gauge "log_appended_lsn", "The number of the last record that was decided.",
        |out, numbers| gauge(out, numbers, |own| &own.appended_lsn);
    Gauge "log_durable_lsn", "The number of the last record that is on disk.",
        |out, numbers| gauge(out, numbers, |own| &own.durable_lsn);
    Gauge "log_segment", "The number of the log segment that is written.",
        |out, numbers| gauge(out, numbers, |own| &own.segment);
    Gauge "log_segments_prepared", "Segments that are ready behind it.",
        |out, numbers| gauge(out, numbers, |own| &own.segments_prepared);
    Gauge "log_starved", "1 while the log waits for a segment to be prepared.",
        |out, numbers| gauge(out, numbers, |own| &own.starved);
    Gauge "log_prepared_bytes", "What the prepared segments have left.",
        |out, numbers| gauge(out, numbers, |own| &own.prepared_bytes);
    Gauge "log_secured_bytes", "What is allocated on the disk for further segments.",
        |out, numbers| gauge(out, numbers, |own| &own.secured_bytes);
    Gauge "log_unsecured_bytes", "What is free on the disk for further segments.",
        |out, numbers| gauge(out, numbers, |own| &own.unsecured_bytes);
    Gauge "log_reserved_bytes", "What is kept of all these, mostly for the end of live holds.",
        |out, numbers| gauge(out, numbers, |own| &own.reserved_bytes);
    Gauge "log_full", "1 while holds and purchases are refused with DISK_FULL.",
        |out, numbers| gauge(out, numbers, |own| &own.full);
    Gauge "snapshot_lsn", "The number of the last record in the newest snapshot.",
        |out, numbers| gauge(out, numbers, |own| &own.snapshots.lsn);
    Gauge "snapshot_time_seconds", "The time of that record, since the Unix epoch.",
        |out, numbers| each(out, numbers, |out, shard, own| {
            let ms = own.metrics.snapshots.time_ms.value();
            out.real(&[("shard", shard)], ms as f64 / 1e3);
        });
    Gauge "snapshot_bytes", "Size of the newest snapshot.",
        |out, numbers| gauge(out, numbers, |own| &own.snapshots.bytes);
    Gauge "snapshot_duration_seconds", "How long making the last snapshot took.",
        |out, numbers| each(out, numbers, |out, shard, own| {
            let ms = own.metrics.snapshots.duration_ms.value();
            out.real(&[("shard", shard)], ms as f64 / 1e3);
        });
    Counter "snapshots_total", "Snapshots that were made.",
        |out, numbers| counter(out, numbers, |own| &own.snapshots.made);
    Counter "snapshot_failures_total", "Failures to make a snapshot or to retire segments.",
        |out, numbers| counter(out, numbers, |own| &own.snapshots.failures);
    Gauge "connections", "Open connections.",
        |out, numbers| gauge(out, numbers, |own| &own.connections);
    Gauge "connections_stalled", "Connections that backpressure holds back.",
        |out, numbers| gauge(out, numbers, |own| &own.connections_stalled);
    Counter "connections_accepted_total", "Connections that were taken.",
        |out, numbers| counter(out, numbers, |own| &own.accepted);
    Counter "connections_refused_total", "Connections closed at once: too many, or stopping.",
        |out, numbers| counter(out, numbers, |own| &own.turned_away);
    Counter "connections_closed_total", "Connections that ended, by reason.",
        |out, numbers| each(out, numbers, |out, shard, own| {
            for reason in CloseReason::ALL {
                let labels = [("shard", shard), ("reason", reason.label())];
                out.whole(&labels, own.metrics.closed[reason as usize].value());
            }
        });
    Counter "admissions_total", "Greetings that were let in, and credentials that were not.",
        |out, numbers| each(out, numbers, |out, shard, own| {
            for admission in Admission::ALL {
                let labels = [("shard", shard), ("result", admission.label())];
                out.whole(&labels, own.metrics.admissions[admission as usize].value());
            }
        });
    Counter "hops_total", "Requests that were passed on to the shard of their sale.",
        |out, numbers| counter(out, numbers, |own| &own.hops);
    Gauge "hops_in_flight", "Requests at other shards that are not answered yet.",
        |out, numbers| gauge(out, numbers, |own| &own.hops_in_flight);
    Gauge "mailbox_waiting_messages", "Messages that mailboxes to other shards had no room for.",
        |out, numbers| gauge(out, numbers, |own| &own.mail_waiting);
    Counter "holds_expired_total", "Holds that ended by themselves.",
        |out, numbers| counter(out, numbers, |own| &own.expired);
    Gauge "holds", "Orders that are held now.",
        |out, numbers| each(out, numbers, |out, shard, own| {
            let Some(stock) = own.stock else { return };
            out.whole(&[("shard", shard)], stock.holds);
        });
    Gauge "clock_behind_seconds",
        "How far the clock is behind the last record's time; until it is there, time stands still.",
        |out, numbers| each(out, numbers, |out, shard, own| {
            let ms = own.metrics.clock_behind_ms.value();
            out.real(&[("shard", shard)], ms as f64 / 1e3);
        });
    Counter "turns_total", "Turns of the shard's loop.",
        |out, numbers| counter(out, numbers, |own| &own.turns);
    Counter "turn_seconds_total", "Time in those turns, without the kernel's part.",
        |out, numbers| each(out, numbers, |out, shard, own| {
            out.real(&[("shard", shard)], own.metrics.turn_ns.value() as f64 / 1e9);
        });
    Gauge "sale_units", "Units of a listed sale over all its items, by where they are.",
        stock::sales;
    Gauge "sale_state", "Always 1; the label is the state of a listed sale.",
        stock::states;
    Gauge "sale_holds", "Orders of a listed sale that are held now.",
        stock::holds;
    Gauge "item_units", "Units of a listed item, by where they are.",
        stock::items;
    Gauge "sales_omitted", "Sales that are not listed by themselves.",
        stock::sales_omitted;
    Gauge "items_omitted", "Items that are not listed by themselves.",
        stock::items_omitted;
    Gauge "units_omitted", "Units of the items that are not listed, by where they are.",
        stock::units_omitted;
    Gauge "disk_size_bytes", "Size of the file system of the data directory.",
        |out, numbers| maybe(out, numbers.process.disk_bytes);
    Gauge "disk_free_bytes", "What is free on the file system of the data directory.",
        |out, numbers| maybe(out, numbers.process.disk_free_bytes);
    Gauge "ready", "1 while the server serves.",
        |out, numbers| out.whole(&[], u64::from(numbers.is_ready));
    Gauge "shards", "How many shards serve.",
        |out, numbers| out.whole(&[], numbers.shards.len() as u64);
    Counter "scrapes_total", "How often these numbers were read.",
        |out, numbers| out.whole(&[], numbers.scrapes);
    Counter "administration_refused_total",
        "Requests to administration without a key that allows them.",
        |out, numbers| out.whole(&[], numbers.administration_refused);
    Counter "key_reloads_total", "How often the keys were read again, and whether they were taken.",
        |out, numbers| {
            out.whole(&[("result", "done")], numbers.reloads.done);
            out.whole(&[("result", "failed")], numbers.reloads.failed);
        };
    Counter "process_cpu_seconds_total", "CPU time of the process.",
        |out, numbers| out.real(&[], numbers.process.cpu.as_secs_f64());
    Gauge "process_start_time_seconds", "When the process started, since the Unix epoch.",
        |out, numbers| out.real(&[], numbers.process.started.as_secs_f64());
    Gauge "process_resident_memory_bytes", "Memory that the process has in use.",
        |out, numbers| maybe(out, numbers.process.resident_bytes);
    Gauge "process_virtual_memory_bytes", "Address space of the process.",
        |out, numbers| maybe(out, numbers.process.virtual_bytes);
    Gauge "process_open_fds", "Open descriptors.",
        |out, numbers| maybe(out, numbers.process.open_files);
    Gauge "process_max_fds", "How many descriptors may be open.",
        |out, numbers| maybe(out, numbers.process.open_files_max);
};

/// Writes what each shard has, with its number as text.
fn each(
    out: &mut Samples<'_>,
    numbers: &Numbers<'_>,
    write: impl Fn(&mut Samples<'_>, &str, &ShardNumbers<'_>),
) {
    for own in numbers.shards {
        write(out, &own.index.to_string(), own);
    }
}

fn counter(out: &mut Samples<'_>, numbers: &Numbers<'_>, of: impl Fn(&ShardMetrics) -> &Counter) {
    each(out, numbers, |out, shard, own| out.whole(&[("shard", shard)], of(own.metrics).value()));
}

fn gauge(out: &mut Samples<'_>, numbers: &Numbers<'_>, of: impl Fn(&ShardMetrics) -> &Gauge) {
    each(out, numbers, |out, shard, own| out.whole(&[("shard", shard)], of(own.metrics).value()));
}

fn histogram(
    out: &mut Samples<'_>,
    numbers: &Numbers<'_>,
    unit: f64,
    of: impl Fn(&ShardMetrics) -> HistogramValues,
) {
    each(out, numbers, |out, shard, own| {
        out.histogram(&[("shard", shard)], &of(own.metrics), unit);
    });
}

fn maybe(out: &mut Samples<'_>, value: Option<u64>) {
    if let Some(value) = value {
        out.whole(&[], value);
    }
}

fn requests(out: &mut Samples<'_>, numbers: &Numbers<'_>) {
    each(out, numbers, |out, shard, own| {
        for (protocol, operation, verdict, count) in own.metrics.requests.counted() {
            let labels = [
                ("shard", shard),
                ("protocol", protocol.label()),
                ("operation", operation.label()),
                ("result", verdict.label()),
            ];
            out.whole(&labels, count);
        }
    });
}
