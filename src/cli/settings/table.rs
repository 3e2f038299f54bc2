//! The table of settings: the one place that knows their names, kinds, defaults and meanings.
//!
//! Flags, the configuration file, the environment, `check-config`, the sample file and the
//! README's table all come from it. A new setting is a field of [`Settings`] and a row here.

use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::kind::Kind;
use super::{RetentionChoice, Settings};
use crate::runtime::cpu;
use crate::server::config::{
    AdminAddress, LogFormat, SEGMENT_BYTES_LEAST, SEGMENTS_AHEAD_MAX, SHARDS_MAX,
};
use crate::wal::BLOCK_BYTES;

/// The most seconds of a timeout: a day.
const TIMEOUT_S_MAX: u64 = 86_400;

/// The most milliseconds of the threshold for slow requests: an hour.
const SLOW_REQUEST_MS_MAX: u64 = 3_600_000;

/// The most connections that can be asked for; the limit on open files ends most far earlier.
const CONNECTIONS_MAX: u64 = 1_000_000;

/// The largest segment: a tebibyte, in whole blocks.
const SEGMENT_BYTES_MAX: u64 = 1 << 40;

const SEGMENT_BYTES: Kind = Kind::Number {
    least: SEGMENT_BYTES_LEAST,
    most: SEGMENT_BYTES_MAX,
    multiple_of: BLOCK_BYTES as u64,
};

/// One setting.
pub struct Setting {
    /// Its key in the configuration file.
    pub name: &'static str,
    /// Its flag, without the dashes.
    pub flag: &'static str,
    /// What stands for its value in a usage text.
    pub placeholder: &'static str,
    /// What one value of it may be.
    pub kind: Kind,
    /// Whether it takes any number of values.
    pub is_list: bool,
    /// What it means, in one line.
    pub doc: &'static str,
    /// Where no value is the default: what that means, and a value for the sample file.
    pub unset: Option<(&'static str, &'static str)>,
    /// The values; none where it is unset.
    pub read: fn(&Settings) -> Vec<String>,
    /// Takes values that the kind allows; `None` where they are no values all the same.
    pub write: fn(&mut Settings, &[String]) -> Option<()>,
}

impl Setting {
    /// The variable of the environment.
    pub fn variable(&self) -> String {
        format!("BOXOFFICE_{}", self.name.to_ascii_uppercase())
    }

    /// Takes values; `Err` says what is allowed.
    pub fn take(&self, settings: &mut Settings, given: &[String]) -> Result<(), String> {
        let is_allowed = given.iter().all(|text| self.kind.allows(text));
        let taken = is_allowed.then(|| (self.write)(settings, given)).flatten();
        taken.ok_or_else(|| self.allowed())
    }

    /// What is allowed, in words.
    pub fn allowed(&self) -> String {
        let one = self.kind.allowed();
        if self.is_list { format!("a list; each of it {one}") } else { one }
    }

    /// Its values as the configuration file has them; `None` where it is unset.
    pub fn toml(&self, settings: &Settings) -> Option<String> {
        let values: Vec<String> =
            (self.read)(settings).iter().map(|text| self.kind.quoted(text)).collect();
        if self.is_list {
            return Some(format!("[{}]", values.join(", ")));
        }
        values.into_iter().next()
    }

    /// Its default in words.
    pub fn default_text(&self) -> String {
        match self.unset {
            Some((meaning, _)) => meaning.to_owned(),
            None => self.toml(&Settings::default()).expect("a setting has a default or is unset"),
        }
    }
}

fn one<T: FromStr>(given: &[String]) -> Option<T> {
    given.last()?.parse().ok()
}

fn seconds(given: &[String]) -> Option<Duration> {
    one(given).map(Duration::from_secs)
}

fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}

fn paths<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Vec<String> {
    texts(paths.into_iter().map(|path| path.display()))
}

/// CPUs as a list that [`cpu::parse_list`] reads.
fn cpu_list(cpus: &[usize]) -> String {
    texts(cpus).join(",")
}

