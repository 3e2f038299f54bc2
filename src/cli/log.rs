//! Where the server's own words go: lines for people, JSON for machines, or the journal.
//!
//! No request has a line of its own, but for slow ones and only where that was asked for.

use std::env;
use std::io::{self, IsTerminal};

use tracing::Level;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::runtime::process::is_stderr_journal;
use crate::server::config::LogFormat;

/// The name of the server in the journal, and what its fields there begin with.
const IDENTIFIER: &str = "boxoffice";

/// Starts to tell what happens, in this form. What cannot be written is lost: a full disk or a
/// closed pipe behind the log is no reason to stop selling, and there is nobody else to tell.
pub(super) fn start(level: Level, format: LogFormat) {
    match chosen(format, env::var("JOURNAL_STREAM").ok().as_deref()) {
        LogFormat::Json => {
            let json = tracing_subscriber::fmt().json().flatten_event(true);
            let json = json.with_writer(io::stderr).log_internal_errors(false);
            json.with_target(false).with_max_level(level).init();
        }
        LogFormat::Journald => start_journal(level),
        LogFormat::Auto | LogFormat::Text => start_text(level),
    }
}

/// What `auto` means here: systemd says what it connected to its journal.
fn chosen(format: LogFormat, journal_stream: Option<&str>) -> LogFormat {
    match format {
        LogFormat::Auto if journal_stream.is_some_and(is_stderr_journal) => LogFormat::Journald,
        LogFormat::Auto => LogFormat::Text,
        format => format,
    }
}

fn start_text(level: Level) {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_max_level(level)
        .init();
}

fn start_journal(level: Level) {
    match tracing_journald::layer() {
        Ok(journal) => {
            let journal = journal
                .with_syslog_identifier(IDENTIFIER.to_owned())
                .with_field_prefix(Some(IDENTIFIER.to_uppercase()));
            let level = LevelFilter::from_level(level);
            tracing_subscriber::registry().with(level).with(journal).init();
        }
        Err(error) => {
            start_text(level);
            tracing::warn!("the journal cannot be reached ({error}): the log is text on stderr");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_auto_looks_where_stderr_leads() {
        assert_eq!(chosen(LogFormat::Auto, None), LogFormat::Text);
        assert_eq!(chosen(LogFormat::Auto, Some("1:1")), LogFormat::Text);
        for format in [LogFormat::Text, LogFormat::Json, LogFormat::Journald] {
            assert_eq!(chosen(format, Some("1:1")), format);
        }
    }
}
