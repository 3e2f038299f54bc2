//! A strict reader of the Prometheus text format, version 0.0.4, that trusts nothing.
//!
//! It is written from the format's description and from the naming conventions alone, and knows
//! nothing of how the server writes: families are whole and in one piece, no series occurs twice,
//! histograms are cumulative and complete, names end in their units.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::collections::{BTreeMap, HashSet};

/// Labels and their values.
pub type Labels = BTreeMap<String, String>;

/// A family and its samples.
#[derive(Debug)]
pub struct Family {
    pub name: String,
    pub kind: String,
    /// Series, with the suffix of a histogram, their labels, their values.
    pub samples: Vec<(String, Labels, f64)>,
}

/// What a scrape got.
#[derive(Debug)]
pub struct Exposition {
    pub families: Vec<Family>,
}

impl Exposition {
    /// Reads a scrape, or says what is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        if !text.ends_with('\n') {
            return Err("the last line does not end".to_owned());
        }
        let mut families: Vec<Family> = Vec::new();
        let mut helped = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').ok_or(format!("no help: {line}"))?;
                if help.trim().is_empty() || families.iter().any(|family| family.name == name) {
                    return Err(format!("empty help, or a family in two pieces: {line}"));
                }
                helped = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or(format!("no type: {line}"))?;
                if helped.take().as_deref() != Some(name) {
                    return Err(format!("a type without its help: {line}"));
                }
                let (name, kind) = (name.to_owned(), kind.to_owned());
                families.push(Family { name, kind, samples: vec![] });
            } else {
                let family = families.last_mut().ok_or(format!("no family: {line}"))?;
                family.samples.push(sample(line)?);
            }
        }
        let exposition = Self { families };
        exposition.families.iter().try_for_each(check)?;
        Ok(exposition)
    }

    /// The sum over all series of this name that have these labels; fails where there is none.
    #[track_caller]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let samples = self.families.iter().flat_map(|family| &family.samples);
        let mut values = samples
            .filter(|(series, own, _)| {
                let has =
                    |(label, value): &(&str, &str)| own.get(*label).is_some_and(|own| own == value);
                series == name && labels.iter().all(has)
            })
            .map(|(_, _, value)| *value)
            .peekable();
        assert!(values.peek().is_some(), "there is no {name} with {labels:?}");
        values.sum()
    }
}

fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let wrong = |what: &str| format!("{what}: {line}");
    let (series, value) = line.rsplit_once(' ').ok_or(wrong("no value"))?;
    let value: f64 = value.parse().map_err(|_| wrong("not a number"))?;
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, rest)) => (name, rest.strip_suffix('}').ok_or(wrong("no end of labels"))?),
    };
    let is_name = |name: &str| {
        let is_part = |byte: u8| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit();
        name.bytes().all(is_part)
            && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
    };
    let mut own = Labels::new();
    let mut rest = labels;
    while !rest.is_empty() {
        let (label, behind) = rest.split_once("=\"").ok_or(wrong("no label value"))?;
        let (value, behind) = behind.split_once('"').ok_or(wrong("no end of a label value"))?;
        if !is_name(label) || own.insert(label.to_owned(), value.to_owned()).is_some() {
            return Err(wrong("a bad or repeated label"));
        }
        rest = behind;
        if !rest.is_empty() {
            rest = rest.strip_prefix(',').ok_or(wrong("no comma"))?;
        }
    }
    if !is_name(name) || value.is_nan() || value < 0.0 {
        return Err(wrong("a bad name or value"));
    }
    Ok((name.to_owned(), own, value))
}

fn check(family: &Family) -> Result<(), String> {
    let name = &family.name;
    let is_counter = family.kind == "counter";
    if is_counter != name.ends_with("_total") {
        return Err(format!("{name}: counters end in _total, and nothing else does"));
    }
    let mut series = HashSet::new();
    for (sample, labels, _) in &family.samples {
        let suffix = sample.strip_prefix(name).ok_or(format!("{sample} is not of {name}"))?;
        let is_known = match family.kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
            "counter" | "gauge" => suffix.is_empty(),
            kind => return Err(format!("{name}: {kind} is no type")),
        };
        if !is_known || !series.insert((sample, labels)) {
            return Err(format!("{sample}{labels:?} is not of {name}, or there twice"));
        }
    }
    if family.kind == "histogram" { check_histogram(family) } else { Ok(()) }
}

fn check_histogram(family: &Family) -> Result<(), String> {
    let name = &family.name;
    let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    let mut counts: BTreeMap<Labels, f64> = BTreeMap::new();
    let mut sums = HashSet::new();
    for (sample, labels, value) in &family.samples {
        let mut labels = labels.clone();
        if sample.ends_with("_bucket") {
            let bound = labels.remove("le").ok_or(format!("{name}: a bucket without bound"))?;
            let bound = bound.parse().map_err(|_| format!("{name}: {bound} is no bound"))?;
            buckets.entry(labels).or_default().push((bound, *value));
        } else if sample.ends_with("_count") {
            counts.insert(labels, *value);
        } else {
            sums.insert(format!("{labels:?}"));
        }
    }
    if buckets.len() != counts.len() || counts.len() != sums.len() {
        return Err(format!("{name}: buckets, sums and counts of different series"));
    }
    for (labels, buckets) in buckets {
        let ascends = buckets.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1);
        let last = buckets.last().copied();
        let is_whole = last.is_some_and(|(bound, count)| {
            bound == f64::INFINITY && counts.get(&labels) == Some(&count)
        });
        if !ascends || !is_whole {
            return Err(format!("{name}{labels:?}: not cumulative, or not whole"));
        }
    }
    Ok(())
}

/// Every name of the server's metrics in a text, such as a dashboard.
pub fn names_in(text: &str) -> Vec<String> {
    let is_part =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    let mut names: Vec<String> = text
        .match_indices("boxoffice_")
        .filter(|(at, _)| !text[..*at].ends_with(is_part))
        .map(|(at, _)| text[at..].chars().take_while(|letter| is_part(*letter)).collect())
        .collect();
    names.sort();
    names.dedup();
    names
}
