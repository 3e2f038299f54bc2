//! The settings of a server: what each is, where it came from, and what is wrong with it.
//!
//! ```text
//! flag  over  environment (BOXOFFICE_…)  over  file (--config)  over  default
//! ```
//!
//! Every value goes through the table's row, whatever its source. A value that is overridden is
//! still checked: a mistake that waits for its day is a mistake. An empty variable counts as not
//! given, and a variable of another name is not ours to judge: container platforms make such
//! names up. No file is read that nobody named, and no setting holds a secret: those are in
//! files that settings name.

pub mod check;
mod file;
pub mod flags;
mod kind;
pub mod sample;
pub mod table;

use std::fmt;
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::file::Entry;
use self::flags::Flags;
use self::table::{SETTINGS, Setting};
use crate::server::config::{
    ADMIN_SOCKET_DEFAULT, AdminAddress, BINARY_DEFAULT, CONNECTIONS_DEFAULT, HTTP_DEFAULT,
    IDLE_TIMEOUT_DEFAULT, LOG_LEVEL_DEFAULT, LogFormat, REQUEST_TIMEOUT_DEFAULT,
    SEGMENTS_AHEAD_DEFAULT, SEND_TIMEOUT_DEFAULT, SNAPSHOT_EVERY_DEFAULT,
};
use crate::wal::SEGMENT_BYTES_DEFAULT;

/// The variable that names the configuration file.
pub const CONFIG_VARIABLE: &str = "BOXOFFICE_CONFIG";

/// The default of `--data-dir`.
const DATA_DIR_DEFAULT: &str = "boxoffice-data";

/// Every setting, as a type.
#[derive(Clone, Debug)]
pub struct Settings {
    pub data_dir: PathBuf,
    pub shards: Option<NonZeroU16>,
    pub cpus: Option<Vec<usize>>,
    pub binary: std::net::SocketAddr,
    pub http: std::net::SocketAddr,
    /// In the data directory unless given.
    pub admin: Option<AdminAddress>,
    pub keys: Option<PathBuf>,
    pub token_keys: Vec<PathBuf>,
    pub token_issuer: Option<String>,
    pub token_audience: Option<String>,
    pub buyers_confirm: bool,
    pub trusted_proxies: Vec<String>,
    pub proxy_protocol: bool,
    pub cors_origins: Vec<String>,
    pub segment_bytes: u64,
    pub segments_ahead: NonZeroU16,
    pub snapshot_every: u64,
    pub retention: RetentionChoice,
    pub archive_dir: Option<PathBuf>,
    pub connections: NonZeroUsize,
    pub idle_timeout: Duration,
    pub request_timeout: Duration,
    pub send_timeout: Duration,
    pub slow_request: Option<Duration>,
    pub log_level: tracing::Level,
    pub log_format: LogFormat,
}

/// What becomes of log segments that no start needs any more, before the directory to move them to
/// is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetentionChoice {
    #[default]
    Keep,
    Delete,
    Archive,
}

impl RetentionChoice {
    pub const ALL: [Self; 3] = [Self::Keep, Self::Delete, Self::Archive];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Delete => "delete",
            Self::Archive => "archive",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: DATA_DIR_DEFAULT.into(),
            shards: None,
            cpus: None,
            binary: BINARY_DEFAULT,
            http: HTTP_DEFAULT,
            admin: None,
            keys: None,
            token_keys: Vec::new(),
            token_issuer: None,
            token_audience: None,
            buyers_confirm: false,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            cors_origins: Vec::new(),
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            segments_ahead: SEGMENTS_AHEAD_DEFAULT,
            snapshot_every: SNAPSHOT_EVERY_DEFAULT,
            retention: RetentionChoice::default(),
            archive_dir: None,
            connections: CONNECTIONS_DEFAULT,
            idle_timeout: IDLE_TIMEOUT_DEFAULT,
            request_timeout: REQUEST_TIMEOUT_DEFAULT,
            send_timeout: SEND_TIMEOUT_DEFAULT,
            slow_request: None,
            log_level: LOG_LEVEL_DEFAULT,
            log_format: LogFormat::default(),
        }
    }
}

