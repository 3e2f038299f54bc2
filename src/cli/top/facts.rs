//! What `top` shows: a second of the server's life, as plain data.

use serde::Serialize;

use super::numbers::Between;

/// Milliseconds of a second.
const MS: f64 = 1e3;

/// A second of the server's life. Rates are per second, times in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Facts {
    pub(super) version: String,
    pub(super) ready: bool,
    pub(super) uptime_s: u64,
    pub(super) cpu_cores: f64,
    pub(super) resident_bytes: u64,
    pub(super) disk_free_bytes: u64,
    pub(super) requests: f64,
    pub(super) ok: f64,
    pub(super) replayed: f64,
    pub(super) refused: f64,
    pub(super) faults: f64,
    pub(super) operations: Vec<Rate>,
    pub(super) refusals: Vec<Rate>,
    pub(super) answer: Times,
    pub(super) log_write: Times,
    pub(super) log_writes: f64,
    pub(super) batch_records: f64,
    pub(super) batch_bytes: f64,
    pub(super) slow: f64,
    pub(super) connections: u64,
    pub(super) connections_stalled: u64,
    pub(super) connections_accepted: f64,
    pub(super) connections_refused: f64,
    pub(super) holds: u64,
    pub(super) expired: f64,
    pub(super) shards: Vec<ShardFacts>,
    pub(super) sales: Vec<SaleFacts>,
    pub(super) sales_omitted: u64,
}

/// How often something happens.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Rate {
    pub(super) name: String,
    pub(super) per_second: f64,
}

#[expect(clippy::struct_field_names, reason = "the JSON names its units")]
/// Percentiles in milliseconds; absent where nothing was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Times {
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) p999_ms: Option<f64>,
}

/// One shard.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ShardFacts {
    pub(super) shard: u16,
    pub(super) requests: f64,
    pub(super) answer: Times,
    pub(super) waiting_answers: u64,
    pub(super) batch_records: f64,
    pub(super) durable_lsn: u64,
    pub(super) behind_records: u64,
    pub(super) segment: u64,
    pub(super) segments_prepared: u64,
    pub(super) prepared_bytes: u64,
    pub(super) secured_bytes: u64,
    pub(super) unsecured_bytes: u64,
    pub(super) reserved_bytes: u64,
    pub(super) full: bool,
    pub(super) hops: f64,
}

/// One sale.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SaleFacts {
    pub(super) sale: u64,
    pub(super) state: String,
    pub(super) available: u64,
    pub(super) held: u64,
    pub(super) sold: u64,
}

impl Facts {
    /// What happened between two readings, of which the later one was taken at `now`, in seconds
    /// since the Unix epoch.
    pub(super) fn new(between: &Between<'_>, now: f64) -> Self {
        let after = between.after;
        let whole = |name| after.sum(name) as u64;
        let rate = |name| between.rate(name, &[]);
        let (requests, results) =
            (rate("requests_total"), between.rates_by("requests_total", "result"));
        let of = |name: &str| {
            results.iter().find(|(result, _)| result == name).map_or(0.0, |(_, rate)| *rate)
        };
        let (ok, replayed) = (of("ok"), of("replayed"));
        let refusals = results.iter().filter(|(name, _)| name != "ok" && name != "replayed");
        Self {
            version: after.label("build_info", "version", &[]).unwrap_or_default().to_owned(),
            ready: after.sum("ready") > 0.0,
            uptime_s: (now - after.sum("process_start_time_seconds")).max(0.0) as u64,
            cpu_cores: rate("process_cpu_seconds_total"),
            resident_bytes: whole("process_resident_memory_bytes"),
            disk_free_bytes: whole("disk_free_bytes"),
            requests,
            ok,
            replayed,
            refused: requests - ok - replayed,
            faults: rate("faults_total"),
            operations: rates(between.rates_by("requests_total", "operation")),
            refusals: rates(refusals.cloned().collect()),
            answer: Times::of(between, "answer_duration_seconds", &[]),
            log_write: Times::of(between, "log_write_duration_seconds", &[]),
            log_writes: rate("log_write_duration_seconds_count"),
            batch_records: between.mean("log_batch_records", &[]).unwrap_or(0.0),
            batch_bytes: between.mean("log_batch_bytes", &[]).unwrap_or(0.0),
            slow: rate("slow_requests_total"),
            connections: whole("connections"),
            connections_stalled: whole("connections_stalled"),
            connections_accepted: rate("connections_accepted_total"),
            connections_refused: rate("connections_refused_total"),
            holds: whole("holds"),
            expired: rate("holds_expired_total"),
            shards: shards(between),
            sales: sales(between),
            sales_omitted: whole("sales_omitted"),
        }
    }
}

fn rates(rates: Vec<(String, f64)>) -> Vec<Rate> {
    rates.into_iter().map(|(name, per_second)| Rate { name, per_second }).collect()
}

fn shards(between: &Between<'_>) -> Vec<ShardFacts> {
    let names = between.after.by("log_durable_lsn", "shard");
    let mut shards: Vec<ShardFacts> = names
        .into_keys()
        .filter_map(|name| {
            let of = [("shard", name.as_str())];
            let whole = |metric| between.after.sum_where(metric, &of) as u64;
            let durable_lsn = whole("log_durable_lsn");
            Some(ShardFacts {
                shard: name.parse().ok()?,
                requests: between.rate("requests_total", &of),
                answer: Times::of(between, "answer_duration_seconds", &of),
                waiting_answers: whole("log_waiting_answers"),
                batch_records: between.mean("log_batch_records", &of).unwrap_or(0.0),
                durable_lsn,
                behind_records: whole("log_appended_lsn").saturating_sub(durable_lsn),
                segment: whole("log_segment"),
                segments_prepared: whole("log_segments_prepared"),
                prepared_bytes: whole("log_prepared_bytes"),
                secured_bytes: whole("log_secured_bytes"),
                unsecured_bytes: whole("log_unsecured_bytes"),
                reserved_bytes: whole("log_reserved_bytes"),
                full: whole("log_full") > 0,
                hops: between.rate("hops_total", &of),
            })
        })
        .collect();
    shards.sort_by_key(|shard| shard.shard);
    shards
}

fn sales(between: &Between<'_>) -> Vec<SaleFacts> {
    let after = between.after;
    let mut sales: Vec<SaleFacts> = after
        .by("sale_state", "sale")
        .into_keys()
        .filter_map(|name| {
            let units = |state| after.sum_where("sale_units", &[("sale", &name), ("state", state)]);
            let state = after.label("sale_state", "state", &[("sale", &name)])?;
            Some(SaleFacts {
                sale: name.parse().ok()?,
                state: state.to_owned(),
                available: units("available") as u64,
                held: units("held") as u64,
                sold: units("sold") as u64,
            })
        })
        .collect();
    sales.sort_by_key(|sale| sale.sale);
    sales
}

impl Times {
    fn of(between: &Between<'_>, name: &str, labels: &[(&str, &str)]) -> Self {
        let at = |share| between.quantile(name, share, labels).map(|seconds| seconds * MS);
        Self { p50_ms: at(0.5), p99_ms: at(0.99), p999_ms: at(0.999) }
    }
}
