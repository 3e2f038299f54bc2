//! The screen of `top`: lines of text for a terminal of any size, best from 80 x 24 on.

use std::fmt::Write as _;

use super::facts::{Facts, Rate, Times};

/// The widest line that is drawn: beyond it, columns would only move apart.
const COLUMNS: usize = 80;

/// Reasons and operations that are listed.
const RATES_MAX: usize = 5;

/// One line for those who keep a log of it.
pub(super) fn line(facts: &Facts) -> String {
    format!(
        "requests {}/s ok {}/s refused {}/s p50 {} p99 {} p99.9 {} writes {}/s batch {:.1} \
         connections {} holds {}",
        count(facts.requests),
        count(facts.ok + facts.replayed),
        count(facts.refused),
        time(facts.answer.p50_ms),
        time(facts.answer.p99_ms),
        time(facts.answer.p999_ms),
        count(facts.log_writes),
        facts.batch_records,
        facts.connections,
        facts.holds,
    )
}

/// The screen as lines, at most so many rows of so many columns.
pub(super) fn screen(facts: &Facts, address: &str, (columns, rows): (usize, usize)) -> Vec<String> {
    let mut lines = head(facts, address);
    lines.push(String::new());
    lines.extend(rates(facts));
    lines.push(String::new());
    lines.extend(shards(facts, rows));
    lines.push(String::new());
    lines.extend(sales(facts, rows.saturating_sub(lines.len() + 1)));
    lines.truncate(rows.saturating_sub(1));
    lines.push("q quits".to_owned());
    for line in &mut lines {
        if let Some((end, _)) = line.char_indices().nth(columns) {
            line.truncate(end);
        }
    }
    lines
}

fn head(facts: &Facts, address: &str) -> Vec<String> {
    let is_full = facts.shards.iter().any(|shard| shard.full);
    let state = match (facts.ready, is_full) {
        (true, false) => "serving",
        (true, true) => "DISK FULL, no holds",
        (false, _) => "NOT SERVING",
    };
    let up = facts.uptime_s;
    let (hours, minutes, seconds) = (up / 3_600, up / 60 % 60, up % 60);
    let version = &facts.version;
    let left = format!("boxoffice {version} {state}, up {hours}:{minutes:02}:{seconds:02}");
    let right = format!("{:>width$}", address, width = COLUMNS.saturating_sub(left.len() + 1));
    vec![
        format!("{left} {right}"),
        format!(
            "requests    {:>9}/s   ok {}/s  replayed {}/s  refused {}/s  faults {}/s",
            count(facts.requests),
            count(facts.ok),
            count(facts.replayed),
            count(facts.refused),
            count(facts.faults),
        ),
        format!("answers     {}   slow {}/s", times(&facts.answer), count(facts.slow)),
        format!(
            "log writes  {}   {}/s of {:.1} records, {}",
            times(&facts.log_write),
            count(facts.log_writes),
            facts.batch_records,
            bytes(facts.batch_bytes),
        ),
        format!(
            "connections {:>9}     {} held back, {}/s more, {}/s refused",
            facts.connections,
            facts.connections_stalled,
            count(facts.connections_accepted),
            count(facts.connections_refused),
        ),
        format!(
            "holds       {:>9}     {}/s expired     cpu {:.2}  memory {}  disk free {}",
            facts.holds,
            count(facts.expired),
            facts.cpu_cores,
            bytes(facts.resident_bytes as f64),
            bytes(facts.disk_free_bytes as f64),
        ),
    ]
}

/// Operations on the left, refusals on the right.
fn rates(facts: &Facts) -> Vec<String> {
    let mut lines =
        vec![format!("{:<20}{:>12}      {:<22}{:>12}", "OPERATION", "/s", "REFUSED", "/s")];
    let named = |rate: Option<&Rate>| {
        rate.map_or_else(Default::default, |rate| (rate.name.clone(), count(rate.per_second)))
    };
    let longest = facts.operations.len().max(facts.refusals.len()).clamp(1, RATES_MAX);
    for row in 0..longest {
        let (left, left_rate) = named(facts.operations.get(row));
        let (right, right_rate) = named(facts.refusals.get(row));
        lines.push(format!("{left:<20}{left_rate:>12}      {right:<22}{right_rate:>12}"));
    }
    lines
}

