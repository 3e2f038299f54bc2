//! What `/metrics` said, as numbers to look up, and what lies between two such readings.

use std::collections::BTreeMap;

/// One reading.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Numbers(BTreeMap<String, Vec<(Labels, f64)>>);

/// Labels and their values.
type Labels = BTreeMap<String, String>;

impl Numbers {
    /// Reads the Prometheus text; `None` where a line is not of it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut numbers = Self::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, read_labels(labels.strip_suffix('}')?)?),
                None => (series, Labels::new()),
            };
            let value = value.parse().ok()?;
            numbers.0.entry(name.to_owned()).or_default().push((labels, value));
        }
        Some(numbers)
    }

    fn samples(&self, name: &str) -> &[(Labels, f64)] {
        self.0.get(&format!("boxoffice_{name}")).map_or(&[], Vec::as_slice)
    }

    /// The sum over all label values.
    pub(super) fn sum(&self, name: &str) -> f64 {
        self.sum_where(name, &[])
    }

    /// The sum over the samples that have these labels.
    pub(super) fn sum_where(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |own: &Labels| {
            labels.iter().all(|(label, value)| own.get(*label).is_some_and(|own| own == value))
        };
        self.samples(name).iter().filter(|(own, _)| has(own)).map(|(_, value)| value).sum()
    }

    /// The sums by the values of one label.
    pub(super) fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for (labels, value) in self.samples(name) {
            if let Some(key) = labels.get(label) {
                *sums.entry(key.clone()).or_default() += value;
            }
        }
        sums
    }

    /// The value of a label of the only sample that has it, or of the first one.
    pub(super) fn label(&self, name: &str, label: &str, of: &[(&str, &str)]) -> Option<&str> {
        let has = |own: &Labels| {
            of.iter().all(|(label, value)| own.get(*label).is_some_and(|own| own == value))
        };
        let (labels, _) = self.samples(name).iter().find(|(own, _)| has(own))?;
        labels.get(label).map(String::as_str)
    }
}

fn read_labels(text: &str) -> Option<Labels> {
    let mut labels = Labels::new();
    for label in text.split("\",") {
        let (name, value) = label.split_once("=\"")?;
        labels.insert(name.to_owned(), value.strip_suffix('"').unwrap_or(value).to_owned());
    }
    Some(labels)
}

/// What changed between two readings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Between<'a> {
    pub(super) before: &'a Numbers,
    pub(super) after: &'a Numbers,
    /// Seconds from the one to the other.
    pub(super) seconds: f64,
}

