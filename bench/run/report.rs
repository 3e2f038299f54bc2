//! What a run found, as JSON, as a table and as histograms for others to plot.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use boxoffice::load::{Latencies, Refusals, Tally, Traffic, Window};
use boxoffice::model::SaleId;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde::Serialize;

use super::options::Options;
use crate::Failure;

/// The version of the JSON object: a field may be added to it, and none changes its meaning.
const FORMAT: u32 = 1;

/// Refusals that tell of the command line and not of the server.
const MISTAKES: [&str; 4] = ["NOT_FOUND", "BAD_REQUEST", "BAD_TOKEN", "FORBIDDEN"];

/// What a run found.
pub struct Report {
    setting: Setting,
    measured_at: SystemTime,
    /// How long it was to measure, and how long it did.
    asked: Duration,
    duration: Duration,
    cpu_time: Duration,
    tally: Tally,
    traffic: Traffic,
    missed_sends: u64,
}

/// What was asked for.
#[derive(Clone, Serialize)]
struct Setting {
    format: u32,
    op: &'static str,
    r#loop: &'static str,
    /// Requests a second that were meant to leave; `null` in a closed loop.
    offered_rate: Option<u32>,
    connections: u32,
    pipeline: u32,
    threads: usize,
    duration_s: f64,
    warmup_s: f64,
    sale: u64,
    items: u32,
    accounts: u64,
}

/// The JSON object.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    setting: &'a Setting,
    /// Answers a second, successes and refusals together.
    achieved_rate: f64,
    success: Latencies,
    refused: Refusals,
    errors: &'a BTreeMap<&'static str, u64>,
    missed_sends: u64,
    late_sends: u64,
    /// The generator's own, as a fraction of one core.
    cpu_use: f64,
    bytes_in: u64,
    bytes_out: u64,
    /// Times that the generator entered the kernel.
    enters: u64,
}

impl Report {
    /// A report without any thread's share.
    pub fn new(
        options: &Options,
        sale: SaleId,
        measured_at: SystemTime,
        cpu_time: Duration,
    ) -> Self {
        let setting = Setting {
            format: FORMAT,
            op: options.op.name(),
            r#loop: if options.closed { "closed" } else { "open" },
            offered_rate: options.rate.map(std::num::NonZero::get),
            connections: options.connections.get(),
            pipeline: options.pipeline.get(),
            threads: options.threads().map_or(1, |threads| threads.len()),
            duration_s: options.duration.as_secs_f64(),
            warmup_s: options.warmup.as_secs_f64(),
            sale: sale.0,
            items: options.items.get(),
            accounts: options.accounts,
        };
        Self {
            setting,
            measured_at,
            asked: options.duration,
            duration: Duration::ZERO,
            cpu_time,
            tally: Tally::new(Window::ALL),
            traffic: Traffic::default(),
            missed_sends: 0,
        }
    }

    /// Adds what one thread saw.
    pub fn add(&mut self, tally: &Tally, traffic: Traffic, missed_sends: u64) {
        self.tally.merge(tally);
        self.traffic = self.traffic.plus(traffic);
        self.missed_sends += missed_sends;
    }

    /// Takes how long a thread measured; the longest counts.
    pub fn measured_for(&mut self, measured: Duration) {
        self.duration = self.duration.max(measured);
        // To the millisecond, which is more than an interrupted run knows.
        self.setting.duration_s = (self.duration.as_secs_f64() * 1000.0).round() / 1000.0;
    }

    /// Whether there is anything to report.
    pub fn has_measured(&self) -> bool {
        !self.duration.is_zero()
    }

    /// Whether the run went as it should.
    pub fn verdict(&self) -> Result<(), Failure> {
        let errors = self.tally.errors();
        if !errors.is_empty() {
            let errors: Vec<_> =
                errors.iter().map(|(code, count)| format!("{code} {count}")).collect();
            return Err(Failure::new(format!("errors in the run: {}", errors.join(", "))));
        }
        if let Some(code) = self.only_mistakes() {
            let sale = self.setting.sale;
            return Err(Failure::new(format!(
                "nothing was granted, and what was asked is what is wrong ({code}): sale {sale} \
                 must be there with the items 1 to {}, and the key must be let in; leave out \
                 --sale for one that is made",
                self.setting.items
            )));
        }
        if self.duration < self.asked {
            let [measured, asked] = [self.duration, self.asked].map(|time| time.as_secs_f64());
            let text = format!("interrupted: the report is of {measured:.1} s of {asked} s");
            return Err(Failure::new(text));
        }
        Ok(())
    }