impl Settings {
    /// Where administration listens.
    pub fn admin_address(&self) -> AdminAddress {
        let default = || AdminAddress::Unix(self.data_dir.join(ADMIN_SOCKET_DEFAULT));
        self.admin.clone().unwrap_or_else(default)
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// The file, and its line from 1.
    File(PathBuf, usize),
    /// The variable.
    Environment(String),
    /// The flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Something that keeps a setting from being used. One line.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The place: `file:line`, a variable or a flag.
    pub place: String,
    /// What is wrong there, and what is allowed.
    pub problem: String,
}

impl Problem {
    fn new(place: impl fmt::Display, problem: impl fmt::Display) -> Self {
        let one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { place: place.to_string(), problem: one_line(problem.to_string()) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

/// The settings in force, where each came from, and what was wrong on the way.
#[derive(Debug)]
pub struct Resolved {
    pub settings: Settings,
    /// One for each row of the table.
    origins: Vec<Origin>,
    pub problems: Vec<Problem>,
}

impl Resolved {
    /// Puts the sources together. `variable` reads the environment.
    ///
    /// A setting with a problem keeps what the sources below it say.
    pub fn new(
        config: Option<&Path>,
        flags: &Flags,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut resolved = Self {
            settings: Settings::default(),
            origins: vec![Origin::Default; SETTINGS.len()],
            problems: Vec::new(),
        };
        let named = variable(CONFIG_VARIABLE).map(PathBuf::from);
        if let Some(path) = config.map(Path::to_owned).or(named) {
            let (entries, problems) = file::read(&path);
            resolved.problems.extend(problems);
            for Entry { row, line, values, source } in entries {
                resolved.take(row, &values, &source, Origin::File(path.clone(), line));
            }
        }
        for (row, setting) in SETTINGS.iter().enumerate() {
            let name = setting.variable();
            if let Some(value) = variable(&name) {
                let parts = value.split(',').map(|part| part.trim().to_owned()).collect();
                let values = if setting.is_list { parts } else { vec![value.clone()] };
                resolved.take(row, &values, &value, Origin::Environment(name));
            }
        }
        for (row, values) in flags.values() {
            let flag = format!("--{}", SETTINGS[row].flag);
            resolved.take(row, values, &values.join(" "), Origin::Flag(flag));
        }
        resolved
    }

    /// From the process's own environment.
    pub fn from_environment(config: Option<&Path>, flags: &Flags) -> Self {
        // What is not text cannot be a value; its replacement says so.
        let variable = |name: &str| Some(std::env::var_os(name)?.to_string_lossy().into_owned());
        Self::new(config, flags, variable)
    }

    fn take(&mut self, row: usize, values: &[String], source: &str, origin: Origin) {
        let setting = &SETTINGS[row];
        match setting.take(&mut self.settings, values) {
            Ok(()) => self.origins[row] = origin,
            Err(allowed) => self.problems.push(not_allowed(setting, &origin, source, &allowed)),
        }
    }

    /// Each setting with its origin.
    pub fn rows(&self) -> impl Iterator<Item = (&'static Setting, &Origin)> {
        SETTINGS.iter().zip(&self.origins)
    }

    /// Where a setting came from.
    pub fn origin(&self, name: &str) -> &Origin {
        let mut rows = self.rows();
        rows.find(|(setting, _)| setting.name == name).expect("the table has it").1
    }
}

fn not_allowed(setting: &Setting, origin: &Origin, source: &str, allowed: &str) -> Problem {
    Problem::new(origin, format_args!("{} = {source}: expected {allowed}", setting.name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn text(resolved: &Resolved, name: &str) -> (Option<String>, String) {
        let (setting, origin) =
            resolved.rows().find(|(setting, _)| setting.name == name).expect("a setting");
        (setting.toml(&resolved.settings), origin.to_string())
    }

    #[test]
    fn every_default_is_allowed_and_read_back() {
        for setting in &SETTINGS {
            let defaults = Settings::default();
            let values = (setting.read)(&defaults);
            assert_eq!(values.is_empty(), setting.unset.is_some(), "{}", setting.name);
            if !values.is_empty() {
                let mut settings = Settings::default();
                setting.take(&mut settings, &values).unwrap_or_else(|_| panic!("{values:?}"));
                assert_eq!((setting.read)(&settings), values, "{}", setting.name);
            }
        }
    }

    #[test]
    fn names_and_flags_are_told_apart() {
        for name in [|setting: &Setting| setting.name, |setting: &Setting| setting.flag] {
            let names: BTreeSet<_> = SETTINGS.iter().map(name).collect();
            assert_eq!(names.len(), SETTINGS.len());
            assert!(["config", "json", "sample"].iter().all(|other| !names.contains(other)));
        }
    }

    #[test]
    fn the_environment_overrides_the_default_and_an_empty_variable_does_not() {
        let variable = |name: &str| match name {
            "BOXOFFICE_CONNECTIONS" => Some("12".to_owned()),
            "BOXOFFICE_KEYS" => Some(String::new()),
            "BOXOFFICE_TRUSTED_PROXIES" => Some("10.0.0.0/8, ::1/128".to_owned()),
            "BOXOFFICE_SHARDS" => Some("0".to_owned()),
            _ => None,
        };
        let resolved = Resolved::new(None, &Flags::default(), variable);
        assert_eq!(
            text(&resolved, "connections"),
            (Some("12".to_owned()), "BOXOFFICE_CONNECTIONS".to_owned())
        );
        assert_eq!(text(&resolved, "keys"), (None, "default".to_owned()));
        assert_eq!(
            text(&resolved, "trusted_proxies").0.as_deref(),
            Some(r#"["10.0.0.0/8", "::1/128"]"#)
        );
        let [problem] = &resolved.problems[..] else { panic!("{:?}", resolved.problems) };
        assert_eq!(
            problem.to_string(),
            "BOXOFFICE_SHARDS: shards = 0: expected a whole number from 1 to 256"
        );
    }
}
