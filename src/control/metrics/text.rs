//! Lines of the Prometheus text format, version 0.0.4.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>: a family is a `# HELP` line, a
//! `# TYPE` line, and its samples, each with its labels and a number.

use std::fmt::Write as _;

use crate::server::metrics::HistogramValues;

/// What a family's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, and starts again at zero with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound, with their sum.
    Histogram,
}

impl Kind {
    /// Its name in the format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A label's name and its value; no value of ours needs escaping.
pub(super) type Label<'a> = (&'a str, &'a str);

/// The samples of one family.
pub(super) struct Samples<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl<'a> Samples<'a> {
    /// Begins a family.
    pub(super) fn new(out: &'a mut String, name: &'static str, kind: Kind, help: &str) -> Self {
        let kind = kind.name();
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a string takes all");
        Self { out, name }
    }

    /// One whole number.
    pub(super) fn whole(&mut self, labels: &[Label<'_>], value: u64) {
        self.line("", labels, None, value);
    }

    /// One number with a fraction.
    pub(super) fn real(&mut self, labels: &[Label<'_>], value: f64) {
        self.line("", labels, None, value);
    }

    /// A histogram, its values and bounds multiplied by `unit`.
    pub(super) fn histogram(&mut self, labels: &[Label<'_>], values: &HistogramValues, unit: f64) {
        for (bound, count) in &values.at_most {
            self.line("_bucket", labels, Some(scaled(*bound, unit).as_str()), *count);
        }
        self.line("_bucket", labels, Some("+Inf"), values.count);
        self.line("_sum", labels, None, scaled(values.sum, unit));
        self.line("_count", labels, None, values.count);
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[Label<'_>],
        bound: Option<&str>,
        value: impl std::fmt::Display,
    ) {
        let Self { out, name } = self;
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        out.push_str(name);
        out.push_str(suffix);
        let mut separator = '{';
        for (label, text) in labels {
            write!(out, "{separator}{label}=\"{text}\"").expect("a string takes all");
            separator = ',';
        }
        if separator == ',' {
            out.push('}');
        }
        writeln!(out, " {value}").expect("a string takes all");
    }
}

/// A number in another unit, without the noise of binary fractions.
fn scaled(value: u64, unit: f64) -> String {
    if unit >= 1.0 {
        return value.to_string();
    }
    let text = format!("{:.6}", value as f64 * unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative_and_ends_in_all() {
        let mut out = String::new();
        let values =
            HistogramValues { at_most: vec![(8, 1), (1_500_000, 3)], count: 4, sum: 2_500_001 };
        let mut samples = Samples::new(&mut out, "took_seconds", Kind::Histogram, "How long.");
        samples.histogram(&[("shard", "0")], &values, 1e-6);
        assert_eq!(
            out,
            "# HELP took_seconds How long.\n# TYPE took_seconds histogram\n\
             took_seconds_bucket{shard=\"0\",le=\"0.000008\"} 1\n\
             took_seconds_bucket{shard=\"0\",le=\"1.5\"} 3\n\
             took_seconds_bucket{shard=\"0\",le=\"+Inf\"} 4\n\
             took_seconds_sum{shard=\"0\"} 2.500001\n\
             took_seconds_count{shard=\"0\"} 4\n"
        );
    }

    #[test]
    fn a_number_needs_no_labels() {
        let mut out = String::new();
        Samples::new(&mut out, "open", Kind::Gauge, "How many.").whole(&[], 7);
        assert!(out.ends_with("\nopen 7\n"), "{out}");
    }
}