impl Between<'_> {
    /// How fast a counter grew, per second. A counter that was set back started anew.
    pub(super) fn rate(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let (before, after) =
            (self.before.sum_where(name, labels), self.after.sum_where(name, labels));
        let grown = if after < before { after } else { after - before };
        grown / self.seconds
    }

    /// How fast the counters grew, by the values of one label; those that stood still are left
    /// out, the fastest come first.
    pub(super) fn rates_by(&self, name: &str, label: &str) -> Vec<(String, f64)> {
        let mut rates: Vec<(String, f64)> = self
            .after
            .by(name, label)
            .into_keys()
            .map(|key| {
                let rate = self.rate(name, &[(label, &key)]);
                (key, rate)
            })
            .filter(|(_, rate)| *rate > 0.0)
            .collect();
        rates.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        rates
    }

    /// The value that this share of a histogram's values does not exceed; `None` where there were
    /// none. Inside a bucket the values are taken to lie evenly.
    pub(super) fn quantile(&self, name: &str, share: f64, labels: &[(&str, &str)]) -> Option<f64> {
        let buckets = self.buckets(name, labels);
        let all = buckets.last()?.1;
        if all <= 0.0 {
            return None;
        }
        let wanted = share * all;
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in buckets {
            if count >= wanted && count > below {
                // Beyond the last bound nothing is known but that.
                let upper = if bound.is_finite() { bound } else { lower };
                return Some(lower + (upper - lower) * (wanted - below) / (count - below));
            }
            (lower, below) = (if bound.is_finite() { bound } else { lower }, count);
        }
        Some(lower)
    }

    /// The mean of a histogram's values.
    pub(super) fn mean(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let count = self.rate(&format!("{name}_count"), labels);
        (count > 0.0).then(|| self.rate(&format!("{name}_sum"), labels) / count)
    }

    /// Upper bounds in ascending order, and how many values came that do not exceed them.
    fn buckets(&self, name: &str, labels: &[(&str, &str)]) -> Vec<(f64, f64)> {
        let name = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = self
            .after
            .by(&name, "le")
            .into_keys()
            .filter_map(|bound| {
                let with: Vec<_> = labels.iter().copied().chain([("le", &*bound)]).collect();
                let count = self.rate(&name, &with) * self.seconds;
                bound.parse().ok().map(|bound| (bound, count))
            })
            .collect();
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        buckets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "# TYPE boxoffice_requests_total counter\n\
        boxoffice_requests_total{shard=\"0\",result=\"ok\"} 10\n\
        boxoffice_requests_total{shard=\"1\",result=\"ok\"} 5\n\
        boxoffice_took_bucket{shard=\"0\",le=\"1\"} 2\n\
        boxoffice_took_bucket{shard=\"0\",le=\"2\"} 2\n\
        boxoffice_took_bucket{shard=\"0\",le=\"+Inf\"} 2\n\
        boxoffice_took_sum{shard=\"0\"} 1\n\
        boxoffice_took_count{shard=\"0\"} 2\n\
        boxoffice_ready 1\n";

    const AFTER: &str = "boxoffice_requests_total{shard=\"0\",result=\"ok\"} 30\n\
        boxoffice_requests_total{shard=\"1\",result=\"SOLD_OUT\"} 6\n\
        boxoffice_requests_total{shard=\"1\",result=\"ok\"} 5\n\
        boxoffice_took_bucket{shard=\"0\",le=\"1\"} 52\n\
        boxoffice_took_bucket{shard=\"0\",le=\"2\"} 92\n\
        boxoffice_took_bucket{shard=\"0\",le=\"+Inf\"} 102\n\
        boxoffice_took_sum{shard=\"0\"} 101\n\
        boxoffice_took_count{shard=\"0\"} 102\n\
        boxoffice_ready 1\n";

    #[test]
    fn rates_and_quantiles_lie_between_two_readings() {
        let (before, after) = (Numbers::parse(BEFORE), Numbers::parse(AFTER));
        let (before, after) = (&before.expect("a reading"), &after.expect("a reading"));
        let between = Between { before, after, seconds: 2.0 };
        assert!((between.rate("requests_total", &[]) - 13.0).abs() < 1e-9);
        let by_result = between.rates_by("requests_total", "result");
        assert_eq!(by_result, [("ok".to_owned(), 10.0), ("SOLD_OUT".to_owned(), 3.0)]);
        let quantile = |share| between.quantile("took", share, &[("shard", "0")]);
        assert_eq!(quantile(0.25), Some(0.5));
        assert_eq!(quantile(0.5), Some(1.0));
        assert_eq!(quantile(0.7), Some(1.5));
        assert_eq!(quantile(0.99), Some(2.0), "beyond the last bound");
        assert_eq!(between.quantile("took", 0.5, &[("shard", "9")]), None);
        assert_eq!(between.mean("took", &[]), Some(1.0));
        assert!((after.sum("ready") - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_server_that_started_anew_is_no_negative_rate() {
        let (before, after) = (Numbers::parse(AFTER), Numbers::parse(BEFORE));
        let (before, after) = (&before.expect("a reading"), &after.expect("a reading"));
        let between = Between { before, after, seconds: 1.0 };
        assert!((between.rate("requests_total", &[]) - 15.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_no_reading_is_not_taken_for_one() {
        for text in ["boxoffice_ready one", "boxoffice_ready{ 1", "<html>", "a{b=c} 1"] {
            assert_eq!(Numbers::parse(text), None, "{text}");
        }
    }
}