fn shards(facts: &Facts, rows: usize) -> Vec<String> {
    let mut lines = vec![format!(
        "{:>5} {:>10} {:>9} {:>9} {:>8} {:>8} {:>12} {:>7} {:>4}",
        "SHARD", "REQ/s", "p50", "p99.9", "WAITING", "BATCH", "DURABLE LSN", "SEGMENT", "NEXT"
    )];
    // A machine with many shards keeps half of the screen for its sales.
    for shard in facts.shards.iter().take((rows / 4).max(2)) {
        let mut line = String::new();
        write!(
            line,
            "{:>5} {:>10} {:>9} {:>9} {:>8} {:>8.1} {:>12} {:>7} {:>4}",
            shard.shard,
            count(shard.requests),
            time(shard.answer.p50_ms),
            time(shard.answer.p999_ms),
            shard.waiting_answers,
            shard.batch_records,
            shard.durable_lsn,
            shard.segment,
            shard.segments_prepared,
        )
        .expect("a string takes all");
        lines.push(line);
    }
    lines
}

fn sales(facts: &Facts, room: usize) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<20} {:<10} {:>14} {:>14} {:>14}",
        "SALE", "STATE", "AVAILABLE", "HELD", "SOLD"
    )];
    // Those that sell come first.
    let (open, rest): (Vec<_>, Vec<_>) =
        facts.sales.iter().partition(|sale| sale.state == "open" && sale.available > 0);
    let listed = room.saturating_sub(1).max(1);
    for sale in open.into_iter().chain(rest).take(listed) {
        lines.push(format!(
            "{:<20} {:<10} {:>14} {:>14} {:>14}",
            sale.sale, sale.state, sale.available, sale.held, sale.sold
        ));
    }
    let omitted = facts.sales.len().saturating_sub(listed) as u64 + facts.sales_omitted;
    if omitted > 0 {
        lines.truncate(listed);
        lines.push(format!("and {omitted} more"));
    }
    lines
}

fn times(times: &Times) -> String {
    format!(
        "p50 {:>8}  p99 {:>8}  p99.9 {:>8}",
        time(times.p50_ms),
        time(times.p99_ms),
        time(times.p999_ms)
    )
}

fn time(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 1.0 => format!("{:.0} us", ms * 1e3),
        Some(ms) if ms < 100.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{ms:.0} ms"),
    }
}

/// A number with its thousands apart.
fn count(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn bytes(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::super::numbers::{Between, Numbers};
    use super::*;

    fn facts(sales: u32, shards: u32) -> Facts {
        let mut text = "boxoffice_build_info{version=\"1.2.3\"} 1\nboxoffice_ready 1\n".to_owned();
        for shard in 0..shards {
            let own = format!("{{shard=\"{shard}\"");
            let _ = write!(
                text,
                "boxoffice_log_durable_lsn{own}}} 12345678\n\
                 boxoffice_requests_total{own},operation=\"buy\",result=\"SOLD_OUT\"}} 1234567\n"
            );
        }
        for sale in 1..=sales {
            let own = format!("{{sale=\"{sale}\",state=");
            let _ = write!(
                text,
                "boxoffice_sale_state{own}\"open\"}} 1\nboxoffice_sale_units{own}\"sold\"}} 5\n"
            );
        }
        let after = Numbers::parse(&text).expect("a reading");
        let between = Between { before: &Numbers::default(), after: &after, seconds: 1.0 };
        Facts::new(&between, 4_000.0)
    }

    #[test]
    fn a_small_terminal_holds_the_whole_screen() {
        for (sales, shards, size) in [(200, 64, (80, 24)), (1, 1, (80, 24)), (0, 0, (20, 5))] {
            let lines = screen(&facts(sales, shards), "127.0.0.1:7490", size);
            assert!(lines.len() <= size.1, "{lines:#?}");
            assert!(lines.iter().all(|line| line.chars().count() <= size.0), "{lines:#?}");
            assert!(lines[0].starts_with("boxoffice 1.2.3"), "{lines:#?}");
        }
        let lines = screen(&facts(200, 64), "x", (80, 24));
        assert!(lines.iter().any(|line| line.starts_with("buy")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("SOLD_OUT")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("and 19")), "{lines:#?}");
    }

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(
            [0.0, 999.4, 1_000.0, 1_234_567.0].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [10.0, 2_048.0, 3.0 * 1024.0 * 1024.0].map(bytes),
            ["10 B", "2.0 KiB", "3.0 MiB"]
        );
        assert_eq!(
            [Some(0.25), Some(7.0), Some(250.0), None].map(time),
            ["250 us", "7.0 ms", "250 ms", "-"]
        );
    }
}