/// Every setting, in the order in which a reader wants them.
pub const SETTINGS: [Setting; 26] = [
    Setting {
        name: "data_dir",
        flag: "data-dir",
        placeholder: "DIR",
        kind: Kind::Path,
        is_list: false,
        doc: "Where the log lies; made where it does not exist.",
        unset: None,
        read: |s| paths([&s.data_dir]),
        write: |s, g| {
            s.data_dir = one(g)?;
            Some(())
        },
    },
    Setting {
        name: "shards",
        flag: "shards",
        placeholder: "N",
        kind: Kind::range(1, SHARDS_MAX as u64),
        is_list: false,
        doc: "How many shards, each a pinned thread with a log of its own.",
        unset: Some(("as the data directory says; for a new one, one per CPU", "2")),
        read: |s| texts(s.shards),
        write: |s, g| {
            s.shards = Some(one::<NonZeroU16>(g)?);
            Some(())
        },
    },
    Setting {
        name: "cpus",
        flag: "cpus",
        placeholder: "LIST",
        kind: Kind::CpuList,
        is_list: false,
        doc: "The CPUs to run on, the first shard on the first.",
        unset: Some(("all, the one with the disk's interrupts first", "\"0,2\"")),
        read: |s| texts(s.cpus.as_deref().map(cpu_list)),
        write: |s, g| {
            s.cpus = Some(cpu::parse_list(g.last()?)?);
            Some(())
        },
    },
    Setting {
        name: "binary",
        flag: "binary",
        placeholder: "ADDR",
        kind: Kind::Address,
        is_list: false,
        doc: "Where the binary protocol is spoken; each shard's own port is one of the next \
            ones; port 0 takes free ports.",
        unset: None,
        read: |s| texts([s.binary]),
        write: |s, g| {
            s.binary = one(g)?;
            Some(())
        },
    },
    Setting {
        name: "http",
        flag: "http",
        placeholder: "ADDR",
        kind: Kind::Address,
        is_list: false,
        doc: "Where HTTP is spoken, by every shard.",
        unset: None,
        read: |s| texts([s.http]),
        write: |s, g| {
            s.http = one(g)?;
            Some(())
        },
    },
    Setting {
        name: "admin",
        flag: "admin",
        placeholder: "PATH|ADDR",
        kind: Kind::AdminAddress,
        is_list: false,
        doc: "Where administration, metrics and health checks are served.",
        unset: Some(("admin.sock in the data directory", "\"/run/boxoffice/admin.sock\"")),
        read: |s| texts(s.admin.as_ref()),
        write: |s, g| {
            s.admin = Some(AdminAddress::parse(g.last()?)?);
            Some(())
        },
    },
    Setting {
        name: "keys",
        flag: "keys",
        placeholder: "FILE",
        kind: Kind::Path,
        is_list: false,
        doc: "The file with the API keys; without one, only loopback is listened on and let \
            in.",
        unset: Some(("none", "\"/etc/boxoffice/keys\"")),
        read: |s| paths(&s.keys),
        write: |s, g| {
            s.keys = Some(one(g)?);
            Some(())
        },
    },
    Setting {
        name: "token_keys",
        flag: "token-key",
        placeholder: "FILE",
        kind: Kind::Path,
        is_list: true,
        doc: "Files with the keys that sign buyers' tokens; several at once while keys are \
            changed.",
        unset: Some(("none: no token is accepted", "[\"/etc/boxoffice/token.pem\"]")),
        read: |s| paths(&s.token_keys),
        write: |s, g| {
            s.token_keys = g.iter().map(PathBuf::from).collect();
            Some(())
        },
    },
    Setting {
        name: "token_issuer",
        flag: "token-issuer",
        placeholder: "TEXT",
        kind: Kind::Text,
        is_list: false,
        doc: "Who must have issued a buyer's token (its `iss`).",
        unset: Some(("not checked", "\"https://login.example\"")),
        read: |s| texts(s.token_issuer.as_ref()),
        write: |s, g| {
            s.token_issuer = Some(one(g)?);
            Some(())
        },
    },
    Setting {
        name: "token_audience",
        flag: "token-audience",
        placeholder: "TEXT",
        kind: Kind::Text,
        is_list: false,
        doc: "For whom a buyer's token must be (its `aud`).",
        unset: Some(("not checked", "\"boxoffice\"")),
        read: |s| texts(s.token_audience.as_ref()),
        write: |s, g| {
            s.token_audience = Some(one(g)?);
            Some(())
        },
    },
    Setting {
        name: "buyers_confirm",
        flag: "buyers-confirm",
        placeholder: "BOOL",
        kind: Kind::Switch,
        is_list: false,
        doc: "Whether a buyer's token is enough to confirm, buy and cancel what costs money; \
            without it that takes an API key.",
        unset: None,
        read: |s| texts([s.buyers_confirm]),
        write: |s, g| {
            s.buyers_confirm = one(g)?;
            Some(())
        },
    },
    Setting {
        name: "trusted_proxies",
        flag: "trusted-proxy",
        placeholder: "CIDR",
        kind: Kind::Network,
        is_list: true,
        doc: "The networks whose word on a client's address counts.",
        unset: Some(("none", "[\"10.0.0.0/8\"]")),
        read: |s| s.trusted_proxies.clone(),
        write: |s, g| {
            s.trusted_proxies = g.to_vec();
            Some(())
        },
    },
    Setting {
        name: "proxy_protocol",
        flag: "proxy-protocol",
        placeholder: "BOOL",
        kind: Kind::Switch,
        is_list: false,
        doc: "Whether the trusted proxies speak the PROXY protocol, version 1 or 2.",
        unset: None,
        read: |s| texts([s.proxy_protocol]),
        write: |s, g| {
            s.proxy_protocol = one(g)?;
            Some(())
        },
    },
    Setting {
        name: "cors_origins",
        flag: "cors-origin",
        placeholder: "ORIGIN",
        kind: Kind::WebOrigin,
        is_list: true,
        doc: "The origins whose pages may call this server from a browser.",
        unset: Some(("none", "[\"https://tickets.example\"]")),
        read: |s| s.cors_origins.clone(),
        write: |s, g| {
            s.cors_origins = g.to_vec();
            Some(())
        },
    },
    Setting {
        name: "segment_bytes",
        flag: "segment-bytes",
        placeholder: "N",
        kind: SEGMENT_BYTES,
        is_list: false,
        doc: "The size of one segment of the log, in bytes.",
        unset: None,
        read: |s| texts([s.segment_bytes]),
        write: |s, g| {
            s.segment_bytes = one(g)?;
            Some(())
        },
    },
    Setting {
        name: "segments_ahead",
        flag: "segments-ahead",
        placeholder: "N",
        kind: Kind::range(1, SEGMENTS_AHEAD_MAX as u64),
        is_list: false,
        doc: "How many segments of each log are prepared before they are needed; fewer where the \
            disk is small.",
        unset: None,
        read: |s| texts([s.segments_ahead]),
        write: |s, g| {
            s.segments_ahead = one::<NonZeroU16>(g)?;
            Some(())
        },
    },
    Setting {
        name: "snapshot_every",
        flag: "snapshot-every",
        placeholder: "N",
        kind: Kind::Number { least: 0, most: SEGMENT_BYTES_MAX, multiple_of: 1 },
        is_list: false,
        doc: "How much of a shard's log is complete before its next snapshot, in bytes; 0 makes \
              none.",
        unset: None,
        read: |s| texts([s.snapshot_every]),
        write: |s, g| {
            s.snapshot_every = one(g)?;
            Some(())
        },
    },
    Setting {
        name: "retention",
        flag: "retention",
        placeholder: "WHAT",
        kind: Kind::Choice(&RETENTIONS),
        is_list: false,
        doc: "What becomes of log segments that two snapshots cover: they stay, are deleted, or \
              move to the archive. Payment references are in the log alone.",
        unset: None,
        read: |s| texts([s.retention.name()]),
        write: |s, g| {
            s.retention = retention(g)?;
            Some(())
        },
    },
    Setting {
        name: "archive_dir",
        flag: "archive-dir",
        placeholder: "DIR",
        kind: Kind::Path,
        is_list: false,
        doc: "Where `retention = \"archive\"` moves log segments.",
        unset: Some(("none", "\"/var/lib/boxoffice-archive\"")),
        read: |s| paths(&s.archive_dir),
        write: |s, g| {
            s.archive_dir = Some(one(g)?);
            Some(())
        },
    },
    Setting {
        name: "connections",
        flag: "connections",
        placeholder: "N",
        kind: Kind::range(1, CONNECTIONS_MAX),
        is_list: false,
        doc: "The most connections at once, over all shards.",
        unset: None,
        read: |s| texts([s.connections]),
        write: |s, g| {
            s.connections = one::<NonZeroUsize>(g)?;
            Some(())
        },
    },
    Setting {
        name: "idle_timeout_s",
        flag: "idle-timeout",
        placeholder: "S",
        kind: Kind::range(1, TIMEOUT_S_MAX),
        is_list: false,
        doc: "Close a connection that sends no whole request for so many seconds.",
        unset: None,
        read: |s| texts([s.idle_timeout.as_secs()]),
        write: |s, g| {
            s.idle_timeout = seconds(g)?;
            Some(())
        },
    },
    Setting {
        name: "request_timeout_s",
        flag: "request-timeout",
        placeholder: "S",
        kind: Kind::range(1, TIMEOUT_S_MAX),
        is_list: false,
        doc: "Refuse an HTTP request that was begun and is not whole after so many seconds.",
        unset: None,
        read: |s| texts([s.request_timeout.as_secs()]),
        write: |s, g| {
            s.request_timeout = seconds(g)?;
            Some(())
        },
    },
    Setting {
        name: "send_timeout_s",
        flag: "send-timeout",
        placeholder: "S",
        kind: Kind::range(1, TIMEOUT_S_MAX),
        is_list: false,
        doc: "Close a connection that does not take its answers for so many seconds.",
        unset: None,
        read: |s| texts([s.send_timeout.as_secs()]),
        write: |s, g| {
            s.send_timeout = seconds(g)?;
            Some(())
        },
    },
    Setting {
        name: "slow_request_ms",
        flag: "slow-request",
        placeholder: "MS",
        kind: Kind::range(1, SLOW_REQUEST_MS_MAX),
        is_list: false,
        doc: "Log a request that takes longer than so many milliseconds.",
        unset: Some(("off", "250")),
        read: |s| texts(s.slow_request.map(|time| time.as_millis())),
        write: |s, g| {
            s.slow_request = Some(one(g).map(Duration::from_millis)?);
            Some(())
        },
    },
    Setting {
        name: "log",
        flag: "log",
        placeholder: "LEVEL",
        kind: Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        is_list: false,
        doc: "How much to log.",
        unset: None,
        read: |s| vec![s.log_level.as_str().to_ascii_lowercase()],
        write: |s, g| {
            s.log_level = one(g)?;
            Some(())
        },
    },
    Setting {
        name: "log_format",
        flag: "log-format",
        placeholder: "FORM",
        kind: Kind::Choice(&LOG_FORMATS),
        is_list: false,
        doc: "In which form: lines or JSON on stderr, the journal's own protocol, or (auto) the \
              journal where stderr leads there and lines elsewhere.",
        unset: None,
        read: |s| texts([s.log_format.name()]),
        write: |s, g| {
            s.log_format = log_format(g)?;
            Some(())
        },
    },
];

const RETENTIONS: [&str; RetentionChoice::ALL.len()] =
    [RetentionChoice::Keep.name(), RetentionChoice::Delete.name(), RetentionChoice::Archive.name()];

fn retention(given: &[String]) -> Option<RetentionChoice> {
    let given = given.last()?;
    RetentionChoice::ALL.into_iter().find(|choice| choice.name().eq_ignore_ascii_case(given))
}

const LOG_FORMATS: [&str; LogFormat::ALL.len()] = [
    LogFormat::Auto.name(),
    LogFormat::Text.name(),
    LogFormat::Json.name(),
    LogFormat::Journald.name(),
];

fn log_format(given: &[String]) -> Option<LogFormat> {
    let given = given.last()?;
    LogFormat::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(given))
}