    /// The first code of the refusals, where each answer was one that no run is meant to get.
    fn only_mistakes(&self) -> Option<&'static str> {
        let by_code = self.tally.refused().by_code;
        let is_mistake = |code: &str| MISTAKES.contains(&code);
        let is_all = self.tally.success().count == 0 && by_code.keys().all(|code| is_mistake(code));
        by_code.keys().next().copied().filter(|_| is_all)
    }

    fn document(&self) -> Document<'_> {
        let seconds = self.duration.as_secs_f64();
        Document {
            setting: &self.setting,
            achieved_rate: self.tally.answers_in_window() as f64 / seconds,
            success: self.tally.success(),
            refused: self.tally.refused(),
            errors: self.tally.errors(),
            missed_sends: self.missed_sends,
            late_sends: self.tally.late_sends(),
            cpu_use: self.cpu_time.as_secs_f64() / seconds,
            bytes_in: self.traffic.bytes_in,
            bytes_out: self.traffic.bytes_out,
            enters: self.traffic.enters,
        }
    }

    /// One JSON object, and the end of the line.
    pub fn json(&self) -> String {
        serde_json::to_string(&self.document()).expect("it is plain") + "\n"
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let found = self.document();
        let setting = found.setting;
        let mut text = String::new();
        let mut line = |arguments: std::fmt::Arguments<'_>| {
            text.write_fmt(arguments).expect("a string takes all");
            text.push('\n');
        };
        line(format_args!(
            "{}, {} loop, {} connections × {}, {} s",
            setting.op, setting.r#loop, setting.connections, setting.pipeline, setting.duration_s
        ));
        if let Some(rate) = setting.offered_rate {
            line(format_args!("{:<13}{rate:>12} requests/s", "offered"));
        }
        line(format_args!("{:<13}{:>12.0} answers/s", "achieved", found.achieved_rate));
        line(format_args!(
            "{:<13}{:>12}{:>11}{:>11}{:>11}{:>11}{:>11}",
            "latency, µs", "count", "p50", "p90", "p99", "p99.9", "max"
        ));
        for (name, row) in [("success", &found.success), ("refused", &found.refused.latencies)] {
            let Latencies { count, p50_us, p90_us, p99_us, p999_us, max_us } = row;
            line(format_args!(
                "{name:<13}{count:>12}{p50_us:>11.1}{p90_us:>11.1}{p99_us:>11.1}\
                 {p999_us:>11.1}{max_us:>11.1}"
            ));
        }
        for (code, count) in &found.refused.by_code {
            line(format_args!("  {code:<11}{count:>12}"));
        }
        for (code, count) in found.errors {
            line(format_args!("error {code} {count}"));
        }
        if setting.offered_rate.is_some() {
            let (missed, late) = (found.missed_sends, found.late_sends);
            line(format_args!("{:<13}{missed:>12} missed, {late} later than 1 ms", "sends"));
        }
        line(format_args!("{:<13}{:>12.2} of a core", "generator", found.cpu_use));
        text
    }

    /// Writes an interval log of both histograms.
    pub fn write_histograms(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut serializer = V2DeflateSerializer::new();
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment("[Latency from the intended send, in nanoseconds; boxoffice-bench]")
            .with_start_time(self.measured_at)
            .with_max_value_divisor(1_000_000.0)
            .begin_log_with(out, &mut serializer)?;
        let start = self.measured_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        for (tag, histogram) in [
            ("success", self.tally.success_histogram()),
            ("refused", self.tally.refused_histogram()),
        ] {
            log.write_histogram(histogram, start, self.duration, Tag::new(tag))
                .map_err(|error| std::io::Error::other(error.to_string()))?;
        }
        Ok(())
    }
}
